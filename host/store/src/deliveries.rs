//! Table `deliveries`: what is still to be told, to whom, and what became of it.
//!
//! A delivery is claimed by one process at a time and keeps its id through every attempt: after a crash it may arrive a
//! second time, with the same id.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use crate::{
    EventKind, NewEvent, RunRow, Store, StoreError,
    columns::{json, parse_column, parse_word, word},
    ids::new_run_id,
    limits::{MAX_PAGE, MAX_PENDING_DELIVERIES},
    notifiers,
};

/// What kind of thing is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryTarget {
    /// A notice, to a notifier.
    Notice,
    /// What was loaded, to a hook of a connection.
    Hook,
    /// The end of a run, to be divided into deliveries to hooks.
    Loads,
}

/// Where in the life of a condition it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Open,
    Resolve,
    Tell,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryStatus {
    Pending,
    Delivered,
    /// Given up: attempts ran out, or the receiver can never take it.
    Dead,
    /// Its condition ended before it was told.
    Healed,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRow {
    pub id: String,
    pub workspace: String,
    pub target: DeliveryTarget,
    pub notifier: Option<String>,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub kind: String,
    pub alert: Option<i64>,
    pub phase: Phase,
    pub body: Value,
    pub status: DeliveryStatus,
    pub attempts: u32,
    pub next_at: i64,
    pub last_error: Option<String>,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

fn from_row(row: &AnyRow) -> Result<DeliveryRow, StoreError> {
    let named = |column| row.try_get::<String, _>(column).map(|name| Some(name).filter(|name| !name.is_empty()));
    Ok(DeliveryRow {
        id: row.try_get("id")?,
        workspace: row.try_get("workspace")?,
        target: parse_word(row, "target", "delivery's target")?,
        notifier: row.try_get("notifier")?,
        connection: named("connection")?,
        stream: named("stream")?,
        kind: row.try_get("kind")?,
        alert: row.try_get("alert")?,
        phase: parse_word(row, "phase", "delivery's phase")?,
        body: parse_column(row, "body", "delivery's body")?,
        status: parse_word(row, "status", "delivery's status")?,
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
        next_at: row.try_get("next_at")?,
        last_error: row.try_get("last_error")?,
        created_at: row.try_get("created_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// A delivery to be.
struct NewDelivery<'a> {
    workspace: &'a str,
    target: DeliveryTarget,
    notifier: Option<&'a str>,
    connection: &'a str,
    stream: &'a str,
    kind: String,
    alert: Option<i64>,
    phase: Phase,
    body: &'a Value,
    next_at: i64,
}

async fn insert(tx: &mut AnyConnection, new: NewDelivery<'_>, now_ms: i64) -> Result<(), StoreError> {
    sqlx::query(
        "insert into deliveries (id, workspace, target, notifier, connection, stream, kind, alert, phase, body, status,
           attempts, next_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'pending', 0, $11, $12)",
    )
    .bind(new_run_id(now_ms)?.0)
    .bind(new.workspace)
    .bind(word(&new.target))
    .bind(new.notifier)
    .bind(new.connection)
    .bind(new.stream)
    .bind(new.kind)
    .bind(new.alert)
    .bind(word(&new.phase))
    .bind(json(new.body))
    .bind(new.next_at)
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(())
}

/// Queues a notice for every notifier that wants it. What is no condition is not queued again while the same waits, and
/// not behind [`MAX_PENDING_DELIVERIES`] others: a receiver that is away gets no flood when it comes back.
pub(crate) async fn tell(
    tx: &mut AnyConnection,
    workspace: &str,
    event: &NewEvent,
    alert: Option<i64>,
    phase: Phase,
    body: &Value,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (connection, stream) = (event.connection.as_deref().unwrap_or(""), event.stream.as_deref().unwrap_or(""));
    for notifier in notifiers::awake(tx, workspace).await? {
        if !notifier.wants(event.kind, event.connection.as_deref()) {
            continue;
        }
        if phase == Phase::Tell && waits(tx, &notifier.name, connection, stream, event.kind).await? {
            continue;
        }
        let delay_ms = if phase == Phase::Open { notifier.delay_ms } else { 0 };
        let new = NewDelivery {
            workspace,
            target: DeliveryTarget::Notice,
            notifier: Some(&notifier.name),
            connection,
            stream,
            kind: word(&event.kind),
            alert,
            phase,
            body,
            next_at: now_ms.saturating_add(delay_ms),
        };
        insert(tx, new, now_ms).await?;
    }
    Ok(())
}

async fn waits(
    tx: &mut AnyConnection,
    notifier: &str,
    connection: &str,
    stream: &str,
    kind: EventKind,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "select count(*) as waiting,
           coalesce(sum(case when connection = $2 and stream = $3 and kind = $4 and phase = 'tell' then 1 else 0 end), 0) as same
         from (select * from deliveries where notifier = $1 and status = 'pending' limit $5) pending",
    )
    .bind(notifier)
    .bind(connection)
    .bind(stream)
    .bind(word(&kind))
    .bind(i64::from(MAX_PENDING_DELIVERIES))
    .fetch_one(tx)
    .await?;
    Ok(row.try_get::<i64, _>("waiting")? >= i64::from(MAX_PENDING_DELIVERIES) || row.try_get::<i64, _>("same")? > 0)
}

/// Queues the end of a condition for everybody who was, or is being, told of its beginning. Whoever was not told yet
/// hears of neither.
pub(crate) async fn tell_end(
    tx: &mut AnyConnection,
    workspace: &str,
    event: &NewEvent,
    alert: i64,
    kind: EventKind,
    body: &Value,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "update deliveries set status = 'healed', ended_at = $1 where alert = $2 and phase = 'open'
           and status = 'pending' and attempts = 0",
    )
    .bind(now_ms)
    .bind(alert)
    .execute(&mut *tx)
    .await?;
    let told = sqlx::query(
        "select notifier from deliveries where alert = $1 and phase = 'open' and status <> 'healed'
           and notifier is not null order by id limit $2",
    )
    .bind(alert)
    .bind(i64::from(MAX_PAGE))
    .fetch_all(&mut *tx)
    .await?;
    for row in told {
        let notifier: String = row.try_get("notifier")?;
        let new = NewDelivery {
            workspace,
            target: DeliveryTarget::Notice,
            notifier: Some(&notifier),
            connection: event.connection.as_deref().unwrap_or(""),
            stream: event.stream.as_deref().unwrap_or(""),
            kind: word(&kind),
            alert: Some(alert),
            phase: Phase::Resolve,
            body,
            next_at: now_ms,
        };
        insert(tx, new, now_ms).await?;
    }
    Ok(())
}

/// Notes that a run ended whose connection has hooks.
pub(crate) async fn queue_loads(tx: &mut AnyConnection, run: &RunRow, now_ms: i64) -> Result<(), StoreError> {
    let connection = run.connection.as_ref().map_or("", |connection| connection.as_str());
    let new = NewDelivery {
        workspace: "",
        target: DeliveryTarget::Loads,
        notifier: None,
        connection,
        stream: "",
        kind: "loads".into(),
        alert: None,
        phase: Phase::Tell,
        body: &serde_json::json!({ "run": run.id }),
        next_at: now_ms,
    };
    insert(tx, new, now_ms).await
}

impl Store {
    /// Claims deliveries that are due, for `ttl_ms`; each counts as an attempt. Of one alert and notifier only the oldest
    /// is given out, so that an end is never told before its beginning.
    pub async fn claim_deliveries(
        &self,
        holder: &str,
        limit: u32,
        ttl_ms: i64,
        now_ms: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        const DUE: &str = "status = 'pending' and next_at <= $1 and (claimed_until is null or claimed_until <= $1)";
        // Asked on a timer: an idle server must not take the write lock.
        let ask = AssertSqlSafe(format!("select 1 from deliveries where {DUE} limit 1"));
        let waiting: Option<i64> = sqlx::query_scalar(ask).bind(now_ms).fetch_optional(&self.reader).await?;
        if waiting.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "update deliveries set holder = $2, claimed_until = $3, attempts = attempts + 1 where id in (
               select d.id from deliveries d where {DUE} and not exists (
                 select 1 from deliveries e where e.alert = d.alert and e.notifier = d.notifier and e.id < d.id
                   and e.status = 'pending')
               order by d.next_at, d.id limit $4{}) returning *",
            self.for_update_skipping()
        )))
        .bind(now_ms)
        .bind(holder)
        .bind(now_ms.saturating_add(ttl_ms))
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&mut *tx)
        .await?;
        let claimed = rows.iter().map(from_row).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Notes that a claimed delivery arrived.
    pub async fn delivered(&self, id: &str, holder: &str, now_ms: i64) -> Result<(), StoreError> {
        self.end_delivery(id, holder, DeliveryStatus::Delivered, None, now_ms).await
    }

    /// Notes that a claimed delivery did not arrive: tried again at `next_at`, or given up.
    pub async fn undelivered(
        &self,
        id: &str,
        holder: &str,
        error: &str,
        next_at: Option<i64>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let Some(next_at) = next_at else {
            return self.end_delivery(id, holder, DeliveryStatus::Dead, Some(error), now_ms).await;
        };
        let mut tx = self.write().await?;
        sqlx::query(
            "update deliveries set next_at = $1, last_error = $2, holder = null, claimed_until = null
             where id = $3 and holder = $4 and status = 'pending'",
        )
        .bind(next_at)
        .bind(error)
        .bind(id)
        .bind(holder)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn end_delivery(
        &self,
        id: &str,
        holder: &str,
        status: DeliveryStatus,
        error: Option<&str>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "update deliveries set status = $1, last_error = $2, ended_at = $3, holder = null, claimed_until = null
             where id = $4 and holder = $5 and status = 'pending'",
        )
        .bind(word(&status))
        .bind(error)
        .bind(now_ms)
        .bind(id)
        .bind(holder)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Divides a claimed delivery of loads into one for each hook and table: (name of the hook, table, body). Done once,
    /// whoever crashes: it ends in the transaction that makes the others.
    pub async fn divide_loads(
        &self,
        loads: &DeliveryRow,
        holder: &str,
        hooks: &[(String, String, Value)],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(
            "update deliveries set status = 'delivered', ended_at = $1, holder = null, claimed_until = null
             where id = $2 and holder = $3 and status = 'pending'",
        )
        .bind(now_ms)
        .bind(&loads.id)
        .bind(holder)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        for (hook, table, document) in hooks {
            let new = NewDelivery {
                workspace: &loads.workspace,
                target: DeliveryTarget::Hook,
                notifier: None,
                connection: loads.connection.as_deref().unwrap_or(""),
                stream: table,
                kind: "hook".into(),
                alert: None,
                phase: Phase::Tell,
                body: &serde_json::json!({ "hook": hook, "document": document }),
                next_at: now_ms,
            };
            insert(&mut tx, new, now_ms).await?;
        }
        Ok(tx.commit().await?)
    }

    /// What a notifier was told or is to be told, newest first.
    pub async fn deliveries(
        &self,
        notifier: &str,
        limit: u32,
        before: Option<&str>,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sqlx::query("select * from deliveries where notifier = $1 and id < $2 order by id desc limit $3")
            .bind(notifier)
            .bind(before.unwrap_or("~"))
            .bind(i64::from(limit.min(MAX_PAGE)))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// Forgets deliveries and alerts that ended before a time, events before it, and days before it. Answers how many.
    pub async fn prune_notices(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let mut gone = 0;
        for delete in [
            "delete from deliveries where ended_at < $1",
            "delete from alerts where resolved_at < $1",
            "delete from events where at < $1",
        ] {
            gone += sqlx::query(delete).bind(before_ms).execute(&mut *tx).await?.rows_affected();
        }
        let days = sqlx::query("delete from stream_days where day < $1").bind(before_ms.div_euclid(86_400_000));
        gone += days.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(gone)
    }
}
