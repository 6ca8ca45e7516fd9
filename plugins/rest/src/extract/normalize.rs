//! Values as the stream's schema wants them (`schema_normalization: Default`).
//!
//! Decides as the reference's type transformer: what cannot be converted stays as it is.

use crate::{
    interpolation::{Scope, Template},
    node::Node,
    value::Value,
};

/// Converts the members of a record, and what is inside of them, by the `properties` and `items` of a JSON Schema.
pub fn normalize(value: &mut Value, schema: &Value) {
    let Some(schema) = schema.as_map() else { return };
    for (keyword, inner) in schema {
        match (keyword.as_str(), &mut *value) {
            ("properties", Value::Map(map)) if inner.as_map().is_some() => {
                let map = std::sync::Arc::make_mut(map);
                for (name, schema) in inner.as_map().into_iter().flatten() {
                    if let Some(value) = map.get_mut(name) {
                        convert(value, schema);
                        normalize(value, schema);
                    }
                }
            }
            ("items", Value::List(list)) if inner.as_map().is_some() => {
                for value in std::sync::Arc::make_mut(list) {
                    convert(value, inner);
                    normalize(value, inner);
                }
            }
            _ => {}
        }
    }
}

fn convert(value: &mut Value, schema: &Value) {
    let Some(kind) = kind(value, schema) else { return };
    let converted = match kind {
        "string" => text(value).map(Value::from),
        "number" => float(value).map(Value::Float),
        "integer" => integer(value),
        "boolean" => boolean(value).map(Value::Bool),
        "array" if wraps(value, schema) => Some(Value::list(vec![value.clone()])),
        _ => None,
    };
    if let Some(converted) = converted {
        *value = converted;
    }
}

/// The one type that is wanted, null aside; `None` where there is nothing to convert to.
fn kind<'a>(value: &Value, schema: &'a Value) -> Option<&'a str> {
    match schema.get("type")? {
        Value::Str(kind) => (!(value.is_null() && kind.contains("null"))).then_some(kind),
        Value::List(kinds) => {
            let names = || kinds.iter().filter_map(Value::as_str);
            if value.is_null() && names().any(|kind| kind == "null") {
                return None;
            }
            let mut wanted = names().filter(|kind| *kind != "null");
            wanted.next().filter(|_| wanted.next().is_none())
        }
        _ => None,
    }
}

/// Whether a plain value becomes an array of one: unless arrays of objects or arrays are wanted.
fn wraps(value: &Value, schema: &Value) -> bool {
    let plain = |kind: &str| matches!(kind, "string" | "number" | "integer" | "boolean" | "null");
    let items = match schema.get("items").and_then(|items| items.get("type")) {
        None => true,
        // The reference takes a text apart into its letters here.
        Some(Value::Str(kind)) => kind.is_empty(),
        Some(Value::List(kinds)) => kinds.iter().all(|kind| kind.as_str().is_some_and(plain)),
        Some(_) => false,
    };
    items && !matches!(value, Value::Map(_) | Value::List(_))
}

/// Python's `float()`.
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
        Value::Int(int) => Some(*int as f64),
        Value::Big(digits) => digits.parse().ok(),
        Value::Float(float) => Some(*float),
        Value::Str(text) => number_text(text)?.parse().ok(),
        _ => None,
    }
}

/// Python's `int()`.
fn integer(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(bool) => Some(Value::Int(i64::from(*bool))),
        Value::Int(_) | Value::Big(_) => Some(value.clone()),
        // Beyond 2^63 the digits would be made up.
        Value::Float(float) if float.abs() < 9.2e18 => Some(Value::Int(float.trunc() as i64)),
        Value::Str(text) => {
            let digits = number_text(text)?;
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
            if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(digits.parse().map_or_else(|_| Value::Big(digits.trim_start_matches('+').into()), Value::Int))
        }
        _ => None,
    }
}

/// Without blanks around it and underscores between its digits.
fn number_text(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let between = |at: usize| digit(at.checked_sub(1)) && digit(at.checked_add(1));
    let stray = bytes.iter().enumerate().any(|(at, byte)| *byte == b'_' && !between(at));
    (!stray && !text.is_empty()).then(|| text.replace('_', ""))
}

/// Python's `bool()`, but for texts, which have to say it.
fn boolean(value: &Value) -> Option<bool> {
    let Value::Str(text) = value else { return Some(value.truthy()) };
    match text.to_lowercase().trim() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Some(true),
        "n" | "no" | "f" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Python's `str()`.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        value => {
            let (node, none) = (Node::root(value), Value::Null);
            Template::new(&node, &Node::root(&none)).and_then(|template| template.text(&Scope::default())).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::extract::stage::json;

    #[test]
    fn values_become_what_the_schema_says_where_they_can() {
        let schema = json(
            r#"{"type":"object","properties":{
                "i":{"type":["null","integer"]},"f":{"type":"number"},"b":{"type":"boolean"},"s":{"type":"string"},
                "l":{"type":"array"},"m":{"type":["string","integer"]},
                "o":{"type":"object","properties":{"i":{"type":"integer"}}},
                "a":{"type":["array","null"],"items":{"type":"integer"}}}}"#,
        );
        let normalized = |text: &str| {
            let mut value = json(text);
            super::normalize(&mut value, &schema);
            value.to_json()
        };
        assert_eq!(normalized(r#"{"i":"1_0","f":"1.5","b":"yes","s":"x"}"#), r#"{"i":10,"f":1.5,"b":true,"s":"x"}"#);
        assert_eq!(normalized(r#"{"i":1.9,"f":2,"b":0,"l":"x"}"#), r#"{"i":1,"f":2.0,"b":false,"l":["x"]}"#);
        assert_eq!(
            normalized(r#"{"i":"1.5","f":"x","b":"perhaps","i2":1}"#),
            r#"{"i":"1.5","f":"x","b":"perhaps","i2":1}"#
        );
        assert_eq!(normalized(r#"{"i":null,"f":null,"b":null,"m":1}"#), r#"{"i":null,"f":null,"b":false,"m":1}"#);
        assert_eq!(normalized(r#"{"o":{"i":"3"},"a":["4",true],"l":{}}"#), r#"{"o":{"i":3},"a":[4,1],"l":{}}"#);
        assert_eq!(normalized(r#"{"i":"99999999999999999999"}"#), r#"{"i":99999999999999999999}"#);
    }

    #[test]
    fn texts_of_other_values_are_written_as_python_writes_them() {
        let schema = json(r#"{"properties":{"s":{"type":"string"}}}"#);
        for (from, to) in
            [("1.0", "\"1.0\""), ("true", "\"True\""), ("null", "\"None\""), (r#"{"a":[1]}"#, r#""{'a': [1]}""#)]
        {
            let mut value = json(&format!(r#"{{"s":{from}}}"#));
            super::normalize(&mut value, &schema);
            assert_eq!(value.to_json(), format!(r#"{{"s":{to}}}"#));
        }
    }
}
