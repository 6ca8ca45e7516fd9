//! Text to values: YAML as Python's loader for YAML 1.1 reads it, and JSON.
//!
//! Owns anchors, merge keys and the limits of a text. Must never follow a `$ref`: that is [`super::refs`].

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::scalar;
use crate::{
    error::{RestError, Result},
    limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_DEPTH, MAX_MANIFEST_NODES},
    value::{Map, Value},
};

/// Reads one document. Text that is JSON is read as JSON.
pub fn parse(text: &[u8]) -> Result<Value> {
    if text.len() > MAX_MANIFEST_BYTES {
        let limit = MAX_MANIFEST_BYTES / 1024 / 1024;
        return Err(RestError::config(format!("the manifest is larger than {limit} MiB; split it or shorten it")));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        RestError::config(format!("the manifest is no UTF-8 text: byte {} cannot be read", error.valid_up_to()))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{')
        && let Ok(value) = Value::from_json(text.as_bytes())
    {
        return Ok(value);
    }
    Loader::new(text).document()
}

/// A node that is being read.
enum Open {
    List { items: Vec<Value>, anchor: usize, nodes: usize },
    Map(OpenMap),
}

struct OpenMap {
    own: Vec<(String, Value)>,
    merged: Vec<Value>,
    /// The key whose value comes next.
    key: Option<Key>,
    anchor: usize,
    nodes: usize,
}

enum Key {
    Name(String),
    Merge,
}

/// A node that was read: how many nodes it stands for, aliases written out.
type Read = (Value, usize);

struct Loader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Read>,
    nodes: usize,
}

fn wrong(at: &Span, message: &str) -> RestError {
    RestError::config(format!("the manifest is no valid YAML: {message} (line {})", at.start.line()))
}

fn no_yaml(error: &ScanError) -> RestError {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    RestError::config(format!("the manifest is no valid YAML: {} (line {line}, column {column})", error.info()))
}

impl<'a> Loader<'a> {
    fn new(text: &'a str) -> Self {
        let mut options = granit_parser::options! {
            bom_inside_document_as_content: true,
            block_scalar_eof_without_line_feed: true,
        };
        options.set_emit_comments(false);
        let parser = Parser::new_from_str_with_options(text, options);
        Self { parser, open: Vec::new(), anchors: HashMap::new(), nodes: 0 }
    }

    fn document(mut self) -> Result<Value> {
        let mut root = None;
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|error| no_yaml(&error))?;
            if matches!(event, Event::DocumentStart(..)) && root.is_some() {
                return Err(wrong(&span, "a second document begins; a manifest is one"));
            }
            if let Some(read) = self.event(event, &span)? {
                root = Some(read.0);
            }
        }
        root.ok_or_else(|| RestError::config("the manifest is empty"))
    }

    /// Takes one event in; gives the root when it is complete.
    fn event(&mut self, event: Event<'a>, span: &Span) -> Result<Option<Read>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1)?;
                if self.is_merge(&text, style, tag.as_deref()) {
                    return self.put_merge().map(|()| None);
                }
                let value = scalar_value(text, style, tag.as_deref(), span)?;
                self.put((value, 1), anchor, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                plain_tag(tag.as_deref(), "seq", span)?;
                self.push(Open::List { items: Vec::new(), anchor, nodes: 1 })
            }
            Event::MappingStart(_, anchor, tag) => {
                plain_tag(tag.as_deref(), "map", span)?;
                self.push(Open::Map(OpenMap { own: Vec::new(), merged: Vec::new(), key: None, anchor, nodes: 1 }))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (read, anchor) = self.close(span)?;
                self.put(read, anchor, span)
            }
            Event::Alias(id) => {
                let message = "an alias stands inside the node that it names";
                let read = self.anchors.get(&id).cloned().ok_or_else(|| wrong(span, message))?;
                self.count(read.1)?;
                self.put(read, 0, span)
            }
            _ => Ok(None),
        }
    }

    fn push(&mut self, open: Open) -> Result<Option<Read>> {
        self.count(1)?;
        if self.open.len() >= MAX_MANIFEST_DEPTH {
            return Err(too_deep());
        }
        self.open.push(open);
        Ok(None)
    }

    fn count(&mut self, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_MANIFEST_NODES {
            let message = format!("the manifest has more than {MAX_MANIFEST_NODES} values, its aliases written out");
            return Err(RestError::config(message));
        }
        Ok(())
    }

    fn is_merge(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
        let here = matches!(self.open.last(), Some(Open::Map(map)) if map.key.is_none());
        here && match tag {
            None => style == ScalarStyle::Plain && text == "<<",
            Some(tag) => tag.is_yaml_core_schema_tag("merge"),
        }
    }

    fn put_merge(&mut self) -> Result<()> {
        if let Some(Open::Map(map)) = self.open.last_mut() {
            map.key = Some(Key::Merge);
        }
        Ok(())
    }

    /// Puts a whole node where it belongs.
    fn put(&mut self, read: Read, anchor: usize, span: &Span) -> Result<Option<Read>> {
        if anchor != 0 {
            self.anchors.insert(anchor, read.clone());
        }
        let (value, count) = read;
        match self.open.last_mut() {
            None => return Ok(Some((value, count))),
            Some(Open::List { items, nodes, .. }) => {
                items.push(value);
                *nodes = nodes.saturating_add(count);
            }
            Some(Open::Map(map)) => {
                map.nodes = map.nodes.saturating_add(count);
                match map.key.take() {
                    None => map.key = Some(Key::Name(key_text(&value, span)?)),
                    Some(Key::Name(name)) => map.own.push((name, value)),
                    Some(Key::Merge) => map.merged.push(value),
                }
            }
        }
        Ok(None)
    }

    fn close(&mut self, span: &Span) -> Result<(Read, usize)> {
        match self.open.pop() {
            Some(Open::List { items, anchor, nodes }) => Ok(((Value::list(items), nodes), anchor)),
            Some(Open::Map(map)) => Ok(((merged(map.merged, map.own, span)?, map.nodes), map.anchor)),
            None => Err(wrong(span, "a collection ends that did not begin")),
        }
    }
}

