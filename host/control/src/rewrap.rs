//! The change of the host key: everything that is wrapped by an old key is wrapped by the current one.
//!
//! Safe to interrupt and to repeat, while the server works: a row that somebody changes meanwhile is looked at again.
//! Staged segments keep their keys, as a sealed batch never changes; an old key is needed until they are loaded.

use std::time::Duration;

use thimble_record::{
    Failure,
    envelope::{Keys, rewrap_fields, sealed_under, wrapped_under},
};
use thimble_store::{SealedSecrets, Store, StoreError};

/// Passes over all rows, each for what was changed during the one before.
const MAX_PASSES: usize = 5;

/// How long a key stays at least after it was replaced: whoever took it before that has stored what it wrapped, as no
/// request may take longer.
pub const RETIRE_AFTER: Duration = Duration::from_secs(60);

/// Adds and removes host keys.
pub trait KeyRotation: Send + Sync + 'static {
    /// Puts a new key in front.
    fn rotate(&self, now_ms: i64) -> Result<(), Failure>;

    /// Removes all keys but the current one, if that is still `current`.
    fn retire(&self, current: thimble_record::envelope::KeyId) -> Result<(), Failure>;
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Rows with secrets.
    pub rows: u64,
    /// Of these, those that were wrapped anew.
    pub rewrapped: u64,
    /// Rows whose secrets cannot be opened by any key of the ring, by kind and name.
    pub unopenable: Vec<String>,
}

/// Wraps every row's key by the current host key.
pub async fn rewrap_all(store: &Store, keys: &Keys) -> Result<Rewrapped, StoreError> {
    let mut told = Rewrapped::default();
    for _ in 0..MAX_PASSES {
        let pass = rewrap_once(store, keys).await?;
        told = Rewrapped { rewrapped: told.rewrapped + pass.rewrapped, ..pass };
        if pass_found_nothing(store, keys).await? {
            break;
        }
    }
    Ok(told)
}

async fn pass_found_nothing(store: &Store, keys: &Keys) -> Result<bool, StoreError> {
    Ok(rows_under_old_keys(store, keys).await?.is_empty())
}

async fn rewrap_once(store: &Store, keys: &Keys) -> Result<Rewrapped, StoreError> {
    let mut told = Rewrapped::default();
    for kind in Store::secret_kinds() {
        let mut after = String::new();
        loop {
            let rows = store.sealed_rows(kind, &after).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.row.name);
            for row in rows {
                told.rows += 1;
                match rewrap_fields(keys, &row.row, &row.sealed.0) {
                    Ok(None) => {}
                    Ok(Some(new)) => {
                        told.rewrapped += u64::from(store.replace_sealed(&row, &SealedSecrets(new)).await?);
                    }
                    Err(_) => told.unopenable.push(row.row.to_string()),
                }
            }
        }
    }
    Ok(told)
}

/// Rows whose key an older key of the ring wraps, by kind and name. Rows that no key opens do not count: nothing is lost
/// with an old key that does not help them.
async fn rows_under_old_keys(store: &Store, keys: &Keys) -> Result<Vec<String>, StoreError> {
    let ring = keys.ring();
    let (current, known) = (ring.current().id(), ring.ids());
    let mut found = Vec::new();
    for kind in Store::secret_kinds() {
        let mut after = String::new();
        loop {
            let rows = store.sealed_rows(kind, &after).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.row.name);
            for row in rows {
                let old = match sealed_under(&row.sealed.0) {
                    Some(id) => id != current && known.contains(&id),
                    // Of the first version: under which key shows when it is opened.
                    None => rewrap_fields(keys, &row.row, &row.sealed.0).is_ok(),
                };
                if old {
                    found.push(row.row.to_string());
                }
            }
        }
    }
    Ok(found)
}

/// Whether a rotation was begun and not finished.
pub async fn is_unfinished(store: &Store, keys: &Keys) -> Result<bool, StoreError> {
    Ok(keys.ring().ids().len() > 1 && !rows_under_old_keys(store, keys).await?.is_empty())
}

/// Why the old keys cannot be removed yet, one sentence each; none where they can.
pub async fn needs_old_keys(store: &Store, keys: &Keys, now_ms: i64) -> Result<Vec<String>, StoreError> {
    let ring = keys.ring();
    if ring.ids().len() < 2 {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    let added = ring.added().map_or(0, |at| at.timestamp_millis());
    let settled = added.saturating_add(i64::try_from(RETIRE_AFTER.as_millis()).unwrap_or(i64::MAX));
    if now_ms < settled {
        let left = settled.saturating_sub(now_ms).saturating_add(999) / 1_000;
        reasons.push(format!("the current key is new: what is under way may still use the old one for {left} seconds"));
    }
    let rows = rows_under_old_keys(store, keys).await?;
    if let Some(first) = rows.first() {
        reasons
            .push(format!("the secrets of {} rows are under an old key, {first} among them: rotate again", rows.len()));
    }
    let current = Some(ring.current().id());
    let old = |key: &String| hex::decode(key).map_or(true, |wrapped| wrapped_under(&wrapped) != current);
    let staged = store.staged_keys().await?.iter().filter(|key| old(key)).count();
    if staged > 0 {
        reasons
            .push(format!("{staged} staged segments are under an old key and not loaded yet: sync their connections"));
    }
    if store.oldest_running_sync().await?.is_some_and(|started| started <= added) {
        reasons
            .push("a sync that began before the current key was in use is still running: wait for its end".to_owned());
    }
    Ok(reasons)
}
