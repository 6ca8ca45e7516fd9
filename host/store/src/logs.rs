//! Table `logs`: what runs said, bounded per run.

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use thimble_record::RunId;

use crate::{
    Store, StoreError,
    columns::{parse_word, word},
    limits::{LOG_LINES_PER_INSERT, MAX_LOG_LINES_PER_RUN, MAX_LOG_MESSAGE_BYTES, MAX_PAGE},
    lock::{self, Lock},
};

/// Level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A line to be stored; free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: i64,
    pub level: LogLevel,
    /// Who said it: `host`, or the plugin's name.
    pub source: String,
    /// Cut at [`MAX_LOG_MESSAGE_BYTES`].
    pub message: String,
}

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// Counts the lines of the run from 1.
    pub seq: i64,
    #[serde(flatten)]
    pub line: LogLine,
}

/// Which lines of a run are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogFilter {
    /// Lines of this level and above.
    pub level: Option<LogLevel>,
    /// Lines whose message holds this text, whatever the case of its letters.
    pub contains: Option<String>,
    /// Lines of `host`, or of a plugin.
    pub source: Option<String>,
}

fn from_row(row: &AnyRow) -> Result<LogRow, StoreError> {
    Ok(LogRow {
        seq: row.try_get("seq")?,
        line: LogLine {
            at: row.try_get("at")?,
            level: parse_word(row, "level", "log line's level")?,
            source: row.try_get("source")?,
            message: row.try_get("message")?,
        },
    })
}

impl Store {
    /// Adds lines to a run's log. Over [`MAX_LOG_LINES_PER_RUN`] lines are dropped; answers how many.
    /// `NotFound` where there is no such run.
    pub async fn append_logs(&self, run: &RunId, lines: &[LogLine]) -> Result<u64, StoreError> {
        if lines.is_empty() {
            return Ok(0);
        }
        let mut tx = self.write_soon().await?;
        // Two that append count on from one another.
        if !lock::row(&mut tx, "runs", "id", &run.0, Lock::Change).await? {
            return Err(StoreError::not_found("run", &run.0));
        }
        let last: i64 = sqlx::query_scalar("select coalesce(max(seq), 0) from logs where run = $1")
            .bind(&run.0)
            .fetch_one(&mut *tx)
            .await?;
        let room = usize::try_from(MAX_LOG_LINES_PER_RUN - last).unwrap_or(0);
        let kept = &lines[..lines.len().min(room)];
        let mut seq = last;
        for chunk in kept.chunks(LOG_LINES_PER_INSERT) {
            seq = insert(&mut tx, run, seq, chunk).await?;
        }
        tx.commit().await?;
        // The last line that fits says that the rest is dropped, in the place of its own message.
        let replaced = usize::from(!kept.is_empty() && kept.len() == room);
        Ok((lines.len() - kept.len() + replaced) as u64)
    }

    /// Lines of a run after line `after` (0 for all), oldest first, at most [`MAX_PAGE`].
    pub async fn logs(&self, run: &RunId, after: i64, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        let rows = sqlx::query("select * from logs where run = $1 and seq > $2 order by seq limit $3")
            .bind(&run.0)
            .bind(after)
            .bind(i64::from(limit.min(MAX_PAGE)))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(from_row).collect()
    }

    /// As [`Store::logs`], only lines that fit a filter.
    pub async fn find_logs(
        &self,
        run: &RunId,
        filter: &LogFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<LogRow>, StoreError> {
        let LogFilter { level, contains, source } = filter;
        let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
        let least = level.unwrap_or(LogLevel::Trace);
        let wanted: Vec<_> =
            levels.iter().filter(|level| **level >= least).map(|level| format!("'{}'", word(level))).collect();
        let pattern = contains.as_ref().map(|text| {
            let plain = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{plain}%")
        });
        // The levels are our own words.
        let rows = sqlx::query(AssertSqlSafe(format!(
            "select * from logs where run = $1 and seq > $2 and level in ({}) and ($3 = '' or source = $3)
               and ($4 = '' or lower(message) like $4 escape '\\') order by seq limit $5",
            wanted.join(", ")
        )))
        .bind(&run.0)
        .bind(after)
        .bind(source.as_deref().unwrap_or(""))
        .bind(pattern.unwrap_or_default())
        .bind(i64::from(limit.min(MAX_PAGE)))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Forgets the lines of runs that ended before a time. Answers how many lines.
    pub async fn prune_logs(&self, finished_before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("delete from logs where run in (select id from runs where finished_at < $1)")
            .bind(finished_before_ms)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}

/// Adds lines after number `last` by one statement, and answers the number of the last of them.
async fn insert(tx: &mut AnyConnection, run: &RunId, last: i64, lines: &[LogLine]) -> Result<i64, StoreError> {
    const COLUMNS: usize = 6;
    let row = |index: usize| {
        let first = index * COLUMNS;
        let marks: Vec<_> = (1..=COLUMNS).map(|column| format!("${}", first + column)).collect();
        format!("({})", marks.join(", "))
    };
    let rows: Vec<_> = (0..lines.len()).map(row).collect();
    let insert = format!("insert into logs (run, seq, at, level, source, message) values {}", rows.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(insert));
    let mut seq = last;
    for line in lines {
        seq += 1;
        let full = seq == MAX_LOG_LINES_PER_RUN;
        let message = if full { "the log of this run is full; later lines are dropped" } else { &line.message };
        query = query
            .bind(&run.0)
            .bind(seq)
            .bind(line.at)
            .bind(word(if full { &LogLevel::Warn } else { &line.level }))
            .bind(if full { "host" } else { &line.source })
            // PostgreSQL keeps no text with this character.
            .bind(message[..message.floor_char_boundary(MAX_LOG_MESSAGE_BYTES)].replace('\0', "\u{fffd}"));
    }
    query.execute(tx).await?;
    Ok(seq)
}
