//! CSV: the dialect of Python's `csv.DictReader`, and that of pandas for the files of asynchronous jobs.

use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{Record, Values, charset::Charset};
use crate::{
    error::{RestError, Result},
    node::Node,
    value::{Map, Value},
};

/// What pandas takes for a missing value.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
];

#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    delimiter: u8,
    charset: Charset,
    /// Values that stand for null.
    nulls: Vec<String>,
    /// As pandas: columns of one name are numbered, and a row must not be longer than the header.
    table: bool,
}

impl Sheet {
    /// Of a `CsvDecoder`.
    ///
    /// # Errors
    /// Kind config: a delimiter of more than one byte, an unknown encoding.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let delimiter = match node.get("delimiter") {
            Some(node) => delimiter(node.text()?)
                .ok_or_else(|| node.wrong("this has to be one ASCII character, or an escape such as \\t"))?,
            None => b',',
        };
        let nulls = node.items("set_values_to_none").into_iter().map(|node| Ok(node.text()?.to_owned()));
        let nulls = nulls.collect::<Result<_>>()?;
        Ok(Self { delimiter, charset: Charset::build(node)?, nulls, table: false })
    }

    /// Of a `ResponseToFileExtractor`.
    pub fn table(charset: Charset, keep_texts: bool) -> Self {
        let nulls = if keep_texts { &MISSING[..1] } else { &MISSING[..] };
        let nulls = nulls.iter().map(|text| (*text).to_owned()).collect();
        Self { delimiter: b',', charset, nulls, table: true }
    }

    /// The rows of a file that may be packed with gzip.
    ///
    /// # Errors
    /// As [`Sheet::rows`].
    pub fn unpacked(&self, input: Box<dyn Read>) -> Result<Values> {
        self.rows(super::archive::gunzip(input)?)
    }

    /// The rows as objects of texts.
    ///
    /// # Errors
    /// Kind system where the header cannot be read.
    pub fn rows(&self, input: Box<dyn Read>) -> Result<Values> {
        let mut layout = ReaderBuilder::new();
        layout.has_headers(false).flexible(true).delimiter(self.delimiter);
        let mut reader = layout.from_reader(self.charset.reader(input));
        let mut row = ByteRecord::new();
        if !reader.read_byte_record(&mut row).map_err(|error| broken(&error))? {
            return Ok(Box::new(std::iter::empty()));
        }
        let mut names = row.iter().map(text).collect::<Result<Vec<_>>>()?;
        if self.table {
            number(&mut names);
        }
        Ok(Box::new(Rows { sheet: self.clone(), names, reader, row, failed: false }))
    }
}

/// Columns of one name get `.1`, `.2`; those without a name their place.
fn number(names: &mut [String]) {
    for at in 0..names.len() {
        if names[at].is_empty() {
            names[at] = format!("Unnamed: {at}");
        }
        let (base, mut count) = (names[at].clone(), 0);
        while names[..at].contains(&names[at]) {
            count += 1;
            names[at] = format!("{base}.{count}");
        }
    }
}

fn delimiter(text: &str) -> Option<u8> {
    let one = match text.strip_prefix('\\') {
        None | Some("") => text.to_owned(),
        Some("t") => "\t".into(),
        Some("n") => "\n".into(),
        Some("r") => "\r".into(),
        Some("\\") => "\\".into(),
        Some(code) if code.starts_with(['x', 'u']) => {
            char::from_u32(u32::from_str_radix(&code[1..], 16).ok()?)?.to_string()
        }
        Some(code) => char::from_u32(u32::from_str_radix(code, 8).ok()?)?.to_string(),
    };
    <[u8; 1]>::try_from(one.as_bytes()).ok().map(|[byte]| byte).filter(u8::is_ascii)
}

struct Rows {
    sheet: Sheet,
    names: Vec<String>,
    reader: Reader<Box<dyn Read>>,
    row: ByteRecord,
    failed: bool,
}

impl Rows {
    fn object(&self) -> Result<Value> {
        let mut map = Map::with_capacity(self.names.len());
        for (at, name) in self.names.iter().enumerate() {
            let value = match self.row.get(at) {
                Some(bytes) => self.value(bytes)?,
                None => Value::Null,
            };
            map.insert(name.clone(), value);
        }
        if self.row.len() > self.names.len() {
            let rest = self.row.iter().skip(self.names.len()).map(|bytes| Ok(Value::from(text(bytes)?)));
            let rest: Vec<Value> = rest.collect::<Result<_>>()?;
            if self.sheet.table {
                let (line, count) = (self.row.position().map_or(0, csv::Position::line), self.names.len());
                let has = self.row.len();
                let message = format!("line {line} of the CSV answer has {has} values, but its header {count}");
                return Err(RestError::system(message));
            }
            // The reference puts them under the key None, which its output writes as null.
            map.insert("null".into(), Value::list(rest));
        }
        Ok(Value::map(map))
    }

    fn value(&self, bytes: &[u8]) -> Result<Value> {
        let text = text(bytes)?;
        Ok(if self.sheet.nulls.contains(&text) { Value::Null } else { Value::from(text) })
    }
}

impl Iterator for Rows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = match self.reader.read_byte_record(&mut self.row) {
            Ok(false) => return None,
            Ok(true) => self.object().map(Record::Parsed),
            Err(error) => Err(broken(&error)),
        };
        self.failed = result.is_err();
        Some(result)
    }
}

/// A value, its line ends as Python reads them.
fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains('\r') => Ok(text.replace("\r\n", "\n").replace('\r', "\n")),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(RestError::system(
            "the CSV answer is not in the encoding that its decoder says; set `encoding` of the CsvDecoder",
        )),
    }
}

fn broken(error: &csv::Error) -> RestError {
    match error.kind() {
        csv::ErrorKind::Io(error) => super::archive::broken(error),
        _ => RestError::system(format!("the CSV answer cannot be read: {error}")),
    }
}
