//! Opens the database, SQLite or PostgreSQL, and hands out transactions.

use std::path::Path;

use sqlx::{
    Any, AnyPool, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers},
    migrate::Migrator,
};

use crate::{
    StoreError,
    limits::{ACQUIRE_TIMEOUT, BUSY_TIMEOUT, MAX_READERS, MAX_SERVER_CONNECTIONS, OPEN_ATTEMPTS, OPEN_PAUSE},
};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// The two kinds of databases. SQL is written once, in the words that both understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// The control database. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Store {
    writer: AnyPool,
    pub(crate) reader: AnyPool,
    kind: Kind,
    place: String,
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
        let reader = sqlite_pool(MAX_READERS, true).connect_lazy_with(options);
        let store = Self { writer, reader, kind: Kind::Sqlite, place: path.display().to_string() };
        store.bring_up_to_date().await?;
        Ok(store)
    }

    /// Connects to a PostgreSQL database by its URL and brings it to this version's layout.
    ///
    /// Safe to call from several processes at once. Errors: `Unavailable` where it does not answer, `Layout` where a
    /// newer version wrote it.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        install_default_drivers();
        let options: AnyConnectOptions = url.parse()?;
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_SERVER_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        let place = url.rsplit_once('@').map_or("PostgreSQL", |(_, place)| place).to_owned();
        let store = Self { writer: pool.clone(), reader: pool, kind: Kind::Postgres, place };
        store.bring_up_to_date().await?;
        Ok(store)
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

    /// Closes the connections; the last process to do so folds SQLite's write-ahead log into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A transaction for writing. On SQLite it holds the one write lock from its start; on PostgreSQL others write at
    /// the same time, so that every change is guarded by a condition, a unique index or [`Store::for_update`].
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(match self.kind {
            Kind::Sqlite => self.writer.begin_with("pragma synchronous = full; begin immediate").await?,
            Kind::Postgres => self.writer.begin().await?,
        })
    }

    /// A transaction whose commit does not wait for the disk on SQLite: for who runs what, what is due, and log lines.
    ///
    /// What it writes stands in the write-ahead log behind everything before it and is read by everybody at once; it survives
    /// the end of any process. It reaches the disk with the next commit that waits, such as that of any sealed batch, or within
    /// seconds. So a power failure can only undo the latest such changes, all of which are followed by no sealed batch: a slot
    /// or a run of which nothing had come yet begins again, and a run that had ended counts as interrupted.
    pub(crate) async fn write_soon(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(match self.kind {
            Kind::Sqlite => self.writer.begin_with("pragma synchronous = normal; begin immediate").await?,
            Kind::Postgres => self.writer.begin().await?,
        })
    }

    /// Ends a `select` inside of a writing transaction whose rows nobody else may change before its end.
    pub(crate) fn for_update(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " for update",
        }
    }

    /// The same, passing over rows that somebody else has locked.
    pub(crate) fn for_update_skipping(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " for update skip locked",
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
        let migrations = match self.kind {
            Kind::Sqlite => &SQLITE_MIGRATIONS,
            Kind::Postgres => &POSTGRES_MIGRATIONS,
        };
        migrations
            .run(&self.writer)
            .await
            .map_err(|source| StoreError::Layout { path: self.place.clone(), source: Box::new(source) })
    }
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
