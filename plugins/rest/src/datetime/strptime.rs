//! Reading moments: `strptime` as CPython 3.11 does it in the C locale and UTC, and Airbyte's own formats above it.
//!
//! CPython makes a regular expression of the format; here the format is walked with the same choices in the same order,
//! going back where a later part does not fit.

use crate::{
    error::{RestError, Result},
    limits,
};

use super::{
    Civil, DateTime, US_PER_SECOND,
    civil::{from_days, is_leap, iso_year_start, to_days},
    directive::{MONTHS, WEEKDAYS, short},
};

/// Airbyte's `DatetimeParser.parse`; a moment without an offset is UTC.
///
/// # Errors
/// Kind config, naming the text and the format.
pub fn parse(text: &str, format: &str) -> Result<DateTime> {
    let wrong = || mismatch(text, format);
    let scaled = |unit_us: i64| {
        let us = integer(text)?.checked_mul(unit_us)?;
        DateTime::checked(us)
    };
    match format {
        "%s" => scaled(US_PER_SECOND).ok_or_else(wrong),
        "%ms" => scaled(1000).ok_or_else(wrong),
        "%epoch_microseconds" => scaled(1).ok_or_else(wrong),
        "%s_as_float" => float_seconds(text).ok_or_else(wrong),
        _ => {
            let at = strptime(text, &format.replace("%_ms", "%f"))?;
            Ok(if at.offset_s().is_none() { at.at_offset(Some(0)) } else { at })
        }
    }
}

fn mismatch(text: &str, format: &str) -> RestError {
    RestError::config(format!("the date `{text}` does not match the format `{format}`"))
}

/// Python's `int(text)`.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = !digits.is_empty()
        && digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    whole.then(|| text.replace('_', "").parse().ok())?
}

fn float_seconds(text: &str) -> Option<DateTime> {
    let seconds: f64 = text.trim().parse().ok()?;
    let whole = seconds.floor();
    // Split first, so that microseconds are rounded, not the large number.
    let us = ((seconds - whole) * 1e6).round_ties_even();
    (whole.abs() < 1e12).then(|| DateTime::checked(whole as i64 * US_PER_SECOND + us as i64))?
}

/// `datetime.strptime`: naive where the text has no offset.
///
/// # Errors
/// Kind config, naming the text and the format.
pub fn strptime(text: &str, format: &str) -> Result<DateTime> {
    let pieces = compile(format)?;
    let mut matcher = Matcher { pieces: &pieces, text: text.as_bytes(), steps: 0 };
    let mut found = Found::default();
    match matcher.run(0, 0, &mut found) {
        Some(end) if end == text.len() => moment(&found).ok_or_else(|| mismatch(text, format)),
        Some(end) => Err(RestError::config(format!(
            "the date `{text}` goes on after the format `{format}` has ended: `{}` remains",
            text.get(end..).unwrap_or_default()
        ))),
        None => Err(mismatch(text, format)),
    }
}

enum Piece {
    Literal(String),
    Space,
    Directive(u8),
}

fn compile(format: &str) -> Result<Vec<Piece>> {
    let format = format.replace("%c", "%a %b %d %H:%M:%S %Y").replace("%x", "%m/%d/%y").replace("%X", "%H:%M:%S");
    let mut pieces = Vec::new();
    let mut seen = Vec::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            pieces.push(Piece::Space);
        } else if c != '%' {
            match pieces.last_mut() {
                Some(Piece::Literal(text)) => text.push(c),
                _ => pieces.push(Piece::Literal(c.to_string())),
            }
        } else {
            let letter = chars.next().filter(|c| "aAbBdfGHIjmMpSuUVwWyYzZ%".contains(*c));
            let Some(letter) = letter else {
                return Err(RestError::config(format!(
                    "the date format `{format}` has a directive that cannot be read"
                )));
            };
            if seen.contains(&letter) && letter != '%' {
                return Err(RestError::config(format!("the date format `{format}` has `%{letter}` twice")));
            }
            seen.push(letter);
            pieces.push(if letter == '%' { Piece::Literal("%".into()) } else { Piece::Directive(letter as u8) });
        }
    }
    Ok(pieces)
}

/// What the directives took.
#[derive(Default, Clone)]
struct Found {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: Option<i64>,
    half_hour: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    us: i64,
    weekday: Option<i64>,
    day_of_year: Option<i64>,
    week_of_sunday: Option<i64>,
    week_of_monday: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    offset_s: Option<i64>,
}

struct Matcher<'a> {
    pieces: &'a [Piece],
    text: &'a [u8],
    steps: usize,
}