pub fn too_deep() -> RestError {
    RestError::config(format!("the manifest is nested deeper than {MAX_MANIFEST_DEPTH} levels"))
}

/// Own members win over merged ones, earlier items of a merged list over later ones, later entries over earlier ones.
fn merged(sources: Vec<Value>, own: Vec<(String, Value)>, span: &Span) -> Result<Value> {
    let mut map = Map::new();
    for source in &sources {
        let items = match source {
            Value::List(items) => items.iter().rev().collect(),
            other => vec![other],
        };
        for item in items {
            let members = item.as_map().ok_or_else(|| wrong(span, "`<<` takes mappings only"))?;
            map.extend(members.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    map.extend(own);
    Ok(Value::map(map))
}

/// Keys become text as Python's JSON writer makes them.
fn key_text(value: &Value, span: &Span) -> Result<String> {
    Ok(match value {
        Value::Str(text) => text.to_string(),
        Value::Null => "null".into(),
        Value::List(_) | Value::Map(_) => return Err(wrong(span, "a key is neither text nor number")),
        other => other.to_json(),
    })
}

fn plain_tag(tag: Option<&Tag>, allowed: &str, span: &Span) -> Result<()> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(allowed) && tag.original() != "!" => Err(unknown_tag(tag, span)),
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, span: &Span) -> RestError {
    wrong(span, &format!("the tag {} is not known here", tag.original()))
}

fn scalar_value(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Value> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { scalar::resolve(&text) } else { Value::str(text) });
    };
    let value = scalar::resolve(&text);
    let fits = match tag.core_suffix() {
        Some("str") => return Ok(Value::str(text)),
        Some("int") => matches!(value, Value::Int(_) | Value::Big(_)),
        Some("float") => return float(&value).ok_or_else(|| wrong(span, "what is tagged as a number is none")),
        Some("bool") => matches!(value, Value::Bool(_)),
        Some("null") => return Ok(Value::Null),
        Some("timestamp") => true,
        _ if tag.original() == "!" => return Ok(Value::str(text)),
        _ => return Err(unknown_tag(tag, span)),
    };
    if fits { Ok(value) } else { Err(wrong(span, &format!("`{text}` is not what its tag says"))) }
}

