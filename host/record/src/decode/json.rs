//! JSON arrays and JSON lines to records. Every record is first delimited as a raw slice, then its fields are read as raw
//! slices in turn, so that nested values are copied as text and never parsed, unless they are flattened.

use serde_json::value::RawValue;

use super::{
    Decoded, Decoder, MAX_BATCH_CELLS, MAX_BATCH_ROWS, MAX_RECORD_BYTES,
    flatten::At,
    stop::{Reject, Stop},
    table::{Mark, Rows},
};
use crate::{error::Failure, selection::Nesting};

pub fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Decoded, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| decoder.malformed(format!("it is not UTF-8: {error}")))?;
    let mut batch = Batch::new(decoder);
    let trimmed = text.trim_start();
    match trimmed.strip_prefix('[') {
        Some(array) => batch.array_of_records(array)?,
        None => batch.lines(trimmed)?,
    }
    Ok(batch.finish())
}

/// The batch under construction: the stream's rows at 0, then those of its subtables, beside the decoder's shapes.
pub struct Batch<'d> {
    pub decoder: &'d mut Decoder,
    pub tables: Vec<Rows>,
    pub flatten: bool,
    /// The index in each array that is being read.
    pub levels: Vec<i64>,
    /// Elements of arrays so far, dropped ones included.
    pub elements: usize,
    marks: Vec<Mark>,
}

/// Where the batch stood, by the length of its stack of marks and the number of its tables.
pub struct Standing {
    marks: usize,
    tables: usize,
}

impl<'d> Batch<'d> {
    fn new(decoder: &'d mut Decoder) -> Self {
        let tables = decoder.shapes.iter().map(|_| Rows::default()).collect();
        let flatten = decoder.options.nesting == Nesting::Flatten;
        Self { decoder, tables, flatten, levels: Vec::new(), elements: 0, marks: Vec::new() }
    }

    /// `text` follows the opening bracket.
    fn array_of_records(&mut self, mut text: &str) -> Result<(), Failure> {
        loop {
            text = text.trim_start();
            if let Some(after) = text.strip_prefix(']') {
                return if after.trim_start().is_empty() {
                    Ok(())
                } else {
                    Err(self.decoder.malformed("text follows the JSON array"))
                };
            }
            let (raw, rest) = next_raw(text).map_err(|error| self.decoder.malformed(error))?;
            self.record(raw)?;
            let rest = rest.trim_start();
            text = match rest.strip_prefix(',') {
                Some(after) => after,
                None if rest.starts_with(']') => rest,
                None => return Err(self.decoder.malformed("the JSON array has no `,` or `]` after a record")),
            };
        }
    }

    /// Objects one after the other. What is no JSON is rejected up to the end of its line.
    fn lines(&mut self, mut text: &str) -> Result<(), Failure> {
        while !text.is_empty() {
            text = match next_raw(text) {
                Ok((raw, rest)) => {
                    self.record(raw)?;
                    rest.trim_start()
                }
                Err(error) => {
                    let end = text.find('\n').unwrap_or(text.len());
                    let message = format!("a line is not valid JSON: {error}");
                    self.reject(0, Reject { reason: "invalid-json", message }, &text[..end]);
                    text[end..].trim_start()
                }
            };
        }
        Ok(())
    }

    pub fn reject(&mut self, table: usize, reject: Reject, raw: &str) {
        self.tables[table].reject(&self.decoder.shapes[table].stream, reject, raw);
    }

    fn record(&mut self, raw: &str) -> Result<(), Failure> {
        if self.tables[0].emitted >= MAX_BATCH_ROWS as u64 {
            return Err(self.decoder.malformed(format!("it holds more than {MAX_BATCH_ROWS} records")));
        }
        self.check_cells()?;
        if raw.len() > MAX_RECORD_BYTES {
            let message = format!("the record has {} bytes; the limit is {MAX_RECORD_BYTES}", raw.len());
            self.reject(0, Reject { reason: "record-too-large", message }, raw);
            return Ok(());
        }
        if !raw.starts_with('{') {
            let message = "the record is not a JSON object".to_owned();
            self.reject(0, Reject { reason: "not-an-object", message }, raw);
            return Ok(());
        }
        let standing = self.mark();
        self.tables[0].begin(&self.decoder.shapes[0]);
        let wanted = self.decoder.options.selected.is_none();
        let read = self.object(At { table: 0, prefix: "", depth: 0, wanted }, raw);
        self.tables[0].rows += 1;
        self.levels.clear();
        match read {
            Ok(()) => {
                self.keep(&standing);
                self.tables[0].emitted += 1;
            }
            Err(Stop::Reject(reject) | Stop::RejectRecord(reject)) => {
                self.roll_back(&standing);
                self.reject(0, reject, raw);
            }
            Err(Stop::Filter) => {
                self.roll_back(&standing);
                self.filter(0);
            }
            Err(Stop::Fail(failure)) => return Err(failure),
        }
        Ok(())
    }

