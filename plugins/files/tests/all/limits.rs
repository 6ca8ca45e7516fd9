//! Limits that only a server can cross.

use serde_json::json;
use thimble_plugin_files::{
    config::Config,
    connector::Files,
    limits::{MAX_FIELDS, MAX_LISTING_BYTES, MAX_LISTING_FOLDERS, MAX_LISTING_PAGES, MAX_WHOLE_FILE, SAMPLE_BYTES},
};
use thimble_sdk::{DataType, Error, ErrorKind, Source};

use crate::server::{Served, serve};

fn config(url: &str, settings: serde_json::Value) -> Config {
    let mut stream = json!({"name": "s", "urls": [url]});
    stream.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    serde_json::from_value(json!({"streams": [stream]})).unwrap()
}

fn check(url: &str) -> Error {
    Files::check(&config(url, json!({}))).unwrap_err()
}

#[test]
fn a_directory_page_that_is_too_long() {
    let (url, _) = serve(&[("/d/", Served::new(vec![b' '; MAX_LISTING_BYTES + 1]))]);
    let error = check(&format!("{url}/d/*.csv"));
    assert_eq!(
        (error.kind, error.message.contains(&MAX_LISTING_BYTES.to_string())),
        (ErrorKind::Refused, true),
        "{error}"
    );
}

#[test]
fn too_many_folders() {
    let links: String = (0..=MAX_LISTING_FOLDERS).map(|n| format!("<a href=\"{n}/\">{n}</a>")).collect();
    let (url, site) = serve(&[("/d/", Served::new(links))]);
    let error = check(&format!("{url}/d/**/*.csv"));
    assert_eq!((error.kind, error.message.contains("1000 folders")), (ErrorKind::Refused, true), "{error}");
    assert_eq!(site.lock().unwrap().log.len(), 1);
}

#[test]
fn a_listing_without_end() {
    let (url, site) = serve(&[]);
    (site.lock().unwrap().bucket, site.lock().unwrap().endless) = (Some("b".into()), true);
    let value = json!({"streams": [{"name": "s", "urls": ["s3://b/*"]}], "s3": {"endpoint": url}});
    let error = Files::check(&serde_json::from_value(value).unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert_eq!(site.lock().unwrap().log.len(), MAX_LISTING_PAGES);
}

#[test]
fn samples_end_after_their_bytes() {
    let mut text = "number\n".to_owned();
    while (text.len() as u64) <= SAMPLE_BYTES {
        text.push_str("1234567\n");
    }
    text.push_str(&"many\n".repeat(10));
    let (url, _) = serve(&[("/f.csv", Served::new(text))]);
    let catalog = Files::discover(&config(&format!("{url}/f.csv"), json!({}))).unwrap();
    assert_eq!(catalog.streams[0].fields[0].data_type, DataType::Int64);
}

#[test]
fn large_parquet_needs_ranges() {
    let mut bytes = vec![0; MAX_WHOLE_FILE];
    bytes.extend_from_slice(b"PAR1");
    let (url, site) = serve(&[("/f.parquet", Served::new(bytes))]);
    site.lock().unwrap().no_ranges = true;
    let error = Files::discover(&config(&format!("{url}/f.parquet"), json!({}))).unwrap_err();
    assert_eq!((error.kind, error.message.contains("range requests")), (ErrorKind::Refused, true), "{error}");
}

#[test]
fn settings_name_at_most_so_many_fields() {
    let names: Vec<String> = (0..=MAX_FIELDS).map(|n| format!("f{n}")).collect();
    let types: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!("text"))).collect();
    for settings in [json!({"schema": types}), json!({"csv": {"columns": names}})] {
        let error = Files::check(&config("http://127.0.0.1:1/f.csv", settings)).unwrap_err();
        assert!(error.message.contains(&MAX_FIELDS.to_string()), "{error}");
    }
}
