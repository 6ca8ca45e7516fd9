//! Table `runs`: what was asked for and what became of it. Reading here; queueing in `queue`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};
use thimble_record::{ConnectionId, Epoch, Failure, RunId};

use crate::{
    Store, StoreError,
    columns::{counter, parse_column, parse_optional, parse_word, word},
    limits::MAX_PAGE,
};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    Sync,
    Check,
    Discover,
    Install,
    /// Another version of the plugin reads what a recorded sync read, for a comparison.
    Canary,
}

/// Who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    Manual,
    Api,
    Schedule,
    /// An earlier try failed.
    Retry,
}

/// Where a run stands. Queued → Running → one of the others, which never change again; a queued run
/// may become Cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// Its process went away without a word.
    Interrupted,
}

impl RunStatus {
    /// Whether the run ended.
    pub fn finished(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Interrupted => true,
        }
    }
}

/// A run to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub kind: RunKind,
    pub trigger: Trigger,
    /// Absent for installs.
    pub connection: Option<ConnectionId>,
    /// Path or name of the plugin, for installs.
    pub subject: Option<String>,
    /// Parameters for whoever executes the run; free of secrets.
    pub request: Value,
    /// The time of the schedule's slot, in milliseconds since the epoch.
    pub slot: Option<i64>,
    /// Which try it is, from 1.
    pub attempt: i64,
    /// The run that it tries again.
    pub retry_of: Option<RunId>,
    /// It may not begin before.
    pub not_before: Option<i64>,
}

impl NewRun {
    fn new(kind: RunKind, trigger: Trigger) -> Self {
        Self {
            kind,
            trigger,
            connection: None,
            subject: None,
            request: Value::Null,
            slot: None,
            attempt: 1,
            retry_of: None,
            not_before: None,
        }
    }

    /// A run on a connection.
    pub fn on(connection: ConnectionId, kind: RunKind, trigger: Trigger) -> Self {
        Self { connection: Some(connection), ..Self::new(kind, trigger) }
    }

    /// An installation.
    pub fn install(subject: impl Into<String>, trigger: Trigger) -> Self {
        Self { subject: Some(subject.into()), ..Self::new(RunKind::Install, trigger) }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub id: RunId,
    pub kind: RunKind,
    pub trigger: Trigger,
    pub connection: Option<ConnectionId>,
    pub subject: Option<String>,
    /// Parameters for whoever executes the run.
    pub request: Value,
    pub status: RunStatus,
    /// The process that executes it.
    pub holder: Option<String>,
    /// When the run counts as interrupted unless its holder is heard of before.
    pub expires_at: Option<i64>,
    /// The lease that a sync worked under.
    pub epoch: Option<Epoch>,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    pub queued_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// Progress while it runs, the result at its end. Null before.
    pub report: Value,
    pub failure: Option<Failure>,
    /// Of its connection; absent for installs.
    pub workspace: Option<String>,
    /// The time of the schedule's slot.
    pub slot: Option<i64>,
    /// Which try it is, from 1.
    pub attempt: i64,
    /// The run that it tries again.
    pub retry_of: Option<RunId>,
    /// It may not begin before.
    pub not_before: Option<i64>,
}

impl RunRow {
    /// Whether it is a sync that read its source to the end, so that another version can be compared with it.
    pub fn is_recording(&self) -> bool {
        let read_source = self.request.get("replay").is_none();
        self.kind == RunKind::Sync && self.status == RunStatus::Succeeded && read_source
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// Succeeded, Failed or Cancelled (or Interrupted, by the sweep).
    pub status: RunStatus,
    pub report: Value,
    pub failure: Option<Failure>,
}

impl RunOutcome {
    /// It did what was asked.
    pub fn succeeded(report: Value) -> Self {
        Self { status: RunStatus::Succeeded, report, failure: None }
    }

    /// It did not; `report` says how far it got.
    pub fn failed(failure: Failure, report: Value) -> Self {
        Self { status: RunStatus::Failed, report, failure: Some(failure) }
    }

