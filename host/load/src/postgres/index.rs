//! Indexes on keys. Rows that a new unique index cannot hold are merged before it is made.

use thimble_record::{StreamBatch, SystemColumn, WriteMode};

use tokio_postgres::error::SqlState;

use super::{
    client::Session,
    names,
    state::Place,
    table::{Table, list},
};
use crate::error::LoadError;

/// The columns of a keyed table that merging works with.
pub(super) struct Keyed {
    pub(super) key: Vec<String>,
    pub(super) sequence: String,
}

impl Keyed {
    /// Finds the columns in a table.
    pub(super) fn new(part: &StreamBatch, table: &Table) -> Result<Self, LoadError> {
        let missing = |what: &str| {
            LoadError::Conflict(format!(
                "stream {:?}: its rows are to be merged by key, but it has {what}",
                part.stream
            ))
        };
        let column = |name: &str| table.column(name).map(str::to_owned);
        let key: Option<Vec<_>> = part.key.iter().map(|name| column(name)).collect();
        let key = key.ok_or_else(|| missing("not all columns of its key"))?;
        if key.is_empty() {
            return Err(missing("no key"));
        }
        let sequence = column(part.system.name(SystemColumn::Sequence)).ok_or_else(|| missing("no sequence"))?;
        Ok(Self { key, sequence })
    }

    /// The key's columns in SQL.
    pub(super) fn list(&self, prefix: &str) -> String {
        list(self.key.iter().map(String::as_str), prefix)
    }

    /// Whether two rows have the same key, where the columns that are null are those of `nulls`. Indexes serve it.
    pub(super) fn same(&self, nulls: &[bool], left: &str, right: &[String], right_prefix: &str) -> String {
        let column = |((name, other), null): ((&String, &String), &bool)| {
            let (a, b) = (format!("{left}{}", names::quoted(name)), format!("{right_prefix}{}", names::quoted(other)));
            if *null { format!("{a} is null and {b} is null") } else { format!("{a} = {b}") }
        };
        self.key.iter().zip(right).zip(nulls).map(column).collect::<Vec<_>>().join(" and ")
    }

