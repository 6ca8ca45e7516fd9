//! Windows that begin and end with a day, a week or a month.

use crate::{
    cursor::point::Point,
    datetime::{DateTime, Duration, US_PER_DAY, US_PER_SECOND},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    Not,
    Day,
    /// Weeks begin with this day; Monday is 0.
    Week(i64),
    Month,
}

impl Clamp {
    /// The next beginning of a period, or the point itself where it is one.
    pub fn up(self, point: &Point) -> Point {
        self.to(point, true)
    }

    /// The last beginning of a period.
    pub fn down(self, point: &Point) -> Point {
        self.to(point, false)
    }

    fn to(self, point: &Point, up: bool) -> Point {
        let Point::Time(at) = point else { return point.clone() };
        let midnight = midnight(at);
        let days = |days: i64| midnight.plus_us(days * US_PER_DAY).ok();
        let civil = at.civil();
        let clamped = match self {
            Self::Not => return point.clone(),
            Self::Day if up && midnight.us() != at.us() => days(1),
            Self::Day => Some(midnight),
            Self::Week(first) => {
                let weekday = i64::from(civil.weekday());
                let ahead = if weekday > first { 7 - (weekday - first) } else { first - weekday };
                days(if up || ahead == 0 { ahead } else { ahead - 7 })
            }
            Self::Month => {
                let first = days(1 - i64::from(civil.day));
                // The reference leaves any hour of the first day on that day.
                if up && civil.day != 1 {
                    first.and_then(|first| first.plus(&Duration { months: 1, us: 0 }).ok())
                } else {
                    first
                }
            }
        };
        clamped.map_or_else(|| point.clone(), Point::Time)
    }
}

fn midnight(at: &DateTime) -> DateTime {
    let shown = at.us() + i64::from(at.offset_s().unwrap_or(0)) * US_PER_SECOND;
    at.plus_us(-shown.rem_euclid(US_PER_DAY)).unwrap_or(*at)
}
