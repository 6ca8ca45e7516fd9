//! Histories: a table holds every version of a key, with the instants between which it held.
//!
//! The staged rows of a key and its current version are put in the order of their sequences. A row begins a version when
//! its values differ from those before it; that version, or a deletion, ends the one before.

use thimble_record::{StreamBatch, SystemColumn};

use super::{
    copy::Copied,
    index::{self, Keyed},
    load::Load,
    merge::{batch_column, quoted_list},
    names,
    table::Table,
};
use crate::error::LoadError;

/// The names in SQL that the statements are made of.
struct Versions {
    table: String,
    staged: String,
    keyed: Keyed,
    columns: Vec<String>,
    /// The columns whose change makes a version.
    data: Vec<String>,
    extracted_at: String,
    batch: String,
    valid_from: String,
    valid_to: String,
    current: String,
    loaded_at: String,
    /// Staged, and in the table.
    deleted: Option<String>,
    /// In the table.
    deleted_at: Option<String>,
}

/// Adds the versions of a part's rows. Returns how many.
pub(super) async fn load(
    load: &Load<'_>,
    index: usize,
    part: &StreamBatch,
    table: &Table,
) -> Result<(u64, Copied), LoadError> {
    let keyed = Keyed::new(part, table)?;
    index::ensure_key(load.session, load.place, part, table, &keyed).await?;
    let name = format!("_thimble_staged_{index}");
    table.make_staged(load.session, &name).await?;
    let versions = Versions::new(part, table, keyed, format!("pg_temp.{name}"))?;
    let copied = load.copy(part, table, &versions.staged).await?;
    let mut new = 0;
    if copied.rows > 0 {
        let marked = format!("_thimble_versions_{index}");
        versions.mark(load, &marked).await?;
        let object = &versions.table;
        load.session.change("end versions of", object, &versions.end(&marked), &[]).await?;
        new = load.session.change("add versions to", object, &versions.add(&marked), &[]).await?;
        load.session.run("drop a temporary table of", object, &format!("drop table pg_temp.{marked}")).await?;
    }
    if let Some(since) = part.sweep {
        let sql = versions.sweep(since);
        load.session.change("end versions of", &versions.table, &sql, &[]).await?;
    }
    load.session.run("drop a temporary table of", &table.sql, &format!("drop table {}", versions.staged)).await?;
    Ok((new, copied))
}

impl Versions {
    fn new(part: &StreamBatch, table: &Table, keyed: Keyed, staged: String) -> Result<Self, LoadError> {
        let system = |column| names::quoted(part.system.name(column));
        let own = [
            SystemColumn::ExtractedAt,
            SystemColumn::ReceivedAt,
            SystemColumn::Batch,
            SystemColumn::Sequence,
            SystemColumn::DeletedAt,
        ];
        let is_data = |field: &str| !own.iter().any(|&column| part.system.name(column) == field);
        let extracted = part.system.name(SystemColumn::ExtractedAt);
        let extracted_at = table.column(extracted).map(names::quoted).ok_or_else(|| {
            LoadError::Conflict(format!("stream {:?}: its rows do not tell when they were extracted", part.stream))
        })?;
        Ok(Self {
            table: table.sql.clone(),
            staged,
            columns: table.columns.iter().map(|target| target.column.clone()).collect(),
            data: table.columns.iter().filter(|t| is_data(&t.field)).map(|target| target.column.clone()).collect(),
            extracted_at,
            batch: batch_column(part, table)?,
            valid_from: system(SystemColumn::ValidFrom),
            valid_to: system(SystemColumn::ValidTo),
            current: system(SystemColumn::Current),
            loaded_at: names::quoted(&table.loaded_at),
            deleted: table.column(part.system.name(SystemColumn::DeletedAt)).map(names::quoted),
            deleted_at: table.deleted_at.as_deref().map(names::quoted),
            keyed,
        })
    }

    /// Makes a table of the rows that begin or end versions, each with the instant at which its version ends.
    async fn mark(&self, load: &Load<'_>, marked: &str) -> Result<(), LoadError> {
        let all = format!("{marked}_all");
        let columns = quoted_list(&self.columns, "");
        let sql = format!(
            "create temp table {all} on commit drop as select null::tid as place, {columns} from {}",
            self.staged
        );
        load.session.run("create a temporary table for", &self.table, &sql).await?;
        for nulls in self.keyed.patterns(load.session, &self.staged).await? {
            let (key, same) = (self.keyed.list(""), self.keyed.same(&nulls, "t.", &self.keyed.key, "s."));
            let sql = format!(
                "insert into pg_temp.{all} select t.ctid, {columns} from {table} t \
                 join (select distinct {staged_key} from {staged}) s on {same} where t.{current}",
                columns = quoted_list(&self.columns, "t."),
                table = self.table,
                staged_key = key,
                staged = self.staged,
                current = self.current
            );
            load.session.change("look at the versions of", &self.table, &sql, &[]).await?;
        }
        load.session.run("order the versions of", &self.table, &self.marking(&all, marked)).await?;
        load.session.run("drop a temporary table of", &self.table, &format!("drop table pg_temp.{all}")).await
    }

