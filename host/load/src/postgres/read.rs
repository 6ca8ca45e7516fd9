//! What readers of the destination see: its tables, and the rejected records.

use thimble_record::{ConnectionId, Rejected, RejectedRow, rejected::REJECTED_STREAM};

use super::{Postgres, names, state::Place};
use crate::{destination::TableInfo, error::LoadError, limits::COUNTED_BYTES};

impl Postgres {
    /// See [`Destination::tables`](crate::Destination::tables).
    pub(super) async fn visible_tables(&self, connection: &ConnectionId) -> Result<Vec<TableInfo>, LoadError> {
        let place = self.place_of(connection);
        let session = self.lease().await?;
        if !place.exists(&session).await? {
            session.give_back();
            return Ok(Vec::new());
        }
        let mut tables = Vec::new();
        for (stream, known) in place.known(&session).await? {
            if known.visible.is_none() {
                continue;
            }
            let location = place.table(&known.table);
            let sql = "select pg_relation_size(c.oid), pg_total_relation_size(c.oid), \
                       greatest(c.reltuples::int8, pg_stat_get_live_tuples(c.oid), 0) \
                       from pg_class c where c.oid = to_regclass($1)";
            let rows = session.rows("look at table", &location, sql, &[&location]).await?;
            // A table that was dropped is made again by the next load.
            let Some(row) = rows.first() else { continue };
            let (size, total, mut count): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            if size <= COUNTED_BYTES {
                let sql = format!("select count(*) from {location}");
                count =
                    session.rows("count the rows of", &location, &sql, &[]).await?.first().map_or(0, |row| row.get(0));
            }
            tables.push(TableInfo { stream, location, rows: count as u64, bytes: Some(total as u64) });
        }
        session.give_back();
        Ok(tables)
    }

    /// See [`Destination::rejected`](crate::Destination::rejected).
    pub(super) async fn rejected_after(
        &self,
        connection: &ConnectionId,
        after: Option<(String, i64)>,
        limit: usize,
    ) -> Result<Vec<RejectedRow>, LoadError> {
        let place = self.place_of(connection);
        let session = self.lease().await?;
        let known = if place.exists(&session).await? { place.known(&session).await? } else { Default::default() };
        let table = known.get(REJECTED_STREAM).filter(|known| known.visible.is_some()).map(|k| place.table(&k.table));
        let rows = match table {
            Some(table) => rejected_rows(&session, &place, &table, after, limit).await?,
            None => Vec::new(),
        };
        session.give_back();
        Ok(rows)
    }
}

async fn rejected_rows(
    session: &super::client::Session,
    place: &Place,
    table: &str,
    after: Option<(String, i64)>,
    limit: usize,
) -> Result<Vec<RejectedRow>, LoadError> {
    let naming = place.naming(session, REJECTED_STREAM, &[]).await?;
    let column = |name: &str| names::quoted(&naming.column(name));
    // In the order of the bytes, as the lake's.
    let sql = format!(
        "select {stream}, {sequence}, {reason}, {message}, {raw}, {truncated}, {digest} from {table} \
         where {replayed} is null and ($1::text is null or ({stream} collate \"C\", {sequence}) > ($1, $2)) \
         order by {stream} collate \"C\", {sequence} limit $3",
        stream = column("stream"),
        sequence = column("record_sequence"),
        reason = column("reason"),
        message = column("message"),
        raw = column("raw"),
        truncated = column("truncated"),
        digest = column("plugin_digest"),
        replayed = column("replayed_at"),
    );
    let (stream, sequence) = after.unzip();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = session.rows("read", table, &sql, &[&stream, &sequence.unwrap_or_default(), &limit]).await?;
    let text = |row: &tokio_postgres::Row, at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
    let row = |row: &tokio_postgres::Row| RejectedRow {
        rejected: Rejected {
            stream: text(row, 0),
            ordinal: None,
            reason: text(row, 2),
            message: text(row, 3),
            raw: text(row, 4),
            truncated: row.get::<_, Option<bool>>(5).unwrap_or_default(),
        },
        sequence: row.get::<_, Option<i64>>(1).unwrap_or_default(),
        plugin_digest: text(row, 6),
        replayed_at: None,
    };
    Ok(rows.iter().map(row).collect())
}
