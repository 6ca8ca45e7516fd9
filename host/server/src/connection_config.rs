//! A connection's configuration on its way into the control database: checked against the plugin's schema, then its
//! secrets are taken out.
//!
//! Must never put a setting's value into an error: it may be a secret.

use jsonschema::{PatternOptions, ValidationError, error::ValidationErrorKind};
use serde_json::Value;
use thimble_control::SecretSealer;
use thimble_pipeline::{SECRET_MARK, join_secrets, split_secrets};
use thimble_plugin::secrets::secret_fields;
use thimble_record::{
    ErrorKind, Failure,
    envelope::{Keys, SecretRow},
};
use thimble_store::SealedSecrets;
use url::Url;

use crate::config::Problem;

/// Compiled size of one pattern in a plugin's schema.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// Seals configurations for the API and for the command line.
pub struct Sealer(pub Keys);

impl SecretSealer for Sealer {
    fn seal(
        &self,
        row: &SecretRow,
        config_schema: &Value,
        config: Value,
        stored: Option<&SealedSecrets>,
    ) -> Result<(Value, SealedSecrets), Failure> {
        check(row, config_schema, &config)?;
        refuse_open_passwords(row, config_schema, &config)?;
        split_secrets(config, config_schema, row, &self.0, stored)
    }

    fn open(&self, row: &SecretRow, config: Value, stored: &SealedSecrets) -> Result<Value, Failure> {
        join_secrets(config, row, &self.0, stored)
    }
}

