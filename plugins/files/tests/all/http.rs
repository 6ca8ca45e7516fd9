//! The calls of the source over real sockets.

use arrow_ipc::reader::StreamReader;
use serde_json::json;
use thimble_plugin_files::{config::Config, connector::Files};
use thimble_sdk::{
    DataType, Error, ErrorKind, Method, Partition, ReadRequest, Result, Sink, Source, Stream, StreamState,
};

use crate::{
    making,
    server::{Served, serve},
};

/// What a read came to.
struct Got {
    rows: usize,
    rejected: usize,
    last_state: Option<String>,
}

fn config(value: serde_json::Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn read(config: &Config, stream: &Stream, partition: &Partition, state: Option<String>) -> (Got, Result<()>) {
    let mut request = ReadRequest::new(stream.clone(), Method::Incremental);
    (request.partition, request.state) = (partition.clone(), state);
    let mut sink = Sink::for_test(&stream.name);
    let result = Files::read(config, &request, &mut sink);
    let mut got = Got { rows: 0, rejected: 0, last_state: None };
    for emitted in sink.into_emitted().unwrap() {
        use thimble_sdk::Emitted as E;
        match emitted {
            E::ArrowIpc(bytes) => {
                got.rows += StreamReader::try_new(bytes.as_slice(), None)
                    .unwrap()
                    .map(|b| b.unwrap().num_rows())
                    .sum::<usize>();
            }
            E::Json(bytes) => {
                got.rows += serde_json::Deserializer::from_slice(&bytes).into_iter::<serde_json::Value>().count()
            }
            E::Rejected { .. } => got.rejected += 1,
            E::Checkpoint(state) => got.last_state = Some(state),
        }
    }
    (got, result)
}

fn completed(text: Option<String>) -> StreamState {
    StreamState { completed: text, ..StreamState::default() }
}

#[test]
fn a_folder_of_files_is_found_and_read_once() {
    let (url, site) = serve(&[
        ("/d/a.csv", Served::new("id,at\n1,2024-01-31 10:00\n2,\n")),
        ("/d/b.csv.gz", Served::new(making::gzip(b"id,at\n3,2024-02-01 10:00:30\n"))),
        ("/d/sub/c.csv", Served::new("id,at\n4,2024-01-31\n")),
        ("/d/other.txt", Served::new("no")),
    ]);
    let config = config(json!({"streams": [{"name": "s", "urls": [format!("{url}/d/**/*.csv*")]}]}));
    assert_eq!(Files::check(&config).unwrap(), "Reached 3 files of 1 stream.");
    let catalog = Files::discover(&config).unwrap();
    let stream = catalog.stream("s").unwrap();
    let types: Vec<_> = stream.fields.iter().map(|field| (field.name.as_str(), field.data_type)).collect();
    assert_eq!(types, [("id", DataType::Int64), ("at", DataType::Timestamp)]);
    let plan = Files::plan(&config, stream, Method::Incremental, &StreamState::default()).unwrap();
    assert_eq!(plan.partitions.len(), 3);
    let rows: usize =
        plan.partitions.iter().map(|p| read(&config, stream, p, None)).map(|(got, r)| (r.unwrap(), got.rows).1).sum();
    assert_eq!(rows, 4);
    let again = Files::plan(&config, stream, Method::Incremental, &completed(plan.next_state.clone())).unwrap();
    assert!(again.partitions.is_empty());
    // The same second, another file.
    site.lock().unwrap().files.insert("/d/late.csv".into(), Served::new("id,at\n5,\n"));
    let third = Files::plan(&config, stream, Method::Incremental, &completed(plan.next_state)).unwrap();
    assert_eq!(third.partitions.len(), 1);
    assert!(third.partitions[0].id.contains("/d/late.csv@"));
    assert_eq!(Files::plan(&config, stream, Method::FullTable, &StreamState::default()).unwrap().partitions.len(), 4);
}

#[test]
fn digests_see_through_names_and_times() {
    let (url, site) = serve(&[("/a.jsonl", Served::new("{\"a\":1}\n"))]);
    let config =
        config(json!({"streams": [{"name": "s", "urls": [format!("{url}/*.jsonl")], "incremental": "digest"}]}));
    let stream = Stream::new("s");
    let plan = Files::plan(&config, &stream, Method::Incremental, &StreamState::default()).unwrap();
    assert_eq!(plan.partitions.len(), 1);
    let mut copy = Served::new("{\"a\":1}\n");
    copy.modified = Some("Mon, 07 Nov 1994 08:49:37 GMT".into());
    site.lock().unwrap().files.insert("/copy.jsonl".into(), copy);
    site.lock().unwrap().log.clear();
    let again = Files::plan(&config, &stream, Method::Incremental, &completed(plan.next_state)).unwrap();
    assert!(again.partitions.is_empty());
    let log = site.lock().unwrap().log.clone();
    assert!(!log.contains(&"GET /a.jsonl".to_owned()), "an unchanged file is not read again: {log:?}");
    site.lock().unwrap().files.insert("/a.jsonl".into(), Served { modified: None, ..Served::new("{\"a\":2}\n") });
    let third = Files::plan(&config, &stream, Method::Incremental, &completed(again.next_state)).unwrap();
    assert_eq!(third.partitions.len(), 1);
}

#[test]
fn a_missing_file_is_a_setting_to_change() {
    let (url, _) = serve(&[]);
    let config = config(json!({"streams": [{"name": "s", "urls": [format!("{url}/nowhere.csv?token=secret")]}]}));
    for error in [Files::check(&config).unwrap_err(), Files::discover(&config).unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(
            error.message.contains("/nowhere.csv") && error.message.contains("404") && error.message.contains("\"s\""),
            "{error}"
        );
        assert!(!error.message.contains("secret"), "{error}");
    }
    let none = self::config(json!({"streams": [{"name": "s", "urls": [format!("{url}/x/*.csv")]}]}));
    assert!(Files::check(&none).unwrap_err().message.contains("streams[0].urls[0] matches no file"));
}

/// Plans the one file of a server.
fn planned(url: &str) -> (Config, Stream, Partition) {
    let config = config(json!({"streams": [{"name": "s", "urls": [url]}]}));
    let stream = Files::discover(&config).unwrap().streams.remove(0);
    let mut plan = Files::plan(&config, &stream, Method::FullTable, &StreamState::default()).unwrap();
    let partition = plan.partitions.remove(0);
    (config, stream, partition)
}

#[test]
fn a_broken_connection_resumes_by_range() {
    let bytes = making::csv(300_000);
    for no_ranges in [false, true] {
        let served = Served { etag: Some("\"1\"".into()), ..Served::new(bytes.clone()) };
        let (url, site) = serve(&[("/f.csv", served.clone())]);
        let (config, stream, partition) = planned(&format!("{url}/f.csv"));
        site.lock().unwrap().no_ranges = no_ranges;
        site.lock().unwrap().files.get_mut("/f.csv").unwrap().breaks_after = Some(10_000_000);
        let (first, result) = read(&config, &stream, &partition, None);
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error}");
        site.lock().unwrap().files.insert("/f.csv".into(), served);
        site.lock().unwrap().log.clear();
        let (second, result) = read(&config, &stream, &partition, first.last_state);
        result.unwrap();
        assert_eq!(first.rows + second.rows, 300_000 - 300, "no_ranges: {no_ranges}");
        assert!(site.lock().unwrap().log[0].starts_with("GET /f.csv bytes="), "{:?}", site.lock().unwrap().log);
    }
}

