//! What another version of a plugin makes of a sync that was recorded: the same, something else, or nothing.
//!
//! Pure. What a stream is, and what was read of it, comes in; the verdict and the sentences behind it come out. Must never
//! hold a value of a record.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thimble_record::{Catalog, DataType, StreamSchema};

use crate::limits::{MAX_CANARY_NAMES, MAX_CANARY_SENTENCES};

/// Records of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Those that came in, the rejected ones included.
    pub records: u64,
    pub rejected: u64,
}

/// A stream as the recorded sync left it.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    pub figures: Figures,
    /// What the version in use declares of it; `None` where it has no such stream.
    pub declared: Option<StreamSchema>,
    /// What its table has; `None` before the first batch.
    pub stored: Option<StreamSchema>,
}

/// A stream as the candidate reads it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub figures: Figures,
    pub declared: StreamSchema,
    /// The stored schema, as the records of this read would have it grow.
    pub grown: StreamSchema,
    /// Fields of the stored schema that no record held a value in.
    pub empty: BTreeSet<String>,
    /// The limit that ended the read before its end.
    pub cut_by: Option<String>,
    /// Why it could not be read.
    pub failure: Option<String>,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Same,
    Differs,
    /// Something could not be read at all.
    Failed,
}

/// A field that has another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeChange {
    pub field: String,
    pub from: String,
    pub to: String,
}

/// What became of a stream's fields. Each list names at most [`MAX_CANARY_NAMES`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fields {
    pub gone: Vec<String>,
    pub new: Vec<String>,
    pub changed: Vec<TypeChange>,
    /// Fields that no version declares and that no record held a value in.
    pub unseen: Vec<String>,
}

/// One stream, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCanary {
    pub recorded: Figures,
    pub now: Figures,
    pub fields: Fields,
    /// The limit that ended the read: its records are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    pub verdict: Verdict,
    /// Why, and what else to know.
    pub sentences: Vec<String>,
    /// Streams of the version in use that the candidate does not have.
    pub streams_gone: Vec<String>,
    /// Streams that only the candidate has.
    pub streams_new: Vec<String>,
    /// Those that were read.
    pub streams: BTreeMap<String, StreamCanary>,
}

/// Sentences, and the worst of what they say.
struct Told {
    verdict: Verdict,
    sentences: Vec<String>,
    left_out: usize,
}

impl Told {
    fn say(&mut self, sentence: String) {
        if self.sentences.len() < MAX_CANARY_SENTENCES {
            self.sentences.push(sentence);
        } else {
            self.left_out += 1;
        }
    }

    fn differs(&mut self, sentence: String) {
        if self.verdict == Verdict::Same {
            self.verdict = Verdict::Differs;
        }
        self.say(sentence);
    }

    fn failed(&mut self, sentence: String) {
        self.verdict = Verdict::Failed;
        self.say(sentence);
    }
}

/// A candidate that could not even be asked for its streams.
pub fn failed(step: &str, why: &str) -> Canary {
    Canary {
        verdict: Verdict::Failed,
        sentences: vec![format!("{step}: {why}")],
        streams_gone: Vec::new(),
        streams_new: Vec::new(),
        streams: BTreeMap::new(),
    }
}

/// Compares. `wanted` holds the streams that the sync reads, of both versions; of other streams it is only told that they
/// came or went.
pub fn compare(
    before: &Catalog,
    after: &Catalog,
    wanted: &BTreeSet<String>,
    recorded: &BTreeMap<String, Recorded>,
    found: BTreeMap<String, Found>,
) -> Canary {
    let mut told = Told { verdict: Verdict::Same, sentences: Vec::new(), left_out: 0 };
    let only = |one: &Catalog, other: &Catalog| -> Vec<String> {
        one.streams.iter().filter(|s| other.stream(&s.name).is_none()).map(|s| s.name.clone()).collect()
    };
    let (gone, new) = (only(before, after), only(after, before));
    for (names, verb) in [(&gone, "is gone"), (&new, "is new")] {
        for name in names {
            match wanted.contains(name) {
                true => told.differs(format!("stream {name} {verb}")),
                false => told.say(format!("stream {name} {verb}; the connection does not read it")),
            }
        }
    }
    let none = Recorded::default();
    let mut streams = BTreeMap::new();
    for (name, found) in found {
        let recorded = recorded.get(&name).unwrap_or(&none);
        streams.insert(name.clone(), stream(&name, recorded, found, &mut told));
    }
    if told.verdict == Verdict::Same {
        let records: u64 = streams.values().map(|stream| stream.now.records).sum();
        told.say(format!("the same as was recorded: {} streams, {records} records", streams.len()));
    }
    if told.left_out > 0 {
        told.sentences.push(format!("and {} more", told.left_out));
    }
    Canary {
        verdict: told.verdict,
        sentences: told.sentences,
        streams_gone: short(gone),
        streams_new: short(new),
        streams,
    }
}

fn short<T>(mut names: Vec<T>) -> Vec<T> {
    names.truncate(MAX_CANARY_NAMES);
    names
}

