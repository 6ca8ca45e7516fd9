//! Fences: who may write. One row per connection; the greatest epoch counts.
//!
//! Who writes for a connection holds the connection's lock until its transaction ends, and updates the row only where it
//! still names its epoch. A new owner waits for that lock a while, then ends the older owner's session: a paused owner
//! would hold it forever.

use thimble_record::{ConnectionId, Epoch};

use super::{
    Postgres,
    client::{Lease, Value},
    sqlstate,
    state::Place,
};
use crate::{destination::Committed, error::LoadError};

impl Postgres {
    /// Shuts out smaller epochs. See [`Destination::fence`](crate::Destination::fence).
    pub(super) async fn take_over(&self, connection: &ConnectionId, epoch: Epoch) -> Result<Committed, LoadError> {
        let place = self.place_of(connection);
        let session = self.lease().await?;
        place.ensure(&session).await?;
        let held = place.held(&session, false).await?.map(|held| held.committed.fence);
        refuse_smaller(connection, epoch, held.unwrap_or_default())?;
        let session = self.wait_for_turn(session, &place).await?;
        let committed = match raise(&session, &place, connection, epoch).await {
            Ok(committed) => committed,
            Err(error) => {
                session.roll_back().await;
                return Err(error);
            }
        };
        session.run("commit the fence in", &place.commits, "commit").await?;
        session.give_back();
        self.fenced.lock().expect("no code panics while it holds this lock").insert(connection.clone(), epoch);
        Ok(committed)
    }

    /// Begins a transaction that holds the connection's lock.
    async fn wait_for_turn<'a>(&'a self, session: Lease<'a>, place: &Place) -> Result<Lease<'a>, LoadError> {
        let turn = format!("select pg_advisory_xact_lock({})", place.lock());
        let patience = format!("set local lock_timeout to {}; {turn}", self.settings.fence_patience.as_millis());
        session.run("begin in", &place.commits, "begin isolation level read committed read write").await?;
        let Err(error) = session.client.batch_execute(&patience).await else { return Ok(session) };
        if !sqlstate::locked(&error) {
            return Err(session.failed("wait for the older owner of", &place.commits, &error));
        }
        session.run("roll back in", &place.commits, "rollback").await?;
        end_older(&session, place).await;
        session.run("begin in", &place.commits, "begin isolation level read committed read write").await?;
        session.run("wait for the older owner of", &place.commits, &turn).await?;
        Ok(session)
    }

    /// The epoch that this owner writes with.
    pub(super) fn epoch(&self, connection: &ConnectionId, sealed_by: Epoch) -> Epoch {
        let own = self.fenced.lock().expect("no code panics while it holds this lock").get(connection).copied();
        // Who never fenced can only be the owner that sealed the batch.
        own.unwrap_or(sealed_by)
    }
}

/// Ends the sessions that hold the connection's lock. Without the permission to, the wait just goes on.
async fn end_older(session: &super::client::Session, place: &Place) {
    let sql = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted \
               and database = (select oid from pg_database where datname = current_database()) \
               and (classid::int8 << 32) | objid::int8 = $1 and objsubid = 1 and pid <> pg_backend_pid()";
    match session.rows("end the older owner of", &place.commits, sql, &[&place.lock()]).await {
        Ok(ended) if ended.is_empty() => {}
        Ok(_) => tracing::warn!(connection = place.connection, "the transaction of an older owner was ended"),
        Err(error) => tracing::debug!(%error, "an older owner's session could not be ended"),
    }
}

async fn raise(
    session: &super::client::Session,
    place: &Place,
    connection: &ConnectionId,
    epoch: Epoch,
) -> Result<Committed, LoadError> {
    let sql = format!(
        "insert into {} as c (connection, fence, seq, state, rows, counts) values ($1, $2, 0, '{{}}', 0, '[]') \
         on conflict (connection) do update set fence = greatest(c.fence, excluded.fence) \
         returning fence, seq, state, manifest_sha, counts",
        place.commits
    );
    let values: [Value<'_>; 2] = [&place.connection, &(epoch.0 as i64)];
    let rows = session.rows("write the fence in", &place.commits, &sql, &values).await?;
    let row = rows.first().ok_or_else(|| LoadError::Corrupt {
        object: place.commits.clone(),
        reason: "it does not keep the row that is written to it".into(),
    })?;
    let held = place.parse(row)?;
    refuse_smaller(connection, epoch, held.committed.fence)?;
    Ok(held.committed)
}

pub(super) fn refuse_smaller(connection: &ConnectionId, epoch: Epoch, held: Epoch) -> Result<(), LoadError> {
    if held > epoch { Err(LoadError::Fenced { connection: connection.to_string(), epoch, held }) } else { Ok(()) }
}
