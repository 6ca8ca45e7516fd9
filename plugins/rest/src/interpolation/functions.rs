//! The global functions of templates: Airbyte's macros, and what Jinja brings along.

use std::{cell::RefCell, rc::Rc};

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::datetime::{self, DateTime, US_PER_DAY};

use super::{
    codec_filters,
    comparison::order,
    containers::Dict,
    fault::{Fault, Outcome},
    machine::{Arguments, Machine},
    object::{Key, Object},
    operators::day,
    rendering::Namespace,
};

const NAMES: [&str; 18] = [
    "now_utc",
    "today_utc",
    "timestamp",
    "max",
    "min",
    "day_delta",
    "duration",
    "format_datetime",
    "today_with_timezone",
    "str_to_datetime",
    "sanitize_url",
    "camel_case_to_snake_case",
    "generate_uuid",
    "dict",
    "namespace",
    "lipsum",
    "cycler",
    "joiner",
];

/// The function of this name.
pub fn global(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

pub fn is_global(name: &str) -> bool {
    global(name).is_some()
}

/// # Errors
/// What Python would raise.
pub fn call(machine: &mut Machine<'_>, name: &str, args: Arguments) -> Outcome<Object> {
    let now = DateTime::from_us(machine.scope.now_us);
    match name {
        "now_utc" => args.exactly(name, []).map(|[]| Object::Moment(now)),
        "today_utc" => args.exactly(name, []).map(|[]| Object::Date(day(&now))),
        "today_with_timezone" => {
            let [zone] = args.exactly(name, ["timezone"])?;
            match zone {
                Object::Str(zone) => today_in(&now, &zone),
                Object::Undefined(what) => Err(Object::missing(&what)),
                other => Err(Fault::other(format!("a time zone is a text, not '{}'", other.type_name()))),
            }
        }
        "timestamp" => {
            let [at] = args.exactly(name, ["dt"])?;
            timestamp(&at)
        }
        "str_to_datetime" => {
            let [text] = args.exactly(name, ["s"])?;
            read_utc(&text).map(Object::Moment)
        }
        "max" | "min" => largest(machine, name, args),
        "day_delta" => day_delta(&now, args),
        "duration" => {
            let [text] = args.exactly(name, ["datestring"])?;
            let duration = datetime::parse_duration(&text.need_text("Expecting a string")?)?;
            Ok(if duration.months == 0 { Object::Delta(duration.us) } else { Object::Period(duration) })
        }
        "format_datetime" => format_datetime(args),
        "sanitize_url" => {
            let [text] = args.exactly(name, ["value"])?;
            Ok(Object::str(codec_filters::quote(&text.need_text("quote_from_bytes() expected bytes")?, b"", true)))
        }
        "camel_case_to_snake_case" => {
            let [text] = args.exactly(name, ["value"])?;
            // A type error even for what is not there, as the regular expression's function raises it.
            let Object::Str(text) = text else { return Err(Fault::type_error("expected string or bytes-like object")) };
            Ok(Object::str(snake_case(&text)))
        }
        "generate_uuid" => args.exactly(name, []).map(|[]| Object::str(uuid(machine))),
        "dict" => dict(args),
        "namespace" => namespace(args),
        _ => Err(Fault::other(format!("the function `{name}` is not supported in manifests"))),
    }
}

fn today_in(now: &DateTime, name: &str) -> Outcome<Object> {
    use chrono::{Offset as _, TimeZone as _};
    let zone: chrono_tz::Tz = name.parse().map_err(|_| Fault::other(format!("the time zone `{name}` is not known")))?;
    let utc = chrono::DateTime::from_timestamp_micros(now.us()).unwrap_or_default().naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    Ok(Object::Date(day(&now.to_offset(offset))))
}

/// `str_to_datetime`.
fn read_utc(text: &Object) -> Outcome<DateTime> {
    let text = text.need_text("a date has to be a text")?;
    let at = datetime::parse_iso(&text)?;
    Ok(if at.offset_s().is_none() { at.at_offset(Some(0)) } else { at.to_utc() })
}

fn timestamp(at: &Object) -> Outcome<Object> {
    match at {
        Object::Int(_) => Ok(at.clone()),
        Object::Bool(bool) => Ok(Object::Int(i128::from(*bool))),
        Object::Float(float) if float.is_finite() => Ok(Object::Int(*float as i128)),
        Object::Float(_) => Err(Fault::other("cannot convert this float to an integer")),
        other => Ok(Object::Float(read_utc(other)?.timestamp())),
    }
}

fn largest(machine: &mut Machine<'_>, name: &str, args: Arguments) -> Outcome<Object> {
    if !args.named.is_empty() {
        return Err(Fault::type_error(format!("{name}() takes no named arguments")));
    }
    let items = match <[Object; 1]>::try_from(args.positional) {
        Ok([only]) => only.items()?,
        Err(several) => several,
    };
    machine.spend(items.len())?;
    let mut items = items.into_iter();
    let first = items.next().ok_or_else(|| Fault::other(format!("{name}() got nothing to compare")))?;
    let wanted = if name == "max" { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
    items.try_fold(first, |best, item| Ok(if order(&item, &best)? == Some(wanted) { item } else { best }))
}

fn day_delta(now: &DateTime, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("day_delta", &["num_days", "format"])?;
    let days = match &bound[0] {
        Some(Object::Undefined(_)) | None => return Err(Fault::type_error("day_delta needs a number of days")),
        Some(days) => days.as_float().ok_or_else(|| days.unfit("unsupported type for timedelta days component"))?,
    };
    let format = match &bound[1] {
        Some(format) => format.need_text("strftime() argument 1 must be str")?,
        None => "%Y-%m-%dT%H:%M:%S.%f%z".into(),
    };
    if days.abs() > 4_000_000.0 {
        return Err(Fault::other("date value out of range"));
    }
    let at = now.plus_us((days * US_PER_DAY as f64).round_ties_even() as i64)?;
    Ok(Object::str(datetime::strftime(&at, &format)))
}

fn format_datetime(args: Arguments) -> Outcome<Object> {
    let bound = args.bind("format_datetime", &["dt", "format", "input_format"])?;
    let needed =
        |at: usize| bound[at].clone().ok_or_else(|| Fault::type_error("format_datetime() takes a date and a format"));
    let (at, format) = (needed(0)?, needed(1)?.need_text("strftime() argument 1 must be str"));
    let input = bound[2].clone().filter(Object::truthy);
    let at = match &at {
        Object::Moment(at) => return Ok(Object::str(datetime::strftime(at, &format?))),
        Object::Int(_) | Object::Bool(_) => {
            let input = input.map_or_else(|| Ok("%s".into()), |input| input.need_text("must be str"))?;
            datetime::parse(&at.need_int("")?.to_string(), &input)?
        }
        text => match input {
            Some(input) => {
                let text = match text {
                    Object::Str(text) => text,
                    other => return Err(Fault::type_error(format!("strptime() got '{}'", other.type_name()))),
                };
                let at = datetime::strptime(text, &input.need_text("must be str")?)?;
                if at.offset_s().is_none() { at.at_offset(Some(0)) } else { at }
            }
            None => read_utc(text)?,
        },
    };
    Ok(Object::str(datetime::format(&at, &format?)))
}

/// An underscore before every capital but the first character, then small letters.
fn snake_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.chars().enumerate() {
        if at > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c);
    }
    out.to_lowercase()
}

