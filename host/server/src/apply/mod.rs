//! Settings as files: sources, destinations, connections, notifiers and grants that a server is brought to.
//!
//! Owns the form of the file. What is to be done is decided in [`plan`], and done over the HTTP API, which checks
//! everything again.

pub mod plan;

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    config::{self, MAX_CONFIG_BYTES},
    context::read_input,
    exit::{CliError, Exit},
};

/// Most files of one folder.
const MAX_FILES: usize = 1_000;

/// What a file, or several together, want. Each value is the body that the API takes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// The workspace of everything in it that names none.
    pub workspace: Option<String>,
    /// Hosts by plugin: exactly these are granted.
    pub grants: BTreeMap<String, Vec<String>>,
    pub sources: BTreeMap<String, Map<String, Value>>,
    pub destinations: BTreeMap<String, Map<String, Value>>,
    pub connections: BTreeMap<String, Map<String, Value>>,
    pub notifiers: BTreeMap<String, Map<String, Value>>,
}

impl Wanted {
    /// Reads a file (YAML, TOML or JSON; `-` is standard input) or all such files of a folder.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        if !path.is_dir() {
            return Self::read_file(path);
        }
        let failed = |error: std::io::Error| CliError::io(format_args!("cannot read {}", path.display()), &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let extension = file.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "toml" | "json")) {
                files.push(file);
            }
            if files.len() > MAX_FILES {
                let message = format!("{} holds more than {MAX_FILES} files", path.display());
                return Err(CliError::new(Exit::Usage, message));
            }
        }
        files.sort();
        let mut all = Self::default();
        for file in files {
            all.join(Self::read_file(&file)?, &file)?;
        }
        Ok(all)
    }

    fn read_file(file: &Path) -> Result<Self, CliError> {
        let bytes = read_input(file, MAX_CONFIG_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| CliError::new(Exit::Usage, format!("{} is not UTF-8: {error}", file.display())))?;
        // JSON is YAML, too, and standard input has no extension.
        let yaml = file.as_os_str() == "-" || file.extension().is_some_and(|extension| extension == "json");
        let name = if yaml { file.with_extension("yaml") } else { file.to_owned() };
        let document = config::document(&name, &text, &|name| std::env::var(name).ok())?;
        serde_json::from_value(document)
            .map_err(|error| CliError::new(Exit::Usage, format!("{}: {error}", file.display())))
    }

    /// Adds what another file wants; what both name is an error.
    pub fn join(&mut self, other: Self, file: &Path) -> Result<(), CliError> {
        let Self { workspace, grants, mut sources, mut destinations, mut connections, mut notifiers } = other;
        if let Some(workspace) = workspace {
            let own = Value::from(workspace);
            for body in [&mut sources, &mut destinations, &mut connections, &mut notifiers]
                .into_iter()
                .flat_map(|all| all.values_mut())
            {
                body.entry("workspace").or_insert(own.clone());
            }
        }
        let taken = |what: &str, name: &str| {
            let message = format!("{}: {what} `{name}` is in another file already", file.display());
            Err(CliError::new(Exit::Usage, message))
        };
        for (name, hosts) in grants {
            if self.grants.insert(name.clone(), hosts).is_some() {
                return taken("the grants of", &name);
            }
        }
        for (what, all, more) in [
            ("source", &mut self.sources, sources),
            ("destination", &mut self.destinations, destinations),
            ("connection", &mut self.connections, connections),
            ("notifier", &mut self.notifiers, notifiers),
        ] {
            for (name, body) in more {
                if all.insert(name.clone(), body).is_some() {
                    return taken(what, &name);
                }
            }
        }
        Ok(())
    }

    /// The same with each thing's workspace written out.
    pub fn placed(self) -> Result<Self, CliError> {
        let mut placed = Self::default();
        placed.join(self, Path::new("the file"))?;
        Ok(placed)
    }
}

/// JSON Schema of the file, made from the API's own description.
pub fn schema() -> Value {
    let document = serde_json::to_value(thimble_control::openapi()).expect("a description is JSON");
    let definitions = document["components"]["schemas"].to_string().replace("#/components/schemas/", "#/$defs/");
    let definitions: Value = serde_json::from_str(&definitions).expect("another prefix leaves it JSON");
    let by_name = |body: &str, what: &str| {
        json!({
            "type": "object",
            "description": what,
            "additionalProperties": {"$ref": format!("#/$defs/{body}")}
        })
    };
    let mut used = Map::new();
    for body in ["SourceSpec", "DestinationSpec", "ConnectionSpec", "NotifierSpec"] {
        collect(&definitions, body, &mut used);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Thimble settings, for `thimble apply`",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "workspace": {"type": "string", "description": "The workspace of everything in the file that names none."},
            "grants": {
                "type": "object",
                "description": "Hosts by plugin: exactly these are granted.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}}
            },
            "sources": by_name("SourceSpec", "Sources by name."),
            "destinations": by_name("DestinationSpec", "Destinations by name."),
            "connections": by_name("ConnectionSpec", "Connections by name."),
            "notifiers": by_name("NotifierSpec", "Notifiers by name."),
        },
        "$defs": used
    })
}

/// Takes a definition over, and those that it refers to.
fn collect(definitions: &Value, name: &str, used: &mut Map<String, Value>) {
    if used.contains_key(name) {
        return;
    }
    let Some(definition) = definitions.get(name) else { return };
    used.insert(name.to_owned(), definition.clone());
    let mut pending = vec![definition];
    while let Some(node) = pending.pop() {
        match node {
            Value::Object(entries) => {
                if let Some(referred) = entries.get("$ref").and_then(Value::as_str) {
                    collect(definitions, referred.trim_start_matches("#/$defs/"), used);
                }
                pending.extend(entries.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_read_as_one_and_says_what_it_names_twice() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", "workspace: sales\nsources:\n  shop: {plugin: files, config: {url: 'http://a'}}\n");
        write("b.json", r#"{"grants": {"files": ["a"]}}"#);
        write("notes.txt", "not read");
        let wanted = Wanted::read(folder.path()).unwrap();
        assert_eq!(wanted.sources["shop"]["workspace"], "sales");
        assert_eq!(wanted.grants["files"], ["a"]);
        write("c.yaml", "sources:\n  shop: {plugin: files, config: {}}\n");
        let told = Wanted::read(folder.path()).unwrap_err().message;
        assert!(told.contains("c.yaml") && told.contains("source `shop`"), "{told}");
        write("c.yaml", "source: {}\n");
        assert!(Wanted::read(folder.path()).unwrap_err().message.contains("unknown field `source`"));
    }

    #[test]
    fn the_schema_knows_every_body_and_holds_what_it_refers_to() {
        let schema = schema();
        let text = schema.to_string();
        assert!(!text.contains("#/components/"));
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schema["$defs"].get(name).is_some(), "{name} is missing");
        }
        assert!(schema["$defs"]["ConnectionSpec"]["properties"].get("schedule").is_some());
    }
}
