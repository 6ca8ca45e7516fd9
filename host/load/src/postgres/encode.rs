//! Encodes Arrow columns as the rows of a binary COPY. Pure.
//!
//! The server checks little of what it is sent in this form, so each value must be what its column holds: refused rows
//! were left out long before.

use arrow_array::{
    Array, BinaryArray, BooleanArray, RecordBatch, StringArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType},
};
use thimble_record::DataType;

use super::numeric;

/// Begins a COPY: signature, flags, length of an extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Ends a COPY.
pub(super) const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// Days from 1970-01-01 to the server's epoch, 2000-01-01.
pub(super) const EPOCH_DAYS: i32 = 10_957;

/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// The version of `jsonb` in binary form.
const JSONB_VERSION: u8 = 1;

/// One column of a batch, ready to be read row by row.
struct Column<'a> {
    values: Values<'a>,
    /// Whether it holds any null at all; most do not.
    nulls: Option<&'a dyn Array>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int64(&'a [i64]),
    Float64(&'a [f64]),
    Decimal(&'a [i128], i8),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64]),
}

/// The columns of a batch, in the order of a COPY's.
pub(super) struct Rows<'a> {
    columns: Vec<Column<'a>>,
    head: [u8; 2],
}

impl<'a> Rows<'a> {
    /// Takes a batch whose columns have the Arrow types of `types`.
    ///
    /// # Errors
    /// The place of a column that has another.
    pub(super) fn new(batch: &'a RecordBatch, types: &[DataType]) -> Result<Self, usize> {
        let columns = batch.columns().iter().zip(types).enumerate();
        let columns = columns.map(|(at, (array, data_type))| column(array.as_ref(), *data_type).ok_or(at));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let count = u16::try_from(columns.len()).expect("a table has at most 1,600 columns");
        Ok(Self { columns, head: count.to_be_bytes() })
    }

    /// Appends one row.
    pub(super) fn encode(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        for column in &self.columns {
            if column.nulls.is_some_and(|array| array.is_null(row)) {
                out.extend_from_slice(&NULL);
            } else {
                column.values.encode(row, out);
            }
        }
    }
}

fn column(array: &dyn Array, data_type: DataType) -> Option<Column<'_>> {
    let values = match data_type {
        DataType::Boolean => Values::Boolean(array.as_boolean_opt()?),
        DataType::Int64 => Values::Int64(array.as_primitive_opt::<Int64Type>()?.values()),
        DataType::Float64 => Values::Float64(array.as_primitive_opt::<Float64Type>()?.values()),
        DataType::Decimal(_, scale) => Values::Decimal(array.as_primitive_opt::<Decimal128Type>()?.values(), scale),
        DataType::Text => Values::Text(array.as_string_opt()?),
        DataType::Json => Values::Json(array.as_string_opt()?),
        DataType::Bytes => Values::Bytes(array.as_binary_opt()?),
        DataType::Date => Values::Date(array.as_primitive_opt::<Date32Type>()?.values()),
        DataType::Time => Values::Time(array.as_primitive_opt::<Time64MicrosecondType>()?.values()),
        DataType::Timestamp | DataType::TimestampTz => {
            Values::Timestamp(array.as_primitive_opt::<TimestampMicrosecondType>()?.values())
        }
    };
    Some(Column { values, nulls: (array.null_count() > 0).then_some(array) })
}

impl Values<'_> {
    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(array) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(array.value(row))]),
            Self::Int64(values) | Self::Time(values) => eight(values[row].to_be_bytes(), out),
            Self::Float64(values) => eight(values[row].to_be_bytes(), out),
            Self::Timestamp(values) => eight(values[row].wrapping_sub(EPOCH_MICROS).to_be_bytes(), out),
            Self::Date(values) => {
                let days = values[row].wrapping_sub(EPOCH_DAYS).to_be_bytes();
                out.extend_from_slice(&[0, 0, 0, 4, days[0], days[1], days[2], days[3]]);
            }
            Self::Decimal(values, scale) => numeric::encode(values[row], *scale, out),
            Self::Text(array) => bytes(array.value(row).as_bytes(), out),
            Self::Bytes(array) => bytes(array.value(row), out),
            Self::Json(array) => {
                let text = array.value(row).as_bytes();
                length(text.len() + 1, out);
                out.push(JSONB_VERSION);
                out.extend_from_slice(text);
            }
        }
    }
}

fn eight(value: [u8; 8], out: &mut Vec<u8>) {
    let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend_from_slice(value);
}

fn length(length: usize, out: &mut Vec<u8>) {
    // Arrow's offsets have 31 bits, and longer values are refused anyway.
    out.extend_from_slice(&(length as u32).to_be_bytes());
}
