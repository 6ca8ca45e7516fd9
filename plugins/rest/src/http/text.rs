//! Values as text the way the reference writes them: Python's `str()`, its JSON, its forms.

use crate::{
    interpolation::show::{float_text, write_json_text, write_quoted},
    value::Value,
};

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        _ => representation(value),
    }
}

/// `repr(value)`.
fn representation(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(int) => int.to_string(),
        Value::Big(digits) => digits.to_string(),
        Value::Float(number) => float_text(*number),
        Value::Str(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(representation).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let member = |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), representation(value));
            format!("{{{}}}", map.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

/// `json.dumps(value)`: spaces after separators, everything beyond ASCII escaped.
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Int(_) | Value::Big(_) => out.push_str(&representation(value)),
        // Neither has a place in JSON.
        Value::Float(number) if !number.is_finite() => out.push_str("null"),
        Value::Float(number) => out.push_str(&float_text(*number)),
        Value::Str(text) => write_json_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write_json_text(key, out);
                out.push_str(": ");
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

/// Names and values as `requests` makes a query or a form of them: lists repeat the name, nulls are left out.
pub fn form<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let mut out = String::new();
    let mut push = |name: &str, value: &str| {
        out.push_str(if out.is_empty() { "" } else { "&" });
        quote_plus(name, &mut out);
        out.push('=');
        quote_plus(value, &mut out);
    };
    for (name, value) in members {
        match value {
            Value::Null => {}
            Value::List(items) => items.iter().filter(|item| !item.is_null()).for_each(|item| match item {
                Value::List(inner) => inner.iter().for_each(|value| push(name, &text(value))),
                Value::Map(inner) => inner.keys().for_each(|key| push(name, key)),
                item => push(name, &text(item)),
            }),
            // An object is gone through like a list: by its names.
            Value::Map(inner) => inner.keys().for_each(|key| push(name, key)),
            value => push(name, &text(value)),
        }
    }
    out
}

fn quote_plus(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The value of a number in text, as Python's `float()` reads it; what is not finite is none.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain: String;
    let text = if text.contains('_') {
        let digit_beside = |at: usize| {
            let bytes = text.as_bytes();
            at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
        };
        if !text.match_indices('_').all(|(at, _)| digit_beside(at)) {
            return None;
        }
        plain = text.replace('_', "");
        &plain
    } else {
        text
    };
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn values_become_text_as_python_writes_them() {
        for (json, expected) in [
            ("null", "None"),
            ("true", "True"),
            ("1.0", "1.0"),
            ("1e16", "1e+16"),
            ("0.00001", "1e-05"),
            ("123456789012345.6", "123456789012345.6"),
            (r#"["a", 1, null, {"it's": false}]"#, r#"['a', 1, None, {"it's": False}]"#),
            (r#""plain 'text'""#, "plain 'text'"),
        ] {
            assert_eq!(text(&value(json)), expected);
        }
    }

    #[test]
    fn json_bodies_have_spaces_and_no_letters_beyond_ascii() {
        let body = value(r#"{"a":[1,2.50,"é😀\u0001"],"b":{},"c":null}"#);
        assert_eq!(json(&body), r#"{"a": [1, 2.5, "\u00e9\ud83d\ude00\u0001"], "b": {}, "c": null}"#);
    }

    #[test]
    fn forms_repeat_names_for_lists_and_leave_nulls_out() {
        let members = value(r#"{"q":"a b+c","on":true,"none":null,"ids":[1,null,"é/~"],"n":2.0,"o":{"x":1}}"#);
        assert_eq!(form(members.as_map().unwrap()), "q=a+b%2Bc&on=True&ids=1&ids=%C3%A9%2F~&n=2.0&o=x");
    }

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        assert_eq!(number(" 1e3 "), Some(1000.0));
        assert_eq!(number("1_000"), Some(1000.0));
        for wrong in ["_1", "1__0", "soon", "", "inf", "nan"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
