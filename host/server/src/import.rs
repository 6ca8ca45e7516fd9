//! Settings of other platforms as a start: a Meltano project's or an Airbyte connection's, in the form that
//! `thimble apply` takes.
//!
//! Pure. What cannot be carried over is said in a note, never dropped in silence; values that look like secrets become
//! variables of the environment.

use serde_json::{Map, Value, json};

/// What an import came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// For `thimble apply`.
    pub document: Value,
    /// What somebody has to look at, one sentence each.
    pub notes: Vec<String>,
}

/// Most things of one kind that are taken over.
const MAX_THINGS: usize = 10_000;

/// Parts of names of settings that hold secrets.
const SECRET_WORDS: [&str; 8] =
    ["password", "secret", "token", "api_key", "apikey", "private_key", "credential", "passphrase"];

/// A `meltano.yml` (<https://docs.meltano.com/concepts/project/#meltanoyml-project-file>): extractors become sources,
/// loaders destinations to be filled in, schedules connections.
pub fn meltano(project: &Value) -> Imported {
    let mut notes = Vec::new();
    let (mut sources, mut connections) = (Map::new(), Map::new());
    let plugins = |kind: &str| list(&project["plugins"][kind]);
    for extractor in plugins("extractors") {
        let Some(name) = extractor["name"].as_str() else { continue };
        let plugin = extractor["inherit_from"].as_str().unwrap_or(name).trim_start_matches("tap-");
        let config = masked(&extractor["config"], &slug(name), &mut notes);
        notes.push(format!("source {}: the connector `{plugin}` is to be installed, and its settings may have other names than {name}'s", slug(name)));
        sources.insert(slug(name), json!({"plugin": plugin, "config": config}));
        let selected = list(&extractor["select"]);
        let schedule = plugins_schedule(project, name);
        let mut connection = Map::new();
        connection.insert("source".into(), slug(name).into());
        let streams = streams(&selected, &slug(name), &mut notes);
        if !streams.is_empty() {
            connection.insert("streams".into(), streams.into());
        }
        if let Some((schedule_name, interval, loader)) = schedule {
            match meltano_schedule(&interval) {
                Some(schedule) => drop(connection.insert("schedule".into(), schedule)),
                None => notes.push(format!(
                    "connection {}: the interval {interval:?} of the schedule {schedule_name} is not known",
                    slug(name)
                )),
            }
            notes.push(format!("connection {}: it loaded by {loader}; make a destination and name it under `destination`, or leave it out for the default", slug(name)));
        }
        connections.insert(slug(name), Value::Object(connection));
    }
    for kind in ["transformers", "mappers", "utilities", "orchestrators"] {
        for plugin in plugins(kind) {
            notes.push(format!(
                "{kind}: {} has no counterpart and was left out",
                plugin["name"].as_str().unwrap_or("?")
            ));
        }
    }
    Imported { document: json!({"sources": sources, "connections": connections}), notes }
}

/// The first schedule of an extractor: its name, interval and loader.
fn plugins_schedule(project: &Value, extractor: &str) -> Option<(String, String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list(&project["schedules"]).into_iter().find(|schedule| schedule["extractor"] == extractor).and_then(|schedule| {
        let loader = text(&schedule["loader"]).unwrap_or_else(|| "no loader".into());
        Some((text(&schedule["name"])?, text(&schedule["interval"])?, loader))
    })
}

fn meltano_schedule(interval: &str) -> Option<Value> {
    let cron = match interval {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@once" | "@manual" | "@none" => return Some(json!({"manual": true})),
        cron if cron.split_whitespace().count() == 5 => cron,
        _ => return None,
    };
    Some(json!({"cron": cron}))
}

/// Streams of selection patterns `stream.column`; a pattern that excludes, or names several streams, is told.
fn streams(patterns: &[Value], source: &str, notes: &mut Vec<String>) -> Vec<Value> {
    let mut selected: Map<String, Value> = Map::new();
    for pattern in patterns.iter().filter_map(Value::as_str) {
        let (stream, column) = pattern.split_once('.').unwrap_or((pattern, "*"));
        if stream.starts_with('!') || stream.contains('*') && stream != "*" {
            notes.push(format!("connection {source}: the selection {pattern:?} cannot be carried over"));
            continue;
        }
        if stream == "*" {
            continue;
        }
        let entry = selected.entry(stream.to_owned()).or_insert_with(|| json!({"stream": stream}));
        if column != "*"
            && let Some(columns) =
                entry.as_object_mut().map(|entry| entry.entry("columns").or_insert_with(|| json!([])))
            && let Some(columns) = columns.as_array_mut()
        {
            columns.push(column.into());
        }
    }
    selected.into_iter().map(|(_, stream)| stream).collect()
}