/// A URL with a password in a setting that is not secret would be stored and shown in the clear.
fn refuse_open_passwords(row: &SecretRow, schema: &Value, config: &Value) -> Result<(), Failure> {
    let secret = secret_fields(schema, config);
    let mut waiting = vec![(String::new(), config)];
    while let Some((pointer, value)) = waiting.pop() {
        if secret.contains(&pointer) {
            continue;
        }
        let below = |name: &str| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(fields) => waiting.extend(fields.iter().map(|(name, value)| (below(name), value))),
            Value::Array(items) => {
                waiting.extend(items.iter().enumerate().map(|(index, value)| (below(&index.to_string()), value)));
            }
            Value::String(text) if Url::parse(text).is_ok_and(|url| url.password().is_some()) => {
                let setting = pointer.trim_start_matches('/').replace('/', ".");
                let message = format!(
                    "{row}: the setting `{setting}` holds a URL with a password, which would be shown; give the password \
                     in a setting that is secret"
                );
                return Err(Failure::new(ErrorKind::Config, message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a configuration against its schema. Marks of stored secrets stand for any value.
pub fn check(row: &SecretRow, schema: &Value, config: &Value) -> Result<(), Failure> {
    let validator = jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(schema)
        .map_err(|error| Failure::system(format!("{row}: its schema cannot be used: {}", error.masked())))?;
    let marked: Vec<String> = secret_fields(schema, config)
        .into_iter()
        .filter(|pointer| config.pointer(pointer).is_some_and(|value| value.get(SECRET_MARK).is_some()))
        .collect();
    let concerns_mark = |error: &ValidationError<'_>| {
        let at = error.instance_path().as_str();
        marked.iter().any(|pointer| at.starts_with(pointer.as_str()))
    };
    let wrong: Vec<_> = validator.iter_errors(config).filter(|error| !concerns_mark(error)).collect();
    // A misspelt key is often also a missing one; its own sentence helps more.
    let misspelt = wrong.iter().find(|error| {
        matches!(
            error.kind(),
            ValidationErrorKind::AdditionalProperties { .. } | ValidationErrorKind::UnevaluatedProperties { .. }
        )
    });
    let Some(first) = misspelt.or(wrong.first()) else { return Ok(()) };
    let more = match wrong.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Err(Failure::new(ErrorKind::Config, format!("{row}: {}{more}", sentence(first, schema))))
}

/// What is wrong, without the value.
fn sentence(error: &ValidationError<'_>, schema: &Value) -> String {
    let path = error.instance_path().as_str();
    let setting = path.trim_start_matches('/').replace('/', ".");
    let place = if setting.is_empty() { String::new() } else { format!(" under `{setting}`") };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let key = unexpected.first().map(String::as_str).unwrap_or_default();
            let known = known_keys(schema, path);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            match Problem::nearest(key, &known) {
                Some(nearest) => {
                    format!("unknown key `{key}` in its configuration{place}; did you mean `{nearest}`?")
                }
                None => format!(
                    "unknown key `{key}` in its configuration{place}; the keys known there are {}",
                    known.join(", ")
                ),
            }
        }
        ValidationErrorKind::Required { property } => {
            format!("its configuration lacks the key `{}`{place}", property.as_str().unwrap_or_default())
        }
        _ => format!("the setting `{setting}` is not right: {}", error.masked_with("the value")),
    }
}

/// Keys that the schema names at a place of the configuration, as far as plain `properties` and `items` lead there.
fn known_keys(schema: &Value, path: &str) -> Vec<String> {
    let mut at = schema;
    for part in path.split('/').skip(1) {
        let next = at.get("properties").and_then(|properties| properties.get(part)).or_else(|| at.get("items"));
        let Some(next) = next else { return Vec::new() };
        at = next;
    }
    let properties = at.get("properties").and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use thimble_record::envelope::HostKey;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["url"],
            "properties": {
                "url": { "type": "string" },
                "pages": { "type": "integer", "maximum": 10 },
                "password": { "type": "string", "minLength": 3, "x-secret": true },
                "auth": { "type": "object", "additionalProperties": false, "properties": { "token": { "type": "string", "x-secret": true } } },
            },
        })
    }

    fn told(config: &Value) -> String {
        check(&SecretRow::connection("default", "c"), &schema(), config).unwrap_err().message
    }

    #[test]
    fn mistakes_are_told_by_key_and_never_by_value() {
        assert_eq!(
            told(&json!({ "url": "x", "pasword": "hunter2" })),
            "connection c: unknown key `pasword` in its configuration; did you mean `password`?"
        );
        assert_eq!(told(&json!({})), "connection c: its configuration lacks the key `url`");
        assert_eq!(
            told(&json!({ "ulr": "x" })),
            "connection c: unknown key `ulr` in its configuration; did you mean `url`? (and 1 more)"
        );
        let nested = told(&json!({ "url": "x", "auth": { "tokn": "hunter2" } }));
        assert_eq!(nested, "connection c: unknown key `tokn` in its configuration under `auth`; did you mean `token`?");
        for config in [json!({ "url": ["hunter2"] }), json!({ "url": "x", "password": { "a": "hunter2" } })] {
            let message = told(&config);
            assert!(!message.contains("hunter2"), "{message}");
        }
        let message = told(&json!({ "url": "x", "pages": 77 }));
        assert!(message.contains("`pages`") && message.contains("10") && !message.contains("77"), "{message}");
    }

    #[test]
    fn passwords_in_urls_are_refused_where_they_would_be_shown() {
        let id = SecretRow::connection("default", "c");
        let key = Sealer(HostKey::generate().unwrap().into());
        for config in [
            json!({ "url": "https://me:hunter2@example.org" }),
            json!({ "url": "x", "more": [{ "u": "postgres://me:hunter2@h/db" }] }),
        ] {
            let schema = json!({ "type": "object", "properties": { "url": { "type": "string" } } });
            let message = key.seal(&id, &schema, config, None).unwrap_err().message;
            assert!(message.contains("holds a URL with a password") && !message.contains("hunter2"), "{message}");
        }
        let secret = json!({ "type": "object", "properties": { "url": { "type": "string", "x-secret": true } } });
        assert!(key.seal(&id, &secret, json!({ "url": "https://me:hunter2@example.org" }), None).is_ok());
        assert!(key.seal(&id, &schema(), json!({ "url": "https://me@example.org/a:b@c" }), None).is_ok());
    }

    #[test]
    fn marks_stand_for_stored_secrets() {
        let id = SecretRow::connection("default", "c");
        let config = json!({ "url": "x", "password": { "$secret": true } });
        check(&id, &schema(), &config).unwrap();
        let key = Sealer(HostKey::generate().unwrap().into());
        let (plain, sealed) = key.seal(&id, &schema(), json!({ "url": "x", "password": "hunter2" }), None).unwrap();
        assert_eq!(plain, config);
        let kept = key.seal(&id, &schema(), plain, Some(&sealed)).unwrap();
        assert_eq!(kept.0, config);
        assert_eq!(key.open(&id, kept.0, &kept.1).unwrap(), json!({ "url": "x", "password": "hunter2" }));
    }

    #[test]
    fn a_schema_that_points_elsewhere_is_refused() {
        let id = SecretRow::connection("default", "c");
        let schema = json!({ "$ref": "http://127.0.0.1:1/schema.json" });
        assert_eq!(check(&id, &schema, &json!({})).unwrap_err().kind, ErrorKind::System);
    }
}
