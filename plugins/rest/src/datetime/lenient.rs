//! Dates as people and servers write them, for places where the reference calls `ab_datetime_parse` (`dateutil`'s guess).
//!
//! Takes the forms that occur: ISO 8601, seconds since 1970, names of months, slashes.

use crate::error::{RestError, Result};

use super::{DateTime, US_PER_SECOND, iso::parse_iso, strptime::strptime};

/// Forms tried in order after ISO 8601, without what follows for time and zone.
const DATES: [&str; 13] = [
    "%a, %d-%b-%Y",
    "%A, %d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%Y/%m/%d",
    "%Y-%m-%d",
];
const TIMES: [&str; 7] = ["", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%I %p"];

/// A text without an offset is UTC.
///
/// # Errors
/// Kind config, naming the text.
pub fn parse_lenient(text: &str) -> Result<DateTime> {
    let wrong = || RestError::config(format!("`{text}` is no date that can be read"));
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer numbers are milliseconds or worse, which the reference refuses as well.
        let seconds: i64 = text.parse().ok().filter(|_| digits.len() <= 10).ok_or_else(wrong)?;
        return DateTime::checked(seconds * US_PER_SECOND).filter(|_| seconds >= 0).ok_or_else(wrong);
    }
    let (dashes, slashes) = (text.matches('-').count(), text.matches('/').count());
    // With a time the reference asks for a date in digits.
    if text.contains(':') && dashes < 2 && slashes < 2 {
        return Err(wrong());
    }
    let at = if !text.contains(':') && dashes == 2 && slashes == 0 {
        strptime(text, "%Y-%m-%d").ok()
    } else {
        parse_iso(text).ok().or_else(|| by_forms(text))
    };
    let at = at.ok_or_else(wrong)?;
    Ok(if at.offset_s().is_none() { at.at_offset(Some(0)) } else { at })
}

fn by_forms(text: &str) -> Option<DateTime> {
    let (body, zone) = split_zone(text);
    for date in DATES {
        for time in TIMES {
            for gap in [" ", "T", ", ", " at "] {
                let format = if time.is_empty() { date.to_owned() } else { format!("{date}{gap}{time}") };
                if let Ok(at) = strptime(body, &format) {
                    return Some(zone.map_or(at, |offset| at.at_offset(Some(offset))));
                }
                if time.is_empty() {
                    break;
                }
            }
        }
    }
    None
}

/// `GMT`, `UTC`, `Z`, `+0200`, `-02:00` or `+02` at the end, in seconds.
fn split_zone(text: &str) -> (&str, Option<i32>) {
    for name in ["GMT", "UTC", "Z"] {
        if let Some(body) = text.strip_suffix(name) {
            return (body.trim_end(), Some(0));
        }
    }
    let Some(at) = text.rfind(['+', '-']) else { return (text, None) };
    let digits = text[at + 1..].replace(':', "");
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit()) && text[..at].contains(':');
    if !numeric || !matches!(digits.len(), 2 | 4) {
        return (text, None);
    }
    let part = |range: std::ops::Range<usize>| digits.get(range).and_then(|part| part.parse::<i32>().ok()).unwrap_or(0);
    let seconds = part(0..2) * 3600 + part(2..4) * 60;
    (text[..at].trim_end(), Some(if text.as_bytes()[at] == b'-' { -seconds } else { seconds }))
}
