//! Streams and their fields, as an author declares them.

/// Type of a field. Mirrors `data-type` of the WIT, which gives the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    Boolean,
    Int64,
    Float64,
    /// Precision (1 to 38) and scale.
    Decimal(u8, i8),
    Text,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since the epoch, no zone.
    Timestamp,
    /// An instant: microseconds since the epoch.
    TimestampTz,
    /// A JSON document kept as text.
    Json,
}

/// One field of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
}

impl Field {
    /// A nullable field.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: true }
    }
}

/// How a stream is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    FullTable,
    Incremental,
    LogBased,
}

/// A stream that a source offers. Built step by step:
/// `Stream::new("items").key(["id"]).field("id", DataType::Int64).incremental("id")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Unique within the catalog; at most 255 bytes.
    pub name: String,
    /// In order. May be incomplete for JSON: the host adds fields as it meets them.
    pub fields: Vec<Field>,
    /// Names of the fields that identify a record.
    pub key: Vec<String>,
    /// At least one; the first is the default.
    pub methods: Vec<Method>,
    /// The field that orders an incremental read, where it is a field at all.
    pub cursor: Option<String>,
}

impl Stream {
    /// A stream that is read in full each time.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), fields: Vec::new(), key: Vec::new(), methods: vec![Method::FullTable], cursor: None }
    }

    /// Adds a nullable field.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, data_type: DataType) -> Self {
        self.fields.push(Field::new(name, data_type));
        self
    }

    /// Replaces all fields.
    #[must_use]
    pub fn fields(mut self, fields: Vec<Field>) -> Self {
        self.fields = fields;
        self
    }

    /// Names the fields that identify a record.
    #[must_use]
    pub fn key<I, S>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.key = names.into_iter().map(Into::into).collect();
        self
    }

    /// Offers incremental reads, ordered by `cursor`, as the default before full-table.
    #[must_use]
    pub fn incremental(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self.methods = vec![Method::Incremental, Method::FullTable];
        self
    }

    /// Sets the methods offered, the default first.
    #[must_use]
    pub fn methods(mut self, methods: Vec<Method>) -> Self {
        self.methods = methods;
        self
    }
}

/// The streams of a source. Equal sources give equal catalogs: sort what has no order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// At most 10,000.
    pub streams: Vec<Stream>,
}

impl Catalog {
    pub fn new(streams: impl IntoIterator<Item = Stream>) -> Self {
        Self { streams: streams.into_iter().collect() }
    }

    /// Looks a stream up by its exact name.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}
