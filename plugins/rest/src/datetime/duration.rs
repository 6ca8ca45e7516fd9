//! ISO 8601 durations as `isodate` reads them, and Python's way of writing a `timedelta`.

use crate::error::{RestError, Result};

use super::{US_PER_DAY, US_PER_SECOND};

/// Months (years are twelve of them) and, apart from those, an exact time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duration {
    pub months: i64,
    pub us: i64,
}

impl Duration {
    pub fn from_us(us: i64) -> Self {
        Self { months: 0, us }
    }

    #[must_use]
    pub fn checked_neg(&self) -> Option<Self> {
        Some(Self { months: self.months.checked_neg()?, us: self.us.checked_neg()? })
    }

    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self { months: self.months.checked_add(other.months)?, us: self.us.checked_add(other.us)? })
    }

    #[must_use]
    pub fn checked_mul(&self, by: i64) -> Option<Self> {
        Some(Self { months: self.months.checked_mul(by)?, us: self.us.checked_mul(by)? })
    }

    /// `str()`.
    pub fn text(&self) -> String {
        let (years, months) = (self.months / 12, self.months % 12);
        let mut parts = Vec::new();
        if years != 0 {
            parts.push(format!("{years} years"));
        }
        if months != 0 {
            parts.push(format!("{months} month{}", if months <= 1 { "" } else { "s" }));
        }
        parts.push(time_text(self.us));
        parts.join(", ")
    }
}

/// `str(timedelta)`: `-1 day, 23:00:00`.
pub fn time_text(us: i64) -> String {
    let days = us.div_euclid(US_PER_DAY);
    let rest = us.rem_euclid(US_PER_DAY);
    let (seconds, micros) = (rest / US_PER_SECOND, rest % US_PER_SECOND);
    let mut text = String::new();
    if days != 0 {
        text.push_str(&format!("{days} day{}, ", if days.abs() == 1 { "" } else { "s" }));
    }
    text.push_str(&format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if micros != 0 {
        text.push_str(&format!(".{micros:06}"));
    }
    text
}

/// Reads `P1Y2M3W4DT5H6M7.5S`, with a sign before it where there is one.
///
/// # Errors
/// Kind config, naming the text.
pub fn parse_duration(text: &str) -> Result<Duration> {
    read(text).ok_or_else(|| {
        RestError::config(format!("`{text}` is no ISO 8601 duration; write one such as `P1D`, `P1M` or `PT12H`"))
    })
}

fn read(text: &str) -> Option<Duration> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let body = body.strip_prefix('P')?;
    let (date, time) = match body.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (body, None),
    };
    // The pattern of isodate wants a word character after `P`.
    if body.is_empty() {
        return None;
    }
    let mut rest = date;
    let years = whole(take(&mut rest, 'Y')?)?;
    let months = whole(take(&mut rest, 'M')?)?;
    let weeks = take(&mut rest, 'W')?.unwrap_or(0.0);
    let days = take(&mut rest, 'D')?.unwrap_or(0.0);
    if !rest.is_empty() {
        return None;
    }
    let mut rest = time.unwrap_or_default();
    let hours = take(&mut rest, 'H')?.unwrap_or(0.0);
    let minutes = take(&mut rest, 'M')?.unwrap_or(0.0);
    let seconds = take(&mut rest, 'S')?.unwrap_or(0.0);
    if !rest.is_empty() {
        return None;
    }
    let total = micros(weeks, 7 * US_PER_DAY)?
        .checked_add(micros(days, US_PER_DAY)?)?
        .checked_add(micros(hours, 3600 * US_PER_SECOND)?)?
        .checked_add(micros(minutes, 60 * US_PER_SECOND)?)?
        .checked_add(micros(seconds, US_PER_SECOND)?)?;
    let duration = Duration { months: years.checked_mul(12)?.checked_add(months)?, us: total };
    if negative { duration.checked_neg() } else { Some(duration) }
}

/// A number before `unit`; `Some(None)` where the text goes on with another unit, `None` where it is no number.
#[allow(clippy::option_option, reason = "absent and wrong are two things here")]
fn take(rest: &mut &str, unit: char) -> Option<Option<f64>> {
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(rest.len());
    if !rest[end..].starts_with(unit) {
        return Some(None);
    }
    let number = rest[..end].replace(',', ".");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    *rest = &rest[end + 1..];
    number.parse().ok().map(Some)
}

/// Years and months are reckoned with only as whole numbers.
fn whole(number: Option<f64>) -> Option<i64> {
    let number = number.unwrap_or(0.0);
    (number.fract() == 0.0 && number <= 1e6).then_some(number as i64)
}

fn micros(number: f64, unit_us: i64) -> Option<i64> {
    let whole = number.trunc();
    // Python's timedelta reaches 999999999 days, further than any moment there is.
    if whole * unit_us as f64 > 9e18 {
        return None;
    }
    let fraction = ((number - whole) * unit_us as f64).round_ties_even();
    (whole as i64).checked_mul(unit_us)?.checked_add(fraction as i64)
}
