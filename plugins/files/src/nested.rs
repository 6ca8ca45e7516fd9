//! Arrow values of types that streams do not have to JSON text, or to plain text.
//!
//! Owns what lists, structs and maps look like as JSON. Pure.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, StringArray,
    builder::StringBuilder,
    cast::AsArray,
    types::{Float16Type, Float32Type, Float64Type, Int64Type},
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType as A, TimeUnit};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{kind::Kind, moment};

/// The type of a stream's field that holds a column of this Arrow type; JSON for nested values, text for the rest.
pub fn kind_of(arrow: &A) -> Kind {
    match arrow {
        A::Boolean => Kind::Boolean,
        A::Int8 | A::Int16 | A::Int32 | A::Int64 | A::UInt8 | A::UInt16 | A::UInt32 => Kind::Int64,
        A::UInt64 => Kind::Decimal(20, 0),
        A::Float16 | A::Float32 | A::Float64 => Kind::Float64,
        A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) if *s >= 0 => Kind::Decimal(*p, *s),
        A::Binary | A::LargeBinary | A::FixedSizeBinary(_) => Kind::Bytes,
        A::Date32 | A::Date64 => Kind::Date,
        A::Time32(_) | A::Time64(_) => Kind::Time,
        A::Timestamp(_, None) => Kind::Timestamp,
        A::Timestamp(_, Some(_)) => Kind::TimestampTz,
        A::List(_) | A::LargeList(_) | A::FixedSizeList(..) | A::Struct(_) | A::Map(..) => Kind::Json,
        _ => Kind::Text,
    }
}

/// A column of this type as it can cross to the host.
pub fn portable(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match kind_of(array.data_type()) {
        Kind::Json => json_column(array),
        Kind::Text if array.data_type() != &A::Utf8 => text_column(array),
        _ => Ok(Arc::clone(array)),
    }
}

fn text_column(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let text = |row| (!array.is_null(row)).then(|| formatter.value(row).try_to_string()).transpose();
    let column: StringArray = (0..array.len()).map(text).collect::<Result<_, _>>()?;
    Ok(Arc::new(column))
}

fn json_column(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut column = StringBuilder::with_capacity(array.len(), array.len() * 32);
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            column.append_null();
            continue;
        }
        text.clear();
        write(array.as_ref(), row, &mut text)?;
        column.append_value(&text);
    }
    Ok(Arc::new(column.finish()))
}

fn write(array: &dyn Array, row: usize, out: &mut String) -> Result<(), ArrowError> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        A::Null => out.push_str("null"),
        A::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members =
                fields.iter().zip(columns).map(|(field, column)| (field.name().as_str(), column.as_ref(), row));
            return object(members, out);
        }
        A::List(_) => return list(array.as_list::<i32>().value(row).as_ref(), out),
        A::LargeList(_) => return list(array.as_list::<i64>().value(row).as_ref(), out),
        A::FixedSizeList(..) => return list(array.as_fixed_size_list().value(row).as_ref(), out),
        A::Map(..) => {
            let entries = array.as_map().value(row);
            return map(entries.column(0).as_ref(), entries.column(1).as_ref(), out);
        }
        A::Float16 => number(f64::from(array.as_primitive::<Float16Type>().value(row)), out),
        A::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // Its own shortest form: 0.1, not 0.10000000149011612.
            if value.is_finite() { out.push_str(&value.to_string()) } else { out.push_str("null") }
        }
        A::Float64 => number(array.as_primitive::<Float64Type>().value(row), out),
        A::Binary => string(&STANDARD.encode(array.as_binary::<i32>().value(row)), out),
        A::LargeBinary => string(&STANDARD.encode(array.as_binary::<i64>().value(row)), out),
        A::FixedSizeBinary(_) => string(&STANDARD.encode(array.as_fixed_size_binary().value(row)), out),
        A::Timestamp(unit, zone) => string(&timestamp(array, row, *unit, zone.is_some())?, out),
        kind => {
            let text = ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).try_to_string()?;
            let bare = kind.is_integer() || kind == &A::Boolean || kind.is_decimal();
            if bare { out.push_str(&text) } else { string(&text, out) }
        }
    }
    Ok(())
}

