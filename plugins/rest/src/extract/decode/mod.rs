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
    match &found[..] {
        // Words and numbers were only delimited.
        [Record::Raw(only)] if !matches!(text.get(start), Some(b'[' | b'{')) => match json::parse(only) {
            Ok(Value::Null) => return Err("it is null".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        },
        _ => {}
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::extract::stage::{answer, env, json, told};

    fn decoded(decoder: &str, body: impl Into<Bytes>) -> Result<String, String> {
        let decoder = Decoder::build(&Node::root(&json(decoder))).map_err(|error| error.to_string())?;
        let values = decoder.decode(&answer(body), &env()).and_then(Iterator::collect::<Result<Vec<_>>>);
        let values = values.map_err(|error| error.to_string())?;
        Ok(Value::list(values.iter().map(Record::value).collect()).to_json())
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn json_that_cannot_be_read_counts_as_an_empty_object_and_is_told() {
        let read = |body: &'static str| decoded(r#"{"type":"JsonDecoder"}"#, body).unwrap();
        assert_eq!(read(r#"[{"a":1},2]"#), r#"[{"a":1},2]"#);
        assert_eq!(read("\u{feff}{\"a\":1}"), r#"[{"a":1}]"#);
        for body in ["", "null", "[]", "<p>", "{\"a\":1", "{} {}"] {
            assert_eq!(read(body), "[{}]", "{body}");
        }
        let (env, wire) = told();
        let _ = Decoder::Json.decode(&answer("<html>\"no\"</html>"), &env).unwrap();
        assert_eq!(
            wire.0.take(),
            [concat!(
                "the answer of https://api.test/items (status 200) is not JSON and counts as empty: ",
                "a value is missing at byte 0; it starts with `<html>\\\"no\\\"</html>`"
            )]
        );
        let _ = Decoder::Json.decode(&answer(""), &env).unwrap();
        assert!(wire.0.take().is_empty(), "an answer without content is not worth a line");
    }

    #[test]
    fn lines_that_are_no_json_are_left_out() {
        let read = |body: &'static str| decoded(r#"{"type":"JsonlDecoder"}"#, body).unwrap();
        assert_eq!(read("{\"a\":1}\r\n\n{bad\n [2] \n{\"a\":NaN}"), r#"[{"a":1},[2],{"a":null}]"#);
        let lines = decoded(r#"{"type":"IterableDecoder"}"#, "a\r\n\nb").unwrap();
        assert_eq!(lines, r#"[{"record":"a"},{"record":""},{"record":"b"}]"#);
    }

    #[test]
    fn a_line_over_the_limit_is_refused() {
        let error = decoded(r#"{"type":"JsonlDecoder"}"#, vec![b' '; crate::limits::MAX_LINE_BYTES + 1]).unwrap_err();
        assert!(error.contains("a line of the answer is longer"), "{error}");
    }

    #[test]
    fn csv_rows_are_objects_of_texts() {
        let read = |decoder: &str, body: &[u8]| decoded(decoder, body.to_vec()).unwrap();
        let body = b"id;name\r\n1;\"a;\r\nb\"\r\n\r\n2\r\n3;x;y;z\r\n";
        assert_eq!(
            read(r#"{"type":"CsvDecoder","delimiter":";"}"#, body),
            r#"[{"id":"1","name":"a;\nb"},{"id":"2","name":null},{"id":"3","name":"x","null":["y","z"]}]"#
        );
        let nulls = r#"{"type":"CsvDecoder","delimiter":"\\t","set_values_to_none":["","NA"]}"#;
        assert_eq!(read(nulls, b"a\tb\n\tNA\n"), r#"[{"a":null,"b":null}]"#);
        assert_eq!(read(r#"{"type":"CsvDecoder","encoding":"iso-8859-1"}"#, b"a\n\xe9\n"), r#"[{"a":"é"}]"#);
        let wide: Vec<u8> = "\u{feff}a\n😀\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(r#"{"type":"CsvDecoder","encoding":"UTF-16"}"#, &wide), r#"[{"a":"😀"}]"#);
        assert_eq!(read(r#"{"type":"CsvDecoder"}"#, b""), "[]");
        let error = decoded(r#"{"type":"CsvDecoder"}"#, &b"a\n\xe9\n"[..]).unwrap_err();
        assert!(error.contains("set `encoding` of the CsvDecoder"), "{error}");
        let error = decoded(r#"{"type":"CsvDecoder","delimiter":"::"}"#, "").unwrap_err();
        assert_eq!(error, "delimiter: this has to be one ASCII character, or an escape such as \\t");
    }

    #[test]
    fn xml_has_the_shape_of_xmltodict() {
        let read = |body: &'static str| decoded(r#"{"type":"XmlDecoder"}"#, body).unwrap();
        assert_eq!(
            read(r#"<?xml version="1.0"?><r><i id="1"> a &amp; b </i><i/><n:e><![CDATA[<x>]]></n:e>&#65;</r>"#),
            r##"[{"r":{"i":[{"@id":"1","#text":"a & b"},null],"n:e":"<x>","#text":"A"}}]"##
        );
        for body in ["<a><b></a>", "<a/><b/>", "text", "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", ""] {
            assert_eq!(read(body), "[{}]", "{body}");
        }
        let deep = "<a>".repeat(crate::limits::MAX_DEPTH + 1) + &"</a>".repeat(crate::limits::MAX_DEPTH + 1);
        assert_eq!(decoded(r#"{"type":"XmlDecoder"}"#, deep).unwrap(), "[{}]");
    }

    #[test]
    fn packed_answers_are_unpacked_and_others_pass() {
        let gzip = r#"{"type":"GzipDecoder","decoder":{"type":"JsonlDecoder"}}"#;
        assert_eq!(decoded(gzip, packed(b"{\"a\":1}\n{\"a\":2}")).unwrap(), r#"[{"a":1},{"a":2}]"#);
        assert_eq!(decoded(gzip, "{\"a\":1}").unwrap(), r#"[{"a":1}]"#);
        let twice = r#"{"type":"GzipDecoder","decoder":{"type":"GzipDecoder","decoder":{"type":"CsvDecoder"}}}"#;
        assert_eq!(decoded(twice, packed(&packed(b"a\n1\n"))).unwrap(), r#"[{"a":"1"}]"#);
        let cut = &packed(b"{\"a\":1}\n")[..20];
        assert!(decoded(gzip, cut.to_vec()).unwrap_err().contains("the answer cannot be read"));
        let error = decoded(r#"{"type":"GzipDecoder","decoder":{"type":"XmlDecoder"}}"#, "").unwrap_err();
        assert_eq!(error, "decoder: `XmlDecoder` cannot stand inside `GzipDecoder`");
    }

    #[test]
    fn all_files_of_an_archive_are_read() {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let plain = zip::write::SimpleFileOptions::default();
        for (name, text) in [("1.json", r#"[{"a":1},{"a":2}]"#), ("2.json", r#"{"a":3}"#)] {
            archive.start_file(name, plain).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.add_directory("folder", plain).unwrap();
        let body = archive.finish().unwrap().into_inner();
        let zip = r#"{"type":"ZipfileDecoder","decoder":{"type":"JsonDecoder"}}"#;
        assert_eq!(decoded(zip, body).unwrap(), r#"[{"a":1},{"a":2},{"a":3}]"#);
        assert!(decoded(zip, "no").unwrap_err().contains("is not a zip archive"));
    }

    #[test]
    fn unpacking_has_a_limit() {
        let mut text = Vec::new();
        let error = Bounded::new(&b"12345"[..], 4).read_to_end(&mut text).unwrap_err();
        assert_eq!(broken(&error).kind, crate::error::Kind::Refused);
        assert!(Bounded::new(&b"1234"[..], 4).read_to_end(&mut text).is_ok());
        let error = read_all(Box::new(std::io::repeat(b' '))).unwrap_err();
        assert!(error.message.contains("the answer is too large"), "{error}");
        let endless = Bounded::new(std::io::repeat(b' '), crate::limits::MAX_UNPACKED_BYTES);
        assert!(std::io::copy(&mut std::io::BufReader::with_capacity(1 << 20, endless), &mut std::io::sink()).is_err());
    }

    #[test]
    fn items_are_found_along_the_path_of_ijson() {
        let items = |path: &str, body: &'static str| {
            decoded(&format!(r#"{{"type":"JsonItemsDecoder","items_path":"{path}"}}"#), body).unwrap()
        };
        assert_eq!(items("data.users", r#"{"data":{"users":[{"a":1},2]}}"#), r#"[{"a":1},2]"#);
        assert_eq!(items("data.item.x", r#"{"data":[{"x":[1]},{"x":[2]},{"x":3}]}"#), "[1,2]");
    }
}
