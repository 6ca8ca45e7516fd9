//! The schema of a manifest's settings, as the host wants it: JSON Schema 2020-12, secrets marked `x-secret`.
//!
//! What no validator would take is taken out and told, because one bad pattern would make the whole schema useless.

use regex::RegexBuilder;

use super::finding::Findings;
use crate::{
    limits::{MAX_SCHEMA_DEPTH, MAX_SETTING_PATTERN_BYTES},
    node::Node,
    value::{Map, Value},
};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema; an open object where the manifest has none.
pub fn schema(manifest: &Node<'_>, findings: &mut Findings) -> Value {
    let declared = manifest.get("spec").and_then(|spec| spec.get("connection_specification"));
    let mut converted = match declared {
        Some(node) => convert(&node, 0, findings),
        None => Value::map(Map::new()),
    };
    let map = converted.map_mut();
    map.shift_remove("$schema");
    map.shift_insert(0, "$schema".into(), DIALECT.into());
    map.insert("type".into(), "object".into());
    mark_tokens(manifest, &mut converted);
    converted
}

/// Dotted paths of the settings that are secret, `*` for the items of arrays.
pub fn secrets(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find_secrets(schema, String::new(), 0, &mut found);
    found.sort();
    found.dedup();
    found
}

fn find_secrets(schema: &Value, path: String, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_SCHEMA_DEPTH {
        return;
    }
    if schema.get("x-secret") == Some(&Value::Bool(true)) {
        found.push(path);
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, member) in schema.get("properties").and_then(Value::as_map).into_iter().flatten() {
        find_secrets(member, below(key), depth + 1, found);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inside) = schema.get(key) {
            find_secrets(inside, below("*"), depth + 1, found);
        }
    }
    for item in schema.get("prefixItems").and_then(Value::as_list).unwrap_or_default() {
        find_secrets(item, below("*"), depth + 1, found);
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        for choice in schema.get(key).and_then(Value::as_list).unwrap_or_default() {
            find_secrets(choice, path.clone(), depth + 1, found);
        }
    }
}

fn convert(node: &Node<'_>, depth: usize, findings: &mut Findings) -> Value {
    let Some(map) = node.value.as_map() else {
        let open = Value::map(Map::new());
        return if node.value.as_bool().is_some() { node.value.clone() } else { open };
    };
    if depth > MAX_SCHEMA_DEPTH {
        findings.warning(node, format!("the settings are nested deeper than {MAX_SCHEMA_DEPTH} levels; left open"));
        return Value::map(Map::new());
    }
    let mut converted = Map::new();
    for (key, value) in map {
        let path = format!("{}.{key}", node.path);
        let member = Node { value, path };
        keyword(key, &member, depth, &mut converted, findings);
    }
    Value::map(converted)
}

fn keyword(key: &str, node: &Node<'_>, depth: usize, into: &mut Map, findings: &mut Findings) {
    let value = node.value;
    let kept = match key {
        "airbyte_secret" => {
            if value.as_bool() == Some(true) {
                into.insert("x-secret".into(), true.into());
            }
            return;
        }
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
            if value.as_map().is_some() =>
        {
            let members = node.members().into_iter();
            Some(Value::map(members.map(|(key, at)| (key.to_owned(), convert(&at, depth + 1, findings))).collect()))
        }
        "oneOf" | "anyOf" | "allOf" | "prefixItems" if value.as_list().is_some_and(|list| !list.is_empty()) => {
            Some(Value::list(node.list().iter().map(|item| convert(item, depth + 1, findings)).collect()))
        }
        "items" if value.as_list().is_some() => return keyword("prefixItems", node, depth, into, findings),
        "items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" | "propertyNames" => {
            (value.as_map().is_some() || value.as_bool().is_some()).then(|| convert(node, depth + 1, findings))
        }
        _ => fits(key, value).then(|| value.clone()),
    };
    match kept {
        Some(kept) => {
            into.insert(key.to_owned(), kept);
        }
        None => findings.note(node, format!("`{key}` says nothing that can be checked here; it is left out")),
    }
}

