//! Table `slots`: when each schedule comes next, and the last slot that was decided upon.
//!
//! What is due is decided by the caller; here a decision becomes true for all processes at once: the slots move on, the run is
//! queued and what was left out becomes events in one transaction, or nothing of it happens.

use serde_json::Value;
use sqlx::{Acquire, AnyConnection, Row, any::AnyRow};
use thimble_record::{ConnectionId, RunId};

use crate::{
    NewEvent, NewRun, RunRow, Store, StoreError,
    columns::{json, parse_column, parse_optional},
    error::is_unique,
    events, queue,
};

/// A connection whose slots were made from an earlier version of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Unscheduled {
    pub connection: ConnectionId,
    pub version: i64,
    pub paused: bool,
    pub schedule: Option<Value>,
    /// By stream.
    pub stream_schedules: Value,
}

/// A schedule as it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSlot {
    /// Empty: the connection's own.
    pub stream: String,
    pub schedule: Value,
    /// Whether a slot that comes while the connection is running waits for its end.
    pub queues: bool,
    /// `None`: none comes by itself.
    pub next_at: Option<i64>,
}

/// A schedule and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotRow {
    pub connection: ConnectionId,
    /// Empty: the connection's own.
    pub stream: String,
    pub schedule: Value,
    /// When the next slot starts; `None`: none comes by itself.
    pub next_at: Option<i64>,
    /// The last slot that was decided upon, or when the schedule was set.
    pub last_slot: i64,
    /// Slots up to here passed while the connection was paused.
    pub rested_until: i64,
}

/// A schedule whose time has come.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSlot {
    pub slot: SlotRow,
    /// The unfinished sync of its connection.
    pub busy: Option<RunId>,
    /// Whether that one only waits to try a failed run again.
    pub retrying: bool,
    /// When the last sync of its connection ended.
    pub last_end: Option<i64>,
    /// Schedules of the connection's streams, by name.
    pub stream_schedules: Value,
}

/// How one schedule moves on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMove {
    pub stream: String,
    /// As it was read: the move happens only while this is still true.
    pub expected_next_at: Option<i64>,
    pub next_at: Option<i64>,
    pub last_slot: i64,
}

/// What was decided upon for one connection.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotClaim {
    pub connection: ConnectionId,
    pub moves: Vec<SlotMove>,
    pub run: Option<NewRun>,
    pub events: Vec<NewEvent>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// The run is queued, or there was none to queue.
    Done(Option<Box<RunRow>>),
    /// Somebody else decided first, or the connection was paused, changed or is being synced: read again.
    Lost,
}

const COLUMNS: &str = "s.connection, s.stream, s.schedule, s.next_at, s.last_slot, s.rested_until";

fn from_row(row: &AnyRow) -> Result<SlotRow, StoreError> {
    Ok(SlotRow {
        connection: connection_id(row)?,
        stream: row.try_get("stream")?,
        schedule: parse_column(row, "schedule", "slot's schedule")?,
        next_at: row.try_get("next_at")?,
        last_slot: row.try_get("last_slot")?,
        rested_until: row.try_get("rested_until")?,
    })
}

fn connection_id(row: &AnyRow) -> Result<ConnectionId, StoreError> {
    let id: String = row.try_get("connection")?;
    ConnectionId::new(id).map_err(|source| StoreError::Corrupt { what: "slot's connection", source: Box::new(source) })
}

