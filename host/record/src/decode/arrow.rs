//! Arrow IPC streams to the stream's schema: columns are matched by name, widened, or split; rows with a value that has no
//! place are rejected or left out, as records of JSON are.

use std::{
    collections::{BTreeMap, HashSet},
    io::Cursor,
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, cast::AsArray,
    new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType as ArrowType;

use super::{
    Decoded, Decoder, MAX_BATCH_ROWS,
    column::exact_as_double,
    row_json, scalar,
    shape::Shape,
    stop::{Reject, Stop, Unforeseen},
};
use crate::{
    error::Failure,
    rejected::Rejected,
    schema::{DataType, Field},
    selection::Contract,
};

pub fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Decoded, Failure> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| decoder.malformed(error))?;
    let mut decoded = Decoded::default();
    for batch in reader {
        let batch = batch.map_err(|error| decoder.malformed(error))?;
        if decoded.emitted + batch.num_rows() as u64 > MAX_BATCH_ROWS as u64 {
            return Err(decoder.malformed(format!("it holds more than {MAX_BATCH_ROWS} records")));
        }
        if batch.num_rows() > 0 {
            let (rows, out) = reconcile(decoder, &batch)?;
            settle(decoder, &mut decoded, &batch, rows, out);
        }
    }
    Ok(decoded)
}

/// Rows that are none, and why.
#[derive(Default)]
struct Out(BTreeMap<usize, Stop>);

impl Out {
    fn reject(&mut self, rows: &BooleanArray, reason: &'static str, message: &str) {
        for row in rows.values().set_indices() {
            self.0.entry(row).or_insert_with(|| Stop::Reject(Reject { reason, message: message.to_owned() }));
        }
    }

    fn filter(&mut self, rows: &BooleanArray) {
        for row in rows.values().set_indices() {
            self.0.entry(row).or_insert(Stop::Filter);
        }
    }
}

/// Counts one batch's rows, and leaves out those that are none.
fn settle(decoder: &Decoder, decoded: &mut Decoded, sent: &RecordBatch, rows: RecordBatch, Out(out): Out) {
    let first = decoded.emitted;
    let kept_before = decoded.rows();
    decoded.emitted += sent.num_rows() as u64;
    if out.is_empty() {
        if let Some(places) = &mut decoded.ordinals {
            places.extend(first..decoded.emitted);
        }
        decoded.batches.push(rows);
        return;
    }
    let places = decoded.ordinals.get_or_insert_with(|| (0..kept_before).collect());
    let mut keep = vec![true; sent.num_rows()];
    out.keys().for_each(|row| keep[*row] = false);
    places.extend(keep.iter().zip(first..).filter_map(|(stays, place)| stays.then_some(place)));
    for (row, stop) in out {
        match stop {
            Stop::Reject(Reject { reason, message }) | Stop::RejectRecord(Reject { reason, message }) => {
                let rejected = Rejected::new(&decoder.shapes[0].stream, reason, message, &row_json(sent, row));
                decoded.rejected.push(Rejected { ordinal: Some(first + row as u64), ..rejected });
            }
            Stop::Filter | Stop::Fail(_) => decoded.filtered += 1,
        }
    }
    let rows = arrow_select::filter::filter_record_batch(&rows, &BooleanArray::from(keep))
        .expect("the filter has the batch's length");
    if rows.num_rows() > 0 {
        decoded.batches.push(rows);
    }
}

/// Brings one batch to the stream's schema, growing the schema where the batch has more and the contract allows it.
fn reconcile(decoder: &mut Decoder, batch: &RecordBatch) -> Result<(RecordBatch, Out), Failure> {
    let rows = batch.num_rows();
    let mut work = Work { arrays: vec![None; decoder.shapes[0].columns()], out: Out::default(), decoder };
    let mut seen = HashSet::new();
    for (arrow_field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = arrow_field.name();
        if !work.decoder.wants(name) || arrow_field.data_type() == &ArrowType::Null {
            continue;
        }
        if !seen.insert(name.clone()) {
            return Err(work.decoder.malformed(format!("column `{name}` stands twice")));
        }
        if work.shape().is_deletion(name) {
            work.deletion(array);
            continue;
        }
        let field = supported(work.decoder, arrow_field)?;
        let array = work.normal(&field, array);
        match work.shape().position(name) {
            Some(position) if work.decoder.options.contract == Contract::Evolve => {
                work.evolve(position, &field, &array);
            }
            Some(position) => work.obey(position, &field, &array)?,
            None => work.new_column(&field, array)?,
        }
    }
    let Work { arrays, out, decoder } = work;
    let shape = &decoder.shapes[0];
    let filled = arrays
        .into_iter()
        .zip(&shape.schema.fields)
        .map(|(array, field)| array.unwrap_or_else(|| new_null_array(&field.data_type.to_arrow(), rows)))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(shape.schema.to_arrow(), filled, &options)
        .map_err(|error| decoder.malformed(error))?;
    Ok((batch, out))
}

