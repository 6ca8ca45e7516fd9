//! What `thimble manifest try` prints while it reads: one line each, for people or as JSON.
//!
//! Must never print a secret: exchanges come masked, log lines and failures scrubbed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Value, json, value::RawValue};
use thimble_plugin::{
    LogLevel, LogSink, RawBatch, RecordSink,
    egress::{Content, Exchange, Watcher},
};
use thimble_record::{ErrorKind, Failure, Rejected};

/// What of a body people are shown.
const SHOWN_BODY_BYTES: usize = 2_000;
/// Fields of a stream that its observed schema lists.
const MAX_OBSERVED_FIELDS: usize = 10_000;

/// Drops log lines.
pub(super) struct Silent;

impl LogSink for Silent {
    fn line(&self, _: LogLevel, _: &str) {}
}

/// Prints, and remembers what is told at the end of a stream.
pub(super) struct Printer {
    json: bool,
    bodies: bool,
    /// Records of a stream after which it has been read enough.
    limit: Option<u64>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    records: u64,
    fields: BTreeMap<String, BTreeSet<&'static str>>,
    last_checkpoint: Option<String>,
}

/// What became of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) records: u64,
    /// Names of the JSON types that each field had.
    pub(super) fields: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Printer {
    pub(super) fn new(json: bool, bodies: bool, limit: Option<u64>) -> Self {
        Self { json, bodies, limit, seen: Mutex::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints one line; a reader that went away is no error of ours.
    pub(super) fn line(&self, document: &Value, text: impl FnOnce() -> String) {
        let mut out = io::stdout().lock();
        let _ = if self.json { writeln!(out, "{document}") } else { writeln!(out, "{}", text()) };
    }

    /// Whether as many records were read as were wanted.
    pub(super) fn has_enough(&self) -> bool {
        self.limit.is_some_and(|limit| self.seen().records >= limit)
    }

    /// Takes the last checkpoint of the partition that has ended.
    pub(super) fn take_checkpoint(&self) -> Option<String> {
        self.seen().last_checkpoint.take()
    }

    /// What became of the stream that has ended.
    pub(super) fn end_stream(&self) -> Told {
        let Seen { records, fields, .. } = std::mem::take(&mut *self.seen());
        Told { records, fields }
    }

    pub(super) fn failure(&self, stream: Option<&str>, failure: &Failure) {
        let Failure { kind, message, .. } = failure;
        let document = json!({ "type": "error", "kind": kind, "stream": stream, "message": message });
        self.line(&document, || format!("error ({}): {message}", kind_word(*kind)));
    }

    fn record(&self, stream: &str, record: &RawValue) {
        if self.json {
            // As it came: a number must not change on the way.
            let stream = Value::from(stream);
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{{\"type\":\"record\",\"stream\":{stream},\"data\":{}}}", one_line(record.get()));
        } else {
            self.line(&Value::Null, || format!("{stream}: {}", one_line(record.get())));
        }
    }
}

/// JSON without line feeds, which can only stand between its tokens.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn kind_word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => "config",
        ErrorKind::Transient => "transient",
        ErrorKind::System => "system",
        ErrorKind::Refused => "refused",
    }
}

/// The records of a batch: an array, or JSON lines.
fn records(batch: &[u8]) -> Result<Vec<&RawValue>, serde_json::Error> {
    let first = batch.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return serde_json::from_slice(batch);
    }
    serde_json::Deserializer::from_slice(batch).into_iter().collect()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Seen {
    fn observe(&mut self, record: &RawValue) {
        let Ok(Value::Object(fields)) = serde_json::from_str(record.get()) else { return };
        for (name, value) in fields {
            if self.fields.len() < MAX_OBSERVED_FIELDS || self.fields.contains_key(&name) {
                self.fields.entry(name).or_default().insert(type_name(&value));
            }
        }
    }
}

#[async_trait]
impl RecordSink for Printer {
    async fn emit(&self, stream: &str, batch: RawBatch) -> Result<(), Failure> {
        let RawBatch::Json(bytes) = batch else {
            return Err(Failure::system(format!("stream {stream}: its records are Arrow, which is not shown here")));
        };
        let records = records(&bytes)
            .map_err(|error| Failure::system(format!("stream {stream}: a batch is not JSON: {error}")))?;
        for record in records {
            if self.has_enough() {
                return Err(Failure::new(ErrorKind::Refused, "enough records were read".to_owned()));
            }
            self.record(stream, record);
            let mut seen = self.seen();
            seen.records += 1;
            seen.observe(record);
        }
        Ok(())
    }

    async fn reject(&self, stream: &str, records: Vec<Rejected>) -> Result<(), Failure> {
        for Rejected { reason, message, raw, .. } in records {
            let document = json!({
                "type": "rejected", "stream": stream, "reason": reason, "message": message, "raw": raw,
            });
            self.line(&document, || format!("{stream}: rejected ({reason}): {message}"));
        }
        Ok(())
    }

    async fn checkpoint(&self, stream: &str, state: String) -> Result<(), Failure> {
        let document = json!({ "type": "checkpoint", "stream": stream, "state": as_json(&state) });
        if self.json {
            self.line(&document, String::new);
        }
        self.seen().last_checkpoint = Some(state);
        Ok(())
    }
}

/// A state as JSON where it is JSON, else as text.
pub(super) fn as_json(state: &str) -> Value {
    serde_json::from_str(state).unwrap_or_else(|_| Value::from(state))
}

fn header_map(headers: &[(String, String)]) -> BTreeMap<&str, String> {
    let mut map: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        map.entry(name).and_modify(|known| *known = format!("{known}, {value}")).or_insert_with(|| value.clone());
    }
    map
}

