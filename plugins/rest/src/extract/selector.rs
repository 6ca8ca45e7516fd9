//! `RecordSelector`: from an answer to the records of a stream.
//!
//! Owns the order: extract, filter, transform (or the other way round), normalize. Must never emit what is no object.

use super::{
    Page, Record,
    decode::{Decoder, Values},
    extractor::{Extracted, Extractor},
    json, normalize,
    page::Body,
    scan, split,
    transform::{self, Appendix, Transformation},
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

/// A filter that is not the manifest's.
pub type Keeps<'a> = &'a dyn Fn(&Record) -> Result<bool>;

/// What an answer is seen with.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    pub slice: Option<&'a Slice>,
    pub next_page_token: Option<&'a Value>,
    /// The stream's JSON Schema, for normalization.
    pub schema: Option<&'a Value>,
    /// Of a cursor that filters by itself: whether it keeps a record. It is asked before the filter of the manifest.
    pub keeps: Option<Keeps<'a>>,
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

    /// Whether records are made to fit the stream's schema.
    pub fn normalizes(&self) -> bool {
        self.normalize
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
        let root = text.get(scan::blank(&text, 0));
        if !matches!(root, Some(b'{' | b'[')) || std::str::from_utf8(&text).is_err() {
            return None;
        }
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
        let appendix = match records.first() {
            Some(Record::Raw(_)) => Appendix::of(&self.transformations, &scope)?,
            _ => None,
        };
        for record in &mut records {
            self.check(record)?;
            if let (Record::Raw(text), Some(appendix)) = (&*record, &appendix)
                && let Some(longer) = appendix.behind(text)
            {
                *record = Record::Raw(longer);
                continue;
            }
            let value = record.value_mut();
            if value.as_map().is_none() {
                let stream = &self.env.stream;
                let message = format!("a record of stream `{stream}` is not valid JSON and cannot be transformed");
                return Err(RestError::system(message).at(&self.at));
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::stage::{answer, env, json};

    fn selector(text: &str) -> Result<Selector> {
        let node = json(text);
        let root = Node::root(&node);
        let around = Around {
            decoder: root.get("decoder"),
            transformations: root.items("transformations"),
            transform_first: false,
        };
        Selector::build(&root.need("selector")?, &around, &env())
    }

    fn select(text: &str, body: &'static str) -> Result<Page> {
        let slice = Slice { partition: Map::from_iter([("id".into(), Value::Int(7))]), ..Slice::default() };
        let token = json(r#"{"next_page_token":2}"#);
        let schema = json(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#);
        let with = Context { slice: Some(&slice), next_page_token: Some(&token), schema: Some(&schema), keeps: None };
        selector(text)?.select(&answer(body), &with)
    }

    fn shown(page: &Page) -> String {
        Value::list(page.records.iter().map(Record::value).collect()).to_json()
    }

    const DATA: &str = r#"{"type":"RecordSelector","extractor":{"type":"DpathExtractor","field_path":["data"]}"#;

    #[test]
    fn records_share_the_page_where_nobody_looks_inside() {
        let page = select(&format!(r#"{{"selector":{DATA}}}}}"#), r#"{"data":[{"a": 1},{"a":tru}]}"#).unwrap();
        assert!(page.records.iter().all(|record| matches!(record, Record::Raw(_))));
        assert_eq!(&page.records[0].json()[..], br#"{"a": 1}"#);
        assert_eq!(page.extracted, 2);
    }

    #[test]
    fn a_record_that_is_no_object_is_an_error() {
        let error = select(&format!(r#"{{"selector":{DATA}}}}}"#), r#"{"data":[{"a":1},null]}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "selector: a record of stream `items` is no object: `null`; check `field_path` of its extractor, or add a filter"
        );
    }

    #[test]
    fn filters_come_before_transformations_unless_the_manifest_says_otherwise() {
        let manifest = |first: &str| {
            format!(
                r#"{{"selector":{DATA},"record_filter":{{"type":"RecordFilter","condition":"{{{{ record.a == 1 and next_page_token.next_page_token == 2 }}}}"}}{first}}},
                "transformations":[{{"type":"AddFields","fields":[{{"path":["a"],"value":"{{{{ record.a + 1 }}}}"}}]}}]}}"#
            )
        };
        let body = r#"{"data":[{"a":0},{"a":1},{"a":2}]}"#;
        let page = select(&manifest(""), body).unwrap();
        assert_eq!((shown(&page).as_str(), page.extracted), (r#"[{"a":2}]"#, 3));
        assert_eq!(shown(&select(&manifest(r#","transform_before_filtering":true"#), body).unwrap()), r#"[{"a":1}]"#);
    }

    #[test]
    fn a_cursor_is_asked_before_the_filter() {
        let keeps = |record: &Record| Ok(record.member("a") != Some(Value::Int(1)));
        let with = Context { keeps: Some(&keeps), ..Context::default() };
        let page = selector(&format!(r#"{{"selector":{DATA}}}}}"#)).unwrap();
        let page = page.select(&answer(r#"{"data":[{"a":1},{"a":2}]}"#), &with).unwrap();
        assert_eq!(&page.records[0].json()[..], br#"{"a":2}"#);
    }

    #[test]
    fn fields_that_are_the_same_for_all_are_written_behind_raw_records() {
        let added = |value: &str, body: &'static str| {
            let text = format!(
                r#"{{"selector":{DATA}}},"transformations":[{{"type":"AddFields","fields":[
                {{"path":["id"],"value":"{value}"}},{{"path":["n"],"value":"x"}}]}}]}}"#
            );
            let page = select(&text, body).unwrap();
            let raw = page.records.iter().map(|record| matches!(record, Record::Raw(_))).collect::<Vec<_>>();
            (shown(&page), raw)
        };
        let body = r#"{"data":[{"a":1 },{},{"id":9,"b":2},{"i\u0064":9}]}"#;
        let expected = r#"[{"a":1,"id":7,"n":"x"},{"id":7,"n":"x"},{"id":7,"b":2,"n":"x"},{"id":7,"n":"x"}]"#;
        assert_eq!(added("{{ stream_partition.id }}", body), (expected.into(), vec![true, true, false, false]));
        assert_eq!(added("{{ 7 if record else 8 }}", r#"{"data":[{"a":1}]}"#).1, [false]);
    }

    #[test]
    fn a_record_that_cannot_be_parsed_cannot_be_transformed() {
        let text = format!(r#"{{"selector":{DATA}}},"transformations":[{{"type":"KeysToLower"}}]}}"#);
        let error = select(&text, r#"{"data":[{"a":tru}]}"#).unwrap_err();
        assert!(error.message.contains("is not valid JSON"), "{error}");
    }

    #[test]
    fn normalization_is_the_last_step() {
        let text = format!(r#"{{"selector":{DATA},"schema_normalization":"Default"}}}}"#);
        assert_eq!(shown(&select(&text, r#"{"data":[{"a":"x"},{"b":1}]}"#).unwrap()), r#"[{"a":"x"},{"b":1}]"#);
        let error = selector(&format!(r#"{{"selector":{DATA},"schema_normalization":"Some"}}}}"#)).unwrap_err();
        assert_eq!(error.at, "selector.schema_normalization");
    }

    #[test]
    fn extractors_are_combined() {
        let combined = |rest: &str| {
            format!(
                r#"{{"selector":{{"extractor":{{"type":"CombinedExtractor",{rest}"extractors":[
                {{"type":"DpathExtractor","field_path":["a","*"]}},{{"type":"DpathExtractor","field_path":["b"]}}]}}}}}}"#
            )
        };
        let body = r#"{"a":[{"n":1},{}],"b":[{"n":2}]}"#;
        assert_eq!(shown(&select(&combined(""), body).unwrap()), r#"[{"n":1},{},{"n":2}]"#);
        let page = select(&combined(r#""mode":"first_match","skip_empty_records":true,"#), body).unwrap();
        assert_eq!((shown(&page).as_str(), page.extracted), (r#"[{"n":1}]"#, 2));
        let nested = (0..=crate::limits::MAX_EXTRACTORS_NESTED)
            .fold(r#"{"type":"DpathExtractor","field_path":[]}"#.to_owned(), |inner, _| {
                format!(r#"{{"type":"CombinedExtractor","extractors":[{inner}]}}"#)
            });
        assert!(selector(&format!(r#"{{"selector":{{"extractor":{nested}}}}}"#)).is_err());
    }

    #[test]
    fn records_inside_of_records_are_expanded() {
        let text = r#"{"selector":{"extractor":{"type":"DpathExtractor","field_path":[],"record_expander":{
            "type":"RecordExpander","expand_records_from_field":["lines","*","items"],"merge_parent":true,
            "parent_fields":[{"parent_path":["id"],"record_path":["parent","id"]}],"on_no_records":"emit_parent"}}}}"#;
        let body = r#"[{"id":1,"lines":[{"items":[{"n":1},5]},{"items":[]}]},{"id":2}]"#;
        assert_eq!(
            shown(&select(text, body).unwrap()),
            concat!(
                r#"[{"id":1,"lines":[{},{}],"n":1,"parent":{"id":1}},"#,
                r#"{"id":1,"lines":[{},{}],"value":5,"parent":{"id":1}},{"id":2}]"#
            )
        );
    }

    #[test]
    fn files_of_jobs_are_read_piece_by_piece() {
        let text = r#"{"selector":{"extractor":{"type":"ResponseToFileExtractor"}}}"#;
        let body = "id,id,\n1,NA,x\n2\n";
        let records = selector(text).unwrap().open(&answer(body)).unwrap().collect::<Result<Vec<_>>>().unwrap();
        let records = Value::list(records.iter().map(Record::value).collect());
        assert_eq!(
            records.to_json(),
            r#"[{"id":"1","id.1":null,"Unnamed: 2":"x"},{"id":"2","id.1":null,"Unnamed: 2":null}]"#
        );
    }
}
