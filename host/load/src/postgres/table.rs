//! Tables: made, and brought to the schema of a batch. Columns are added and widened, never dropped or narrowed.

use std::collections::HashMap;

use thimble_record::{DataType, DeleteMode, StreamBatch, SystemColumn, WriteMode, rejected::REJECTED_STREAM};

use super::{
    client::Session,
    columns::{self, Fit, Held},
    names,
    segment::Target,
    state::{Naming, Place},
};
use crate::error::LoadError;

/// A table that takes the rows of a part.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name in the schema.
    pub(super) name: String,
    /// Its name in SQL.
    pub(super) sql: String,
    /// The columns of the part's schema, in its order.
    pub(super) columns: Vec<Target>,
    /// Whether this transaction made it.
    pub(super) made: bool,
    /// The instants of deletion, where the table has them.
    pub(super) deleted_at: Option<String>,
    pub(super) loaded_at: String,
}

/// What the server says of a table.
struct Found {
    kind: String,
    /// Type and whether there is a default, by column.
    columns: HashMap<String, (Held, bool)>,
}

/// What a part needs of a table that is not staged.
struct Added {
    name: String,
    data_type: DataType,
    default: Option<&'static str>,
}

impl Table {
    /// Makes the table, or brings it to the part's schema.
    pub(super) async fn prepare(
        session: &Session,
        place: &Place,
        naming: &Naming,
        name: &str,
        part: &StreamBatch,
    ) -> Result<Self, LoadError> {
        let sql = place.table(name);
        let added = added(part);
        let deleted_at = part.system.name(SystemColumn::DeletedAt);
        let mut table = Self {
            name: name.to_owned(),
            sql,
            columns: Vec::with_capacity(part.schema.fields.len()),
            made: false,
            deleted_at: part.schema.field(deleted_at).map(|field| naming.column(&field.name)),
            loaded_at: part.system.name(SystemColumn::LoadedAt).to_owned(),
        };
        let shown = part.stream == REJECTED_STREAM;
        for field in &part.schema.fields {
            let column = naming.column(&field.name);
            table.columns.push(Target { field: field.name.clone(), column, sent_as: field.data_type, shown });
        }
        match find(session, place, name).await? {
            None => table.make(session, &added).await?,
            Some(found) => {
                table.evolve(session, &found, &added).await?;
                // An earlier sweep may have added it.
                if table.deleted_at.is_none() && found.columns.contains_key(deleted_at) {
                    table.deleted_at = Some(deleted_at.to_owned());
                }
            }
        }
        if added.iter().any(|column| column.name == deleted_at) {
            table.deleted_at = Some(deleted_at.to_owned());
        }
        Ok(table)
    }

    async fn make(&mut self, session: &Session, added: &[Added]) -> Result<(), LoadError> {
        let staged = self.columns.iter().map(|column| definition(&column.column, column.sent_as));
        let own = added.iter().map(|column| {
            let default = column.default.map(|default| format!(" default {default}")).unwrap_or_default();
            format!("{}{default}", definition(&column.name, column.data_type))
        });
        let columns = staged.chain(own).collect::<Vec<_>>().join(", ");
        session.run("create table", &self.sql, &format!("create table {} ({columns})", self.sql)).await?;
        self.made = true;
        Ok(())
    }

    /// Adds what the table lacks, widens what is too narrow, and learns what values must be sent as.
    async fn evolve(&mut self, session: &Session, found: &Found, added: &[Added]) -> Result<(), LoadError> {
        if found.kind != "r" {
            let message = format!("{} is not a plain table, so nothing can be loaded into it: rename it", self.sql);
            return Err(LoadError::Config(message));
        }
        let mut changes = Vec::new();
        for target in &mut self.columns {
            let column = names::quoted(&target.column);
            let Some((held, _)) = found.columns.get(&target.column) else {
                changes.push(format!("add column {}", definition(&target.column, target.sent_as)));
                continue;
            };
            match columns::fit(held, target.sent_as) {
                Some(Fit::As(sent_as)) => target.sent_as = sent_as,
                Some(Fit::Widen(wider)) => {
                    target.sent_as = wider;
                    let converted = columns::converted(&column, wider);
                    changes.push(format!("alter column {column} type {} using {converted}", columns::sql_type(wider)));
                }
                None => return Err(misfit(&self.sql, &target.column, held, target.sent_as)),
            }
        }
        let mut defaults = Vec::new();
        for Added { name, data_type, default } in added {
            let column = names::quoted(name);
            let has_default = match found.columns.get(name) {
                None => {
                    changes.push(format!("add column {}", definition(name, *data_type)));
                    false
                }
                Some((held, has_default)) if *held == Held::Ours(*data_type) => *has_default,
                Some((held, _)) => return Err(misfit(&self.sql, name, held, *data_type)),
            };
            // After the column, so that older rows do not get it.
            if let Some(default) = default.filter(|_| !has_default) {
                defaults.push(format!("alter column {column} set default {default}"));
            }
        }
        changes.extend(defaults);
        if changes.is_empty() {
            return Ok(());
        }
        let sql = format!("alter table {} {}", self.sql, changes.join(", "));
        match session.run("change table", &self.sql, &sql).await {
            // A view holds on to the type of a column.
            Err(LoadError::Failed { source, .. }) => Err(LoadError::Config(format!(
                "table {} cannot take the new columns of its stream: {source}: remove what holds it back, then run again",
                self.sql
            ))),
            other => other,
        }
    }