    pub fn filter(&mut self, table: usize) {
        self.tables[table].emitted += 1;
        self.tables[table].filtered += 1;
    }

    /// A few bytes stand for a row, and each row takes room in every column.
    pub fn check_cells(&self) -> Result<(), Failure> {
        let cells = self.tables.iter().zip(&self.decoder.shapes).map(|(rows, shape)| rows.rows * shape.columns());
        if cells.sum::<usize>() > MAX_BATCH_CELLS {
            return Err(self
                .decoder
                .malformed(format!("its rows have more than {MAX_BATCH_CELLS} cells: send fewer records in a batch")));
        }
        Ok(())
    }

    /// Remembers where all tables stand, until [`keep`](Self::keep) or [`roll_back`](Self::roll_back).
    pub fn mark(&mut self) -> Standing {
        let standing = Standing { marks: self.marks.len(), tables: self.tables.len() };
        self.marks.extend(self.tables.iter().zip(&self.decoder.shapes).map(|(rows, shape)| rows.mark(shape)));
        standing
    }

    pub fn keep(&mut self, standing: &Standing) {
        self.marks.truncate(standing.marks);
    }

    /// Takes back what all tables got since: rows, counts, columns, and the tables that are new.
    pub fn roll_back(&mut self, standing: &Standing) {
        self.decoder.forget_children(standing.tables);
        self.tables.truncate(standing.tables);
        let marks = &self.marks[standing.marks..standing.marks + standing.tables];
        for ((rows, shape), mark) in self.tables.iter_mut().zip(&mut self.decoder.shapes).zip(marks) {
            rows.roll_back(mark, shape);
        }
        self.marks.truncate(standing.marks);
    }

    fn finish(mut self) -> Decoded {
        let shapes = &self.decoder.shapes;
        let (batch, ordinals, indices) = self.tables[0].finish(&shapes[0]);
        let mut children: Vec<_> = self.tables[1..]
            .iter_mut()
            .zip(&shapes[1..])
            .filter_map(|(rows, shape)| rows.finish_child(shape, indices.as_deref()))
            .collect();
        children.sort_by(|a, b| a.path.cmp(&b.path));
        let Rows { emitted, filtered, rejected, .. } = self.tables.swap_remove(0);
        let batches = if batch.num_rows() == 0 { Vec::new() } else { vec![batch] };
        self.decoder.adopt_children();
        Decoded { batches, emitted, rejected, filtered, ordinals, children }
    }
}

