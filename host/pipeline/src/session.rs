//! From a stored connection to what one run may do: secrets opened, placeholders in their place, grants expanded.
//!
//! Must never let a secret's value reach a log, an error or a stored row.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use serde_json::{Map, Value, json};
use thimble_plugin::{
    LogSink, Permissions, Session,
    egress::expand,
    secrets::{Secrets, secret_fields},
};
use thimble_record::{ConnectionId, ErrorKind, Failure, envelope::HostKey};
use thimble_store::{ConnectionRow, PluginRow, SealedSecrets};

/// Key of the object that stands for a secret in a stored configuration: `{"$secret": true}`.
pub const SECRET_MARK: &str = "$secret";

/// Uniform in 0.0..1.0, for jitter: spread matters, secrecy does not.
pub fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    let value = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    value
}

fn associated_data(connection: &ConnectionId) -> Vec<u8> {
    format!("connection-secrets/{connection}").into_bytes()
}

/// Takes the secrets out of a configuration: what is stored in the clear, and the sealed rest. A mark that the caller sent
/// back unchanged keeps the stored value.
pub fn split_secrets(
    mut config: Value,
    config_schema: &Value,
    connection: &ConnectionId,
    key: &HostKey,
    stored: Option<&SealedSecrets>,
) -> Result<(Value, SealedSecrets), Failure> {
    let old = stored.map(|sealed| open_secrets(sealed, connection, key)).transpose()?.unwrap_or_default();
    let mut secrets = Map::new();
    for pointer in secret_fields(config_schema, &config) {
        let Some(value) = config.pointer_mut(&pointer) else { continue };
        let kept = if value.get(SECRET_MARK).is_some() { old.get(&pointer).cloned() } else { Some(value.clone()) };
        match kept {
            Some(Value::Null) => {}
            Some(secret) => {
                secrets.insert(pointer, secret);
                *value = json!({ SECRET_MARK: true });
            }
            None => {
                let message =
                    format!("connection {connection}: the setting {pointer} has no stored secret: give its value");
                return Err(Failure::new(ErrorKind::Config, message));
            }
        }
    }
    let plain = serde_json::to_vec(&secrets).expect("a map of JSON values always serializes");
    let sealed = key.seal(&associated_data(connection), &plain).map_err(|error| Failure::system(error.to_string()))?;
    Ok((config, SealedSecrets(sealed)))
}

fn open_secrets(
    sealed: &SealedSecrets,
    connection: &ConnectionId,
    key: &HostKey,
) -> Result<Map<String, Value>, Failure> {
    if sealed.0.is_empty() {
        return Ok(Map::new());
    }
    let unreadable = || {
        let message = format!(
            "connection {connection}: its stored secrets cannot be opened with this host's key: set them again"
        );
        Failure::new(ErrorKind::Config, message)
    };
    let plain = key.open(&associated_data(connection), &sealed.0).map_err(|_| unreadable())?;
    serde_json::from_slice(&plain).map_err(|_| unreadable())
}

/// 128 random bits for a placeholder, which must not be guessed by a guest of another run.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers once it has started");
    bytes
}

/// What a run of this connection may do.
pub fn session(
    connection: &ConnectionRow,
    plugin: &PluginRow,
    grants: &[String],
    key: &HostKey,
    log: Arc<dyn LogSink>,
) -> Result<Session, Failure> {
    let mut config = connection.config.clone();
    for (pointer, value) in open_secrets(&connection.secrets, &connection.id, key)? {
        if let Some(place) = config.pointer_mut(&pointer) {
            *place = value;
        }
    }
    let permissions: Permissions = serde_json::from_value(plugin.permissions.clone()).map_err(|error| {
        Failure::system(format!("plugin {}: its stored permissions cannot be read: {error}", plugin.name))
    })?;
    let fields = secret_fields(&plugin.config_schema, &config);
    let grants = expand(grants, &permissions.hosts, &config).map_err(|error| error.failure())?;
    let (config, secrets) = Secrets::conceal(&config, &fields, &permissions.reads_secrets, &mut random);
    Ok(Session { config, secrets, grants, log })
}