    fn marking(&self, all: &str, marked: &str) -> String {
        let key = self.keyed.list("");
        let columns = quoted_list(&self.columns, "");
        let data = quoted_list(&self.data, "");
        let Self { batch, extracted_at, .. } = self;
        let sequence = names::quoted(&self.keyed.sequence);
        // The current version's own mark is of an earlier life; only staged deletions count.
        let dead = self
            .deleted
            .as_ref()
            .map_or("false".to_owned(), |deleted| format!("(place is null and {deleted} is not null)"));
        let ends_at = self
            .deleted
            .as_ref()
            .map_or(extracted_at.clone(), |deleted| format!("case when dead then {deleted} else {extracted_at} end"));
        format!(
            "create temp table {marked} on commit drop as \
             with ordered as (select *, {dead} as dead, \
                 max({sequence}) filter (where place is not null) over (partition by {key}) as known from pg_temp.{all}), \
             fresh as (select * from ordered where place is not null or known is null or {sequence} > known), \
             compared as (select *, lag(row({data})) over w as was, lag(dead) over w as was_dead, \
                 row_number() over w as place_in_key from fresh window w as (partition by {key} order by {sequence})), \
             turns as (select *, dead or place_in_key = 1 or was_dead or was is distinct from row({data}) as turn from compared), \
             runs as (select *, count(*) filter (where turn) over (partition by {key} order by {sequence}) as run from turns), \
             touched as (select *, max({batch}) over (partition by {key}, run) as last_batch from runs), \
             kept as (select place, {columns}, dead, last_batch, {ends_at} as begins_or_ends, \
                 row_number() over (partition by {key} order by {sequence}) as nth from touched where turn) \
             select place, {columns}, dead, last_batch, \
                 lead(begins_or_ends) over k as ends, coalesce(lead(dead) over k, false) as deleted \
             from kept window k as (partition by {key} order by nth)"
        )
    }

    /// Ends the versions that were current, or notes that they were seen again.
    fn end(&self, marked: &str) -> String {
        let Self { table, batch, valid_to, current, loaded_at, .. } = self;
        let deleted = self.deletion("m.deleted", "m.ends", "t.");
        format!(
            "update {table} t set {batch} = m.last_batch, {valid_to} = m.ends, {current} = m.ends is null, \
             {loaded_at} = case when m.ends is null then t.{loaded_at} else now() end{deleted} \
             from pg_temp.{marked} m where t.ctid = m.place and (m.ends is not null or m.last_batch is distinct from t.{batch})"
        )
    }

    /// The assignment of the mark of deletion, where the table has one.
    fn deletion(&self, when: &str, instant: &str, before: &str) -> String {
        self.deleted_at.as_ref().map_or(String::new(), |column| {
            format!(", {column} = case when {when} then {instant} else {before}{column} end")
        })
    }

    fn add(&self, marked: &str) -> String {
        let Self { table, batch, valid_from, valid_to, current, extracted_at, .. } = self;
        let plain = |column: &&String| {
            let column = names::quoted(column);
            column != *batch && Some(&column) != self.deleted_at.as_ref()
        };
        let columns: Vec<String> = self.columns.iter().filter(plain).cloned().collect();
        let columns = quoted_list(&columns, "");
        let (mut names, mut values) = (String::new(), String::new());
        if let Some(column) = &self.deleted_at {
            names = format!(", {column}");
            values = ", case when deleted then ends end".to_owned();
        }
        format!(
            "insert into {table} ({columns}, {batch}, {valid_from}, {valid_to}, {current}{names}) \
             select {columns}, last_batch, {extracted_at}, ends, ends is null{values} \
             from pg_temp.{marked} where place is null and not dead"
        )
    }

    /// Ends the current versions that a full read has not met.
    fn sweep(&self, since: thimble_record::BatchSeq) -> String {
        let Self { table, batch, valid_to, current, loaded_at, .. } = self;
        let deleted = self.deleted_at.as_ref().map_or(String::new(), |column| format!(", {column} = now()"));
        format!(
            "update {table} t set {valid_to} = now(), {current} = false, {loaded_at} = now(){deleted} \
             where t.{current} and t.{batch} < {since}"
        )
    }
}
