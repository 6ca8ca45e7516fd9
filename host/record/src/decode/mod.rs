//! Bytes from a connector become Arrow batches of the stream's schema.
//!
//! Owns: what happens when data and schema disagree. Where the contract lets a stream evolve, new fields become columns,
//! numbers widen on the ladder of [`DataType::widen`](crate::DataType::widen), and other conflicting values go to a variant
//! column `name__type`; the other contracts keep the schema. What cannot be a row at all is handed back as a rejected
//! record, and leaves no column behind. Every record that comes in is accounted for: `emitted = rows + rejected + filtered`.
//! Must never do I/O, and never fail a batch for one bad record, unless the contract says so.

mod arrow;
mod column;
mod flatten;
mod json;
mod row;
mod scalar;
mod shape;
mod stop;
mod table;

use std::collections::{BTreeSet, HashMap};

use arrow_array::RecordBatch;
pub use row::row_json;

use crate::{
    error::{ErrorKind, Failure},
    rejected::Rejected,
    schema::StreamSchema,
    selection::{Contract, Nesting},
    system::DELETED_FIELD,
};
use shape::Shape;

/// Most columns that a stream may grow to; a record that asks for more is rejected.
pub const MAX_COLUMNS: usize = 2_000;
/// Longest field name, in bytes; a record with a longer one is rejected.
pub const MAX_NAME_BYTES: usize = 255;
/// Most rows in one batch from a connector.
pub const MAX_BATCH_ROWS: usize = 1_000_000;
/// Most cells (rows times columns) of one batch: a few bytes can stand for a row of very many columns.
pub const MAX_BATCH_CELLS: usize = 250_000_000;
/// Most bytes of one record; a larger one is rejected.
pub const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// Most levels of objects and arrays that are taken apart; what lies deeper stays JSON text.
pub const MAX_FLATTEN_DEPTH: usize = 8;
/// Most elements of arrays in one batch that become rows of subtables; the record that crosses it is rejected.
pub const MAX_CHILD_ROWS: usize = 2_000_000;
/// Most subtables of one stream; a record that asks for more is rejected.
pub const MAX_SUBTABLES: usize = 200;

/// What the operator chose for a stream, as far as decoding obeys it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Names of the fields to keep; `None` keeps all. With [`Nesting::Flatten`], a name keeps all that its value is
    /// flattened to, and names of flattened columns may stand here too.
    pub selected: Option<BTreeSet<String>>,
    pub nesting: Nesting,
    /// Obeyed from the first record on: a stream that may still grow is given [`Contract::Evolve`].
    pub contract: Contract,
    /// Most columns of the stream and of each of its subtables, at most [`MAX_COLUMNS`].
    pub max_columns: usize,
    /// Names that no new field may take, because a rename uses them.
    pub taken: BTreeSet<String>,
    /// Names of streams that no subtable may take.
    pub reserved_streams: BTreeSet<String>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            selected: None,
            nesting: Nesting::default(),
            contract: Contract::default(),
            max_columns: MAX_COLUMNS,
            taken: BTreeSet::new(),
            reserved_streams: BTreeSet::new(),
        }
    }
}

/// Decodes the batches of one stream, and keeps its schema as it grows.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    /// The stream's own, then those of its subtables in the order in which they were met.
    shapes: Vec<Shape>,
    /// Indices of the subtables' shapes, by path.
    paths: HashMap<String, usize>,
}

/// What one batch came to: `emitted = rows + rejected + filtered`.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows in the stream's schema as it was right after this batch. One batch at most where JSON came in.
    pub batches: Vec<RecordBatch>,
    /// Records that came in: rows, rejected and filtered ones.
    pub emitted: u64,
    pub rejected: Vec<Rejected>,
    /// Records that the contract left out.
    pub filtered: u64,
    /// The place of each row among the records that came in; `None` where row n came as record n.
    pub ordinals: Option<Vec<u64>>,
    /// Rows of subtables, each path once, by path.
    pub children: Vec<ChildRows>,
}

