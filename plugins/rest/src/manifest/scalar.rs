//! Plain scalars of YAML 1.1, as Python's loader takes them: `yes` is true, `010` is eight, `1:30` is ninety.
//!
//! A date stays the text it was written as, because manifests are JSON in the end.

use crate::value::Value;

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Value::str(text);
    }
    float(text).or_else(|| int(text)).unwrap_or_else(|| Value::str(text))
}

/// The sign and what follows it.
fn signed(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn digits_or_underscores(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

fn starts_with_digit(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

fn int(text: &str) -> Option<Value> {
    let (negative, rest) = signed(text);
    let bare = rest.replace('_', "");
    if let Some(binary) = rest.strip_prefix("0b") {
        return binary
            .bytes()
            .all(|byte| matches!(byte, b'0' | b'1' | b'_'))
            .then(|| based(&bare[2..], 2, negative))?;
    }
    if let Some(hex) = rest.strip_prefix("0x") {
        let fits = hex.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_');
        return fits.then(|| based(&bare[2..], 16, negative))?;
    }
    if rest.contains(':') {
        return sexagesimal(rest).map(|value| Value::Int(if negative { -value } else { value }));
    }
    if !starts_with_digit(rest) || !digits_or_underscores(rest) {
        return None;
    }
    if rest.starts_with('0') && rest.len() > 1 {
        return bare.bytes().all(|byte| byte < b'8').then(|| based(&bare, 8, negative))?;
    }
    let written = if negative { format!("-{bare}") } else { bare };
    Some(written.parse().map_or_else(|_| Value::Big(written.as_str().into()), Value::Int))
}

/// Text where it is empty or larger than any number that a manifest needs.
fn based(digits: &str, base: u32, negative: bool) -> Option<Value> {
    let value = i64::from_str_radix(digits, base).ok()?;
    Some(Value::Int(if negative { -value } else { value }))
}

/// `[1-9][0-9_]*(:[0-5]?[0-9])+`
fn sexagesimal(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let first = parts.next()?;
    if !starts_with_digit(first) || first.starts_with('0') || !digits_or_underscores(first) {
        return None;
    }
    let mut value: i64 = first.replace('_', "").parse().ok()?;
    for part in parts {
        value = value.checked_mul(60)?.checked_add(sixtieth(part)?)?;
    }
    Some(value)
}

/// `[0-5]?[0-9]`
fn sixtieth(text: &str) -> Option<i64> {
    let fits = matches!(text.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    if fits { text.parse().ok() } else { None }
}

fn float(text: &str) -> Option<Value> {
    let (negative, rest) = signed(text);
    let sign = if negative { -1.0 } else { 1.0 };
    match rest {
        ".inf" | ".Inf" | ".INF" => return Some(Value::Float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if rest == text => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let (whole, fraction) = rest.split_once('.')?;
    if whole.is_empty() {
        // `.5` takes no sign, and a digit has to come first.
        if rest != text || !starts_with_digit(fraction) {
            return None;
        }
    } else if whole.contains(':') {
        return sexagesimal_float(whole, fraction).map(|value| Value::Float(sign * value));
    } else if !starts_with_digit(whole) || !digits_or_underscores(whole) {
        return None;
    }
    let digits = match fraction.find(['e', 'E']) {
        Some(at) => {
            let (digits, exponent) = fraction.split_at(at);
            let power = exponent[1..].strip_prefix(['+', '-'])?;
            if power.is_empty() || !power.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            digits
        }
        None => fraction,
    };
    if !digits_or_underscores(digits) {
        return None;
    }
    rest.replace('_', "").parse::<f64>().ok().map(|value| Value::Float(sign * value))
}

/// `[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*`
fn sexagesimal_float(whole: &str, fraction: &str) -> Option<f64> {
    let mut parts = whole.split(':');
    let first = parts.next()?;
    if !starts_with_digit(first) || !digits_or_underscores(first) || !digits_or_underscores(fraction) {
        return None;
    }
    let mut value: f64 = first.replace('_', "").parse().ok()?;
    for part in parts {
        #[expect(clippy::cast_precision_loss, reason = "below sixty")]
        let sixtieth = sixtieth(part)? as f64;
        value = value * 60.0 + sixtieth;
    }
    let fraction: f64 = format!("0.{}0", fraction.replace('_', "")).parse().ok()?;
    Some(value + fraction)
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::value::Value;

    #[test]
    fn plain_scalars_are_what_python_reads() {
        for (text, json) in [
            ("yes", "true"),
            ("Off", "false"),
            ("y", "\"y\""),
            ("~", "null"),
            ("010", "8"),
            ("-010", "-8"),
            ("09", "\"09\""),
            ("0o14", "\"0o14\""),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("1:30", "90"),
            ("1:60", "\"1:60\""),
            ("01:30", "\"01:30\""),
            ("12:30:45", "45045"),
            ("1:30.5", "90.5"),
            ("+5", "5"),
            ("-", "\"-\""),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "\"-.5\""),
            ("1e5", "\"1e5\""),
            ("1.0e5", "\"1.0e5\""),
            ("1.5e+3", "1500.0"),
            ("1.2.3", "\"1.2.3\""),
            ("0.50.2", "\"0.50.2\""),
            ("2024-01-31", "\"2024-01-31\""),
            ("99999999999999999999", "99999999999999999999"),
            ("5xx", "\"5xx\""),
            ("+1 555", "\"+1 555\""),
        ] {
            assert_eq!(resolve(text).to_json(), json, "{text}");
        }
        assert_eq!(resolve("-.INF"), Value::Float(f64::NEG_INFINITY));
    }
}
