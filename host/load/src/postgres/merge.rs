//! Upserts: of the rows of a key, the one with the greatest sequence stays; deletions mark it or take it away.
//!
//! Staged rows with values are merged first, deletions after them. The sequence decides each time, so that a row which came
//! after its deletion revives, and one that came before keeps its last values under the mark.

use thimble_record::{DeleteMode, StreamBatch, SystemColumn};

use super::{
    copy::Copied,
    index::{self, Keyed},
    load::Load,
    names,
    table::{Table, list},
};
use crate::error::LoadError;

/// Which staged rows of a stream with subtables won, in temporary tables with the key's columns `k0`, `k1`, ….
#[derive(Debug, Clone)]
pub(super) struct Winners {
    /// Keys and sequences of the rows whose values are in the root's table now.
    pub(super) won: String,
    /// Keys of the rows that are gone.
    pub(super) gone: String,
    /// The root's key, by the names of its columns' fields.
    pub(super) key: Vec<String>,
}

impl Winners {
    /// The columns of the key in its tables.
    pub(super) fn columns(&self) -> Vec<String> {
        (0..self.key.len()).map(|at| format!("k{at}")).collect()
    }
}

/// A merge under way.
struct Merge<'a> {
    load: &'a Load<'a>,
    part: &'a StreamBatch,
    table: &'a Table,
    keyed: Keyed,
    /// The staged rows, in SQL.
    staged: String,
    /// The staged instants of deletion, in SQL; `None` where none are staged.
    deleted: Option<String>,
    winners: Option<Winners>,
}

/// Merges a part's rows into its table. Returns how many are new rows of it.
pub(super) async fn upsert(
    load: &mut Load<'_>,
    index: usize,
    part: &StreamBatch,
    table: &Table,
) -> Result<(u64, Copied), LoadError> {
    let keyed = Keyed::new(part, table)?;
    index::ensure_key(load.session, load.place, part, table, &keyed).await?;
    let name = format!("_thimble_staged_{index}");
    table.make_staged(load.session, &name).await?;
    let staged = format!("pg_temp.{name}");
    let copied = load.copy(part, table, &staged).await?;
    let winners = make_winners(load, index, part, table, &keyed).await?;
    if let Some(winners) = &winners {
        load.winners.insert(part.stream.clone(), winners.clone());
    }
    let deleted = table.column(part.system.name(SystemColumn::DeletedAt)).map(names::quoted);
    let merge = Merge { load, part, table, keyed, staged, deleted, winners };
    let mut new = 0;
    if copied.rows > 0 {
        new += merge.values().await?;
        new += match part.deletes {
            DeleteMode::Soft => merge.mark().await?,
            DeleteMode::Hard => merge.remove().await?,
        };
    }
    merge.sweep().await?;
    load.session.run("drop a temporary table of", &table.sql, &format!("drop table {}", merge.staged)).await?;
    Ok((new, copied))
}

/// Makes the tables of winners, where subtables need them.
async fn make_winners(
    load: &Load<'_>,
    index: usize,
    part: &StreamBatch,
    table: &Table,
    keyed: &Keyed,
) -> Result<Option<Winners>, LoadError> {
    let child = |root: &Option<String>| root.as_ref() == Some(&part.stream);
    let staged = load.batch.streams.iter().any(|other| child(&other.root));
    if !staged && !load.known.values().any(|known| child(&known.root)) {
        return Ok(None);
    }
    let columns: Vec<String> =
        keyed.key.iter().enumerate().map(|(at, column)| format!("{} as k{at}", names::quoted(column))).collect();
    let columns = columns.join(", ");
    let sequence = names::quoted(&keyed.sequence);
    let sql = format!(
        "create temp table _thimble_won_{index} on commit drop as select {columns}, {sequence} as sequence, false as is_new \
         from {t} with no data; \
         create temp table _thimble_gone_{index} on commit drop as select {columns} from {t} with no data",
        t = table.sql
    );
    load.session.run("create a temporary table for", &table.sql, &sql).await?;
    let (won, gone) = (format!("pg_temp._thimble_won_{index}"), format!("pg_temp._thimble_gone_{index}"));
    Ok(Some(Winners { won, gone, key: part.key.clone() }))
}

