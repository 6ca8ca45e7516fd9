//! From a JSON Schema to the host's fields.

use thimble_sdk::{DataType, Field};

use crate::value::Value;

/// The fields of a stream, in the order of the schema's properties.
pub fn fields(schema: &Value) -> Vec<Field> {
    let properties = schema.get("properties").and_then(Value::as_map);
    properties.into_iter().flatten().map(|(name, schema)| Field::new(name, data_type(schema))).collect()
}

/// What kinds of values a schema allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Plain(DataType),
    Nested,
}

fn data_type(schema: &Value) -> DataType {
    let mut kinds = Vec::new();
    collect(schema, 0, &mut kinds);
    kinds.retain(|kind| *kind != Kind::Null);
    let first = kinds.first().copied();
    kinds.into_iter().map(Some).fold(first, together).map_or(DataType::Json, |kind| match kind {
        Kind::Plain(data_type) => data_type,
        // All that is known is that it may be null.
        Kind::Nested | Kind::Null => DataType::Json,
    })
}

/// The narrowest kind that holds both.
fn together(one: Option<Kind>, other: Option<Kind>) -> Option<Kind> {
    use DataType as T;
    let (one, other) = (one?, other?);
    Some(match (one, other) {
        _ if one == other => one,
        (Kind::Plain(T::Int64), Kind::Plain(T::Float64)) | (Kind::Plain(T::Float64), Kind::Plain(T::Int64)) => {
            Kind::Plain(T::Float64)
        }
        (Kind::Plain(_), Kind::Plain(_)) => Kind::Plain(T::Text),
        _ => Kind::Nested,
    })
}

fn collect(schema: &Value, depth: usize, kinds: &mut Vec<Kind>) {
    /// Of schemas inside of schemas that stand for one value.
    const DEEPEST: usize = 8;
    if depth > DEEPEST {
        return kinds.push(Kind::Nested);
    }
    match schema.get("type") {
        Some(Value::Str(name)) => kinds.push(kind(name, schema)),
        Some(Value::List(names)) => kinds.extend(names.iter().filter_map(Value::as_str).map(|name| kind(name, schema))),
        _ => {
            let choices = ["oneOf", "anyOf", "allOf"].iter().filter_map(|key| schema.get(key)?.as_list()).flatten();
            choices.for_each(|choice| collect(choice, depth + 1, kinds));
            if kinds.is_empty() {
                kinds.extend(untyped(schema));
            }
        }
    }
}

/// Of a schema that names no type.
fn untyped(schema: &Value) -> Vec<Kind> {
    if schema.get("properties").or_else(|| schema.get("items")).is_some() {
        return vec![Kind::Nested];
    }
    let constant = schema.get("const").map(std::slice::from_ref);
    let values = schema.get("enum").and_then(Value::as_list).or(constant).unwrap_or_default();
    values
        .iter()
        .map(|value| match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Plain(DataType::Boolean),
            Value::Int(_) => Kind::Plain(DataType::Int64),
            Value::Big(_) | Value::Float(_) => Kind::Plain(DataType::Float64),
            Value::Str(_) => Kind::Plain(DataType::Text),
            Value::List(_) | Value::Map(_) => Kind::Nested,
        })
        .collect()
}

fn kind(name: &str, schema: &Value) -> Kind {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let airbyte = text("airbyte_type");
    Kind::Plain(match name {
        "null" => return Kind::Null,
        "boolean" => DataType::Boolean,
        "integer" if airbyte == "big_integer" => DataType::Decimal(38, 0),
        "integer" => DataType::Int64,
        "number" if airbyte == "integer" => DataType::Int64,
        "number" => DataType::Float64,
        "string" => match (text("format"), airbyte) {
            ("date-time" | "datetime" | "timestamp", "timestamp_without_timezone") => DataType::Timestamp,
            ("date-time" | "datetime" | "timestamp", _) => DataType::TimestampTz,
            ("date", _) => DataType::Date,
            ("time", "time_without_timezone") => DataType::Time,
            (_, "big_integer") => DataType::Decimal(38, 0),
            _ => DataType::Text,
        },
        _ => return Kind::Nested,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::stage::json;

    #[test]
    fn types_are_mapped_in_the_order_of_the_schema() {
        let schema = json(
            r#"{"properties":{
            "id":{"type":"integer"},"n":{"type":["null","number"]},"s":{"type":["string","null"]},"b":{"type":"boolean"},
            "at":{"type":["null","string"],"format":"date-time"},
            "local":{"type":"string","format":"date-time","airbyte_type":"timestamp_without_timezone"},
            "day":{"type":"string","format":"date"},"o":{"type":"object"},"l":{"type":["null","array"]},
            "mixed":{"type":["null","string","integer"]},"num":{"type":["integer","number"]},
            "any":{},"nested":{"type":["string","object"]},"only_null":{"type":"null"},
            "one":{"oneOf":[{"type":"integer"},{"type":"null"}]},"enum":{"enum":["a","b",null]},"big":{"type":"integer","airbyte_type":"big_integer"}}}"#,
        );
        use DataType as T;
        let found: Vec<_> = fields(&schema).into_iter().map(|field| (field.name, field.data_type)).collect();
        let expected = [
            ("id", T::Int64),
            ("n", T::Float64),
            ("s", T::Text),
            ("b", T::Boolean),
            ("at", T::TimestampTz),
            ("local", T::Timestamp),
            ("day", T::Date),
            ("o", T::Json),
            ("l", T::Json),
            ("mixed", T::Text),
            ("num", T::Float64),
            ("any", T::Json),
            ("nested", T::Json),
            ("only_null", T::Json),
            ("one", T::Int64),
            ("enum", T::Text),
            ("big", T::Decimal(38, 0)),
        ];
        assert_eq!(found, expected.map(|(name, data_type)| (name.to_owned(), data_type)));
    }

    #[test]
    fn a_stream_without_a_schema_has_no_fields_yet() {
        assert!(fields(&json("{}")).is_empty());
        assert!(fields(&json(r#"{"properties":null}"#)).is_empty());
    }
}
