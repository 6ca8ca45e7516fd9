//! Tables `connection_totals`, `stream_totals` and `stream_days`: what was moved in all, and how old it is. Brought up to
//! date in the transaction that ends a run, so that they survive every restart and count nothing twice.

use serde::Serialize;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use thimble_record::ConnectionId;

use crate::{
    EventKind, NewEvent, RunKind, RunRow, RunStatus, Store, StoreError, alerts,
    columns::{counter, stored},
    deliveries, events,
    limits::{MAX_COUNTED_STREAMS, MAX_PAGE, TOLD_REJECTS},
};

const DAY_MS: i64 = 86_400_000;

/// Figures of one connection, since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionTotals {
    pub connection: String,
    pub workspace: String,
    pub paused: bool,
    /// How old the destination's rows may become, in milliseconds.
    pub freshness_ms: Option<i64>,
    /// When the extraction of the last complete load began.
    pub complete_at: Option<i64>,
    /// Since when the connection exists.
    pub created_at: i64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub interrupted: u64,
}

/// Figures of one stream, since it was first loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    pub connection: String,
    pub stream: String,
    /// Rows loaded or merged.
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
    /// When a run that loaded it ended last.
    pub loaded_at: i64,
    /// When the extraction of its last complete load began.
    pub complete_at: Option<i64>,
}

/// Figures of one stream on one day of UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamDay {
    pub stream: String,
    /// Days since 1970-01-01.
    pub day: i64,
    pub records: u64,
    pub bytes: u64,
    pub rejected: u64,
}

/// What waits and what runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    pub queued: u64,
    pub running: u64,
    /// When the oldest run was queued that may begin and has not.
    pub oldest_queued_at: Option<i64>,
    /// The oldest time of a schedule that came and was not decided upon yet.
    pub oldest_slot_at: Option<i64>,
    pub open_alerts: u64,
    pub pending_deliveries: u64,
    pub dead_deliveries: u64,
}

/// Brings everything up to date that hangs on the end of a run.
pub(crate) async fn run_ended(tx: &mut AnyConnection, run: &RunRow, now_ms: i64) -> Result<(), StoreError> {
    let (RunKind::Sync, Some(connection)) = (run.kind, &run.connection) else { return Ok(()) };
    let id = connection.as_str();
    // Its connection may be gone; then there is nothing to count for.
    let hooks: Option<String> =
        sqlx::query_scalar("select hooks from connections where id = $1").bind(id).fetch_optional(&mut *tx).await?;
    let Some(hooks) = hooks else { return Ok(()) };
    count_run(tx, id, run).await?;
    count_streams(tx, id, run, now_ms).await?;
    match run.status {
        RunStatus::Succeeded => {
            if alerts::is_open(tx, id, EventKind::RunFailed).await? {
                let event =
                    NewEvent { run: Some(run.id.clone()), ..NewEvent::of(EventKind::RunRecovered, id, Value::Null) };
                events::append(tx, &event, now_ms).await?;
            }
        }
        RunStatus::Failed => {
            let detail = serde_json::json!({ "failure": run.failure });
            let event = NewEvent { run: Some(run.id.clone()), ..NewEvent::of(EventKind::RunFailed, id, detail) };
            events::append(tx, &event, now_ms).await?;
        }
        RunStatus::Queued | RunStatus::Running | RunStatus::Cancelled | RunStatus::Interrupted => {}
    }
    if hooks != "[]" && run.report.get("tables").is_some() {
        deliveries::queue_loads(tx, run, now_ms).await?;
    }
    Ok(())
}

