//! From the bytes of an answer to values.
//!
//! Owns which decoder a manifest asks for and how decoders are nested. A value stays raw JSON text where its decoder
//! leaves it so. Must never unpack more than [`crate::limits::MAX_UNPACKED_BYTES`] of one answer.

mod archive;
mod charset;
mod lines;
mod sheet;
mod xml;

use std::io::Read;

use bytes::{Buf, Bytes};

use self::archive::{Bounded, broken};
pub use self::charset::Charset;
pub use self::sheet::Sheet;
use super::{Record, json, scan};
use crate::{
    error::{RestError, Result},
    limits::MAX_DOCUMENT_BYTES,
    node::Node,
    stream::Env,
    value::{Map, Value},
    wire::Answer,
};

/// The values of an answer, one after the other. They may be many more than fit in memory at once.
pub type Values = Box<dyn Iterator<Item = Result<Record>>>;

/// How bodies are read.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoder {
    /// What cannot be read counts as an empty object.
    Json,
    /// One document whose records stand in an array along this path, where `item` stands for each element.
    Items {
        path: Vec<String>,
        charset: Charset,
    },
    JsonLines,
    /// Lines of text.
    Lines,
    Csv(Sheet),
    Xml,
    Gzip(Box<Decoder>),
    Zip(Box<Decoder>),
}

impl Decoder {
    /// # Errors
    /// Kind config: a decoder that is not known, or nested where it cannot be.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let inner = |node: &Node<'_>| {
            let inner = node.need("decoder")?;
            match Self::build(&inner)? {
                Self::Lines | Self::Xml | Self::Zip(_) => {
                    Err(inner.wrong(format!("`{}` cannot stand inside `{}`", inner.kind(), node.kind())))
                }
                decoder => Ok(Box::new(decoder)),
            }
        };
        Ok(match node.kind() {
            "JsonDecoder" => Self::Json,
            "JsonItemsDecoder" => {
                let path = node.need("items_path")?.text()?;
                Self::Items { path: path.split('.').map(str::to_owned).collect(), charset: Charset::build(node)? }
            }
            "JsonlDecoder" => Self::JsonLines,
            "IterableDecoder" => Self::Lines,
            "CsvDecoder" => Self::Csv(Sheet::build(node)?),
            "XmlDecoder" => Self::Xml,
            "GzipDecoder" => Self::Gzip(inner(node)?),
            "ZipfileDecoder" => Self::Zip(inner(node)?),
            _ => return Err(node.unknown()),
        })
    }

    /// Whether pagination cannot look into answers, because they are read piece by piece.
    pub fn streams(&self) -> bool {
        !matches!(self, Self::Json | Self::Xml | Self::Zip(_))
    }

    /// The values of an answer.
    ///
    /// # Errors
    /// Kind system: the body is not what the decoder reads. [`Decoder::Json`] and [`Decoder::Xml`] give an empty object
    /// instead and tell the operator, as the reference does.
    pub fn decode(&self, answer: &Answer, env: &Env) -> Result<Values> {
        match self {
            Self::Json => Ok(json_or_empty(answer, env)),
            Self::Xml => Ok(match xml::parse(&answer.body, answer.header("content-type")) {
                Ok(value) => one(value),
                Err(reason) => {
                    env.wire.info(&unreadable("XML", &reason, answer));
                    one(Value::map(Map::new()))
                }
            }),
            Self::Zip(inner) => archive::unzip(answer, inner, env),
            // Whether a body is packed, its first bytes say: a transport may have unpacked it.
            _ => self.read(Box::new(answer.body.clone().reader()), env),
        }
    }

    /// The values of bytes that may have been unpacked.
    fn read(&self, input: Box<dyn Read>, env: &Env) -> Result<Values> {
        match self {
            Self::Gzip(inner) => inner.read(archive::gunzip(input)?, env),
            Self::JsonLines => Ok(lines::json(input, env)),
            Self::Csv(sheet) => sheet.rows(input),
            Self::Items { path, charset } => items(&read_all(charset.reader(input))?, path),
            Self::Json => {
                let text = read_all(input)?;
                let values = document(&text).map_err(|reason| {
                    RestError::system(format!("the answer is not JSON: {reason}; it starts with {}", start(&text)))
                })?;
                Ok(Box::new(values.into_iter().map(Ok)))
            }
            Self::Lines => Ok(lines::texts(input)),
            Self::Xml | Self::Zip(_) => unreachable!("never nested, which is checked when a decoder is built"),
        }
    }
}

