//! What changes when a plugin goes from one version to another: what it may ask for, and what connections must say.
//!
//! Pure. Whether a person has to agree is decided here; nothing is activated here.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// Deepest nesting of a configuration schema that is looked into.
pub const MAX_SCHEMA_DEPTH: usize = 16;

/// One version, as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// `hosts`, `memory_mib` and `reads_secrets`, as in the plugin's spec.
    pub permissions: &'a Value,
    /// JSON Schema of a connection's configuration.
    pub config_schema: &'a Value,
    /// Version of the plugin interface.
    pub api_version: &'a str,
}

/// What came and what went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Names {
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

/// One setting of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    /// Names from the root, joined by `.`.
    pub setting: String,
    /// What changed, in one sentence.
    pub change: String,
    /// Whether configurations that were right before may be refused now.
    pub breaking: bool,
}

/// The difference of two versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Upgrade {
    /// Host patterns that it asks for.
    pub hosts: Names,
    /// Settings whose secret value it sees.
    pub reads_secrets: Names,
    /// MiB of memory that it asks for, before and after, where they differ; null: none of its own.
    pub memory_mib: Option<(Option<u64>, Option<u64>)>,
    /// Versions of the plugin interface, where they differ.
    pub api_version: Option<(String, String)>,
    pub settings: Vec<SettingChange>,
    /// Whether it asks for more than before: somebody has to agree.
    pub asks_for_more: bool,
    /// Whether some configuration of before may be refused.
    pub breaking: bool,
}

/// Compares two versions.
pub fn upgrade(from: Version<'_>, to: Version<'_>) -> Upgrade {
    let hosts = names(from.permissions, to.permissions, "hosts");
    let reads_secrets = names(from.permissions, to.permissions, "reads_secrets");
    let memory = |version: Version<'_>| version.permissions.get("memory_mib").and_then(Value::as_u64);
    let (before, after) = (memory(from), memory(to));
    let mut settings = Vec::new();
    compare("", from.config_schema, to.config_schema, 0, &mut settings);
    Upgrade {
        asks_for_more: !hosts.added.is_empty() || !reads_secrets.added.is_empty() || after > before,
        breaking: settings.iter().any(|change| change.breaking),
        hosts,
        reads_secrets,
        memory_mib: (before != after).then_some((before, after)),
        api_version: (from.api_version != to.api_version)
            .then(|| (from.api_version.to_owned(), to.api_version.to_owned())),
        settings,
    }
}

fn names(from: &Value, to: &Value, field: &str) -> Names {
    let read = |permissions: &Value| -> BTreeSet<String> {
        let listed = permissions.get(field).and_then(Value::as_array);
        listed.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (before, after) = (read(from), read(to));
    Names { added: after.difference(&before).cloned().collect(), removed: before.difference(&after).cloned().collect() }
}

/// Compares two schemas as far as plain `properties` lead.
fn compare(path: &str, from: &Value, to: &Value, depth: usize, changes: &mut Vec<SettingChange>) {
    let none = Map::new();
    let properties = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned();
    let (before, after) = (properties(from).unwrap_or_default(), properties(to).unwrap_or(none));
    let (needed, needs) = (required(from), required(to));
    let closed = to.get("additionalProperties") == Some(&Value::Bool(false));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let setting = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mut note = |change: &str, breaking: bool| {
            changes.push(SettingChange { setting: setting.clone(), change: change.to_owned(), breaking });
        };
        match (before.get(name), after.get(name)) {
            (None, Some(_)) if needs.contains(name) => note("is new and required", true),
            (None, Some(_)) => note("is new", false),
            (Some(_), None) => note("is gone", closed),
            (Some(old), Some(new)) => {
                match (needed.contains(name), needs.contains(name)) {
                    (false, true) => note("is required now", true),
                    (true, false) => note("is optional now", false),
                    _ => {}
                }
                for (keyword, narrows) in own_changes(old, new) {
                    note(&format!("has another `{keyword}`"), narrows);
                }
                if depth < MAX_SCHEMA_DEPTH {
                    compare(&setting, old, new, depth + 1, changes);
                }
            }
            (None, None) => {}
        }
    }
}

