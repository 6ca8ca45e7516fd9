//! What one batch from a connector comes to: rows that the destination can hold, and rejected records.
//!
//! Owns the last check before staging: a sealed batch must load whole. Every record that came in keeps its place in the
//! order of its stream, the rejected ones too, so that a later replay does not overwrite what came after them.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::{BooleanArray, RecordBatch};
use serde_json::value::RawValue;
use thimble_engine::shape::{Shape, incomplete_keys};
use thimble_load::Destination;
use thimble_plugin::RawBatch;
use thimble_record::{
    Failure, Rejected, WriteMode,
    decode::{ChildRows, Decoded, row_json},
};

use crate::collect::StreamWork;

/// Records of one stream that came together.
#[derive(Debug, Default)]
pub struct Portion {
    /// Records that came in; the sum of rows, `rejected` and `filtered`.
    pub emitted: u64,
    /// In the columns of the stream's table.
    pub rows: Vec<Rows>,
    pub rejected: Vec<Rejected>,
    pub filtered: u64,
    pub children: Vec<ChildPortion>,
}

/// Rows, and where in the order of their stream they stand.
#[derive(Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    pub places: Places,
}

/// Places of rows in the order of their stream.
#[derive(Debug, Clone)]
pub enum Places {
    /// Counted from the first record of the portion.
    Within(Vec<u64>),
    /// Sequences that the records had before.
    Absolute(Vec<i64>),
}

/// Rows that were taken out of arrays.
#[derive(Debug)]
pub struct ChildPortion {
    pub path: String,
    pub stream: String,
    pub emitted: u64,
    pub filtered: u64,
    pub rows: RecordBatch,
    /// For each row, the row of its record in the portion's first [`Rows`].
    pub roots: Vec<u32>,
    pub levels: Vec<Vec<i64>>,
    pub rejected: Vec<Rejected>,
}

