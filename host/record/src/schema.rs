//! Catalogs, streams, fields, and their Arrow form.

use std::{collections::BTreeMap, sync::Arc};

use arrow_schema::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Type of a field. Mirrors `data-type` of the WIT, which gives the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataType {
    Boolean,
    Int64,
    Float64,
    /// Precision 1 to 38, and scale.
    Decimal(u8, i8),
    Text,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since the epoch, no zone.
    Timestamp,
    /// Microseconds since the epoch, an instant.
    TimestampTz,
    /// A JSON document kept as text.
    Json,
}

/// Key in an Arrow field's metadata that tells JSON text from plain text.
const KIND_KEY: &str = "thimble.type";

impl DataType {
    /// The Arrow type of its column.
    pub fn to_arrow(self) -> ArrowType {
        match self {
            Self::Boolean => ArrowType::Boolean,
            Self::Int64 => ArrowType::Int64,
            Self::Float64 => ArrowType::Float64,
            Self::Decimal(precision, scale) => ArrowType::Decimal128(precision, scale),
            Self::Text | Self::Json => ArrowType::Utf8,
            Self::Bytes => ArrowType::Binary,
            Self::Date => ArrowType::Date32,
            Self::Time => ArrowType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The smallest of our types that holds an Arrow column without loss; `None` where there is none
    /// and the column must be turned into JSON text first.
    pub fn from_arrow(arrow: &ArrowType) -> Option<Self> {
        use ArrowType as A;
        Some(match arrow {
            A::Boolean => Self::Boolean,
            A::Int8 | A::Int16 | A::Int32 | A::Int64 | A::UInt8 | A::UInt16 | A::UInt32 => Self::Int64,
            A::UInt64 => Self::Decimal(20, 0),
            A::Float16 | A::Float32 | A::Float64 => Self::Float64,
            A::Decimal32(p, s) | A::Decimal64(p, s) | A::Decimal128(p, s) => Self::Decimal(*p, *s),
            A::Utf8 | A::LargeUtf8 | A::Utf8View => Self::Text,
            A::Dictionary(_, value) => return Self::from_arrow(value),
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => Self::Bytes,
            A::Date32 | A::Date64 => Self::Date,
            A::Time32(_) | A::Time64(_) => Self::Time,
            A::Timestamp(_, None) => Self::Timestamp,
            A::Timestamp(_, Some(_)) => Self::TimestampTz,
            _ => return None,
        })
    }

    /// A short name for variant columns and messages.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 => "integer",
            Self::Float64 => "double",
            Self::Decimal(..) => "decimal",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Json => "json",
        }
    }

    /// The type that holds the values of both without loss, or `None`: then values of the second
    /// go to a variant column.
    ///
    /// Ladder: integer → decimal → (none); integer → double only where the caller has proved the
    /// integers exact; date → timestamp; decimals grow up to 38 digits.
    pub fn widen(self, other: Self) -> Option<Self> {
        use DataType as T;
        if self == other {
            return Some(self);
        }
        match (self, other) {
            (T::Int64, T::Float64) | (T::Float64, T::Int64) => Some(T::Float64),
            (T::Decimal(p, s), T::Int64) | (T::Int64, T::Decimal(p, s)) => widen_decimal((p, s), (19, 0)),
            (T::Decimal(p1, s1), T::Decimal(p2, s2)) => widen_decimal((p1, s1), (p2, s2)),
            (T::Decimal(..), T::Float64) | (T::Float64, T::Decimal(..)) => Some(T::Float64),
            (T::Date, T::Timestamp) | (T::Timestamp, T::Date) => Some(T::Timestamp),
            (T::Json, T::Text) | (T::Text, T::Json) => Some(T::Text),
            _ => None,
        }
    }
}

fn widen_decimal((p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Option<DataType> {
    let scale = s1.max(s2);
    let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
    let precision = u8::try_from(whole + i16::from(scale)).ok()?;
    (precision <= 38).then_some(DataType::Decimal(precision, scale))
}

/// One field of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub data_type: DataType,
    #[serde(default = "yes")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

impl Field {
    /// The Arrow field; always nullable below, because evolution adds columns to old rows.
    pub fn to_arrow(&self) -> ArrowField {
        let field = ArrowField::new(&self.name, self.data_type.to_arrow(), true);
        match self.data_type {
            DataType::Json => field.with_metadata([(KIND_KEY.to_owned(), "json".to_owned())].into()),
            _ => field,
        }
    }

    /// Our field for an Arrow one, honouring the JSON mark.
    pub fn from_arrow(field: &ArrowField) -> Option<Self> {
        let json = field.metadata().get(KIND_KEY).is_some_and(|kind| kind == "json");
        let data_type = if json { DataType::Json } else { DataType::from_arrow(field.data_type())? };
        Some(Self { name: field.name().clone(), data_type, nullable: field.is_nullable() })
    }
}

/// The fields of a stream, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamSchema {
    pub fields: Vec<Field>,
    /// Subtables of a stream whose arrays are flattened, by the path of the array (`a__b`), without system columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub children: BTreeMap<String, StreamSchema>,
}

impl StreamSchema {
    /// A schema of these fields, without subtables.
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields, children: BTreeMap::new() }
    }

    /// The Arrow schema of its batches.
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.fields.iter().map(Field::to_arrow).collect::<Vec<_>>()))
    }

    /// Looks a field up by its exact name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// How a stream is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicationMethod {
    /// Everything, each time.
    FullTable,
    /// What is new or changed since the last run.
    Incremental,
    /// The source's log of changes.
    LogBased,
}

/// A stream that a source offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    pub schema: StreamSchema,
    /// Names of the fields that identify a record.
    #[serde(default)]
    pub key: Vec<String>,
    /// The first is the default.
    pub methods: Vec<ReplicationMethod>,
    #[serde(default)]
    pub cursor: Option<String>,
}

/// The streams of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    pub streams: Vec<Stream>,
}

impl Catalog {
    /// Looks a stream up by its exact name.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}