#[test]
fn a_file_that_changed_is_not_mixed() {
    let (url, site) = serve(&[("/f.csv", Served { etag: Some("\"1\"".into()), ..Served::new("a\n1\n") })]);
    let (config, stream, partition) = planned(&format!("{url}/f.csv"));
    let changes = [
        Served { etag: Some("\"2\"".into()), ..Served::new("a\n2\n") },
        Served::new("a\n22\n"),
        Served { modified: Some("Mon, 07 Nov 1994 08:49:37 GMT".into()), ..Served::new("a\n2\n") },
    ];
    for change in changes {
        site.lock().unwrap().files.insert("/f.csv".into(), change);
        let error = read(&config, &stream, &partition, None).1.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient);
        assert!(error.message.contains("/f.csv changed since it was planned"), "{error}");
    }
    site.lock().unwrap().files.clear();
    assert!(read(&config, &stream, &partition, None).1.unwrap_err().message.contains("it is gone"));
}

#[test]
fn parquet_is_read_by_ranges_or_whole_where_it_is_small() {
    let (codec, version) =
        (parquet::basic::Compression::ZSTD(Default::default()), parquet::file::properties::WriterVersion::PARQUET_2_0);
    let bytes = making::parquet(2, 20_000, codec, version);
    let (url, site) = serve(&[("/f.parquet", Served::new(bytes.clone()))]);
    let (config, stream, partition) = planned(&format!("{url}/f.parquet"));
    let types: Vec<DataType> = stream.fields.iter().map(|field| field.data_type).collect();
    use DataType as T;
    assert_eq!(types, [T::Int64, T::Float64, T::Text, T::Text, T::Bytes, T::Json, T::Json]);
    let (got, result) = read(&config, &stream, &partition, None);
    result.unwrap();
    assert_eq!(got.rows, 40_000);
    assert!(site.lock().unwrap().log.iter().all(|line| !line.starts_with("GET") || line.contains("bytes=")));
    site.lock().unwrap().no_ranges = true;
    assert_eq!(read(&config, &stream, &partition, None).0.rows, 40_000);
}

