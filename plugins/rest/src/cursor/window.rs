//! What was read of a stream and what is left of it, as intervals (`ConcurrentCursor` of the reference).
//!
//! Pure but for the end of the range, which is asked for where it is needed.

use crate::{
    cursor::{
        clamp::Clamp,
        point::{Point, Scale, later},
    },
    datetime::Duration,
    error::{RestError, Result},
    limits::MAX_WINDOWS,
    value::{Map, Value},
};

/// What every cursor of one stream shares.
#[derive(Debug, Clone)]
pub struct Setting {
    pub field: String,
    pub scale: Scale,
    /// Names of a slice's first and last point; `None` where slices have no bounds of their own.
    pub bounds: Option<(String, String)>,
    pub start: Point,
    pub lookback: Option<Duration>,
    /// `None`: one window for everything.
    pub step: Option<Duration>,
    pub granularity: Option<Duration>,
    pub clamp: Clamp,
    pub strictly: bool,
}

#[derive(Debug, Clone)]
struct Interval {
    start: Point,
    end: Point,
    most_recent: Option<Point>,
}

/// One window to ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub start: Point,
    pub end: Point,
}

/// The windows of one partition.
#[derive(Debug, Clone)]
pub struct WindowCursor {
    /// Where the last run came to, or the stream's start.
    reached: Point,
    read: Vec<Interval>,
    legacy: Map,
    closed_one: bool,
}

impl WindowCursor {
    /// `state` is the reference's: `{field: value}`, or intervals with `state_type`.
    ///
    /// # Errors
    /// Kind config where the state's value matches no format.
    pub fn new(setting: &Setting, state: &Value) -> Result<Self> {
        if matches!(state.get("state_type").and_then(Value::as_str), Some("date-range" | "integer")) {
            return Self::of_intervals(setting, state);
        }
        let before = state.get(&setting.field).filter(|value| !value.is_null());
        let before = before.map(|value| setting.scale.parse(value)).transpose().map_err(|error| {
            RestError::config(format!("the state of `{}` cannot be read: {}", setting.field, error.message))
        })?;
        let reached = before.filter(|at| at.truthy() && *at >= setting.start).unwrap_or_else(|| setting.start.clone());
        let first = Interval { start: setting.start.clone(), end: reached.clone(), most_recent: Some(reached.clone()) };
        let legacy = state.as_map().cloned().unwrap_or_default();
        Ok(Self { reached, read: vec![first], legacy, closed_one: false })
    }

    fn of_intervals(setting: &Setting, state: &Value) -> Result<Self> {
        let mut read = Vec::new();
        for slice in state.get("slices").and_then(Value::as_list).unwrap_or_default() {
            let at = |key: &str| slice.get(key).filter(|value| !value.is_null());
            let point = |key: &str| at(key).map(|value| setting.scale.parse(value)).transpose();
            let lost = || RestError::config("the state has an interval without start or end: reset it");
            let (start, end) = (point("start")?.ok_or_else(lost)?, point("end")?.ok_or_else(lost)?);
            read.push(Interval { start, end, most_recent: point("most_recent_cursor_value")? });
        }
        let reached = read.first().map(|first| first.most_recent.clone().unwrap_or_else(|| first.end.clone()));
        let legacy = state.get("legacy").and_then(Value::as_map).cloned().unwrap_or_default();
        Ok(Self { reached: reached.unwrap_or_else(|| setting.start.clone()), read, legacy, closed_one: false })
    }

    /// What is left to ask for, up to `end`, in order.
    ///
    /// # Errors
    /// Kind config where a step makes more than [`MAX_WINDOWS`].
    pub fn windows(&mut self, setting: &Setting, end: &Point) -> Result<Vec<Window>> {
        self.merge(setting);
        let mut windows = Vec::new();
        let Some(first) = self.read.first() else {
            return Err(RestError::config("the state has no interval: reset it"));
        };
        if setting.start < first.start {
            split(setting, &setting.start, &first.start, end, false, &mut windows)?;
        }
        for pair in self.read.windows(2) {
            let after = setting.granularity.as_ref().and_then(|step| pair[0].end.plus(step));
            let lower = after.unwrap_or_else(|| pair[0].end.clone());
            split(setting, &lower, &pair[1].start, end, false, &mut windows)?;
        }
        let last = self.read.last().map(|last| last.end.clone()).unwrap_or_else(|| setting.start.clone());
        let lower = setting.lookback.as_ref().and_then(|lookback| last.minus(lookback)).unwrap_or(last);
        split(setting, &lower, end, end, true, &mut windows)?;
        Ok(windows)
    }

