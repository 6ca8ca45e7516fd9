//! Whether a value is what a JSON Schema says: the part of JSON Schema that manifests use for their settings.
//!
//! Must never put the value into what it says: it may be private.

use std::cell::{Cell, RefCell};

use regex::RegexBuilder;

use super::normalization::PLACEHOLDER;
use crate::{
    limits::{MAX_SCHEMA_DEPTH, MAX_SCHEMA_STEPS, MAX_SETTING_PATTERN_BYTES},
    value::Value,
};

/// What is wrong, as the end of a sentence that begins with the name of the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Inside the value, with dots.
    pub path: String,
    pub message: String,
}

pub fn check(value: &Value, schema: &Value) -> Result<(), Wrong> {
    let check = Check { root: schema, steps: Cell::new(0), unusable: RefCell::new(None) };
    let fits = check.schema(value, schema, "", 0);
    // An alternative that could not be looked at must not pass for one that does not fit.
    check.unusable.into_inner().map_or(fits, Err)
}

struct Check<'a> {
    root: &'a Value,
    /// Schemas that lead back to themselves twice would double at every step.
    steps: Cell<usize>,
    /// Why the schema itself cannot be followed to its end.
    unusable: RefCell<Option<Wrong>>,
}

fn wrong(path: &str, message: impl Into<String>) -> Result<(), Wrong> {
    Err(Wrong { path: path.to_owned(), message: message.into() })
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'a> Check<'a> {
    fn schema(&self, value: &Value, schema: &'a Value, path: &str, depth: usize) -> Result<(), Wrong> {
        if depth > MAX_SCHEMA_DEPTH {
            return self.unusable(path, format!("is checked by a schema nested deeper than {MAX_SCHEMA_DEPTH} levels"));
        }
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_SCHEMA_STEPS {
            return self
                .unusable(path, format!("is checked by a schema that takes more than {MAX_SCHEMA_STEPS} steps"));
        }
        match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return wrong(path, "must not be there"),
            _ => {}
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            match self.referenced(reference) {
                Some(target) => self.schema(value, target, path, depth + 1)?,
                None => {
                    let message = format!("is checked by `{reference}`, which its schema does not have");
                    return self.unusable(path, message);
                }
            }
        }
        self.combined(value, schema, path, depth)?;
        if matches!(value, Value::Str(text) if text.starts_with(PLACEHOLDER)) {
            return Ok(());
        }
        simple(value, schema, path)?;
        match value {
            Value::Str(text) => of_text(text, schema, path),
            Value::Int(_) | Value::Float(_) => of_number(value, schema, path),
            Value::List(items) => self.of_list(items, schema, path, depth),
            Value::Map(_) => self.of_object(value, schema, path, depth),
            _ => Ok(()),
        }
    }

    fn unusable(&self, path: &str, message: String) -> Result<(), Wrong> {
        let reason = Wrong { path: path.to_owned(), message };
        self.unusable.borrow_mut().get_or_insert(reason.clone());
        Err(reason)
    }

    fn referenced(&self, reference: &str) -> Option<&'a Value> {
        let mut node = self.root;
        for part in reference.strip_prefix('#')?.split('/').skip(1) {
            node = node.get(&part.replace("~1", "/").replace("~0", "~"))?;
        }
        Some(node)
    }

    fn combined(&self, value: &Value, schema: &'a Value, path: &str, depth: usize) -> Result<(), Wrong> {
        let all = |key: &str| schema.get(key).and_then(Value::as_list);
        let fits = |schema: &&'a Value| self.schema(value, schema, path, depth + 1).is_ok();
        for schema in all("allOf").unwrap_or_default() {
            self.schema(value, schema, path, depth + 1)?;
        }
        if let Some(any) = all("anyOf")
            && !any.iter().any(|schema| fits(&schema))
        {
            return wrong(path, "fits none of what its schema allows");
        }
        if let Some(one) = all("oneOf")
            && one.iter().filter(fits).count() != 1
        {
            return wrong(path, "has to fit exactly one of what its schema allows");
        }
        match schema.get("not") {
            Some(not) if fits(&not) => wrong(path, "is what its schema forbids"),
            _ => Ok(()),
        }
    }

    fn of_list(&self, items: &[Value], schema: &'a Value, path: &str, depth: usize) -> Result<(), Wrong> {
        bounds(items.len(), schema, ["minItems", "maxItems"], "items", path)?;
        if schema.get("uniqueItems") == Some(&Value::Bool(true))
            && items.iter().enumerate().any(|(at, item)| items[..at].contains(item))
        {
            return wrong(path, "holds the same item twice");
        }
        let first = ["prefixItems", "items"].iter().find_map(|key| schema.get(key)?.as_list()).unwrap_or_default();
        let rest =
            schema.get("items").filter(|rest| rest.as_list().is_none()).or_else(|| schema.get("additionalItems"));
        for (at, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(at).or(rest) {
                self.schema(item, schema, &below(path, &at.to_string()), depth + 1)?;
            }
        }
        Ok(())
    }

    fn of_object(&self, value: &Value, schema: &'a Value, path: &str, depth: usize) -> Result<(), Wrong> {
        let Some(map) = value.as_map() else { return Ok(()) };
        bounds(map.len(), schema, ["minProperties", "maxProperties"], "members", path)?;
        for key in schema.get("required").and_then(Value::as_list).unwrap_or_default() {
            if let Some(key) = key.as_str().filter(|key| !map.contains_key(*key)) {
                return wrong(path, format!("lacks `{key}`"));
            }
        }
        let patterns: Vec<_> = schema.get("patternProperties").and_then(Value::as_map).into_iter().flatten().collect();
        for (key, member) in map {
            let path = below(path, key);
            let mut known = false;
            if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(key)) {
                known = true;
                self.schema(member, schema, &path, depth + 1)?;
            }
            for (pattern, schema) in &patterns {
                if found(pattern, key, &path)? {
                    known = true;
                    self.schema(member, schema, &path, depth + 1)?;
                }
            }
            if let Some(others) = schema.get("additionalProperties").filter(|_| !known) {
                self.schema(member, others, &path, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// `type`, `enum` and `const`.
fn simple(value: &Value, schema: &Value, path: &str) -> Result<(), Wrong> {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::List(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        Some(kind) => kind.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_kind(value, kind)) {
        return wrong(path, format!("has to be of type {}", kinds.join(" or ")));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_list)
        && !choices.iter().any(|choice| same(choice, value))
    {
        let choices: Vec<String> = choices.iter().map(Value::to_json).collect();
        return wrong(path, format!("has to be one of {}", choices.join(", ")));
    }
    match schema.get("const") {
        Some(only) if !same(only, value) => wrong(path, format!("has to be {}", only.to_json())),
        _ => Ok(()),
    }
}

fn is_kind(value: &Value, kind: &str) -> bool {
    match (kind, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("integer" | "number", Value::Int(_) | Value::Big(_))
        | ("number", Value::Float(_))
        | ("string", Value::Str(_))
        | ("array", Value::List(_))
        | ("object", Value::Map(_)) => true,
        ("integer", Value::Float(float)) => float.fract() == 0.0,
        _ => false,
    }
}

fn same(left: &Value, right: &Value) -> bool {
    left == right || matches!((number(left), number(right)), (Some(left), Some(right)) if left == right)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "bounds of settings are small")]
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    }
}