#[test]
fn servers_without_head_and_with_trouble() {
    let (url, site) = serve(&[("/f.json", Served::new("[{\"a\":1},{\"a\":2}]"))]);
    site.lock().unwrap().no_head = true;
    let (config, stream, partition) = planned(&format!("{url}/f.json"));
    assert_eq!(read(&config, &stream, &partition, None).0.rows, 2);
    site.lock().unwrap().files.get_mut("/f.json").unwrap().status = Some(403);
    let error: Error = read(&config, &stream, &partition, None).1.unwrap_err();
    assert_eq!((error.kind, error.message.contains("403")), (ErrorKind::Config, true), "{error}");
}

#[test]
fn buckets_are_listed_page_by_page() {
    let object = |text: &str| Served { etag: Some(format!("\"{}\"", text.len())), ..Served::new(text) };
    let (url, site) = serve(&[
        ("/b/in/1.jsonl", object("{\"a\":1}\n")),
        ("/b/in/2%20x.jsonl", object("{\"a\":2} \n")),
        ("/b/in/deep/3.jsonl", object("{\"a\":3}  \n")),
        ("/b/in/4.txt", object("")),
        ("/b/out/5.jsonl", object("{\"a\":5}")),
    ]);
    site.lock().unwrap().bucket = Some("b".into());
    let s3 = json!({"endpoint": url, "access_key_id": "id", "secret_access_key": "placeholder"});
    let config =
        config(json!({"streams": [{"name": "s", "urls": ["s3://b/in/**/*.jsonl", "s3://b/out/5.jsonl"]}], "s3": s3}));
    let stream = Stream::new("s");
    let plan = Files::plan(&config, &stream, Method::Incremental, &StreamState::default()).unwrap();
    let ids: Vec<&str> = plan.partitions.iter().map(|p| p.id.split('@').next().unwrap()).collect();
    assert_eq!(ids, ["s3://b/out/5.jsonl", "s3://b/in/1.jsonl", "s3://b/in/2%20x.jsonl", "s3://b/in/deep/3.jsonl"]);
    let (got, result) = read(&config, &stream, &plan.partitions[1], None);
    result.unwrap();
    assert_eq!(got.rows, 1);
    let listings = site.lock().unwrap().log.iter().filter(|line| line.contains("list-type=2")).count();
    assert_eq!(listings, 2);
}
