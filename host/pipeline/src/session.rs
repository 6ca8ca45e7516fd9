//! From a stored connection to what one run may do: secrets opened, placeholders in their place, grants expanded.
//!
//! Must never let a secret's value reach a log, an error or a stored row.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use thimble_plugin::{
    LogSink, Permissions, Session,
    egress::{Rehearsal, expand},
    secrets::{Secrets, secret_fields},
};
use thimble_record::{Failure, envelope::Keys};
use thimble_store::{ConnectionRow, PluginRow};

use crate::secrets::join_secrets;

/// Uniform in 0.0..1.0, for jitter: spread matters, secrecy does not.
pub fn jitter() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    let value = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    value
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
    keys: &Keys,
    log: Arc<dyn LogSink>,
    rehearsal: Rehearsal,
) -> Result<Session, Failure> {
    let config = join_secrets(connection.config.clone(), &connection.secret_row(), keys, &connection.secrets)?;
    let permissions: Permissions = serde_json::from_value(plugin.permissions.clone()).map_err(|error| {
        Failure::system(format!("plugin {}: its stored permissions cannot be read: {error}", plugin.name))
    })?;
    let fields = secret_fields(&plugin.config_schema, &config);
    let grants = expand(grants, &permissions.hosts, &config).map_err(|error| error.failure())?;
    let (config, secrets) = Secrets::conceal(&config, &fields, &permissions.reads_secrets, &mut random);
    Ok(Session { config, secrets, grants, log, rehearsal })
}