fn found(pattern: &str, text: &str, path: &str) -> Result<bool, Wrong> {
    match RegexBuilder::new(pattern).size_limit(MAX_SETTING_PATTERN_BYTES).build() {
        Ok(pattern) => Ok(pattern.is_match(text)),
        Err(_) => {
            wrong(path, format!("is checked by the pattern `{pattern}`, which cannot be used here")).map(|()| true)
        }
    }
}

fn of_text(text: &str, schema: &Value, path: &str) -> Result<(), Wrong> {
    bounds(text.chars().count(), schema, ["minLength", "maxLength"], "characters", path)?;
    match schema.get("pattern").and_then(Value::as_str) {
        Some(pattern) if !found(pattern, text, path)? => wrong(path, format!("does not match `{pattern}`")),
        _ => Ok(()),
    }
}

fn of_number(value: &Value, schema: &Value, path: &str) -> Result<(), Wrong> {
    let Some(value) = number(value) else { return Ok(()) };
    let bound = |key: &str| schema.get(key).and_then(number);
    for (key, word) in [("minimum", "at least"), ("maximum", "at most")] {
        if let Some(limit) = bound(key)
            && ((key == "minimum" && value < limit) || (key == "maximum" && value > limit))
        {
            return wrong(path, format!("has to be {word} {limit}"));
        }
    }
    for (key, word) in [("exclusiveMinimum", "more than"), ("exclusiveMaximum", "less than")] {
        if let Some(limit) = bound(key)
            && ((key == "exclusiveMinimum" && value <= limit) || (key == "exclusiveMaximum" && value >= limit))
        {
            return wrong(path, format!("has to be {word} {limit}"));
        }
    }
    match bound("multipleOf") {
        Some(step) if step > 0.0 && (value / step).fract() != 0.0 => {
            wrong(path, format!("has to be a multiple of {step}"))
        }
        _ => Ok(()),
    }
}

