//! Members and methods of `datetime`, `date`, `timedelta` and `isodate.Duration`.

use crate::datetime::{self, Civil, DateTime, US_PER_DAY, US_PER_SECOND};

use super::{
    fault::{Fault, Outcome},
    machine::{Arguments, Machine},
    object::Object,
    operators::day,
};

const DATE_NAMES: [&str; 13] = [
    "ctime",
    "fromisoformat",
    "fromordinal",
    "fromtimestamp",
    "isocalendar",
    "isoformat",
    "isoweekday",
    "replace",
    "strftime",
    "timetuple",
    "today",
    "toordinal",
    "weekday",
];
const MOMENT_NAMES: [&str; 10] =
    ["astimezone", "date", "now", "strptime", "time", "timestamp", "tzname", "utcfromtimestamp", "utcnow", "utcoffset"];

pub fn has_method(object: &Object, name: &str) -> bool {
    match object {
        Object::Moment(_) => DATE_NAMES.contains(&name) || MOMENT_NAMES.contains(&name),
        Object::Date(_) => DATE_NAMES.contains(&name),
        _ => name == "total_seconds",
    }
}

/// A member that is no method.
pub fn member(object: &Object, name: &str) -> Option<Object> {
    let us = match object {
        Object::Moment(at) => return moment_member(&at.civil(), at.offset_s(), name),
        Object::Date(date) if matches!(name, "year" | "month" | "day") => return moment_member(date, None, name),
        Object::Delta(us) => *us,
        Object::Period(duration) => match name {
            "months" => return Some(Object::Int(i128::from(duration.months % 12))),
            "years" => return Some(Object::Int(i128::from(duration.months / 12))),
            _ => duration.us,
        },
        _ => return None,
    };
    Some(Object::Int(i128::from(match name {
        "days" => us.div_euclid(US_PER_DAY),
        "seconds" => us.rem_euclid(US_PER_DAY) / US_PER_SECOND,
        "microseconds" => us.rem_euclid(US_PER_SECOND),
        _ => return None,
    })))
}

fn moment_member(civil: &Civil, offset_s: Option<i32>, name: &str) -> Option<Object> {
    Some(Object::Int(match name {
        "year" => i128::from(civil.year),
        "month" => i128::from(civil.month),
        "day" => i128::from(civil.day),
        "hour" => i128::from(civil.hour),
        "minute" => i128::from(civil.minute),
        "second" => i128::from(civil.second),
        "microsecond" => i128::from(civil.us),
        "fold" => 0,
        "tzinfo" => return Some(offset_s.map_or(Object::None, |offset| Object::str(datetime::offset_name(offset)))),
        _ => return None,
    }))
}

/// # Errors
/// What Python would raise.
pub fn call(machine: &mut Machine<'_>, object: &Object, name: &str, args: Arguments) -> Outcome<Object> {
    match object {
        Object::Moment(at) => moment(machine, at, name, args),
        Object::Date(date) => match name {
            "strftime" => {
                let [format] = args.exactly(name, ["format"])?;
                Ok(Object::str(datetime::format_date(date, &format.need_text("strftime needs text")?)))
            }
            "isoformat" => Ok(Object::str(date.date_text())),
            "replace" => replace(date, None, args).map(|at| Object::Date(at.civil())),
            "today" => Ok(Object::Date(day(&DateTime::from_us(machine.scope.now_us)))),
            "fromisoformat" => from_iso(args).map(|at| Object::Date(day(&at))),
            _ => calendar(date, name),
        },
        Object::Delta(us) => Ok(Object::Float(*us as f64 / US_PER_SECOND as f64)),
        Object::Period(duration) => Ok(Object::Float(duration.us as f64 / US_PER_SECOND as f64)),
        other => Err(Fault::other(format!("the method `{name}` of '{}' is not supported", other.type_name()))),
    }
}

/// What dates and moments answer alike.
fn calendar(date: &Civil, name: &str) -> Outcome<Object> {
    let (year, week, weekday) = date.iso_week();
    Ok(match name {
        "weekday" => Object::Int(i128::from(date.weekday())),
        "isoweekday" => Object::Int(i128::from(weekday)),
        "isocalendar" => {
            Object::tuple([i128::from(year), i128::from(week), i128::from(weekday)].map(Object::Int).to_vec())
        }
        "toordinal" => Object::Int(i128::from(date.days() + 719_163)),
        "ctime" => Object::str(datetime::format_date(date, "%a %b %e %H:%M:%S %Y")),
        _ => return Err(Fault::other(format!("the method `{name}` of dates is not supported"))),
    })
}

