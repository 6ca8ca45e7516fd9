//! The calendar: days, months and years from microseconds and back. Knows no offsets.

use super::{US_PER_DAY, US_PER_SECOND};

/// What a calendar and a clock on the wall show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub us: u32,
}

impl Civil {
    pub fn date(year: i32, month: u32, day: u32) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0, us: 0 }
    }

    pub fn from_us(us: i64) -> Self {
        let (year, month, day) = from_days(us.div_euclid(US_PER_DAY));
        let rest = us.rem_euclid(US_PER_DAY);
        let seconds = u32::try_from(rest / US_PER_SECOND).expect("less than a day");
        let us = u32::try_from(rest % US_PER_SECOND).expect("less than a second");
        Self { year, month, day, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60, us }
    }

    pub fn us_since_epoch(&self) -> i64 {
        let seconds = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        self.days() * US_PER_DAY + seconds * US_PER_SECOND + i64::from(self.us)
    }

    /// Whether there is such a day and time in the years 1 to 9999.
    pub fn exists(&self) -> bool {
        let date = (1..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day);
        date && self.hour < 24 && self.minute < 60 && self.second < 60 && self.us < 1_000_000
    }

    /// Since 1970-01-01.
    pub fn days(&self) -> i64 {
        to_days(self.year, self.month, self.day)
    }

    /// Monday is 0.
    pub fn weekday(&self) -> u32 {
        u32::try_from((self.days() + 3).rem_euclid(7)).expect("less than 7")
    }

    /// January 1st is 1.
    pub fn day_of_year(&self) -> u32 {
        u32::try_from(self.days() - to_days(self.year, 1, 1) + 1).expect("1 to 366")
    }

    /// Year, week and weekday (Monday is 1) of ISO 8601.
    pub fn iso_week(&self) -> (i32, u32, u32) {
        let weekday = self.weekday();
        // The week belongs to the year of its Thursday.
        let (year, _, _) = from_days(self.days() - i64::from(weekday) + 3);
        let first = iso_year_start(year);
        let week = u32::try_from((self.days() - first) / 7 + 1).expect("1 to 53");
        (year, week, weekday + 1)
    }

    /// `2024-01-31`.
    pub fn date_text(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `13:05:09`, with microseconds only where there are some.
    pub fn time_text(&self) -> String {
        let mut text = format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second);
        if self.us != 0 {
            text.push_str(&format!(".{:06}", self.us));
        }
        text
    }
}

/// The Monday of the first ISO week of a year, in days since 1970-01-01.
pub fn iso_year_start(year: i32) -> i64 {
    let fourth = Civil::date(year, 1, 4);
    fourth.days() - i64::from(fourth.weekday())
}

pub fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Of a month from 1 to 12.
pub fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, by eras of 400 years whose years begin in March.
pub fn to_days(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = i64::from((month + 9) % 12);
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

pub fn from_days(days: i64) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = u32::try_from(day_of_year - (153 * month + 2) / 5 + 1).expect("1 to 31");
    let month = u32::try_from(if month < 10 { month + 3 } else { month - 9 }).expect("1 to 12");
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).expect("microseconds in an i64 reach no further"), month, day)
}
