//! A running server and a client of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use thimble_control::{
    ApiLimits, ControlSettings, DestinationKinds, GrantPatterns, KeyRotation, Observe, ReconcileSettings, Rejects,
    Role, SecretSealer, SecretToken, Signals,
    notify::{Mail, Outbound, OutboundError, Post},
    reconcile, serve, system_clock, token_digest, token_id,
};
use thimble_record::{
    ConnectionId, ErrorKind, Failure, Rejected, RejectedRow,
    envelope::{HostKey, KeyId, KeyRing, KeySource, Keys, SecretFields, SecretRow, open_fields, seal_fields},
};
use thimble_store::{ConnectionRow, PluginRow, SealedSecrets, Store, TokenRow};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::Recorder;

pub const TOKEN: &str = "correct-horse-battery-staple";
const LONG: Duration = Duration::from_secs(600);

/// Seals the top-level `x-secret` settings with a real host key.
pub struct Sealer(pub Keys);

impl SecretSealer for Sealer {
    fn seal(
        &self,
        row: &SecretRow,
        config_schema: &Value,
        mut config: Value,
        stored: Option<&SealedSecrets>,
    ) -> Result<(Value, SealedSecrets), Failure> {
        let old = stored.map(|sealed| open_fields(&self.0, row, &sealed.0).unwrap()).unwrap_or_default();
        let mut secrets = SecretFields::new();
        for (name, field) in config_schema["properties"].as_object().unwrap() {
            if field["x-secret"] != true || config.get(name).is_none() {
                continue;
            }
            let pointer = format!("/{name}");
            let given = std::mem::replace(&mut config[name], json!({"$secret": true}));
            let value = if given == json!({"$secret": true}) { old.get(&pointer).cloned() } else { Some(given) };
            let value = value.ok_or_else(|| {
                Failure::new(ErrorKind::Config, format!("the setting {name} has no stored secret: give its value"))
            })?;
            secrets.insert(pointer, value);
        }
        Ok((config, SealedSecrets(seal_fields(&self.0, row, &secrets).unwrap())))
    }

    fn open(&self, row: &SecretRow, mut config: Value, stored: &SealedSecrets) -> Result<Value, Failure> {
        for (pointer, value) in open_fields(&self.0, row, &stored.0).unwrap() {
            *config.pointer_mut(&pointer).unwrap() = value;
        }
        Ok(config)
    }
}

/// Sends nothing: real receivers are tested with the real program.
struct Nowhere;

#[async_trait::async_trait]
impl Outbound for Nowhere {
    async fn post(&self, _: Post, _: Duration) -> Result<u16, OutboundError> {
        Err(OutboundError::Failed("nowhere to send it".into()))
    }

    async fn mail(&self, _: Mail, _: Duration) -> Result<(), OutboundError> {
        Err(OutboundError::Failed("nowhere to send it".into()))
    }
}

impl DestinationKinds for Nowhere {
    fn schemas(&self) -> BTreeMap<String, Value> {
        let properties = json!({"url": {"type": "string"}, "password": {"type": "string", "x-secret": true}});
        [("postgres".to_owned(), json!({"type": "object", "properties": properties}))].into()
    }

    fn configured(&self, name: &str) -> bool {
        name == "configured"
    }
}

impl GrantPatterns for Nowhere {
    fn check(&self, grant: &str, asked: &[String]) -> Result<(), String> {
        if grant.contains('!') {
            Err(format!("{grant} is no pattern; {} was asked for", asked.join(", ")))
        } else {
            Ok(())
        }
    }
}

/// The connection `rejecting` has rejected records without end.
#[async_trait::async_trait]
impl Rejects for Nowhere {
    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, Failure> {
        if connection.as_str() != "rejecting" {
            return Ok(Vec::new());
        }
        let first = after.map_or(0, |(_, sequence)| sequence) + 1;
        let row = |sequence| RejectedRow {
            rejected: Rejected::new("s", "not-an-object", "it is none", "1"),
            sequence,
            plugin_digest: String::new(),
            replayed_at: None,
        };
        Ok((first..first + limit as i64).map(row).collect())
    }
}

/// A ring in memory, as the key file would hold it.
pub struct Ring(RwLock<Arc<KeyRing>>);

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(HostKey::from_bytes(&[7; 32]).unwrap().into()))))
    }

    pub fn keys(self: &Arc<Self>) -> Keys {
        Keys::new(self.clone())
    }

    pub fn change(&self, change: impl FnOnce(&KeyRing) -> KeyRing) {
        let mut ring = self.0.write().unwrap();
        *ring = Arc::new(change(&ring));
    }
}

impl KeySource for Ring {
    fn ring(&self) -> Arc<KeyRing> {
        self.0.read().unwrap().clone()
    }
}

impl KeyRotation for Ring {
    fn rotate(&self, now_ms: i64) -> Result<(), Failure> {
        let now = chrono::DateTime::from_timestamp_millis(now_ms).unwrap();
        let rotated = self.ring().rotated(HostKey::generate().unwrap(), now);
        let rotated = rotated.ok_or_else(|| Failure::new(ErrorKind::Config, "the ring is full"))?;
        self.change(|_| rotated);
        Ok(())
    }

    fn retire(&self, current: KeyId) -> Result<(), Failure> {
        assert_eq!(self.ring().current().id(), current);
        self.change(KeyRing::retired);
        Ok(())
    }
}

/// Limits that no test meets by accident.
pub fn wide() -> ApiLimits {
    ApiLimits {
        requests_per_second: 1_000_000,
        request_burst: 1_000_000,
        failed_logins_per_minute: 60_000_000,
        ..ApiLimits::default()
    }
}

