//! What is wrong with a file is said in one sentence; what is right in it is kept.

use serde_json::json;
use thimble_plugin_files::{
    error::{FilesError, Kind as Can},
    kind::Kind,
    limits::{MAX_FIELDS, MAX_HEADER_BYTES, MAX_PARQUET_FOOTER, MAX_RAW_BYTES, MAX_RECORD_BYTES},
};

use crate::{
    making,
    taking::{Taken, read, read_on, stream},
};

fn plain() -> thimble_plugin_files::config::StreamConfig {
    stream(json!({}))
}

#[test]
fn rows_that_do_not_fit_the_header() {
    let (taken, result) = read("f.csv", b"a,b\n1,2\n3\n\n4,5,6\n7,8\n".to_vec(), &plain());
    result.unwrap();
    assert_eq!(taken.committed, ["1|2", "7|8"]);
    assert_eq!(taken.reasons(), ["too-few-fields", "too-many-fields"]);
    assert_eq!(taken.rejected[1].1, "f.csv:5: the record has 3 fields, and the header has 2");
    assert_eq!(taken.rejected[1].2, b"4,5,6\n");
}

#[test]
fn invalid_utf8_in_each_format() {
    let (taken, result) = read("f.csv", b"a\nok\n\xff\xfe\nfine\n".to_vec(), &plain());
    result.unwrap();
    assert_eq!((taken.committed, taken.rejected[0].0.as_str()), (vec!["ok".into(), "fine".into()], "invalid-utf8"));
    assert!(taken.rejected[0].1.starts_with("f.csv:3: "), "{}", taken.rejected[0].1);
    let (taken, result) = read("f.jsonl", b"{\"a\":1}\n{\"a\":\"\xff\"}\n{\"a\":2}\n".to_vec(), &plain());
    result.unwrap();
    assert_eq!((taken.committed.len(), taken.reasons()), (2, vec!["invalid-utf8"]));
    let (taken, result) = read("f.json", b"[{\"a\":1},{\"a\":\"\xff\"},{\"a\":2}]".to_vec(), &plain());
    result.unwrap();
    assert_eq!((taken.committed.len(), taken.reasons()), (2, vec!["invalid-utf8"]));
    assert!(taken.rejected[0].1.starts_with("f.json:record 2 at byte 9: "), "{}", taken.rejected[0].1);
}

#[test]
fn a_line_of_30_megabytes_in_each_format() {
    let long = "x".repeat(30_000_000);
    let files = [
        ("f.csv", format!("a,b\n1,2\n{long},3\n4,5\n"), "f.csv:3: the record has 30000003 bytes"),
        ("f.csv", format!("a,b\n1,2\n\"{long}\n\n{long}\",3\n4,5\n"), "f.csv:3: the record has 60000007 bytes"),
        (
            "f.jsonl",
            format!("{{\"a\":1}}\n{{\"a\":\"{long}\"}}\n{{\"a\":2}}\n"),
            "f.jsonl:2: the record has 30000009 bytes",
        ),
        (
            "f.json",
            format!("[{{\"a\":1}},{{\"a\":\"{long}\"}},{{\"a\":2}}]"),
            "f.json:record 2 at byte 9: the record has 30000008",
        ),
    ];
    for (name, content, message) in files {
        let (taken, result) = read(name, content.into_bytes(), &plain());
        result.unwrap();
        assert_eq!((taken.committed.len(), taken.reasons()), (2, vec!["record-too-large"]), "{name}");
        assert!(taken.rejected[0].1.starts_with(message), "{}", taken.rejected[0].1);
        assert_eq!(taken.rejected[0].2.len(), MAX_RAW_BYTES);
    }
    // One record, and it is the last.
    let (taken, result) = read("f.csv", format!("a\n{long}").into_bytes(), &plain());
    result.unwrap();
    assert_eq!(taken.reasons(), ["record-too-large"]);
}

#[test]
fn records_just_under_the_limit_pass() {
    let fits = "y".repeat(MAX_RECORD_BYTES - 100);
    let (taken, result) = read("f.csv", format!("a\n1\n{fits}\n2\n").into_bytes(), &plain());
    result.unwrap();
    assert_eq!(taken.committed.len(), 3);
    let (taken, result) =
        read("f.jsonl", format!("{{\"a\":1}}\n{{\"a\":\"{fits}\"}}\n{{\"a\":2}}\n").into_bytes(), &plain());
    result.unwrap();
    assert_eq!(taken.committed.len(), 3);
    let (taken, result) =
        read("f.json", format!("[{{\"a\":1}},{{\"a\":\"{fits}\"}},{{\"a\":2}}]").into_bytes(), &plain());
    result.unwrap();
    assert_eq!(taken.committed.len(), 3);
}

