//! What the operator may choose, with every default and every limit in one place.
//!
//! The doc comments become the published JSON Schema. Must never read a file or the environment.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

#[cfg(test)]
use schemars::JsonSchema;
#[cfg(test)]
use serde::Serialize;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};
use thimble_plugin::egress::{PrivateNetwork, PrivateNetworks};

use thimble_control::ScheduleSettings;
use thimble_engine::{
    retry::{RetryPolicy, RunRetry},
    schedule::Schedule,
};
use thimble_pipeline::WorkerSettings;
use thimble_record::StreamSelection;

use super::{
    Api, ApiLimits, PluginLimits,
    units::{ByteSize, Span},
};

/// Configuration of Thimble. Text values may hold `${VAR}` and `${VAR:-default}`; `$$` stands for one `$`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(test, schemars(title = "Thimble configuration"))]
pub struct Config {
    /// Folder of the control database, the host key, the plugins, and by default of staging and lake. A
    /// relative path counts from the folder of this file. Default: `thimble-data` beside this file.
    pub data: Option<PathBuf>,
    /// File with the host keys, which open everything that is encrypted; the same on every host that shares a control
    /// database. It must be there: `thimble key generate` prints a first one. Default: `host.key` in the data folder,
    /// made at the first start. The environment variable THIMBLE_HOST_KEY_FILE outranks it.
    pub host_key_file: Option<PathBuf>,
    /// Address and port of the HTTP API.
    pub listen: Listen,
    /// What is logged, and how. Logs go to standard error.
    pub log: Log,
    /// Where traces and logs go besides standard error.
    pub telemetry: Telemetry,
    /// The HTTP API.
    pub api: Api,
    /// The control database: a file in the data folder, unless a PostgreSQL database is named here. With one, workers on
    /// other machines share the work; staging and destinations must then be places that all of them reach.
    pub store: ControlStore,
    /// Where encrypted segments wait until they are loaded.
    pub staging: ObjectStore,
    /// Where the records of connections go that name no destination.
    pub destination: Destination,
    /// Further destinations by name; a connection chooses one with `destination: NAME`.
    pub destinations: BTreeMap<String, Destination>,
    /// Folder of a registry: `index.json` and the components, as `thimble registry add` writes them.
    pub registry: Option<PathBuf>,
    /// The component that runs declarative manifests. Default: the installed plugin `rest`, then a file `rest.wasm`
    /// beside the program.
    pub rest_component: Option<PathBuf>,
    /// Every limit that the host enforces.
    pub limits: Limits,
    /// What connectors may reach, beyond their grants.
    pub network: Network,
    /// Connections by name (lower-case letters, digits, `-` and `_`, at most 64 bytes).
    pub connections: BTreeMap<String, Connection>,
}

/// An address and a port such as `127.0.0.1:8642`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(try_from = "String")]
#[cfg_attr(test, serde(into = "String"))]
pub struct Listen(pub SocketAddr);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let message = || "expected an address and a port such as 127.0.0.1:8642 or [::1]:8642".to_owned();
        text.parse().map(Self).map_err(|_| message())
    }
}

#[cfg(test)]
impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0.to_string()
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 8642)))
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,thimble_pipeline=debug`.
    pub level: String,
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Where traces and logs go besides standard error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// A collector of OpenTelemetry.
    pub otlp: Otlp,
}

/// A collector that takes OTLP over HTTP, in protobuf. The standard variables `OTEL_EXPORTER_OTLP_ENDPOINT`,
/// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_SERVICE_NAME` hold where this says nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Such as `http://localhost:4318`; `/v1/traces` and `/v1/logs` are added. Absent: nothing is exported.
    pub endpoint: Option<String>,
    /// Headers by name, such as a key of the collector's; best as `${VAR}`.
    pub headers: Options,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The control database.
#[derive(Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ControlStore {
    /// `postgres://user@host:port/database`, with `?sslmode=disable`, `prefer` (the default), `require`, `verify-ca` or
    /// `verify-full`. Default: the file `thimble.db` in the data folder.
    pub url: Option<String>,
    /// The user's password; best as `${VAR}`.
    pub password: Option<String>,
    /// PEM file with the certificates of authorities that are trusted instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// Most connections of one process, 2 to 1000.
    #[cfg_attr(test, schemars(range(min = 2, max = 1000)))]
    pub max_connections: u32,
}

impl Default for ControlStore {
    fn default() -> Self {
        Self { url: None, password: None, ca_file: None, max_connections: thimble_store::SERVER_CONNECTIONS }
    }
}

impl fmt::Debug for ControlStore {
    /// URL and password may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlStore").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

/// A place for objects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ObjectStore {
    /// `file:///path` or `s3://bucket/prefix`. Default: a folder inside the data folder.
    pub url: Option<String>,
    /// Options of the object store by name, such as `aws_region` or `aws_secret_access_key`.
    pub options: Options,
}

