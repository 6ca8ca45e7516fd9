//! The control database on real files, several handles to the same file as several processes would have.
#![allow(clippy::unwrap_used)]

#[path = "../../../../tests/src/postgres.rs"]
#[allow(dead_code, reason = "a server for other tests as well")]
mod server;

mod migrations;
mod open;

/// Every test of these modules runs on both databases.
macro_rules! on {
    ($module:ident, $kind:expr) => {
        #[allow(clippy::duplicate_mod, reason = "the same tests on another database")]
        #[path = "."]
        mod $module {
            pub use crate::*;

            /// The database that these tests run on.
            const ON: Kind = $kind;

            #[path = "batches.rs"]
            mod batches;
            #[path = "catalogue.rs"]
            mod catalogue;
            #[path = "leases.rs"]
            mod leases;
            #[path = "logs.rs"]
            mod logs;
            #[path = "notices.rs"]
            mod notices;
            #[path = "races.rs"]
            mod races;
            #[path = "runs.rs"]
            mod runs;
            #[path = "security.rs"]
            mod security;
            #[path = "slots.rs"]
            mod slots;
            #[path = "workers.rs"]
            mod workers;
        }
    };
}

on!(on_sqlite, Kind::Sqlite);
on!(on_postgres, Kind::Postgres);

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;
use tempfile::TempDir;
use thimble_record::{
    BatchSeq, Checksum, ConnectionId, Counts, DataType, Epoch, Field, Position, SealedBatch, SegmentRef, StreamBatch,
    StreamPosition, StreamSchema, StreamSelection,
};
use thimble_store::{ConnectionRow, PluginRow, SealedSecrets, ServerSettings, Store, StoreError};
use tokio::sync::OnceCell;

use server::{Options, PASSWORD, Postgres};

pub const NOW: i64 = 1_700_000_000_000;
pub const TTL: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

enum Place {
    File(TempDir),
    Database(String),
}

pub struct World {
    place: Place,
    pub store: Store,
}

impl World {
    pub async fn empty(kind: Kind) -> Self {
        let place = match kind {
            Kind::Sqlite => Place::File(tempfile::tempdir().unwrap()),
            Kind::Postgres => Place::Database(database().await),
        };
        let store = open_at(&place).await.unwrap();
        Self { place, store }
    }

    /// One plugin `files` and one connection `flights`.
    pub async fn new(kind: Kind) -> Self {
        let world = Self::empty(kind).await;
        world.store.upsert_plugin(&plugin("files")).await.unwrap();
        world.store.put_connection(&connection("flights"), None, NOW).await.unwrap();
        world
    }

    /// Another handle, as another process has.
    pub async fn other(&self) -> Store {
        self.try_other().await.unwrap()
    }

    pub async fn try_other(&self) -> Result<Store, StoreError> {
        open_at(&self.place).await
    }

    /// The file of a SQLite database.
    pub fn file(&self) -> PathBuf {
        match &self.place {
            Place::File(folder) => folder.path().join("thimble.db"),
            Place::Database(name) => panic!("{name} is no file"),
        }
    }

    /// Runs SQL behind the store's back.
    pub async fn sql(&self, sql: &str) {
        match &self.place {
            Place::File(_) => {
                let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", self.file().display())).await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
                pool.close().await;
            }
            Place::Database(name) => drop(postgres().await.query(name, sql).await.unwrap()),
        }
    }
}

async fn open_at(place: &Place) -> Result<Store, StoreError> {
    match place {
        Place::File(folder) => Store::open(&folder.path().join("thimble.db")).await,
        Place::Database(name) => Store::connect(&settings(name).await).await,
    }
}

/// The one server of these tests.
pub async fn postgres() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    let options = Options { settings: vec!["max_connections=400".into()], ..Options::default() };
    SERVER.get_or_init(async || Postgres::start(options).await.unwrap()).await
}

/// A new empty database of the server.
pub async fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("world{}", NEXT.fetch_add(1, Ordering::Relaxed));
    postgres().await.create_database(&name).await.unwrap();
    name
}

pub async fn settings(database: &str) -> ServerSettings {
    ServerSettings { password: Some(PASSWORD.into()), ..ServerSettings::new(postgres().await.url(database)) }
}

pub fn flights() -> ConnectionId {
    ConnectionId::new("flights").unwrap()
}

pub fn plugin(name: &str) -> PluginRow {
    PluginRow {
        name: name.into(),
        version: "1.2.3".into(),
        digest: "ab".repeat(32),
        api_version: "0.1.0".into(),
        title: "Files".into(),
        docs: "# Files".into(),
        config_schema: json!({"type": "object", "properties": {"token": {"type": "string", "x-secret": true}}}),
        permissions: json!({"hosts": ["{{ url }}"]}),
        installed_at: NOW,
    }
}

pub fn connection(id: &str) -> ConnectionRow {
    let config = json!({"url": "https://example.org", "token": {"$secret": true}});
    ConnectionRow {
        secrets: SealedSecrets(vec![1, 2, 3]),
        streams: vec![StreamSelection::of("flights")],
        ..ConnectionRow::new(ConnectionId::new(id).unwrap(), "files", config)
    }
}

pub fn schema() -> StreamSchema {
    StreamSchema::new(vec![Field { name: "id".into(), data_type: DataType::Int64, nullable: false }])
}

pub fn position(state: &str) -> Position {
    let stream = StreamPosition { completed: Some(state.into()), ..StreamPosition::default() };
    Position { streams: [("flights".to_owned(), stream)].into(), ..Position::default() }
}

pub fn batch(seq: u64, epoch: Epoch, state: &str) -> SealedBatch {
    let counts = Counts { emitted: 3, ..Counts::default() };
    let segment = SegmentRef {
        path: format!("flights/{seq}"),
        sha256: "00".repeat(32),
        bytes: 10,
        plain_sha256: "11".repeat(32),
        plain_bytes: 9,
        rows: 3,
        wrapped_key: "22".into(),
        number: 0,
        schema: schema(),
        checksum: Checksum::default(),
    };
    SealedBatch {
        connection: flights(),
        epoch,
        seq: BatchSeq(seq),
        from: position("before").digest(),
        to: position(state),
        streams: vec![StreamBatch {
            key: vec!["id".into()],
            counts,
            segments: vec![segment],
            ..StreamBatch::new("flights", schema())
        }],
    }
}

/// Claims the run that is to begin first, as an executor does; `None` where none waits.
pub async fn claim_next(
    store: &Store,
    holder: &str,
    ttl_ms: i64,
    now_ms: i64,
) -> Result<Option<thimble_store::RunRow>, thimble_store::StoreError> {
    loop {
        let waiting = store.waiting_runs(now_ms, 1).await?;
        let Some(first) = waiting.first() else { return Ok(None) };
        // Somebody else may have been faster.
        if let Some(run) = store.begin_all(std::slice::from_ref(&first.id), holder, ttl_ms, now_ms).await?.pop() {
            return Ok(Some(run));
        }
    }
}
