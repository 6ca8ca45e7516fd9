//! From grants to patterns: a grant is a pattern, or a template that a connector's spec asked for, filled in from the
//! configuration.
//!
//! Must never put a setting's value into an error: it may be a secret.

use serde_json::Value;
use url::Url;

use super::{
    error::EgressError,
    pattern::{HostName, HostPattern, Origin, shown, split_port},
};

/// Patterns that the grants of one plugin may expand to.
const MAX_PATTERNS: usize = 10_000;

/// Expands `grants` over `config` (with its secrets in place).
///
/// A template such as `{{ url }}` or `{{ hosts.0 }}` takes the value of that setting: a URL gives its host and port, a
/// bare `name[:port]` stands as it is, an array gives one pattern an item, and an absent setting, or a URL that
/// names a bucket or a file instead of a host, gives none. Inside a longer text (`{{ account }}.example.com`,
/// `{{ host }}:{{ port }}`) the value may hold letters, digits, `-`, `_` and `.` only. A template must stand in
/// `spec_templates`; a value never widens it: no wildcards.
pub fn expand(grants: &[String], spec_templates: &[String], config: &Value) -> Result<Vec<HostPattern>, EgressError> {
    let mut patterns = Vec::new();
    for grant in grants {
        if !is_template(grant) {
            patterns.push(HostPattern::parse(grant)?);
        } else {
            refuse_unasked(grant, spec_templates)?;
            expand_template(grant, config, &mut patterns)?;
        }
        if patterns.len() > MAX_PATTERNS {
            return Err(bad(grant, format!("the grants name more than {MAX_PATTERNS} hosts")));
        }
    }
    Ok(patterns)
}

fn refuse_unasked(template: &str, spec_templates: &[String]) -> Result<(), EgressError> {
    if spec_templates.iter().any(|asked| squeezed(asked) == squeezed(template)) {
        return Ok(());
    }
    Err(bad(template, "the plugin does not ask for it; grant what `thimble plugin inspect` lists".into()))
}

/// Whether `grant` can be granted to a plugin that asks for `spec_templates`: a pattern, or a well-formed template of these.
/// What a template comes to is known only with a configuration.
pub fn check_grant(grant: &str, spec_templates: &[String]) -> Result<(), EgressError> {
    check_host(grant)?;
    if is_template(grant) { refuse_unasked(grant, spec_templates) } else { Ok(()) }
}

/// Whether a grant needs a configuration.
pub fn is_template(grant: &str) -> bool {
    grant.contains("{{")
}

/// Whether `text` can stand in `permissions.hosts`: a pattern or a well-formed template.
pub fn check_host(text: &str) -> Result<(), EgressError> {
    if is_template(text) { pieces(text).map(drop) } else { HostPattern::parse(text).map(drop) }
}

fn bad(template: &str, reason: String) -> EgressError {
    EgressError::BadTemplate { template: shown(template), reason }
}

/// Without white space, so that `{{url}}` and `{{ url }}` are the same.
fn squeezed(template: &str) -> String {
    template.split_whitespace().collect()
}