fn float(value: &Value) -> Option<Value> {
    match value {
        Value::Float(_) => Some(value.clone()),
        #[expect(clippy::cast_precision_loss, reason = "as Python's float() of an int")]
        Value::Int(int) => Some(Value::Float(*int as f64)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn merge_keys_aliases_and_repeated_keys_read_as_in_python() {
        for (yaml, json) in [
            ("a: &x {p: 1, q: 2}\nb: {q: 3, <<: *x}\n", r#"{"a":{"p":1,"q":2},"b":{"p":1,"q":3}}"#),
            (
                "a: &x {p: 1}\nb: &y {p: 2, r: 5}\nc: {<<: [*x, *y]}\n",
                r#"{"a":{"p":1},"b":{"p":2,"r":5},"c":{"p":1,"r":5}}"#,
            ),
            ("a: 1\nb: 2\na: 3\n", r#"{"a":3,"b":2}"#),
            ("200: x\nyes: y\n~: z\n1.5: w\n", r#"{"200":"x","true":"y","null":"z","1.5":"w"}"#),
            (
                "a: \"yes\"\nb: 'null'\nc: !!str 5\nd: ! 7\n'<<': {}\n",
                r#"{"a":"yes","b":"null","c":"5","d":"7","<<":{}}"#,
            ),
            ("a: |\n  x\n  y", r#"{"a":"x\ny"}"#),
            ("a: >-\n  x\n  y\n\n  z\n", r#"{"a":"x y\nz"}"#),
            ("a:\nb: {}\nc: []\n", r#"{"a":null,"b":{},"c":[]}"#),
            ("\u{feff}a: !!float 3\n", r#"{"a":3.0}"#),
        ] {
            assert_eq!(parse(yaml.as_bytes()).unwrap().to_json(), json, "{yaml}");
        }
    }

    #[test]
    fn json_keeps_its_own_numbers() {
        assert_eq!(parse(br#" {"a": 1e2, "b": "\u00e4"}"#).unwrap().to_json(), r#"{"a":100.0,"b":"ä"}"#);
    }

    #[test]
    fn bad_text_is_told_in_one_sentence_with_its_line() {
        assert_eq!(told(""), "the manifest is empty");
        assert!(told("a: [1").starts_with("the manifest is no valid YAML: "), "{}", told("a: [1"));
        assert_eq!(
            told("a: 1\nb: !ruby/object x\n"),
            "the manifest is no valid YAML: the tag !ruby/object is not known here (line 2)"
        );
        assert_eq!(
            told("a: 1\n---\nb: 2\n"),
            "the manifest is no valid YAML: a second document begins; a manifest is one (line 2)"
        );
        assert!(told("a: *nothing").starts_with("the manifest is no valid YAML: "));
        assert_eq!(
            told("a: &x [*x]"),
            "the manifest is no valid YAML: an alias stands inside the node that it names (line 1)"
        );
        assert_eq!(told("{[1]: 2}"), "the manifest is no valid YAML: a key is neither text nor number (line 1)");
        let broken = parse(b"a: \xff").unwrap_err().to_string();
        assert_eq!(broken, "the manifest is no UTF-8 text: byte 3 cannot be read");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x]\n");
        for step in 1..30 {
            let before = step - 1;
            text.push_str(&format!("a{step}: &a{step} [*a{before}, *a{before}]\n"));
        }
        assert_eq!(told(&text), "the manifest has more than 1000000 values, its aliases written out");
    }

    #[test]
    fn a_text_that_is_too_large_or_too_deep_is_refused() {
        let large = vec![b'#'; MAX_MANIFEST_BYTES + 1];
        assert_eq!(parse(&large).unwrap_err().to_string(), "the manifest is larger than 4 MiB; split it or shorten it");
        let deep = "[".repeat(MAX_MANIFEST_DEPTH + 1) + &"]".repeat(MAX_MANIFEST_DEPTH + 1);
        assert_eq!(told(&deep), "the manifest is nested deeper than 128 levels");
    }
}
