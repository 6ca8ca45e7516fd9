//! Spans of a batch to typed Arrow columns, one column at a time.
//!
//! Owns nulls and what becomes of a column with values that do not fit its type. Pure.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
    types::{
        ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
        TimestampMicrosecondType,
    },
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};

use crate::{
    csv_split::{Form, Span},
    kind::{Guess, Kind},
    moment, scalar,
};

/// Fields that stand for null.
#[derive(Debug, Clone)]
pub struct Nulls {
    words: Vec<Vec<u8>>,
    /// Bit n: a word of n bytes; bit 63: one of 63 or more.
    lengths: u64,
}

impl Nulls {
    pub fn new(words: &[String]) -> Self {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let lengths = words.iter().fold(0, |bits, word| bits | 1 << word.len().min(63));
        Self { words, lengths }
    }

    #[inline]
    fn holds(&self, text: &[u8]) -> bool {
        self.lengths >> text.len().min(63) & 1 == 1 && self.words.iter().any(|word| word == text)
    }
}

/// The records of one batch: `width` spans each.
pub struct Table<'a> {
    pub data: &'a [u8],
    pub scratch: &'a [u8],
    pub spans: &'a [Span],
    pub width: usize,
    pub nulls: &'a Nulls,
}

impl<'a> Table<'a> {
    pub fn rows(&self) -> usize {
        self.spans.len() / self.width
    }

    fn column(&self, column: usize) -> impl Iterator<Item = (Form, &'a [u8])> + '_ {
        self.spans[column.min(self.spans.len())..].iter().step_by(self.width).map(|span| {
            let bytes = if span.form == Form::Unescaped { self.scratch } else { self.data };
            (span.form, &bytes[span.start as usize..span.end as usize])
        })
    }

    /// The values for a column of text: what is quoted is never null.
    fn texts(&self, column: usize) -> impl Iterator<Item = Option<&'a [u8]>> + '_ {
        self.column(column).map(|(form, text)| (form != Form::Plain || !self.nulls.holds(text)).then_some(text))
    }

    /// The values for a column of any other type: without the spaces around them, and null where nothing is left.
    fn values(&self, column: usize) -> impl Iterator<Item = Option<&'a [u8]>> + '_ {
        self.texts(column).map(|text| text.map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()))
    }

    /// What the values of a column look like.
    pub fn guess(&self, column: usize, guess: &mut Guess) {
        self.values(column).flatten().for_each(|value| guess.see_text(value));
    }

    /// A column as `kind` where every value fits. Else as the type that fits them all, for the host to widen to;
    /// else as text, for the host to keep what it can read and put the rest beside it.
    pub fn build(&self, column: usize, kind: Kind) -> (Kind, ArrayRef) {
        if let Some(array) = self.typed(column, kind) {
            return (kind, array);
        }
        let mut guess = Guess::default();
        self.guess(column, &mut guess);
        let wider = guess.kind();
        match self.typed(column, wider) {
            Some(array) if wider != Kind::Text => (wider, array),
            _ => (Kind::Text, self.canonical(column, kind)),
        }
    }

    fn typed(&self, column: usize, kind: Kind) -> Option<ArrayRef> {
        Some(match kind {
            Kind::Boolean => self.booleans(column)?,
            Kind::Int64 => Arc::new(self.primitive::<Int64Type>(column, scalar::int64)?),
            Kind::Float64 => Arc::new(self.primitive::<Float64Type>(column, scalar::float64)?),
            Kind::Decimal(precision, scale) => {
                let array = self.primitive::<Decimal128Type>(column, |text| scalar::decimal(text, precision, scale))?;
                Arc::new(array.with_precision_and_scale(precision, scale).ok()?)
            }
            Kind::Date => Arc::new(self.primitive::<Date32Type>(column, moment::date)?),
            Kind::Time => Arc::new(self.primitive::<Time64MicrosecondType>(column, moment::time)?),
            Kind::Timestamp => Arc::new(self.primitive::<TimestampMicrosecondType>(column, local)?),
            Kind::TimestampTz => {
                Arc::new(self.primitive::<TimestampMicrosecondType>(column, instant)?.with_timezone("UTC"))
            }
            Kind::Text | Kind::Json | Kind::Bytes => self.text(column, kind)?,
        })
    }

