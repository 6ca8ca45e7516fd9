//! From a stored connection to what one run may do: secrets opened, placeholders in their place, grants expanded.
//!
//! Must never let a secret's value reach a log, an error or a stored row.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use thimble_plugin::{
    Connector, LogLevel, LogSink, Permissions, Session,
    egress::{Rehearsal, RunServices, TokenKeeper, expand},
    secrets::{Secrets, secret_fields},
};
use thimble_record::{ConnectionId, Failure, envelope::Keys};
use thimble_store::{ConnectionRow, PluginRow};

use crate::{
    events::{EventSink, RunEvent},
    keeper::Keeper,
    request::Backfill,
    secrets::join_secrets,
    worker::{Worker, failed},
};

/// A connection with all that a run of it needs.
pub(crate) struct Loaded {
    pub connection: ConnectionRow,
    pub plugin: PluginRow,
    pub connector: Arc<dyn Connector>,
    pub session: Session,
}

struct EventLog(Arc<dyn EventSink>);

impl LogSink for EventLog {
    fn line(&self, level: LogLevel, message: &str) {
        self.0.event(RunEvent::Log { level: format!("{level:?}").to_lowercase(), message: message.to_owned() });
    }

    fn denied(&self, host: &str, message: &str) {
        self.0.event(RunEvent::EgressDenied { host: host.to_owned(), message: message.to_owned() });
    }
}

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

impl Worker {
    /// A connection with its settings as they are stored, but for those that a backfill changes.
    pub(crate) async fn open(
        &self,
        id: &ConnectionId,
        events: Arc<dyn EventSink>,
        backfill: Option<&Backfill>,
    ) -> Result<Loaded, Failure> {
        self.open_version(id, events, backfill, None).await
    }

    /// With another version of its plugin than the one in use.
    pub(crate) async fn open_version(
        &self,
        id: &ConnectionId,
        events: Arc<dyn EventSink>,
        backfill: Option<&Backfill>,
        version: Option<PluginRow>,
    ) -> Result<Loaded, Failure> {
        let mut connection = self.store.connection(id).await.map_err(|e| failed(&e))?;
        if let (Some(backfill), Some(config)) = (backfill, connection.config.as_object_mut()) {
            config.extend(backfill.config.clone());
        }
        let plugin = match version {
            Some(version) => version,
            None => self.store.plugin(&connection.plugin).await.map_err(|e| failed(&e))?,
        };
        let grants = self.store.grants(&plugin.name).await.map_err(|e| failed(&e))?;
        let keeper = Keeper::new(self.store.clone(), self.keys.clone(), connection.secret_row());
        let log = Arc::new(EventLog(events));
        let session =
            session(&connection, &plugin, &grants, &self.keys, Some(Arc::new(keeper)), log, self.rehearsal.clone())?;
        let connector = self.plugins.load(&plugin.digest).await.map_err(|error| error.failure())?;
        Ok(Loaded { connection, plugin, connector, session })
    }
}

/// What a run of this connection may do.
fn session(
    connection: &ConnectionRow,
    plugin: &PluginRow,
    grants: &[String],
    keys: &Keys,
    keeper: Option<Arc<dyn TokenKeeper>>,
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
    let row = connection.secret_row();
    let services = RunServices::new(&format!("{}/{}/{}", row.workspace, row.kind, row.name), keeper);
    Ok(Session { config, secrets, grants, log, services, rehearsal })
}
