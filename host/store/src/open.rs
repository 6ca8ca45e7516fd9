//! Opens the database file and hands out transactions.

use std::path::{Path, PathBuf};

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    StoreError,
    limits::{ACQUIRE_TIMEOUT, BUSY_TIMEOUT, MAX_READERS, OPEN_ATTEMPTS, OPEN_PAUSE},
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The control database. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    path: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, creates it where it is missing, and brings it to this version's layout.
    ///
    /// Safe to call from several processes at once. Errors: `Unavailable` where the file cannot be
    /// opened, `Layout` where a newer version wrote it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |max| {
            PoolOptions::<Sqlite>::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_lazy_with(options.clone());
        let reader = pool(MAX_READERS).connect_lazy_with(options.pragma("query_only", "on"));
        let store = Self { writer, reader, path: path.to_owned() };
        store.bring_up_to_date().await?;
        Ok(store)
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.reader).await?;
        Ok(())
    }

    /// Closes the connections; the last process to do so folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A transaction that holds the write lock from its start.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("begin immediate").await?)
    }

    /// Another process may be creating or migrating the same file: switching to the write-ahead log
    /// ignores the busy timeout, and the loser of a migration meets tables that exist already. Both pass.
    async fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            match self.migrate().await {
                Err(error) if attempt < OPEN_ATTEMPTS && passes(&error) => {
                    attempt += 1;
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATIONS
            .run(&self.writer)
            .await
            .map_err(|source| StoreError::Layout { path: self.path.display().to_string(), source: Box::new(source) })
    }
}

/// Whether an error of opening is another process's work in progress.
fn passes(error: &StoreError) -> bool {
    use sqlx::migrate::MigrateError;
    let cause = match error {
        StoreError::Unavailable(cause) => cause,
        StoreError::Layout { source, .. } => match &**source {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => cause,
            MigrateError::Dirty(_) => return true,
            _ => return false,
        },
        _ => return false,
    };
    cause.as_database_error().is_some_and(|cause| {
        let message = cause.message();
        message.contains("locked") || message.contains("already exists") || cause.is_unique_violation()
    })
}
