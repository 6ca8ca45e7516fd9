//! ISO 8601 as `dateutil.parser.isoparse` reads it.

use crate::error::{RestError, Result};

use super::{
    Civil, DateTime, US_PER_DAY,
    civil::{from_days, is_leap, iso_year_start},
};

/// Reads a date, or a date and a time; a text without an offset stays naive.
///
/// # Errors
/// Kind config, naming the text.
pub fn parse_iso(text: &str) -> Result<DateTime> {
    read(text.as_bytes()).ok_or_else(|| {
        RestError::config(format!("`{text}` is no ISO 8601 date; write one such as `2024-01-31T00:00:00Z`"))
    })
}

fn read(text: &[u8]) -> Option<DateTime> {
    if !text.is_ascii() {
        return None;
    }
    let (date, end) = common(text).or_else(|| uncommon(text))?;
    let mut civil = Civil::date(date.0, date.1, date.2);
    let mut offset = None;
    let mut late = false;
    if text.len() > end {
        // Any one character stands between date and time.
        offset = time(&text[end + 1..], &mut civil)?;
        late = civil.hour == 24;
        if late {
            civil.hour = 0;
        }
    }
    let at = DateTime::from_civil(&civil, offset)?;
    if late { at.plus_us(US_PER_DAY).ok() } else { Some(at) }
}

/// Digits only, as far as dates go: Python's `int()` would take spaces and signs as well.
fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

type Date = (i32, u32, u32);

fn year(text: &[u8]) -> Option<i32> {
    i32::try_from(number(text.get(..4)?)?).ok()
}

/// `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, `YYYYMMDD`.
fn common(text: &[u8]) -> Option<(Date, usize)> {
    let year = year(text)?;
    if text.len() == 4 {
        return Some(((year, 1, 1), 4));
    }
    let dashed = text[4] == b'-';
    let at = 4 + usize::from(dashed);
    let month = number(text.get(at..at + 2)?)?;
    let at = at + 2;
    if at >= text.len() {
        return dashed.then_some(((year, month, 1), at));
    }
    if dashed && text[at] != b'-' {
        return None;
    }
    let at = at + usize::from(dashed);
    let day = number(text.get(at..at + 2)?)?;
    Some(((year, month, day), at + 2))
}

/// `YYYY-Www-D`, `YYYY-DDD` and both without dashes.
fn uncommon(text: &[u8]) -> Option<(Date, usize)> {
    let year = year(text)?;
    let dashed = text.get(4) == Some(&b'-');
    let at = 4 + usize::from(dashed);
    if text.get(at) != Some(&b'W') {
        let day = number(text.get(at..at + 3)?)?;
        let exists = (1..=365 + u32::from(is_leap(year))).contains(&day) && year >= 1;
        return exists.then(|| (from_days(Civil::date(year, 1, 1).days() + i64::from(day) - 1), at + 3));
    }
    let week = number(text.get(at + 1..at + 3)?)?;
    let mut at = at + 3;
    let mut day = 1;
    if text.len() > at {
        if (text[at] == b'-') != dashed {
            return None;
        }
        at += usize::from(dashed);
        day = number(text.get(at..at + 1)?)?;
        at += 1;
    }
    if !(1..=53).contains(&week) || !(1..=7).contains(&day) || year < 1 {
        return None;
    }
    Some((from_days(iso_year_start(year) + i64::from((week - 1) * 7 + day - 1)), at))
}

/// The time into `civil`; what is given back is the offset.
#[allow(clippy::option_option, reason = "wrong and naive are two things here")]
fn time(text: &[u8], civil: &mut Civil) -> Option<Option<i32>> {
    if text.len() < 2 {
        return None;
    }
    let (mut at, mut part, mut colons, mut offset) = (0, 0, false, None);
    while at < text.len() && part < 5 {
        if b"-+Zz".contains(&text[at]) {
            offset = Some(zone(&text[at..])?);
            at = text.len();
            break;
        }
        if part == 1 && text[at] == b':' {
            colons = true;
            at += 1;
        } else if part == 2 && colons {
            if text[at] != b':' {
                return None;
            }
            at += 1;
        }
        match part {
            0 => civil.hour = number(text.get(at..(at + 2).min(text.len()))?)?,
            1 => civil.minute = number(text.get(at..(at + 2).min(text.len()))?)?,
            2 => civil.second = number(text.get(at..(at + 2).min(text.len()))?)?,
            3 => at = fraction(text, at, civil),
            _ => {}
        }
        if part < 3 {
            at += 2;
        }
        part += 1;
    }
    if at < text.len() || (civil.hour == 24 && (civil.minute, civil.second, civil.us) != (0, 0, 0)) {
        return None;
    }
    Some(offset)
}

/// Digits after a point or comma, the first six of them; where it ends.
fn fraction(text: &[u8], at: usize, civil: &mut Civil) -> usize {
    if text[at] != b'.' && text[at] != b',' {
        return at;
    }
    let digits = text[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut us = 0;
    for place in 0..6 {
        us = us * 10 + if place < digits { u32::from(text[at + 1 + place] - b'0') } else { 0 };
    }
    if digits == 0 {
        return at;
    }
    civil.us = us;
    at + 1 + digits
}

/// `Z`, `+hh`, `+hhmm`, `+hh:mm`, in seconds.
fn zone(text: &[u8]) -> Option<i32> {
    if text == b"Z" || text == b"z" {
        return Some(0);
    }
    let sign = match text[0] {
        b'-' => -1,
        b'+' => 1,
        _ => return None,
    };
    let minutes = match text.len() {
        3 => 0,
        5 => number(&text[3..])?,
        6 => number(&text[if text[3] == b':' { 4 } else { 3 }..])?,
        _ => return None,
    };
    let hours = number(&text[1..3])?;
    (minutes <= 59 && hours <= 23).then(|| sign * i32::try_from(hours * 3600 + minutes * 60).expect("less than a day"))
}
