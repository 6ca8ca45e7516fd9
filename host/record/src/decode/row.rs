//! One row of a batch back to a JSON object, for the record of a row that a destination cannot hold.
//!
//! The decoder reads the object back to the same values, given the same schema. Nulls are left out. Texts of JSON columns
//! stand as they are (as a string, where they are no JSON). Bytes stand as text where they are UTF-8, otherwise as `\x` and
//! hexadecimal digits; doubles that are no number as `"NaN"`, `"Infinity"` and `"-Infinity"`; years beyond four digits with
//! their sign.

use std::{fmt::Write, sync::Arc};

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType},
};
use serde_json::value::RawValue;

use super::scalar;
use crate::schema::{DataType, Field};

/// One row as a JSON object. Columns of types that no stream has are left out.
pub fn row_json(batch: &RecordBatch, row: usize) -> String {
    let mut json = String::from("{");
    for (arrow_field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let Some(Field { name, data_type, .. }) = Field::from_arrow(arrow_field) else { continue };
        let cell = array.slice(row, 1);
        let Some(cell) = normal(&cell, data_type).filter(|cell| cell.is_valid(0)) else { continue };
        if json.len() > 1 {
            json.push(',');
        }
        quoted(&mut json, &name);
        json.push(':');
        value(&mut json, &cell, data_type);
    }
    json.push('}');
    json
}

fn normal(cell: &ArrayRef, data_type: DataType) -> Option<ArrayRef> {
    let arrow = data_type.to_arrow();
    if cell.data_type() == &arrow { Some(Arc::clone(cell)) } else { arrow_cast::cast(cell, &arrow).ok() }
}

fn quoted(json: &mut String, text: &str) {
    json.push_str(&serde_json::to_string(text).expect("every text has a JSON form"));
}

fn value(json: &mut String, cell: &ArrayRef, data_type: DataType) {
    match data_type {
        DataType::Boolean => json.push_str(if cell.as_boolean().value(0) { "true" } else { "false" }),
        DataType::Int64 => put(json, cell.as_primitive::<Int64Type>().value(0)),
        DataType::Float64 => double(json, cell.as_primitive::<Float64Type>().value(0)),
        DataType::Decimal(_, scale) => {
            json.push_str(&scalar::decimal_text(cell.as_primitive::<Decimal128Type>().value(0), scale));
        }
        DataType::Text => quoted(json, cell.as_string::<i32>().value(0)),
        DataType::Json => match cell.as_string::<i32>().value(0) {
            text if serde_json::from_str::<&RawValue>(text).is_ok() => json.push_str(text),
            text => quoted(json, text),
        },
        DataType::Bytes => bytes(json, cell.as_binary::<i32>().value(0)),
        DataType::Date => quoted(json, &scalar::date_text(cell.as_primitive::<Date32Type>().value(0).into())),
        DataType::Time => match scalar::time_text(cell.as_primitive::<Time64MicrosecondType>().value(0)) {
            Ok(text) => quoted(json, &text),
            Err(beyond) => put(json, beyond),
        },
        DataType::Timestamp | DataType::TimestampTz => {
            let mut text = scalar::timestamp_text(cell.as_primitive::<TimestampMicrosecondType>().value(0));
            if data_type == DataType::TimestampTz {
                text.push('Z');
            }
            quoted(json, &text);
        }
    }
}

fn put(json: &mut String, number: i64) {
    write!(json, "{number}").expect("writing to a string never fails");
}

fn double(json: &mut String, number: f64) {
    match number {
        n if n.is_nan() => json.push_str("\"NaN\""),
        f64::INFINITY => json.push_str("\"Infinity\""),
        f64::NEG_INFINITY => json.push_str("\"-Infinity\""),
        // The debug form always has a point or an exponent, so that it is read back as a double.
        n => write!(json, "{n:?}").expect("writing to a string never fails"),
    }
}

/// Text that itself begins with `\x` is written in hexadecimal too, so that it is not taken for it.
fn bytes(json: &mut String, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("\\x") => quoted(json, text),
        _ => quoted(json, &format!("\\x{}", hex::encode(bytes))),
    }
}
