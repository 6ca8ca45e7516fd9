//! One column under construction, from JSON values.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
        Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    },
    cast::AsArray,
    types::Int64Type,
};
use std::borrow::Cow;

use super::scalar;
use crate::schema::DataType;

/// Greatest integer up to which every integer is a double.
pub const EXACT_DOUBLE: i64 = 1 << 53;

enum Builder {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Ok,
    /// It does not fit the column's type.
    Conflict,
    /// The text cannot be represented (a lone surrogate): the record is to be rejected.
    InvalidText,
}

pub struct Column {
    data_type: DataType,
    builder: Builder,
    len: usize,
    /// Whether every integer so far is exact as a double.
    exact: bool,
}

/// A JSON value by its first byte; the text is valid JSON.
pub enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// Still quoted and escaped.
    String(&'a str),
    Nested(&'a str),
}

impl<'a> Value<'a> {
    pub fn of(raw: &'a str) -> Self {
        match raw.as_bytes()[0] {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::String(raw),
            b'{' | b'[' => Self::Nested(raw),
            _ => Self::Number(raw),
        }
    }

    /// The type of a column made for this value; `None` for null.
    pub fn infer(&self) -> Option<DataType> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(_) => DataType::Boolean,
            Self::String(_) => DataType::Text,
            Self::Nested(_) => DataType::Json,
            Self::Number(text) if text.parse::<i64>().is_ok() => DataType::Int64,
            Self::Number(text) if is_integer(text) => {
                if scalar::decimal(text, 38, 0).is_some() {
                    DataType::Decimal(38, 0)
                } else {
                    DataType::Text
                }
            }
            Self::Number(text) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => DataType::Float64,
                _ => DataType::Text,
            },
        })
    }
}

fn is_integer(text: &str) -> bool {
    !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'))
}

/// The text of a JSON string; `None` for lone surrogates.
pub fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

impl Column {
    pub fn new(data_type: DataType) -> Self {
        let builder = match data_type {
            DataType::Boolean => Builder::Boolean(BooleanBuilder::new()),
            DataType::Int64 => Builder::Int64(Int64Builder::new()),
            DataType::Float64 => Builder::Float64(Float64Builder::new()),
            DataType::Decimal(..) => Builder::Decimal(Decimal128Builder::new().with_data_type(data_type.to_arrow())),
            DataType::Text | DataType::Json => Builder::Text(StringBuilder::new()),
            DataType::Bytes => Builder::Bytes(BinaryBuilder::new()),
            DataType::Date => Builder::Date(Date32Builder::new()),
            DataType::Time => Builder::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp | DataType::TimestampTz => {
                Builder::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.to_arrow()))
            }
        };
        Self { data_type, builder, len: 0, exact: true }
    }

    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Fills with nulls up to `rows`.
    pub fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len);
        if missing == 0 {
            return;
        }
        match &mut self.builder {
            Builder::Boolean(b) => b.append_nulls(missing),
            Builder::Int64(b) => b.append_nulls(missing),
            Builder::Float64(b) => b.append_nulls(missing),
            Builder::Decimal(b) => b.append_nulls(missing),
            Builder::Text(b) => b.append_nulls(missing),
            Builder::Bytes(b) => b.append_nulls(missing),
            Builder::Date(b) => b.append_nulls(missing),
            Builder::Time(b) => b.append_nulls(missing),
            Builder::Timestamp(b) => b.append_nulls(missing),
        }
        self.len = rows;
    }

    /// Appends the value of the next row. On a conflict nothing is appended.
    pub fn push(&mut self, value: &Value<'_>) -> Pushed {
        if let Value::Null = value {
            self.pad(self.len + 1);
            return Pushed::Ok;
        }
        let pushed = match (&mut self.builder, value) {
            (Builder::Text(b), value) => push_text(b, value, self.data_type == DataType::Json),
            (Builder::Boolean(b), Value::Bool(v)) => append(Some(*v), |v| b.append_value(v)),
            (Builder::Int64(b), Value::Number(text)) => append(text.parse::<i64>().ok(), |v| {
                self.exact &= v.abs() <= EXACT_DOUBLE;
                b.append_value(v);
            }),
            (Builder::Float64(b), Value::Number(text)) => append(double(text), |v| b.append_value(v)),
            (builder, Value::Number(text)) => push_decimal(builder, text, self.data_type),
            (builder, Value::String(quoted)) => match unquote(quoted) {
                Some(text) => push_parsed(builder, &text, self.data_type),
                None => Pushed::InvalidText,
            },
            _ => Pushed::Conflict,
        };
        if pushed == Pushed::Ok {
            self.len += 1;
        }
        pushed
    }

    /// Appends an instant from a timestamp with or without a zone. Returns whether it was one.
    pub fn push_instant(&mut self, raw: &str) -> bool {
        let Value::String(quoted) = Value::of(raw) else { return false };
        let micros = unquote(quoted).and_then(|text| scalar::timestamp(&text)).map(|(micros, _)| micros);
        match (&mut self.builder, micros) {
            (Builder::Timestamp(b), Some(micros)) => b.append_value(micros),
            _ => return false,
        }
        self.len += 1;
        true
    }

    /// Makes room for a value of another type, where the ladder has a type for both.
    pub fn widen(&mut self, other: DataType) -> bool {
        let Some(wider) = self.data_type.widen(other) else { return false };
        if wider == self.data_type || (wider == DataType::Float64 && !(self.exact && self.data_type == DataType::Int64))
        {
            return false;
        }
        let old = std::mem::replace(self, Self::new(wider)).finish();
        let cast = arrow_cast::cast(&old, &wider.to_arrow()).expect("the ladder only names casts that exist");
        self.refill(&cast);
        true
    }

    fn refill(&mut self, array: &ArrayRef) {
        self.len = array.len();
        match &mut self.builder {
            Builder::Float64(b) => b.append_array(array.as_primitive()),
            Builder::Decimal(b) => b.append_array(array.as_primitive()),
            Builder::Timestamp(b) => b.append_array(array.as_primitive()),
            Builder::Text(b) => b.append_array(array.as_string()).expect("the text fitted before"),
            _ => unreachable!("the ladder ends in a double, a decimal, a timestamp or text"),
        }
    }

    /// The finished array.
    pub fn finish(mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Boolean(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::Float64(b) => Arc::new(b.finish()),
            Builder::Decimal(b) => Arc::new(b.finish()),
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Bytes(b) => Arc::new(b.finish()),
            Builder::Date(b) => Arc::new(b.finish()),
            Builder::Time(b) => Arc::new(b.finish()),
            Builder::Timestamp(b) => Arc::new(b.finish()),
        }
    }
}

