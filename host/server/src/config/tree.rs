//! A configuration document as a tree that remembers the line of every key and value.
//!
//! Owns the reading of YAML and TOML text into one shape, and the expansion of `${VAR}` in it. Must
//! never know a setting by name.

use std::{fmt, ops::Range};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// A value and the line (from 1) it stands in.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Line of its first character; 0 where it is not known.
    pub line: u64,
    /// Whether a `${VAR}` was replaced in it, so that it may hold a secret and may stand for a number.
    pub expanded: bool,
}

/// The shapes that YAML and TOML share.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// YAML's `null`, `~` or nothing.
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, PartialEq)]
pub struct Key {
    pub name: String,
    pub line: u64,
}

/// Reads YAML text. Anchors and aliases work; the parser's own budget bounds what they may expand to.
pub fn parse_yaml(text: &str) -> Result<Node, Problem> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { value: Value::Map(Vec::new()), line: 1, expanded: false });
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(node).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let rendered = error.to_string();
        // The location is stated once, by us and in the same form for both languages.
        let message = rendered.split(" at line ").next().unwrap_or_default().lines().next().unwrap_or_default();
        // Advice for programmers follows.
        let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
        Problem::at(line, format!("it is not valid YAML: {message}"))
    })
}

/// Reads TOML text.
pub fn parse_toml(text: &str) -> Result<Node, Problem> {
    let line = |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count() as u64;
    let document = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        Problem::at(error.span().map_or(0, line), format!("it is not valid TOML: {message}"))
    })?;
    Ok(Node { line: 1, value: toml_table(document.into_inner(), &line)?, expanded: false })
}

fn toml_table(table: DeTable<'_>, line: &dyn Fn(Range<usize>) -> u64) -> Result<Value, Problem> {
    let entries = table.into_iter().map(|(key, value)| {
        let key = Key { line: line(key.span()), name: key.into_inner().into_owned() };
        Ok((key, toml_value(value, line)?))
    });
    Ok(Value::Map(entries.collect::<Result<_, Problem>>()?))
}

fn toml_value(value: toml::Spanned<DeValue<'_>>, line: &dyn Fn(Range<usize>) -> u64) -> Result<Node, Problem> {
    let at = line(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::Number(parsed.map_err(|_| Problem::at(at, "the integer does not fit into 64 bits"))?.into())
        }
        DeValue::Float(float) => {
            let parsed = float.as_str().parse::<f64>().ok().and_then(Number::from_f64);
            Value::Number(parsed.ok_or_else(|| Problem::at(at, "the number is not finite"))?)
        }
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| toml_value(item, line)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml_table(table, line)?,
    };
    Ok(Node { value, line: at, expanded: false })
}

impl Node {
    /// The line of the key at the end of `path`, as far as the path exists.
    pub fn line_of(&self, path: &[&str]) -> u64 {
        let mut line = self.line;
        let mut node = self;
        for part in path {
            let Value::Map(entries) = &node.value else { break };
            let Some((key, value)) = entries.iter().find(|(key, _)| key.name == *part) else { break };
            line = key.line;
            node = value;
        }
        line
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { line: spanned.referenced.line(), value: spanned.value, expanded: false }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Value>>()? {
            map.push((Key { line: key.referenced.line(), name: key.value }, node(value)));
        }
        Ok(Value::Map(map))
    }
}

/// Replaces `${VAR}` and `${VAR:-default}` in every text scalar; `$$` becomes one `$`.
///
/// `lookup` gives a variable's value. Keys stay as they are.
pub fn expand(node: &mut Node, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), Problem> {
    expand_at(node, &mut Vec::new(), lookup)
}

fn expand_at(node: &mut Node, path: &mut Vec<String>, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), Problem> {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => {
            let (replaced, expanded) = expand_text(text, lookup).map_err(|message| Problem {
                path: path.iter().rev().cloned().collect(),
                ..Problem::at(node.line, message)
            })?;
            *text = replaced;
            node.expanded = expanded;
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                expand_at(item, path, lookup)?;
                path.pop();
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                path.push(key.name.clone());
                expand_at(value, path, lookup)?;
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
    Ok(())
}

/// The text after expansion, and whether a variable was replaced.
fn expand_text(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut expanded = false;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = tail.strip_prefix('{') {
            let end = after.find('}').ok_or("a `${` is not closed by `}` (write `$$` for a plain dollar sign)")?;
            out.push_str(&variable(&after[..end], lookup)?);
            expanded = true;
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    Ok((out, expanded))
}

fn variable(expression: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(format!("`${{{name}}}` is not a variable name: use letters, digits and `_`"));
    }
    match (lookup(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set: set it, or write `${{{name}:-default}}` to give a default"
        )),
    }
}
