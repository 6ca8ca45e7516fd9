//! What a manifest says of itself: its settings, the hosts it talks to, the secrets it sees, and a page for the operator.

use super::{Finding, Manifest, about, finding::Findings, hosts::hosts, secrets, settings};
use crate::{limits::MAX_NAME_BYTES, node::Node, value::Value};

#[derive(Debug, Clone, PartialEq)]
pub struct SpecOut {
    /// For a registry: lower-case letters, digits and `-`.
    pub name: String,
    pub title: String,
    /// Markdown.
    pub docs: String,
    /// JSON Schema of the manifest's own configuration, wherever that stands.
    pub config_schema: Value,
    /// Dotted names inside the manifest's configuration; `*` for items.
    pub secret_fields: Vec<String>,
    /// Patterns and templates; settings stand under the prefix.
    pub hosts: Vec<String>,
    /// Dotted names under the prefix.
    pub reads_secrets: Vec<String>,
    pub memory_mib: Option<u32>,
    /// About settings, hosts and secrets.
    pub findings: Vec<Finding>,
}

/// Reads all of it out of a manifest whose configuration stands under `prefix` (`""`, or such as `config`).
pub fn spec(manifest: &Manifest, prefix: &str) -> SpecOut {
    let root = manifest.root();
    let mut findings = Findings::default();
    let config_schema = settings::schema(&root, &mut findings);
    let secret_fields = settings::secrets(&config_schema);
    let hosts = hosts(&root, prefix, &mut findings);
    let reads_secrets = secrets::read(&root, &secret_fields, prefix, &mut findings);
    let memory = root.get("permissions").and_then(|permissions| permissions.value.get("memory_mib")?.as_int());
    let title = title(&root, &hosts);
    let mut spec = SpecOut {
        name: name(&root, &title),
        title,
        docs: String::new(),
        config_schema,
        secret_fields,
        hosts,
        reads_secrets,
        memory_mib: memory.and_then(|mib| u32::try_from(mib).ok()),
        findings: findings.into_list(),
    };
    spec.docs = about::page(manifest, &spec);
    spec
}

fn metadata<'a>(root: &Node<'a>, key: &str) -> Option<&'a str> {
    let text = root.get("metadata")?.value.get(key)?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}

/// In the manifest's own words, else after its documentation or its first host.
fn title(root: &Node<'_>, hosts: &[String]) -> String {
    let spec = root.get("spec");
    let said = || spec.as_ref()?.get("connection_specification")?.value.get("title")?.as_str();
    let page =
        || spec.as_ref()?.value.get("documentation_url")?.as_str()?.split_once("/sources/").map(|(_, name)| name);
    let titled = |name: &str| {
        let words = name.trim_matches(['/', '"']).split(['-', '_', '/']).filter(|word| !word.is_empty());
        words.map(capitalized).collect::<Vec<_>>().join(" ")
    };
    let title = metadata(root, "title")
        .or_else(said)
        .map(str::to_owned)
        .or_else(|| page().map(titled))
        .or_else(|| hosts.iter().find_map(|host| owner(host)).map(titled))
        .unwrap_or_default();
    let mut words: Vec<&str> = title.split_whitespace().collect();
    while words.len() > 1 && words.last().is_some_and(|word| FILLERS.contains(word)) {
        words.pop();
    }
    if words.len() > 1 && words[0] == "Source" {
        words.remove(0);
    }
    let title: String = words.join(" ").chars().filter(|letter| !letter.is_control()).take(200).collect();
    if title.is_empty() { "REST API".into() } else { title }
}

/// Last words of titles that say nothing.
const FILLERS: [&str; 6] = ["Spec", "spec", "Specification", "Connector", "Source", "Configuration"];

/// Labels of hosts that many have.
const COMMON_LABELS: [&str; 8] = ["api", "apis", "app", "www", "rest", "com", "co", "org"];

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The label of a host that names who runs it.
fn owner(host: &str) -> Option<&str> {
    let labels: Vec<&str> = host.split('.').collect();
    let (_, labels) = labels.split_last()?;
    let names = |label: &&&str| !COMMON_LABELS.contains(label) && !label.contains(['{', '}', '*', ':']);
    labels.iter().rev().find(names).copied()
}

fn name(root: &Node<'_>, title: &str) -> String {
    let mut name = String::new();
    for letter in metadata(root, "name").unwrap_or(title).to_lowercase().chars() {
        if letter.is_ascii_alphanumeric() {
            name.push(letter);
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.truncate(MAX_NAME_BYTES);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "rest-api".into() } else { name.to_owned() }
}