impl Portion {
    /// Records that the connector itself rejected.
    pub fn of_rejected(mut records: Vec<Rejected>, shape: &Shape) -> Self {
        for (place, record) in records.iter_mut().enumerate() {
            record.ordinal = Some(place as u64);
            redact(record, shape);
        }
        Self { emitted: records.len() as u64, rejected: records, ..Self::default() }
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> u64 {
        let children = self.children.iter().map(|child| child.rows.get_array_memory_size());
        let rows = self.rows.iter().map(|rows| rows.batch.get_array_memory_size()).chain(children).sum::<usize>();
        let child_rejects = self.children.iter().flat_map(|child| &child.rejected);
        let rejected = self.rejected.iter().chain(child_rejects);
        rows as u64 + rejected.map(|record| (record.raw.len() + record.message.len()) as u64).sum::<u64>()
    }
}

/// Takes what is hidden out of a rejected record, and all of it where that cannot be told apart.
fn redact(record: &mut Rejected, shape: &Shape) {
    match shape.redact(&record.raw) {
        Some(kept) => record.raw = kept,
        None => {
            record.raw.clear();
            record.truncated = true;
            record.message.push_str("; the raw record is withheld, because it may hold columns that are hidden");
        }
    }
}

/// Decodes one batch of a stream.
pub fn decode(work: &mut StreamWork, raw: &RawBatch, destination: &dyn Destination) -> Result<Portion, Failure> {
    let decoded = match raw {
        RawBatch::ArrowIpc(bytes) => work.decoder.arrow(bytes)?,
        RawBatch::Json(bytes) => work.decoder.json(bytes)?,
    };
    let bytes = match raw {
        RawBatch::Json(bytes) => Some(bytes.as_ref()),
        RawBatch::ArrowIpc(_) => None,
    };
    shaped(work, decoded, bytes, destination)
}

/// Brings decoded records to the columns of their table, and takes out what the destination cannot hold. `bytes` is the
/// JSON that they came in, if they did.
pub fn shaped(
    work: &StreamWork,
    decoded: Decoded,
    bytes: Option<&[u8]>,
    destination: &dyn Destination,
) -> Result<Portion, Failure> {
    let Decoded { batches, emitted, mut rejected, filtered, ordinals, children } = decoded;
    rejected.iter_mut().for_each(|record| redact(record, &work.shape));
    let mut portion = Portion { emitted, rejected, filtered, ..Portion::default() };
    let mut children: Vec<_> =
        children.into_iter().map(|child| child_portion(work, child)).collect::<Result<_, _>>()?;
    let mut before = 0;
    for batch in batches {
        let places: Vec<u64> = match &ordinals {
            Some(ordinals) => ordinals[before..before + batch.num_rows()].to_vec(),
            None => (before as u64..(before + batch.num_rows()) as u64).collect(),
        };
        before += batch.num_rows();
        let rows = work.shape.rows(&batch).map_err(|error| misshapen(work, &error))?;
        let refused = refusals(work, &rows, destination);
        if refused.is_empty() {
            portion.rows.push(Rows { batch: rows, places: Places::Within(places) });
            continue;
        }
        let raws = raw_records(bytes, refused.keys().map(|row| places[*row]).collect());
        for (row, (reason, message)) in &refused {
            let place = places[*row];
            let raw = raws.get(&place).cloned().unwrap_or_else(|| row_json(&batch, *row));
            let mut record = Rejected::new(&work.target.stream, reason, message.clone(), &raw);
            record.ordinal = Some(place);
            redact(&mut record, &work.shape);
            portion.rejected.push(record);
        }
        let kept: Vec<bool> = (0..rows.num_rows()).map(|row| !refused.contains_key(&row)).collect();
        children.iter_mut().for_each(|child| child.keep_roots(&kept));
        let places = places.into_iter().zip(&kept).filter_map(|(place, kept)| kept.then_some(place)).collect();
        portion.rows.push(Rows { batch: filter(&rows, &kept), places: Places::Within(places) });
    }
    refuse_children(&mut children, destination);
    portion.children = children;
    Ok(portion)
}

fn misshapen(work: &StreamWork, error: &dyn std::fmt::Display) -> Failure {
    Failure::system(format!("stream {}: its columns cannot be brought into shape: {error}", work.target.stream))
}

fn child_portion(work: &StreamWork, child: ChildRows) -> Result<ChildPortion, Failure> {
    let ChildRows { path, rows, roots, levels, mut rejected, emitted, filtered, ordinals: _ } = child;
    let shape = work.shape.child(&path);
    rejected.iter_mut().for_each(|record| redact(record, &shape));
    let rows = shape.rows(&rows).map_err(|error| misshapen(work, &error))?;
    let stream = work.decoder.child_stream(&path);
    Ok(ChildPortion { stream, path, emitted, filtered, rows, roots, levels, rejected })
}

/// Rows that cannot be loaded, with a reason code and a sentence.
fn refusals(
    work: &StreamWork,
    rows: &RecordBatch,
    destination: &dyn Destination,
) -> BTreeMap<usize, (&'static str, String)> {
    let mut refused = BTreeMap::new();
    if work.target.mode != WriteMode::Append {
        for (row, column) in incomplete_keys(rows, &work.target.key) {
            refused.insert(row, ("incomplete-key", format!("the key column `{column}` has no value")));
        }
        refused.extend(destination.refuse_keys(&work.target.key, rows).into_iter().map(named));
    }
    for (row, why) in destination.refuse(&table_of(rows), rows).into_iter().map(named) {
        refused.entry(row).or_insert(why);
    }
    refused
}

fn named(refusal: thimble_load::Refusal) -> (usize, (&'static str, String)) {
    (refusal.row, (refusal.reason, refusal.message))
}

fn table_of(rows: &RecordBatch) -> thimble_record::StreamSchema {
    let fields = rows.schema();
    thimble_record::StreamSchema::new(
        fields.fields().iter().filter_map(|field| thimble_record::Field::from_arrow(field)).collect(),
    )
}

/// Rows of arrays that the destination cannot hold are rejected one by one; their records stay.
fn refuse_children(children: &mut [ChildPortion], destination: &dyn Destination) {
    for child in children {
        let refused = destination.refuse(&table_of(&child.rows), &child.rows);
        if refused.is_empty() {
            continue;
        }
        let mut kept = vec![true; child.rows.num_rows()];
        for refusal in refused {
            kept[refusal.row] = false;
            let raw = row_json(&child.rows, refusal.row);
            child.rejected.push(Rejected::new(&child.stream, refusal.reason, refusal.message, &raw));
        }
        child.keep(&kept);
    }
}

impl ChildPortion {
    /// Drops the rows of records that are dropped, and counts roots without those.
    fn keep_roots(&mut self, kept: &[bool]) {
        let mut next = 0;
        let index: Vec<Option<u32>> = kept
            .iter()
            .map(|kept| {
                kept.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let before = self.rows.num_rows();
        let mine: Vec<bool> = self.roots.iter().map(|root| index[*root as usize].is_some()).collect();
        self.keep(&mine);
        // They went with their record, which is kept whole among the rejected ones.
        self.emitted -= (before - self.rows.num_rows()) as u64;
        self.roots.iter_mut().for_each(|root| *root = index[*root as usize].unwrap_or(*root));
    }

    fn keep(&mut self, kept: &[bool]) {
        self.rows = filter(&self.rows, kept);
        let mut each = kept.iter();
        self.roots.retain(|_| *each.next().expect("one for each row"));
        for level in &mut self.levels {
            let mut each = kept.iter();
            level.retain(|_| *each.next().expect("one for each row"));
        }
    }
}

fn filter(rows: &RecordBatch, kept: &[bool]) -> RecordBatch {
    arrow_select::filter::filter_record_batch(rows, &BooleanArray::from(kept.to_vec()))
        .expect("the filter has one value for each row")
}

/// The raw text of some records of a JSON batch, by their places. Walks the batch as the decoder did.
fn raw_records(bytes: Option<&[u8]>, wanted: BTreeSet<u64>) -> BTreeMap<u64, String> {
    let Some(mut text) = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return BTreeMap::new() };
    text = text.trim_start();
    text = text.strip_prefix('[').unwrap_or(text);
    let mut found = BTreeMap::new();
    let mut place = 0;
    while found.len() < wanted.len() {
        text = text.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        if text.is_empty() || text.starts_with(']') {
            break;
        }
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        text = match values.next() {
            Some(Ok(raw)) => {
                if wanted.contains(&place) {
                    found.insert(place, raw.get().to_owned());
                }
                &text[values.byte_offset()..]
            }
            // A line that is no JSON was rejected as a whole.
            _ => text.find('\n').map_or("", |end| &text[end..]),
        };
        place += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_records_are_found_by_their_places() {
        let wanted = || BTreeSet::from([1, 3]);
        let array = raw_records(Some(br#" [{"a":1}, {"a":2},{"a":3} , {"a":4}]"#), wanted());
        assert_eq!(array, BTreeMap::from([(1, r#"{"a":2}"#.to_owned()), (3, r#"{"a":4}"#.to_owned())]));
        let lines = raw_records(Some(b"{\"a\":1}\nno json, at all\n{\"a\":3}\n{\"a\":4}\n"), BTreeSet::from([2, 3]));
        assert_eq!(lines, BTreeMap::from([(2, r#"{"a":3}"#.to_owned()), (3, r#"{"a":4}"#.to_owned())]));
    }
}
