//! Removes files that no reader can need any more.

use std::time::Duration;

use thimble_record::ConnectionId;

use super::{Lake, names};
use crate::error::LoadError;

impl Lake {
    /// Deletes the files of generations that were replaced more than `grace` ago, and what crashes left half-written for
    /// as long. `grace` is the longest time that a reader may work with a list of files. Returns the number of deleted
    /// files. Needs no fence: what it deletes is dead for every owner.
    ///
    /// `now_ms`: milliseconds since the epoch.
    pub async fn collect(&self, connection: &ConnectionId, grace: Duration, now_ms: i64) -> Result<u64, LoadError> {
        let over = |since: i64| u128::try_from(now_ms.saturating_sub(since)).is_ok_and(|age| age > grace.as_millis());
        let state = self.state(connection).await?;
        let mut doomed = Vec::new();
        for table in state.tables.values() {
            let Some(visible) = table.visible.filter(|_| over(table.visible_since)) else { continue };
            for folder in self.client.folders(&names::table(connection, &table.table)).await? {
                let Some(generation) = names::generation_of(&folder).filter(|&old| old < visible) else { continue };
                let files = self.client.list(&names::generation(connection, &table.table, generation), None).await?;
                doomed.extend(files.into_iter().map(|file| file.location));
            }
        }
        let incoming = self.client.list(&names::incoming(connection), None).await?;
        let abandoned = incoming.into_iter().filter(|file| over(file.last_modified.timestamp_millis()));
        doomed.extend(abandoned.map(|file| file.location));
        self.client.delete(doomed).await
    }
}
