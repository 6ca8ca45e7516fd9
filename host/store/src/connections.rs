//! Table `connections`: a plugin's configuration, the streams selected and where they go.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use thimble_record::{Catalog, ConnectionId, StreamSelection, envelope::SecretRow};

use crate::{
    Store, StoreError,
    columns::{json, parse_column, parse_optional},
    error::refuse_changed,
    limits::MAX_PAGE,
    lock::{self, Lock},
    workspaces::{self, DEFAULT_WORKSPACE},
};

/// Secrets sealed with the host key by the caller; opaque here. Shows only its length.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SealedSecrets(pub Vec<u8>);

impl std::fmt::Debug for SealedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedSecrets({} bytes)", self.0.len())
    }
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    pub id: ConnectionId,
    /// Name of an installed plugin.
    pub plugin: String,
    /// The configuration; `{"$secret": true}` stands where a secret was.
    pub config: Value,
    /// Never serialized.
    #[serde(skip)]
    pub secrets: SealedSecrets,
    /// Empty means all streams.
    pub streams: Vec<StreamSelection>,
    /// Absent: the installation's default destination.
    pub destination: Option<Value>,
    /// The last discovered catalog.
    pub catalog: Option<Catalog>,
    pub created_at: i64,
    pub updated_at: i64,
    pub workspace: String,
    /// A named source whose plugin, configuration, secrets and catalog these are, instead of the connection's own.
    pub source: Option<String>,
    /// When it is synced; absent: only when somebody asks.
    pub schedule: Option<Value>,
    /// Schedules of single streams, by name.
    pub stream_schedules: Value,
    /// Whether its schedules rest.
    pub paused: bool,
    /// Why, where nobody asked for it.
    pub paused_why: Option<String>,
    /// How old the destination's rows may become, in milliseconds.
    pub freshness_ms: Option<i64>,
    /// Who is told after each load.
    pub hooks: Value,
    /// How failed runs are tried again, where it differs from the installation's.
    pub retry: Option<Value>,
    /// A run that takes longer is stopped.
    pub max_duration_ms: Option<i64>,
    /// Counts its changes from 1.
    pub version: i64,
}

impl ConnectionRow {
    /// What its secrets are sealed for: itself, or its source.
    pub fn secret_row(&self) -> SecretRow {
        match &self.source {
            Some(source) => SecretRow::new(&self.workspace, "source", source),
            None => SecretRow::connection(&self.workspace, self.id.as_str()),
        }
    }

    /// A connection of the default workspace without secrets, schedule or selection.
    pub fn new(id: ConnectionId, plugin: impl Into<String>, config: Value) -> Self {
        Self {
            id,
            plugin: plugin.into(),
            config,
            secrets: SealedSecrets::default(),
            streams: Vec::new(),
            destination: None,
            catalog: None,
            created_at: 0,
            updated_at: 0,
            workspace: DEFAULT_WORKSPACE.into(),
            source: None,
            schedule: None,
            stream_schedules: Value::Object(serde_json::Map::new()),
            paused: false,
            paused_why: None,
            freshness_ms: None,
            hooks: Value::Array(Vec::new()),
            retry: None,
            max_duration_ms: None,
            version: 0,
        }
    }
}

/// What a connection takes from its source, where it has one.
const EFFECTIVE: &str =
    "select c.*, coalesce(s.plugin, c.plugin) as source_plugin, coalesce(s.config, c.config) as source_config,
   coalesce(s.secrets, c.secrets) as source_secrets,
   case when c.source is null then c.catalog else s.catalog end as source_catalog
 from connections c left join sources s on s.name = c.source";

fn from_row(row: &AnyRow) -> Result<ConnectionRow, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(ConnectionRow {
        id: ConnectionId::new(id)
            .map_err(|source| StoreError::Corrupt { what: "connection's name", source: Box::new(source) })?,
        plugin: row.try_get("source_plugin")?,
        config: parse_column(row, "source_config", "connection's configuration")?,
        secrets: SealedSecrets(row.try_get("source_secrets")?),
        streams: parse_column(row, "streams", "connection's stream selection")?,
        destination: parse_optional(row, "destination", "connection's destination")?,
        catalog: parse_optional(row, "source_catalog", "connection's catalog")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        workspace: row.try_get("workspace")?,
        source: row.try_get("source")?,
        schedule: parse_optional(row, "schedule", "connection's schedule")?,
        stream_schedules: parse_column(row, "stream_schedules", "connection's stream schedules")?,
        paused: row.try_get::<i64, _>("paused")? != 0,
        paused_why: row.try_get("paused_why")?,
        freshness_ms: row.try_get("freshness_ms")?,
        hooks: parse_column(row, "hooks", "connection's hooks")?,
        retry: parse_optional(row, "retry", "connection's retries")?,
        max_duration_ms: row.try_get("max_duration_ms")?,
        version: row.try_get("version")?,
    })
}

impl Store {
    /// Creates or replaces a connection; `created_at`, `updated_at` and `version` of the row are ignored. Answers whether
    /// it was created. `NotFound` where its plugin is not installed or its source, workspace unknown. `Changed` where
    /// `expected` is given and is not the stored version (0: it must not exist yet).
    pub async fn put_connection(
        &self,
        connection: &ConnectionRow,
        expected: Option<i64>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock::name(&mut tx, "connection", connection.id.as_str()).await?;
        refuse_unknown(&mut tx, connection).await?;
        let existing = lock::version(&mut tx, "connections", "id", connection.id.as_str()).await?;
        refuse_changed("connection", connection.id.as_str(), expected, existing)?;
        upsert(&mut tx, connection, now_ms).await?;
        tx.commit().await?;
        Ok(existing.is_none())
    }