/// ISO 8601. Parquet's instants have the zone "UTC", which Arrow's formatter knows only with a table of zones.
fn timestamp(array: &dyn Array, row: usize, unit: TimeUnit, zone: bool) -> Result<String, ArrowError> {
    let value = arrow_cast::cast(&array.slice(row, 1), &A::Int64)?.as_primitive::<Int64Type>().value(0);
    let (micros, nanos) = match unit {
        TimeUnit::Second => (value.checked_mul(1_000_000), 0),
        TimeUnit::Millisecond => (value.checked_mul(1_000), 0),
        TimeUnit::Microsecond => (Some(value), 0),
        TimeUnit::Nanosecond => (Some(value.div_euclid(1_000)), value.rem_euclid(1_000)),
    };
    // Beyond 292,000 years there is no calendar: the bare number, then.
    let Some(micros) = micros else { return Ok(value.to_string()) };
    let text = moment::timestamp_text(micros, zone);
    if nanos == 0 {
        return Ok(text);
    }
    let end = if zone { "Z" } else { "" };
    Ok(format!("{}{nanos:03}{end}", text.trim_end_matches('Z')))
}

fn number(value: f64, out: &mut String) {
    // JSON has no NaN and no infinities.
    if value.is_finite() { out.push_str(&value.to_string()) } else { out.push_str("null") }
}

fn string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn list(items: &dyn Array, out: &mut String) -> Result<(), ArrowError> {
    out.push('[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(',');
        }
        write(items, row, out)?;
    }
    out.push(']');
    Ok(())
}

fn object<'a>(
    members: impl Iterator<Item = (&'a str, &'a dyn Array, usize)>,
    out: &mut String,
) -> Result<(), ArrowError> {
    out.push('{');
    for (at, (name, value, row)) in members.enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(name, out);
        out.push(':');
        write(value, row, out)?;
    }
    out.push('}');
    Ok(())
}

/// An object by the text of the keys.
fn map(keys: &dyn Array, values: &dyn Array, out: &mut String) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(keys, &options)?;
    let names = (0..keys.len()).map(|row| formatter.value(row).try_to_string()).collect::<Result<Vec<_>, _>>()?;
    object(names.iter().enumerate().map(|(row, name)| (name.as_str(), values, row)), out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{
        Date32Array, DurationSecondArray, Float64Array, Int64Array, StructArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray,
        builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder},
    };
    use arrow_schema::Field;

    use super::*;

    #[test]
    fn nested_values_become_json() {
        let mut lists = ListBuilder::new(Int64Builder::new());
        lists.append_value([Some(1), None]);
        lists.append_null();
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        maps.keys().append_value("k\"");
        maps.values().append_value(7);
        maps.append(true).unwrap();
        maps.append(true).unwrap();
        let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
            (Arc::new(Field::new("n", A::Float64, true)), Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
            (Arc::new(Field::new("t", A::Utf8, true)), Arc::new(StringArray::from(vec![Some("é\n"), None]))),
        ];
        let structs: ArrayRef = Arc::new(StructArray::from(columns));
        let text = |array: ArrayRef| -> Vec<Option<String>> {
            portable(&array).unwrap().as_string::<i32>().iter().map(|text| text.map(String::from)).collect()
        };
        assert_eq!(text(Arc::new(lists.finish())), [Some("[1,null]".to_owned()), None]);
        assert_eq!(text(Arc::new(maps.finish())), [Some("{\"k\\\"\":7}".to_owned()), Some("{}".to_owned())]);
        assert_eq!(text(structs), [Some("{\"n\":null,\"t\":\"é\\n\"}".into()), Some("{\"n\":0.5,\"t\":null}".into())]);
    }

    #[test]
    fn nested_times_are_iso_8601() {
        let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000_000_007]).with_timezone("UTC"));
        let local: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-1]));
        let huge: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![19_753]));
        let columns = [("a", nanos), ("b", local), ("c", huge), ("d", days)];
        let columns: Vec<(Arc<Field>, ArrayRef)> =
            columns.map(|(name, a)| (Arc::new(Field::new(name, a.data_type().clone(), true)), a)).into();
        let array: ArrayRef = Arc::new(StructArray::from(columns));
        let text = portable(&array).unwrap().as_string::<i32>().value(0).to_owned();
        let (a, b) = ("1970-01-01T00:00:01.000000007Z", "1969-12-31T23:59:59.999000");
        assert_eq!(text, format!(r#"{{"a":"{a}","b":"{b}","c":"9223372036854775807","d":"2024-01-31"}}"#));
    }

    #[test]
    fn other_types_become_text_and_ours_stay() {
        let duration: ArrayRef = Arc::new(DurationSecondArray::from(vec![90]));
        assert_eq!(portable(&duration).unwrap().as_string::<i32>().value(0), "PT90S");
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(portable(&numbers).unwrap().data_type(), &A::Int64);
    }
}