/// An Airbyte connection as its API answers it (<https://reference.airbyte.com/reference/getconnection>, and the
/// configuration API's `syncCatalog`), with `source` and `destination` inside where they were exported along.
pub fn airbyte(connection: &Value) -> Imported {
    let mut notes = Vec::new();
    let name = slug(connection["name"].as_str().unwrap_or("airbyte"));
    let source = &connection["source"];
    let definition = source["sourceName"].as_str().or(source["sourceType"].as_str()).or(source["name"].as_str());
    let plugin = slug(definition.unwrap_or("unknown"));
    let config = source.get("connectionConfiguration").or(source.get("configuration")).cloned().unwrap_or(json!({}));
    if source.is_null() {
        notes.push(format!("source {name}: the export holds no source; fill in its plugin and settings"));
    } else {
        notes.push(format!("source {name}: the connector `{plugin}` is to be installed; one that has an Airbyte manifest may run it as it is"));
    }
    let config = masked(&config, &name, &mut notes);
    let mut wanted = Map::new();
    wanted.insert("source".into(), name.clone().into());
    let streams = airbyte_streams(connection, &name, &mut notes);
    if !streams.is_empty() {
        wanted.insert("streams".into(), streams.into());
    }
    match airbyte_schedule(connection) {
        Ok(Some(schedule)) => drop(wanted.insert("schedule".into(), schedule)),
        Ok(None) => {}
        Err(note) => notes.push(format!("connection {name}: {note}")),
    }
    if connection["status"] == "inactive" {
        wanted.insert("paused".into(), true.into());
    }
    if !connection["destination"].is_null() {
        notes.push(format!(
            "connection {name}: make its destination and name it under `destination`, or leave it out for the default"
        ));
    }
    let document = json!({
        "sources": {name.clone(): {"plugin": plugin, "config": config}},
        "connections": {name: wanted},
    });
    Imported { document, notes }
}

fn airbyte_streams(connection: &Value, name: &str, notes: &mut Vec<String>) -> Vec<Value> {
    let mut streams = Vec::new();
    let configured = list(&connection["syncCatalog"]["streams"]);
    for entry in configured.iter().chain(&list(&connection["configurations"]["streams"])) {
        // The one API nests, the other does not.
        let config = entry.get("config").unwrap_or(entry);
        if config["selected"] == false {
            continue;
        }
        let Some(stream) = entry["stream"]["name"].as_str().or(entry["name"].as_str()) else { continue };
        let mut selection = Map::new();
        selection.insert("stream".into(), stream.into());
        let mode = format!(
            "{}_{}",
            config["syncMode"].as_str().unwrap_or_default(),
            config["destinationSyncMode"].as_str().unwrap_or_default()
        );
        match mode.trim_end_matches('_') {
            "full_refresh_overwrite" => drop(selection.insert("mode".into(), "replace".into())),
            "full_refresh_append" | "incremental_append" => drop(selection.insert("mode".into(), "append".into())),
            "incremental_append_dedup" | "incremental_deduped_history" | "full_refresh_overwrite_dedup" => {
                selection.insert("mode".into(), "upsert".into());
            }
            "" => {}
            other => notes.push(format!("connection {name}, stream {stream}: the mode {other} is not known")),
        }
        let keys: Vec<Value> = list(&config["primaryKey"])
            .iter()
            .filter_map(|path| match path {
                Value::Array(path) if path.len() == 1 => Some(path[0].clone()),
                Value::String(_) => Some(path.clone()),
                _ => None,
            })
            .collect();
        if !keys.is_empty() {
            selection.insert("key".into(), keys.into());
        }
        streams.push(Value::Object(selection));
    }
    streams
}

/// Interval, cron (six Quartz fields, <https://www.quartz-scheduler.org/api/2.3.0/org/quartz/CronExpression.html>) or
/// none.
fn airbyte_schedule(connection: &Value) -> Result<Option<Value>, String> {
    let data = &connection["scheduleData"];
    let basic = if data["basicSchedule"].is_object() { &data["basicSchedule"] } else { &connection["schedule"] };
    if let (Some(units), Some(unit)) = (basic["units"].as_u64(), basic["timeUnit"].as_str()) {
        let letter = match unit.trim_end_matches('s') {
            "minute" => "m",
            "hour" => "h",
            "day" => "d",
            _ => return Err(format!("the unit {unit:?} of its schedule is not known")),
        };
        return Ok(Some(json!({"every": format!("{units}{letter}")})));
    }
    let quartz = data["cron"]["cronExpression"].as_str().or(connection["schedule"]["cronExpression"].as_str());
    let Some(quartz) = quartz else { return Ok(None) };
    let fields: Vec<&str> = quartz.split_whitespace().collect();
    let [_seconds, rest @ ..] = &fields[..] else { return Err(format!("its cron {quartz:?} cannot be read")) };
    if rest.len() < 5 || rest.iter().any(|field| field.contains(['L', 'W', '#'])) {
        return Err(format!("its cron {quartz:?} cannot be carried over: write it with five fields"));
    }
    let cron = rest[..5].join(" ").replace('?', "*");
    let zone = data["cron"]["cronTimeZone"].as_str().unwrap_or("UTC");
    Ok(Some(json!({"cron": cron, "timezone": zone})))
}