fn bounds(count: usize, schema: &Value, keys: [&str; 2], what: &str, path: &str) -> Result<(), Wrong> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_int).and_then(|limit| usize::try_from(limit).ok());
    match (bound(keys[0]), bound(keys[1])) {
        (Some(least), _) if count < least => wrong(path, format!("needs at least {least} {what}")),
        (_, Some(most)) if count > most => wrong(path, format!("takes at most {most} {what}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(value: &str, schema: &str) -> String {
        let read = |text: &str| Value::from_json(text.as_bytes()).unwrap();
        match check(&read(value), &read(schema)) {
            Ok(()) => "fits".into(),
            Err(wrong) => format!("{} {}", wrong.path, wrong.message),
        }
    }

    #[test]
    fn values_are_measured_by_their_schema() {
        let schema = r##"{"type":"object","required":["id"],"additionalProperties":false,"properties":{
            "id":{"type":["integer","null"],"minimum":1},"kind":{"enum":["a","b"]},"tags":{"$ref":"#/$defs/tags"},
            "who":{"oneOf":[{"type":"string","pattern":"^[a-z]+$"},{"type":"integer"}]}},
            "$defs":{"tags":{"type":"array","items":{"type":"string","maxLength":2},"uniqueItems":true}}}"##;
        for (value, expected) in [
            (r#"{"id":1}"#, "fits"),
            (r#"{"id":1.0,"tags":["a","b"],"who":"x"}"#, "fits"),
            ("{}", " lacks `id`"),
            (r#"{"id":0}"#, "id has to be at least 1"),
            (r#"{"id":"1"}"#, "id has to be of type integer or null"),
            (r#"{"id":1,"x":2}"#, "x must not be there"),
            (r#"{"id":1,"kind":"c"}"#, r#"kind has to be one of "a", "b""#),
            (r#"{"id":1,"tags":["a","abc"]}"#, "tags.1 takes at most 2 characters"),
            (r#"{"id":1,"tags":["a","a"]}"#, "tags holds the same item twice"),
            (r#"{"id":1,"who":"X"}"#, "who has to fit exactly one of what its schema allows"),
        ] {
            assert_eq!(told(value, schema), expected, "{value}");
        }
    }

    #[test]
    fn nothing_is_said_about_a_secret_that_is_not_seen() {
        let schema = r#"{"properties":{"key":{"type":"string","pattern":"^sk-","maxLength":5}}}"#;
        assert_eq!(told(r#"{"key":"thimble-secret-00000000000000000000000000000000"}"#, schema), "fits");
    }

    #[test]
    fn a_schema_that_leads_back_to_itself_or_doubles_at_every_step_ends() {
        assert_eq!(
            told("1", r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}"##),
            " is checked by a schema nested deeper than 64 levels"
        );
        let again = [r##"{"$ref":"#"}"##; 4].join(",");
        let doubling = format!(r#"{{"properties":{{"a":{{"allOf":[{again}]}}}}}}"#);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(12), "}".repeat(12));
        let said = told(&deep, &doubling);
        assert!(said.ends_with("is checked by a schema that takes more than 100000 steps"), "{said}");
    }
}
