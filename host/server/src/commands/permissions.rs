//! What a plugin asks for, in plain words.

use serde_json::{Value, json};
use thimble_plugin::{Permissions, egress::is_template};
use thimble_store::PluginRow;

use crate::exit::{CliError, Exit};

/// What the plugin asked for when it was installed.
pub fn of(plugin: &PluginRow) -> Result<Permissions, CliError> {
    serde_json::from_value(plugin.permissions.clone()).map_err(|error| {
        let message = format!("the stored permissions of plugin {} cannot be read: {error}", plugin.name);
        CliError::new(Exit::Failed, message)
    })
}

/// Sentences about what it asks for; `grants` are the patterns that it has.
pub fn sentences(permissions: &Permissions, grants: &[String]) -> Vec<String> {
    let Permissions { hosts, memory_mib, reads_secrets } = permissions;
    let mut lines: Vec<String> = hosts.iter().map(|host| host_sentence(host, grants)).collect();
    if hosts.is_empty() {
        lines.push("no network access".into());
    }
    for extra in grants.iter().filter(|grant| !hosts.contains(grant)) {
        lines.push(format!("connect to {extra} (granted by you; it did not ask for it)"));
    }
    if let Some(memory) = memory_mib {
        lines.push(format!("use up to {memory} MiB of memory for each part that it reads"));
    }
    for secret in reads_secrets {
        lines.push(format!("see the value of the secret setting `{secret}` (other secrets stay with the host)"));
    }
    lines
}

fn host_sentence(host: &str, grants: &[String]) -> String {
    let granted = if grants.iter().any(|grant| grant == host) { "" } else { " (not granted)" };
    let inner = host.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    match inner {
        Some(setting) if !setting.contains("{{") => {
            format!("connect to the host that a connection names in its setting `{}`{granted}", setting.trim())
        }
        _ if is_template(host) => format!("connect to {host}, filled in from a connection's settings{granted}"),
        _ => match host.strip_prefix("*.") {
            Some(domain) => format!("connect to any host under {domain}{granted}"),
            None => format!("connect to {host}{granted}"),
        },
    }
}

/// The settings of its configuration, one line each.
pub fn settings(schema: &Value) -> Vec<[String; 3]> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let describe = |(name, property): (&String, &Value)| {
        let text = |key: &str| property.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut marks = Vec::new();
        if required.contains(&name.as_str()) {
            marks.push("required".to_owned());
        }
        if property.get("x-secret") == Some(&json!(true)) {
            marks.push("secret".to_owned());
        }
        if let Some(default) = property.get("default") {
            marks.push(format!("default {default}"));
        }
        let marks = if marks.is_empty() { String::new() } else { format!(" [{}]", marks.join(", ")) };
        let said = if text("description").is_empty() { text("title") } else { text("description") };
        [name.clone(), text("type").to_owned(), format!("{}{marks}", said.lines().next().unwrap_or_default())]
    };
    properties.into_iter().flatten().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_sentences() {
        let permissions = Permissions {
            hosts: vec!["{{ url }}".into(), "*.example.com".into(), "api.test:8443".into()],
            memory_mib: Some(512),
            reads_secrets: vec!["password".into()],
        };
        let told = sentences(&permissions, &["api.test:8443".into(), "extra.test".into()]);
        assert_eq!(
            told,
            [
                "connect to the host that a connection names in its setting `url` (not granted)",
                "connect to any host under example.com (not granted)",
                "connect to api.test:8443",
                "connect to extra.test (granted by you; it did not ask for it)",
                "use up to 512 MiB of memory for each part that it reads",
                "see the value of the secret setting `password` (other secrets stay with the host)",
            ]
        );
        let none = Permissions { hosts: Vec::new(), memory_mib: None, reads_secrets: Vec::new() };
        assert_eq!(sentences(&none, &[]), ["no network access"]);
    }

    #[test]
    fn settings_show_what_matters() {
        let schema = json!({
            "required": ["url"],
            "properties": {
                "url": { "type": "string", "description": "Where.\nMore." },
                "key": { "type": "string", "title": "Key", "x-secret": true },
                "page": { "type": "integer", "default": 100 },
            },
        });
        let lines = settings(&schema);
        assert!(lines.contains(&["url".into(), "string".into(), "Where. [required]".into()]));
        assert!(lines.contains(&["key".into(), "string".into(), "Key [secret]".into()]));
        assert!(lines.contains(&["page".into(), "integer".into(), " [default 100]".into()]));
    }
}
