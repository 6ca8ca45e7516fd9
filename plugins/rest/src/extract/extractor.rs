//! Where in an answer the records are.

use bytes::{Buf, Bytes};

use super::{
    Record,
    decode::{Charset, Decoder, Sheet, Values},
    dpath::Path,
    expander::Expander,
    parts, split,
};
use crate::{
    error::{RestError, Result},
    limits::MAX_EXTRACTORS_NESTED,
    node::Node,
    stream::Env,
    value::Value,
    wire::Answer,
};

#[derive(Debug, Clone)]
pub enum Extractor {
    Path {
        path: Path,
        keys: Vec<String>,
        expander: Option<Expander>,
        at: String,
    },
    Combined {
        parts: Vec<Extractor>,
        first_match: bool,
        skip_empty: bool,
    },
    /// A CSV file, packed or not, whatever the decoder is.
    File {
        keep_texts: bool,
    },
}

/// What came out of one value.
#[derive(Debug, Default)]
pub struct Extracted {
    pub records: Vec<Record>,
    /// Empty records that were left out but count towards the page's size.
    pub dropped: usize,
}

impl Extractor {
    /// # Errors
    /// Kind config: an extractor that is not known, a path that is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        Self::nested(node, env, 0)
    }

    fn nested(node: &Node<'_>, env: &Env, depth: usize) -> Result<Self> {
        if depth > MAX_EXTRACTORS_NESTED {
            return Err(node.wrong(format!("extractors are nested deeper than {MAX_EXTRACTORS_NESTED} levels")));
        }
        Ok(match node.kind() {
            "DpathExtractor" => {
                let path = parts::path(node, "field_path", env)?;
                let expander = node.get("record_expander").map(|node| Expander::build(&node, env)).transpose()?;
                Self::Path { keys: path.keys(), path, expander, at: node.path.clone() }
            }
            "CombinedExtractor" => {
                let inner = node.items("extractors");
                if inner.is_empty() {
                    return Err(node.wrong("`extractors` has to name at least one"));
                }
                Self::Combined {
                    parts: inner.iter().map(|node| Self::nested(node, env, depth + 1)).collect::<Result<_>>()?,
                    first_match: node.get("mode").is_some_and(|node| node.value.as_str() == Some("first_match")),
                    skip_empty: node.flag("skip_empty_records", false)?,
                }
            }
            "ResponseToFileExtractor" => Self::File { keep_texts: node.flag("preserve_na_values", false)? },
            _ => return Err(node.unknown()),
        })
    }

    /// The path along which pages of JSON can be cut into raw records.
    pub fn raw_path(&self) -> Option<&[String]> {
        match self {
            Self::Path { path, keys, expander: None, .. } if path.is_plain() => Some(keys),
            _ => None,
        }
    }

    /// The records of one decoded value.
    ///
    /// # Errors
    /// Kind config: a path without `*` leads to several values, an element cannot take a value of its parent.
    pub fn extract(&self, value: &Record, out: &mut Extracted) -> Result<()> {
        match (self, value) {
            (Self::Path { .. }, Record::Raw(text)) if self.cut(text, out) => Ok(()),
            (Self::Path { path, expander, at, .. }, _) => {
                let value = value.value();
                let mut found = Vec::new();
                take(path, &value, &mut found).map_err(|reason| RestError::config(reason).at(at))?;
                let records = match expander {
                    None => found,
                    Some(expander) => {
                        let mut records = Vec::new();
                        found.into_iter().try_for_each(|record| expander.expand(record, &mut records))?;
                        records
                    }
                };
                out.records.extend(records.into_iter().map(Record::Parsed));
                Ok(())
            }
            (Self::File { .. }, _) => {
                out.records.push(value.clone());
                Ok(())
            }
            (Self::Combined { .. }, _) => self.combine(std::slice::from_ref(value), out),
        }
    }

    /// The records of a whole page; only a combination has to see all of its values together.
    ///
    /// # Errors
    /// As [`Extractor::extract`].
    pub fn combine(&self, values: &[Record], out: &mut Extracted) -> Result<()> {
        let Self::Combined { parts, first_match, skip_empty } = self else {
            return values.iter().try_for_each(|value| self.extract(value, out));
        };
        for part in parts {
            let mut found = Extracted::default();
            part.combine(values, &mut found)?;
            if *skip_empty {
                let before = found.records.len();
                found.records.retain(|record| record.value().truthy());
                found.dropped += before - found.records.len();
            }
            let matched = !found.records.is_empty();
            if matched || !first_match {
                out.records.extend(found.records);
                out.dropped += found.dropped;
            }
            if matched && *first_match {
                break;
            }
        }
        Ok(())
    }

    /// Cuts raw JSON along a plain path; whether it could.
    fn cut(&self, text: &Bytes, out: &mut Extracted) -> bool {
        let Some(found) = self.raw_path().and_then(|path| split::piece(text, path).ok()).filter(|cut| !cut.unclear)
        else {
            return false;
        };
        out.records.extend(found.records.iter().map(|(start, end)| Record::Raw(text.slice(*start..*end))));
        true
    }

    /// The values of an answer, decoded as this extractor wants them.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn open(&self, decoder: &Decoder, answer: &Answer, env: &Env) -> Result<Values> {
        let Self::File { keep_texts } = self else { return decoder.decode(answer, env) };
        let named = answer.header("content-type").and_then(|text| text.split_once("charset="));
        let charset = named.and_then(|(_, name)| Charset::named(name)).unwrap_or_default();
        Sheet::table(charset, *keep_texts).unpacked(Box::new(answer.body.clone().reader()))
    }
}

/// What a path of `DpathExtractor` stands for: the elements of an array, else the value itself unless it is empty.
fn take(path: &Path, value: &Value, out: &mut Vec<Value>) -> Result<(), String> {
    if path.is_many() {
        out.extend(path.values(value).into_iter().cloned());
        return Ok(());
    }
    match path.get(value)? {
        Some(Value::List(list)) => out.extend(list.iter().cloned()),
        Some(value) if value.truthy() => out.push(value.clone()),
        _ => {}
    }
    Ok(())
}
