//! JSON arrays and JSON lines to columns. Every record is first delimited as a raw slice, then its fields
//! are read as raw slices in turn, so that nested values are copied as text and never parsed.

use std::fmt;

use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Decoded, Decoder, MAX_BATCH_ROWS, MAX_RECORD_BYTES,
    column::{Column, Pushed, Value, unquote},
};
use crate::{
    error::Failure,
    rejected::Rejected,
    schema::{DataType, Field},
};

pub fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Decoded, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| decoder.malformed(format!("it is not UTF-8: {error}")))?;
    let columns = decoder.schema.fields.iter().map(|field| Column::new(field.data_type)).collect();
    let mut table = Table { decoder, columns, rows: 0, dropped: Vec::new(), rejected: Vec::new(), hint: 0 };
    let trimmed = text.trim_start();
    match trimmed.strip_prefix('[') {
        Some(array) => table.array(array)?,
        None => table.lines(trimmed)?,
    }
    table.finish()
}

/// The batch under construction. `rows` counts the dropped ones too, until `finish` filters them out.
struct Table<'d> {
    decoder: &'d mut Decoder,
    columns: Vec<Column>,
    rows: usize,
    dropped: Vec<usize>,
    rejected: Vec<Rejected>,
    /// Where the next key stood in the last record: records of one source mostly look alike.
    hint: usize,
}

/// Why a record cannot be a row.
struct Reject {
    reason: &'static str,
    message: String,
}

