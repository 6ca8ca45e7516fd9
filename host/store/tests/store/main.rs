//! The control database on real files, several handles to the same file as several processes would have.
#![allow(clippy::unwrap_used)]

mod batches;
mod catalogue;
mod leases;
mod logs;
mod notices;
mod open;
mod runs;
mod security;
mod slots;

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use thimble_record::{
    BatchSeq, Checksum, ConnectionId, Counts, DataType, Epoch, Field, Position, SealedBatch, SegmentRef, StreamBatch,
    StreamPosition, StreamSchema, StreamSelection,
};
use thimble_store::{ConnectionRow, PluginRow, SealedSecrets, Store};

pub const NOW: i64 = 1_700_000_000_000;
pub const TTL: i64 = 10_000;

pub struct World {
    _folder: TempDir,
    pub file: PathBuf,
    pub store: Store,
}

impl World {
    pub async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("thimble.db");
        let store = Store::open(&file).await.unwrap();
        Self { _folder: folder, file, store }
    }

    /// One plugin `files` and one connection `flights`.
    pub async fn new() -> Self {
        let world = Self::empty().await;
        world.store.upsert_plugin(&plugin("files")).await.unwrap();
        world.store.put_connection(&connection("flights"), None, NOW).await.unwrap();
        world
    }

    /// Another handle, as another process has.
    pub async fn other(&self) -> Store {
        Store::open(&self.file).await.unwrap()
    }
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
