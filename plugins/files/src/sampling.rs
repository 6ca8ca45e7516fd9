//! The fields of a stream, from the first records of some of its files.
//!
//! Owns which files are looked into and how far. Must never read a whole file: see [`crate::limits::SAMPLE_BYTES`].

use std::{borrow::Cow, collections::HashMap, fmt};

use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_schema::DataType;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    config::StreamConfig,
    error::{FilesError, Kind as ErrorKind},
    fetch::{FileVersion, Place, shown},
    kind::{Guess, Kind},
    limits::{MAX_FIELD_NAME, MAX_FIELDS, SAMPLE_BYTES, SAMPLE_FILES, SAMPLE_RECORDS},
    parquet_read::ParquetFile,
    progress::{Format, Output, Position, Progress, Task},
    reading::Source,
};

/// What the sampled records showed, in the order in which fields appeared.
#[derive(Default)]
pub struct Sample {
    fields: Vec<(String, Seen)>,
    index: HashMap<String, usize>,
    records: usize,
    /// Lines for the operator.
    pub notes: Vec<String>,
}

/// A field so far: by its values, or by a type that a file declares.
struct Seen {
    guess: Guess,
    declared: Option<Kind>,
}

impl Sample {
    fn field(&mut self, name: &str) -> Option<&mut Seen> {
        let at = match self.index.get(name) {
            Some(at) => *at,
            None if self.fields.len() >= MAX_FIELDS || name.len() > MAX_FIELD_NAME || name.is_empty() => return None,
            None => {
                self.index.insert(name.to_owned(), self.fields.len());
                self.fields.push((name.to_owned(), Seen { guess: Guess::default(), declared: None }));
                self.fields.len() - 1
            }
        };
        Some(&mut self.fields[at].1)
    }

    fn declare(&mut self, name: &str, kind: Kind) {
        let Some(seen) = self.field(name) else { return };
        seen.declared = match seen.declared {
            None => Some(kind),
            Some(known) if known == kind => Some(kind),
            // Two files that differ: the type that both fit, as for values.
            Some(known) => {
                let mut both = Guess::of(known);
                both.join(Guess::of(kind));
                Some(both.kind())
            }
        };
    }

    fn count(&mut self, records: usize) -> Result<(), FilesError> {
        self.records += records;
        if self.records >= SAMPLE_RECORDS { Err(FilesError::Enough) } else { Ok(()) }
    }

    /// The fields with their types, the operator's first of all.
    pub fn fields(mut self, overrides: &[(String, Kind)]) -> Vec<(String, Kind)> {
        for (name, kind) in overrides {
            if let Some(seen) = self.field(name) {
                seen.declared = Some(*kind);
            }
        }
        self.fields.into_iter().map(|(name, seen)| (name, seen.declared.unwrap_or_else(|| seen.guess.kind()))).collect()
    }
}

impl Output for Sample {
    fn arrow(&mut self, batch: &RecordBatch) -> Result<(), FilesError> {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let Some(seen) = self.field(field.name()) else { continue };
            if column.data_type() == &DataType::Utf8 {
                let texts = column.as_string::<i32>().iter().flatten().map(str::trim);
                texts.filter(|text| !text.is_empty()).for_each(|text| seen.guess.see_text(text.as_bytes()));
            }
        }
        self.count(batch.num_rows())
    }

    fn json(&mut self, page: &[u8]) -> Result<(), FilesError> {
        for record in serde_json::Deserializer::from_slice(page).into_iter::<Members<'_>>() {
            // Records that cannot be read here are rejected when they are read.
            let Ok(Members(members)) = record else { break };
            for (name, value) in members {
                if let Some(seen) = self.field(&name) {
                    seen.guess.see_json(value);
                }
            }
            self.count(1)?;
        }
        Ok(())
    }

    fn reject(&mut self, _reason: &str, _message: &str, _raw: &[u8]) -> Result<(), FilesError> {
        self.count(1)
    }

    fn checkpoint(&mut self, _position: &Position) -> Result<(), FilesError> {
        Ok(())
    }

    fn info(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }
}

