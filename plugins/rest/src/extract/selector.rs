//! `RecordSelector`: from an answer to the records of a stream.
//!
//! Owns the order: extract, filter, transform (or the other way round), normalize. Must never emit what is no object.

use super::{
    Page, Record,
    decode::{Decoder, Values},
    extractor::{Extracted, Extractor},
    json, normalize,
    page::Body,
    split,
    transform::{self, Transformation},
};
use crate::{
    error::{RestError, Result},
    interpolation::Template,
    node::Node,
    partition::Slice,
    stream::Env,
    value::{Map, Value},
    wire::Answer,
};

#[derive(Debug, Clone)]
pub struct Selector {
    decoder: Decoder,
    extractor: Extractor,
    filter: Option<Template>,
    transformations: Vec<Transformation>,
    transform_first: bool,
    normalize: bool,
    env: Env,
    at: String,
}

/// What an answer is seen with.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    pub slice: Option<&'a Slice>,
    pub next_page_token: Option<&'a Value>,
    /// The stream's JSON Schema, for normalization.
    pub schema: Option<&'a Value>,
    /// Of a cursor that filters by itself: whether it keeps a record. It is asked before the filter of the manifest.
    pub keeps: Option<&'a dyn Fn(&Record) -> Result<bool>>,
}

/// What a selector is built from besides its own node.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// Of the retriever; JSON where it names none.
    pub decoder: Option<Node<'a>>,
    /// Of the stream.
    pub transformations: Vec<Node<'a>>,
    /// Whether transformations come before filters where the manifest does not say: so it is where a cursor filters.
    pub transform_first: bool,
}

impl Selector {
    /// # Errors
    /// Kind config: a component that is not known or incomplete.
    pub fn build(node: &Node<'_>, around: &Around<'_>, env: &Env) -> Result<Self> {
        let filter = node.get("record_filter");
        let transformations = around.transformations.iter().map(|node| Transformation::build(node, env));
        Ok(Self {
            decoder: around.decoder.as_ref().map_or(Ok(Decoder::Json), Decoder::build)?,
            extractor: Extractor::build(&node.need("extractor")?, env)?,
            filter: filter.map(|filter| filter_of(&filter)).transpose()?,
            transformations: transformations.collect::<Result<_>>()?,
            transform_first: node.flag("transform_before_filtering", around.transform_first)?,
            normalize: normalizes(node)?,
            env: env.clone(),
            at: node.path.clone(),
        })
    }

    /// Whether records go through as they stand in the page.
    pub fn is_raw(&self) -> bool {
        self.filter.is_none() && self.transformations.is_empty() && !self.normalize
    }

    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// All records of an answer.
    ///
    /// # Errors
    /// Kind system: the answer is not what the decoder reads, or a record is no object. Kind config: a template or path
    /// fails.
    pub fn select(&self, answer: &Answer, with: &Context<'_>) -> Result<Page> {
        let (found, body) = match self.cut(answer) {
            Some(cut) => cut,
            None => self.decoded(answer)?,
        };
        let extracted = found.records.len() + found.dropped;
        let records = self.refine(found.records, with)?;
        Ok(Page { records, extracted, body })
    }

    /// The records of an answer before they are filtered and transformed, one after the other, for answers that do not
    /// fit in memory. [`Selector::refine`] does the rest.
    ///
    /// # Errors
    /// As [`Selector::select`].
    pub fn open(&self, answer: &Answer) -> Result<Extraction> {
        let values = self.extractor.open(&self.decoder, answer, &self.env)?;
        Ok(Extraction { values, extractor: self.extractor.clone(), ready: Vec::new().into_iter() })
    }

    /// Filters, transforms and normalizes records.
    ///
    /// # Errors
    /// As [`Selector::select`].
    pub fn refine(&self, records: Vec<Record>, with: &Context<'_>) -> Result<Vec<Record>> {
        let records = match self.transform_first {
            true => self.filter(self.transform(records, with)?, with)?,
            false => self.transform(self.filter(records, with)?, with)?,
        };
        let schema = with.schema.filter(|schema| self.normalize && schema.truthy());
        let finish = |mut record: Record| {
            self.check(&record)?;
            if let Some(schema) = schema {
                normalize::normalize(record.value_mut(), schema);
            }
            Ok(record)
        };
        records.into_iter().map(finish).collect()
    }

