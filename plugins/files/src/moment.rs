//! Dates and times in the forms that files and servers write them.
//!
//! Owns text ↔ days and microseconds. Pure functions; `None` means that it is not one. Must never guess
//! between day and month: forms such as `03/04/2020` stay text.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Days from 1970-01-01 to a proleptic Gregorian date (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let small = |n: i64| u32::try_from(n).expect("days and months are small");
    (year, small(month), small(day))
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn two(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => Some(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => None,
    }
}

/// `YYYY-MM-DD` or `YYYY/MM/DD`, exactly, to days since 1970-01-01.
pub fn date(text: &[u8]) -> Option<i32> {
    let [c, _, y, _, s @ (b'-' | b'/'), m @ .., d0, d1] = text else { return None };
    let [m0, m1, t] = m else { return None };
    if s != t || !c.is_ascii_digit() || !y.is_ascii_digit() {
        return None;
    }
    let year = i64::from(two(text)? * 100 + two(&text[2..])?);
    let (month, day) = (two(&[*m0, *m1])?, two(&[*d0, *d1])?);
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    valid.then(|| i32::try_from(days_from_civil(year, month, day)).expect("four digits of years fit"))
}

/// `HH:MM[:SS[.f{1,9}]]` to microseconds since midnight; digits beyond the sixth must be zero.
fn clock(text: &[u8]) -> Option<i64> {
    if text.len() < 5 || text[2] != b':' {
        return None;
    }
    let (hour, minute) = (two(text)?, two(&text[3..])?);
    let (second, micros) = match text.get(5) {
        None => (0, 0),
        Some(b':') if text.len() >= 8 => (two(&text[6..])?, fraction(&text[8..])?),
        Some(_) => return None,
    };
    let valid = hour < 24 && minute < 60 && second < 60;
    valid.then(|| i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

fn fraction(text: &[u8]) -> Option<i64> {
    let digits = match text {
        [] => return Some(0),
        [b'.', rest @ ..] if (1..=9).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit) => rest,
        _ => return None,
    };
    let mut micros = 0;
    for place in 0..9 {
        let digit = digits.get(place).map_or(0, |b| i64::from(b - b'0'));
        match place {
            0..6 => micros = micros * 10 + digit,
            _ if digit != 0 => return None,
            _ => {}
        }
    }
    Some(micros)
}

/// `HH:MM:SS[.f]` to microseconds since midnight.
pub fn time(text: &[u8]) -> Option<i64> {
    if text.len() < 8 { None } else { clock(text) }
}

/// A date, `T` or a space, a time, and perhaps a zone (`Z`, ` UTC`, ` GMT`, `+02`, `+0200`, `+02:00`, with or
/// without a space before it). Microseconds since the epoch, and whether there was a zone.
pub fn timestamp(text: &[u8]) -> Option<(i64, bool)> {
    if text.len() < 16 || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let days = i64::from(date(&text[..10])?);
    let rest = &text[11..];
    let end = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b':' | b'.')).unwrap_or(rest.len());
    let local = days * DAY + clock(&rest[..end])?;
    match rest[end..].trim_ascii_start() {
        [] if end == rest.len() => Some((local, false)),
        zone => Some((local - offset(zone)?, true)),
    }
}

fn offset(zone: &[u8]) -> Option<i64> {
    if matches!(zone, b"Z" | b"z" | b"UTC" | b"GMT") {
        return Some(0);
    }
    let (sign, rest) = zone.split_first()?;
    let (hours, minutes) = match rest.len() {
        2 => (two(rest)?, 0),
        4 => (two(rest)?, two(&rest[2..])?),
        5 if rest[2] == b':' => (two(rest)?, two(&rest[3..])?),
        _ => return None,
    };
    let micros = i64::from(hours * 60 + minutes) * 60_000_000;
    match sign {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(micros),
        b'-' => Some(-micros),
        _ => None,
    }
}

/// A server's date: `Sun, 06 Nov 1994 08:49:37 GMT`, or what [`timestamp`] takes (UTC where no zone is given),
/// to milliseconds since the epoch.
pub fn server_date(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some((micros, _)) = timestamp(text.as_bytes()) {
        return Some(micros.div_euclid(1_000));
    }
    let mut words = text.split_once(", ")?.1.split_ascii_whitespace();
    let day: u32 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let month = u32::try_from(month + 1).ok()?;
    let year: i64 = words.next()?.parse().ok()?;
    let time = clock(words.next()?.as_bytes())?;
    let zone = words.next()?;
    let valid = day >= 1 && (1..=9999).contains(&year) && day <= days_in_month(year, month) && zone == "GMT";
    valid.then(|| days_from_civil(year, month, day) * (DAY / 1_000) + time / 1_000)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `YYYY-MM-DD` of days since the epoch.
pub fn date_text(days: i32) -> String {
    let (year, month, day) = civil_from_days(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

/// ISO 8601 of microseconds since the epoch, with `Z` for an instant.
pub fn timestamp_text(micros: i64, zone: bool) -> String {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let z = if zone { "Z" } else { "" };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}{z}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_dates() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2000/02/29"), Some(11_016));
        for bad in ["1900-02-29", "2000-13-01", "2000-00-10", "2000-1-01", "2000-01/01", "20000101", "03/04/2020", ""] {
            assert_eq!(date(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn reads_timestamps_in_common_forms() {
        let same = ["2001-01-10 18:20", "2001/01/10 18:20", "2001-01-10T18:20:00", "2001-01-10 18:20:00.000000000"];
        for text in same {
            assert_eq!(timestamp(text.as_bytes()), Some((979_150_800_000_000, false)), "{text}");
        }
        let zoned = [
            "2001-01-10T18:20:00Z",
            "2001-01-10 20:20:00+02:00",
            "2001-01-10 20:20:00 +0200",
            "2001-01-10 18:20:00 UTC",
        ];
        for text in zoned {
            assert_eq!(timestamp(text.as_bytes()), Some((979_150_800_000_000, true)), "{text}");
        }
        for bad in [
            "2001-01-10",
            "2001-01-10 24:00:00",
            "2001-01-10 18:20:00.0000001",
            "2001-01-10 18:20:00 PST",
            "2001-01-10 18:20:00 ",
        ] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(time(b"18:20:00.5"), Some(66_000_500_000));
        assert_eq!(time(b"18:20"), None);
    }

    #[test]
    fn reads_what_servers_write() {
        assert_eq!(server_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(server_date("1994-11-06T08:49:37.000Z"), Some(784_111_777_000));
        assert_eq!(server_date("Sun, 36 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(server_date("yesterday"), None);
    }

    proptest::proptest! {
        #[test]
        fn text_comes_back(micros in -62_135_596_800_000_000i64..253_402_300_799_999_999, zone: bool) {
            let text = timestamp_text(micros, zone);
            proptest::prop_assert_eq!(timestamp(text.as_bytes()), Some((micros, zone)));
            let days = i32::try_from(micros.div_euclid(DAY)).unwrap();
            proptest::prop_assert_eq!(date(date_text(days).as_bytes()), Some(days));
        }

        #[test]
        fn never_panics(text: Vec<u8>) {
            let _ = (date(&text), time(&text), timestamp(&text), server_date(&String::from_utf8_lossy(&text)));
        }
    }
}