/// Whether a keyword has a value of the kind that JSON Schema wants; others keep whatever they have.
fn fits(key: &str, value: &Value) -> bool {
    let texts = |value: &Value| {
        let list = value.as_list().unwrap_or_default();
        value.as_list().is_some() && list.iter().all(|item| item.as_str().is_some()) && distinct(list)
    };
    match key {
        "type" => match value {
            Value::Str(kind) => is_kind(kind),
            other => {
                texts(other) && other.as_list().is_some_and(|list| !list.is_empty() && list.iter().all(is_kind_value))
            }
        },
        "required" => texts(value),
        "enum" => value.as_list().is_some_and(|list| !list.is_empty() && distinct(list)),
        "examples" => value.as_list().is_some(),
        "pattern" => value.as_str().is_some_and(usable),
        "title" | "description" | "format" | "$comment" | "$id" | "$ref" => value.as_str().is_some(),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            matches!(value, Value::Int(_) | Value::Float(_))
        }
        "multipleOf" => matches!(value, Value::Int(1..)) || matches!(value, Value::Float(step) if *step > 0.0),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            matches!(value, Value::Int(0..))
        }
        "uniqueItems" | "readOnly" | "writeOnly" | "deprecated" => value.as_bool().is_some(),
        // Of kinds that are converted above, in a form that cannot be.
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "oneOf" | "anyOf"
        | "allOf" | "prefixItems" | "dependencies" => false,
        _ => true,
    }
}

fn distinct(list: &[Value]) -> bool {
    list.iter().enumerate().all(|(at, item)| !list[..at].contains(item))
}

fn is_kind(kind: &str) -> bool {
    matches!(kind, "string" | "integer" | "number" | "boolean" | "object" | "array" | "null")
}

fn is_kind_value(value: &Value) -> bool {
    value.as_str().is_some_and(is_kind)
}

/// The host's validator takes patterns of this kind only.
fn usable(pattern: &str) -> bool {
    RegexBuilder::new(pattern).size_limit(MAX_SETTING_PATTERN_BYTES).build().is_ok()
}

/// Settings that hold tokens which the source hands out are secret, whatever the manifest says, because they are
/// written back into the configuration.
fn mark_tokens(manifest: &Node<'_>, schema: &mut Value) {
    let mut tokens = Tokens(Vec::new());
    super::walk::walk(manifest, &mut tokens);
    for path in tokens.0 {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        mark(schema, &parts);
    }
}

struct Tokens(Vec<Vec<String>>);

impl super::walk::Visitor for Tokens {
    fn component(&mut self, component: &Node<'_>) {
        let Some(updater) = component.get("refresh_token_updater") else { return };
        for (member, usual) in
            [("refresh_token_config_path", "refresh_token"), ("access_token_config_path", "access_token")]
        {
            let written: Vec<String> =
                updater.items(member).iter().filter_map(|part| part.value.as_str()).map(str::to_owned).collect();
            let path = if written.is_empty() { vec!["credentials".to_owned(), usual.to_owned()] } else { written };
            if !self.0.contains(&path) {
                self.0.push(path);
            }
        }
    }
}

fn mark(schema: &mut Value, path: &[&str]) {
    let Some((key, rest)) = path.split_first() else {
        schema.map_mut().insert("x-secret".into(), true.into());
        return;
    };
    // Where the settings have variants, each may hold it.
    for combination in ["oneOf", "anyOf", "allOf"] {
        if schema.get(combination).and_then(Value::as_list).is_some()
            && let Some(Value::List(choices)) = schema.map_mut().get_mut(combination)
        {
            return std::sync::Arc::make_mut(choices).iter_mut().for_each(|choice| mark(choice, path));
        }
    }
    if schema.as_map().is_none() {
        return;
    }
    let properties = schema.map_mut().entry("properties".into()).or_default();
    let fresh = if rest.is_empty() {
        Value::map(Map::from([("type".into(), "string".into())]))
    } else {
        Value::map(Map::new())
    };
    mark(properties.map_mut().entry((*key).to_owned()).or_insert(fresh), rest);
}
