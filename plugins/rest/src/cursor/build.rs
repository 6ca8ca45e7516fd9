//! Cursors from manifests: `DatetimeBasedCursor` and `IncrementingCountCursor`.

use crate::{
    cursor::{
        Cursor, Point, Setting, WindowCursor,
        clamp::Clamp,
        partitioned::PartitionedCursor,
        point::Scale,
        range::{EndOfRange, MomentTemplate},
    },
    datetime::{self, Duration},
    error::Result,
    interpolation::{Scope, Template},
    node::Node,
    stream::Env,
    value::{Map, Value},
};

const DAY: Duration = Duration { months: 0, us: 86_400_000_000 };
const SECOND: Duration = Duration { months: 0, us: 1_000_000 };

/// How the stream is divided, as far as its cursor has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divided {
    Not,
    /// By a partition router.
    ByRouter,
    /// By one that puts partitions together, so that none has a state of its own.
    ByGroups,
}

/// The cursor of a stream: `node` is its `incremental_sync`.
///
/// # Errors
/// Kind config, naming the place in the manifest.
pub fn build(node: Option<&Node<'_>>, env: &Env, state: &Value, divided: Divided) -> Result<Cursor> {
    let Some(node) = node else { return Ok(Cursor::none()) };
    let empty = Value::map(Map::new());
    let state = if state.get(super::NO_CURSOR).is_some() { &empty } else { state };
    let scope = env.scope();
    match node.kind() {
        "DatetimeBasedCursor" => {
            let (setting, end) = of_moments(node, &scope)?;
            if divided == Divided::Not {
                let cursor = WindowCursor::new(&setting, state).map_err(|error| error.at(&node.path))?;
                return Ok(Cursor::windows(setting, end, cursor));
            }
            let global = divided == Divided::ByGroups || node.flag("global_substream_cursor", false)?;
            let cursor = PartitionedCursor::new(&setting, state, global).map_err(|error| error.at(&node.path))?;
            Ok(Cursor::partitioned(setting, end, cursor))
        }
        "IncrementingCountCursor" if divided != Divided::Not => {
            Err(node.wrong("a cursor by counts cannot be used with a partition router"))
        }
        "IncrementingCountCursor" => {
            let setting = of_counts(node, &scope)?;
            let cursor = WindowCursor::new(&setting, state).map_err(|error| error.at(&node.path))?;
            Ok(Cursor::windows(setting, EndOfRange::Never, cursor))
        }
        _ => Err(node.unknown()),
    }
}

/// A template's text; `default` where it is not there.
fn text(node: &Node<'_>, key: &str, default: &str, scope: &Scope) -> Result<String> {
    match node.get(key) {
        Some(member) => Template::new(&member, node)?.text(scope),
        None => Ok(default.to_owned()),
    }
}

fn duration(node: &Node<'_>, key: &str, scope: &Scope) -> Result<Option<Duration>> {
    let written = text(node, key, "", scope)?;
    // A template without a value is written as Python's None.
    if written.is_empty() || written == "None" {
        return Ok(None);
    }
    let parsed = datetime::parse_duration(&written);
    parsed.map(Some).map_err(|error| error.at(format!("{}.{key}", node.path)))
}

fn of_moments(node: &Node<'_>, scope: &Scope) -> Result<(Setting, EndOfRange)> {
    let format = node.need("datetime_format")?.text()?.to_owned();
    let mut inputs: Vec<String> = node
        .items("cursor_datetime_formats")
        .iter()
        .map(|item| item.text().map(str::to_owned))
        .collect::<Result<_>>()?;
    inputs.push(format.clone());
    let granularity = duration(node, "cursor_granularity", scope)?;
    if node.get("step").is_some() != node.get("cursor_granularity").is_some() {
        return Err(node.wrong("`step` and `cursor_granularity` belong together: set both or neither"));
    }
    let clamp = clamp(node, scope)?;
    let unit = match clamp {
        Clamp::Day => SECOND,
        _ => DAY,
    };
    let of_clamp = Some(granularity.unwrap_or(unit));
    let end = match node.get("end_datetime") {
        Some(end) => EndOfRange::Moment {
            moment: Box::new(MomentTemplate::build(&end, node, &format)?),
            clamp,
            granularity: of_clamp,
        },
        None => EndOfRange::Now { clamp, granularity: of_clamp },
    };
    let start = MomentTemplate::build(&node.need("start_datetime")?, node, &format)?.at(scope)?;
    let setting = Setting {
        field: text(node, "cursor_field", "", scope)?,
        bounds: Some((
            text(node, "partition_field_start", "start_time", scope)?,
            text(node, "partition_field_end", "end_time", scope)?,
        )),
        scale: Scale::Time { format, inputs, granularity },
        start: Point::Time(start),
        lookback: duration(node, "lookback_window", scope)?,
        step: duration(node, "step", scope)?,
        granularity,
        clamp,
        strictly: node.flag("is_compare_strictly", false)?,
    };
    Ok((setting, end))
}

fn clamp(node: &Node<'_>, scope: &Scope) -> Result<Clamp> {
    const WEEKDAYS: [&str; 7] = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
    let Some(clamping) = node.get("clamping") else { return Ok(Clamp::Not) };
    match text(&clamping, "target", "", scope)?.as_str() {
        "DAY" => Ok(Clamp::Day),
        "MONTH" => Ok(Clamp::Month),
        "WEEK" => {
            let details = clamping.get("target_details").and_then(|details| details.get("weekday"));
            let named = details.as_ref().and_then(|day| day.value.as_str()).unwrap_or_default();
            let day = WEEKDAYS.iter().position(|day| *day == named).and_then(|day| i64::try_from(day).ok());
            day.map(Clamp::Week)
                .ok_or_else(|| clamping.wrong("WEEK needs a `weekday` such as MONDAY in `target_details`"))
        }
        other => Err(clamping.wrong(format!("`{other}` is no target: DAY, WEEK and MONTH are"))),
    }
}

fn of_counts(node: &Node<'_>, scope: &Scope) -> Result<Setting> {
    let start = match node.get("start_value") {
        None => 0,
        Some(start) => {
            let written = Template::new(&start, node)?.text(scope)?;
            written.trim().parse().map_err(|_| start.wrong(format!("`{written}` is no whole number")))?
        }
    };
    Ok(Setting {
        field: text(node, "cursor_field", "", scope)?,
        scale: Scale::Count,
        bounds: None,
        start: Point::Count(start),
        lookback: None,
        step: None,
        granularity: None,
        clamp: Clamp::Not,
        strictly: false,
    })
}