/// Options by name. May hold secrets.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(transparent)]
pub struct Options(pub BTreeMap<String, String>);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where records go: a lake, unless another kind is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Destination {
    /// The embedded lake: Parquet files in an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake: Option<ObjectStore>,
    /// A PostgreSQL database, version 15 or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresDestination>,
}

/// A PostgreSQL database that records are loaded into.
#[derive(Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostgresDestination {
    /// `postgres://user@host:port/database`, with `?sslmode=disable`, `prefer` (the default), `require` or
    /// `verify-full`. May hold the password; `password` is the better place.
    pub url: String,
    /// The user's password; best as `${VAR}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Schema of the tables. Default: one for each connection, with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// PEM file with the certificates of authorities that are trusted instead of the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// For connecting, TLS and logging in together.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// For one statement, a whole COPY included.
    #[serde(default = "statement_timeout")]
    pub statement_timeout: Span,
    /// Wait for a lock that somebody else holds.
    #[serde(default = "lock_timeout")]
    pub lock_timeout: Span,
}

fn connect_timeout() -> Span {
    Span::seconds(30)
}

fn statement_timeout() -> Span {
    Span::seconds(3600)
}

fn lock_timeout() -> Span {
    Span::seconds(60)
}

impl fmt::Debug for PostgresDestination {
    /// URL and password may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDestination").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Limits. A value over a limit is refused or rejected with a sentence that names the limit.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What one connector may use, send and receive.
    #[cfg_attr(test, schemars(schema_with = "super::schema::plugin_limits"))]
    pub plugin: PluginLimits,
    /// When a batch is closed.
    pub batch: BatchLimits,
    /// When a step that failed is tried again.
    pub retry: RetryLimits,
    /// What runs at the same time.
    pub workers: Workers,
    /// What a canary may read.
    pub canary: CanaryLimits,
    /// What is kept of ended runs.
    pub retention: Retention,
    /// What callers of the API may use up.
    pub api: ApiLimits,
}

/// When a batch is closed. A batch closes only at a checkpoint of the connector, at the first limit reached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BatchLimits {
    /// Bytes of one batch, as decoded columns in memory.
    pub max_bytes: ByteSize,
    /// Records in one batch, rejected ones included.
    pub max_rows: u64,
    /// Age of the first record in one batch: bounds how stale the destination can be.
    pub max_age: Span,
    /// Bytes that one partition may send without a checkpoint; they are held in memory until then.
    pub max_uncheckpointed: ByteSize,
    /// Bytes that wait between the connectors of a run and the decoder.
    pub max_queued: ByteSize,
}

impl Default for BatchLimits {
    /// The pipeline's own.
    fn default() -> Self {
        let WorkerSettings { batch, max_uncheckpointed_bytes, max_queued_bytes, .. } = WorkerSettings::default();
        Self {
            max_bytes: ByteSize(batch.max_bytes),
            max_rows: batch.max_rows,
            max_age: Span(Duration::from_millis(batch.max_age_ms)),
            max_uncheckpointed: ByteSize(max_uncheckpointed_bytes),
            max_queued: ByteSize(max_queued_bytes as u64),
        }
    }
}

/// When a step that failed is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RetryLimits {
    /// Attempts in all; 1 means no retry.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles from then on.
    pub base: Span,
    /// Longest wait.
    pub max_wait: Span,
    /// Longest wait that a source may ask for; one that asks for more ends the run instead.
    pub max_retry_after: Span,
}

impl Default for RetryLimits {
    /// The pipeline's own.
    fn default() -> Self {
        let RetryPolicy { max_attempts, base_ms, max_wait_ms, max_retry_after_ms } = RetryPolicy::default();
        let span = |millis| Span(Duration::from_millis(millis));
        Self {
            max_attempts,
            base: span(base_ms),
            max_wait: span(max_wait_ms),
            max_retry_after: span(max_retry_after_ms),
        }
    }
}

/// What runs at the same time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Runs at a time in one server, 1 to 1024.
    #[cfg_attr(test, schemars(range(min = 1, max = 1024)))]
    pub runs: u32,
    /// Memory that the runs of one server may take together, as far as is known beforehand: what each plugin asks for, 128MiB
    /// where it asks for nothing. A run that needs more than all of it runs alone. Default: 60 % of the machine's or
    /// container's memory.
    pub memory: Option<ByteSize>,
    /// Partitions that one run reads at a time, 1 to 256.
    #[cfg_attr(test, schemars(range(min = 1, max = 256)))]
    pub partitions: u32,
    /// How long a run's lease lasts without renewal: how soon another process may take over after a crash.
    pub lease: Span,
    /// Threads of the runtime, 1 to 256. Default: one for each core, at most 8.
    #[cfg_attr(test, schemars(range(min = 1, max = 256)))]
    pub threads: Option<u32>,
}

