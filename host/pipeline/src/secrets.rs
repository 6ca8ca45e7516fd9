//! The secret settings of a stored row: taken out of its configuration when it is stored, put back for a run.
//!
//! Must never let a secret's value reach a log, an error or a stored row.

use serde_json::{Value, json};
use thimble_plugin::secrets::secret_fields;
use thimble_record::{
    ErrorKind, Failure,
    envelope::{EnvelopeError, Keys, SecretFields, SecretRow, open_fields, seal_fields},
};
use thimble_store::SealedSecrets;

/// Key of the object that stands for a secret in a stored configuration: `{"$secret": true}`.
pub const SECRET_MARK: &str = "$secret";

/// Takes the secrets out of a configuration: what is stored in the clear, and the sealed rest. `schema` is the JSON
/// Schema of the configuration; its secret fields carry `"x-secret": true`. A mark that the caller sent back unchanged
/// keeps the stored value.
pub fn split_secrets(
    mut config: Value,
    schema: &Value,
    row: &SecretRow,
    keys: &Keys,
    stored: Option<&SealedSecrets>,
) -> Result<(Value, SealedSecrets), Failure> {
    let old = stored.map(|sealed| open(sealed, row, keys)).transpose()?.unwrap_or_default();
    let mut secrets = SecretFields::new();
    for pointer in secret_fields(schema, &config) {
        let Some(value) = config.pointer_mut(&pointer) else { continue };
        let kept = if value.get(SECRET_MARK).is_some() { old.get(&pointer).cloned() } else { Some(value.clone()) };
        match kept {
            Some(Value::Null) => {}
            Some(secret) => {
                secrets.insert(pointer, secret);
                *value = json!({ SECRET_MARK: true });
            }
            None => {
                let message = format!("{row}: the setting {pointer} has no stored secret: give its value");
                return Err(Failure::new(ErrorKind::Config, message));
            }
        }
    }
    let sealed = seal_fields(keys, row, &secrets).map_err(|error| {
        let kind = match &error {
            EnvelopeError::TooLarge(_) | EnvelopeError::TooMany(_) => ErrorKind::Config,
            _ => ErrorKind::System,
        };
        Failure::new(kind, format!("{row}: {error}"))
    })?;
    Ok((config, SealedSecrets(sealed)))
}

/// A stored configuration with its secrets back in their places.
pub fn join_secrets(mut config: Value, row: &SecretRow, keys: &Keys, sealed: &SealedSecrets) -> Result<Value, Failure> {
    for (pointer, value) in open(sealed, row, keys)? {
        if let Some(place) = config.pointer_mut(&pointer) {
            *place = value;
        }
    }
    Ok(config)
}

fn open(sealed: &SealedSecrets, row: &SecretRow, keys: &Keys) -> Result<SecretFields, Failure> {
    open_fields(keys, row, &sealed.0).map_err(|error| {
        let why = match error {
            EnvelopeError::UnknownKey(id) => {
                format!("they were written under the host key {id}, which this host lacks")
            }
            _ => "they were changed, moved, or written under another host key".to_owned(),
        };
        let message = format!("{row}: its stored secrets cannot be opened: {why}; set them again");
        Failure::new(ErrorKind::Config, message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::envelope::HostKey;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"url": {"type": "string"},
            "auth": {"type": "object", "properties": {"token": {"type": "string", "x-secret": true}}}}})
    }

    #[test]
    fn secrets_go_out_and_come_back_and_marks_keep_them() {
        let keys = Keys::from(HostKey::from_bytes(&[1; 32]).unwrap());
        let row = SecretRow::connection("default", "orders");
        let config = json!({"url": "x", "auth": {"token": "hunter2"}});
        let (plain, sealed) = split_secrets(config.clone(), &schema(), &row, &keys, None).unwrap();
        assert_eq!(plain, json!({"url": "x", "auth": {"token": {"$secret": true}}}));
        assert_eq!(join_secrets(plain.clone(), &row, &keys, &sealed).unwrap(), config);
        let (again, kept) = split_secrets(plain.clone(), &schema(), &row, &keys, Some(&sealed)).unwrap();
        assert_eq!(join_secrets(again, &row, &keys, &kept).unwrap(), config);
        let error = split_secrets(plain.clone(), &schema(), &row, &keys, None).unwrap_err();
        assert!(error.message.contains("/auth/token has no stored secret"), "{error}");
        let elsewhere = SecretRow::connection("other", "orders");
        let error = join_secrets(plain, &elsewhere, &keys, &sealed).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Config);
        assert!(error.message.starts_with("connection orders: its stored secrets cannot be opened"), "{error}");
    }

    #[test]
    fn a_row_without_secrets_needs_no_key() {
        let keys = Keys::from(HostKey::from_bytes(&[1; 32]).unwrap());
        let row = SecretRow::connection("default", "orders");
        let (_, sealed) = split_secrets(json!({"url": "x"}), &schema(), &row, &keys, None).unwrap();
        assert!(sealed.0.is_empty());
    }
}