impl Store {
    /// Connections that changed since their slots were made.
    pub async fn unscheduled(&self, limit: u32) -> Result<Vec<Unscheduled>, StoreError> {
        let rows = sqlx::query(
            "select id as connection, version, paused, schedule, stream_schedules from connections
             where scheduled_version <> version order by id limit $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        let read = |row: &AnyRow| {
            Ok(Unscheduled {
                connection: connection_id(row)?,
                version: row.try_get("version")?,
                paused: row.try_get::<i64, _>("paused")? != 0,
                schedule: parse_optional(row, "schedule", "connection's schedule")?,
                stream_schedules: parse_column(row, "stream_schedules", "connection's stream schedules")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Makes a connection's slots those of its schedules. One whose schedule is as before goes on where it stood; one that
    /// rested while the connection was paused remembers until when. Answers false where the connection changed meanwhile.
    pub async fn put_slots(&self, of: &Unscheduled, slots: &[NewSlot], now_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.write_soon().await?;
        let current = sqlx::query("update connections set scheduled_version = $1 where id = $2 and version = $1")
            .bind(of.version)
            .bind(of.connection.as_str())
            .execute(&mut *tx)
            .await?;
        if current.rows_affected() == 0 {
            return Ok(false);
        }
        let kept: Vec<String> = sqlx::query_scalar("select stream from slots where connection = $1")
            .bind(of.connection.as_str())
            .fetch_all(&mut *tx)
            .await?;
        for stream in kept.iter().filter(|stream| !slots.iter().any(|slot| slot.stream == **stream)) {
            sqlx::query("delete from slots where connection = $1 and stream = $2")
                .bind(of.connection.as_str())
                .bind(stream)
                .execute(&mut *tx)
                .await?;
        }
        for slot in slots {
            put(&mut tx, of, slot, now_ms).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The schedules of a connection, its own first.
    pub async fn slots(&self, connection: &ConnectionId) -> Result<Vec<SlotRow>, StoreError> {
        let rows = sqlx::query(
            "select s.connection, s.stream, s.schedule, s.next_at, s.last_slot, s.rested_until from slots s
             where s.connection = $1 order by s.stream",
        )
        .bind(connection.as_str())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// When the next of all schedules that do not rest comes, by connection.
    pub async fn next_starts(&self) -> Result<std::collections::BTreeMap<String, i64>, StoreError> {
        let rows = sqlx::query(
            "select connection, min(next_at) as next_at from slots where resting = 0 and next_at is not null
             group by connection",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("connection")?, row.try_get("next_at")?))).collect()
    }

    /// When somebody has to look at the schedules again: the earliest start after `now_ms`.
    pub async fn next_start(&self, now_ms: i64) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("select next_at from slots where resting = 0 and next_at > $1 order by next_at limit 1")
            .bind(now_ms)
            .fetch_optional(&self.reader)
            .await?)
    }

    /// The schedules whose time has come, of each connection all of them, the longest waiting connection first. Those that
    /// queue are left out while their connection is being synced.
    pub async fn due_slots(&self, now_ms: i64, limit: u32) -> Result<Vec<DueSlot>, StoreError> {
        let select = format!(
            "select {COLUMNS}, r.id as busy, r.run_trigger, r.not_before, c.stream_schedules,
               (select e.finished_at from runs e where e.connection = s.connection and e.kind = 'sync'
                  and e.finished_at is not null order by e.id desc limit 1) as last_end
             from slots s join connections c on c.id = s.connection and c.scheduled_version = c.version and c.paused = 0
               left join runs r on r.connection = s.connection and r.kind = 'sync' and r.status in ('queued', 'running')
             where s.resting = 0 and s.next_at <= $1 and (s.queues = 0 or r.id is null)
             order by s.next_at, s.connection, s.stream limit $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(select))
            .bind(now_ms)
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        let read = |row: &AnyRow| {
            let waits = row.try_get::<Option<i64>, _>("not_before")?.is_some_and(|not_before| not_before > now_ms);
            Ok(DueSlot {
                slot: from_row(row)?,
                busy: row.try_get::<Option<String>, _>("busy")?.map(RunId),
                retrying: waits && row.try_get::<Option<&str>, _>("run_trigger")? == Some("retry"),
                last_end: row.try_get("last_end")?,
                stream_schedules: parse_column(row, "stream_schedules", "connection's stream schedules")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Carries out what was decided upon, each claim whole or not at all, in their order. Two processes that decided upon the
    /// same slots never both succeed.
    pub async fn claim_slots(&self, claims: &[SlotClaim], now_ms: i64) -> Result<Vec<Claimed>, StoreError> {
        let mut tx = self.write_soon().await?;
        let mut done = Vec::with_capacity(claims.len());
        for claim in claims {
            // A savepoint: on PostgreSQL a refused row would otherwise end the whole transaction.
            let mut part = tx.begin().await?;
            match carry_out(&mut part, claim, now_ms).await {
                Ok(Some(claimed)) => {
                    part.commit().await?;
                    done.push(claimed);
                }
                Ok(None) | Err(StoreError::AlreadyRunning { .. } | StoreError::NotFound { .. }) => {
                    part.rollback().await?;
                    done.push(Claimed::Lost);
                }
                Err(StoreError::Unavailable(error)) if is_unique(&error) => {
                    part.rollback().await?;
                    done.push(Claimed::Lost);
                }
                Err(error) => return Err(error),
            }
        }
        tx.commit().await?;
        Ok(done)
    }

    /// Makes the schedules of a connection rest, or go on. `why` is said where nobody asked for it, and becomes an event.
    /// Answers false where nothing changed. `NotFound` where there is no such connection.
    pub async fn pause(
        &self,
        connection: &ConnectionId,
        paused: bool,
        why: Option<&str>,
        event: Option<&NewEvent>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let known: Option<i64> = sqlx::query_scalar("select 1 from connections where id = $1")
            .bind(connection.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        known.ok_or_else(|| StoreError::not_found("connection", connection.as_str()))?;
        let done = sqlx::query(
            "update connections set paused = $1, paused_why = $2, version = version + 1, updated_at = $3
             where id = $4 and paused <> $1",
        )
        .bind(i64::from(paused))
        .bind(why)
        .bind(now_ms)
        .bind(connection.as_str())
        .execute(&mut *tx)
        .await?;
        let changed = done.rows_affected() > 0;
        if let Some(event) = event.filter(|_| changed) {
            events::append(&mut tx, event, now_ms).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }
}

/// Lets schedules go on that the host made rest, because what they failed for may have been put right: the source or plugin
/// of that name changed.
pub(crate) async fn wake(tx: &mut AnyConnection, source_or_plugin: &str) -> Result<(), StoreError> {
    sqlx::query(
        "update connections set paused = 0, paused_why = null, version = version + 1
         where paused = 1 and paused_why is not null and (source = $1 or plugin = $1)",
    )
    .bind(source_or_plugin)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put(tx: &mut AnyConnection, of: &Unscheduled, slot: &NewSlot, now_ms: i64) -> Result<(), StoreError> {
    // In the update `slots.…` is the row as it stood.
    sqlx::query(
        "insert into slots (connection, stream, schedule, queues, resting, next_at, last_slot, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)
         on conflict (connection, stream) do update set queues = excluded.queues, resting = excluded.resting,
           next_at = case when slots.schedule = excluded.schedule then slots.next_at else excluded.next_at end,
           last_slot = case when slots.schedule = excluded.schedule then slots.last_slot else excluded.last_slot end,
           rested_until = case when slots.resting = 1 and excluded.resting = 0 then excluded.updated_at
             else slots.rested_until end,
           schedule = excluded.schedule, updated_at = excluded.updated_at",
    )
    .bind(of.connection.as_str())
    .bind(&slot.stream)
    .bind(json(&slot.schedule))
    .bind(i64::from(slot.queues))
    .bind(i64::from(of.paused))
    .bind(slot.next_at)
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(())
}

/// `None` where the slots no longer stand as they were read.
async fn carry_out(tx: &mut AnyConnection, claim: &SlotClaim, now_ms: i64) -> Result<Option<Claimed>, StoreError> {
    for SlotMove { stream, expected_next_at, next_at, last_slot } in &claim.moves {
        let moved = sqlx::query(
            "update slots set next_at = $1, last_slot = $2, updated_at = $3
             where connection = $4 and stream = $5 and next_at = $6 and last_slot <= $2 and resting = 0
               and exists (select 1 from connections c where c.id = $4 and c.paused = 0
                 and c.scheduled_version = c.version)",
        )
        .bind(next_at)
        .bind(last_slot)
        .bind(now_ms)
        .bind(claim.connection.as_str())
        .bind(stream)
        .bind(expected_next_at)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() != 1 {
            return Ok(None);
        }
    }
    let run = match &claim.run {
        Some(run) => Some(Box::new(queue::insert(tx, run, None, now_ms).await?)),
        None => None,
    };
    for event in &claim.events {
        events::append(tx, event, now_ms).await?;
    }
    Ok(Some(Claimed::Done(run)))
}