#[test]
fn a_quote_that_is_never_closed() {
    let (taken, result) = read("f.csv", b"a,b\n1,2\n3,\"open\n4,5\n6,7\n".to_vec(), &plain());
    result.unwrap();
    assert_eq!((taken.committed.len(), taken.reasons()), (3, vec!["unclosed-quote"]));
    assert!(taken.rejected[0].1.starts_with("f.csv:3: "));
}

#[test]
fn broken_json_lines_and_records() {
    let lines = b"{\"a\":1}\n{\"a\":\n\n[1]\n 7 \n{\"a\":2}".to_vec();
    let (taken, result) = read("f.jsonl", lines, &plain());
    result.unwrap();
    assert_eq!(taken.committed, ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(taken.reasons(), ["invalid-json", "not-an-object", "not-an-object"]);
    assert!(taken.rejected[1].1.starts_with("f.jsonl:4: "), "{}", taken.rejected[1].1);
    let (taken, result) = read("f.json", b"[{\"a\":1},{\"a\":tru},3,{\"a\":[1}},{\"a\":2}]".to_vec(), &plain());
    result.unwrap();
    assert_eq!(taken.committed, ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(taken.reasons(), ["invalid-json", "not-an-object", "invalid-json"]);
}

#[test]
fn cut_compressed_files_keep_their_whole_records() {
    let whole = making::csv(50_000);
    for (name, packed) in [("f.csv.gz", making::gzip(&whole)), ("f.csv.zst", making::zstd(&whole))] {
        let cut = packed[..packed.len() / 2].to_vec();
        let (taken, result) = read(name, cut.clone(), &plain());
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Can::Transient);
        assert!(error.to_string().starts_with(&format!("{name} is cut off at byte {}: ", cut.len())), "{error}");
        assert!(taken.committed.len() > 15_000, "{} records were committed", taken.committed.len());
        // Once the file is whole, it goes on where it stopped.
        let mut rest = Taken { position: taken.position, ..Taken::default() };
        read_on(name, &packed.into(), &plain(), &[], &mut rest).unwrap();
        assert_eq!(taken.committed.len() + rest.committed.len(), 50_000 - 50);
    }
}

#[test]
fn cut_documents_say_where() {
    let (taken, result) = read("f.json", b"[{\"a\":1},{\"a\":2},{\"a\"".to_vec(), &plain());
    assert_eq!(taken.committed.len(), 2);
    assert!(result.unwrap_err().to_string().starts_with("f.json is cut off at byte 21"));
    let (taken, result) = read("f.json", b"[{\"a\":1}} {\"a\":2}]".to_vec(), &plain());
    assert_eq!(taken.committed.len(), 1);
    assert!(matches!(result.unwrap_err(), FilesError::Damaged { byte: 8, .. }));
}

#[test]
fn a_wrong_path_to_the_records_names_the_setting() {
    let config = stream(json!({"json": {"records": "data.rows"}}));
    let (_, result) = read("f.json", b"{\"data\": {\"items\": []}}".to_vec(), &config);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Can::Config);
    assert!(error.to_string().contains("json.records") && error.to_string().contains("no \"data.rows\""), "{error}");
}

#[test]
fn a_column_that_changes_its_type_in_the_middle() {
    let mut text = "n,t\n".to_owned();
    (0..40_000).for_each(|n| text.push_str(&format!("{n},2024-01-01\n")));
    (0..40_000).for_each(|n| text.push_str(&format!("{n},2024/01/02\n")));
    (0..10).for_each(|_| text.push_str("many,soon\n"));
    let mut taken = Taken { keep_batches: true, ..Taken::default() };
    let fields = [("n", Kind::Int64), ("t", Kind::Date)];
    read_on("f.csv", &text.into_bytes().into(), &plain(), &fields, &mut taken).unwrap();
    assert_eq!(taken.committed.len(), 80_010);
    assert!(taken.rejected.is_empty());
    let types: Vec<String> =
        taken.batches.iter().map(|batch| batch.schema().field(1).data_type().to_string()).collect();
    assert_eq!(types.last().unwrap(), "Utf8");
    assert!(types[..types.len() - 1].iter().all(|kind| kind == "Date32"), "{types:?}");
    // In the batch that became text, dates are as the host reads them.
    assert!(taken.committed.iter().rev().nth(10).unwrap().ends_with("|2024-01-02"));
}