fn stream(name: &str, recorded: &Recorded, found: Found, told: &mut Told) -> StreamCanary {
    let Found { figures, declared, grown, empty, cut_by, failure } = found;
    if let Some(failure) = &failure {
        told.failed(format!("stream {name} cannot be read: {failure}"));
    }
    let mut fields = Fields::default();
    if let Some(before) = &recorded.declared {
        differences(&flat(before), &flat(&declared), &mut fields);
        // What is declared of a stream does not tell what comes, where it declares nothing.
        let unseen = figures.records > 0 && cut_by.is_none() && failure.is_none();
        let known = |field: &String| before.field(field).is_some() || declared.field(field).is_some();
        let stored = recorded.stored.clone().unwrap_or_default();
        let conflicting = |field: &String| stored.fields.iter().any(|base| is_variant(field, &base.name));
        if unseen {
            fields.unseen = empty.into_iter().filter(|field| !known(field) && !conflicting(field)).collect();
        }
    }
    if let Some(stored) = &recorded.stored {
        let mut growth = Fields::default();
        differences(&flat(stored), &flat(&grown), &mut growth);
        let listed = |field: &str, of: &Fields| {
            of.new.iter().any(|new| new == field) || of.changed.iter().any(|change| change.field == field)
        };
        let (new, changed) = (growth.new, growth.changed);
        let new: Vec<_> = new.into_iter().filter(|field| !listed(field, &fields)).collect();
        let changed: Vec<_> = changed.into_iter().filter(|change| !listed(&change.field, &fields)).collect();
        fields.new.extend(new);
        fields.changed.extend(changed);
    }
    tell_fields(name, &fields, told);
    let compared = failure.is_none() && cut_by.is_none();
    if let Some(limit) = &cut_by {
        told.say(format!("stream {name} was read up to {limit}; its records are not compared"));
    }
    let before = recorded.figures;
    if compared && figures.records != before.records {
        told.differs(format!(
            "stream {name}: {} records, {} were recorded; the source may have changed since",
            figures.records, before.records
        ));
    }
    if compared && figures.rejected != before.rejected {
        told.differs(format!(
            "stream {name}: {} records were rejected, {} in the recorded sync",
            figures.rejected, before.rejected
        ));
    }
    let Fields { gone, new, changed, unseen } = fields;
    let fields = Fields { gone: short(gone), new: short(new), changed: short(changed), unseen: short(unseen) };
    StreamCanary { recorded: before, now: figures, fields, cut_by, failure }
}

fn tell_fields(name: &str, fields: &Fields, told: &mut Told) {
    let Fields { gone, new, changed, unseen } = fields;
    gone.iter().for_each(|field| told.differs(format!("stream {name}: field `{field}` is gone")));
    new.iter().for_each(|field| told.differs(format!("stream {name}: field `{field}` is new")));
    for TypeChange { field, from, to } in changed {
        told.differs(format!("stream {name}: field `{field}` is {to}, it was {from}"));
    }
    for field in unseen {
        told.differs(format!("stream {name}: no record held a value in `{field}`, which the stream does not declare"));
    }
}

/// Whether a column took the values that did not fit another one: `name__type`.
fn is_variant(field: &str, base: &str) -> bool {
    field.strip_prefix(base).is_some_and(|rest| rest.starts_with("__"))
}

/// All fields of a stream, those of its subtables as `path[].field`.
fn flat(schema: &StreamSchema) -> BTreeMap<String, DataType> {
    let own = schema.fields.iter().map(|field| (field.name.clone(), field.data_type));
    let children = schema.children.iter().flat_map(|(path, child)| {
        child.fields.iter().map(move |field| (format!("{path}[].{}", field.name), field.data_type))
    });
    own.chain(children).collect()
}