    fn primitive<T: ArrowPrimitiveType>(
        &self,
        column: usize,
        parse: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> Option<PrimitiveArray<T>> {
        let rows = self.rows();
        let (mut values, mut nulls) = (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
        for value in self.values(column) {
            match value {
                Some(text) => {
                    values.push(parse(text)?);
                    nulls.append_non_null();
                }
                None => {
                    values.push(T::Native::default());
                    nulls.append_null();
                }
            }
        }
        Some(PrimitiveArray::new(ScalarBuffer::from(values), nulls.finish()))
    }

    fn booleans(&self, column: usize) -> Option<ArrayRef> {
        let rows = self.rows();
        let (mut values, mut nulls) = (BooleanBufferBuilder::new(rows), NullBufferBuilder::new(rows));
        for value in self.values(column) {
            values.append(value.map_or(Some(false), scalar::boolean)?);
            nulls.append(value.is_some());
        }
        Some(Arc::new(BooleanArray::new(values.finish(), nulls.finish())))
    }

    fn text(&self, column: usize, kind: Kind) -> Option<ArrayRef> {
        let mut strings = Strings::new(self.rows(), self.data.len() / self.width);
        self.texts(column).for_each(|text| strings.push(text));
        let (offsets, values, nulls) = strings.finish();
        Some(match kind {
            Kind::Bytes => Arc::new(BinaryArray::try_new(offsets, values, nulls).ok()?),
            // Records with invalid UTF-8 were rejected before, so this checks without failing.
            _ => Arc::new(StringArray::try_new(offsets, values, nulls).ok()?),
        })
    }

    /// Text for the host to read as `kind`: times in ISO 8601 however they were written.
    fn canonical(&self, column: usize, kind: Kind) -> ArrayRef {
        let mut strings = Strings::new(self.rows(), self.data.len() / self.width);
        for text in self.texts(column) {
            let iso = text.and_then(|text| iso(text.trim_ascii(), kind));
            strings.push(iso.as_deref().map(str::as_bytes).or(text));
        }
        let (offsets, values, nulls) = strings.finish();
        let array = StringArray::try_new(offsets, values, nulls);
        Arc::new(array.expect("records with invalid UTF-8 were rejected before"))
    }
}

fn iso(text: &[u8], kind: Kind) -> Option<String> {
    match kind {
        Kind::Date => moment::date(text).map(moment::date_text),
        Kind::Timestamp => local(text).map(|micros| moment::timestamp_text(micros, false)),
        Kind::TimestampTz => instant(text).map(|micros| moment::timestamp_text(micros, true)),
        _ => None,
    }
}

/// A timestamp without zone; a date is its midnight.
fn local(text: &[u8]) -> Option<i64> {
    match moment::timestamp(text) {
        Some((micros, zone)) => (!zone).then_some(micros),
        None => moment::date(text).map(|days| i64::from(days) * 86_400_000_000),
    }
}

/// A timestamp with a zone.
fn instant(text: &[u8]) -> Option<i64> {
    moment::timestamp(text).and_then(|(micros, zone)| zone.then_some(micros))
}

/// Strings under construction; UTF-8 is checked once, at the end.
struct Strings {
    offsets: Vec<i32>,
    values: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl Strings {
    fn new(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, values: Vec::with_capacity(bytes), nulls: NullBufferBuilder::new(rows) }
    }

    #[inline]
    fn push(&mut self, text: Option<&[u8]>) {
        self.values.extend_from_slice(text.unwrap_or_default());
        self.offsets.push(i32::try_from(self.values.len()).expect("windows are far below 2 GiB"));
        self.nulls.append(text.is_some());
    }

    fn finish(mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.values), self.nulls.finish())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Array, cast::AsArray};

    use super::*;
    use crate::csv_split::{Dialect, Scan, Splitter, blank_lines};

    fn column(text: &str, kind: Kind) -> (Kind, ArrayRef) {
        let splitter = Splitter::new(Dialect { delimiter: b',', quote: Some(b'"') });
        let (mut spans, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
        let data = text.as_bytes();
        loop {
            at += blank_lines(&data[at..]).0;
            if at == data.len() {
                break;
            }
            let Scan::Record { end, .. } = splitter.scan(data, at, true, &mut spans, &mut scratch) else { panic!() };
            at = end;
        }
        let nulls = Nulls::new(&["".into(), "NULL".into()]);
        Table { data, scratch: &scratch, spans: &spans, width: 1, nulls: &nulls }.build(0, kind)
    }

    #[test]
    fn quoted_words_are_never_null() {
        let (_, array) = column("a\nNULL\n\"NULL\"\n\"\"\n\"x\"\"y\"\n", Kind::Text);
        let strings: Vec<Option<&str>> = array.as_string::<i32>().iter().collect();
        assert_eq!(strings, [Some("a"), None, Some("NULL"), Some(""), Some("x\"y")]);
        let (kind, array) = column("1\n\"\"\n 2 \nNULL\n", Kind::Int64);
        assert_eq!((kind, array.null_count()), (Kind::Int64, 2));
        assert_eq!(array.as_primitive::<Int64Type>().value(2), 2);
    }

    #[test]
    fn a_column_that_changes_widens_or_becomes_text() {
        let (kind, array) = column("1\n2.5\n", Kind::Int64);
        assert_eq!(kind, Kind::Float64);
        assert_eq!(array.as_primitive::<Float64Type>().values(), &[1.0, 2.5]);
        let (kind, array) = column("1\nmany\n", Kind::Int64);
        assert_eq!((kind, array.as_string::<i32>().value(1)), (Kind::Text, "many"));
        let (kind, array) = column("2020/01/01 10:00\nsoon\n", Kind::Timestamp);
        assert_eq!((kind, array.as_string::<i32>().value(0)), (Kind::Text, "2020-01-01T10:00:00.000000"));
        assert_eq!(column("2020-01-01\n2020-01-01 10:00\n", Kind::Date).0, Kind::Timestamp);
        assert_eq!(column("99999999999999999999\n", Kind::Int64).0, Kind::Decimal(38, 0));
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(column("true\nFALSE\nNULL\n", Kind::Boolean).1.as_boolean().true_count(), 1);
        assert_eq!(column("1970-01-03\n", Kind::Date).1.as_primitive::<Date32Type>().value(0), 2);
        assert_eq!(column("00:00:01\n", Kind::Time).1.as_primitive::<Time64MicrosecondType>().value(0), 1_000_000);
        let (kind, zoned) = column("1970-01-01T00:00:01+00:00\n", Kind::TimestampTz);
        assert_eq!(kind, Kind::TimestampTz);
        assert_eq!(zoned.as_primitive::<TimestampMicrosecondType>().value(0), 1_000_000);
        assert_eq!(column("1.25\n", Kind::Decimal(5, 2)).1.as_primitive::<Decimal128Type>().value(0), 125);
        assert_eq!(column("ab\n", Kind::Bytes).1.as_binary::<i32>().value(0), b"ab");
    }
}