    /// It was stopped on request.
    pub fn cancelled(report: Value) -> Self {
        Self { status: RunStatus::Cancelled, report, failure: None }
    }
}

/// Which runs a list shows, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunPage {
    /// At most [`MAX_PAGE`].
    pub limit: u32,
    /// Only runs older than this one.
    pub before: Option<RunId>,
    /// Only runs of this connection.
    pub connection: Option<ConnectionId>,
    /// Only runs of this workspace.
    pub workspace: Option<String>,
    /// Only runs that stand so.
    pub status: Option<RunStatus>,
}

pub(crate) fn from_row(row: &AnyRow) -> Result<RunRow, StoreError> {
    let connection: Option<String> = row.try_get("connection")?;
    let connection = connection
        .map(ConnectionId::new)
        .transpose()
        .map_err(|source| StoreError::Corrupt { what: "run's connection", source: Box::new(source) })?;
    Ok(RunRow {
        id: RunId(row.try_get("id")?),
        kind: parse_word(row, "kind", "run's kind")?,
        trigger: parse_word(row, "run_trigger", "run's trigger")?,
        connection,
        subject: row.try_get("subject")?,
        request: parse_column(row, "request", "run's request")?,
        status: parse_word(row, "status", "run's status")?,
        holder: row.try_get("holder")?,
        expires_at: row.try_get("expires_at")?,
        epoch: row.try_get::<Option<i64>, _>("epoch")?.map(|epoch| Epoch(counter(epoch))),
        cancel_requested: row.try_get::<i64, _>("cancel_requested")? != 0,
        queued_at: row.try_get("queued_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        report: parse_column(row, "report", "run's report")?,
        failure: parse_optional(row, "failure", "run's failure")?,
        workspace: row.try_get("workspace")?,
        slot: row.try_get("slot")?,
        attempt: row.try_get("attempt")?,
        retry_of: row.try_get::<Option<String>, _>("retry_of")?.map(RunId),
        not_before: row.try_get("not_before")?,
    })
}

impl Store {
    /// One run. `NotFound` where there is none.
    pub async fn run(&self, id: &RunId) -> Result<RunRow, StoreError> {
        let row = sqlx::query("select * from runs where id = $1").bind(&id.0).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("run", &id.0))?)
    }

    /// Runs, newest first.
    pub async fn runs(&self, page: &RunPage) -> Result<Vec<RunRow>, StoreError> {
        let RunPage { limit, before, connection, workspace, status } = page;
        let rows = match connection {
            Some(connection) => sqlx::query(
                "select * from runs where connection = $1 and id < $2 and ($4 = '' or workspace = $4)
                   and ($5 = '' or status = $5) order by id desc limit $3",
            )
            .bind(connection.as_str()),
            None => sqlx::query(
                "select * from runs where $1 = '' and id < $2 and ($4 = '' or workspace = $4)
                   and ($5 = '' or status = $5) order by id desc limit $3",
            )
            .bind(""),
        }
        .bind(before.as_ref().map_or("~", |run| &run.0))
        .bind(i64::from((*limit).min(MAX_PAGE)))
        .bind(workspace.as_deref().unwrap_or(""))
        .bind(status.as_ref().map(word).unwrap_or_default())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// The last sync of a connection that succeeded and read its source, among the last [`MAX_PAGE`] runs that succeeded.
    pub async fn last_recording(&self, connection: &ConnectionId) -> Result<Option<RunRow>, StoreError> {
        let page = RunPage {
            limit: MAX_PAGE,
            connection: Some(connection.clone()),
            status: Some(RunStatus::Succeeded),
            ..RunPage::default()
        };
        Ok(self.runs(&page).await?.into_iter().find(RunRow::is_recording))
    }

    /// The queued and running runs, oldest first.
    pub async fn unfinished_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query("select * from runs where status in ('queued', 'running') order by id limit $1")
            .bind(i64::from(MAX_PAGE))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// Forgets finished runs that ended before a time, with their logs. Answers how many.
    pub async fn prune_runs(&self, finished_before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done =
            sqlx::query("delete from runs where finished_at < $1").bind(finished_before_ms).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
