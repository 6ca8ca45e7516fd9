//! Full refreshes: written to a table of their own, which takes the visible table's place in the committing transaction.

use thimble_record::{Generation, StreamBatch};

use super::{
    client::Session,
    load::Load,
    names,
    state::Place,
    table::{self, Table, list},
};
use crate::error::LoadError;

/// Drops the tables of refreshes before `generation`, which were given up.
pub(super) async fn drop_stale(
    session: &Session,
    place: &Place,
    table: &str,
    generation: Generation,
) -> Result<(), LoadError> {
    let sql = "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relkind = 'r' and starts_with(c.relname, '_thimble_g')";
    for row in session.rows("look for old refreshes in", &place.schema, sql, &[&place.schema]).await? {
        let name: &str = row.get(0);
        if names::shadow_generation(name, table).is_some_and(|found| found < generation) {
            let sql = format!("drop table {}", place.table(name));
            session.run("drop an old refresh of", &place.table(table), &sql).await?;
        }
    }
    Ok(())
}

/// Makes a part's generation the visible one.
pub(super) async fn swap(load: &mut Load<'_>, part: &StreamBatch) -> Result<(), LoadError> {
    let (session, place) = (load.session, load.place);
    let Some(known) = load.known.get_mut(&part.stream).filter(|_| part.refreshing) else { return Ok(()) };
    let replaced = known.visible.replace(part.generation).is_some();
    let known = known.clone();
    let shadow = names::shadow_name(&known.table, part.generation);
    if !table::exists(session, place, &known.table).await? {
        rename(session, place, &shadow, &known.table).await?;
    } else if !replaced {
        return Err(LoadError::Config(format!(
            "table {} exists, but this connection did not make it: rename it, or give the connection another schema",
            place.table(&known.table)
        )));
    } else if has_dependents(session, place, &known.table).await? {
        replace_rows(load, part, &shadow, &known.table).await?;
    } else {
        replace_table(session, place, &shadow, &known.table).await?;
    }
    place.remember(session, &part.stream, &known).await
}

async fn rename(session: &Session, place: &Place, from: &str, to: &str) -> Result<(), LoadError> {
    let sql = format!("alter table {} rename to {}", place.table(from), names::quoted(to));
    session.run("rename a table to", &place.table(to), &sql).await
}

