//! What has to be done so that a server has what the files want. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Map, Value};
use thimble_engine::span::Span;

use super::Wanted;

/// Mark that stands where a secret is stored.
const SECRET_MARK: &str = "$secret";

/// A kind of things, in the order in which they are made; they go away in the opposite one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Grants,
    Source,
    Destination,
    Connection,
    Notifier,
}

impl Kind {
    /// Those that have a name of their own.
    pub const NAMED: [Self; 4] = [Self::Source, Self::Destination, Self::Connection, Self::Notifier];

    /// Path of the list.
    pub fn path(self) -> &'static str {
        match self {
            Self::Grants => "/plugins",
            Self::Source => "/sources",
            Self::Destination => "/destinations",
            Self::Connection => "/connections",
            Self::Notifier => "/notifiers",
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Grants => "grants",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Connection => "connection",
            Self::Notifier => "notifier",
        }
    }
}

/// What the server has, as it answers it, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    pub grants: BTreeMap<String, Vec<String>>,
    pub sources: BTreeMap<String, Value>,
    pub destinations: BTreeMap<String, Value>,
    pub connections: BTreeMap<String, Value>,
    pub notifiers: BTreeMap<String, Value>,
}

/// What is done with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Create,
    Update,
    Delete,
    Unchanged,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub action: Action,
    pub kind: Kind,
    pub name: String,
    /// What differs, as people read it; secrets are not shown.
    pub changes: Vec<String>,
    /// What the API is sent.
    #[serde(skip)]
    pub body: Value,
}

/// The steps in the order in which they can be taken. What the files do not hold is deleted where `prune`.
pub fn plan(wanted: &Wanted, stored: &Stored, prune: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for (plugin, hosts) in &wanted.grants {
        steps.push(grants(plugin, hosts, stored.grants.get(plugin)));
    }
    let pairs = [
        (Kind::Source, &wanted.sources, &stored.sources),
        (Kind::Destination, &wanted.destinations, &stored.destinations),
        (Kind::Connection, &wanted.connections, &stored.connections),
        (Kind::Notifier, &wanted.notifiers, &stored.notifiers),
    ];
    for (kind, wanted, stored) in pairs {
        steps.extend(wanted.iter().map(|(name, body)| step(kind, name, body, stored.get(name))));
    }
    if prune {
        for (kind, wanted, stored) in pairs.into_iter().rev() {
            steps.extend(stored.keys().filter(|name| !wanted.contains_key(*name)).map(|name| Step {
                action: Action::Delete,
                kind,
                name: name.clone(),
                changes: Vec::new(),
                body: Value::Null,
            }));
        }
    }
    steps
}

fn grants(plugin: &str, wanted: &[String], stored: Option<&Vec<String>>) -> Step {
    let wanted: BTreeSet<&String> = wanted.iter().collect();
    let stored: BTreeSet<&String> = stored.into_iter().flatten().collect();
    let added = wanted.difference(&stored).map(|host| format!("+ {host}"));
    let changes: Vec<String> = added.chain(stored.difference(&wanted).map(|host| format!("- {host}"))).collect();
    Step {
        action: if changes.is_empty() { Action::Unchanged } else { Action::Update },
        kind: Kind::Grants,
        name: plugin.to_owned(),
        changes,
        body: serde_json::json!({ "grants": wanted }),
    }
}

fn step(kind: Kind, name: &str, body: &Map<String, Value>, stored: Option<&Value>) -> Step {
    let mut changes = Vec::new();
    let action = match stored {
        None => Action::Create,
        Some(stored) => {
            for (key, value) in body {
                let (key, value) = as_answered(key, value);
                compare(key, &value, stored.get(key).unwrap_or(&Value::Null), &mut changes);
            }
            let kept = Value::Object(Map::new());
            for (key, value) in stored.as_object().into_iter().flatten() {
                // What a body leaves out, the server sets to its default.
                if !speaks_of(body, key) && settable(kind).contains(&key.as_str()) && !is_default(value, &kept) {
                    changes.push(format!("{key}: {} -> (default)", shown(value)));
                }
            }
            if changes.is_empty() { Action::Unchanged } else { Action::Update }
        }
    };
    Step { action, kind, name: name.to_owned(), changes, body: Value::Object(body.clone()) }
}

/// Whether a body sets a key, under whichever name.
fn speaks_of(body: &Map<String, Value>, key: &str) -> bool {
    body.keys().any(|name| as_answered(name, &Value::Null).0 == key)
}

/// A setting under the name and in the form that the server answers with: spans are written in more ways than one, and
/// `freshness` was once given in milliseconds.
fn as_answered<'a>(key: &'a str, value: &Value) -> (&'a str, Value) {
    let span = match (key, value) {
        ("freshness_ms", value) => value.as_u64().map(|millis| Span(Duration::from_millis(millis))),
        ("freshness" | "max_duration", Value::String(text)) => Span::parse(text),
        _ => return (key, value.clone()),
    };
    let key = if key == "freshness_ms" { "freshness" } else { key };
    (key, span.map_or_else(|| value.clone(), |span| Value::String(span.to_string())))
}

/// What can be left out of a body, and is then set back.
fn settable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Connection => {
            &["streams", "destination", "paused", "schedule", "stream_schedules", "retry", "max_duration", "freshness"]
        }
        Kind::Notifier => &["events", "connections", "delay_ms", "paused"],
        Kind::Grants | Kind::Source | Kind::Destination => &[],
    }
}