fn required(schema: &Value) -> BTreeSet<String> {
    let listed = schema.get("required").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Keywords of one setting that differ, each with whether it may refuse what was right before.
fn own_changes(old: &Value, new: &Value) -> Vec<(String, bool)> {
    const WORDS_FOR_PEOPLE: [&str; 6] = ["title", "description", "examples", "default", "$comment", "deprecated"];
    const LOOKED_INTO: [&str; 2] = ["properties", "required"];
    let (none, also_none) = (Map::new(), Map::new());
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&also_none));
    let keywords: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keywords
        .into_iter()
        .filter(|keyword| !WORDS_FOR_PEOPLE.contains(&keyword.as_str()) && !LOOKED_INTO.contains(&keyword.as_str()))
        .filter(|keyword| old.get(*keyword) != new.get(*keyword))
        // A keyword that went away allows more; whether another value of it allows less cannot be told in general.
        .map(|keyword| (keyword.clone(), new.contains_key(keyword)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn diff(from: (&Value, &Value), to: (&Value, &Value)) -> Upgrade {
        let version = |(permissions, config_schema)| Version { permissions, config_schema, api_version: "0.1.0" };
        upgrade(version(from), version(to))
    }

    #[test]
    fn the_same_version_changes_nothing() {
        let (permissions, schema) = (json!({"hosts": ["a"]}), json!({"properties": {"url": {"type": "string"}}}));
        assert_eq!(diff((&permissions, &schema), (&permissions, &schema)), Upgrade::default());
    }

    #[test]
    fn more_hosts_memory_or_secrets_want_consent_and_fewer_do_not() {
        let schema = json!({});
        let small = json!({"hosts": ["a"], "memory_mib": 64});
        for more in [
            json!({"hosts": ["a", "b"], "memory_mib": 64}),
            json!({"hosts": ["a"], "memory_mib": 65}),
            json!({"hosts": [], "reads_secrets": ["password"]}),
        ] {
            assert!(diff((&small, &schema), (&more, &schema)).asks_for_more, "{more}");
        }
        let back = diff((&json!({"hosts": ["a", "b"], "memory_mib": 65}), &schema), (&small, &schema));
        assert!(!back.asks_for_more);
        assert_eq!((back.hosts.removed, back.memory_mib), (vec!["b".to_owned()], Some((Some(65), Some(64)))));
        assert!(diff((&json!({}), &schema), (&json!({"memory_mib": 1}), &schema)).asks_for_more);
    }

    #[test]
    fn settings_that_may_refuse_what_was_right_are_breaking() {
        let none = json!({});
        let changed = |from: Value, to: Value| {
            let upgrade = diff((&none, &from), (&none, &to));
            let told: Vec<_> =
                upgrade.settings.iter().map(|change| format!("{} {}", change.setting, change.change)).collect();
            (told.join("; "), upgrade.breaking)
        };
        let schema = |properties: Value, required: Value| json!({"properties": properties, "required": required});
        let text = json!({"type": "string"});
        let is = |told: &str, breaking| (told.to_owned(), breaking);
        assert_eq!(changed(none.clone(), schema(json!({"a": text}), json!([]))), is("a is new", false));
        assert_eq!(changed(none.clone(), schema(json!({"a": text}), json!(["a"]))), is("a is new and required", true));
        let before = schema(json!({"a": text}), json!([]));
        assert_eq!(changed(before.clone(), schema(json!({"a": text}), json!(["a"]))), is("a is required now", true));
        assert_eq!(changed(before.clone(), json!({"additionalProperties": false})), is("a is gone", true));
        let number = schema(json!({"a": {"type": "integer"}}), json!([]));
        assert_eq!(changed(before.clone(), number), is("a has another `type`", true));
        let told = schema(json!({"a": {"type": "string", "title": "A"}}), json!([]));
        assert_eq!(changed(before.clone(), told), is("", false));
        let nested = |inner: Value| json!({"properties": {"auth": {"type": "object", "properties": inner}}});
        assert_eq!(changed(nested(json!({})), nested(json!({"b": text}))), is("auth.b is new", false));
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = json!({"type": "string"});
        for _ in 0..MAX_SCHEMA_DEPTH + 50 {
            deep = json!({"properties": {"a": deep}});
        }
        assert!(!diff((&json!({}), &deep), (&json!({}), &deep)).breaking);
    }
}
