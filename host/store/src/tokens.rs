//! Table `tokens`: who may use the API. A token itself is never stored, only its keyed digest.

use serde::{Deserialize, Serialize};
use sqlx::{Row, any::AnyRow};

use crate::{
    Store, StoreError,
    error::is_unique,
    limits::{MAX_PAGE, MAX_TOKENS},
    workspaces,
};

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    pub id: String,
    /// Unique among tokens that are not revoked; the actor of the audit log.
    pub name: String,
    /// Absent: all workspaces.
    pub workspace: Option<String>,
    /// A role's word; what it may do is the API's to decide.
    pub role: String,
    /// Milliseconds since the epoch, as all times.
    pub created_at: i64,
    /// The actor that made it.
    pub created_by: String,
    /// Refused from then on; absent: never.
    pub expires_at: Option<i64>,
    /// To the minute.
    pub last_used_at: Option<i64>,
    /// Refused since then.
    pub revoked_at: Option<i64>,
}

impl TokenRow {
    /// Whether it is accepted.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now_ms)
    }
}

fn from_row(row: &AnyRow) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        workspace: row.try_get("workspace")?,
        role: row.try_get("role")?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

impl Store {
    /// Adds a token under its digest. `Conflict` where a live one has the name, or there are [`MAX_TOKENS`];
    /// `NotFound` where its workspace is unknown.
    pub async fn add_token(&self, token: &TokenRow, digest: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if let Some(workspace) = &token.workspace {
            workspaces::refuse_unknown(&mut tx, workspace).await?;
        }
        let live: i64 =
            sqlx::query_scalar("select count(*) from tokens where revoked_at is null").fetch_one(&mut *tx).await?;
        if live >= MAX_TOKENS {
            return Err(StoreError::conflict(format!("there are {live} tokens already: revoke some first")));
        }
        let done = sqlx::query(
            "insert into tokens (id, name, workspace, role, digest, created_at, created_by, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&token.id)
        .bind(&token.name)
        .bind(token.workspace.as_deref())
        .bind(&token.role)
        .bind(digest)
        .bind(token.created_at)
        .bind(&token.created_by)
        .bind(token.expires_at)
        .execute(&mut *tx)
        .await;
        match done {
            Ok(_) => Ok(tx.commit().await?),
            Err(error) if is_unique(&error) => {
                Err(StoreError::conflict(format!("there is a token named {:?} already", token.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The token with this digest, live or not.
    pub async fn token_by_digest(&self, digest: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = sqlx::query("select * from tokens where digest = $1").bind(digest);
        row.fetch_optional(&self.reader).await?.as_ref().map(from_row).transpose()
    }

    /// One token. `NotFound` where there is none.
    pub async fn token(&self, id: &str) -> Result<TokenRow, StoreError> {
        let row = sqlx::query("select * from tokens where id = $1").bind(id).fetch_optional(&self.reader).await?;
        from_row(&row.ok_or_else(|| StoreError::not_found("token", id))?)
    }

    /// The live token of a name; expired ones count as live until they are revoked.
    pub async fn token_named(&self, name: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = sqlx::query("select * from tokens where name = $1 and revoked_at is null").bind(name);
        row.fetch_optional(&self.reader).await?.as_ref().map(from_row).transpose()
    }

    /// Tokens by id after `after`, at most [`MAX_PAGE`]; with `workspace`, those of it alone.
    pub async fn tokens(&self, workspace: Option<&str>, after: &str, limit: u32) -> Result<Vec<TokenRow>, StoreError> {
        let rows =
            sqlx::query("select * from tokens where id > $1 and ($2 = '' or workspace = $2) order by id limit $3")
                .bind(after)
                .bind(workspace.unwrap_or_default())
                .bind(i64::from(limit.min(MAX_PAGE.saturating_add(1))))
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(from_row).collect()
    }

    /// Whether somebody could still administer the whole installation.
    pub async fn has_live_admin(&self, role: &str, now_ms: i64) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "select 1 from tokens where role = $1 and workspace is null and revoked_at is null
               and (expires_at is null or expires_at > $2) limit 1",
        )
        .bind(role)
        .bind(now_ms)
        .fetch_optional(&self.reader)
        .await?;
        Ok(found.is_some())
    }

    /// Revokes a token for ever; revoking it again changes nothing. `NotFound` where there is none.
    pub async fn revoke_token(&self, id: &str, now_ms: i64) -> Result<TokenRow, StoreError> {
        let mut tx = self.write().await?;
        let row = sqlx::query("update tokens set revoked_at = coalesce(revoked_at, $1) where id = $2 returning *")
            .bind(now_ms)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        let revoked = from_row(&row.ok_or_else(|| StoreError::not_found("token", id))?)?;
        tx.commit().await?;
        Ok(revoked)
    }

    /// Notes that a token was used.
    pub async fn touch_token(&self, id: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("update tokens set last_used_at = $1 where id = $2 and coalesce(last_used_at, 0) < $1")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
