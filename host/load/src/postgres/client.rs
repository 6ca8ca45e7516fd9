//! One connection to the server, and the lease of it. A connection that was left in the middle of something is closed,
//! never used again.

use std::time::Duration;

use tokio::{sync::MutexGuard, task::JoinHandle};
use tokio_postgres::{Client, Config, Row, config::SslMode, types::ToSql};

use super::{
    Postgres,
    settings::{Password, PostgresSettings, TlsMode},
    sqlstate,
    tls::Tls,
};
use crate::{
    error::LoadError,
    limits::{POSTGRES_VERSION, ROLLBACK_WAIT},
};

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Unacknowledged bytes for so long mean that the server is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// A connection, closed when dropped.
pub(super) struct Session {
    pub(super) client: Client,
    task: JoinHandle<()>,
    /// Hidden in what the server says.
    password: Option<Password>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // The server rolls back what it was in.
        self.task.abort();
    }
}

/// The owner's connection while it is used. Dropped without [`give_back`](Lease::give_back), it is closed.
pub(super) struct Lease<'a> {
    place: MutexGuard<'a, Option<Session>>,
    session: Session,
}

impl std::ops::Deref for Lease<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Lease<'_> {
    /// Keeps the connection for the next use. It must not be in a transaction.
    pub(super) fn give_back(mut self) {
        *self.place = Some(self.session);
    }

    /// Rolls back and keeps the connection, or closes it.
    pub(super) async fn roll_back(self) {
        let rolled_back = tokio::time::timeout(ROLLBACK_WAIT, self.client.batch_execute("rollback")).await;
        if matches!(rolled_back, Ok(Ok(()))) {
            self.give_back();
        }
    }
}

impl Postgres {
    /// The owner's connection, outside of any transaction. Others of the same owner wait for it.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, LoadError> {
        let mut place = self.session.lock().await;
        if let Some(session) = place.take()
            && !session.client.is_closed()
            && session.client.batch_execute("").await.is_ok()
        {
            return Ok(Lease { place, session });
        }
        let session = connect(&self.settings).await?;
        Ok(Lease { place, session })
    }
}

/// What the server is called in messages.
fn place(settings: &PostgresSettings) -> String {
    format!("database {:?} at {}:{}", settings.database, settings.host, settings.port)
}

impl Session {
    /// What an error of this connection means.
    pub(super) fn failed(&self, action: &'static str, object: &str, error: &tokio_postgres::Error) -> LoadError {
        sqlstate::failed(action, object, error, self.password.as_ref())
    }

    pub(super) async fn run(&self, action: &'static str, object: &str, sql: &str) -> Result<(), LoadError> {
        self.client.batch_execute(sql).await.map_err(|error| self.failed(action, object, &error))
    }

    pub(super) async fn rows(
        &self,
        action: &'static str,
        object: &str,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, LoadError> {
        self.client.query(sql, values).await.map_err(|error| self.failed(action, object, &error))
    }

    /// Runs a statement and tells how many rows it touched.
    pub(super) async fn change(
        &self,
        action: &'static str,
        object: &str,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<u64, LoadError> {
        self.client.execute(sql, values).await.map_err(|error| self.failed(action, object, &error))
    }
}

async fn connect(settings: &PostgresSettings) -> Result<Session, LoadError> {
    let place = place(settings);
    let opened = tokio::time::timeout(settings.connect_timeout, open(settings, &place)).await;
    opened.unwrap_or_else(|_| {
        let source = format!("no answer within {} s", settings.connect_timeout.as_secs_f32()).into();
        Err(LoadError::Transient { action: "connect to", object: place, source })
    })
}

async fn open(settings: &PostgresSettings, place: &str) -> Result<Session, LoadError> {
    let password = settings.password.as_ref();
    let failed = |error: tokio_postgres::Error| sqlstate::failed("connect to", place, &error, password);
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(USER_TIMEOUT)
        .ssl_mode(match settings.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyFull => SslMode::Require,
        });
    if let Some(password) = password {
        config.password(password.expose());
    }
    let (client, connection) = config.connect(Tls::new(settings)?).await.map_err(failed)?;
    let (at, hidden) = (place.to_owned(), settings.password.clone());
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            let error = sqlstate::failed("go on with", at, &error, hidden.as_ref());
            tracing::debug!(%error, "a connection to a PostgreSQL destination ended");
        }
    });
    let session = Session { client, task, password: settings.password.clone() };
    session.prepare(settings, place).await?;
    Ok(session)
}

impl Session {
    /// Settings of the session. Sent as statements, for poolers refuse most of them as parameters of the start.
    async fn prepare(&self, settings: &PostgresSettings, place: &str) -> Result<(), LoadError> {
        let sql = "select current_setting('server_version_num')::int4, current_setting('server_encoding')";
        let rows = self.rows("ask the version of", place, sql, &[]).await?;
        let (version, encoding) = rows.first().map_or((0, String::new()), |row| (row.get(0), row.get(1)));
        if encoding != "UTF8" {
            return Err(LoadError::Config(format!("{place} has the encoding {encoding}: UTF8 is needed")));
        }
        if version < POSTGRES_VERSION {
            return Err(LoadError::Config(format!(
                "{place} has PostgreSQL {}: version {} or newer is needed",
                version / 10_000,
                POSTGRES_VERSION / 10_000
            )));
        }
        let millis = |duration: Duration| duration.as_millis();
        // A commit must be durable before its staging is collected and its source acknowledged.
        let sql = format!(
            "set search_path to pg_catalog, pg_temp; set timezone to 'UTC'; set datestyle to 'ISO'; \
             set client_min_messages to warning; set statement_timeout to {}; set lock_timeout to {}; \
             set idle_in_transaction_session_timeout to {}; \
             select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'",
            millis(settings.statement_timeout),
            millis(settings.lock_timeout),
            millis(settings.idle_timeout)
        );
        self.run("set up a session of", place, &sql).await
    }
}