impl Merge<'_> {
    /// The assignments of a conflict's update, of these columns.
    fn assignments<'a>(&self, columns: impl Iterator<Item = &'a str>) -> Vec<String> {
        let columns = columns.filter(|column| !self.keyed.key.iter().any(|key| key == column));
        let mut set: Vec<_> = columns.map(|column| format!("{c} = excluded.{c}", c = names::quoted(column))).collect();
        set.push(format!("{} = now()", names::quoted(&self.table.loaded_at)));
        set
    }

    /// Merges the rows with values.
    async fn values(&self) -> Result<u64, LoadError> {
        let (columns, key, staged) = (self.table.column_list(""), self.keyed.list(""), &self.staged);
        let sequence = names::quoted(&self.keyed.sequence);
        let mut set = self.assignments(self.table.columns.iter().map(|target| target.column.as_str()));
        if let (None, Some(deleted)) = (&self.deleted, &self.table.deleted_at) {
            set.push(format!("{} = null", names::quoted(deleted)));
        }
        // With marks, the last values count even where a deletion came after them; without, the last row alone does.
        let (before, after) = match (&self.deleted, self.part.deletes) {
            (None, _) => (String::new(), String::new()),
            (Some(deleted), DeleteMode::Soft) => (format!(" where {deleted} is null"), String::new()),
            (Some(deleted), DeleteMode::Hard) => (String::new(), format!(" where {deleted} is null")),
        };
        let last =
            format!("select distinct on ({key}) {columns} from {staged}{before} order by {key}, {sequence} desc");
        let last = if after.is_empty() { last } else { format!("select {columns} from ({last}) w{after}") };
        self.insert(&columns, &last, &set, true).await
    }

    /// Marks deleted rows, and keeps the mark of those that were never seen.
    async fn mark(&self) -> Result<u64, LoadError> {
        let Some(deleted) = &self.deleted else { return Ok(0) };
        let (columns, key, staged) = (self.table.column_list(""), self.keyed.list(""), &self.staged);
        let sequence = names::quoted(&self.keyed.sequence);
        let system = [
            SystemColumn::ExtractedAt,
            SystemColumn::ReceivedAt,
            SystemColumn::Batch,
            SystemColumn::Sequence,
            SystemColumn::DeletedAt,
        ];
        let system = system.into_iter().filter_map(|column| self.table.column(self.part.system.name(column)));
        let set = self.assignments(system);
        let last = format!(
            "select distinct on ({key}) {columns} from {staged} where {deleted} is not null order by {key}, {sequence} desc"
        );
        self.insert(&columns, &last, &set, false).await
    }

    /// Inserts rows or, where their keys are there with a smaller sequence, updates them.
    async fn insert(&self, columns: &str, rows: &str, set: &[String], values: bool) -> Result<u64, LoadError> {
        let (table, session) = (&self.table.sql, self.load.session);
        let (key, sequence, set) = (self.keyed.list(""), names::quoted(&self.keyed.sequence), set.join(", "));
        // A row that this statement inserted has no transaction that updated or locked it.
        let insert = format!(
            "insert into {table} as t ({columns}) {rows} on conflict ({key}) do update set {set} \
             where t.{sequence} is null or t.{sequence} < excluded.{sequence}"
        );
        let sql = match self.winners.as_ref().filter(|_| values) {
            None => format!(
                "with m as ({insert} returning t.xmax = 0 as is_new) select count(*) filter (where is_new) from m"
            ),
            Some(Winners { won, .. }) => {
                let keys = self.keyed.list("t.");
                let into = format!(
                    "with m as ({insert} returning {keys}, t.{sequence}, t.xmax = 0) insert into {won} select * from m"
                );
                session.change("merge rows into", table, &into, &[]).await?;
                format!("select count(*) filter (where is_new) from {won}")
            }
        };
        let rows = session.rows("merge rows into", table, &sql, &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as u64)
    }

    /// Takes deleted rows away.
    async fn remove(&self) -> Result<u64, LoadError> {
        let Some(deleted) = &self.deleted else { return Ok(0) };
        let (key, staged, sequence) = (self.keyed.list(""), &self.staged, names::quoted(&self.keyed.sequence));
        let some = format!("select 1 from {staged} where {deleted} is not null limit 1");
        if self.load.session.rows("look at the rows of", &self.table.sql, &some, &[]).await?.is_empty() {
            return Ok(0);
        }
        for nulls in self.keyed.patterns(self.load.session, staged).await? {
            let delete = format!(
                "delete from {t} t using (select distinct on ({key}) {key}, {sequence}, {deleted} from {staged} \
                 order by {key}, {sequence} desc) w where w.{deleted} is not null \
                 and (t.{sequence} is null or t.{sequence} < w.{sequence}) and {same}",
                t = self.table.sql,
                same = self.keyed.same(&nulls, "t.", &self.keyed.key, "w.")
            );
            self.delete(&delete).await?;
        }
        Ok(0)
    }

    /// Deletes rows, whose keys are kept where subtables need them.
    async fn delete(&self, delete: &str) -> Result<(), LoadError> {
        let sql = match &self.winners {
            None => delete.to_owned(),
            Some(Winners { gone, .. }) => {
                format!("with d as ({delete} returning {}) insert into {gone} select * from d", self.keyed.list("t."))
            }
        };
        self.load.session.change("delete rows of", &self.table.sql, &sql, &[]).await.map(|_| ())
    }

    /// Rows that a full read has not met are gone at the source.
    async fn sweep(&self) -> Result<(), LoadError> {
        let Some(since) = self.part.sweep else { return Ok(()) };
        let batch = batch_column(self.part, self.table)?;
        match (self.part.deletes, &self.table.deleted_at) {
            (DeleteMode::Soft, Some(deleted)) => {
                let sql = format!(
                    "update {t} t set {d} = now(), {l} = now() where t.{batch} < {since} and t.{d} is null",
                    t = self.table.sql,
                    d = names::quoted(deleted),
                    l = names::quoted(&self.table.loaded_at)
                );
                self.load.session.change("mark rows of", &self.table.sql, &sql, &[]).await.map(|_| ())
            }
            _ => self.delete(&format!("delete from {} t where t.{batch} < {since}", self.table.sql)).await,
        }
    }
}

/// The column of the batch's number, in SQL.
pub(super) fn batch_column(part: &StreamBatch, table: &Table) -> Result<String, LoadError> {
    table.column(part.system.name(SystemColumn::Batch)).map(names::quoted).ok_or_else(|| {
        LoadError::Conflict(format!("stream {:?}: its rows do not name their batch, so none can be swept", part.stream))
    })
}

/// Column names in SQL, with commas.
pub(super) fn quoted_list(columns: &[String], prefix: &str) -> String {
    list(columns.iter().map(String::as_str), prefix)
}
