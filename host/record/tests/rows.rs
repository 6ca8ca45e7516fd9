//! Rows written back as JSON are read to the same values.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;
use thimble_record::{
    DataType, Field, StreamSchema,
    decode::{DecodeOptions, Decoder, row_json},
};

const DAY: i64 = 86_400_000_000;

fn schema() -> StreamSchema {
    let types = [
        DataType::Boolean,
        DataType::Int64,
        DataType::Float64,
        DataType::Decimal(38, 9),
        DataType::Text,
        DataType::Bytes,
        DataType::Date,
        DataType::Time,
        DataType::Timestamp,
        DataType::TimestampTz,
        DataType::Json,
    ];
    let field = |t: &DataType| Field { name: format!("a \"{}\"\n", t.short_name()), data_type: *t, nullable: true };
    StreamSchema::new(types.iter().map(field).collect())
}

type Values = (
    (Option<bool>, Option<i64>, Option<f64>, Option<i128>, Option<String>, Option<Vec<u8>>),
    (Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<String>),
);

fn values() -> impl Strategy<Value = Values> {
    let double = prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        Just(1e300)
    ];
    let limit = 10_i128.pow(38);
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..10),
        "\\PC{0,8}".prop_map(String::into_bytes),
        Just(b"\\xyz".to_vec()),
        Just(b"\\x00ff".to_vec()),
    ];
    let text = prop_oneof!["\\PC{0,20}", Just("\0\u{1f600}\"\\".to_owned())];
    let json = prop_oneof![
        Just("{\"a\":[1,2.50,\"x\\ud83d\\ude00\"]}".to_owned()),
        Just("[]".to_owned()),
        Just("1e400".to_owned()),
        Just("\"text\"".to_owned()),
    ];
    let option = prop::option::of::<BoxedStrategy<i64>>;
    (
        (
            any::<Option<bool>>(),
            any::<Option<i64>>(),
            prop::option::of(double),
            prop::option::of(1 - limit..limit),
            prop::option::of(text),
            prop::option::of(bytes),
        ),
        (
            any::<Option<i32>>(),
            option((0..DAY).boxed()),
            any::<Option<i64>>(),
            any::<Option<i64>>(),
            prop::option::of(json),
        ),
    )
}

fn batch(rows: &[Values]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0.0).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| r.0.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.0.2).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.0.3).collect::<Decimal128Array>().with_precision_and_scale(38, 9).unwrap()),
        Arc::new(rows.iter().map(|r| r.0.4.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.0.5.as_deref()).collect::<BinaryArray>()),
        Arc::new(rows.iter().map(|r| r.1.0).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|r| r.1.1).collect::<Time64MicrosecondArray>()),
        Arc::new(rows.iter().map(|r| r.1.2).collect::<TimestampMicrosecondArray>()),
        Arc::new(rows.iter().map(|r| r.1.3).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.1.4.as_deref()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema().to_arrow(), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn rows_come_back(rows in prop::collection::vec(values(), 1..5)) {
        let batch = batch(&rows);
        let lines: Vec<_> = (0..rows.len()).map(|row| row_json(&batch, row)).collect();
        let mut decoder = Decoder::new("s", schema(), DecodeOptions::default());
        let decoded = decoder.json(lines.join("\n").as_bytes()).unwrap();
        prop_assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        prop_assert_eq!(decoder.schema(), &schema());
        // Not by `==`: to it, NaN differs from itself.
        prop_assert_eq!(format!("{:?}", decoded.batches[0]), format!("{batch:?}"));
        for (a, b) in decoded.batches[0].columns().iter().zip(batch.columns()) {
            if a.data_type() != &arrow_schema::DataType::Float64 {
                prop_assert_eq!(a, b);
            }
        }
    }
}

#[test]
fn the_ends_of_time_come_back() {
    let ends = [i64::MIN, i64::MIN + 1, -62_135_596_800_000_001, -62_167_219_200_000_000, -1, 0, i64::MAX];
    let rows: Vec<Values> = ends.iter().map(|v| (Default::default(), (None, None, Some(*v), Some(*v), None))).collect();
    let batch = batch(&rows);
    for row in 0..rows.len() {
        let decoded =
            Decoder::new("s", schema(), DecodeOptions::default()).json(row_json(&batch, row).as_bytes()).unwrap();
        assert_eq!(decoded.batches[0], batch.slice(row, 1), "{}", row_json(&batch, row));
    }
    assert!(row_json(&batch, 6).contains("+294247-01-10T04:00:54.775807Z"));
}

#[test]
fn other_widths_are_written_too_and_bad_json_as_text() {
    let small: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let batch = RecordBatch::try_from_iter([("small", small)]).unwrap();
    assert_eq!(row_json(&batch, 0), r#"{"small":7}"#);
    let field = Field { name: "j".into(), data_type: DataType::Json, nullable: true };
    let bad: ArrayRef = Arc::new(StringArray::from(vec!["{oops"]));
    let batch = RecordBatch::try_new(StreamSchema::new(vec![field]).to_arrow(), vec![bad]).unwrap();
    assert_eq!(row_json(&batch, 0), r#"{"j":"{oops"}"#);
}
