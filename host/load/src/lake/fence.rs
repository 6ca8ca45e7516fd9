//! Fences: who may write. One create-only object per epoch; the greatest counts.

use bytes::Bytes;
use object_store::path::Path;
use thimble_record::{ConnectionId, Epoch};

use super::{Lake, client::Created, commit::LakeState, names};
use crate::{destination::Committed, error::LoadError};

impl Lake {
    /// Shuts out smaller epochs. See [`Destination::fence`](crate::Destination::fence).
    pub(super) async fn take_over(&self, connection: &ConnectionId, epoch: Epoch) -> Result<Committed, LoadError> {
        refuse_smaller(connection, epoch, self.greatest_fence(connection).await?)?;
        let content = Bytes::from(format!("{{\"epoch\":{epoch}}}\n"));
        match self.client.create(&names::fence(connection, epoch), content).await? {
            Created::Ours => {}
            Created::Other => {
                let object = names::fence(connection, epoch).to_string();
                return Err(LoadError::Corrupt { object, reason: "it is not a fence of its epoch".into() });
            }
        }
        // A greater one may have come between the look and the write.
        refuse_smaller(connection, epoch, self.greatest_fence(connection).await?)?;
        self.fenced.lock().expect("no code panics while it holds this lock").insert(connection.clone(), epoch);
        self.forget_smaller_fences(connection, epoch).await;
        // What was known may come from before another owner, or from before the folder was replaced.
        self.forget(connection);
        let state = self.state(connection).await?;
        self.repair_derived(connection, &state).await;
        Ok(committed(epoch, &state))
    }

    /// The greatest epoch that fenced the connection; zero when none did.
    pub(super) async fn greatest_fence(&self, connection: &ConnectionId) -> Result<Epoch, LoadError> {
        let found = self.client.list(&names::fences(connection), None).await?;
        Ok(Epoch(found.iter().filter_map(|object| names::number_of(&object.location, "")).max().unwrap_or(0)))
    }

    /// Fails when an owner with a greater epoch than this one's came.
    pub(super) async fn check_fence(&self, connection: &ConnectionId, sealed_by: Epoch) -> Result<(), LoadError> {
        let own = self.fenced.lock().expect("no code panics while it holds this lock").get(connection).copied();
        // Who never fenced can only be the owner that sealed the batch.
        let epoch = own.unwrap_or(sealed_by);
        let greater = self.client.list(&names::fences(connection), Some(&names::fence(connection, epoch))).await?;
        let held = greater.iter().filter_map(|object| names::number_of(&object.location, "")).max().unwrap_or(0);
        refuse_smaller(connection, epoch, Epoch(held))
    }

    /// Fences below a greater one say nothing; there is one more of them for each run.
    async fn forget_smaller_fences(&self, connection: &ConnectionId, epoch: Epoch) {
        let Ok(found) = self.client.list(&names::fences(connection), None).await else { return };
        let smaller = |path: &Path| names::number_of(path, "").is_some_and(|number| number < epoch.0);
        let doomed: Vec<_> = found.into_iter().map(|object| object.location).filter(smaller).collect();
        if !doomed.is_empty()
            && let Err(error) = self.client.delete(doomed).await
        {
            tracing::debug!(%connection, %error, "old fences could not be removed");
        }
    }
}

fn refuse_smaller(connection: &ConnectionId, epoch: Epoch, held: Epoch) -> Result<(), LoadError> {
    if held > epoch { Err(LoadError::Fenced { connection: connection.to_string(), epoch, held }) } else { Ok(()) }
}

pub(super) fn committed(fence: Epoch, state: &LakeState) -> Committed {
    Committed { fence, seq: state.seq, position: state.position.clone(), manifest_sha: state.manifest_sha.clone() }
}