    /// Cuts a page of JSON without parsing it, where the path allows that and the page is JSON.
    fn cut(&self, answer: &Answer) -> Option<(Extracted, Body)> {
        let path = self.extractor.raw_path().filter(|_| self.decoder == Decoder::Json)?;
        let text = answer.body.slice_ref(json::unmarked(&answer.body));
        std::str::from_utf8(&text).ok()?;
        let split = split::document(&text, path).ok().filter(|split| !split.unclear)?;
        let records = split.records.iter().map(|(start, end)| Record::Raw(text.slice(*start..*end))).collect();
        Some((Extracted { records, dropped: 0 }, Body::Json { text, split }))
    }

    /// The way of all other answers.
    fn decoded(&self, answer: &Answer) -> Result<(Extracted, Body)> {
        let values = self.extractor.open(&self.decoder, answer, &self.env)?.collect::<Result<Vec<_>>>();
        let values = values.map_err(|error| error.at(&self.at))?;
        let mut found = Extracted::default();
        self.extractor.combine(&values, &mut found)?;
        let body = match values.first() {
            Some(first) if !self.decoder.streams() => Body::Parsed(first.value()),
            _ => Body::Parsed(Value::map(Map::new())),
        };
        Ok((found, body))
    }

    fn filter(&self, records: Vec<Record>, with: &Context<'_>) -> Result<Vec<Record>> {
        if self.filter.is_none() && with.keeps.is_none() {
            return Ok(records);
        }
        let mut scope = transform::scope(&self.env, with.slice);
        scope.set("next_page_token", with.next_page_token.cloned().unwrap_or_default());
        let mut kept = Vec::with_capacity(records.len());
        for record in records {
            if let Some(keeps) = with.keeps
                && !keeps(&record)?
            {
                continue;
            }
            if let Some(filter) = &self.filter {
                scope.set("record", record.value());
                if !filter.boolean(&scope)? {
                    continue;
                }
            }
            kept.push(record);
        }
        Ok(kept)
    }

    fn transform(&self, mut records: Vec<Record>, with: &Context<'_>) -> Result<Vec<Record>> {
        if self.transformations.is_empty() {
            return Ok(records);
        }
        let mut scope = transform::scope(&self.env, with.slice);
        for record in &mut records {
            self.check(record)?;
            let value = record.value_mut();
            for transformation in &self.transformations {
                transformation.apply(value, &mut scope)?;
            }
        }
        Ok(records)
    }

    /// A record has to be an object.
    fn check(&self, record: &Record) -> Result<()> {
        if record.is_object() {
            return Ok(());
        }
        let text = record.json();
        let (stream, start) = (&self.env.stream, super::decode::start(&text));
        let message = format!(
            "a record of stream `{stream}` is no object: {start}; check `field_path` of its extractor, or add a filter"
        );
        Err(RestError::system(message).at(&self.at))
    }
}

/// The records of an answer, decoded as they are asked for.
pub struct Extraction {
    values: Values,
    extractor: Extractor,
    ready: std::vec::IntoIter<Record>,
}

impl Iterator for Extraction {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            let mut found = Extracted::default();
            match self.values.next()?.and_then(|value| self.extractor.extract(&value, &mut found)) {
                Ok(()) => self.ready = found.records.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// `condition` of a `RecordFilter`. Without one every record is dropped, as by the reference.
fn filter_of(node: &Node<'_>) -> Result<Template> {
    if node.kind() != "RecordFilter" {
        return Err(node.unknown());
    }
    let none = Value::str("");
    let value = node.value.get("condition").filter(|value| !value.is_null()).unwrap_or(&none);
    Template::new(&Node { value, path: format!("{}.condition", node.path) }, node)
}

fn normalizes(node: &Node<'_>) -> Result<bool> {
    let Some(node) = node.get("schema_normalization") else { return Ok(false) };
    match node.value.as_str() {
        Some("Default") => Ok(true),
        Some("None") => Ok(false),
        _ => Err(node.wrong("this has to be Default or None")),
    }
}