    /// The names of columns in SQL, with commas.
    pub(super) fn column_list(&self, prefix: &str) -> String {
        list(self.columns.iter().map(|column| column.column.as_str()), prefix)
    }

    /// Where a segment's columns go: its schema may be older than the table's.
    pub(super) fn targets(&self, fields: &[thimble_record::Field]) -> Result<Vec<Target>, String> {
        let by_field: HashMap<&str, &Target> =
            self.columns.iter().map(|column| (column.field.as_str(), column)).collect();
        let target = |name: &str| by_field.get(name).map(|target| (*target).clone());
        fields
            .iter()
            .map(|field| {
                target(&field.name).ok_or(format!("its column {:?} is not in its stream's schema", field.name))
            })
            .collect()
    }

    /// The column of a field of the part's schema.
    pub(super) fn column(&self, field: &str) -> Option<&str> {
        self.columns.iter().find(|column| column.field == field).map(|column| column.column.as_str())
    }

    /// Makes a temporary table of the same staged columns.
    pub(super) async fn make_staged(&self, session: &Session, name: &str) -> Result<(), LoadError> {
        let columns: Vec<_> = self.columns.iter().map(|column| definition(&column.column, column.sent_as)).collect();
        let sql = format!("create temp table {} ({}) on commit drop", names::quoted(name), columns.join(", "));
        session.run("create a temporary table for", &self.sql, &sql).await
    }
}

/// Names in SQL, with commas.
pub(super) fn list<'a>(columns: impl Iterator<Item = &'a str>, prefix: &str) -> String {
    columns.map(|column| format!("{prefix}{}", names::quoted(column))).collect::<Vec<_>>().join(", ")
}

fn definition(column: &str, data_type: DataType) -> String {
    format!("{} {}", names::quoted(column), columns::sql_type(data_type))
}

fn misfit(table: &str, column: &str, held: &Held, wanted: DataType) -> LoadError {
    let held = match held {
        Held::Ours(held) => columns::sql_type(*held),
        Held::Numeric => "numeric".into(),
        Held::Other(other) => other.clone(),
    };
    LoadError::Config(format!(
        "table {table}: its column {column:?} is {held}, which cannot take {}: rename or drop the column, then run again",
        columns::sql_type(wanted)
    ))
}

/// The columns that are not staged but needed.
fn added(part: &StreamBatch) -> Vec<Added> {
    let mut added = vec![(SystemColumn::LoadedAt, DataType::TimestampTz, Some("now()"))];
    let keyed = part.root.is_none() && part.mode != WriteMode::Append;
    let history = keyed && part.mode == WriteMode::History;
    let staged = part.schema.field(part.system.name(SystemColumn::DeletedAt)).is_some();
    if keyed && !staged && part.sweep.is_some() && (history || part.deletes == DeleteMode::Soft) {
        added.push((SystemColumn::DeletedAt, DataType::TimestampTz, None));
    }
    if history {
        added.push((SystemColumn::ValidFrom, DataType::TimestampTz, None));
        added.push((SystemColumn::ValidTo, DataType::TimestampTz, None));
        added.push((SystemColumn::Current, DataType::Boolean, None));
    }
    let column = |(column, data_type, default)| Added { name: part.system.name(column).to_owned(), data_type, default };
    added.into_iter().map(column).collect()
}

async fn find(session: &Session, place: &Place, name: &str) -> Result<Option<Found>, LoadError> {
    let sql = "select c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.atthasdef \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
               where n.nspname = $1 and c.relname = $2";
    let rows = session.rows("look at table", &place.table(name), sql, &[&place.schema, &name]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let column = |row: &tokio_postgres::Row| {
        let name: Option<String> = row.get(1);
        name.map(|name| (name, (columns::held(row.get(2)), row.get(3))))
    };
    Ok(Some(Found { kind: first.get(0), columns: rows.iter().filter_map(column).collect() }))
}

/// Whether a table of the schema exists.
pub(super) async fn exists(session: &Session, place: &Place, name: &str) -> Result<bool, LoadError> {
    Ok(find(session, place, name).await?.is_some())
}