#[test]
fn empty_files_and_files_without_records() {
    let empties: [(&str, &[u8]); 8] = [
        ("f.csv", b""),
        ("f.csv", b"a,b\n"),
        ("f.csv", b"\n\r\n"),
        ("f.jsonl", b""),
        ("f.jsonl", b"\n \n"),
        ("f.json", b""),
        ("f.json", b" [ ] "),
        ("nameless", b""),
    ];
    for (name, content) in empties {
        for bytes in [content.to_vec(), making::gzip(content), making::zstd(content)] {
            let (taken, result) = read(name, bytes, &plain());
            result.unwrap();
            assert!(taken.committed.is_empty() && taken.rejected.is_empty(), "{name}");
        }
    }
    assert_eq!(read("f.csv", Vec::new(), &plain()).0.notes, ["f.csv is empty"]);
}

#[test]
fn headers_that_repeat_or_miss_names() {
    let (taken, result) = read("f.csv", b"\xef\xbb\xbfa,a,,\"b \"\"x\"\"\"\n1,2,3,4\n".to_vec(), &plain());
    result.unwrap();
    let schema = taken.batches[0].schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "a_2", "column_3", "b \"x\""]);
    let config = stream(json!({"csv": {"header": false, "delimiter": ";", "quote": "'"}}));
    let (taken, result) = read("f.txt", b"1;'x;y'\n2;z".to_vec(), &config);
    result.unwrap();
    assert_eq!(taken.committed, ["1|x;y", "2|z"]);
    let config = stream(json!({"csv": {"columns": ["p", "q"]}}));
    let (taken, _) = read("f.tsv", b"a\tb\n1\t2\n".to_vec(), &config);
    assert_eq!((taken.committed, taken.batches[0].schema().field(1).name().as_str()), (vec!["1|2".into()], "q"));
}

#[test]
fn limits_of_a_header_hold() {
    let wide = vec!["c"; MAX_FIELDS + 1].join(",");
    let (_, result) = read("f.csv", format!("{wide}\n").into_bytes(), &plain());
    assert!(result.unwrap_err().to_string().contains(&MAX_FIELDS.to_string()));
    let long = format!("{},b\n", "n".repeat(MAX_HEADER_BYTES));
    let (_, result) = read("f.csv", long.into_bytes(), &plain());
    assert!(matches!(result.unwrap_err(), FilesError::Limit { .. }));
    let (_, result) = read("f.csv", format!("{}\n", "n".repeat(256)).into_bytes(), &plain());
    assert!(result.unwrap_err().to_string().contains("255"));
}

#[test]
fn utf_16_is_named() {
    let (_, result) = read("f.csv", b"\xff\xfea\0,\0".to_vec(), &plain());
    assert!(result.unwrap_err().to_string().contains("UTF-16"));
}

#[test]
fn parquet_files_that_are_none() {
    let error = |bytes: Vec<u8>| read("f.parquet", bytes, &plain()).1.unwrap_err();
    assert!(matches!(error(b"PAR1".to_vec()), FilesError::Damaged { .. }));
    assert!(error(vec![b'x'; 100]).to_string().contains("does not end as a Parquet file"));
    let mut lies = vec![0; 100];
    lies.extend_from_slice(&(MAX_PARQUET_FOOTER as u32 + 1).to_le_bytes());
    lies.extend_from_slice(b"PAR1");
    assert!(matches!(error(lies.clone()), FilesError::Limit { .. }));
    lies[100..104].copy_from_slice(&5_000u32.to_le_bytes());
    assert!(error(lies).to_string().contains("longer than the file"));
    let (compression, version) =
        (parquet::basic::Compression::SNAPPY, parquet::file::properties::WriterVersion::PARQUET_1_0);
    let mut damaged = making::parquet(1, 10_000, compression, version);
    damaged[2_000..2_600].fill(0xff);
    let error = error(damaged);
    assert!(
        matches!(error, FilesError::Damaged { .. }) && error.to_string().starts_with("f.parquet is damaged"),
        "{error}"
    );
}