/// The rows that one batch gives to a subtable: `emitted = rows + rejected + filtered`.
#[derive(Debug)]
pub struct ChildRows {
    /// The array's path, such as `items` or `items__parts`; see [`Decoder::child_stream`].
    pub path: String,
    /// In the schema that `schema().children[path]` had right after this batch.
    pub rows: RecordBatch,
    /// For each row, the index in `Decoded.batches[0]` of the row that it was taken out of.
    pub roots: Vec<u32>,
    /// `levels[k][row]`: the row's index in the array at nesting level `k`, the outermost first; -1 where the row lies in
    /// fewer arrays than others of its subtable.
    pub levels: Vec<Vec<i64>>,
    /// Elements that could not become rows; their records did. `ordinal` counts the elements of this subtable.
    pub rejected: Vec<Rejected>,
    /// Elements that came in.
    pub emitted: u64,
    /// Elements that the contract left out.
    pub filtered: u64,
    /// As [`Decoded::ordinals`], among the elements of this subtable.
    pub ordinals: Option<Vec<u64>>,
}

impl Decoded {
    /// Rows over all batches.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }
}

impl Decoder {
    /// Starts from the stream's stored schema.
    pub fn new(stream: impl Into<String>, schema: StreamSchema, options: DecodeOptions) -> Self {
        let children = schema.children.clone();
        let shapes = vec![Shape::new(stream.into(), None, schema)];
        let mut decoder = Self { options, shapes, paths: HashMap::new() };
        for (path, schema) in children {
            decoder.add_child(Shape::new(decoder.child_stream(&path), Some(path), schema));
        }
        decoder
    }

    /// The schema as it has grown so far, without system columns.
    pub fn schema(&self) -> &StreamSchema {
        &self.shapes[0].schema
    }

    /// Name of the subtable for the array at `path`: `{stream}__{path}`. Where a stream has that name, `__array` is put
    /// behind it, as often as no subtable meets a stream or another subtable.
    pub fn child_stream(&self, path: &str) -> String {
        const SUFFIX: &str = "__array";
        let natural = format!("{}__{path}", self.shapes[0].stream);
        let stem = format!("{}__{}", self.shapes[0].stream, path.trim_end_matches(SUFFIX));
        let repeats = |name: &String| {
            let rest = name.strip_prefix(&stem)?;
            rest.replace(SUFFIX, "").is_empty().then_some(rest.len() / SUFFIX.len())
        };
        // All names that differ by the suffix only are moved alike, so that they stay different.
        match self.options.reserved_streams.iter().filter_map(repeats).max() {
            None => natural,
            Some(last) => natural + &SUFFIX.repeat(last + 1),
        }
    }

    /// Decodes a JSON array of objects, or objects one after the other.
    pub fn json(&mut self, bytes: &[u8]) -> Result<Decoded, Failure> {
        json::decode(self, bytes)
    }

    /// Decodes one Arrow IPC stream.
    pub fn arrow(&mut self, bytes: &[u8]) -> Result<Decoded, Failure> {
        arrow::decode(self, bytes)
    }

    /// Whether the selection holds a field, by its flattened name where it lies in an object.
    fn wants(&self, name: &str) -> bool {
        let Some(selected) = &self.options.selected else { return true };
        selected.contains(name) || name == DELETED_FIELD
    }

    fn add_child(&mut self, shape: Shape) -> usize {
        let path = shape.path.clone().expect("every shape but the first has a path");
        self.paths.insert(path, self.shapes.len());
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    /// Takes back all shapes but the first ones.
    fn forget_children(&mut self, shapes: usize) {
        for shape in self.shapes.drain(shapes..) {
            self.paths.remove(&shape.path.expect("every shape but the first has a path"));
        }
    }

    /// Brings the schemas of subtables into the stream's.
    fn adopt_children(&mut self) {
        let Some((stream, children)) = self.shapes.split_first_mut() else { return };
        for child in children.iter_mut().filter_map(|child| child.take_grown().then_some(child)) {
            let path = child.path.clone().expect("every shape but the first has a path");
            stream.schema.children.insert(path, child.schema.clone());
        }
    }

    fn malformed(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(
            ErrorKind::System,
            format!("stream {}: the connector sent a batch that cannot be read: {what}", self.shapes[0].stream),
        )
    }
}
