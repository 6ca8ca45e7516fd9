//! Subtables of streams that are merged: the rows of a root record are replaced together, when that record's values are.

use thimble_record::{Generation, StreamBatch, SystemColumn};

use super::{
    copy::Copied,
    index,
    load::Load,
    merge::Winners,
    names,
    state::Known,
    table::{self, Table},
};
use crate::error::LoadError;

/// Replaces the rows of the root records that won. Returns how many rows were inserted.
pub(super) async fn replace(
    load: &Load<'_>,
    index: usize,
    part: &StreamBatch,
    root: &str,
    table: &Table,
) -> Result<(u64, Copied), LoadError> {
    let column = |name: &String| table.column(name).map(str::to_owned);
    let key: Vec<String> = part.key.iter().filter_map(column).collect();
    let sequence = table.column(part.system.name(SystemColumn::RootSequence)).map(names::quoted);
    let (Some(sequence), true) = (sequence, key.len() == part.key.len() && !key.is_empty()) else {
        let message = format!("stream {:?}: its rows do not name the root record that they belong to", part.stream);
        return Err(LoadError::Conflict(message));
    };
    index::ensure_root(load.session, load.place, table, &key).await?;
    let Some(winners) = load.winners.get(root) else {
        if part.staged_rows() == 0 {
            return Ok((0, Copied::default()));
        }
        let message =
            format!("stream {:?}: it stands before its root {root:?} in the batch, or without it", part.stream);
        return Err(LoadError::Conflict(message));
    };
    delete(load, winners, &table.sql, &key).await?;
    if part.segments.is_empty() {
        return Ok((0, Copied::default()));
    }
    let name = format!("_thimble_staged_{index}");
    table.make_staged(load.session, &name).await?;
    let staged = format!("pg_temp.{name}");
    let copied = load.copy(part, table, &staged).await?;
    let columns = table.column_list("");
    let sql = format!(
        "insert into {} ({columns}) select {columns} from {staged} s \
         where s.{sequence} in (select w.sequence from {} w)",
        table.sql, winners.won
    );
    let inserted = load.session.change("merge rows into", &table.sql, &sql, &[]).await?;
    load.session.run("drop a temporary table of", &table.sql, &format!("drop table {staged}")).await?;
    Ok((inserted, copied))
}

/// Removes the rows of the root records that won or are gone from subtables that have no part in the batch.
pub(super) async fn remove_absent(load: &Load<'_>) -> Result<(), LoadError> {
    for part in &load.batch.streams {
        let Some(winners) = load.winners.get(&part.stream) else { continue };
        let absent = |stream: &String| !load.batch.streams.iter().any(|other| other.stream == *stream);
        let children =
            load.known.iter().filter(|(stream, known)| known.root.as_ref() == Some(&part.stream) && absent(stream));
        for (stream, known) in children {
            let Some(name) = generation_of(known, part) else { continue };
            if !table::exists(load.session, load.place, &name).await? {
                continue;
            }
            let fields: Vec<String> = winners.key.iter().map(|name| part.system.root_key(name)).collect();
            let naming = load.place.naming(load.session, stream, &[]).await?;
            let key: Vec<String> = fields.iter().map(|field| naming.column(field)).collect();
            delete(load, winners, &load.place.table(&name), &key).await?;
        }
    }
    Ok(())
}

/// The table of a subtable that belongs to the root's generation.
fn generation_of(child: &Known, root: &StreamBatch) -> Option<String> {
    let Generation(_) = root.generation;
    if root.refreshing {
        Some(names::shadow_name(&child.table, root.generation))
    } else {
        child.visible.map(|_| child.table.clone())
    }
}

async fn delete(load: &Load<'_>, winners: &Winners, table: &str, key: &[String]) -> Result<(), LoadError> {
    let columns = winners.columns();
    let keyed = index::Keyed { key: columns.clone(), sequence: String::new() };
    for from in [&winners.won, &winners.gone] {
        for nulls in keyed.patterns(load.session, from).await? {
            let same = keyed.same(&nulls, "w.", key, "t.");
            let sql = format!("delete from {table} t using {from} w where {same}");
            load.session.change("replace rows of", table, &sql, &[]).await?;
        }
    }
    Ok(())
}
