//! Table `answers`: what a request with an idempotency key was answered, so that its repetition is answered the same.

use sqlx::Row;

use crate::{Store, StoreError};

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRow {
    /// SHA-256 of method, path and body, hex: the same key must not be used for something else.
    pub request_sha: String,
    /// Status of the answer; 0 while the first request is being carried out.
    pub status: u16,
    /// Names and values of the headers worth keeping, as JSON text.
    pub headers: String,
    pub body: Vec<u8>,
    /// Milliseconds since the epoch.
    pub at: i64,
}

impl Store {
    /// Takes a key for a request that is about to be carried out. Answers what is stored where it was taken before.
    /// A request that was never answered (its process ended) can be taken over after `abandoned_after_ms`.
    pub async fn take_key(
        &self,
        actor: &str,
        key: &str,
        request_sha: &str,
        abandoned_after_ms: i64,
        now_ms: i64,
    ) -> Result<Option<AnswerRow>, StoreError> {
        let mut tx = self.write().await?;
        let taken = sqlx::query(
            "insert into answers (actor, idempotency_key, request_sha, status, headers, body, at)
             values ($1, $2, $3, 0, '[]', $4, $5)
             on conflict (actor, idempotency_key) do update set at = excluded.at
             where answers.status = 0 and answers.at < $6 and answers.request_sha = excluded.request_sha",
        )
        .bind(actor)
        .bind(key)
        .bind(request_sha)
        .bind(Vec::new())
        .bind(now_ms)
        .bind(now_ms.saturating_sub(abandoned_after_ms))
        .execute(&mut *tx)
        .await?;
        let row = match taken.rows_affected() {
            0 => {
                sqlx::query("select * from answers where actor = $1 and idempotency_key = $2")
                    .bind(actor)
                    .bind(key)
                    .fetch_optional(&mut *tx)
                    .await?
            }
            _ => None,
        };
        tx.commit().await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(AnswerRow {
            request_sha: row.try_get("request_sha")?,
            status: u16::try_from(row.try_get::<i64, _>("status")?).unwrap_or(0),
            headers: row.try_get("headers")?,
            body: row.try_get("body")?,
            at: row.try_get("at")?,
        }))
    }

    /// Keeps the answer of a taken key.
    pub async fn keep_answer(
        &self,
        actor: &str,
        key: &str,
        status: u16,
        headers: &str,
        body: &[u8],
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "update answers set status = $1, headers = $2, body = $3 where actor = $4 and idempotency_key = $5",
        )
        .bind(i64::from(status))
        .bind(headers)
        .bind(body)
        .bind(actor)
        .bind(key)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Gives a taken key back: the request may be repeated.
    pub async fn drop_key(&self, actor: &str, key: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("delete from answers where actor = $1 and idempotency_key = $2")
            .bind(actor)
            .bind(key)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Forgets answers older than a time. Answers how many.
    pub async fn prune_answers(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query("delete from answers where at < $1").bind(before_ms).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }
}