/// Refuses types whose values may alias (a few bytes of dictionary or view standing for gigabytes) and
/// those that we have no type for.
fn supported(decoder: &Decoder, arrow_field: &arrow_schema::Field) -> Result<Field, Failure> {
    let aliasing =
        matches!(arrow_field.data_type(), ArrowType::Dictionary(..) | ArrowType::Utf8View | ArrowType::BinaryView);
    match Field::from_arrow(arrow_field) {
        Some(field) if !aliasing => Ok(field),
        _ => Err(decoder.malformed(format!(
            "column `{}` has the type {}; send plain columns, and nested values as JSON text",
            arrow_field.name(),
            arrow_field.data_type()
        ))),
    }
}

/// One batch on its way into the stream's schema.
struct Work<'d> {
    decoder: &'d mut Decoder,
    /// By column of the schema.
    arrays: Vec<Option<ArrayRef>>,
    out: Out,
}

impl Work<'_> {
    fn shape(&self) -> &Shape {
        &self.decoder.shapes[0]
    }

    /// A column in the type that we have for it.
    fn normal(&mut self, field: &Field, array: &ArrayRef) -> ArrayRef {
        let normal = cast_safely(array, field.data_type);
        let lost = lost(array, &normal);
        if lost.true_count() > 0 {
            let message = format!(
                "the field `{}` holds a value out of the range of {}",
                field.name,
                field.data_type.short_name()
            );
            self.out.reject(&lost, "out-of-range", &message);
        }
        normal
    }

    /// The moments at which records were deleted.
    fn deletion(&mut self, array: &ArrayRef) {
        let name = crate::system::DELETED_FIELD;
        let position = self.shape().position(name);
        let position = position.unwrap_or_else(|| self.decoder.shapes[0].add(name.to_owned(), DataType::TimestampTz));
        let instants = match DataType::from_arrow(array.data_type()) {
            Some(DataType::Timestamp | DataType::TimestampTz) => cast_safely(array, DataType::TimestampTz),
            Some(DataType::Text) => {
                let texts = cast_safely(array, DataType::Text);
                let instant = |text: Option<&str>| text.and_then(scalar::timestamp).map(|(micros, _)| micros);
                let instants = texts.as_string::<i32>().iter().map(instant);
                Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            _ => new_null_array(&DataType::TimestampTz.to_arrow(), array.len()),
        };
        let message = "the moment of the deletion is not a timestamp such as 2024-01-31T12:00:00Z";
        self.out.reject(&lost(array, &instants), "invalid-deletion-time", message);
        self.put(position, instants);
    }

    fn new_column(&mut self, field: &Field, array: ArrayRef) -> Result<(), Failure> {
        let there = present(&array);
        if let Some(Reject { reason, message }) = self.shape().refuse_reserved(&field.name) {
            self.out.reject(&there, reason, &message);
            return Ok(());
        }
        if self.decoder.options.contract != Contract::Evolve {
            return self.decide(&Unforeseen::NewField(&field.name, field.data_type), &there);
        }
        if let Some(position) = self.add(&field.name, field.data_type, &there) {
            self.put(position, array);
        }
        Ok(())
    }

    /// A new column for values in `there`; without one where its name is refused, and those rows with it.
    fn add(&mut self, name: &str, data_type: DataType, there: &BooleanArray) -> Option<usize> {
        match self.shape().refuse_new(name, &self.decoder.options) {
            Some(Reject { reason, message }) => {
                self.out.reject(there, reason, &message);
                None
            }
            None => Some(self.decoder.shapes[0].add(name.to_owned(), data_type)),
        }
    }

    fn decide(&mut self, unforeseen: &Unforeseen<'_>, rows: &BooleanArray) -> Result<(), Failure> {
        match self.decoder.options.decide(&self.shape().stream, unforeseen) {
            Err(Stop::Fail(failure)) => return Err(failure),
            Err(_) => self.out.filter(rows),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Into a column that may widen, or get another beside it.
    fn evolve(&mut self, position: usize, field: &Field, array: &ArrayRef) {
        if let Some(wider) = widen(self.shape().type_of(position), field.data_type, array)
            && let Some(fitted) = cast(array, wider)
        {
            self.decoder.shapes[0].widen(position, wider);
            self.put(position, fitted);
            return;
        }
        let target = self.shape().type_of(position);
        let kept = match array.data_type() {
            ArrowType::Utf8 => cast_safely(array, target),
            _ => new_null_array(&target.to_arrow(), array.len()),
        };
        let others = lost(array, &kept);
        self.put(position, kept);
        if others.true_count() == 0 {
            return;
        }
        let name = format!("{}__{}", field.name, field.data_type.short_name());
        let existing = self.shape().position(&name);
        let Some(variant) = existing.or_else(|| self.add(&name, field.data_type, &others)) else { return };
        let homeless = self.put_others(variant, array, &others);
        let message = format!("the field `{}` holds a value that fits no column of it", field.name);
        self.out.reject(&homeless, "type-conflict", &message);
    }

    /// Into a column that must stay as it is.
    fn obey(&mut self, position: usize, field: &Field, array: &ArrayRef) -> Result<(), Failure> {
        let column = self.shape().type_of(position);
        let fitted = match widen(column, field.data_type, array) {
            Some(wider) if wider == column => cast(array, column),
            _ => None,
        };
        let kept = fitted.unwrap_or_else(|| fitting(array, field.data_type, column));
        let mut others = lost(array, &kept);
        self.put(position, kept);
        if others.true_count() == 0 {
            return Ok(());
        }
        let variant = self.shape().position(&format!("{}__{}", field.name, field.data_type.short_name()));
        if let Some(variant) = variant {
            others = self.put_others(variant, array, &others);
        }
        if others.true_count() == 0 {
            return Ok(());
        }
        self.decide(&Unforeseen::OtherType { field: &field.name, column, found: field.data_type }, &others)
    }

    /// Puts the values of some rows into a variant column. Returns the rows whose values do not fit there either.
    fn put_others(&mut self, variant: usize, array: &ArrayRef, rows: &BooleanArray) -> BooleanArray {
        let nulls = new_null_array(array.data_type(), array.len());
        let others =
            arrow_select::zip::zip(rows, array, &nulls).expect("all have the batch's length and the array's type");
        let fitted = cast_safely(&others, self.shape().type_of(variant));
        let homeless = lost(&others, &fitted);
        self.put(variant, fitted);
        homeless
    }

    /// Fills a column. A variant column may be sent by the source too: where both have a value, the row is rejected.
    fn put(&mut self, position: usize, array: ArrayRef) {
        self.arrays.resize(self.shape().columns().max(self.arrays.len()), None);
        let Some(there) = self.arrays[position].take() else {
            self.arrays[position] = Some(array);
            return;
        };
        let name = self.shape().schema.fields[position].name.clone();
        let both = (0..array.len()).map(|row| Some(there.is_valid(row) && array.is_valid(row))).collect();
        self.out.reject(&both, "duplicate-field", &format!("the field `{name}` has two values"));
        let data_type = self.shape().type_of(position);
        let (there, array) = (cast_safely(&there, data_type), cast_safely(&array, data_type));
        let merged = arrow_select::zip::zip(&present(&there), &there, &array).expect("both have the column's type");
        self.arrays[position] = Some(merged);
    }
}

/// Rows with a value.
fn present(array: &ArrayRef) -> BooleanArray {
    (0..array.len()).map(|row| Some(array.is_valid(row))).collect()
}

/// Rows whose value did not survive.
fn lost(before: &ArrayRef, after: &ArrayRef) -> BooleanArray {
    if before.logical_null_count() == after.logical_null_count() {
        return BooleanArray::from(vec![false; before.len()]);
    }
    (0..before.len()).map(|row| Some(before.is_valid(row) && after.is_null(row))).collect()
}

/// Casts; what does not survive becomes null.
fn cast_safely(array: &ArrayRef, to: DataType) -> ArrayRef {
    let arrow = to.to_arrow();
    if array.data_type() == &arrow {
        return Arc::clone(array);
    }
    cast_with_options(array, &arrow, &CastOptions { safe: true, ..CastOptions::default() })
        .unwrap_or_else(|_| new_null_array(&arrow, array.len()))
}

/// Casts where every value survives; `None` otherwise.
fn cast(array: &ArrayRef, to: DataType) -> Option<ArrayRef> {
    let cast = cast_safely(array, to);
    (cast.logical_null_count() == array.logical_null_count()).then_some(cast)
}

/// The values that a column of another type takes without loss.
fn fitting(array: &ArrayRef, found: DataType, column: DataType) -> ArrayRef {
    let number = |t| matches!(t, DataType::Int64 | DataType::Float64 | DataType::Decimal(..));
    let moment = |t| matches!(t, DataType::Date | DataType::Timestamp);
    let cast = cast_safely(array, column);
    if found == DataType::Text {
        return cast;
    }
    if !(number(found) && number(column) || moment(found) && moment(column)) {
        return new_null_array(&column.to_arrow(), array.len());
    }
    let back = cast_safely(&cast, found);
    let same = (0..array.len()).map(|row| Some(array.slice(row, 1).to_data() == back.slice(row, 1).to_data()));
    let same: BooleanArray = same.collect();
    let nulls = new_null_array(cast.data_type(), cast.len());
    arrow_select::zip::zip(&same, &cast, &nulls).expect("both have the column's type")
}

/// The type that takes both, without losing digits of integers.
fn widen(current: DataType, found: DataType, array: &ArrayRef) -> Option<DataType> {
    match (current, found) {
        (current, found) if current == found => Some(current),
        (DataType::Float64, DataType::Int64) if !exact_as_double(array) => None,
        // Text into any column is a matter of its values; any value into text is not a loss.
        (DataType::Text | DataType::Json, found) if found != DataType::Bytes => {
            Some(if found == DataType::Json { DataType::Text } else { current })
        }
        _ => current.widen(found),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::{Float64Array, Int32Array, Int64Array, StringArray, cast::AsArray, types::*};
    use arrow_ipc::writer::StreamWriter;

    use super::*;
    use crate::{decode::DecodeOptions, schema::StreamSchema};

    fn ipc(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    fn decoder(fields: &[(&str, DataType)]) -> Decoder {
        let fields = fields.iter().map(|(n, t)| Field { name: (*n).into(), data_type: *t, nullable: true }).collect();
        Decoder::new("s", StreamSchema::new(fields), DecodeOptions::default())
    }

    #[test]
    fn small_integers_become_int64_and_missing_columns_null() {
        let bytes = ipc(vec![("b", Arc::new(Int32Array::from(vec![1, 2])))]);
        let decoded = decoder(&[("a", DataType::Text)]).arrow(&bytes).unwrap();
        let batch = &decoded.batches[0];
        assert_eq!(batch.column(0).null_count(), 2);
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(decoded.emitted, 2);
    }

    #[test]
    fn text_in_a_number_column_is_parsed_or_split() {
        let bytes = ipc(vec![("v", Arc::new(StringArray::from(vec![Some("7"), Some("seven"), None])))]);
        let decoded = decoder(&[("v", DataType::Int64)]).arrow(&bytes).unwrap();
        let batch = &decoded.batches[0];
        let v = batch.column_by_name("v").unwrap().as_primitive::<Int64Type>();
        assert_eq!((v.value(0), v.is_null(1), v.is_null(2)), (7, true, true));
        let text = batch.column_by_name("v__text").unwrap().as_string::<i32>();
        assert_eq!((text.is_null(0), text.value(1), text.is_null(2)), (true, "seven", true));
    }

    #[test]
    fn doubles_widen_integers_unless_digits_would_be_lost() {
        let mut decoder = decoder(&[("v", DataType::Float64)]);
        let exact = decoder.arrow(&ipc(vec![("v", Arc::new(Int64Array::from(vec![3])))])).unwrap();
        assert_eq!(exact.batches[0].column(0).as_primitive::<Float64Type>().value(0), 3.0);
        let inexact = decoder.arrow(&ipc(vec![("v", Arc::new(Int64Array::from(vec![(1_i64 << 53) + 1])))])).unwrap();
        assert_eq!(
            inexact.batches[0].column_by_name("v__integer").unwrap().as_primitive::<Int64Type>().value(0),
            (1 << 53) + 1
        );
        let mut ints = super::tests::decoder(&[("v", DataType::Int64)]);
        ints.arrow(&ipc(vec![("v", Arc::new(Float64Array::from(vec![0.5])))])).unwrap();
        assert_eq!(ints.schema().fields[0].data_type, DataType::Float64);
    }

    #[test]
    fn a_json_column_stays_json_from_batch_to_batch() {
        let field = Field { name: "j".into(), data_type: DataType::Json, nullable: true }.to_arrow();
        let schema = Arc::new(arrow_schema::Schema::new(vec![field]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(vec!["{}"]))]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let mut decoder = decoder(&[]);
        decoder.arrow(&bytes).unwrap();
        assert_eq!(decoder.schema().fields[0].data_type, DataType::Json);
    }

    #[test]
    fn aliasing_and_nested_types_and_garbage_are_refused_by_name() {
        let dictionary: ArrayRef = Arc::new(arrow_array::DictionaryArray::<Int8Type>::from_iter(["a", "a"]));
        let error = decoder(&[]).arrow(&ipc(vec![("d", dictionary)])).unwrap_err();
        assert!(error.message.contains("column `d`"), "{error}");
        assert!(decoder(&[]).arrow(b"ARROW1 and then nothing").unwrap_err().message.contains("stream s"));
        let rows: ArrayRef = Arc::new(arrow_array::NullArray::new(MAX_BATCH_ROWS + 1));
        assert!(decoder(&[]).arrow(&ipc(vec![("n", rows)])).unwrap_err().message.contains("1000000"));
    }
}