impl Matcher<'_> {
    /// Where the match ends.
    fn run(&mut self, piece: usize, at: usize, found: &mut Found) -> Option<usize> {
        self.steps += 1;
        if self.steps > limits::MAX_DATE_STEPS {
            return None;
        }
        let Some(next) = self.pieces.get(piece) else { return Some(at) };
        match next {
            Piece::Literal(literal) => {
                let part = self.text.get(at..at + literal.len())?;
                part.eq_ignore_ascii_case(literal.as_bytes()).then(|| self.run(piece + 1, at + literal.len(), found))?
            }
            Piece::Space => {
                let length =
                    self.text[at..].iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
                (1..=length).rev().find_map(|taken| self.run(piece + 1, at + taken, found))
            }
            Piece::Directive(letter) => {
                let before = found.clone();
                for length in candidates(*letter, &self.text[at..]).into_iter().flatten() {
                    *found = before.clone();
                    if take(*letter, &self.text[at..at + length], found).is_some()
                        && let Some(end) = self.run(piece + 1, at + length, found)
                    {
                        return Some(end);
                    }
                }
                None
            }
        }
    }
}

/// Lengths of text that a directive may take, in the order CPython tries them.
fn candidates(letter: u8, text: &[u8]) -> [Option<usize>; 6] {
    let digits = text.iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
    let value = |length: usize| text[..length].iter().fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'));
    let mut lengths = [None; 6];
    let longest_first = |lengths: &mut [Option<usize>; 6], max: usize, range: std::ops::RangeInclusive<u32>| {
        for (slot, length) in (1..=max.min(digits)).rev().filter(|length| range.contains(&value(*length))).enumerate() {
            lengths[slot] = Some(length);
        }
    };
    match letter {
        b'd' => {
            longest_first(&mut lengths, 2, 1..=31);
            if text.first() == Some(&b' ') && text.get(1).is_some_and(|byte| (b'1'..=b'9').contains(byte)) {
                lengths[0] = Some(2);
            }
        }
        b'f' => longest_first(&mut lengths, 6, 0..=999_999),
        b'H' => longest_first(&mut lengths, 2, 0..=23),
        b'I' | b'm' => longest_first(&mut lengths, 2, 1..=12),
        b'j' => longest_first(&mut lengths, 3, 1..=366),
        b'M' => longest_first(&mut lengths, 2, 0..=59),
        b'S' => longest_first(&mut lengths, 2, 0..=61),
        b'U' | b'W' | b'V' => longest_first(&mut lengths, 2, 0..=53),
        b'w' => longest_first(&mut lengths, 1, 0..=6),
        b'u' => longest_first(&mut lengths, 1, 1..=7),
        b'y' if digits >= 2 => lengths[0] = Some(2),
        b'Y' | b'G' if digits >= 4 => lengths[0] = Some(4),
        b'z' => lengths = zone_lengths(text),
        b'p' => lengths[0] = ["am", "pm"].into_iter().find_map(|word| begins(text, word)),
        b'Z' => lengths[0] = ["utc", "gmt"].into_iter().find_map(|word| begins(text, word)),
        b'a' => lengths[0] = WEEKDAYS.iter().find_map(|name| begins(text, short(name))),
        b'A' => lengths[0] = WEEKDAYS.iter().find_map(|name| begins(text, name)),
        b'b' => lengths[0] = MONTHS.iter().find_map(|name| begins(text, short(name))),
        b'B' => lengths[0] = MONTHS.iter().find_map(|name| begins(text, name)),
        _ => {}
    }
    lengths
}

fn begins(text: &[u8], word: &str) -> Option<usize> {
    text.get(..word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes())).then_some(word.len())
}

/// `Z`, `+hh:mm`, `+hhmm`, each with seconds and a fraction of them where they are written.
fn zone_lengths(text: &[u8]) -> [Option<usize>; 6] {
    let mut lengths = [None; 6];
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let below_sixty = |at: usize| text.get(at).is_some_and(|byte| (b'0'..=b'5').contains(byte)) && digit(at + 1);
    if text.first() == Some(&b'Z') {
        lengths[0] = Some(1);
    } else if text.first().is_some_and(|byte| b"+-".contains(byte)) && digit(1) && digit(2) {
        let minutes = if text.get(3) == Some(&b':') { 4 } else { 3 };
        if below_sixty(minutes) {
            let end = minutes + 2;
            lengths[5] = Some(end);
            let seconds = if text.get(end) == Some(&b':') { end + 1 } else { end };
            if below_sixty(seconds) {
                lengths[4] = Some(seconds + 2);
                let fraction =
                    text[seconds + 2..].iter().skip(1).take(6).take_while(|byte| byte.is_ascii_digit()).count();
                if text.get(seconds + 2) == Some(&b'.') && fraction > 0 {
                    lengths[3] = Some(seconds + 3 + fraction);
                }
            }
        }
    }
    lengths
}

