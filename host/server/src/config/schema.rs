//! Generates the JSON Schema of the configuration file, and compares it with the published one.
//!
//! Built for tests only: the binary prints the published file. Run the tests with `UPDATE_SCHEMA=1` to write it.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{Config, PluginLimits};

/// Where the plugin runtime names and describes its limits.
const PLUGIN_LIMITS: &str = include_str!("../../../plugin/src/limits.rs");
/// The same for the sections inside.
const SECTIONS: [(&str, &str); 2] = [
    ("egress", include_str!("../../../plugin/src/egress/limits.rs")),
    ("log", include_str!("../../../plugin/src/log.rs")),
];

/// The schema of the plugin runtime's limits, which has no schema of its own: names and defaults from its
/// values, descriptions from its documentation.
pub fn plugin_limits(_: &mut SchemaGenerator) -> Schema {
    let defaults = serde_json::to_value(PluginLimits::default()).expect("limits are numbers");
    let schema = object(&defaults, PLUGIN_LIMITS);
    Schema::try_from(schema).expect("an object is a schema")
}

/// The schema of the networks that may be reached.
pub fn private_networks(_: &mut SchemaGenerator) -> Schema {
    let schema = json!({ "anyOf": [
        { "type": "boolean" },
        { "type": "array", "items": { "type": "string" } },
    ] });
    Schema::try_from(schema).expect("an object is a schema")
}

fn object(defaults: &Value, source: &str) -> Value {
    let docs = documented(source);
    let mut properties = Map::new();
    for (name, default) in defaults.as_object().expect("limits are a struct") {
        let description = docs.get(name).unwrap_or_else(|| panic!("the limit {name} has no documentation"));
        let mut property = match default {
            Value::Object(_) => {
                let section = SECTIONS.iter().find(|(section, _)| section == name);
                object(default, section.unwrap_or_else(|| panic!("the section {name} has no source")).1)
            }
            Value::Bool(_) => json!({ "type": "boolean" }),
            Value::Number(_) => json!({ "type": "integer", "minimum": 0 }),
            other => panic!("the limit {name} has a default of a new shape: {other}"),
        };
        property["description"] = json!(description);
        property["default"] = default.clone();
        properties.insert(name.clone(), property);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// Doc comments of public fields by name.
fn documented(source: &str) -> BTreeMap<String, String> {
    let mut docs = BTreeMap::new();
    let mut doc = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
            continue;
        }
        if let Some((name, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            docs.entry(name.to_owned()).or_insert_with(|| doc.join(" "));
        }
        doc.clear();
    }
    docs.retain(|_, text| !text.is_empty());
    docs
}

fn generated() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}

#[test]
fn published_schema_is_the_generated_one() {
    let generated = generated();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/thimble.schema.json");
        std::fs::write(file, generated).expect("the schema can be written");
        return;
    }
    assert!(super::SCHEMA == generated, "thimble.schema.json is out of date: run this test with UPDATE_SCHEMA=1");
}

/// Every setting has a description, or refers to a definition that has one.
#[test]
fn every_setting_is_described() {
    let schema: Value = serde_json::from_str(&generated()).expect("a schema is JSON");
    let mut pending = vec![("".to_owned(), &schema)];
    let mut seen = 0;
    while let Some((path, node)) = pending.pop() {
        if let Some(properties) = node.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                seen += 1;
                let path = format!("{path}.{name}");
                assert!(property.get("description").is_some(), "{path} has no description");
                pending.push((path, property));
            }
        }
        if let Some(definitions) = node.get("$defs").and_then(Value::as_object) {
            pending.extend(definitions.iter().map(|(name, definition)| (name.clone(), definition)));
        }
    }
    assert!(seen > 60, "only {seen} settings were seen");
}
