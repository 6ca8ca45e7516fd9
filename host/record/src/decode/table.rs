//! The rows of one table under construction, from JSON values.
//!
//! Owns what becomes of a value: which column it goes to, when a column is widened or gets a variant beside it, and what
//! the contract forbids. Rows that turn out to be none are marked, and left out at the end.

use std::ops::Range;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};

use super::{
    ChildRows, DecodeOptions,
    column::{Column, Pushed, Value},
    shape::Shape,
    stop::{Reject, Stop, Unforeseen},
};
use crate::{rejected::Rejected, schema::DataType, selection::Contract};

/// Rows in columns. `rows` counts the dropped ones too, until the end.
#[derive(Default)]
pub struct Rows {
    columns: Vec<Column>,
    pub rows: usize,
    dropped: Vec<Range<usize>>,
    /// Place of each row among what came in, from the first row on for which it is not the row's number.
    places: Option<Vec<u64>>,
    pub rejected: Vec<Rejected>,
    pub emitted: u64,
    pub filtered: u64,
    /// Where the next key stood in the last record: records of one source mostly look alike.
    hint: usize,
    /// In a subtable: the row of the stream, and the places in the arrays, of each row.
    roots: Vec<u32>,
    levels: Vec<Vec<i64>>,
    /// In a subtable: the table and row whose array was last begun.
    pub last_array: Option<(usize, usize)>,
}

/// How far a table had come.
pub struct Mark {
    columns: usize,
    rows: usize,
    dropped: usize,
    rejected: usize,
    emitted: u64,
    filtered: u64,
}

impl Rows {
    pub fn mark(&self, shape: &Shape) -> Mark {
        Mark {
            columns: shape.columns(),
            rows: self.rows,
            dropped: self.dropped.len(),
            rejected: self.rejected.len(),
            emitted: self.emitted,
            filtered: self.filtered,
        }
    }

    /// Takes back everything since a mark: rows, counts, and columns that were added.
    pub fn roll_back(&mut self, mark: &Mark, shape: &mut Shape) {
        shape.truncate(mark.columns);
        self.columns.truncate(mark.columns);
        self.dropped.truncate(mark.dropped);
        if self.rows > mark.rows {
            self.dropped.push(mark.rows..self.rows);
        }
        self.rejected.truncate(mark.rejected);
        self.emitted = mark.emitted;
        self.filtered = mark.filtered;
    }

    /// Begins the next row.
    pub fn begin(&mut self, shape: &Shape) {
        self.hint = 0;
        self.begin_missing(shape);
        let place = self.emitted;
        match &mut self.places {
            Some(places) => places.push(place),
            None if place == self.rows as u64 => {}
            None => self.places = Some((0..self.rows as u64).chain([place]).collect()),
        }
    }

    /// Where the next row of a subtable comes from.
    pub fn begin_element(&mut self, root: usize, levels: &[i64]) {
        self.roots.push(u32::try_from(root).expect("a batch has at most a million records"));
        while self.levels.len() < levels.len() {
            self.levels.push(vec![-1; self.rows]);
        }
        for (depth, column) in self.levels.iter_mut().enumerate() {
            column.push(levels.get(depth).copied().unwrap_or(-1));
        }
    }

    pub fn reject(&mut self, stream: &str, Reject { reason, message }: Reject, raw: &str) {
        let ordinal = Some(self.emitted);
        self.rejected.push(Rejected { ordinal, ..Rejected::new(stream, reason, message, raw) });
        self.emitted += 1;
    }

    /// Which rows stay; `None` when all do.
    fn kept(&self) -> Option<BooleanArray> {
        if self.dropped.is_empty() {
            return None;
        }
        let mut keep = vec![true; self.rows];
        for range in &self.dropped {
            keep[range.clone()].fill(false);
        }
        Some(keep.into())
    }