    /// Stores the catalog that was discovered last. `NotFound` where the connection is gone.
    pub async fn put_catalog(&self, connection: &ConnectionId, catalog: &Catalog) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("update sources set catalog = $1 where name = (select source from connections where id = $2)")
            .bind(json(catalog))
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        let done = sqlx::query("update connections set catalog = $1 where id = $2")
            .bind(json(catalog))
            .bind(connection.as_str())
            .execute(&mut *tx)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("connection", connection.as_str()));
        }
        Ok(tx.commit().await?)
    }

    /// One connection. `NotFound` where there is none.
    pub async fn connection(&self, id: &ConnectionId) -> Result<ConnectionRow, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("{EFFECTIVE} where c.id = $1")))
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("connection", id.as_str()))?)
    }

    /// All connections by name.
    pub async fn connections(&self) -> Result<Vec<ConnectionRow>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(format!("{EFFECTIVE} order by c.id"))).fetch_all(&self.reader).await?;
        rows.iter().map(from_row).collect()
    }

    /// A page of connections by name, after `after`, of one workspace or all.
    pub async fn connections_page(
        &self,
        workspace: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ConnectionRow>, StoreError> {
        let select = format!("{EFFECTIVE} where c.id > $1 and ($2 = '' or c.workspace = $2) order by c.id limit $3");
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(after)
            .bind(workspace.unwrap_or(""))
            .bind(i64::from(limit.min(MAX_PAGE)))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a connection with its batches, positions and schemas. Its runs stay as history, and so
    /// does its epoch. `InUse` while a run of it is unfinished.
    pub async fn delete_connection(&self, id: &ConnectionId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        lock::row(&mut tx, "connections", "id", id.as_str(), Lock::Delete).await?;
        let run: Option<String> = sqlx::query_scalar(
            "select id from runs where connection = $1 and status in ('queued', 'running') order by id limit 1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(run) = run {
            return Err(StoreError::InUse { what: "connection", name: id.to_string(), by: format!("run {run}") });
        }
        let done = sqlx::query("delete from connections where id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::not_found("connection", id.as_str()));
        }
        Ok(tx.commit().await?)
    }
}

async fn refuse_unknown(tx: &mut AnyConnection, connection: &ConnectionRow) -> Result<(), StoreError> {
    // What it refers to must still be there when this ends.
    if !lock::row(tx, "plugins", "name", &connection.plugin, Lock::Reference).await? {
        return Err(StoreError::not_found("plugin", &connection.plugin));
    }
    workspaces::refuse_unknown(tx, &connection.workspace).await?;
    let destination = connection.destination.as_ref().and_then(|choice| choice.get("name")).and_then(Value::as_str);
    if let Some(name) = destination {
        // One of the configuration file has no row.
        lock::row(tx, "destinations", "name", name, Lock::Reference).await?;
    }
    let Some(source) = &connection.source else { return Ok(()) };
    let select =
        format!("select 1 from sources where name = $1 and workspace = $2{}", lock::clause(tx, Lock::Reference));
    let known: Option<i64> = sqlx::query_scalar(AssertSqlSafe(select))
        .bind(source)
        .bind(&connection.workspace)
        .fetch_optional(&mut *tx)
        .await?;
    known.map(|_| ()).ok_or_else(|| StoreError::not_found("source", source))
}

async fn upsert(tx: &mut AnyConnection, connection: &ConnectionRow, now_ms: i64) -> Result<(), StoreError> {
    // What comes from a source stays there.
    let (config, secrets, catalog) = match connection.source {
        Some(_) => ("{}".to_owned(), &[][..], None),
        None => (json(&connection.config), &connection.secrets.0[..], connection.catalog.as_ref().map(json)),
    };
    sqlx::query(
        "insert into connections (id, plugin, config, secrets, streams, destination, catalog, created_at, updated_at,
           workspace, source, schedule, stream_schedules, paused, paused_why, freshness_ms, hooks, retry,
           max_duration_ms, version)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 1)
         on conflict (id) do update set plugin = excluded.plugin, config = excluded.config,
           secrets = excluded.secrets, streams = excluded.streams, destination = excluded.destination,
           catalog = excluded.catalog, updated_at = excluded.updated_at, workspace = excluded.workspace,
           source = excluded.source, schedule = excluded.schedule, stream_schedules = excluded.stream_schedules,
           paused = excluded.paused, paused_why = excluded.paused_why, freshness_ms = excluded.freshness_ms,
           hooks = excluded.hooks, retry = excluded.retry, max_duration_ms = excluded.max_duration_ms,
           version = connections.version + 1",
    )
    .bind(connection.id.as_str())
    .bind(&connection.plugin)
    .bind(config)
    .bind(secrets)
    .bind(json(&connection.streams))
    .bind(connection.destination.as_ref().map(json))
    .bind(catalog)
    .bind(now_ms)
    .bind(&connection.workspace)
    .bind(&connection.source)
    .bind(connection.schedule.as_ref().map(json))
    .bind(json(&connection.stream_schedules))
    .bind(i64::from(connection.paused))
    .bind(&connection.paused_why)
    .bind(connection.freshness_ms)
    .bind(json(&connection.hooks))
    .bind(connection.retry.as_ref().map(json))
    .bind(connection.max_duration_ms)
    .execute(tx)
    .await?;
    Ok(())
}