async fn count_run(tx: &mut AnyConnection, connection: &str, run: &RunRow) -> Result<(), StoreError> {
    let column = match run.status {
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Queued | RunStatus::Running => return Ok(()),
    };
    let complete = (run.status == RunStatus::Succeeded && reads_all(run)).then_some(run.started_at).flatten();
    sqlx::query(AssertSqlSafe(format!(
        "insert into connection_totals (connection, {column}, complete_at) values ($1, 1, $2)
         on conflict (connection) do update set {column} = connection_totals.{column} + 1,
           complete_at = coalesce(excluded.complete_at, connection_totals.complete_at)"
    )))
    .bind(connection)
    .bind(complete)
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a sync is of all streams, and neither a backfill nor a replay.
fn reads_all(run: &RunRow) -> bool {
    let named = run.request.get("streams").and_then(Value::as_array).is_some_and(|streams| !streams.is_empty());
    !named && run.request.get("backfill").is_none() && run.request.get("replay").is_none()
}

async fn count_streams(tx: &mut AnyConnection, id: &str, run: &RunRow, now_ms: i64) -> Result<(), StoreError> {
    let streams = run.report.get("streams").and_then(Value::as_object).into_iter().flatten();
    for (stream, figures) in streams.take(MAX_COUNTED_STREAMS) {
        let figure = |name: &str| stored(figures.get(name).and_then(Value::as_u64).unwrap_or(0));
        let (records, bytes, rejected) = (figure("loaded") + figure("merged"), figure("bytes"), figure("rejected"));
        sqlx::query(
            "insert into stream_totals (connection, stream, records, bytes, rejected, loaded_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (connection, stream) do update set records = stream_totals.records + excluded.records,
               bytes = stream_totals.bytes + excluded.bytes, rejected = stream_totals.rejected + excluded.rejected,
               loaded_at = excluded.loaded_at",
        )
        .bind(id)
        .bind(stream)
        .bind(records)
        .bind(bytes)
        .bind(rejected)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert into stream_days (connection, stream, day, records, bytes, rejected)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (connection, stream, day) do update set records = stream_days.records + excluded.records,
               bytes = stream_days.bytes + excluded.bytes, rejected = stream_days.rejected + excluded.rejected",
        )
        .bind(id)
        .bind(stream)
        .bind(now_ms.div_euclid(DAY_MS))
        .bind(records)
        .bind(bytes)
        .bind(rejected)
        .execute(&mut *tx)
        .await?;
        tell_rejects(tx, run, stream, (figure("emitted"), rejected), now_ms).await?;
    }
    if run.status == RunStatus::Succeeded {
        complete(tx, id, run).await?;
    }
    Ok(())
}

/// A few bad records are a matter for the table of rejected ones; many are news.
async fn tell_rejects(
    tx: &mut AnyConnection,
    run: &RunRow,
    stream: &str,
    (emitted, rejected): (i64, i64),
    now_ms: i64,
) -> Result<(), StoreError> {
    let (number, percent) = TOLD_REJECTS;
    if rejected < number || rejected.saturating_mul(100) < emitted.saturating_mul(percent) {
        return Ok(());
    }
    let detail = serde_json::json!({"rejected": rejected, "emitted": emitted});
    let connection = run.connection.as_ref().map_or("", |connection| connection.as_str());
    let event = NewEvent {
        stream: Some(stream.to_owned()),
        run: Some(run.id.clone()),
        ..NewEvent::of(EventKind::RejectsOverThreshold, connection, detail)
    };
    events::append(tx, &event, now_ms).await?;
    Ok(())
}