    fn batch(&mut self, shape: &Shape, kept: Option<&BooleanArray>) -> RecordBatch {
        let rows = self.rows;
        self.begin_missing(shape);
        let arrays: Vec<ArrayRef> = std::mem::take(&mut self.columns)
            .into_iter()
            .map(|mut column| {
                column.pad(rows);
                column.finish()
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(shape.schema.to_arrow(), arrays, &options)
            .expect("every column was padded to the number of rows and has the type of its field");
        match kept {
            None => batch,
            Some(keep) => {
                arrow_select::filter::filter_record_batch(&batch, keep).expect("the filter has the batch's length")
            }
        }
    }

    fn begin_missing(&mut self, shape: &Shape) {
        for field in &shape.schema.fields[self.columns.len()..] {
            self.columns.push(Column::new(field.data_type));
        }
    }

    /// Places of the rows that stay; `None` where they are simply counted.
    fn ordinals(&mut self, kept: Option<&BooleanArray>) -> Option<Vec<u64>> {
        let places = match (self.places.take(), kept) {
            (places, None) => places?,
            (Some(places), Some(keep)) => filtered(places, keep),
            (None, Some(keep)) => filtered((0..self.rows as u64).collect(), keep),
        };
        let counted = places.iter().enumerate().all(|(row, place)| row as u64 == *place);
        (!counted).then_some(places)
    }

    /// The stream's own rows, their places, and the index of each row that stays by the number that it had before.
    pub fn finish(&mut self, shape: &Shape) -> (RecordBatch, Option<Vec<u64>>, Option<Vec<u32>>) {
        let kept = self.kept();
        let batch = self.batch(shape, kept.as_ref());
        let indices = kept.as_ref().map(|keep| {
            let stays = keep.values().iter().map(u32::from);
            let index = |before: &mut u32, stays| Some(std::mem::replace(before, *before + stays));
            stays.scan(0, index).collect()
        });
        (batch, self.ordinals(kept.as_ref()), indices)
    }

    /// A subtable's rows; `None` when nothing came in. `indices`: the stream's row by the number that it had before.
    pub fn finish_child(&mut self, shape: &Shape, indices: Option<&[u32]>) -> Option<ChildRows> {
        if self.emitted == 0 {
            return None;
        }
        let kept = self.kept();
        let rows = self.batch(shape, kept.as_ref());
        let ordinals = self.ordinals(kept.as_ref());
        let (mut roots, mut levels) = (std::mem::take(&mut self.roots), std::mem::take(&mut self.levels));
        if let Some(keep) = &kept {
            roots = filtered(roots, keep);
            levels = levels.into_iter().map(|level| filtered(level, keep)).collect();
        }
        if let Some(indices) = indices {
            roots.iter_mut().for_each(|root| *root = indices[*root as usize]);
        }
        let path = shape.path.clone().unwrap_or_default();
        let rejected = std::mem::take(&mut self.rejected);
        Some(ChildRows {
            path,
            rows,
            roots,
            levels,
            rejected,
            emitted: self.emitted,
            filtered: self.filtered,
            ordinals,
        })
    }
}

fn filtered<T>(values: Vec<T>, keep: &BooleanArray) -> Vec<T> {
    values.into_iter().zip(keep.values().iter()).filter_map(|(value, stays)| stays.then_some(value)).collect()
}

/// A table and its rows, where the next value is put.
pub struct Table<'a> {
    pub shape: &'a mut Shape,
    pub rows: &'a mut Rows,
    pub options: &'a DecodeOptions,
}

impl Table<'_> {
    /// Puts a value into the row under construction.
    #[inline]
    pub fn put(&mut self, name: &str, raw: &str) -> Result<(), Stop> {
        let Some(position) = self.position(name, raw)? else { return Ok(()) };
        let row = self.rows.rows;
        let column = &mut self.rows.columns[position];
        if column.len() > row {
            return Err(twice(name).into());
        }
        column.pad(row);
        let value = Value::of(raw);
        match column.push(&value) {
            Pushed::Ok => Ok(()),
            Pushed::InvalidText => Err(invalid_text(name).into()),
            Pushed::Conflict if self.shape.is_deletion(name) => self.deletion(position, raw),
            Pushed::Conflict if self.options.contract == Contract::Evolve => self.conflict(position, &value),
            Pushed::Conflict => self.unforeseen(position, &value),
        }
    }