fn differences(from: &BTreeMap<String, DataType>, to: &BTreeMap<String, DataType>, into: &mut Fields) {
    into.gone.extend(from.keys().filter(|name| !to.contains_key(*name)).cloned());
    for (name, now) in to {
        match from.get(name) {
            None => into.new.push(name.clone()),
            Some(was) if was != now => {
                let (from, to) = (was.short_name().to_owned(), now.short_name().to_owned());
                into.changed.push(TypeChange { field: name.clone(), from, to });
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use thimble_record::{Field, Stream};

    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> StreamSchema {
        let field = |(name, data_type): &(&str, DataType)| Field {
            name: (*name).to_owned(),
            data_type: *data_type,
            nullable: true,
        };
        StreamSchema::new(fields.iter().map(field).collect())
    }

    fn catalog(streams: &[&str]) -> Catalog {
        let stream = |name: &&str| Stream {
            name: (*name).to_owned(),
            schema: StreamSchema::default(),
            key: Vec::new(),
            methods: Vec::new(),
            cursor: None,
        };
        Catalog { streams: streams.iter().map(stream).collect() }
    }

    fn one(recorded: Recorded, found: Found) -> Canary {
        let (name, catalog) = ("a".to_owned(), catalog(&["a"]));
        let wanted = BTreeSet::from([name.clone()]);
        compare(&catalog, &catalog, &wanted, &[(name.clone(), recorded)].into(), [(name, found)].into())
    }

    fn figures(records: u64, rejected: u64) -> Figures {
        Figures { records, rejected }
    }

    #[test]
    fn what_reads_the_same_is_the_same() {
        let fields = schema(&[("id", DataType::Int64)]);
        let recorded =
            Recorded { figures: figures(7, 1), declared: Some(fields.clone()), stored: Some(fields.clone()) };
        let found = Found { figures: figures(7, 1), declared: fields.clone(), grown: fields, ..Found::default() };
        let canary = one(recorded, found);
        assert_eq!(canary.verdict, Verdict::Same);
        assert_eq!(canary.sentences, ["the same as was recorded: 1 streams, 7 records"]);
    }

    #[test]
    fn fields_and_records_that_differ_are_told() {
        let before = schema(&[("id", DataType::Int64), ("note", DataType::Text), ("at", DataType::Date)]);
        let after = schema(&[("id", DataType::Text), ("memo", DataType::Text), ("at", DataType::Date)]);
        let grown = schema(&[("id", DataType::Int64), ("id__text", DataType::Text), ("memo", DataType::Text)]);
        let stored = schema(&[("id", DataType::Int64)]);
        let recorded = Recorded { figures: figures(7, 0), declared: Some(before), stored: Some(stored) };
        let found = Found { figures: figures(6, 2), declared: after, grown, ..Found::default() };
        let canary = one(recorded, found);
        assert_eq!(canary.verdict, Verdict::Differs);
        let told = [
            "stream a: field `note` is gone",
            "stream a: field `memo` is new",
            "stream a: field `id__text` is new",
            "stream a: field `id` is text, it was integer",
            "stream a: 6 records, 7 were recorded; the source may have changed since",
            "stream a: 2 records were rejected, 0 in the recorded sync",
        ];
        assert_eq!(canary.sentences, told);
    }

    #[test]
    fn a_field_that_nobody_declares_is_missed_when_no_record_holds_it() {
        let stored = schema(&[("id", DataType::Int64), ("note", DataType::Text), ("id__text", DataType::Text)]);
        let recorded =
            Recorded { figures: figures(7, 0), declared: Some(StreamSchema::default()), stored: Some(stored.clone()) };
        let empty = BTreeSet::from(["note".to_owned(), "id__text".to_owned()]);
        let found = Found { figures: figures(7, 0), grown: stored, empty, ..Found::default() };
        assert_eq!(one(recorded.clone(), found.clone()).streams["a"].fields.unseen, ["note"]);
        let nothing_read = Found { figures: figures(0, 0), ..found };
        assert!(one(recorded, nothing_read).streams["a"].fields.unseen.is_empty());
    }

    #[test]
    fn what_was_cut_is_not_counted_and_what_failed_fails() {
        let recorded = Recorded { figures: figures(7, 0), ..Recorded::default() };
        let cut = Found { figures: figures(5, 0), cut_by: Some("5 records".into()), ..Found::default() };
        let canary = one(recorded.clone(), cut);
        assert_eq!(canary.verdict, Verdict::Same);
        assert_eq!(canary.sentences[0], "stream a was read up to 5 records; its records are not compared");
        let broken = Found { failure: Some("no route".into()), ..Found::default() };
        let canary = one(recorded, broken);
        assert_eq!((canary.verdict, canary.sentences.len()), (Verdict::Failed, 1));
        assert_eq!(failed("discover", "no route").sentences, ["discover: no route"]);
    }

    #[test]
    fn streams_count_where_the_connection_reads_them() {
        let (before, after) = (catalog(&["a", "b"]), catalog(&["a", "c"]));
        let of = |wanted: &[&str]| {
            let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
            compare(&before, &after, &wanted, &BTreeMap::new(), BTreeMap::new())
        };
        assert_eq!(of(&["a"]).verdict, Verdict::Same);
        assert_eq!(of(&["a", "b"]).sentences, ["stream b is gone", "stream c is new; the connection does not read it"]);
        assert_eq!(of(&["a", "c"]).verdict, Verdict::Differs);
        assert_eq!((of(&[]).streams_gone, of(&[]).streams_new), (vec!["b".to_owned()], vec!["c".to_owned()]));
    }

    #[test]
    fn names_and_sentences_are_bounded() {
        let many: Vec<String> = (0..=MAX_CANARY_SENTENCES.max(MAX_CANARY_NAMES)).map(|at| format!("f{at}")).collect();
        let fields: Vec<_> = many.iter().map(|name| (name.as_str(), DataType::Text)).collect();
        let recorded = Recorded { declared: Some(StreamSchema::default()), ..Recorded::default() };
        let canary = one(recorded, Found { declared: schema(&fields), ..Found::default() });
        assert_eq!(canary.streams["a"].fields.new.len(), MAX_CANARY_NAMES);
        assert_eq!(canary.sentences.len(), MAX_CANARY_SENTENCES + 1);
        assert_eq!(canary.sentences.last().map(String::as_str), Some("and 1 more"));
    }
}