/// Whether every integer of an array is exact as a double.
pub fn exact_as_double(array: &dyn Array) -> bool {
    array
        .as_primitive_opt::<Int64Type>()
        .is_some_and(|ints| ints.iter().flatten().all(|v| v.unsigned_abs() <= EXACT_DOUBLE.unsigned_abs()))
}

fn append<T>(value: Option<T>, put: impl FnOnce(T)) -> Pushed {
    match value {
        Some(value) => {
            put(value);
            Pushed::Ok
        }
        None => Pushed::Conflict,
    }
}

/// A double, unless the literal is an integer that no double holds exactly.
fn double(text: &str) -> Option<f64> {
    let inexact =
        is_integer(text) && text.parse::<i64>().ok().is_none_or(|v| v.unsigned_abs() > EXACT_DOUBLE.unsigned_abs());
    if inexact { None } else { text.parse::<f64>().ok().filter(|number| number.is_finite()) }
}

/// The three doubles that JSON has no literal for.
fn not_a_number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn push_text(b: &mut StringBuilder, value: &Value<'_>, json: bool) -> Pushed {
    match value {
        Value::String(quoted) if !json => match unquote(quoted) {
            Some(text) => append(Some(text), |text| b.append_value(text)),
            None => Pushed::InvalidText,
        },
        Value::String(raw) | Value::Number(raw) | Value::Nested(raw) => append(Some(raw), |raw| b.append_value(raw)),
        Value::Bool(v) => append(Some(v), |v| b.append_value(if *v { "true" } else { "false" })),
        Value::Null => unreachable!("nulls are padded before"),
    }
}

fn push_decimal(builder: &mut Builder, text: &str, data_type: DataType) -> Pushed {
    match (builder, data_type) {
        (Builder::Decimal(b), DataType::Decimal(p, s)) => append(scalar::decimal(text, p, s), |v| b.append_value(v)),
        _ => Pushed::Conflict,
    }
}

fn push_parsed(builder: &mut Builder, text: &str, data_type: DataType) -> Pushed {
    match builder {
        Builder::Date(b) => append(scalar::date(text), |v| b.append_value(v)),
        Builder::Time(b) => append(scalar::time(text), |v| b.append_value(v)),
        Builder::Timestamp(b) => {
            let wants_zone = data_type == DataType::TimestampTz;
            let micros = scalar::timestamp(text).filter(|(_, zone)| *zone == wants_zone).map(|(micros, _)| micros);
            append(micros, |v| b.append_value(v))
        }
        Builder::Decimal(_) => push_decimal(builder, text, data_type),
        Builder::Bytes(b) => match text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok()) {
            Some(bytes) => append(Some(bytes), |v| b.append_value(v)),
            None => append(Some(text), |v| b.append_value(v.as_bytes())),
        },
        Builder::Float64(b) => append(not_a_number(text), |v| b.append_value(v)),
        _ => Pushed::Conflict,
    }
}