fn shown(body: &Content) -> String {
    match body {
        Content::Text(text) if text.len() <= SHOWN_BODY_BYTES => text.clone(),
        Content::Text(text) => format!("{}…", &text[..text.floor_char_boundary(SHOWN_BODY_BYTES)]),
        Content::Binary { base64 } => format!("({} bytes that are no text)", base64.len() / 4 * 3),
    }
}

impl Watcher for Printer {
    fn exchange(&self, exchange: &Exchange) {
        let Exchange { method, url, request_headers, request_body, status, headers, body, error, ms, .. } = exchange;
        let mut document = json!({
            "type": "request", "method": method, "url": url, "headers": header_map(request_headers),
            "body": request_body, "status": status, "ms": ms,
        });
        if let Some(error) = error {
            document["error"] = json!(error);
        }
        if self.bodies {
            document["answer"] = json!({ "headers": header_map(headers), "body": body });
        }
        self.line(&document, || {
            let mut text = match (status, error) {
                (Some(status), None) => format!("{method} {url} -> {status} in {ms} ms"),
                (status, error) => {
                    let status = status.map(|status| format!("{status}, ")).unwrap_or_default();
                    let why = error.as_ref().map_or("no answer", |error| error.message.as_str());
                    format!("{method} {url} -> {status}{why}")
                }
            };
            if !request_body.is_empty() {
                text.push_str(&format!("\n  > {}", shown(request_body)));
            }
            if self.bodies && !body.is_empty() {
                text.push_str(&format!("\n  < {}", shown(body)));
            }
            text
        });
    }
}

impl LogSink for Printer {
    fn line(&self, level: LogLevel, message: &str) {
        let document = json!({ "type": "log", "level": level, "message": message });
        if self.json || level >= LogLevel::Warn {
            Printer::line(self, &document, || format!("{level}: {message}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batches_are_arrays_or_lines_and_numbers_stay_as_they_are() {
        for batch in
            [" [{\"a\":1.50},\n {\"a\":12345678901234567890123}]", "{\"a\":1.50}\n{\"a\":12345678901234567890123}\n"]
        {
            let found: Vec<String> =
                records(batch.as_bytes()).unwrap().iter().map(|raw| raw.get().to_owned()).collect();
            assert_eq!(found, ["{\"a\":1.50}", "{\"a\":12345678901234567890123}"]);
        }
        assert!(records(b"").unwrap().is_empty());
        assert!(records(b"{").is_err());
    }

    #[tokio::test]
    async fn a_stream_ends_where_enough_was_read() {
        let printer = Printer::new(true, false, Some(2));
        let batch = || RawBatch::Json(r#"[{"a":1,"b":null},{"a":"x"},{"a":2.5}]"#.into());
        assert!(printer.emit("s", batch()).await.is_err());
        assert!(printer.has_enough());
        let told = printer.end_stream();
        assert_eq!(told.records, 2);
        assert_eq!(told.fields["a"], ["integer", "string"].into());
        assert_eq!(told.fields["b"], ["null"].into());
        assert!(!printer.has_enough(), "the next stream begins anew");
    }
}