enum Piece<'a> {
    Text(&'a str),
    /// Dotted path of a setting.
    Setting(&'a str),
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, EgressError> {
    let mut rest = template.trim();
    let mut pieces = Vec::new();
    while let Some((text, tail)) = rest.split_once("{{") {
        let (path, tail) = tail.split_once("}}").ok_or_else(|| bad(template, "its braces are not closed".into()))?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        let path = path.trim();
        let fits = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !path.split('.').all(fits) {
            return Err(bad(template, "between the braces stands no name of a setting".into()));
        }
        pieces.push(Piece::Setting(path));
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn expand_template(template: &str, config: &Value, patterns: &mut Vec<HostPattern>) -> Result<(), EgressError> {
    let pieces = pieces(template)?;
    if let [Piece::Setting(path)] = pieces.as_slice() {
        for value in values(config, path) {
            let text = value.as_str().ok_or_else(|| bad(template, format!("the setting `{path}` is not a text")))?;
            let pattern =
                of_value(text).map_err(|reason| bad(template, format!("in the setting `{path}`, {reason}")))?;
            patterns.extend(pattern);
        }
        return Ok(());
    }
    let mut text = String::new();
    let mut filled = true;
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Setting(path) => filled &= fill(template, path, config, &mut text)?,
        }
    }
    if !filled {
        return Ok(());
    }
    // The wildcard, where there is one, is the template's own: values cannot hold one.
    let mut pattern = HostPattern::read(&text, Origin::Operator)
        .map_err(|_| bad(template, "what it expands to is no host".into()))?;
    pattern.set_origin(Origin::Configuration);
    patterns.push(pattern);
    Ok(())
}

/// Appends the value of a setting inside a longer text; false where the setting is absent.
fn fill(template: &str, path: &str, config: &Value, text: &mut String) -> Result<bool, EgressError> {
    match values(config, path).as_slice() {
        [] => return Ok(false),
        [Value::String(value)] => {
            if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                let reason = format!("the setting `{path}` holds more than letters, digits, `-`, `_` and `.`");
                return Err(bad(template, reason));
            }
            text.push_str(value);
        }
        [Value::Number(value)] => text.push_str(&value.to_string()),
        _ => return Err(bad(template, format!("the setting `{path}` is neither a text nor a number"))),
    }
    Ok(true)
}

/// The values at a dotted path: arrays on the way and at its end give every item, nulls and absent settings nothing.
fn values<'a>(config: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![config];
    for part in path.split('.') {
        found = found
            .into_iter()
            .flat_map(|value| match value {
                Value::Object(fields) => fields.get(part).into_iter().collect::<Vec<_>>(),
                Value::Array(items) => match part.parse::<usize>() {
                    Ok(index) => items.get(index).into_iter().collect(),
                    Err(_) => items.iter().filter_map(|item| item.get(part)).collect(),
                },
                _ => Vec::new(),
            })
            .collect();
    }
    let mut flat = Vec::new();
    for value in found {
        match value {
            Value::Array(items) => flat.extend(items.iter().filter(|item| !item.is_null())),
            Value::Null => {}
            value => flat.push(value),
        }
    }
    flat.retain(|value| value.as_str() != Some(""));
    flat
}

/// The host that a value names: `None` for URLs of buckets and files.
fn of_value(text: &str) -> Result<Option<HostPattern>, String> {
    let text = text.trim();
    if !text.contains("://") {
        return HostPattern::read(text, Origin::Configuration).map(Some).map_err(why);
    }
    let scheme = text.split("://").next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "s3" | "s3a" | "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "file") {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|error| format!("the URL cannot be read: {error}"))?;
    if matches!(scheme.as_str(), "http" | "https") && (!url.username().is_empty() || url.password().is_some()) {
        return Err("the URL has a user name before its host".into());
    }
    let host = url.host_str().ok_or("the URL has no host")?;
    let (host, _) = split_port(host).map_err(str::to_owned)?;
    let host = HostName::parse(host).map_err(|reason| format!("the host cannot be used: {reason}"))?;
    let port = url
        .port_or_known_default()
        .or_else(|| default_port(&scheme))
        .ok_or_else(|| format!("the URL has no port, and {scheme}:// has no usual one: write it"))?;
    Ok(Some(HostPattern::exact(host, Some(port), Origin::Configuration)))
}

fn why(error: EgressError) -> String {
    match error {
        EgressError::BadPattern { reason, .. } => reason.to_owned(),
        other => other.to_string(),
    }
}

/// Ports of schemes that the URL standard does not know.
fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "postgres" | "postgresql" => 5432,
        "mysql" | "mariadb" => 3306,
        "mongodb" => 27017,
        "redis" | "rediss" => 6379,
        "amqp" => 5672,
        "amqps" => 5671,
        "kafka" => 9092,
        "clickhouse" => 9000,
        "sqlserver" | "mssql" => 1433,
        "oracle" => 1521,
        "sftp" | "ssh" => 22,
        "ftps" => 990,
        "ldap" => 389,
        "ldaps" => 636,
        "imaps" => 993,
        "smtp" => 25,
        "smtps" => 465,
        _ => return None,
    })
}