/// A stream without new rows is as fresh as one with some.
async fn complete(tx: &mut AnyConnection, id: &str, run: &RunRow) -> Result<(), StoreError> {
    if run.request.get("backfill").is_some() || run.request.get("replay").is_some() {
        return Ok(());
    }
    if reads_all(run) {
        sqlx::query("update stream_totals set complete_at = $1 where connection = $2")
            .bind(run.started_at)
            .bind(id)
            .execute(tx)
            .await?;
        return Ok(());
    }
    let named = run.request.get("streams").and_then(Value::as_array).into_iter().flatten();
    for stream in named.filter_map(Value::as_str).take(MAX_COUNTED_STREAMS) {
        sqlx::query("update stream_totals set complete_at = $1 where connection = $2 and stream = $3")
            .bind(run.started_at)
            .bind(id)
            .bind(stream)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

fn number(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    Ok(counter(row.try_get::<Option<i64>, _>(column)?.unwrap_or(0)))
}

fn connection_from_row(row: &AnyRow) -> Result<ConnectionTotals, StoreError> {
    Ok(ConnectionTotals {
        connection: row.try_get("id")?,
        workspace: row.try_get("workspace")?,
        paused: row.try_get::<i64, _>("paused")? != 0,
        freshness_ms: row.try_get("freshness_ms")?,
        complete_at: row.try_get("complete_at")?,
        created_at: row.try_get("created_at")?,
        succeeded: number(row, "succeeded")?,
        failed: number(row, "failed")?,
        cancelled: number(row, "cancelled")?,
        interrupted: number(row, "interrupted")?,
    })
}

fn stream_from_row(row: &AnyRow) -> Result<StreamTotals, StoreError> {
    Ok(StreamTotals {
        connection: row.try_get("connection")?,
        stream: row.try_get("stream")?,
        records: number(row, "records")?,
        bytes: number(row, "bytes")?,
        rejected: number(row, "rejected")?,
        loaded_at: row.try_get("loaded_at")?,
        complete_at: row.try_get("complete_at")?,
    })
}

const CONNECTIONS: &str =
    "select c.id, c.workspace, c.paused, c.freshness_ms, c.created_at, t.complete_at, t.succeeded, t.failed,
   t.cancelled, t.interrupted
 from connections c left join connection_totals t on t.connection = c.id";

impl Store {
    /// Figures of the connections of one workspace or all, by name, at most `limit`.
    pub async fn connection_totals(
        &self,
        workspace: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConnectionTotals>, StoreError> {
        let select = format!("{CONNECTIONS} where $1 = '' or c.workspace = $1 order by c.id limit $2");
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(workspace.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(connection_from_row).collect()
    }

    /// Figures of the streams of one workspace or all, at most `limit`.
    pub async fn stream_totals(&self, workspace: Option<&str>, limit: u32) -> Result<Vec<StreamTotals>, StoreError> {
        let rows = sqlx::query(
            "select t.* from stream_totals t join connections c on c.id = t.connection
             where $1 = '' or c.workspace = $1 order by t.connection, t.stream limit $2",
        )
        .bind(workspace.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(stream_from_row).collect()
    }

    /// Figures of one connection with its streams, and of the days from `since_day` on.
    pub async fn totals_of(
        &self,
        connection: &ConnectionId,
        since_day: i64,
    ) -> Result<(ConnectionTotals, Vec<StreamTotals>, Vec<StreamDay>), StoreError> {
        let id = connection.as_str();
        let select = format!("{CONNECTIONS} where c.id = $1");
        let row = sqlx::query(AssertSqlSafe(select)).bind(id).fetch_optional(&self.reader).await?;
        let totals = connection_from_row(&row.ok_or_else(|| StoreError::not_found("connection", id))?)?;
        let rows = sqlx::query("select * from stream_totals where connection = $1 order by stream limit $2")
            .bind(id)
            .bind(i64::from(MAX_PAGE))
            .fetch_all(&self.reader)
            .await?;
        let streams = rows.iter().map(stream_from_row).collect::<Result<_, _>>()?;
        let rows = sqlx::query(
            "select stream, day, records, bytes, rejected from stream_days where connection = $1 and day >= $2
             order by day desc, stream limit $3",
        )
        .bind(id)
        .bind(since_day)
        .bind(i64::from(MAX_PAGE))
        .fetch_all(&self.reader)
        .await?;
        let day = |row: &AnyRow| {
            Ok(StreamDay {
                stream: row.try_get("stream")?,
                day: row.try_get("day")?,
                records: number(row, "records")?,
                bytes: number(row, "bytes")?,
                rejected: number(row, "rejected")?,
            })
        };
        Ok((totals, streams, rows.iter().map(day).collect::<Result<_, StoreError>>()?))
    }

    /// What waits and what runs.
    pub async fn backlog(&self, now_ms: i64) -> Result<Backlog, StoreError> {
        let row = sqlx::query(
            "select
               (select count(*) from runs where status = 'queued') as queued,
               (select count(*) from runs where status = 'running') as running,
               (select min(case when not_before > queued_at then not_before else queued_at end) from runs
                where status = 'queued' and (not_before is null or not_before <= $1)) as oldest,
               (select min(next_at) from slots where resting = 0 and next_at <= $1) as slot,
               (select count(*) from alerts where resolved_at is null) as alerts,
               (select count(*) from deliveries where status = 'pending') as pending,
               (select count(*) from deliveries where status = 'dead') as dead",
        )
        .bind(now_ms)
        .fetch_one(&self.reader)
        .await?;
        Ok(Backlog {
            queued: number(&row, "queued")?,
            running: number(&row, "running")?,
            oldest_queued_at: row.try_get("oldest")?,
            oldest_slot_at: row.try_get("slot")?,
            open_alerts: number(&row, "alerts")?,
            pending_deliveries: number(&row, "pending")?,
            dead_deliveries: number(&row, "dead")?,
        })
    }
}