/// A configuration whose secrets became variables of the environment.
fn masked(config: &Value, source: &str, notes: &mut Vec<String>) -> Value {
    let Value::Object(settings) = config else { return json!({}) };
    let mut kept = Map::new();
    for (name, value) in settings {
        let secret = SECRET_WORDS.iter().any(|word| name.to_lowercase().contains(word));
        let value = match value {
            Value::Object(_) => masked(value, source, notes),
            Value::String(text) if secret && !text.starts_with("${") => {
                let variable = format!("{source}_{name}").to_uppercase().replace(['-', '.'], "_");
                notes.push(format!("source {source}: put the secret `{name}` into the environment as {variable}"));
                format!("${{{variable}}}").into()
            }
            // `$` begins a variable in our files.
            Value::String(text) if !text.starts_with("${") => text.replace('$', "$$").into(),
            // Meltano reads variables as well: $NAME.
            other => other.clone(),
        };
        kept.insert(name.clone(), value);
    }
    Value::Object(kept)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().map(|items| items.iter().take(MAX_THINGS).cloned().collect()).unwrap_or_default()
}

/// A name as ours have to be.
fn slug(name: &str) -> String {
    let mut slug: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "imported".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meltano_project_becomes_sources_and_connections() {
        let imported = meltano(&json!({
            "plugins": {
                "extractors": [{
                    "name": "tap-github", "config": {"repository": "a/b", "access_token": "ghp_hunter2", "price": "1$"},
                    "select": ["issues.id", "issues.title", "!commits.*", "pulls.*"]
                }],
                "loaders": [{"name": "target-postgres"}],
                "utilities": [{"name": "dbt"}]
            },
            "schedules": [{"name": "nightly", "extractor": "tap-github", "loader": "target-postgres", "interval": "@daily"}]
        }));
        assert_eq!(
            imported.document,
            json!({
                "sources": {"tap-github": {"plugin": "github",
                    "config": {"repository": "a/b", "access_token": "${TAP_GITHUB_ACCESS_TOKEN}", "price": "1$$"}}},
                "connections": {"tap-github": {"source": "tap-github", "schedule": {"cron": "0 0 * * *"},
                    "streams": [{"stream": "issues", "columns": ["id", "title"]}, {"stream": "pulls"}]}}
            })
        );
        let notes = imported.notes.join("\n");
        assert!(notes.contains("dbt") && notes.contains("!commits") && notes.contains("target-postgres"), "{notes}");
        assert!(!notes.contains("hunter2"));
    }

    #[test]
    fn an_airbyte_connection_keeps_modes_keys_and_schedule() {
        let imported = airbyte(&json!({
            "name": "Shop → Lake", "status": "inactive",
            "source": {"sourceName": "Shopify", "connectionConfiguration": {"shop": "x", "credentials": {"api_password": "hunter2"}}},
            "syncCatalog": {"streams": [
                {"stream": {"name": "orders"}, "config": {"selected": true, "syncMode": "incremental",
                    "destinationSyncMode": "append_dedup", "primaryKey": [["id"]]}},
                {"stream": {"name": "shop"}, "config": {"selected": false}},
                {"stream": {"name": "pages"}, "config": {"selected": true, "syncMode": "full_refresh", "destinationSyncMode": "overwrite"}}
            ]},
            "scheduleData": {"cron": {"cronExpression": "0 30 6 ? * MON-FRI", "cronTimeZone": "Europe/Berlin"}}
        }));
        let connection = &imported.document["connections"]["shop-lake"];
        assert_eq!(connection["schedule"], json!({"cron": "30 6 * * MON-FRI", "timezone": "Europe/Berlin"}));
        assert_eq!(
            connection["streams"],
            json!([{"stream": "orders", "mode": "upsert", "key": ["id"]}, {"stream": "pages", "mode": "replace"}])
        );
        assert_eq!(connection["paused"], true);
        assert!(!imported.document.to_string().contains("hunter2"), "{}", imported.document);
    }

    #[test]
    fn intervals_and_what_cannot_be_carried_over() {
        let with = |schedule: Value| airbyte_schedule(&json!({"scheduleData": schedule}));
        assert_eq!(with(json!({"basicSchedule": {"units": 6, "timeUnit": "hours"}})), Ok(Some(json!({"every": "6h"}))));
        assert!(with(json!({"cron": {"cronExpression": "0 0 0 L * ?"}})).is_err());
        assert_eq!(with(json!({})), Ok(None));
        assert_eq!(meltano_schedule("@sometimes"), None);
        assert_eq!(slug("  A -- b!c "), "a-b-c");
        assert_eq!(slug("→"), "imported");
    }
}