/// The members of an object in their order, values as text.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Some files out of all: the first, the last, and evenly between them. The same files give the same choice.
pub fn choose(mut files: Vec<FileVersion>) -> Vec<FileVersion> {
    files.sort_by(|a, b| a.url.cmp(&b.url));
    files.dedup_by(|a, b| a.url == b.url);
    if files.len() <= SAMPLE_FILES {
        return files;
    }
    let last = files.len() - 1;
    (0..SAMPLE_FILES).map(|n| files[n * last / (SAMPLE_FILES - 1)].clone()).collect()
}

/// Looks into the chosen files of a stream. A file that is damaged is noted and passed over while others tell the
/// fields.
pub fn sample(place: &dyn Place, config: &StreamConfig, files: &[FileVersion]) -> Result<Sample, FilesError> {
    let mut sample = Sample::default();
    let mut bad = None;
    for version in files {
        sample.records = 0;
        match look_into(place, config, version, &mut sample) {
            Ok(()) | Err(FilesError::Enough) => {}
            Err(error) if error.kind() == ErrorKind::System || matches!(error, FilesError::Truncated { .. }) => {
                sample.notes.push(error.to_string());
                bad.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match bad {
        Some(error) if sample.fields.is_empty() => Err(error),
        _ => Ok(sample),
    }
}

fn look_into(
    place: &dyn Place,
    config: &StreamConfig,
    version: &FileVersion,
    sample: &mut Sample,
) -> Result<(), FilesError> {
    let name = shown(&version.url);
    let source = Source { file: place.file(version, &config.name)?, version, config, name: &name };
    let position = source.start()?;
    if position.format == Format::Parquet {
        for (field, kind) in ParquetFile::open(source.file, &name)?.fields()? {
            sample.declare(&field, kind);
        }
        return Ok(());
    }
    let task = Task { file: name.clone(), fields: Vec::new(), selected: Vec::new(), as_text: true };
    let mut progress = Progress::new(&task, sample, position);
    let result = source.sample(&mut progress, SAMPLE_BYTES);
    // A header without records names fields all the same.
    let header = std::mem::take(&mut progress.position.header);
    for field in &header {
        sample.field(field);
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_choice_is_stable_and_spread() {
        let file = |n: usize| FileVersion { url: format!("{n:03}"), ..FileVersion::default() };
        let files: Vec<_> = (0..101).rev().map(file).collect();
        let chosen = choose(files);
        let urls: Vec<&str> = chosen.iter().map(|file| file.url.as_str()).collect();
        assert_eq!(urls, ["000", "025", "050", "075", "100"]);
        assert_eq!(choose((0..5).map(file).collect()).len(), 5);
    }

    #[test]
    fn fields_keep_their_order_and_the_operators_types() {
        let mut sample = Sample::default();
        sample.json(br#"{"z":1,"a\u0062":"x","n":null} {"z":2.5,"later":{}}"#).unwrap();
        let fields = sample.fields(&[("z".into(), Kind::Decimal(9, 2)), ("extra".into(), Kind::Date)]);
        let expected = [
            ("z", Kind::Decimal(9, 2)),
            ("ab", Kind::Text),
            ("n", Kind::Text),
            ("later", Kind::Json),
            ("extra", Kind::Date),
        ];
        assert_eq!(fields, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn samples_are_limited() {
        let mut sample = Sample::default();
        let page = "{\"a\":1}\n".repeat(SAMPLE_RECORDS);
        assert!(matches!(sample.json(page.as_bytes()), Err(FilesError::Enough)));
        assert_eq!(sample.records, SAMPLE_RECORDS);
        let wide: String = (0..=MAX_FIELDS).map(|n| format!("{{\"f{n}\":1}}")).collect();
        let mut sample = Sample::default();
        sample.json(wide.as_bytes()).unwrap();
        assert_eq!(sample.fields.len(), MAX_FIELDS);
    }
}
