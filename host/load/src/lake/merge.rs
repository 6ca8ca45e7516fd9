//! Which rows of a table readers see: the fold of an upserted table, done while it is read.
//!
//! Two passes. The first reads keys, sequences and marks of deletion of all files into a map of one entry per key; the
//! second reads the rows and lets those through that the map names. Memory: some 150 bytes per key, for at most
//! [`LAKE_KEYS`](crate::LAKE_KEYS) keys. Keys are compared by 128 bits of keyed hashes, which no source can foresee.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType},
};
use arrow_schema::{ArrowError, DataType as ArrowType};
use thimble_record::{DeleteMode, StreamSchema, SystemColumn};

use super::commit::{GenerationState, Reading, Sweep};

/// A row's place in the order of its key's versions.
type Version = (i64, i64);

/// What is known of a key.
struct Entry {
    last: Version,
    /// The mark of the last row, in microseconds.
    deleted_at: Option<i64>,
    /// The last row without a mark.
    values: Option<Version>,
    /// Whether its row was let through.
    shown: bool,
}

/// The keys of a table and what became of them.
pub(super) struct Winners {
    reading: Reading,
    sweeps: Vec<Sweep>,
    hashers: [RandomState; 2],
    entries: HashMap<u128, Entry>,
    limit: usize,
    full: bool,
}

impl Winners {
    pub(super) fn new(visible: &GenerationState, limit: usize) -> Self {
        Self {
            reading: visible.reading.clone(),
            sweeps: visible.sweeps.clone(),
            hashers: [RandomState::new(), RandomState::new()],
            entries: HashMap::new(),
            limit,
            full: false,
        }
    }

    /// The columns that the first pass needs.
    pub(super) fn columns(visible: &GenerationState) -> StreamSchema {
        let Reading { key, system, .. } = &visible.reading;
        let system = [SystemColumn::Sequence, SystemColumn::Batch, SystemColumn::DeletedAt].map(|c| system.name(c));
        let needed = |name: &String| key.contains(name) || system.contains(&name.as_str());
        let fields = visible.visible_schema().fields.into_iter().filter(|field| needed(&field.name)).collect();
        StreamSchema::new(fields)
    }

    /// Whether there were more keys than the limit, so that the fold is worth nothing.
    pub(super) fn full(&self) -> bool {
        self.full
    }

    /// First pass.
    pub(super) fn take(&mut self, batch: &RecordBatch) {
        let (rows, keys) = (Versions::of(batch, &self.reading), self.keys(batch));
        for (row, key) in keys.into_iter().enumerate() {
            let (version, deleted_at) = (rows.version(row), rows.deleted_at(row));
            let values = deleted_at.is_none().then_some(version);
            if let Some(entry) = self.entries.get_mut(&key) {
                if version > entry.last {
                    (entry.last, entry.deleted_at) = (version, deleted_at);
                }
                entry.values = entry.values.max(values);
            } else if self.entries.len() < self.limit {
                self.entries.insert(key, Entry { last: version, deleted_at, values, shown: false });
            } else {
                self.full = true;
            }
        }
    }

    /// When the key was deleted, in microseconds.
    fn deletion(&self, entry: &Entry) -> Option<i64> {
        let batch = entry.last.1;
        let swept = |sweep: &Sweep| u64::try_from(batch).is_ok_and(|batch| batch >= sweep.since.0);
        // Each sweep reaches further than those before.
        let first = self.sweeps.partition_point(swept);
        let swept = self.sweeps.get(first).map(|sweep| sweep.at.saturating_mul(1_000));
        entry.deleted_at.or(swept)
    }

    /// The version that is shown of a key, and since when it is deleted; `None` where nothing is.
    fn visible(&self, entry: &Entry) -> Option<(Version, Option<i64>)> {
        let deletion = self.deletion(entry);
        match (self.reading.deletes, deletion) {
            (DeleteMode::Hard, Some(_)) => None,
            _ => Some((entry.values.unwrap_or(entry.last), deletion)),
        }
    }

    /// Rows that are shown.
    pub(super) fn count(&self) -> u64 {
        self.entries.values().filter(|entry| self.visible(entry).is_some()).count() as u64
    }

    /// Sequences of the rows that are shown.
    pub(super) fn sequences(&self) -> HashSet<i64> {
        self.entries.values().filter_map(|entry| self.visible(entry).map(|((sequence, _), _)| sequence)).collect()
    }

