//! Opens the database, SQLite or PostgreSQL, and hands out transactions.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use sqlx::{
    AnyConnection, AnyPool, Connection,
    any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers},
    migrate::Migrator,
};
use url::Url;

use crate::{
    StoreError,
    limits::{
        ACQUIRE_TIMEOUT, BUSY_TIMEOUT, IDLE_TIMEOUT, LOCK_TIMEOUT, MAX_READERS, OPEN_ATTEMPTS, OPEN_PAUSE,
        SERVER_CONNECTIONS, STATEMENT_TIMEOUT,
    },
    writing::{Durability, Stopwatch, WriteTimes, Writing},
};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// The two kinds of databases. SQL is written once, in the words that both understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A PostgreSQL database, and how it is reached. Holds a password: never shown.
#[derive(Clone)]
pub struct ServerSettings {
    /// `postgres://user@host:port/database`, with `?sslmode=disable`, `prefer` (the default), `require`, `verify-ca` or
    /// `verify-full`.
    pub url: String,
    /// Outranks one in the URL.
    pub password: Option<String>,
    /// PEM file with the certificates of authorities that are trusted instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// Most connections of this process.
    pub max_connections: u32,
}

impl ServerSettings {
    /// The defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), password: None, ca_file: None, max_connections: SERVER_CONNECTIONS }
    }

    fn url(&self) -> Result<Url, StoreError> {
        let wrong = |what: &str| StoreError::conflict(format!("the control database's URL {what}"));
        let mut url: Url = self.url.parse().map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong("must begin with postgres://"));
        }
        if let Some(password) = &self.password {
            // The URL's own escaping leaves `%` alone, which the driver would take for an escape.
            let escaped: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            url.set_password(Some(&escaped)).map_err(|()| wrong("names no host for the password"))?;
        }
        if let Some(file) = &self.ca_file {
            let file = file.to_str().ok_or_else(|| wrong("cannot go with a ca_file whose name is not UTF-8"))?;
            url.query_pairs_mut().append_pair("sslrootcert", file);
        }
        Ok(url)
    }
}

