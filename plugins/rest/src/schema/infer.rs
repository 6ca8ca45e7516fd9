//! A JSON Schema that fits records, for people who write a manifest.

use indexmap::IndexMap;

use crate::{
    limits::{MAX_DEPTH, MAX_INFERRED_PROPERTIES},
    value::{Map, Value},
};

/// What was seen in one place.
#[derive(Debug, Default)]
struct Seen {
    null: bool,
    boolean: bool,
    integer: bool,
    number: bool,
    /// The format that all texts so far have in common.
    text: Option<Format>,
    properties: Option<IndexMap<String, Seen>>,
    items: Option<Box<Seen>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    None,
    Date,
    DateTime,
}

/// The schema of an object that has all properties of all records, each of which may be missing or null.
pub fn infer<'a>(records: impl IntoIterator<Item = &'a Value>) -> Value {
    let (mut seen, mut left) = (Seen::default(), MAX_INFERRED_PROPERTIES);
    records.into_iter().for_each(|record| seen.add(record, 0, &mut left));
    let mut schema = Map::from_iter([
        ("$schema".to_owned(), Value::str("http://json-schema.org/draft-07/schema#")),
        ("type".to_owned(), Value::str("object")),
    ]);
    schema.insert("properties".into(), properties(seen.properties.unwrap_or_default()));
    schema.insert("additionalProperties".into(), Value::Bool(true));
    Value::map(schema)
}

impl Seen {
    /// `left`: how many properties more may be taken in.
    fn add(&mut self, value: &Value, depth: usize, left: &mut usize) {
        match value {
            Value::Null => self.null = true,
            Value::Bool(_) => self.boolean = true,
            Value::Int(_) => self.integer = true,
            Value::Big(_) | Value::Float(_) => self.number = true,
            Value::Str(text) => {
                let format = format(text);
                self.text = Some(if self.text.is_none_or(|known| known == format) { format } else { Format::None });
            }
            Value::List(list) => {
                let items = self.items.get_or_insert_default();
                if depth < MAX_DEPTH {
                    list.iter().for_each(|item| items.add(item, depth + 1, left));
                }
            }
            Value::Map(map) => {
                let known = self.properties.get_or_insert_default();
                for (name, value) in map.iter().filter(|_| depth < MAX_DEPTH) {
                    if !known.contains_key(name) {
                        if *left == 0 {
                            continue;
                        }
                        *left -= 1;
                    }
                    known.entry(name.clone()).or_default().add(value, depth + 1, left);
                }
            }
        }
    }

    fn schema(self) -> Value {
        let mut names = Vec::new();
        let mut schema = Map::from_iter([("type".to_owned(), Value::Null)]);
        if self.properties.is_some() {
            names.push("object");
        }
        if self.items.is_some() {
            names.push("array");
        }
        match (self.integer, self.number) {
            (_, true) => names.push("number"),
            (true, false) => names.push("integer"),
            _ => {}
        }
        if self.boolean {
            names.push("boolean");
        }
        match self.text {
            None => {}
            Some(format) => {
                names.push("string");
                let format = match format {
                    Format::None => None,
                    Format::Date => Some("date"),
                    Format::DateTime => Some("date-time"),
                };
                schema.extend(format.map(|format| ("format".to_owned(), Value::str(format))));
            }
        }
        names.push("null");
        schema.insert("type".into(), Value::list(names.into_iter().map(Value::str).collect()));
        if let Some(inner) = self.properties {
            schema.insert("properties".into(), properties(inner));
        }
        if let Some(items) = self.items {
            schema.insert("items".into(), items.schema());
        }
        Value::map(schema)
    }
}

fn properties(seen: IndexMap<String, Seen>) -> Value {
    Value::map(seen.into_iter().map(|(name, seen)| (name, seen.schema())).collect())
}

/// Dates as ISO 8601 writes them.
fn format(text: &str) -> Format {
    let digits = |from: usize, to: usize| text.as_bytes()[from..to].iter().all(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let date =
        bytes.len() >= 10 && digits(0, 4) && bytes[4] == b'-' && digits(5, 7) && bytes[7] == b'-' && digits(8, 10);
    match bytes {
        _ if !date => Format::None,
        [_, _, _, _, _, _, _, _, _, _] => Format::Date,
        [.., b'Z'] if clock(&bytes[10..]) => Format::DateTime,
        _ if clock(&bytes[10..]) && bytes[16..].iter().any(|byte| matches!(byte, b'+' | b'-')) => Format::DateTime,
        _ => Format::None,
    }
}

/// `THH:MM` and whatever follows.
fn clock(rest: &[u8]) -> bool {
    matches!(rest, [b'T' | b' ', a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::stage::json;

    #[test]
    fn all_records_count() {
        let records = [
            json(
                r#"{"id":1,"at":"2024-01-02T03:04:05Z","day":"2024-01-02","x":1,"o":{"a":1},"l":[{"b":true}],"s":"2024"}"#,
            ),
            json(r#"{"id":2,"at":"2024-01-02T03:04:05+01:00","day":"never","x":1.5,"o":{"c":null},"l":[1],"new":"y"}"#),
        ];
        let schema = infer(&records);
        let property = |name: &str| schema.get("properties").and_then(|all| all.get(name)).map(Value::to_json);
        let property = |name: &str| property(name).unwrap_or_default();
        assert_eq!(property("id"), r#"{"type":["integer","null"]}"#);
        assert_eq!(property("at"), r#"{"type":["string","null"],"format":"date-time"}"#);
        assert_eq!(property("day"), r#"{"type":["string","null"]}"#);
        assert_eq!(property("x"), r#"{"type":["number","null"]}"#);
        assert_eq!(property("s"), r#"{"type":["string","null"]}"#);
        assert_eq!(
            property("o"),
            r#"{"type":["object","null"],"properties":{"a":{"type":["integer","null"]},"c":{"type":["null"]}}}"#
        );
        assert!(property("l").contains(r#""items":{"type":["object","integer","null"]"#));
    }

    #[test]
    fn properties_over_the_limit_are_left_out() {
        let many = (0..=MAX_INFERRED_PROPERTIES).map(|at| (format!("p{at}"), Value::Null));
        let schema = infer(&[Value::map(many.collect())]);
        let properties = schema.get("properties").and_then(Value::as_map).map(Map::len);
        assert_eq!(properties, Some(MAX_INFERRED_PROPERTIES));
    }
}
