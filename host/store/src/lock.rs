//! Row locks, for what several statements of one transaction must find unchanged.
//!
//! SQLite needs none: its writing transactions come one after the other. On PostgreSQL (read committed) whatever is
//! decided upon is locked first and read by the next statement, which sees what the others committed meanwhile.
//! The order is always: names, leases, plugins, sources, connections, runs, and whatever hangs on those.

use sqlx::{AnyConnection, AssertSqlSafe};

use crate::StoreError;

/// How a row is locked until the end of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// It is about to be referred to: it must not go away.
    Reference,
    /// It is about to be changed, or something that hangs on it.
    Change,
    /// It is about to be deleted: nobody may refer to it.
    Delete,
}

/// Ends a `select` whose rows are to be locked.
pub(crate) fn clause(tx: &AnyConnection, lock: Lock) -> &'static str {
    if !on_postgres(tx) {
        return "";
    }
    match lock {
        Lock::Reference => " for key share",
        Lock::Change => " for no key update",
        Lock::Delete => " for update",
    }
}

/// Locks the row of a table whose key has this value, and answers whether there is one.
pub(crate) async fn row(
    tx: &mut AnyConnection,
    table: &'static str,
    key: &'static str,
    value: &str,
    lock: Lock,
) -> Result<bool, StoreError> {
    let select = format!("select 1 from {table} where {key} = $1{}", clause(tx, lock));
    // Table and key are words of this crate.
    let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(select)).bind(value).fetch_optional(tx).await?;
    Ok(found.is_some())
}

/// Locks the row of a table whose key has this value for a change, and answers its version; `None` where there is none.
pub(crate) async fn version(
    tx: &mut AnyConnection,
    table: &'static str,
    key: &'static str,
    value: &str,
) -> Result<Option<i64>, StoreError> {
    let select = format!("select version from {table} where {key} = $1{}", clause(tx, Lock::Change));
    // Table and key are words of this crate.
    Ok(sqlx::query_scalar(AssertSqlSafe(select)).bind(value).fetch_optional(tx).await?)
}

/// Locks a name whose row may not exist yet, so that two that create it come one after the other.
pub(crate) async fn name(tx: &mut AnyConnection, what: &str, name: &str) -> Result<(), StoreError> {
    if on_postgres(tx) {
        sqlx::query("select pg_advisory_xact_lock(hashtext($1))").bind(format!("{what}/{name}")).execute(tx).await?;
    }
    Ok(())
}

fn on_postgres(tx: &AnyConnection) -> bool {
    tx.backend_name() == "PostgreSQL"
}
