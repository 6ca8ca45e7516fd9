//! A manifest as a page for people: what it reads, what it asks for, what was tried.

use std::fmt::Write;

use super::{Manifest, spec::SpecOut};
use crate::{limits::MAX_PAGE_BYTES, node::Node, value::Value};

/// Markdown, cut at a limit.
pub fn page(manifest: &Manifest, spec: &SpecOut) -> String {
    let root = manifest.root();
    let mut page = format!("# {}\n", spec.title);
    if let Some(text) = root.value.get("description").and_then(Value::as_str) {
        let _ = write!(page, "\n{}\n", text.trim());
    }
    if let Some(url) = root.get("spec").and_then(|spec| spec.value.get("documentation_url")?.as_str()) {
        let _ = write!(page, "\nDocumentation: <{}>\n", url.trim());
    }
    page.push_str(&streams(manifest));
    page.push_str(&settings(&spec.config_schema));
    page.push_str(&permissions(spec));
    page.push_str(&verified(&root));
    cut(page)
}

fn cut(mut page: String) -> String {
    const END: &str = "\n\n(cut)\n";
    if page.len() > MAX_PAGE_BYTES {
        let mut end = MAX_PAGE_BYTES - END.len();
        while !page.is_char_boundary(end) {
            end -= 1;
        }
        page.truncate(end);
        page.push_str(END);
    }
    page
}

/// A cell of a table: one line, its bars kept from ending it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn streams(manifest: &Manifest) -> String {
    let mut page = String::from("\n## Streams\n\n| stream | key | cursor | reads |\n|---|---|---|---|\n");
    for stream in manifest.streams() {
        let name = stream.value.get("name").and_then(Value::as_str).unwrap_or("?");
        let row = [name.to_owned(), key(&stream), cursor(&stream).unwrap_or_default(), method(&stream).to_owned()];
        let _ = writeln!(page, "| {} |", row.map(|text| cell(&text)).join(" | "));
    }
    for stream in manifest.dynamic_streams() {
        let name = stream.value.get("name").and_then(Value::as_str).unwrap_or("streams");
        let source = match stream.get("components_resolver").map(|resolver| resolver.kind()) {
            Some("HttpComponentsResolver") => "what the source lists",
            Some("ConfigComponentsResolver") => "the settings",
            _ => "a list in the manifest",
        };
        let _ = writeln!(page, "| {} (one for each item of {source}) | | | |", cell(name));
    }
    page
}

fn key(stream: &Node<'_>) -> String {
    let part = |part: &Value| match part {
        Value::List(path) => path.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("."),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    match stream.value.get("primary_key") {
        Some(Value::List(parts)) => parts.iter().map(part).collect::<Vec<_>>().join(", "),
        Some(other) => part(other),
        None => String::new(),
    }
}

fn incremental<'a>(stream: &Node<'a>) -> Option<Node<'a>> {
    stream.get("incremental_sync").or_else(|| stream.get("incremental_stream")?.get("incremental_sync"))
}

fn cursor(stream: &Node<'_>) -> Option<String> {
    incremental(stream)?.value.get("cursor_field")?.as_str().map(str::to_owned)
}

fn method(stream: &Node<'_>) -> &'static str {
    if incremental(stream).is_some() { "what is new since the last run" } else { "everything, every time" }
}

fn settings(schema: &Value) -> String {
    let mut rows = String::new();
    rows_of(schema, "", 0, &mut rows);
    if rows.is_empty() {
        return "\n## Settings\n\nNone.\n".into();
    }
    format!("\n## Settings\n\n| setting | type | | |\n|---|---|---|---|\n{rows}")
}

/// Deeper settings are told by their schema alone.
const SHOWN_LEVELS: usize = 4;

fn rows_of(schema: &Value, prefix: &str, depth: usize, rows: &mut String) {
    if depth >= SHOWN_LEVELS {
        return;
    }
    let listed = |key: &str| schema.get("required").and_then(Value::as_list).unwrap_or_default().contains(&key.into());
    for (key, property) in schema.get("properties").and_then(Value::as_map).into_iter().flatten() {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let text = |member: &str| property.get(member).and_then(Value::as_str).unwrap_or_default();
        let mut marks = Vec::new();
        if listed(key) {
            marks.push("required".to_owned());
        }
        if property.get("x-secret") == Some(&Value::Bool(true)) {
            marks.push("secret".to_owned());
        }
        if let Some(default) = property.get("default") {
            marks.push(format!("default `{}`", default.to_json()));
        }
        let said = if text("description").is_empty() { text("title") } else { text("description") };
        let row = [format!("`{name}`"), text("type").to_owned(), marks.join(", "), said.to_owned()];
        let _ = writeln!(rows, "| {} |", row.map(|text| cell(&text)).join(" | "));
        rows_of(property, &name, depth + 1, rows);
    }
    for key in ["oneOf", "anyOf"] {
        for choice in schema.get(key).and_then(Value::as_list).unwrap_or_default() {
            rows_of(choice, prefix, depth + 1, rows);
        }
    }
}

fn permissions(spec: &SpecOut) -> String {
    let mut page = String::from("\n## Permissions\n\n");
    if spec.hosts.is_empty() {
        page.push_str("It names no host.\n");
    }
    for host in &spec.hosts {
        let _ = writeln!(page, "- connects to `{host}`");
    }
    for secret in &spec.reads_secrets {
        let _ = writeln!(page, "- sees the value of the secret setting `{secret}`");
    }
    if let Some(mib) = spec.memory_mib {
        let _ = writeln!(page, "- uses up to {mib} MiB of memory");
    }
    page
}

/// `metadata.verified` and `metadata.not_verified`: lines of its author on what was tried against the source.
fn verified(root: &Node<'_>) -> String {
    let mut page = String::new();
    for (title, key) in [("Verified", "verified"), ("Not verified", "not_verified")] {
        let lines = root.get("metadata").map(|metadata| metadata.items(key)).unwrap_or_default();
        if lines.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {title}\n\n");
        for line in lines {
            let text = line.value.as_str().map_or_else(|| line.value.to_json(), str::to_owned);
            let _ = writeln!(page, "- {}", cell(&text));
        }
    }
    page
}