impl Default for Workers {
    fn default() -> Self {
        Self { runs: 16, memory: None, partitions: 4, lease: Span::seconds(6), threads: None }
    }
}

/// What a canary may read: another version of a plugin, on a sync that was recorded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CanaryLimits {
    /// Records of one stream.
    pub max_records: u64,
    /// Bytes of one stream, as the connector hands them over.
    pub max_bytes: ByteSize,
    /// Time for all streams together.
    pub max_time: Span,
}

impl Default for CanaryLimits {
    /// The pipeline's own.
    fn default() -> Self {
        let thimble_pipeline::CanaryLimits { max_records, max_bytes, max_time_ms } = WorkerSettings::default().canary;
        Self { max_records, max_bytes: ByteSize(max_bytes), max_time: Span(Duration::from_millis(max_time_ms)) }
    }
}

/// What is kept of ended runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Age after which the logs of ended runs are removed.
    pub logs: Span,
    /// Age after which ended runs are removed.
    pub runs: Span,
}

impl Default for Retention {
    fn default() -> Self {
        Self { logs: Span::seconds(30 * 86_400), runs: Span::seconds(365 * 86_400) }
    }
}

/// What connectors may reach, beyond their grants.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Which private networks a granted host name may lead to: `true` for loopback, private and carrier-NAT addresses,
    /// or a list of networks (`10.0.0.0/8`) and names (`db.internal`). An address that was granted itself is always
    /// allowed.
    #[serde(deserialize_with = "private_networks")]
    #[cfg_attr(test, schemars(schema_with = "super::schema::private_networks"))]
    pub allow_private_networks: PrivateNetworks,
    /// PEM file with certificates of further authorities that connectors' TLS trusts, besides Mozilla's.
    pub extra_ca_file: Option<PathBuf>,
}

/// As the type's own reader, which can say neither the line nor what is wrong.
fn private_networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateNetworks, D::Error> {
    struct Networks;

    impl<'de> Visitor<'de> for Networks {
        type Value = PrivateNetworks;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, or a list of networks such as 10.0.0.0/8 and names")
        }

        fn visit_bool<E>(self, any: bool) -> Result<PrivateNetworks, E> {
            Ok(PrivateNetworks::Any(any))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<PrivateNetworks, E> {
            let flag = text.parse().map_err(|_| E::invalid_type(Unexpected::Str(text), &self))?;
            Ok(PrivateNetworks::Any(flag))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<PrivateNetworks, A::Error> {
            let mut networks = Vec::new();
            while let Some(text) = items.next_element::<String>()? {
                networks.push(text.parse::<PrivateNetwork>().map_err(A::Error::custom)?);
            }
            Ok(PrivateNetworks::Only(networks))
        }
    }

    deserializer.deserialize_any(Networks)
}

/// A connection: one source, its configuration and the streams wanted.
#[derive(Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Serialize, JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Name of an installed plugin.
    pub plugin: String,
    /// The connector's own configuration, checked against the plugin's schema. May hold `${VAR}`, which is
    /// always put in as text.
    #[serde(default = "empty_object")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>"))]
    pub config: serde_json::Value,
    /// One of `destinations`, by name. Default: `destination`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// How old its rows in the destination may become before an alert opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Span>,
    /// The streams wanted. Empty or absent: all of them. The name `*` stands for every stream that is not named.
    #[serde(default)]
    pub streams: Vec<StreamSelection>,
    /// When `thimble serve` syncs it by itself. Absent: only when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Schedules of single streams, by name. The connection's own leaves these streams out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stream_schedules: BTreeMap<String, Schedule>,
    /// When a scheduled run that failed is run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RunRetry>,
    /// A run that takes longer is stopped and counts as failed. Absent: it may take its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Span>,
}

impl Connection {
    /// When it runs by itself and what follows a failure.
    pub fn schedules(&self) -> ScheduleSettings {
        ScheduleSettings {
            schedule: self.schedule.clone(),
            stream_schedules: self.stream_schedules.clone(),
            retry: self.retry,
            max_duration: self.max_duration,
        }
    }
}

impl fmt::Debug for Connection {
    /// The configuration may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            config: _,
            destination,
            freshness: _,
            streams,
            schedule,
            stream_schedules,
            retry,
            max_duration,
        } = self;
        let mut shown = f.debug_struct("Connection");
        shown.field("plugin", plugin).field("destination", destination).field("streams", streams);
        shown.field("schedule", schedule).field("stream_schedules", stream_schedules);
        shown.field("retry", retry).field("max_duration", max_duration);
        shown.finish_non_exhaustive()
    }
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}