impl Table<'_> {
    /// `text` follows the opening bracket.
    fn array(&mut self, mut text: &str) -> Result<(), Failure> {
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
                    self.reject("invalid-json", format!("a line is not valid JSON: {error}"), &text[..end]);
                    text[end..].trim_start()
                }
            };
        }
        Ok(())
    }

    fn reject(&mut self, reason: &str, message: String, raw: &str) {
        self.rejected.push(Rejected::new(&self.decoder.stream, reason, message, raw));
    }

    fn record(&mut self, raw: &str) -> Result<(), Failure> {
        if self.rows + self.rejected.len() >= MAX_BATCH_ROWS {
            return Err(self.decoder.malformed(format!("it holds more than {MAX_BATCH_ROWS} records")));
        }
        if raw.len() > MAX_RECORD_BYTES {
            self.reject(
                "record-too-large",
                format!("the record has {} bytes; the limit is {MAX_RECORD_BYTES}", raw.len()),
                raw,
            );
            return Ok(());
        }
        if !raw.starts_with('{') {
            self.reject("not-an-object", "the record is not a JSON object".to_owned(), raw);
            return Ok(());
        }
        self.hint = 0;
        let mut refused = None;
        let read =
            serde_json::Deserializer::from_str(raw).deserialize_map(Fields { table: self, refused: &mut refused });
        // The slice was delimited as valid JSON, so only text that is no Unicode (a key with a lone surrogate) ends here.
        let refused = refused.or_else(|| {
            read.err().map(|error| Reject {
                reason: "invalid-text",
                message: format!("a field name cannot be read: {error}"),
            })
        });
        if let Some(Reject { reason, message }) = refused {
            self.dropped.push(self.rows);
            self.reject(reason, message, raw);
        }
        self.rows += 1;
        Ok(())
    }

    fn field(&mut self, key: &str, raw: &str) -> Result<(), Reject> {
        let Some(position) = self.position(key, raw)? else { return Ok(()) };
        let rows = self.rows;
        let column = &mut self.columns[position];
        if column.len() > rows {
            return Err(Reject {
                reason: "duplicate-field",
                message: format!("the field `{key}` stands twice in the record"),
            });
        }
        column.pad(rows);
        let value = Value::of(raw);
        match column.push(&value) {
            Pushed::Ok => Ok(()),
            Pushed::InvalidText => Err(invalid_text(key)),
            Pushed::Conflict => self.conflict(position, &value),
        }
    }

    /// The column of a field, made now where it is new; `None` where the field is not wanted or null.
    fn position(&mut self, key: &str, raw: &str) -> Result<Option<usize>, Reject> {
        let hinted = self.decoder.schema.fields.get(self.hint).filter(|field| field.name == key).map(|_| self.hint);
        if let Some(position) = hinted.or_else(|| self.decoder.index.get(key).copied()) {
            self.hint = position + 1;
            return Ok(Some(position));
        }
        if !self.decoder.wants(key) {
            return Ok(None);
        }
        let Some(data_type) = Value::of(raw).infer() else { return Ok(None) };
        self.add(key.to_owned(), data_type).map(Some)
    }

    fn add(&mut self, name: String, data_type: DataType) -> Result<usize, Reject> {
        if let Some((reason, message)) = self.decoder.refuse_name(&name) {
            return Err(Reject { reason, message });
        }
        self.columns.push(Column::new(data_type));
        Ok(self.decoder.add_field(Field { name, data_type, nullable: true }))
    }

    /// A value that does not fit: widen the column, or put the value into a variant column.
    fn conflict(&mut self, position: usize, value: &Value<'_>) -> Result<(), Reject> {
        let name = self.decoder.schema.fields[position].name.clone();
        let found = value.infer().expect("nulls never conflict");
        if self.columns[position].widen(found) {
            self.decoder.schema.fields[position].data_type = self.columns[position].data_type();
            if self.columns[position].push(value) == Pushed::Ok {
                return Ok(());
            }
        }
        for data_type in [found, DataType::Text] {
            let variant = format!("{name}__{}", data_type.short_name());
            let target = match self.decoder.index.get(&variant) {
                Some(existing) => *existing,
                None => self.add(variant, data_type)?,
            };
            if self.columns[target].len() > self.rows {
                continue;
            }
            self.columns[target].pad(self.rows);
            match self.columns[target].push(value) {
                Pushed::Ok => return Ok(()),
                Pushed::InvalidText => return Err(invalid_text(&name)),
                Pushed::Conflict => {}
            }
        }
        let message = format!("the field `{name}` holds a {} that fits no column of it", found.short_name());
        Err(Reject { reason: "type-conflict", message })
    }

    fn finish(self) -> Result<Decoded, Failure> {
        let Self { decoder, columns, rows, dropped, rejected, .. } = self;
        let emitted = (rows - dropped.len() + rejected.len()) as u64;
        let arrays = columns
            .into_iter()
            .map(|mut column| {
                column.pad(rows);
                column.finish()
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(decoder.schema.to_arrow(), arrays, &options)
            .expect("every column was padded to the number of rows and has the type of its field");
        let batch = if dropped.is_empty() { batch } else { without(&batch, &dropped) };
        let batches = if batch.num_rows() == 0 { Vec::new() } else { vec![batch] };
        Ok(Decoded { batches, emitted, rejected, ..Decoded::default() })
    }
}

fn invalid_text(key: &str) -> Reject {
    Reject {
        reason: "invalid-text",
        message: format!("the field `{key}` holds an escape that is no Unicode character"),
    }
}

fn without(batch: &RecordBatch, dropped: &[usize]) -> RecordBatch {
    let mut keep = vec![true; batch.num_rows()];
    for row in dropped {
        keep[*row] = false;
    }
    arrow_select::filter::filter_record_batch(batch, &BooleanArray::from(keep))
        .expect("the filter has the batch's length")
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

struct Fields<'t, 'd> {
    table: &'t mut Table<'d>,
    refused: &'t mut Option<Reject>,
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let raw: &'de RawValue = map.next_value()?;
            if self.refused.is_none() {
                let name = unquote(key.get()).ok_or_else(|| serde::de::Error::custom("a lone surrogate"))?;
                *self.refused = self.table.field(&name, raw.get()).err();
            }
        }
        Ok(())
    }
}

/// A key as its raw, quoted slice: names without escapes are compared without a copy.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'de RawValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Array, cast::AsArray, types::*};

    use super::*;
    use crate::{decode::DecodeOptions, schema::StreamSchema};

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
        let long = format!("[{{\"{}\":1}}]", "k".repeat(super::super::MAX_NAME_BYTES + 1));
        assert_eq!(decoder(&[]).json(long.as_bytes()).unwrap().rejected[0].reason, "name-too-long");
        let wide: Vec<_> = (0..=super::super::MAX_COLUMNS).map(|i| format!("\"k{i}\":1")).collect();
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