    /// Second pass: the rows that are shown, with the time of their deletion.
    fn sift(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let (rows, keys) = (Versions::of(batch, &self.reading), self.keys(batch));
        let mut deletions = Vec::new();
        let mut keep = Vec::with_capacity(keys.len());
        for (row, key) in keys.into_iter().enumerate() {
            let entry = self.entries.get(&key).filter(|entry| !entry.shown);
            let visible = entry.and_then(|entry| self.visible(entry));
            let shown = visible.filter(|(version, _)| *version == rows.version(row));
            keep.push(shown.is_some());
            if let Some((_, deletion)) = shown {
                deletions.push(deletion);
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.shown = true;
                }
            }
        }
        let kept = arrow_select::filter::filter_record_batch(batch, &BooleanArray::from(keep))?;
        let Ok(position) = kept.schema_ref().index_of(self.reading.system.name(SystemColumn::DeletedAt)) else {
            return Ok(kept);
        };
        let mut columns = kept.columns().to_vec();
        columns[position] = Arc::new(TimestampMicrosecondArray::from(deletions).with_timezone("UTC"));
        RecordBatch::try_new(kept.schema(), columns)
    }

    fn keys(&self, batch: &RecordBatch) -> Vec<u128> {
        let columns: Vec<_> = self.reading.key.iter().map(|name| batch.column_by_name(name)).collect();
        let key = |row| {
            let mut halves = self.hashers.each_ref().map(BuildHasher::build_hasher);
            for half in &mut halves {
                columns.iter().for_each(|column| feed(half, *column, row));
            }
            let [high, low] = halves.map(|half| u128::from(half.finish()));
            high << 64 | low
        };
        (0..batch.num_rows()).map(key).collect()
    }
}

/// Adds a value of a key to its hash. Values that DuckDB takes for equal hash alike.
fn feed(hasher: &mut impl Hasher, column: Option<&ArrayRef>, row: usize) {
    let Some(column) = column.filter(|column| column.is_valid(row)) else { return 0_u8.hash(hasher) };
    1_u8.hash(hasher);
    match column.data_type() {
        ArrowType::Boolean => column.as_boolean().value(row).hash(hasher),
        ArrowType::Int64 => column.as_primitive::<Int64Type>().value(row).hash(hasher),
        ArrowType::Float64 => match column.as_primitive::<Float64Type>().value(row) {
            nan if nan.is_nan() => f64::NAN.to_bits().hash(hasher),
            // Adding zero makes a negative zero positive.
            number => (number + 0.0).to_bits().hash(hasher),
        },
        ArrowType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value(row).hash(hasher),
        ArrowType::Utf8 => column.as_string::<i32>().value(row).hash(hasher),
        ArrowType::Binary => column.as_binary::<i32>().value(row).hash(hasher),
        ArrowType::Date32 => column.as_primitive::<Date32Type>().value(row).hash(hasher),
        ArrowType::Time64(_) => column.as_primitive::<Time64MicrosecondType>().value(row).hash(hasher),
        ArrowType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).hash(hasher),
        other => unreachable!("rows were brought to the types of `DataType::to_arrow`, and {other} is none of them"),
    }
}

/// The columns that order the versions of a key.
struct Versions<'b> {
    sequences: Option<&'b Int64Array>,
    batches: Option<&'b Int64Array>,
    deletions: Option<&'b TimestampMicrosecondArray>,
}

impl<'b> Versions<'b> {
    fn of(batch: &'b RecordBatch, reading: &Reading) -> Self {
        let column = |column| batch.column_by_name(reading.system.name(column));
        Self {
            sequences: column(SystemColumn::Sequence).and_then(|column| column.as_primitive_opt()),
            batches: column(SystemColumn::Batch).and_then(|column| column.as_primitive_opt()),
            deletions: column(SystemColumn::DeletedAt).and_then(|column| column.as_primitive_opt()),
        }
    }

    /// Rows of a time without these columns come before all others.
    fn version(&self, row: usize) -> Version {
        let value = |column: Option<&Int64Array>| column.filter(|c| c.is_valid(row)).map(|c| c.value(row));
        (value(self.sequences).unwrap_or(i64::MIN), value(self.batches).unwrap_or(0))
    }

    fn deleted_at(&self, row: usize) -> Option<i64> {
        self.deletions.filter(|column| column.is_valid(row)).map(|column| column.value(row))
    }
}

/// Lets the rows of a table through that readers see.
pub(super) enum Sieve {
    All,
    Winners(Winners),
    /// Of a subtable: rows whose root row, by its sequence, is shown.
    Roots {
        column: &'static str,
        sequences: HashSet<i64>,
    },
}

impl Sieve {
    pub(super) fn sift(&mut self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        match self {
            Self::All => Ok(batch),
            Self::Winners(winners) => winners.sift(&batch),
            Self::Roots { column, sequences } => {
                let roots = batch.column_by_name(column).and_then(|column| column.as_primitive_opt::<Int64Type>());
                let shown = |root: Option<i64>| root.is_some_and(|root| sequences.contains(&root));
                let keep: BooleanArray = match roots {
                    Some(roots) => roots.iter().map(|root| Some(shown(root))).collect(),
                    None => vec![false; batch.num_rows()].into(),
                };
                arrow_select::filter::filter_record_batch(&batch, &keep)
            }
        }
    }
}
