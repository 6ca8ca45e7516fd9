//! Text of single values to numbers and times. Pure functions; `None` means that it does not fit.

/// Days from 1970-01-01 to a proleptic Gregorian date (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from((month + 9) % 12);
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = u32::try_from(doy - (153 * mp + 2) / 5 + 1).expect("a day of a month");
    let month = u32::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).expect("a month of a year");
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Longest date that is read: a sign and seven digits of a year, month and day.
const MAX_DATE_BYTES: usize = 14;

/// `YYYY-MM-DD` to days since 1970-01-01. A sign in front allows years of four to seven digits.
pub fn date(text: &str) -> Option<i32> {
    let b = text.as_bytes();
    if b.len() == 10 && b[0].is_ascii_digit() {
        return i32::try_from(days(i64::from(digits(&b[..4])?), &b[4..])?).ok();
    }
    let (sign, b) = match b.split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    if !(10..MAX_DATE_BYTES).contains(&b.len()) {
        return None;
    }
    let (year, rest) = b.split_at(b.len() - 6);
    i32::try_from(days(sign * i64::from(digits(year)?), rest)?).ok()
}

/// `-MM-DD` of a year.
fn days(year: i64, b: &[u8]) -> Option<i64> {
    if b[0] != b'-' || b[3] != b'-' {
        return None;
    }
    let (month, day) = (digits(&b[1..3])?, digits(&b[4..6])?);
    let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    valid.then(|| days_from_civil(year, month, day))
}

/// `HH:MM[:SS[.f{1,9}]]` to microseconds since midnight; digits beyond the sixth must be zero.
fn time_of_day(b: &[u8]) -> Option<i64> {
    if b.len() < 5 || b[2] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&b[..2])?, digits(&b[3..5])?);
    let (second, micros) = match b.get(5) {
        None => (0, 0),
        Some(b':') if b.len() >= 8 => (digits(&b[6..8])?, fraction(&b[8..])?),
        Some(_) => return None,
    };
    let valid = hour < 24 && minute < 60 && second < 60;
    valid.then(|| i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

fn fraction(b: &[u8]) -> Option<i64> {
    match b.split_first() {
        None => Some(0),
        Some((b'.', rest)) if !rest.is_empty() && rest.len() <= 9 => {
            let (kept, beyond) = rest.split_at(rest.len().min(6));
            let scale = 10_i64.pow(6 - u32::try_from(kept.len()).expect("at most six digits"));
            (beyond.iter().all(|b| *b == b'0')).then_some(i64::from(digits(kept)?) * scale)
        }
        Some(_) => None,
    }
}

/// `HH:MM:SS[.ffffff]` to microseconds since midnight.
pub fn time(text: &str) -> Option<i64> {
    time_of_day(text.as_bytes())
}

/// RFC 3339 with `T` or a space. Returns microseconds since the epoch and whether a zone was given
/// (then the value is the instant in UTC).
pub fn timestamp(text: &str) -> Option<(i64, bool)> {
    let b = text.as_bytes();
    let split = match b.first()? {
        b'+' | b'-' => b.iter().take(MAX_DATE_BYTES + 1).position(|c| matches!(c, b'T' | b't' | b' '))?,
        _ => 10,
    };
    if b.len() < split + 6 || !matches!(b[split], b'T' | b't' | b' ') || !text.is_char_boundary(split) {
        return None;
    }
    let days = i64::from(date(&text[..split])?);
    let rest = &b[split + 1..];
    let zone_at = rest.iter().position(|c| matches!(c, b'Z' | b'z' | b'+' | b'-'));
    let (clock, zone) = rest.split_at(zone_at.unwrap_or(rest.len()));
    // The first representable day begins before the first representable microsecond.
    let local = i64::try_from(i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(time_of_day(clock)?)).ok()?;
    let offset = match zone {
        [] => return Some((local, false)),
        [b'Z' | b'z'] => 0,
        [sign, hh @ ..] => {
            let (h, m) = match hh.len() {
                2 => (digits(hh)?, 0),
                4 => (digits(&hh[..2])?, digits(&hh[2..])?),
                5 if hh[2] == b':' => (digits(&hh[..2])?, digits(&hh[3..])?),
                _ => return None,
            };
            if h > 23 || m > 59 {
                return None;
            }
            let micros = i64::from(h * 3600 + m * 60) * 1_000_000;
            if *sign == b'-' { -micros } else { micros }
        }
    };
    local.checked_sub(offset).map(|instant| (instant, true))
}

/// A plain decimal number (`-12.340`, no exponent) as an integer of `scale` digits after the point.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let scale = usize::try_from(scale).ok()?;
    let point = unsigned.iter().position(|b| *b == b'.');
    let (whole, frac) = match point {
        Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
        None => (unsigned, &[][..]),
    };
    if whole.is_empty() && frac.is_empty() {
        return None;
    }
    let (frac, beyond) = frac.split_at(frac.len().min(scale));
    if beyond.iter().any(|b| *b != b'0') {
        return None;
    }
    let padding = std::iter::repeat_n(&b'0', scale - frac.len());
    let mut value: i128 = 0;
    let mut significant = 0_u8;
    for b in whole.iter().chain(frac).chain(padding) {
        if !b.is_ascii_digit() {
            return None;
        }
        if value != 0 || *b != b'0' {
            significant += 1;
        }
        if significant > precision {
            return None;
        }
        value = value * 10 + i128::from(b - b'0');
    }
    Some(if negative { -value } else { value })
}

/// A date as `YYYY-MM-DD`; years beyond four digits with their sign.
pub fn date_text(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

/// Microseconds since midnight as `HH:MM:SS.ffffff`; given back where no clock shows them.
pub fn time_text(micros: i64) -> Result<String, i64> {
    if !(0..MICROS_PER_DAY).contains(&micros) {
        return Err(micros);
    }
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    Ok(format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

/// Microseconds since the epoch as RFC 3339 without a zone.
pub fn timestamp_text(micros: i64) -> String {
    let clock = time_text(micros.rem_euclid(MICROS_PER_DAY)).expect("a remainder of a day lies within the day");
    format!("{}T{clock}", date_text(micros.div_euclid(MICROS_PER_DAY)))
}

/// An integer of `scale` digits after the point as plain digits.
pub fn decimal_text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) if value == 0 => "0".to_owned(),
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_to_the_microsecond() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("2000-02-29"), Some(11_016));
        assert_eq!(date("1900-02-29"), None);
        assert_eq!(date("0000-01-01"), Some(-719_528));
        assert_eq!(timestamp("1970-01-01T00:00:01Z"), Some((1_000_000, true)));
        assert_eq!(timestamp("1970-01-01T01:00:00.000001+01:00"), Some((1, true)));
        assert_eq!(timestamp("1970-01-01 00:00:00.5"), Some((500_000, false)));
        assert_eq!(timestamp("1970-01-01T00:00:00.1234567Z"), None, "would lose a digit");
        assert_eq!(timestamp("1970-01-01T24:00:00Z"), None);
        assert_eq!(time("23:59:59.999999"), Some(86_399_999_999));
    }

    #[test]
    fn reads_decimals_without_loss() {
        assert_eq!(decimal("12.34", 38, 2), Some(1234));
        assert_eq!(decimal("-0.1", 38, 2), Some(-10));
        assert_eq!(decimal("12.345", 38, 2), None);
        assert_eq!(decimal("12.340", 38, 2), Some(1234));
        assert_eq!(decimal("123", 2, 0), None);
        assert_eq!(decimal("1e3", 38, 0), None);
        assert_eq!(decimal("", 38, 0), None);
    }
}
