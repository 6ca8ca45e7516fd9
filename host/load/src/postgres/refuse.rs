//! Rows that the database cannot hold. Pure, and quick where there are none: what is let through here must load.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Time64MicrosecondType, TimestampMicrosecondType},
};
use arrow_cast::{CastOptions, cast_with_options};
use thimble_record::{DataType, StreamSchema};

use super::{
    encode::{EPOCH_DAYS, EPOCH_MICROS},
    json,
};
use crate::{
    destination::Refusal,
    limits::{KEY_BYTES, PAGE_ROW_BYTES, ROW_BYTES, VALUE_BYTES},
};

/// The first day of the server's `date`, in days since 1970; 4714-11-24 BC.
const FIRST_DAY: i32 = EPOCH_DAYS - 2_451_545;

/// The first day after its last, 5874897-12-31.
const DAYS_END: i32 = EPOCH_DAYS + 2_145_031_949;

/// The first microsecond of its `timestamp`, since 1970. Its last is beyond what 64 bits hold since 1970.
const FIRST_MICROSECOND: i64 = EPOCH_MICROS - 211_813_488_000_000_000;

/// The last microsecond of its `time`, 24:00.
const LAST_OF_DAY: i64 = 86_400_000_000;

/// Bytes on the page of a value that is stored elsewhere; shorter values never are.
const POINTER_BYTES: usize = 24;

/// The refused rows, by place.
type Refused = BTreeMap<usize, Refusal>;

/// See [`Destination::refuse`](crate::Destination::refuse).
pub(super) fn refuse(schema: &StreamSchema, rows: &RecordBatch) -> Vec<Refusal> {
    let mut refused = Refused::new();
    let mut columns = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        let Some(array) = rows.column_by_name(&field.name) else { continue };
        let Some(array) = typed(array, field.data_type) else { continue };
        column(&mut refused, &field.name, field.data_type, array.as_ref());
        columns.push((field.data_type, array));
    }
    whole_rows(&mut refused, &columns, rows.num_rows());
    refused.into_values().collect()
}

/// Keys that the server cannot index.
pub(super) fn refuse_keys(key: &[String], rows: &RecordBatch) -> Vec<Refusal> {
    let columns: Vec<&ArrayRef> = key.iter().filter_map(|name| rows.column_by_name(name)).collect();
    // Each of the others has at most 24 bytes.
    if columns.iter().map(|array| longest(array)).sum::<usize>() <= KEY_BYTES {
        return Vec::new();
    }
    let mut refused = Refused::new();
    for row in 0..rows.num_rows() {
        let bytes: usize = columns.iter().map(|array| length(array, row).unwrap_or(POINTER_BYTES)).sum();
        if bytes > KEY_BYTES {
            let says = format!("its key {key:?} has {bytes} bytes, of which an index takes {KEY_BYTES}");
            refused.insert(row, Refusal { row, reason: "key-too-large", message: says });
        }
    }
    refused.into_values().collect()
}

/// An upper bound of the values' bytes.
fn longest(array: &ArrayRef) -> usize {
    match (array.as_string_opt::<i32>(), array.as_binary_opt::<i32>()) {
        (Some(array), _) => array.value_data().len(),
        (_, Some(array)) => array.value_data().len(),
        _ => POINTER_BYTES,
    }
}

/// The bytes of a value of changing length.
fn length(array: &ArrayRef, row: usize) -> Option<usize> {
    if let Some(array) = array.as_string_opt::<i32>() {
        return Some(array.value_length(row) as usize);
    }
    array.as_binary_opt::<i32>().map(|array| array.value_length(row) as usize)
}

fn typed(array: &ArrayRef, data_type: DataType) -> Option<Cow<'_, ArrayRef>> {
    let wanted = data_type.to_arrow();
    if *array.data_type() == wanted {
        return Some(Cow::Borrowed(array));
    }
    cast_with_options(array, &wanted, &CastOptions::default()).ok().map(Cow::Owned)
}

fn column(refused: &mut Refused, name: &str, data_type: DataType, array: &dyn Array) {
    match data_type {
        DataType::Boolean | DataType::Int64 | DataType::Float64 => {}
        DataType::Text => text(refused, name, array),
        DataType::Json => documents(refused, name, array),
        DataType::Bytes => {
            let array = array.as_binary::<i32>();
            too_long(refused, name, array.value_data().len(), array.len(), |row| array.value_length(row));
        }
        DataType::Date => {
            let values = array.as_primitive::<Date32Type>().values();
            let bad = |row: usize| !(FIRST_DAY..DAYS_END).contains(&values[row]);
            range(
                refused,
                name,
                array,
                bad,
                "date-out-of-range",
                "holds a date that is not between 4714 BC and 5874897",
            );
        }
        DataType::Time => {
            let values = array.as_primitive::<Time64MicrosecondType>().values();
            let bad = |row: usize| !(0..=LAST_OF_DAY).contains(&values[row]);
            range(refused, name, array, bad, "time-out-of-range", "holds a time that is not between 00:00 and 24:00");
        }
        DataType::Timestamp | DataType::TimestampTz => {
            let values = array.as_primitive::<TimestampMicrosecondType>().values();
            let bad = |row: usize| values[row] < FIRST_MICROSECOND;
            range(refused, name, array, bad, "timestamp-out-of-range", "holds an instant before 4714 BC");
        }
        DataType::Decimal(precision, _) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            let end = 10u128.saturating_pow(precision.into());
            let bad = |row: usize| values[row].unsigned_abs() >= end;
            range(refused, name, array, bad, "decimal-out-of-range", "holds a number with more digits than its type");
        }
    }
}