    /// The column of a field, made now where it is new; `None` where the field is not wanted or null.
    #[inline]
    fn position(&mut self, name: &str, raw: &str) -> Result<Option<usize>, Stop> {
        let hint = self.rows.hint;
        let hinted = self.shape.schema.fields.get(hint).filter(|field| field.name == name).map(|_| hint);
        if let Some(position) = hinted.or_else(|| self.shape.position(name)) {
            self.rows.hint = position + 1;
            return Ok(Some(position));
        }
        self.new_position(name, raw)
    }

    fn new_position(&mut self, name: &str, raw: &str) -> Result<Option<usize>, Stop> {
        let Some(data_type) = Value::of(raw).infer() else { return Ok(None) };
        if let Some(reject) = self.shape.refuse_reserved(name) {
            return Err(reject.into());
        }
        if self.shape.is_deletion(name) {
            return self.add(name.to_owned(), DataType::TimestampTz).map(Some);
        }
        if self.options.contract != Contract::Evolve {
            self.options.decide(&self.shape.stream, &Unforeseen::NewField(name, data_type))?;
            return Ok(None);
        }
        self.add(name.to_owned(), data_type).map(Some)
    }

    fn add(&mut self, name: String, data_type: DataType) -> Result<usize, Stop> {
        if let Some(reject) = self.shape.refuse_new(&name, self.options) {
            return Err(reject.into());
        }
        self.rows.columns.push(Column::new(data_type));
        Ok(self.shape.add(name, data_type))
    }

    /// The moment of a deletion that is not written as an instant with its zone: without one it is taken as UTC.
    fn deletion(&mut self, position: usize, raw: &str) -> Result<(), Stop> {
        if self.rows.columns[position].push_instant(raw) {
            return Ok(());
        }
        let shown = &raw[..raw.floor_char_boundary(60)];
        let message = format!("the moment of the deletion is {shown}, not a timestamp such as 2024-01-31T12:00:00Z");
        Err(Reject { reason: "invalid-deletion-time", message }.into())
    }

    /// A value that does not fit: widen the column, or put the value into a variant column.
    fn conflict(&mut self, position: usize, value: &Value<'_>) -> Result<(), Stop> {
        let found = value.infer().expect("nulls never conflict");
        if self.rows.columns[position].widen(found) {
            self.shape.widen(position, self.rows.columns[position].data_type());
            if self.rows.columns[position].push(value) == Pushed::Ok {
                return Ok(());
            }
        }
        let name = self.shape.schema.fields[position].name.clone();
        for data_type in [found, DataType::Text] {
            let variant = format!("{name}__{}", data_type.short_name());
            let target = match self.shape.position(&variant) {
                Some(existing) => existing,
                None => self.add(variant, data_type)?,
            };
            if self.put_variant(target, &name, value)? {
                return Ok(());
            }
        }
        let message = format!("the field `{name}` holds a {} that fits no column of it", found.short_name());
        Err(Reject { reason: "type-conflict", message }.into())
    }

    /// A value that does not fit, where the schema may not grow: a variant column that exists may still take it.
    fn unforeseen(&mut self, position: usize, value: &Value<'_>) -> Result<(), Stop> {
        let found = value.infer().expect("nulls never conflict");
        let field = self.shape.schema.fields[position].name.clone();
        for data_type in [found, DataType::Text] {
            let variant = self.shape.position(&format!("{field}__{}", data_type.short_name()));
            if let Some(variant) = variant
                && self.put_variant(variant, &field, value)?
            {
                return Ok(());
            }
        }
        let column = self.shape.type_of(position);
        self.options.decide(&self.shape.stream, &Unforeseen::OtherType { field: &field, column, found })
    }

    fn put_variant(&mut self, position: usize, name: &str, value: &Value<'_>) -> Result<bool, Stop> {
        let row = self.rows.rows;
        let column = &mut self.rows.columns[position];
        if column.len() > row {
            return Ok(false);
        }
        column.pad(row);
        match column.push(value) {
            Pushed::Ok => Ok(true),
            Pushed::InvalidText => Err(invalid_text(name).into()),
            Pushed::Conflict => Ok(false),
        }
    }
}

pub fn twice(name: &str) -> Reject {
    Reject { reason: "duplicate-field", message: format!("the field `{name}` stands twice in the record") }
}

fn invalid_text(name: &str) -> Reject {
    let message = format!("the field `{name}` holds an escape that is no Unicode character");
    Reject { reason: "invalid-text", message }
}