pub struct Server {
    folder: TempDir,
    pub address: SocketAddr,
    pub store: Store,
    pub signals: Signals,
    pub recorder: Arc<Recorder>,
    pub ring: Arc<Ring>,
    pub shutdown: CancellationToken,
    pub stop_reconciler: CancellationToken,
    pub serving: JoinHandle<std::io::Result<()>>,
    pub reconciling: Option<JoinHandle<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A reconciler that only signals wake.
pub fn only_by_signal() -> ReconcileSettings {
    ReconcileSettings { tick: LONG, heartbeat: LONG, ..ReconcileSettings::new("here") }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }

    /// Checks the shape of a problem and answers its sentence.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.json);
        assert_eq!((self.status.as_u16(), self.json["status"].as_u64()), (status, Some(status.into())));
        assert_eq!(self.json["type"], format!("urn:thimble:problem:{code}"), "{}", self.json);
        assert!(!self.json["title"].as_str().unwrap().is_empty());
        self.json["detail"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// Without a reconciler: runs stay queued.
    pub async fn without_reconciler() -> Self {
        Self::build(None, wide()).await
    }

    pub async fn new() -> Self {
        Self::build(Some(only_by_signal()), wide()).await
    }

    pub async fn with(settings: ReconcileSettings) -> Self {
        Self::build(Some(settings), wide()).await
    }

    /// Without a reconciler, within these limits.
    pub async fn limited(limits: ApiLimits) -> Self {
        Self::build(None, limits).await
    }

    /// A token made now.
    pub async fn token(&self, name: &str, role: Role, workspace: Option<&str>, expires_at: Option<i64>) -> String {
        let secret = SecretToken::generate().unwrap();
        self.add_token(secret.expose(), name, role, workspace, expires_at).await;
        secret.expose().to_owned()
    }

    pub async fn add_token(
        &self,
        text: &str,
        name: &str,
        role: Role,
        workspace: Option<&str>,
        expires_at: Option<i64>,
    ) -> TokenRow {
        let row = TokenRow {
            id: token_id(&self.ring.keys(), text),
            name: name.into(),
            workspace: workspace.map(str::to_owned),
            role: role.word().into(),
            created_at: 1,
            created_by: "test".into(),
            expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        self.store.add_token(&row, &token_digest(&self.ring.keys(), text)).await.unwrap();
        row
    }

    async fn build(reconciler: Option<ReconcileSettings>, limits: ApiLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs_dir = folder.path().join("blobs");
        std::fs::create_dir(&blobs_dir).unwrap();
        let store = Store::open(&folder.path().join("thimble.db")).await.unwrap();
        let (signals, shutdown, stop_reconciler) =
            (Signals::default(), CancellationToken::new(), CancellationToken::new());
        let rotation = Ring::new();
        let settings = ControlSettings {
            shared_uploads: None,
            store: store.clone(),
            keys: rotation.keys(),
            rotation: rotation.clone(),
            limits,
            blobs_dir,
            sealer: Arc::new(Sealer(rotation.keys())),
            signals: signals.clone(),
            clock: reconciler.as_ref().map_or_else(system_clock, |settings| settings.clock.clone()),
            observe: Observe::new(Arc::new(Nowhere)),
            rejects: Arc::new(Nowhere),
            destination_kinds: Arc::new(Nowhere),
            grant_patterns: Arc::new(Nowhere),
            packages: None,
            shutdown: shutdown.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, settings));
        let recorder = Arc::new(Recorder::new(store.clone()));
        let reconciling = reconciler.map(|settings| {
            let (store, signals, cancel) = (store.clone(), signals.clone(), stop_reconciler.clone());
            tokio::spawn(reconcile(store, recorder.clone(), signals, settings, cancel))
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        let server = Self {
            folder,
            address,
            store,
            signals,
            recorder,
            ring: rotation,
            shutdown,
            stop_reconciler,
            serving,
            reconciling,
            client,
        };
        server.add_token(TOKEN, "api", Role::Admin, None, None).await;
        server
    }

    /// Installs the plugin `files`.
    pub async fn plugin(self) -> Self {
        let plugin = PluginRow {
            name: "files".into(),
            version: "1.2.3".into(),
            digest: "ab".repeat(32),
            api_version: "0.1.0".into(),
            title: "Files".into(),
            docs: "# Files".into(),
            config_schema: json!({"type": "object", "properties": {"token": {"type": "string", "x-secret": true}}}),
            permissions: json!({"hosts": ["{{ url }}"]}),
            installed_at: 1,
        };
        self.store.upsert_plugin(&plugin).await.unwrap();
        self
    }

    /// Adds a connection of the plugin `files`.
    pub async fn connection(self, id: &str) -> Self {
        let config = json!({"url": "https://example.org"});
        let row = ConnectionRow::new(ConnectionId::new(id).unwrap(), "files", config);
        self.store.put_connection(&row, None, 1).await.unwrap();
        self
    }

    pub fn blobs(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path().join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
        Answer { status: parts.status, headers: parts.headers, json }
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::new(body.into())).unwrap()
    }

    /// Asks with the token; `path` is below `/api/v1`.
    pub async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(method, &format!("/api/v1{path}"), Some(TOKEN), body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask("PUT", path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "").await
    }

    /// Asks a connection for a run and answers its id.
    pub async fn start(&self, connection: &str, kind: &str, verb: &str) -> String {
        let body = json!({"kind": kind, "request": {"do": verb}});
        let run = self.post(&format!("/connections/{connection}/runs"), body).await.expect(202);
        run["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a run has a status.
    pub async fn until(&self, run: &str, status: &str) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let row = self.get(&format!("/runs/{run}")).await.expect(200);
            if row["status"] == status {
                return row;
            }
            assert!(tokio::time::Instant::now() < deadline, "run is {row}, not {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