/// A random identifier (version 4) out of the scope's chance; no two of one instance are equal.
fn uuid(machine: &Machine<'_>) -> String {
    thread_local! {
        static COUNT: RefCell<u64> = const { RefCell::new(0) };
    }
    let count = COUNT.with_borrow_mut(|count| {
        *count += 1;
        *count
    });
    let mut hash = Sha256::new();
    hash.update(machine.scope.chance.to_bits().to_le_bytes());
    hash.update(machine.scope.now_us.to_le_bytes());
    hash.update(count.to_le_bytes());
    let mut bytes: Vec<u8> = hash.finalize().iter().copied().take(16).collect();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The members of `dict(…)` and `namespace(…)`: of an object, and by name.
fn members(what: &str, mut args: Arguments) -> Outcome<IndexMap<Key, Object>> {
    let named = std::mem::take(&mut args.named);
    let mut map = IndexMap::new();
    match args.bind(what, &["members"])?.pop().flatten() {
        None => {}
        Some(Object::Dict(dict)) => {
            for (key, value) in dict.pairs() {
                map.insert(Key::new(key)?, value);
            }
        }
        Some(pairs) => {
            for pair in pairs.items()? {
                let [key, value]: [Object; 2] =
                    pair.items()?.try_into().map_err(|_| Fault::other(format!("{what} takes pairs")))?;
                map.insert(Key::new(key)?, value);
            }
        }
    }
    for (name, value) in named {
        map.insert(Key::text(&name), value);
    }
    Ok(map)
}

fn dict(args: Arguments) -> Outcome<Object> {
    Ok(Object::Dict(Dict::own(members("dict", args)?)))
}

fn namespace(args: Arguments) -> Outcome<Object> {
    let mut held = Vec::new();
    for (key, value) in members("namespace", args)? {
        held.push((Rc::from(&*key.object().need_text("names must be strings")?), value));
    }
    Ok(Object::Namespace(Namespace::new(held)))
}
