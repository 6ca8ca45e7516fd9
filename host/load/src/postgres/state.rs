//! What the database knows about its connections: the tables of commits, of names and of generations.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use thimble_record::{BatchSeq, ConnectionId, Counts, Epoch, Generation, Position};
use tokio_postgres::Row;

use super::{Postgres, client::Session, names};
use crate::{destination::Committed, error::LoadError};

/// The schema of a connection, and its own tables in it.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) connection: String,
    pub(super) schema: String,
    pub(super) commits: String,
    pub(super) names: String,
    pub(super) tables: String,
}

/// What is committed, and the answer that a load of it gives.
pub(super) struct Held {
    pub(super) committed: Committed,
    pub(super) counts: Vec<Counts>,
}

/// A table of a stream as the commits left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) table: String,
    /// The generation that readers see; `None` while the first full refresh is under way.
    pub(super) visible: Option<Generation>,
    pub(super) root: Option<String>,
}

impl Postgres {
    /// Where a connection's tables are.
    pub(super) fn place_of(&self, connection: &ConnectionId) -> Place {
        let schema = names::schema_name(self.settings.schema.as_deref().unwrap_or(connection.as_str()));
        let own = |table: &str| format!("{}.{}", names::quoted(&schema), names::quoted(table));
        Place {
            connection: connection.to_string(),
            commits: own("_thimble_commits"),
            names: own("_thimble_names"),
            tables: own("_thimble_tables"),
            schema,
        }
    }
}

impl Place {
    /// A table of the schema, in SQL.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", names::quoted(&self.schema), names::quoted(name))
    }

    /// The number of the lock that who writes for this connection holds.
    pub(super) fn lock(&self) -> i64 {
        lock(&["connection", &self.schema, &self.connection])
    }

    /// Whether the schema and its own tables are there.
    pub(super) async fn exists(&self, session: &Session) -> Result<bool, LoadError> {
        let sql = "select count(*) from unnest($1::text[]) t(name) where to_regclass(name) is not null";
        let own = vec![&self.commits, &self.names, &self.tables];
        let found = session.rows("look for the tables of", &self.schema, sql, &[&own]).await?;
        Ok(found.first().is_some_and(|row| row.get::<_, i64>(0) == 3))
    }

    /// Makes the schema and its own tables, if need be. Others may do so at the same time.
    pub(super) async fn ensure(&self, session: &Session) -> Result<(), LoadError> {
        if self.exists(session).await? {
            return Ok(());
        }
        let Self { schema, commits, names, tables, .. } = self;
        // Asking for a schema that exists already still needs the permission to make one.
        let sql = "select 1 from pg_namespace where nspname = $1";
        session.run("begin in", schema, "begin isolation level read committed read write").await?;
        let result = async {
            let turn = format!("select pg_advisory_xact_lock({})", lock(&["schema", schema]));
            session.run("wait for", schema, &turn).await?;
            if session.rows("look for schema", schema, sql, &[schema]).await?.is_empty() {
                let sql = format!("create schema {}", names::quoted(schema));
                session.run("create schema", schema, &sql).await?;
            }
            let sql = format!(
                "create table if not exists {commits} (connection text primary key, fence bigint not null, \
                 seq bigint not null, state text not null, manifest_sha text, rows bigint not null, \
                 committed_at timestamptz, counts text not null);
                 create table if not exists {names} (connection text not null, stream text not null, \
                 field text not null, table_name text not null, column_name text not null, \
                 primary key (connection, stream, field));
                 create unique index if not exists _thimble_names_tables on {names} (table_name) where field = '';
                 create table if not exists {tables} (connection text not null, stream text not null, \
                 table_name text not null, generation bigint, root text, primary key (connection, stream));"
            );
            session.run("create its own tables in schema", schema, &sql).await?;
            session.run("create its own tables in schema", schema, "commit").await
        };
        let result = result.await;
        if result.is_err() {
            session.run("roll back in", schema, "rollback").await.ok();
        }
        result
    }

    /// Reads what is committed; with `for update`, nobody else changes it before the transaction ends.
    pub(super) async fn held(&self, session: &Session, lock: bool) -> Result<Option<Held>, LoadError> {
        let sql = format!(
            "select fence, seq, state, manifest_sha, counts from {} where connection = $1{}",
            self.commits,
            if lock { " for update" } else { "" }
        );
        let rows = session.rows("read", &self.commits, &sql, &[&self.connection]).await?;
        rows.first().map(|row| self.parse(row)).transpose()
    }

    /// Reads a row of fence, seq, state, manifest and counts.
    pub(super) fn parse(&self, row: &Row) -> Result<Held, LoadError> {
        let corrupt = |what: &str, error: serde_json::Error| LoadError::Corrupt {
            object: format!("the {what} of connection {} in {}", self.connection, self.commits),
            reason: error.to_string(),
        };
        let position: Position = serde_json::from_str(row.get(2)).map_err(|error| corrupt("position", error))?;
        let counts: Vec<Counts> = serde_json::from_str(row.get(4)).map_err(|error| corrupt("counts", error))?;
        let committed = Committed {
            fence: Epoch(row.get::<_, i64>(0) as u64),
            seq: BatchSeq(row.get::<_, i64>(1) as u64),
            position,
            manifest_sha: row.get(3),
        };
        Ok(Held { committed, counts })
    }

    /// The tables of the connection, by stream.
    pub(super) async fn known(&self, session: &Session) -> Result<BTreeMap<String, Known>, LoadError> {
        let sql = format!("select stream, table_name, generation, root from {} where connection = $1", self.tables);
        let rows = session.rows("read", &self.tables, &sql, &[&self.connection]).await?;
        let known = rows.iter().map(|row| {
            let visible = row.get::<_, Option<i64>>(2).map(|generation| Generation(generation as u64));
            let root = row.get::<_, Option<String>>(3).map(|root| names::unkept(&root));
            (names::unkept(row.get(0)), Known { table: row.get(1), visible, root })
        });
        Ok(known.collect())
    }

    /// Writes down a table of a stream.
    pub(super) async fn remember(&self, session: &Session, stream: &str, known: &Known) -> Result<(), LoadError> {
        let sql = format!(
            "insert into {} (connection, stream, table_name, generation, root) values ($1, $2, $3, $4, $5) \
             on conflict (connection, stream) do update \
             set table_name = excluded.table_name, generation = excluded.generation, root = excluded.root",
            self.tables
        );
        let generation = known.visible.map(|generation| generation.0 as i64);
        let root = known.root.as_deref().map(names::kept);
        let values: [super::client::Value<'_>; 5] =
            [&self.connection, &names::kept(stream), &known.table, &generation, &root];
        session.change("write", &self.tables, &sql, &values).await.map(|_| ())
    }
}