/// The control database. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Store {
    writer: AnyPool,
    pub(crate) reader: AnyPool,
    kind: Kind,
    place: String,
    options: AnyConnectOptions,
    stopwatch: Stopwatch,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the SQLite file, creates it where it is missing, and brings it to this version's layout.
    ///
    /// Safe to call from several processes at once. Errors: `Unavailable` where the file cannot be
    /// opened, `Layout` where a newer version wrote it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        install_default_drivers();
        let mut url = url::Url::from_file_path(std::path::absolute(path).map_err(io)?)
            .map_err(|()| io(std::io::Error::other("the path cannot be written as a URL")))?;
        url.set_query(Some("mode=rwc"));
        // The driver wants the scheme `sqlite` before a path that is escaped as in a URL.
        let url = url.as_str().replacen("file:", "sqlite:", 1);
        let options: AnyConnectOptions = url.parse()?;
        let writer = sqlite_pool(1, false).connect_lazy_with(options.clone());
        let reader = sqlite_pool(MAX_READERS, true).connect_lazy_with(options.clone());
        let place = path.display().to_string();
        let store = Self { writer, reader, kind: Kind::Sqlite, place, options, stopwatch: Stopwatch::default() };
        store.bring_up_to_date().await?;
        Ok(store)
    }

    /// Connects to a PostgreSQL database and brings it to this version's layout.
    ///
    /// Safe to call from several processes at once. Errors: `Unavailable` where it does not answer, `Layout` where a
    /// newer version wrote it, `Conflict` where the URL cannot be used.
    pub async fn connect(settings: &ServerSettings) -> Result<Self, StoreError> {
        install_default_drivers();
        let url = settings.url()?;
        let place = format!("{}{}", url.host_str().unwrap_or("localhost"), url.path());
        let options: AnyConnectOptions = url.as_str().parse()?;
        let pool = server_pool(settings.max_connections).connect_lazy_with(options.clone());
        let stopwatch = Stopwatch::default();
        let store = Self { writer: pool.clone(), reader: pool, kind: Kind::Postgres, place, options, stopwatch };
        store.bring_up_to_date().await?;
        Ok(store)
    }

    /// Whether other hosts can reach it.
    pub fn is_shared(&self) -> bool {
        self.kind == Kind::Postgres
    }

    /// Path of the file, or host and name of the database.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.reader).await?;
        Ok(())
    }

    /// The database's own clock in milliseconds since the epoch; `None` where it has none but this machine's.
    pub async fn clock_ms(&self) -> Result<Option<i64>, StoreError> {
        if self.kind == Kind::Sqlite {
            return Ok(None);
        }
        let now = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000)::bigint");
        Ok(Some(now.fetch_one(&self.reader).await?))
    }

    /// Closes the connections; the last process to do so folds SQLite's write-ahead log into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A transaction for writing. On SQLite it holds the one write lock from its start; on PostgreSQL others write at
    /// the same time, so that every change is guarded by a condition, a unique index or a lock ([`crate::lock`]).
    pub(crate) async fn write(&self) -> Result<Writing, StoreError> {
        self.transaction(Durability::Disk, "pragma synchronous = full; begin immediate").await
    }

    /// A transaction whose commit does not wait for the disk on SQLite: for who runs what, what is due, and log lines.
    ///
    /// What it writes stands in the write-ahead log behind everything before it and is read by everybody at once; it survives
    /// the end of any process. It reaches the disk with the next commit that waits, such as that of any sealed batch, or within
    /// seconds. So a power failure can only undo the latest such changes, all of which are followed by no sealed batch: a slot
    /// or a run of which nothing had come yet begins again, and a run that had ended counts as interrupted.
    pub(crate) async fn write_soon(&self) -> Result<Writing, StoreError> {
        self.transaction(Durability::Soon, "pragma synchronous = normal; begin immediate").await
    }

    async fn transaction(&self, durability: Durability, on_sqlite: &'static str) -> Result<Writing, StoreError> {
        let asked = Instant::now();
        let tx = match self.kind {
            Kind::Sqlite => self.writer.begin_with(on_sqlite).await?,
            Kind::Postgres => self.writer.begin().await?,
        };
        Ok(Writing::new(tx, durability, asked, self.stopwatch.clone()))
    }

    /// How long the writing transactions of this process took so far.
    pub fn write_times(&self) -> Vec<WriteTimes> {
        self.stopwatch.times()
    }

    /// Ends a `select` inside of a writing transaction whose rows nobody else may change before its end, passing over those
    /// that somebody else has locked.
    pub(crate) fn for_update_skipping(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " for no key update skip locked",
        }
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
        let migrated = match self.kind {
            Kind::Sqlite => {
                let mut connection = self.writer.acquire().await?;
                SQLITE_MIGRATIONS.run_direct(None, &mut *connection, false).await
            }
            // A connection of its own, without limits of time: what it locks is free when it ends, however it ends.
            Kind::Postgres => {
                let connecting = AnyConnection::connect_with(&self.options);
                let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, connecting).await;
                let mut connection = connection.map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))??;
                let migrated = POSTGRES_MIGRATIONS.run_direct(None, &mut connection, false).await;
                // It says goodbye; nothing depends on it.
                let _ = connection.close().await;
                migrated
            }
        };
        migrated.map_err(|source| StoreError::Layout { path: self.place.clone(), source: Box::new(source) })
    }
}

fn server_pool(max: u32) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_TIMEOUT).after_connect(|connection, _| {
        Box::pin(async move {
            let (statement, lock) = (STATEMENT_TIMEOUT.as_millis(), LOCK_TIMEOUT.as_millis());
            let idle = IDLE_TIMEOUT.as_millis();
            let settings = format!(
                "set statement_timeout = {statement}; set lock_timeout = {lock};
                 set idle_in_transaction_session_timeout = {idle};"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(connection).await?;
            Ok(())
        })
    })
}

fn sqlite_pool(max: u32, read_only: bool) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let busy = BUSY_TIMEOUT.as_millis();
                // The order counts: switching to the write-ahead log already waits for others.
                let pragmas = format!(
                    "pragma busy_timeout = {busy}; pragma journal_mode = wal; pragma synchronous = full;
                     pragma foreign_keys = on; pragma query_only = {read_only};"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(pragmas)).execute(connection).await?;
                Ok(())
            })
        })
}

fn io(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Io(error))
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
        message.contains("locked")
            || message.contains("already exists")
            || message.contains("duplicate column")
            || cause.is_unique_violation()
    })
}