/// Delimits the JSON value at the start of `text`.
fn next_raw(text: &str) -> Result<(&str, &str), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(raw)) => Ok((raw.get(), &text[values.byte_offset()..])),
        Some(Err(error)) => Err(error),
        None => Err(serde::de::Error::custom("a value is missing")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Array, cast::AsArray, types::*};

    use super::*;
    use crate::{
        DataType, Field,
        decode::{DecodeOptions, MAX_COLUMNS, MAX_NAME_BYTES},
        schema::StreamSchema,
    };

    fn decoder(fields: &[(&str, DataType)]) -> Decoder {
        let fields = fields.iter().map(|(n, t)| Field { name: (*n).into(), data_type: *t, nullable: true }).collect();
        Decoder::new("s", StreamSchema::new(fields), DecodeOptions::default())
    }

    fn accounted(decoded: &Decoded) {
        assert_eq!(decoded.emitted, decoded.rows() + decoded.rejected.len() as u64);
    }

    #[test]
    fn arrays_and_lines_give_the_same_columns() {
        let array = decoder(&[]).json(br#" [{"id":1,"t":"a\u0041","n":{"x":[1]}}, {"id":2,"b":true}] "#).unwrap();
        let lines =
            decoder(&[]).json(b"{\"id\":1,\"t\":\"a\\u0041\",\"n\":{\"x\":[1]}}\n\n{\"id\":2,\"b\":true}").unwrap();
        assert_eq!(array.batches, lines.batches);
        let batch = &array.batches[0];
        assert_eq!(batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(batch.column_by_name("t").unwrap().as_string::<i32>().value(0), "aA");
        assert_eq!(batch.column_by_name("n").unwrap().as_string::<i32>().value(0), r#"{"x":[1]}"#);
        assert!(batch.column_by_name("b").unwrap().is_null(0));
        accounted(&array);
    }

    #[test]
    fn integers_widen_and_strings_go_to_a_variant_column() {
        let mut decoder = decoder(&[("v", DataType::Int64)]);
        let decoded = decoder.json(br#"[{"v":1},{"v":2.5},{"v":"x"},{"v":9223372036854775808}]"#).unwrap();
        let batch = &decoded.batches[0];
        let v = batch.column_by_name("v").unwrap().as_primitive::<Float64Type>();
        assert_eq!((v.value(0), v.value(1), v.is_null(2), v.is_null(3)), (1.0, 2.5, true, true));
        assert_eq!(batch.column_by_name("v__text").unwrap().as_string::<i32>().value(2), "x");
        assert_eq!(batch.column_by_name("v__decimal").unwrap().as_primitive::<Decimal128Type>().value(3), 1_i128 << 63);
        accounted(&decoded);
    }

    #[test]
    fn an_integer_that_no_double_holds_keeps_its_column() {
        let decoded = decoder(&[("v", DataType::Int64)]).json(br#"[{"v":9007199254740993},{"v":0.5}]"#).unwrap();
        let batch = &decoded.batches[0];
        assert_eq!(batch.column_by_name("v").unwrap().as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
        assert_eq!(batch.column_by_name("v__double").unwrap().as_primitive::<Float64Type>().value(1), 0.5);
    }

    #[test]
    fn one_bad_record_never_fails_the_rest() {
        let lines = b"{\"a\":1}\nnot json\n{\"a\":\"\\ud800\"}\n[1]\n{\"a\":1,\"a\":2}\n{\"_thimble_x\":1}\n{\"\\ud800\":1}\n{\"a\":3}\n{\"a\":";
        let decoded = decoder(&[("a", DataType::Int64)]).json(lines).unwrap();
        let reasons: Vec<_> = decoded.rejected.iter().map(|r| r.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "invalid-json",
                "invalid-text",
                "not-an-object",
                "duplicate-field",
                "reserved-name",
                "invalid-text",
                "invalid-json"
            ]
        );
        assert_eq!(decoded.rows(), 2);
        assert_eq!(decoded.emitted, 9);
        accounted(&decoded);
    }

    #[test]
    fn nesting_20_000_deep_is_kept_as_text() {
        let deep = format!("[{{\"a\":{}{}}}]", "[".repeat(20_000), "]".repeat(20_000));
        let decoded = decoder(&[]).json(deep.as_bytes()).unwrap();
        assert_eq!(decoded.batches[0].column(0).as_string::<i32>().value(0).len(), 40_000);
    }

    #[test]
    fn every_limit_is_named_in_its_rejection() {
        let big = format!("[{{\"a\":\"{}\"}}]", "x".repeat(MAX_RECORD_BYTES));
        assert_eq!(decoder(&[]).json(big.as_bytes()).unwrap().rejected[0].reason, "record-too-large");
        let long = format!("[{{\"{}\":1}}]", "k".repeat(MAX_NAME_BYTES + 1));
        assert_eq!(decoder(&[]).json(long.as_bytes()).unwrap().rejected[0].reason, "name-too-long");
        let wide: Vec<_> = (0..=MAX_COLUMNS).map(|i| format!("\"k{i}\":1")).collect();
        let decoded = decoder(&[]).json(format!("[{{{}}}]", wide.join(",")).as_bytes()).unwrap();
        assert_eq!(decoded.rejected[0].reason, "too-many-columns");
        let many = "{}".repeat(MAX_BATCH_ROWS + 1);
        assert!(decoder(&[]).json(many.as_bytes()).unwrap_err().message.contains("1000000"));
    }

    #[test]
    fn unselected_fields_never_become_columns() {
        let mut decoder = Decoder::new(
            "s",
            StreamSchema::default(),
            DecodeOptions { selected: Some(["a".to_owned()].into()), ..DecodeOptions::default() },
        );
        let decoded = decoder.json(br#"[{"a":1,"b":2}]"#).unwrap();
        assert_eq!(decoded.batches[0].num_columns(), 1);
    }
}