fn take(letter: u8, part: &[u8], found: &mut Found) -> Option<()> {
    let text = std::str::from_utf8(part).ok()?;
    let number = text.trim().parse::<i64>().ok();
    let position = |names: &[&str], length: usize| {
        names.iter().position(|name| name[..length.min(name.len())].eq_ignore_ascii_case(text)).map(|at| at as i64)
    };
    match letter {
        b'Y' => found.year = number,
        b'y' => found.year = number.map(|year| if year <= 68 { 2000 + year } else { 1900 + year }),
        b'G' => found.iso_year = number,
        b'm' => found.month = number,
        b'd' => found.day = number,
        b'H' => found.hour = number,
        b'I' => found.half_hour = number,
        b'p' => found.afternoon = text.eq_ignore_ascii_case("pm"),
        b'M' => found.minute = number?,
        b'S' => found.second = number?,
        b'f' => found.us = number? * 10_i64.pow(6 - u32::try_from(part.len()).ok()?),
        b'j' => found.day_of_year = number,
        b'U' => found.week_of_sunday = number,
        b'W' => found.week_of_monday = number,
        b'V' => found.iso_week = number,
        b'w' => found.weekday = number.map(|day| (day + 6) % 7),
        b'u' => found.weekday = number.map(|day| day - 1),
        b'a' => found.weekday = position(&WEEKDAYS, 3),
        b'A' => found.weekday = position(&WEEKDAYS, 9),
        b'b' => found.month = position(&MONTHS, 3).map(|month| month + 1),
        b'B' => found.month = position(&MONTHS, 9).map(|month| month + 1),
        b'z' => found.offset_s = Some(zone(text)?),
        _ => {}
    }
    Some(())
}

fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    // Fractions of a second in an offset occur nowhere; they are dropped.
    let digits = text[1..].split('.').next()?.replace(':', "");
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), |part| part.parse::<i64>().ok());
    let seconds = part(0)? * 3600 + part(2)? * 60 + part(4)?;
    Some(if text.starts_with('-') { -seconds } else { seconds })
}

/// The moment, where the parts make one.
fn moment(found: &Found) -> Option<DateTime> {
    let (year, month, day) = date(found)?;
    let hour = match (found.half_hour, found.hour) {
        (Some(hour), _) => hour % 12 + if found.afternoon { 12 } else { 0 },
        (None, hour) => hour.unwrap_or(0),
    };
    let civil = Civil {
        year,
        month,
        day,
        hour: u32::try_from(hour).ok()?,
        minute: u32::try_from(found.minute).ok()?,
        second: u32::try_from(found.second).ok()?,
        us: u32::try_from(found.us).ok()?,
    };
    let offset = found.offset_s.map(i32::try_from).transpose().ok()?;
    // Python's offsets stay below a day.
    if offset.is_some_and(|offset| offset.abs() >= 86_400) {
        return None;
    }
    DateTime::from_civil(&civil, offset)
}

fn date(found: &Found) -> Option<(i32, u32, u32)> {
    if found.year.is_none() && found.iso_year.is_some() {
        let (week, weekday) = (found.iso_week?, found.weekday?);
        let year = i32::try_from(found.iso_year?).ok()?;
        return found.day_of_year.is_none().then(|| from_days(iso_year_start(year) + (week - 1) * 7 + weekday));
    }
    let week = found.week_of_sunday.or(found.week_of_monday);
    if week.is_none() && found.iso_week.is_some() {
        return None;
    }
    let year = i32::try_from(found.year.unwrap_or(1900)).ok()?;
    let first = to_days(year, 1, 1);
    if let Some(day) = found.day_of_year {
        return (day <= 365 + i64::from(is_leap(year)) || year < 9999).then(|| from_days(first + day - 1));
    }
    if let (Some(week), Some(weekday)) = (week, found.weekday) {
        let starts_sunday = found.week_of_sunday.is_some();
        let shift = i64::from(starts_sunday);
        let (first_weekday, weekday) = (((first + 3).rem_euclid(7) + shift) % 7, (weekday + shift) % 7);
        let days = if week == 0 { weekday - first_weekday } else { (7 - first_weekday) % 7 + 7 * (week - 1) + weekday };
        return Some(from_days(first + days));
    }
    Some((year, u32::try_from(found.month.unwrap_or(1)).ok()?, u32::try_from(found.day.unwrap_or(1)).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_format_that_could_be_tried_for_ever_is_given_up() {
        let pieces = compile("%f%d%m%H%M%S%j%U%W%V%I%p").unwrap();
        let text = "1".repeat(30);
        let mut matcher = Matcher { pieces: &pieces, text: text.as_bytes(), steps: 0 };
        assert!(matcher.run(0, 0, &mut Found::default()).is_none());
        assert!(matcher.steps > limits::MAX_DATE_STEPS);
    }
}