    /// A window was read to its end; `most_recent` is the greatest value of its records.
    ///
    /// # Errors
    /// Kind config where slices have no bounds and there was more than one.
    pub fn close(&mut self, setting: &Setting, window: &Window, most_recent: Option<Point>) -> Result<()> {
        if setting.bounds.is_some() {
            // What requests say, which may be coarser than what was computed.
            let asked = |point: &Point| setting.scale.parse(&setting.scale.write(point)).unwrap_or(point.clone());
            self.read.push(Interval { start: asked(&window.start), end: asked(&window.end), most_recent });
        } else if let Some(most_recent) = most_recent.filter(Point::truthy) {
            if self.closed_one {
                return Err(RestError::config("a cursor without bounds can be used for one slice only"));
            }
            let (start, end) = (self.reached.clone(), most_recent.clone());
            self.read.push(Interval { start, end, most_recent: Some(most_recent) });
        }
        self.closed_one = true;
        self.merge(setting);
        Ok(())
    }

    /// The state as the reference writes it.
    pub fn state(&self, setting: &Setting) -> Value {
        let mut state = self.legacy.clone();
        let merged = merged(setting, self.read.clone());
        if let Some(first) = merged.first() {
            let complete = first.most_recent.as_ref().filter(|point| point.truthy()).unwrap_or(&first.start);
            state.insert(setting.field.clone(), setting.scale.write(complete));
        }
        Value::map(state)
    }

    /// Whether a record with this value is new (`should_be_synced`).
    pub fn is_new(&self, setting: &Setting, value: &Point, end: &Point) -> bool {
        let lowest = match setting.lookback.as_ref().and_then(|lookback| self.reached.minus(lookback)) {
            None => self.reached.clone(),
            Some(lower) => {
                let floor = if setting.start < self.reached { setting.start.clone() } else { self.reached.clone() };
                later(lower, floor)
            }
        };
        lowest <= *value && value <= end
    }

    fn merge(&mut self, setting: &Setting) {
        self.read = merged(setting, std::mem::take(&mut self.read));
    }
}

fn merged(setting: &Setting, mut intervals: Vec<Interval>) -> Vec<Interval> {
    let order = |a: &Interval, b: &Interval| {
        let by = a.start.partial_cmp(&b.start).unwrap_or(std::cmp::Ordering::Equal);
        by.then(a.end.partial_cmp(&b.end).unwrap_or(std::cmp::Ordering::Equal))
    };
    intervals.sort_by(order);
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        let Some(last) = merged.last_mut().filter(|last| setting.scale.after(&last.end) >= interval.start) else {
            merged.push(interval);
            continue;
        };
        last.end = later(last.end.clone(), interval.end);
        let truthy = |point: Option<Point>| point.filter(Point::truthy);
        last.most_recent = match (truthy(interval.most_recent), truthy(last.most_recent.take())) {
            (Some(a), Some(b)) => Some(later(a, b)),
            (a, b) => a.or(b),
        };
    }
    merged
}

/// Divides what lies between two points by the step.
fn split(
    setting: &Setting,
    lower: &Point,
    upper: &Point,
    end: &Point,
    upper_is_end: bool,
    windows: &mut Vec<Window>,
) -> Result<()> {
    if lower > upper || (lower == upper && setting.granularity.is_none()) || *upper < setting.start {
        return Ok(());
    }
    let lower = setting.clamp.up(&later(lower.clone(), setting.start.clone()));
    if lower > *upper || (lower == *upper && (setting.strictly || !upper_is_end)) {
        return Ok(());
    }
    let next = |from: &Point| setting.step.as_ref().and_then(|step| from.plus(step)).unwrap_or_else(|| end.clone());
    let shortened = |point: Point| match &setting.granularity {
        Some(granularity) => point.minus(granularity).unwrap_or(point),
        None => point,
    };
    if setting.step.is_none() || next(&lower) >= *upper {
        let keep = upper_is_end && setting.granularity.is_some();
        let clamped = if keep { upper.clone() } else { setting.clamp.up(upper) };
        let end = if upper_is_end { clamped } else { shortened(clamped) };
        windows.push(Window { start: lower, end });
        return Ok(());
    }
    let mut from = lower;
    loop {
        let reached = next(&from);
        let to = if reached < *upper { reached } else { upper.clone() };
        let clamped = if to == *upper { to.clone() } else { setting.clamp.up(&to) };
        let last = to >= *upper || clamped == *upper;
        let start = setting.clamp.up(&from);
        if start >= clamped {
            return Ok(());
        }
        let end = if upper_is_end && last { clamped.clone() } else { shortened(clamped.clone()) };
        windows.push(Window { start, end });
        if windows.len() > MAX_WINDOWS {
            return Err(RestError::config(format!(
                "the step divides the range into more than {MAX_WINDOWS} windows: choose a longer step or a later start"
            )));
        }
        if last {
            return Ok(());
        }
        from = clamped;
    }
}
