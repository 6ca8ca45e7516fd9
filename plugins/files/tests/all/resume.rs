//! A read that dies any number of times gives each record exactly once.

use std::sync::Arc;

use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::WriterVersion,
};
use thimble_plugin_files::config::StreamConfig;

use crate::{
    making,
    taking::{Taken, read_on, stream},
};

/// Reads to the end with a death after every `dies_after` batches, each time from the last checkpoint.
fn in_pieces(name: &str, bytes: &Arc<Vec<u8>>, config: &StreamConfig, dies_after: usize) -> (Vec<String>, usize) {
    let (mut committed, mut position, mut deaths) = (Vec::new(), None, 0);
    loop {
        let mut taken = Taken { position, dies_after: Some(dies_after), ..Taken::default() };
        let result = read_on(name, bytes, config, &[], &mut taken);
        committed.append(&mut taken.committed);
        if result.is_ok() {
            return (committed, deaths);
        }
        assert!(taken.checkpoints > 0, "{name} got nowhere before it died");
        position = taken.position;
        deaths += 1;
        assert!(deaths < 200);
    }
}

fn check(name: &str, bytes: Vec<u8>, config: &StreamConfig, expected: usize) {
    let bytes = Arc::new(bytes);
    let mut whole = Taken::default();
    read_on(name, &bytes, config, &[], &mut whole).unwrap();
    assert_eq!(whole.committed.len(), expected, "{name}");
    // A little more than it takes to get to a checkpoint, and a lot more.
    let each = whole.emitted.div_ceil(whole.checkpoints) + 2;
    for dies_after in [each + each / 3, 2 * each + 1] {
        let (records, deaths) = in_pieces(name, &bytes, config, dies_after);
        assert!(deaths > 0, "{name} never died");
        assert!(records == whole.committed, "{name}: {} records after {deaths} deaths", records.len());
    }
    // From the very end there is nothing left.
    let mut after = Taken { position: whole.position, ..Taken::default() };
    read_on(name, &bytes, config, &[], &mut after).unwrap();
    assert!(after.committed.is_empty() && after.rejected.is_empty(), "{name} goes on behind its end");
}

fn check_compressed(name: &str, bytes: &[u8], config: &StreamConfig, expected: usize) {
    check(name, bytes.to_vec(), config, expected);
    check(&format!("{name}.gz"), making::gzip(bytes), config, expected);
    check(&format!("{name}.zst"), making::zstd(bytes), config, expected);
    // Not even the name says what it is.
    if name.ends_with(".csv") {
        check("nameless", making::zstd(bytes), config, expected);
    }
}

#[test]
fn csv_resumes() {
    let rows = 360_000;
    check_compressed("f.csv", &making::csv(rows), &stream(serde_json::json!({})), rows - rows / 1_000);
}

#[test]
fn json_lines_resume() {
    let rows = 150_000;
    check_compressed("f.jsonl", &making::jsonl(rows), &stream(serde_json::json!({})), rows);
}

#[test]
fn json_documents_resume() {
    let rows = 150_000;
    let config = stream(serde_json::json!({"json": {"records": "data.items"}}));
    check_compressed("f.json", &making::json(rows), &config, rows);
    // The same records one after the other.
    let good: Vec<u8> = making::jsonl(rows)
        .split(|b| *b == b'\n')
        .filter(|l| !l.starts_with(b"{\"broken"))
        .collect::<Vec<_>>()
        .join(&b" "[..]);
    check_compressed("f.json", &good, &stream(serde_json::json!({})), rows);
}

#[test]
fn parquet_resumes() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::try_new(3).unwrap()),
    ];
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let name = format!("f-{codec}-{version:?}.parquet");
            let rows = 180_000;
            check(&name, making::parquet(3, rows, codec, version), &stream(serde_json::json!({})), 3 * rows);
        }
    }
}