/// The names of a stream's table and columns: those that were written down once, else those of the pure map.
pub(super) struct Naming {
    pub(super) table: String,
    columns: HashMap<String, String>,
}

impl Naming {
    /// The column of a field.
    pub(super) fn column(&self, field: &str) -> String {
        self.columns.get(field).cloned().unwrap_or_else(|| names::column_name(field))
    }
}

impl Place {
    /// The names of a stream, those of new fields written down.
    pub(super) async fn naming(&self, session: &Session, stream: &str, fields: &[&str]) -> Result<Naming, LoadError> {
        let sql =
            format!("select field, table_name, column_name from {} where connection = $1 and stream = $2", self.names);
        let rows = session.rows("read", &self.names, &sql, &[&self.connection, &names::kept(stream)]).await?;
        let mut table = None;
        let mut columns = HashMap::new();
        for row in &rows {
            match row.get::<_, &str>(0) {
                "" => table = Some(row.get::<_, String>(1)),
                field => drop(columns.insert(names::unkept(field), row.get::<_, String>(2))),
            }
        }
        let table = match table {
            Some(table) => table,
            None => self.take_table(session, stream).await?,
        };
        // An empty field name would look like the table's entry; its column follows from the pure map alone.
        let new = |field: &&&str| !field.is_empty() && !columns.contains_key(**field);
        let new: Vec<(String, String)> =
            fields.iter().filter(new).map(|field| (names::kept(field), names::column_name(field))).collect();
        if !new.is_empty() {
            let sql = format!(
                "insert into {} (connection, stream, field, table_name, column_name) \
                 select $1, $2, f, $3, c from unnest($4::text[], $5::text[]) n(f, c)",
                self.names
            );
            let (kept, mapped): (Vec<String>, Vec<String>) = new.into_iter().unzip();
            let values: [super::client::Value<'_>; 5] =
                [&self.connection, &names::kept(stream), &table, &kept, &mapped];
            session.change("write", &self.names, &sql, &values).await?;
        }
        Ok(Naming { table, columns })
    }

    /// Takes a name for the table of a new stream.
    async fn take_table(&self, session: &Session, stream: &str) -> Result<String, LoadError> {
        let mut table = names::table_name(stream);
        for attempt in 0..2 {
            let sql = format!(
                "insert into {} (connection, stream, field, table_name, column_name) values ($1, $2, '', $3, '') \
                 on conflict do nothing",
                self.names
            );
            let values: [super::client::Value<'_>; 3] = [&self.connection, &names::kept(stream), &table];
            if session.change("write", &self.names, &sql, &values).await? == 1 {
                return Ok(table);
            }
            if attempt == 0 && stream == thimble_record::rejected::REJECTED_STREAM {
                table = names::own_table_name(&self.connection, &table);
            } else {
                break;
            }
        }
        Err(LoadError::Config(format!(
            "connection {}: the table {} of stream {stream:?} is another connection's: give one of them another schema",
            self.connection,
            self.table(&table)
        )))
    }
}

/// The number of a lock; other users of the database are unlikely to use it.
fn lock(parts: &[&str]) -> i64 {
    let mut digest = Sha256::new();
    digest.update("thimble lock\0");
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    i64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}
