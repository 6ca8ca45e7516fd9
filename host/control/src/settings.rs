//! What the API is built from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use thimble_record::{
    ConnectionId, Failure, RejectedRow,
    envelope::{Keys, SecretRow},
};
use thimble_store::{SealedSecrets, Store};
use tokio_util::sync::CancellationToken;

use crate::{Clock, KeyRotation, Measures, MetricsSource, Packages, Signals, notify::Outbound};

/// Takes the secrets out of a row's configuration and puts them back.
pub trait SecretSealer: Send + Sync + 'static {
    /// Checks `config` against the schema, whose secret fields carry `"x-secret": true`, and answers what may be stored
    /// and shown in the clear (`{"$secret": true}` where a secret was) and the
    /// sealed secrets. A mark that comes back unchanged keeps the value in `stored`. Errors name the
    /// setting and hold no secret; those of kind `config` are shown to the client.
    fn seal(
        &self,
        row: &SecretRow,
        config_schema: &Value,
        config: Value,
        stored: Option<&SealedSecrets>,
    ) -> Result<(Value, SealedSecrets), Failure>;

    /// The stored configuration of the same row with its secrets in their places, for use at once: the answer must
    /// not be stored, logged or shown.
    fn open(&self, row: &SecretRow, config: Value, stored: &SealedSecrets) -> Result<Value, Failure>;
}

/// How the installation is watched. Cheap to clone.
#[derive(Clone)]
pub struct Observe {
    /// Sends test messages of notifiers.
    pub outbound: Arc<dyn Outbound>,
    /// Shared with [`crate::reconcile`].
    pub measures: Arc<Measures>,
    /// Further figures of this process.
    pub metrics: Arc<[Box<dyn MetricsSource>]>,
    /// Whether `/metrics` is for everybody who reaches it; otherwise it takes a token.
    pub open_metrics: bool,
}

impl Observe {
    /// Without figures of further parts, `/metrics` behind a token.
    pub fn new(outbound: Arc<dyn Outbound>) -> Self {
        Self { outbound, measures: Arc::default(), metrics: Arc::from(Vec::new()), open_metrics: false }
    }
}

/// What callers of the API may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiLimits {
    /// Requests a second by one token, in the long run.
    pub requests_per_second: u32,
    /// Requests at once by one token.
    pub request_burst: u32,
    /// Requests a minute from one address without a good token, in the long run.
    pub failed_logins_per_minute: u32,
    /// Open connections; further ones wait.
    pub connections: usize,
    /// How long a connection may take for the head of a request, its idle time before that included.
    pub header_timeout: Duration,
    /// Largest head of a request; at least 8 KiB.
    pub header_bytes: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 200,
            request_burst: 1_000,
            failed_logins_per_minute: 30,
            connections: 1_024,
            header_timeout: Duration::from_secs(30),
            header_bytes: 32 * 1024,
        }
    }
}

/// Reads what the destination of a connection holds of rejected records.
#[async_trait]
pub trait Rejects: Send + Sync + 'static {
    /// Those that no replay made rows of, by stream and sequence, after `after`; at most `limit`.
    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, Failure>;
}

/// Hands uploaded components to the other processes of an installation.
#[async_trait]
pub trait SharedUploads: Send + Sync + 'static {
    /// Keeps the component in `file` where whoever executes its install run finds it by its digest.
    async fn share(&self, digest: &str, file: &Path) -> Result<(), Failure>;

    /// Removes components that were put there before a time and are none of `kept`; answers how many.
    async fn prune(&self, kept: &BTreeSet<String>, put_before_ms: i64) -> Result<u64, Failure>;
}

/// Knows what can be granted.
pub trait GrantPatterns: Send + Sync + 'static {
    /// Whether a grant can be given to a plugin that asks for the hosts `asked`; else why not, in one sentence.
    fn check(&self, grant: &str, asked: &[String]) -> Result<(), String>;
}

/// What kinds of destinations there are.
pub trait DestinationKinds: Send + Sync + 'static {
    /// JSON Schema of the configuration by kind; secret fields carry `"x-secret": true`.
    fn schemas(&self) -> BTreeMap<String, Value>;

    /// Whether the configuration file has a destination of this name.
    fn configured(&self, name: &str) -> bool;
}

/// What the API is built from. Cheap to clone.
#[derive(Clone)]
pub struct ControlSettings {
    pub store: Store,
    /// The host keys; tokens are hashed under a key that hangs on them.
    pub keys: Keys,
    /// Changes them.
    pub rotation: Arc<dyn KeyRotation>,
    pub limits: ApiLimits,
    /// Folder for uploaded components that wait for their installation; must exist. A file is
    /// `<sha256>.wasm`; the install run's request names it as `{"blob": "<sha256>.wasm"}`, and whoever
    /// executes the run removes it.
    pub blobs_dir: PathBuf,
    /// Where other hosts may execute the install run.
    pub shared_uploads: Option<Arc<dyn SharedUploads>>,
    pub sealer: Arc<dyn SecretSealer>,
    pub rejects: Arc<dyn Rejects>,
    pub destination_kinds: Arc<dyn DestinationKinds>,
    pub grant_patterns: Arc<dyn GrantPatterns>,
    /// The registry, where the installation has one.
    pub packages: Option<Arc<dyn Packages>>,
    /// Shared with [`crate::reconcile`].
    pub signals: Signals,
    pub clock: Clock,
    pub observe: Observe,
    /// Fires when the process is about to end: waiting clients are answered at once.
    pub shutdown: CancellationToken,
}

impl ControlSettings {
    pub(crate) fn now_ms(&self) -> i64 {
        (self.clock)()
    }
}