    /// Which columns of the keys in a table are null: each way in which that occurs.
    pub(super) async fn patterns(&self, session: &Session, table: &str) -> Result<Vec<Vec<bool>>, LoadError> {
        let nulls: Vec<_> = self.key.iter().map(|column| format!("{} is null", names::quoted(column))).collect();
        let sql = format!("select distinct array[{}] from {table}", nulls.join(", "));
        let rows = session.rows("look at the keys in", table, &sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// An index of ours on a table.
struct Found {
    name: String,
    columns: Vec<String>,
    partial: bool,
}

async fn find(session: &Session, place: &Place, table: &Table, prefix: &str) -> Result<Vec<Found>, LoadError> {
    let sql = "select i.relname, x.indpred is not null, \
                 array(select a.attname::text from unnest(x.indkey::int2[]) with ordinality k(n, o) \
                       join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.n order by k.o) \
               from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid \
               join pg_namespace n on n.oid = t.relnamespace \
               where n.nspname = $1 and t.relname = $2 and starts_with(i.relname, $3) and x.indisvalid";
    let rows = session.rows("look at the indexes of", &table.sql, sql, &[&place.schema, &table.name, &prefix]).await?;
    Ok(rows.iter().map(|row| Found { name: row.get(0), partial: row.get(1), columns: row.get(2) }).collect())
}

/// Makes sure that a table has the unique index that its mode needs. Rows that it cannot hold are merged.
pub(super) async fn ensure_key(
    session: &Session,
    place: &Place,
    part: &StreamBatch,
    table: &Table,
    keyed: &Keyed,
) -> Result<(), LoadError> {
    let history = part.mode == WriteMode::History;
    let found = find(session, place, table, names::KEY_INDEX).await?;
    if found.iter().any(|index| index.columns == keyed.key && index.partial == history) {
        return Ok(());
    }
    for index in &found {
        let sql = format!("drop index {}", place.table(&index.name));
        session.run("drop an index of", &table.sql, &sql).await?;
    }
    if !table.made {
        if history {
            begin_history(session, part, table, keyed).await?;
        } else {
            let removed = keep_last(session, table, keyed).await?;
            if removed > 0 {
                tracing::warn!(
                    table = table.sql,
                    removed,
                    "rows of the same key were merged: the table now has one for each"
                );
            }
        }
    }
    session.run("create the unique index of", &table.sql, &unique(part, table, keyed)).await
}

/// The statement that makes the unique index.
fn unique(part: &StreamBatch, table: &Table, keyed: &Keyed) -> String {
    let history = part.mode == WriteMode::History;
    let mut columns: Vec<&str> = keyed.key.iter().map(String::as_str).collect();
    columns.push(if history { "current" } else { "all" });
    let name = names::index_name(names::KEY_INDEX, &table.name, &columns);
    let current = names::quoted(part.system.name(SystemColumn::Current));
    format!(
        "create unique index {} on {} ({}) nulls not distinct{}",
        names::quoted(&name),
        table.sql,
        keyed.list(""),
        if history { format!(" where {current}") } else { String::new() }
    )
}

/// Makes the unique index of a table that was just filled. Returns how many rows were merged for it.
pub(super) async fn make_over_rows(
    session: &Session,
    part: &StreamBatch,
    table: &Table,
    keyed: &Keyed,
) -> Result<u64, LoadError> {
    let sql = unique(part, table, keyed);
    session.run("begin to index", &table.sql, "savepoint thimble_index").await?;
    // Mostly no key comes twice, and then nothing has to be sorted by hand.
    let removed = match session.client.batch_execute(&sql).await {
        Ok(()) => 0,
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            session.run("begin again to index", &table.sql, "rollback to savepoint thimble_index").await?;
            let removed = keep_last(session, table, keyed).await?;
            session.run("create the unique index of", &table.sql, &sql).await?;
            removed
        }
        Err(error) => return Err(session.failed("create the unique index of", &table.sql, &error)),
    };
    session.run("index", &table.sql, "release savepoint thimble_index").await?;
    Ok(removed)
}

/// Makes sure that a subtable has an index on the root's key.
pub(super) async fn ensure_root(
    session: &Session,
    place: &Place,
    table: &Table,
    key: &[String],
) -> Result<(), LoadError> {
    let found = find(session, place, table, names::ROOT_INDEX).await?;
    if found.iter().any(|index| index.columns == key) {
        return Ok(());
    }
    let columns: Vec<&str> = key.iter().map(String::as_str).collect();
    let name = names::index_name(names::ROOT_INDEX, &table.name, &columns);
    let sql = format!(
        "create index if not exists {} on {} ({})",
        names::quoted(&name),
        table.sql,
        list(columns.iter().copied(), "")
    );
    session.run("create the index of", &table.sql, &sql).await
}

/// Of the rows of each key, keeps the one with the greatest sequence. Returns how many others there were.
async fn keep_last(session: &Session, table: &Table, keyed: &Keyed) -> Result<u64, LoadError> {
    let sql = format!(
        "delete from {t} t using (select ctid, row_number() over (partition by {key} order by {sequence} desc nulls last, \
         ctid desc) as place from {t}) d where t.ctid = d.ctid and d.place > 1",
        t = table.sql,
        key = keyed.list(""),
        sequence = names::quoted(&keyed.sequence)
    );
    session.change("merge the rows of", &table.sql, &sql, &[]).await
}

/// Makes versions of the rows that a table has: the stream was not a history until now.
async fn begin_history(session: &Session, part: &StreamBatch, table: &Table, keyed: &Keyed) -> Result<(), LoadError> {
    let name = |column| names::quoted(part.system.name(column));
    let deleted = table.deleted_at.as_ref().map_or("null::timestamptz".to_owned(), |column| names::quoted(column));
    let sql = format!(
        "update {t} t set {from} = d.began, {to} = d.ended, {current} = d.ended is null from \
         (select ctid, {extracted} as began, coalesce({deleted}, lead({extracted}) over (partition by {key} \
          order by {sequence} nulls first, ctid)) as ended from {t}) d where t.ctid = d.ctid",
        t = table.sql,
        from = name(SystemColumn::ValidFrom),
        to = name(SystemColumn::ValidTo),
        current = name(SystemColumn::Current),
        extracted = name(SystemColumn::ExtractedAt),
        key = keyed.list(""),
        sequence = names::quoted(&keyed.sequence)
    );
    session.change("make versions of the rows of", &table.sql, &sql, &[]).await.map(|_| ())
}
