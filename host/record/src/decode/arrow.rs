//! Arrow IPC streams to the stream's schema: columns are matched by name, widened, or split.

use std::{io::Cursor, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType as ArrowType;

use super::{Decoded, Decoder, MAX_BATCH_ROWS, column::exact_as_double};
use crate::{
    error::Failure,
    schema::{DataType, Field},
};

pub fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Decoded, Failure> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| decoder.malformed(error))?;
    let mut decoded = Decoded::default();
    for batch in reader {
        let batch = batch.map_err(|error| decoder.malformed(error))?;
        decoded.emitted += batch.num_rows() as u64;
        if decoded.emitted > MAX_BATCH_ROWS as u64 {
            return Err(decoder.malformed(format!("it holds more than {MAX_BATCH_ROWS} records")));
        }
        if batch.num_rows() > 0 {
            decoded.batches.push(reconcile(decoder, &batch)?);
        }
    }
    Ok(decoded)
}

/// Brings one batch to the stream's schema, growing the schema where the batch has more.
fn reconcile(decoder: &mut Decoder, batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let mut arrays: Vec<Option<ArrayRef>> = vec![None; decoder.schema.fields.len()];
    for (arrow_field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if !decoder.wants(arrow_field.name()) || arrow_field.data_type() == &ArrowType::Null {
            continue;
        }
        let field = supported(decoder, arrow_field)?;
        let array = cast(array, field.data_type)
            .ok_or_else(|| decoder.malformed(format!("column `{}` has values out of range", field.name)))?;
        place(decoder, &mut arrays, field, array)?;
    }
    let rows = batch.num_rows();
    let filled = arrays
        .into_iter()
        .zip(&decoder.schema.fields)
        .map(|(array, field)| array.unwrap_or_else(|| new_null_array(&field.data_type.to_arrow(), rows)))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(decoder.schema.to_arrow(), filled, &options)
        .map_err(|error| decoder.malformed(error))
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

/// Casts where every value survives; `None` otherwise.
fn cast(array: &ArrayRef, to: DataType) -> Option<ArrayRef> {
    let arrow = to.to_arrow();
    if array.data_type() == &arrow {
        return Some(Arc::clone(array));
    }
    let cast = cast_with_options(array, &arrow, &CastOptions { safe: true, ..CastOptions::default() }).ok()?;
    (cast.logical_null_count() == array.logical_null_count()).then_some(cast)
}

fn put(arrays: &mut Vec<Option<ArrayRef>>, position: usize, array: ArrayRef) {
    if arrays.len() <= position {
        arrays.resize(position + 1, None);
    }
    arrays[position] = Some(array);
}

fn add(decoder: &mut Decoder, name: String, data_type: DataType) -> Result<usize, Failure> {
    match decoder.refuse_name(&name) {
        Some((_, message)) => Err(decoder.malformed(message)),
        None => Ok(decoder.add_field(Field { name, data_type, nullable: true })),
    }
}

fn place(
    decoder: &mut Decoder,
    arrays: &mut Vec<Option<ArrayRef>>,
    field: Field,
    array: ArrayRef,
) -> Result<(), Failure> {
    let Some(position) = decoder.index.get(&field.name).copied() else {
        let position = add(decoder, field.name, field.data_type)?;
        put(arrays, position, array);
        return Ok(());
    };
    if arrays.get(position).is_some_and(Option::is_some) {
        return Err(decoder.malformed(format!("column `{}` stands twice", field.name)));
    }
    let current = decoder.schema.fields[position].data_type;
    if let Some(wider) = widen(current, field.data_type, &array)
        && let Some(fitted) = cast(&array, wider)
    {
        decoder.schema.fields[position].data_type = wider;
        put(arrays, position, fitted);
        return Ok(());
    }
    split(decoder, arrays, position, &field, &array)
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

/// Values that the column can take stay in it; the others go to `name__type`.
fn split(
    decoder: &mut Decoder,
    arrays: &mut Vec<Option<ArrayRef>>,
    position: usize,
    field: &Field,
    array: &ArrayRef,
) -> Result<(), Failure> {
    let target = decoder.schema.fields[position].data_type.to_arrow();
    let kept = match array.data_type() {
        ArrowType::Utf8 => {
            cast_with_options(array, &target, &CastOptions { safe: true, ..CastOptions::default() }).ok()
        }
        _ => None,
    };
    let kept = kept.unwrap_or_else(|| new_null_array(&target, array.len()));
    let lost: BooleanArray = (0..array.len()).map(|row| Some(kept.is_null(row) && array.is_valid(row))).collect();
    if lost.true_count() > 0 {
        let name = format!("{}__{}", field.name, field.data_type.short_name());
        let variant = match decoder.index.get(&name) {
            Some(existing) => *existing,
            None => add(decoder, name, field.data_type)?,
        };
        let nulls = new_null_array(array.data_type(), array.len());
        let others = arrow_select::zip::zip(&lost, array, &nulls).map_err(|error| decoder.malformed(error))?;
        let others = cast(&others, decoder.schema.fields[variant].data_type)
            .ok_or_else(|| decoder.malformed(format!("column `{}` has values that fit no column of it", field.name)))?;
        put(arrays, variant, others);
    }
    debug_assert_eq!(kept.len(), array.len());
    put(arrays, position, kept);
    Ok(())
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