/// Whether anything that is not ours hangs on a table and would be lost with it: views, foreign keys, triggers, policies,
/// publications, indexes, statistics, comments, columns, partitions, functions, grants on columns.
async fn has_dependents(session: &Session, place: &Place, table: &str) -> Result<bool, LoadError> {
    let sql = "with t as (select c.oid, c.reltype, c.relrowsecurity, c.relreplident, c.reloptions from pg_class c \
                 join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2) \
        select exists (select from t where relrowsecurity or relreplident <> 'd' or reloptions is not null) \
        or exists (select from pg_depend d, t where d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid \
             and d.deptype in ('n', 'a') and not (d.classid = 'pg_attrdef'::regclass) \
             and not (d.classid = 'pg_class'::regclass and exists (select from pg_class i where i.oid = d.objid \
                      and i.relkind = 'i' and starts_with(i.relname, '_thimble_')))) \
        or exists (select from pg_depend d, t, pg_type y where y.oid = t.reltype \
             and d.refclassid = 'pg_type'::regclass and d.refobjid in (y.oid, y.typarray) and d.deptype in ('n', 'a')) \
        or exists (select from pg_constraint k, t where t.oid in (k.conrelid, k.confrelid)) \
        or exists (select from pg_trigger g, t where g.tgrelid = t.oid and not g.tgisinternal) \
        or exists (select from pg_publication_rel p, t where p.prrelid = t.oid) \
        or exists (select from pg_inherits h, t where t.oid in (h.inhrelid, h.inhparent)) \
        or exists (select from pg_description d, t where d.objoid = t.oid and d.classoid = 'pg_class'::regclass) \
        or exists (select from pg_attribute a, t where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped \
             and (a.attacl is not null or a.attnotnull or a.attgenerated <> '' or a.attidentity <> '' \
                  or a.attname <> all ($3)))";
    let ours = columns(session, place, table).await?;
    let rows = session.rows("look at what hangs on", &place.table(table), sql, &[&place.schema, &table, &ours]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// The columns of a table that we made: those of its names, and the host's.
async fn columns(session: &Session, place: &Place, table: &str) -> Result<Vec<String>, LoadError> {
    let sql = format!(
        "select column_name from {} where connection = $1 and table_name = $2 and field <> '' union all \
         select a.attname::text from pg_attribute a where a.attrelid = to_regclass($3) and a.attnum > 0 \
         and a.attname ~ '^(_thimble|_sdc)_'",
        place.names
    );
    let sql_name = place.table(table);
    let rows = session.rows("read", &place.names, &sql, &[&place.connection, &table, &sql_name]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Drops the visible table and gives the refreshed one its name, its owner and its grants.
async fn replace_table(session: &Session, place: &Place, shadow: &str, table: &str) -> Result<(), LoadError> {
    let (old, new) = (place.table(table), place.table(shadow));
    let sql = "select pg_get_userbyid(c.relowner)::text, c.relowner = (select r.oid from pg_roles r \
               where r.rolname = current_user), c.relacl is not null \
               from pg_class c where c.oid = to_regclass($1)";
    let rows = session.rows("look at the owner of", &old, sql, &[&old]).await?;
    let (owner, ours, granted): (String, bool, bool) =
        rows.first().map_or((String::new(), true, false), |row| (row.get(0), row.get(1), row.get(2)));
    let mut statements = Vec::new();
    if granted {
        let of = |table: &str| format!("aclexplode((select relacl from pg_class where oid = to_regclass({table})))");
        let role = "case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end";
        let sql = format!(
            "select format('revoke all on table %s from %s', $2::text, {role}) from {new} a union all \
             select format('grant %s on table %s to %s%s', a.privilege_type, $2::text, {role}, \
               case when a.is_grantable then ' with grant option' else '' end) \
             from {old} a join pg_class c on c.oid = to_regclass($1) where a.grantee <> c.relowner",
            new = of("$2"),
            old = of("$1")
        );
        let rows = session.rows("look at the grants of", &old, &sql, &[&old, &new]).await?;
        // Revocations take away what default privileges gave; the owner's own right comes back with the grants.
        statements.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        statements.push(format!("grant all on table {new} to current_user"));
    }
    if !ours {
        statements.push(format!("alter table {new} owner to {}", names::quoted(&owner)));
    }
    statements.push(format!("drop table {old}"));
    session.run("replace table", &old, &statements.join("; ")).await?;
    rename(session, place, shadow, table).await
}

/// Replaces the rows of the visible table by the refreshed ones, for what hangs on it to stay.
async fn replace_rows(load: &Load<'_>, part: &StreamBatch, shadow: &str, table: &str) -> Result<(), LoadError> {
    let (session, place) = (load.session, load.place);
    let fields: Vec<&str> = part.schema.fields.iter().map(|field| field.name.as_str()).collect();
    let naming = place.naming(session, &part.stream, &fields).await?;
    let visible = Table::prepare(session, place, &naming, table, part).await?;
    let sql = "select a.attname::text from pg_attribute a join pg_attribute b on b.attname = a.attname \
               where a.attrelid = to_regclass($1) and b.attrelid = to_regclass($2) and a.attnum > 0 and b.attnum > 0 \
               and not a.attisdropped and not b.attisdropped order by a.attnum";
    let from = place.table(shadow);
    let rows = session.rows("look at table", &visible.sql, sql, &[&visible.sql, &from]).await?;
    let columns = list(rows.iter().map(|row| row.get::<_, &str>(0)), "");
    let sql = format!("delete from {}", visible.sql);
    session.change("empty table", &visible.sql, &sql, &[]).await?;
    let sql = format!("insert into {} ({columns}) select {columns} from {from}", visible.sql);
    session.change("fill table", &visible.sql, &sql, &[]).await?;
    session.run("drop a refresh of", &visible.sql, &format!("drop table {from}")).await
}
