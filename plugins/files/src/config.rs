//! The configuration: what the operator wrote, checked.
//!
//! Owns defaults and rules that JSON Schema cannot say. Must never do I/O.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    error::FilesError,
    kind::Kind,
    limits::{MAX_FIELDS, MAX_JSON_PATH, MAX_STREAMS, MAX_URL_BYTES, MAX_URLS},
    location::Location,
};

/// The JSON Schema of the configuration.
pub const SCHEMA: &str = include_str!("schema.json");

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub streams: Vec<StreamConfig>,
    #[serde(default)]
    pub s3: S3Config,
}

/// One stream: files that become one table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    pub name: String,
    pub urls: Vec<String>,
    #[serde(default)]
    pub format: FormatSetting,
    #[serde(default)]
    pub compression: CompressionSetting,
    #[serde(default)]
    pub csv: CsvConfig,
    #[serde(default)]
    pub json: JsonConfig,
    #[serde(default)]
    pub schema: BTreeMap<String, String>,
    #[serde(default)]
    pub incremental: Incremental,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatSetting {
    #[default]
    Auto,
    Csv,
    Json,
    Jsonl,
    Parquet,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionSetting {
    #[default]
    Auto,
    None,
    Gzip,
    Zstd,
}

/// How new files are told from those that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Incremental {
    /// Files modified after the last ones that were read.
    #[default]
    Modified,
    /// Files whose content was not read yet.
    Digest,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvConfig {
    /// One ASCII character; by default a comma, or a tab for `.tsv`.
    pub delimiter: Option<String>,
    /// One ASCII character, or empty for none.
    pub quote: String,
    pub header: bool,
    pub columns: Vec<String>,
    pub null_values: Vec<String>,
    pub encoding: Encoding,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
}

impl Default for CsvConfig {
    fn default() -> Self {
        Self {
            delimiter: None,
            quote: "\"".into(),
            header: true,
            columns: Vec::new(),
            null_values: ["", "NULL", "null", "NA", "N/A", "\\N"].map(String::from).to_vec(),
            encoding: Encoding::Utf8,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonConfig {
    /// Keys to the array of records, joined by dots; absent: the root.
    pub records: Option<String>,
}

/// Access to S3 and what speaks its protocol.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// Absent: AWS in `region`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    /// A placeholder: the host signs.
    pub secret_access_key: Option<String>,
    /// A placeholder: the host signs.
    pub session_token: Option<String>,
    pub path_style: Option<bool>,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Checks what JSON Schema cannot, and names the setting that is wrong.
    pub fn validate(&self) -> Result<(), FilesError> {
        if self.streams.is_empty() || self.streams.len() > MAX_STREAMS {
            return Err(FilesError::setting("streams", format!("must name 1 to {MAX_STREAMS} streams")));
        }
        for (at, stream) in self.streams.iter().enumerate() {
            if self.streams[..at].iter().any(|earlier| earlier.name == stream.name) {
                return Err(FilesError::setting(format!("streams[{at}].name"), format!("repeats \"{}\"", stream.name)));
            }
            stream.validate(&format!("streams[{at}]"))?;
        }
        self.s3.validate()
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Result<&StreamConfig, FilesError> {
        let found = self.streams.iter().find(|stream| stream.name == name);
        found.ok_or_else(|| {
            FilesError::setting("streams", format!("has no stream named \"{name}\"; run discover again"))
        })
    }
}

impl StreamConfig {
    fn validate(&self, at: &str) -> Result<(), FilesError> {
        if self.name.is_empty() || self.name.len() > 255 {
            return Err(FilesError::setting(format!("{at}.name"), "must have 1 to 255 bytes"));
        }
        if self.urls.is_empty() || self.urls.len() > MAX_URLS {
            return Err(FilesError::setting(format!("{at}.urls"), format!("must hold 1 to {MAX_URLS} URLs")));
        }
        for (index, url) in self.urls.iter().enumerate() {
            let setting = format!("{at}.urls[{index}]");
            if url.len() > MAX_URL_BYTES {
                return Err(FilesError::setting(setting, format!("is longer than {MAX_URL_BYTES} bytes")));
            }
            Location::parse(url).map_err(|problem| FilesError::setting(setting, problem))?;
        }
        self.overrides(at)?;
        self.csv.delimiter_byte(b',').map_err(|problem| FilesError::setting(format!("{at}.csv.delimiter"), problem))?;
        self.csv.quote_byte().map_err(|problem| FilesError::setting(format!("{at}.csv.quote"), problem))?;
        if self.csv.columns.len() > MAX_FIELDS {
            return Err(FilesError::setting(
                format!("{at}.csv.columns"),
                format!("names more than {MAX_FIELDS} columns"),
            ));
        }
        if self.json.path().len() > MAX_JSON_PATH {
            return Err(FilesError::setting(
                format!("{at}.json.records"),
                format!("is deeper than {MAX_JSON_PATH} keys"),
            ));
        }
        Ok(())
    }

    /// The types that the operator fixed. `at` is the path of this stream in the configuration.
    pub fn overrides(&self, at: &str) -> Result<Vec<(String, Kind)>, FilesError> {
        if self.schema.len() > MAX_FIELDS {
            return Err(FilesError::setting(format!("{at}.schema"), format!("names more than {MAX_FIELDS} fields")));
        }
        let parse = |(name, text): (&String, &String)| match Kind::parse(text) {
            Some(kind) => Ok((name.clone(), kind)),
            None => Err(FilesError::setting(
                format!("{at}.schema.{name}"),
                format!(
                    "has the unknown type \"{text}\"; use boolean, int64, float64, decimal(p,s), text, date, time, \
                     timestamp, timestamptz or json"
                ),
            )),
        };
        self.schema.iter().map(parse).collect()
    }
}

impl CsvConfig {
    /// The delimiter, or `default` where none is set.
    pub fn delimiter_byte(&self, default: u8) -> Result<u8, String> {
        match self.delimiter.as_deref().map(|text| (text, text.as_bytes())) {
            None => Ok(default),
            Some(("\\t", _)) => Ok(b'\t'),
            Some((_, [byte])) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
            Some((text, _)) => Err(format!("must be one ASCII character, not \"{text}\"")),
        }
    }

    /// The quote; `None` where fields are never quoted.
    pub fn quote_byte(&self) -> Result<Option<u8>, String> {
        match self.quote.as_bytes() {
            [] => Ok(None),
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
            _ => Err(format!("must be one ASCII character or empty, not \"{}\"", self.quote)),
        }
    }
}

impl JsonConfig {
    /// The keys on the way to the records.
    pub fn path(&self) -> Vec<String> {
        match self.records.as_deref() {
            None | Some("") => Vec::new(),
            Some(path) => path.split('.').map(String::from).collect(),
        }
    }
}

impl S3Config {
    fn validate(&self) -> Result<(), FilesError> {
        if let Some(endpoint) = &self.endpoint {
            let valid = url::Url::parse(endpoint)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none());
            if !valid {
                return Err(FilesError::setting("s3.endpoint", "must be a URL such as https://s3.example.com:9000"));
            }
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err(FilesError::setting("s3", "needs both access_key_id and secret_access_key, or neither"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(config: serde_json::Value) -> String {
        match serde_json::from_value::<Config>(config) {
            Err(error) => error.to_string(),
            Ok(config) => config.validate().err().map_or_else(String::new, |error| error.to_string()),
        }
    }

    #[test]
    fn says_which_setting_is_wrong() {
        use serde_json::json;
        let stream = |more: serde_json::Value| {
            let mut stream = json!({"name": "s", "urls": ["http://h/a.csv"]});
            stream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"streams": [stream]})
        };
        assert_eq!(check(stream(json!({}))), "");
        assert!(check(stream(json!({"url": "x"}))).contains("unknown field `url`"));
        assert!(check(stream(json!({"urls": ["ftp://h/x"]}))).contains("streams[0].urls[0]"));
        assert!(check(stream(json!({"csv": {"delimiter": "||"}}))).contains("streams[0].csv.delimiter"));
        assert!(check(stream(json!({"csv": {"quote": "ab"}}))).contains("streams[0].csv.quote"));
        assert!(check(stream(json!({"csv": {"encoding": "latin-1"}}))).contains("utf-8"));
        assert!(check(stream(json!({"schema": {"a": "varchar"}}))).contains("streams[0].schema.a"));
        assert!(check(json!({"streams": []})).contains("1 to 100"));
        assert!(check(json!({"streams": stream(json!({}))["streams"], "s3": {"access_key_id": "a"}})).contains("s3"));
        assert!(
            check(json!({"streams": stream(json!({}))["streams"], "s3": {"endpoint": "minio"}}))
                .contains("s3.endpoint")
        );
    }

    #[test]
    fn limits_of_the_configuration_hold() {
        use serde_json::json;
        let stream = |name: String, urls: usize, url: String| json!({"name": name, "urls": vec![url; urls]});
        let many: Vec<_> = (0..=MAX_STREAMS).map(|n| stream(format!("s{n}"), 1, "http://h/a".into())).collect();
        assert!(check(json!({"streams": many})).contains("1 to 100"));
        assert!(
            check(json!({"streams": [stream("s".into(), MAX_URLS + 1, "http://h/a".into())]})).contains("1 to 1000")
        );
        let long = format!("http://h/{}", "a".repeat(MAX_URL_BYTES));
        assert!(check(json!({"streams": [stream("s".into(), 1, long)]})).contains("longer than 4096"));
        let deep = vec!["a"; MAX_JSON_PATH + 1].join(".");
        let mut with_path = stream("s".into(), 1, "http://h/a".into());
        with_path["json"] = json!({"records": deep});
        assert!(check(json!({"streams": [with_path]})).contains("json.records"));
    }

    #[test]
    fn the_schema_is_json_and_names_every_setting() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let stream = &schema["properties"]["streams"]["items"]["properties"];
        for setting in ["name", "urls", "format", "compression", "csv", "json", "schema", "incremental"] {
            assert!(stream[setting]["description"].is_string(), "{setting}");
        }
        for secret in ["secret_access_key", "session_token"] {
            assert_eq!(schema["properties"]["s3"]["properties"][secret]["x-secret"], true, "{secret}");
        }
        assert_eq!(schema["properties"]["streams"]["maxItems"], MAX_STREAMS);
        assert_eq!(stream["urls"]["maxItems"], MAX_URLS);
        let example = &schema["examples"][0];
        assert_eq!(check(example.clone()), "");
    }

    #[test]
    fn secrets_are_not_printed() {
        let s3 = S3Config { secret_access_key: Some("hunter2".into()), ..S3Config::default() };
        assert!(!format!("{s3:?}").contains("hunter2"));
    }
}
