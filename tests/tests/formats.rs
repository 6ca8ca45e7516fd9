//! Every format and compression, over HTTP, into the lake, with its types.

use std::{io::Write, path::Path, sync::Arc};

use arrow_array::{Int64Array, RecordBatch, StringArray};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;
use thimble_fixtures::files::FileServer;

use crate::harness::Installation;

fn gzip(path: &Path, bytes: &[u8]) {
    let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
}

fn parquet(path: &Path, compression: Compression) {
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..5_000)) as _),
        ("name", Arc::new(StringArray::from_iter_values((0..5_000).map(|i| format!("name {i}")))) as _),
    ])
    .unwrap();
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(1_000)).build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_arrives_whole_and_typed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("a.csv"),
        "id,price,day,when,ok,note\n1,2.50,2024-02-29,2024-01-01T10:00:00Z,true,\"a, b\"\n2,,,,,\n",
    )
    .unwrap();
    std::fs::write(at("a.json"), r#"[{"id":1,"nested":{"x":[1,2]}},{"id":2,"extra":true}]"#).unwrap();
    let lines: String = (0..3_000).map(|i| format!("{{\"id\":{i},\"text\":\"line {i}\"}}\n")).collect();
    gzip(&at("a.jsonl.gz"), lines.as_bytes());
    std::fs::write(at("b.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 3).unwrap()).unwrap();
    parquet(&at("plain.parquet"), Compression::UNCOMPRESSED);
    parquet(&at("snappy.parquet"), Compression::SNAPPY);
    parquet(&at("zstd.parquet"), Compression::ZSTD(ZstdLevel::try_new(3).unwrap()));
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let stream = |name: &str, path: &str| json!({"name": name, "urls": [server.url(path)]});
    let thimble = Installation::files(json!([
        stream("csv", "a.csv"),
        stream("json", "a.json"),
        stream("gz", "a.jsonl.gz"),
        stream("zst", "b.jsonl.zst"),
        stream("plain", "plain.parquet"),
        stream("snappy", "snappy.parquet"),
        stream("zstd", "zstd.parquet"),
    ]));
    thimble.json(&["sync", "c"]);

    let mut csv = thimble.rows("csv");
    csv.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(csv.len(), 2);
    assert_eq!(csv[0]["price"], json!(2.5));
    assert_eq!(csv[0]["ok"], json!(true));
    assert_eq!(csv[0]["note"], json!("a, b"));
    assert!(csv[0]["day"].as_str().unwrap().starts_with("2024-02-29"), "{}", csv[0]);
    assert!(csv[0]["when"].as_str().unwrap().starts_with("2024-01-01T10:00:00"), "{}", csv[0]);
    assert!(csv[1].get("price").is_none_or(serde_json::Value::is_null));
    assert_eq!(thimble.rows("json").len(), 2);
    for stream in ["gz", "zst"] {
        let mut ids: Vec<_> = thimble.rows(stream).iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..3_000).collect::<Vec<_>>(), "{stream}");
    }
    for stream in ["plain", "snappy", "zstd"] {
        let mut rows: Vec<_> = thimble
            .rows(stream)
            .iter()
            .map(|row| (row["id"].as_i64().unwrap(), row["name"].as_str().unwrap().to_owned()))
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..5_000).map(|i| (i, format!("name {i}"))).collect::<Vec<_>>(), "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glob_over_a_listing_reads_every_file_once() {
    let folder = tempfile::tempdir().unwrap();
    for part in 0..12 {
        std::fs::write(folder.path().join(format!("part-{part:02}.csv")), format!("id\n{part}\n")).unwrap();
    }
    std::fs::write(folder.path().join("other.csv"), "id\n99\n").unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "parts", "urls": [server.url("part-*.csv")]}]));
    thimble.json(&["sync", "c"]);
    let mut ids: Vec<_> = thimble.rows("parts").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}