fn refuse_row(refused: &mut Refused, row: usize, reason: &'static str, name: &str, says: &str) {
    let message = format!("field {name:?} {says}");
    refused.entry(row).or_insert(Refusal { row, reason, message });
}

fn range(
    refused: &mut Refused,
    name: &str,
    array: &dyn Array,
    bad: impl Fn(usize) -> bool,
    reason: &'static str,
    says: &str,
) {
    for row in (0..array.len()).filter(|row| bad(*row)) {
        if array.is_valid(row) {
            refuse_row(refused, row, reason, name, says);
        }
    }
}

fn text(refused: &mut Refused, name: &str, array: &dyn Array) {
    let array = array.as_string::<i32>();
    too_long(refused, name, array.value_data().len(), array.len(), |row| array.value_length(row));
    // One look over all values, which mostly have none.
    if !array.value_data().contains(&0) {
        return;
    }
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        if array.value(row).as_bytes().contains(&0) {
            refuse_row(refused, row, "nul-in-text", name, "holds text with a NUL character, which text cannot hold");
        }
    }
}

fn documents(refused: &mut Refused, name: &str, array: &dyn Array) {
    let array = array.as_string::<i32>();
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        if let Err(fault) = json::check(array.value(row)) {
            refuse_row(refused, row, fault.reason(), name, &fault.says());
        }
    }
}

fn too_long(refused: &mut Refused, name: &str, all: usize, rows: usize, length: impl Fn(usize) -> i32) {
    if all <= VALUE_BYTES {
        return;
    }
    for row in (0..rows).filter(|row| length(*row) as usize > VALUE_BYTES) {
        refuse_row(refused, row, "value-too-large", name, "holds a value of more than 256 MiB");
    }
}

/// Rows that are too large as a whole: on their page, with each long value stored elsewhere, or in memory.
fn whole_rows(refused: &mut Refused, columns: &[(DataType, Cow<'_, ArrayRef>)], rows: usize) {
    let worst: usize =
        columns.iter().map(|(data_type, _)| width(*data_type).map_or(POINTER_BYTES, |fixed| 2 * fixed)).sum();
    let data: usize = columns.iter().map(|(_, array)| longest(array)).sum();
    if worst <= PAGE_ROW_BYTES && data <= ROW_BYTES {
        return;
    }
    for row in 0..rows {
        let (mut on_page, mut in_memory) = (0usize, 0);
        for (data_type, array) in columns.iter().filter(|(_, array)| array.is_valid(row)) {
            match width(*data_type) {
                Some(fixed) => on_page = on_page.next_multiple_of(fixed) + fixed,
                None => {
                    let length = length(array, row).unwrap_or(POINTER_BYTES);
                    in_memory += length;
                    on_page += (length + 1).min(POINTER_BYTES);
                }
            }
        }
        if on_page > PAGE_ROW_BYTES || in_memory > ROW_BYTES {
            let says = format!(
                "its {} values that are not null need {on_page} bytes of the page that a row must fit in, of which \
                 there are {PAGE_ROW_BYTES}, and {in_memory} bytes in memory",
                columns.iter().filter(|(_, array)| array.is_valid(row)).count()
            );
            refused.entry(row).or_insert(Refusal { row, reason: "row-too-large", message: says });
        }
    }
}

/// The bytes of a value and the multiple that it begins at; `None` where values have lengths of their own.
fn width(data_type: DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(1),
        DataType::Date => Some(4),
        DataType::Int64 | DataType::Float64 | DataType::Time | DataType::Timestamp | DataType::TimestampTz => Some(8),
        DataType::Decimal(..) | DataType::Text | DataType::Bytes | DataType::Json => None,
    }
}

/// Text as the rejected-records table can hold it: it says what was wrong, and that may be a NUL.
pub(super) fn without_nul(array: &ArrayRef) -> ArrayRef {
    match array.as_string_opt::<i32>() {
        Some(texts) if texts.value_data().contains(&0) => {
            let shown = texts.iter().map(|text| text.map(|text| text.replace('\0', "\u{2400}")));
            Arc::new(shown.collect::<arrow_array::StringArray>())
        }
        _ => Arc::clone(array),
    }
}
