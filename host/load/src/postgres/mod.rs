//! A PostgreSQL database: the rows of a batch and the record of its commit in one transaction.
//!
//! Why a batch is in the database once, and whole:
//! - Its rows, its number, the position after it and every change of a table are one transaction.
//! - That transaction ends with an update of the connection's row in `_thimble_commits` which must find the owner's fence
//!   and the number before; otherwise nothing of it stays.
//! - A commit whose answer was lost is never repeated: the row tells whether it happened.
//!
//! Owns the connection's schema: a table per stream, and three tables of its own. Must never load what was not verified,
//! never change or drop what it did not make, and never show a row's values or the password in an error.

mod children;
mod client;
mod columns;
mod copy;
mod encode;
mod fence;
mod history;
mod index;
mod json;
mod load;
mod merge;
mod names;
mod numeric;
mod read;
mod refuse;
mod segment;
mod settings;
mod sqlstate;
mod state;
mod swap;
mod table;
mod tls;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use thimble_record::{ConnectionId, Epoch, LoadOutcome, RejectedRow, SealedBatch, StreamSchema};

pub use names::{column_name, schema_name, table_name};
pub use settings::{Password, PostgresSettings, TlsMode};

use crate::{
    destination::{Capabilities, Committed, Destination, Refusal, SegmentSource, TableInfo},
    error::LoadError,
    limits::POSTGRES_COLUMNS,
};
use client::Session;

/// A database, as one owner sees it. It connects when it is first used, and again when the connection broke.
pub struct Postgres {
    settings: Arc<PostgresSettings>,
    /// The owner's one connection, while nobody uses it.
    session: tokio::sync::Mutex<Option<Session>>,
    /// The epoch of this owner's last fence, by connection.
    fenced: Mutex<HashMap<ConnectionId, Epoch>>,
}

impl Postgres {
    /// A database that nobody has connected to yet.
    pub fn new(settings: PostgresSettings) -> Self {
        Self { settings: Arc::new(settings), session: tokio::sync::Mutex::default(), fenced: Mutex::default() }
    }
}

#[async_trait]
impl Destination for Postgres {
    fn for_owner(&self) -> Arc<dyn Destination> {
        Arc::new(Self {
            settings: Arc::clone(&self.settings),
            session: tokio::sync::Mutex::default(),
            fenced: Mutex::default(),
        })
    }

    async fn fence(&self, connection: &ConnectionId, epoch: Epoch) -> Result<Committed, LoadError> {
        self.take_over(connection, epoch).await
    }

    async fn load(&self, batch: &SealedBatch, segments: &dyn SegmentSource) -> Result<LoadOutcome, LoadError> {
        self.load_batch(batch, segments).await
    }

    async fn committed(&self, connection: &ConnectionId) -> Result<Committed, LoadError> {
        self.committed_now(connection).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { max_columns: POSTGRES_COLUMNS, upsert: true, history: true }
    }

    fn refuse(&self, schema: &StreamSchema, rows: &RecordBatch) -> Vec<Refusal> {
        refuse::refuse(schema, rows)
    }

    fn refuse_keys(&self, key: &[String], rows: &RecordBatch) -> Vec<Refusal> {
        refuse::refuse_keys(key, rows)
    }

    fn location(&self, connection: &ConnectionId, stream: &str) -> String {
        self.place_of(connection).table(&names::table_name(stream))
    }

    async fn tables(&self, connection: &ConnectionId) -> Result<Vec<TableInfo>, LoadError> {
        self.visible_tables(connection).await
    }

    async fn rejected(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, LoadError> {
        self.rejected_after(connection, after, limit).await
    }
}
