//! How fast rows are decoded and summed. Prints figures; asserts only that nothing is out of all proportion.
#![allow(clippy::unwrap_used)]

use std::{fmt::Write, sync::Arc, time::Instant};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use thimble_record::{
    Checksum, StreamSchema,
    decode::{DecodeOptions, Decoder},
};

/// About 1 KB a record, 20 fields.
fn records(count: usize) -> Vec<String> {
    let mut batches = Vec::new();
    for batch in 0..count / 4_000 {
        let mut json = String::from("[");
        for n in batch * 4_000..(batch + 1) * 4_000 {
            if !json.ends_with('[') {
                json.push(',');
            }
            write!(json, r#"{{"id":{n},"amount":{n}.25,"paid":true,"note":null"#).unwrap();
            for field in 0..14 {
                write!(json, r#","text_{field}":"{:<42}""#, format!("value {n} of {field}")).unwrap();
            }
            write!(
                json,
                r#","nested":{{"a":{n},"b":["x","y",{n}],"c":{{"d":"{n}"}}}},"last":"2024-01-01T00:00:00Z"}}"#
            )
            .unwrap();
        }
        json.push(']');
        batches.push(json);
    }
    batches
}

#[test]
fn json_records_a_second() {
    let batches = records(200_000);
    let bytes: usize = batches.iter().map(String::len).sum();
    for round in 0..3 {
        let mut decoder = Decoder::new("s", StreamSchema::default(), DecodeOptions::default());
        let started = Instant::now();
        let rows: u64 = batches.iter().map(|batch| decoder.json(batch.as_bytes()).unwrap().rows()).sum();
        let seconds = started.elapsed().as_secs_f64();
        let rate = bytes as f64 / 1e6 / seconds;
        println!("json {round}: {rows} records of {} bytes in {seconds:.3} s, {rate:.0} MB/s", bytes / 200_000);
        assert_eq!(rows, 200_000);
    }
}

#[test]
fn values_summed_a_second() {
    let count = 1_000_000_usize;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
    let doubles: ArrayRef = Arc::new(Float64Array::from_iter_values((0..count).map(|n| n as f64 * 0.1)));
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from_iter((0..count).map(|n| (n % 3 > 0).then_some(n as i64))));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("a text of some length {n}"))));
    let batch =
        RecordBatch::try_from_iter([("id", ids), ("double", doubles), ("time", times), ("text", texts)]).unwrap();
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let started = Instant::now();
        assert_ne!(Checksum::of(&batch), Checksum::default());
        best = best.max(4.0 * count as f64 / 1e6 / started.elapsed().as_secs_f64());
    }
    println!("checksum: {best:.0} million values a second");
    assert!(best > 1.0);
}