fn moment(machine: &mut Machine<'_>, at: &DateTime, name: &str, args: Arguments) -> Outcome<Object> {
    Ok(match name {
        "strftime" => {
            let [format] = args.exactly(name, ["format"])?;
            Object::str(datetime::strftime(at, &format.need_text("strftime() argument 1 must be str")?))
        }
        "isoformat" => isoformat(at, args)?,
        "timestamp" => Object::Float(at.timestamp()),
        "date" => Object::Date(day(at)),
        "time" => Object::str(at.civil().time_text()),
        "replace" => Object::Moment(replace(&at.civil(), at.offset_s(), args)?),
        // Without a zone it is the machine's, which is UTC.
        "astimezone" => Object::Moment(at.to_utc()),
        "tzname" => at.offset_s().map_or(Object::None, |offset| Object::str(datetime::offset_name(offset))),
        "utcoffset" => at.offset_s().map_or(Object::None, |offset| Object::Delta(i64::from(offset) * US_PER_SECOND)),
        "now" | "utcnow" | "today" => {
            let zoned = !args.positional.is_empty() || !args.named.is_empty();
            Object::Moment(DateTime::from_us(machine.scope.now_us).at_offset(zoned.then_some(0)))
        }
        "strptime" => {
            let [text, format] = args.exactly(name, ["date_string", "format"])?;
            let (text, format) = (text.need_text("must be str")?, format.need_text("must be str")?);
            Object::Moment(datetime::strptime(&text, &format)?)
        }
        "fromisoformat" => Object::Moment(from_iso(args)?),
        "fromtimestamp" | "utcfromtimestamp" => {
            let bound = args.bind(name, &["timestamp", "tz"])?;
            let seconds = bound[0].as_ref().and_then(Object::as_float);
            let seconds = seconds.ok_or_else(|| Fault::type_error("a timestamp has to be a number"))?;
            let at = DateTime::checked((seconds * 1e6).round_ties_even() as i64);
            let at = at.ok_or_else(|| Fault::other("the timestamp is out of range"))?;
            Object::Moment(at.at_offset(bound[1].as_ref().map(|_| 0)))
        }
        _ => calendar(&at.civil(), name)?,
    })
}

fn from_iso(args: Arguments) -> Outcome<DateTime> {
    let [text] = args.exactly("fromisoformat", ["date_string"])?;
    Ok(datetime::parse_iso(&text.need_text("fromisoformat: argument must be str")?)?)
}

fn isoformat(at: &DateTime, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("isoformat", &["sep", "timespec"])?;
    let separator = match &bound[0] {
        Some(separator) => separator.need_text("isoformat() argument 1 must be a character")?.chars().next(),
        None => Some('T'),
    };
    let separator = separator.unwrap_or('T');
    let Some(detail) = &bound[1] else { return Ok(Object::str(at.iso(separator))) };
    let civil = at.civil();
    let (hour, minute, second, us) = (civil.hour, civil.minute, civil.second, civil.us);
    let time = match &*detail.need_text("timespec must be str")? {
        "auto" => civil.time_text(),
        "hours" => format!("{hour:02}"),
        "minutes" => format!("{hour:02}:{minute:02}"),
        "seconds" => format!("{hour:02}:{minute:02}:{second:02}"),
        "milliseconds" => format!("{hour:02}:{minute:02}:{second:02}.{:03}", us / 1000),
        "microseconds" => format!("{hour:02}:{minute:02}:{second:02}.{us:06}"),
        _ => return Err(Fault::other("Unknown timespec value")),
    };
    let zone = at.offset_s().map(|offset| datetime::offset_text(offset, ":")).unwrap_or_default();
    Ok(Object::str(format!("{}{separator}{time}{zone}", civil.date_text())))
}

fn replace(civil: &Civil, offset_s: Option<i32>, args: Arguments) -> Outcome<DateTime> {
    let names = ["year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo"];
    let bound = args.bind("replace", &names)?;
    let mut civil = *civil;
    let mut offset_s = offset_s;
    for (at, value) in bound.into_iter().enumerate().filter_map(|(at, value)| value.map(|value| (at, value))) {
        if names[at] == "tzinfo" {
            offset_s = match value {
                Object::None => None,
                _ => Some(0),
            };
            continue;
        }
        let number = value.need_int("an integer is required")?;
        let number = u32::try_from(number).map_err(|_| Fault::other(format!("{} is out of range", names[at])))?;
        match names[at] {
            "year" => civil.year = i32::try_from(number).unwrap_or(i32::MAX),
            "month" => civil.month = number,
            "day" => civil.day = number,
            "hour" => civil.hour = number,
            "minute" => civil.minute = number,
            "second" => civil.second = number,
            _ => civil.us = number,
        }
    }
    DateTime::from_civil(&civil, offset_s).ok_or_else(|| Fault::other("there is no such day or time"))
}
