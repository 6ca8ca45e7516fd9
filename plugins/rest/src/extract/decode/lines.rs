//! Bodies of lines: JSON on each, or plain text.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{Record, Values, archive::broken, json, start};
use crate::{
    error::{RestError, Result},
    limits::MAX_LINE_BYTES,
    stream::Env,
    value::{Map, Value},
};

/// One JSON value a line. A line that holds none is left out and told to the operator, as the reference does.
pub fn json(input: Box<dyn Read>, env: &Env) -> Values {
    let env = env.clone();
    let values = Lines::new(input).filter_map(move |line| match line {
        Ok(line) => judge(line, &env),
        Err(error) => Some(Err(error)),
    });
    Box::new(values)
}

fn judge(line: Vec<u8>, env: &Env) -> Option<Result<Record>> {
    let text = line.trim_ascii();
    if std::str::from_utf8(text).is_err() {
        let start = start(text);
        return Some(Err(RestError::system(format!("a line of the answer is not UTF-8; it starts with {start}"))));
    }
    if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        let line = Bytes::from(line);
        return Some(Ok(Record::Raw(line.slice_ref(line.trim_ascii()))));
    }
    match json::parse(text) {
        Ok(value) => Some(Ok(Record::Parsed(value))),
        Err(_) if text.is_empty() => None,
        Err(error) => {
            let start = start(text);
            env.wire
                .info(&format!("a line of the answer is not JSON and is left out: {error}; it starts with {start}"));
            None
        }
    }
}

/// Each line as an object with the member `record`.
pub fn texts(input: Box<dyn Read>) -> Values {
    let values = Lines::new(input).flat_map(|line| match line.map(String::from_utf8) {
        Ok(Ok(line)) => {
            let of = |line: &str| Ok(Record::Parsed(Value::map(Map::from_iter([("record".into(), Value::str(line))]))));
            // A carriage return ends a line as well.
            let line = line.strip_suffix('\r').unwrap_or(&line);
            line.split('\r').map(of).collect()
        }
        Ok(Err(_)) => vec![Err(RestError::system("a line of the answer is not UTF-8"))],
        Err(error) => vec![Err(error)],
    });
    Box::new(values)
}

/// Lines without their ends.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    failed: bool,
}

impl Lines {
    fn new(input: Box<dyn Read>) -> Self {
        Self { input: BufReader::with_capacity(64 * 1024, input), failed: false }
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut line = Vec::new();
        let read = self.input.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
        let ended = match read {
            Ok(_) if line.len() > MAX_LINE_BYTES => {
                Err(RestError::refused(format!("a line of the answer is longer than {MAX_LINE_BYTES} bytes")))
            }
            Ok(length) => Ok(length == 0),
            Err(error) => Err(broken(&error)),
        };
        match ended {
            Ok(true) => None,
            Ok(false) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                Some(Ok(line))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