fn one(value: Value) -> Values {
    Box::new(std::iter::once(Ok(Record::Parsed(value))))
}

/// A body as [`Decoder::Json`] has it.
fn json_or_empty(answer: &Answer, env: &Env) -> Values {
    let empty = || vec![Record::Parsed(Value::map(Map::new()))];
    let values = match document(&answer.body) {
        Ok(values) if values.is_empty() => empty(),
        Ok(values) => values,
        Err(reason) => {
            if !answer.body.trim_ascii().is_empty() {
                env.wire.info(&unreadable("JSON", &reason, answer));
            }
            empty()
        }
    };
    Box::new(values.into_iter().map(Ok))
}

/// The elements of a document that is an array, else the document.
fn document(text: &Bytes) -> Result<Vec<Record>, String> {
    let text = text.slice_ref(json::unmarked(text));
    let text = match std::str::from_utf8(&text) {
        Ok(_) => text,
        Err(error) => return Err(format!("byte {} is not UTF-8", error.valid_up_to())),
    };
    let start = scan::blank(&text, 0);
    let mut found = Vec::new();
    let mut take = |from: usize| -> scan::Found<usize> {
        let end = scan::value_end(&text, from)?;
        found.push(Record::Raw(text.slice(from..end)));
        Ok(end)
    };
    let end = if text.get(start) == Some(&b'[') { scan::elements(&text, start, take) } else { take(start) };
    let end = end.map_err(|misfit| format!("{} at byte {}", misfit.what, misfit.at))?;
    if scan::blank(&text, end) != text.len() {
        return Err(format!("something follows the document at byte {end}"));
    }
    if matches!(&found[..], [Record::Raw(only)] if &only[..] == b"null" && text.get(start) != Some(&b'[')) {
        return Err("it is null".into());
    }
    Ok(found)
}

/// The elements of the arrays along a path of `ijson`.
fn items(text: &Bytes, path: &[String]) -> Result<Values> {
    fn walk(text: &Bytes, at: usize, path: &[String], found: &mut Vec<Record>) -> scan::Found<usize> {
        match (path, text.get(at)) {
            ([], Some(b'[')) => scan::elements(text, at, |from| {
                let end = scan::value_end(text, from)?;
                found.push(Record::Raw(text.slice(from..end)));
                Ok(end)
            }),
            ([first, rest @ ..], Some(b'[')) if first == "item" => {
                scan::elements(text, at, |from| walk(text, from, rest, found))
            }
            ([first, rest @ ..], Some(b'{')) => scan::members(text, at, |key, from| {
                if scan::key_is(text, key, first) { walk(text, from, rest, found) } else { scan::value_end(text, from) }
            }),
            _ => scan::value_end(text, at),
        }
    }
    let text = text.slice_ref(json::unmarked(text));
    let mut found = Vec::new();
    walk(&text, scan::blank(&text, 0), path, &mut found).map_err(|misfit| {
        let (what, at, start) = (misfit.what, misfit.at, start(&text));
        RestError::system(format!("the answer is not JSON: {what} at byte {at}; it starts with {start}"))
    })?;
    Ok(Box::new(found.into_iter().map(Ok)))
}

fn read_all(input: Box<dyn Read>) -> Result<Bytes> {
    let mut text = Vec::new();
    Bounded::new(input, MAX_DOCUMENT_BYTES).read_to_end(&mut text).map_err(|error| broken(&error))?;
    Ok(text.into())
}

/// A line for the operator: who answered what.
pub fn unreadable(what: &str, reason: &str, answer: &Answer) -> String {
    let (url, status, start) = (&answer.url, answer.status, start(&answer.body));
    format!("the answer of {url} (status {status}) is not {what} and counts as empty: {reason}; it starts with {start}")
}

/// The start of a body, to be shown.
pub fn start(body: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    format!("`{}`", text.trim().escape_debug())
}