fn is_default(value: &Value, empty: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        other => other == empty,
    }
}

/// Notes where what is wanted is not what is stored. Where a map is stored with more keys than wanted, the further
/// ones are the server's defaults, unless they are a configuration's.
fn compare(path: &str, wanted: &Value, stored: &Value, changes: &mut Vec<String>) {
    if stored.get(SECRET_MARK).is_some() {
        if wanted.get(SECRET_MARK).is_none() {
            changes.push(format!("{path}: (secrets cannot be compared, it is written again)"));
        }
        return;
    }
    match (wanted, stored) {
        (Value::Object(wanted), Value::Object(stored)) => {
            for (key, value) in wanted {
                compare(&format!("{path}.{key}"), value, stored.get(key).unwrap_or(&Value::Null), changes);
            }
            if path == "config" || path.starts_with("config.") {
                let gone = stored.keys().filter(|key| !wanted.contains_key(*key));
                changes.extend(gone.map(|key| format!("{path}.{key}: removed")));
            }
        }
        (Value::Array(wanted), Value::Array(stored)) if wanted.len() == stored.len() => {
            for (at, (wanted, stored)) in wanted.iter().zip(stored).enumerate() {
                compare(&format!("{path}[{at}]"), wanted, stored, changes);
            }
        }
        (wanted, stored) if same(wanted, stored) => {}
        // A value that is new in a configuration may be a secret.
        _ if stored.is_null() && path.starts_with("config") => changes.push(format!("{path}: added")),
        (wanted, stored) => changes.push(format!("{path}: {} -> {}", shown(stored), shown(wanted))),
    }
}

fn same(wanted: &Value, stored: &Value) -> bool {
    let empty = Value::Object(Map::new());
    wanted == stored
        || (is_default(wanted, &empty) && stored.is_null())
        || wanted.as_f64().is_some_and(|number| stored.as_f64() == Some(number))
}

/// A value, cut to what fits a line.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn wanted(value: Value) -> Wanted {
        serde_json::from_value(value).unwrap()
    }

    fn told(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| format!("{:?} {} {} {:?}", step.action, step.kind.word(), step.name, step.changes))
            .collect()
    }

    #[test]
    fn things_are_made_before_those_that_use_them_and_go_after() {
        let files = wanted(json!({
            "grants": {"files": ["a"]},
            "sources": {"s": {"plugin": "files", "config": {}}},
            "connections": {"c": {"source": "s"}},
        }));
        let steps = plan(&files, &Stored::default(), true);
        let kinds: Vec<Kind> = steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds, [Kind::Grants, Kind::Source, Kind::Connection]);
        let stored = Stored {
            sources: [("old".into(), json!({}))].into(),
            connections: [("old".into(), json!({}))].into(),
            ..Stored::default()
        };
        let gone = plan(&Wanted::default(), &stored, true);
        assert_eq!(told(&gone), ["Delete connection old []", "Delete source old []"]);
        assert!(plan(&Wanted::default(), &stored, false).is_empty());
    }

    #[test]
    fn what_is_there_already_is_left_alone_and_differences_are_named() {
        let stored = Stored {
            connections: [(
                "c".into(),
                json!({
                    "id": "c", "plugin": "files", "version": 3, "streams": [{"stream": "a", "nested": "json"}],
                    "config": {"url": "http://a", "pages": 3, "token": {"$secret": true}},
                    "schedule": {"every": "1h"}, "destination": null, "paused": false,
                }),
            )]
            .into(),
            ..Stored::default()
        };
        let file = |config: Value, schedule: Value| {
            wanted(json!({"connections": {"c": {
                "plugin": "files", "config": config, "streams": [{"stream": "a"}], "schedule": schedule}}}))
        };
        let same = file(json!({"url": "http://a", "pages": 3, "token": {"$secret": true}}), json!({"every": "1h"}));
        assert_eq!(told(&plan(&same, &stored, false)), ["Unchanged connection c []"]);
        let other = file(json!({"url": "http://b", "token": "hunter2", "key": "hunter3"}), json!({"every": "2h"}));
        let told = told(&plan(&other, &stored, false)).join("");
        for part in [
            "config.url: \\\"http://a\\\" -> \\\"http://b\\\"",
            "config.pages: removed",
            "config.token: (secrets",
            "schedule.every",
            "config.key: added",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("hunter"), "{told}");
        for key in [json!({"freshness_ms": 3_600_000}), json!({"freshness": "60m"})] {
            let mut file = json!({"plugin": "files", "config": {}});
            file.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
            let fresh = json!({"id": "c", "plugin": "files", "config": {}, "freshness": "1h"});
            let stored = Stored { connections: [("c".into(), fresh)].into(), ..Stored::default() };
            let step = &plan(&wanted(json!({"connections": {"c": file}})), &stored, false)[0];
            assert_eq!(step.action, Action::Unchanged, "{:?}", step.changes);
        }
        let without = wanted(json!({"connections": {"c": {
            "plugin": "files", "config": {"url": "http://a", "pages": 3, "token": {"$secret": true}}, "streams": [{"stream": "a"}]}}}));
        let step = &plan(&without, &stored, false)[0];
        assert_eq!((step.action, step.changes.len()), (Action::Update, 1), "{:?}", step.changes);
    }
}
