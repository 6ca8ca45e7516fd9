//! Moments, dates and durations as Python manifests see them: `datetime`, `DatetimeParser`, `dateutil` and `isodate`.
//!
//! Owns calendar arithmetic, [`parse`] and [`format`]. Never asks for the present moment and knows no machine's zone.

mod civil;
mod directive;
mod duration;
mod iso;
mod lenient;
mod strftime;
mod strptime;

pub use civil::{Civil, days_in_month, is_leap};
pub use duration::{Duration, parse_duration};
pub use iso::parse_iso;
pub use lenient::parse_lenient;
pub use strftime::{format, format_date, strftime};
pub use strptime::{parse, strptime};

use std::{cmp::Ordering, fmt};

use crate::error::{RestError, Result};

pub const US_PER_SECOND: i64 = 1_000_000;
pub const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;
/// 0001-01-01T00:00:00Z.
const MIN_US: i64 = -62_135_596_800 * US_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
const MAX_US: i64 = 253_402_300_800 * US_PER_SECOND - 1;

/// A moment of the years 1 to 9999, with the offset it is written with. Without an offset it is naive, and counts as UTC
/// where moments are compared.
#[derive(Debug, Clone, Copy)]
pub struct DateTime {
    us: i64,
    offset_s: Option<i32>,
}

impl DateTime {
    /// In UTC. What lies outside the years 1 to 9999 becomes the nearest moment that does not.
    pub fn from_us(us: i64) -> Self {
        Self { us: us.clamp(MIN_US, MAX_US), offset_s: Some(0) }
    }

    /// In UTC; `None` outside the years 1 to 9999.
    pub fn checked(us: i64) -> Option<Self> {
        (MIN_US..=MAX_US).contains(&us).then_some(Self { us, offset_s: Some(0) })
    }

    /// `None` for a day or a time that does not exist, and outside the years 1 to 9999.
    pub fn from_civil(civil: &Civil, offset_s: Option<i32>) -> Option<Self> {
        if !civil.exists() {
            return None;
        }
        let us = civil.us_since_epoch() - i64::from(offset_s.unwrap_or(0)) * US_PER_SECOND;
        Some(Self { us, offset_s })
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn us(&self) -> i64 {
        self.us
    }

    /// East of Greenwich; `None` for a naive moment.
    pub fn offset_s(&self) -> Option<i32> {
        self.offset_s
    }

    /// Year, month, … as the clock shows them at this moment's offset.
    pub fn civil(&self) -> Civil {
        Civil::from_us(self.us + i64::from(self.offset_s.unwrap_or(0)) * US_PER_SECOND)
    }

    /// `replace(tzinfo=…)`: what the clock shows stays, the moment moves.
    #[must_use]
    pub fn at_offset(&self, offset_s: Option<i32>) -> Self {
        let shown = self.us + i64::from(self.offset_s.unwrap_or(0)) * US_PER_SECOND;
        Self { us: shown - i64::from(offset_s.unwrap_or(0)) * US_PER_SECOND, offset_s }
    }

    /// `astimezone(…)`: the moment stays, what the clock shows moves.
    #[must_use]
    pub fn to_offset(&self, offset_s: i32) -> Self {
        Self { us: self.us, offset_s: Some(offset_s) }
    }

    #[must_use]
    pub fn to_utc(&self) -> Self {
        self.to_offset(0)
    }

    /// `timestamp()`.
    pub fn timestamp(&self) -> f64 {
        self.us as f64 / US_PER_SECOND as f64
    }

    /// # Errors
    /// Kind config outside the years 1 to 9999.
    pub fn plus(&self, duration: &Duration) -> Result<Self> {
        self.plus_months(duration.months)?.plus_us(duration.us)
    }

    /// # Errors
    /// Kind config outside the years 1 to 9999.
    pub fn minus(&self, duration: &Duration) -> Result<Self> {
        self.plus_months(duration.months.checked_neg().ok_or_else(out_of_range)?)?
            .plus_us(duration.us.checked_neg().ok_or_else(out_of_range)?)
    }

    /// # Errors
    /// Kind config outside the years 1 to 9999.
    pub fn plus_us(&self, us: i64) -> Result<Self> {
        let moved = self.us.checked_add(us).ok_or_else(out_of_range)?;
        let shown = moved.saturating_add(i64::from(self.offset_s.unwrap_or(0)) * US_PER_SECOND);
        if !(MIN_US..=MAX_US).contains(&shown) {
            return Err(out_of_range());
        }
        Ok(Self { us: moved, offset_s: self.offset_s })
    }

    /// A day that the month does not have becomes its last.
    fn plus_months(&self, months: i64) -> Result<Self> {
        if months == 0 {
            return Ok(*self);
        }
        let mut civil = self.civil();
        let count = i64::from(civil.year) * 12 + i64::from(civil.month) - 1;
        let count = count.checked_add(months).ok_or_else(out_of_range)?;
        civil.year = i32::try_from(count.div_euclid(12)).map_err(|_| out_of_range())?;
        civil.month = u32::try_from(count.rem_euclid(12) + 1).expect("1 to 12");
        civil.day = civil.day.min(days_in_month(civil.year, civil.month));
        Self::from_civil(&civil, self.offset_s).ok_or_else(out_of_range)
    }

    /// `isoformat(sep)`.
    pub fn iso(&self, separator: char) -> String {
        let civil = self.civil();
        let mut text = format!("{}{separator}{}", civil.date_text(), civil.time_text());
        if let Some(offset) = self.offset_s {
            text.push_str(&offset_text(offset, ":"));
        }
        text
    }
}

fn out_of_range() -> RestError {
    RestError::config("a date lies outside the years 1 to 9999; check the dates and durations it is reckoned from")
}

/// `+02:00`, with seconds only where there are some.
pub fn offset_text(offset_s: i32, separator: &str) -> String {
    let sign = if offset_s < 0 { '-' } else { '+' };
    let all = offset_s.unsigned_abs();
    let mut text = format!("{sign}{:02}{separator}{:02}", all / 3600, all / 60 % 60);
    if !all.is_multiple_of(60) {
        text.push_str(&format!("{separator}{:02}", all % 60));
    }
    text
}

/// `tzname()`.
pub fn offset_name(offset_s: i32) -> String {
    if offset_s == 0 { "UTC".into() } else { format!("UTC{}", offset_text(offset_s, ":")) }
}

impl PartialEq for DateTime {
    fn eq(&self, other: &Self) -> bool {
        self.us == other.us
    }
}

impl Eq for DateTime {}

impl PartialOrd for DateTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DateTime {
    fn cmp(&self, other: &Self) -> Ordering {
        self.us.cmp(&other.us)
    }
}

/// Python's `str()`.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso(' '))
    }
}

#[cfg(test)]
mod tests;
