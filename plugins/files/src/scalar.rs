//! Text of single numbers and booleans to values, without losing anything that the text says.
//!
//! Pure functions; `None` means that it is not one. Must never accept a code for a number: `007` and
//! `+49` stay text.

/// Greatest integer up to which every integer is a double.
pub const EXACT_DOUBLE: i64 = 1 << 53;

/// `true` or `false`, in lower, upper or title case.
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// A decimal integer of 64 bits without leading zeros.
pub fn int64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// A number with a point or an exponent, or an integer; `NaN` and the infinities as Python, Java and Rust write
/// them. Leading zeros only before a point.
pub fn float64(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" | b"nan" => return Some(f64::NAN),
        b"inf" | b"Infinity" => return Some(f64::INFINITY),
        b"-inf" | b"-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let number = Number::of(text)?;
    if number.leading_zero {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The parts of a number's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a> {
    pub negative: bool,
    /// Digits before the point.
    pub whole: &'a [u8],
    /// Digits after the point.
    pub fraction: &'a [u8],
    pub exponent: bool,
    /// A code rather than a number: `007`.
    pub leading_zero: bool,
}

impl<'a> Number<'a> {
    /// Takes `[-]digits[.digits][e[±]digits]` apart; a digit before or after the point is enough.
    pub fn of(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let digits = |bytes: &[u8]| bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, rest) = match rest {
            [b'.', after @ ..] => after.split_at(digits(after)),
            _ => (&rest[..0], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => false,
            [b'e' | b'E', b'+' | b'-', power @ ..] | [b'e' | b'E', power @ ..] => {
                if power.is_empty() || !power.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                true
            }
            _ => return None,
        };
        let leading_zero = whole.len() > 1 && whole[0] == b'0';
        Some(Self { negative, whole, fraction, exponent, leading_zero })
    }

    /// Whether it was written without point and exponent.
    pub fn integer(&self, text: &[u8]) -> bool {
        !self.exponent && !text.contains(&b'.')
    }

    /// Significant digits without the zeros at both ends.
    fn significant(&self) -> impl Iterator<Item = u8> + '_ {
        let all = self.whole.len() + self.fraction.len();
        let digit =
            |at: usize| if at < self.whole.len() { self.whole[at] } else { self.fraction[at - self.whole.len()] };
        let first = (0..all).position(|at| digit(at) != b'0').unwrap_or(all);
        let last = (first..all).rev().find(|at| digit(*at) != b'0').map_or(first, |at| at + 1);
        (first..last).map(digit)
    }

    /// Whether a double keeps every digit of it.
    pub fn exact_as_float(&self, text: &[u8]) -> bool {
        // Any number of at most 15 significant digits comes back from a double.
        if self.whole.len() + self.fraction.len() <= 15 || self.significant().count() <= 15 {
            return true;
        }
        let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) else {
            return false;
        };
        if !value.is_finite() {
            return false;
        }
        let shortest = format!("{value:e}");
        let mantissa = shortest.split('e').next().unwrap_or_default();
        Number::of(mantissa.as_bytes()).is_some_and(|back| back.significant().eq(self.significant()))
    }
}

/// A number without exponent as an integer of `scale` digits after the point, in at most `precision` digits.
pub fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let number = Number::of(text)?;
    let scale = usize::try_from(scale).ok()?;
    if number.exponent || number.leading_zero {
        return None;
    }
    let (kept, beyond) = number.fraction.split_at(number.fraction.len().min(scale));
    if beyond.iter().any(|b| *b != b'0') {
        return None;
    }
    let zeros = std::iter::repeat_n(&b'0', scale - kept.len());
    let (mut value, mut significant) = (0i128, 0u8);
    for byte in number.whole.iter().chain(kept).chain(zeros) {
        if value != 0 || *byte != b'0' {
            significant += 1;
        }
        if significant > precision.min(38) {
            return None;
        }
        value = value * 10 + i128::from(byte - b'0');
    }
    Some(if number.negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_stay_text() {
        for code in ["007", "+49", "1_000", "0x1f", "1 000", "", "-", "٣", "-0"] {
            assert_eq!(int64(code.as_bytes()), None, "{code}");
        }
        assert_eq!(float64(b"007.5"), None);
        assert_eq!(float64(b"0.5"), Some(0.5));
        assert_eq!(float64(b".5"), Some(0.5));
        assert_eq!(float64(b"1e400"), None, "would become infinite");
        assert_eq!(int64(b"0"), Some(0));
        assert_eq!(int64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int64(b"9223372036854775808"), None);
    }

    #[test]
    fn doubles_keep_the_digits_of_doubles_only() {
        let exact = |text: &str| Number::of(text.as_bytes()).unwrap().exact_as_float(text.as_bytes());
        assert!(exact("0.1"));
        assert!(exact("37.77492950000001"));
        assert!(exact("1.7976931348623157e308"));
        assert!(exact("100000000000000000000"));
        assert!(!exact("12345678901234567.89"));
        assert!(!exact("0.12345678901234567890"));
        assert!(!exact("9007199254740993"));
    }

    #[test]
    fn decimals_lose_nothing() {
        assert_eq!(decimal(b"12.34", 38, 2), Some(1234));
        assert_eq!(decimal(b"-0.1", 38, 2), Some(-10));
        assert_eq!(decimal(b"12.345", 38, 2), None);
        assert_eq!(decimal(b"12.340", 38, 2), Some(1234));
        assert_eq!(decimal(b"123", 2, 0), None);
        assert_eq!(decimal(b"1e3", 38, 0), None);
        assert_eq!(decimal("9".repeat(39).as_bytes(), 38, 0), None);
        assert_eq!(decimal("9".repeat(38).as_bytes(), 38, 0), Some(10i128.pow(38) - 1));
    }

    proptest::proptest! {
        #[test]
        fn integers_come_back(value: i64) {
            proptest::prop_assert_eq!(int64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn every_double_is_exact(value: f64) {
            if value.is_finite() {
                let text = value.to_string();
                proptest::prop_assert_eq!(float64(text.as_bytes()), Some(value));
                proptest::prop_assert!(Number::of(text.as_bytes()).unwrap().exact_as_float(text.as_bytes()));
            }
        }

        #[test]
        fn never_panics(text: Vec<u8>, precision in 1u8..=38, scale in 0i8..=38) {
            let _ = (int64(&text), float64(&text), boolean(&text), decimal(&text, precision, scale));
        }
    }
}
