//! Names of segments, and storing them exactly once.
//!
//! A segment's name contains the digest of its bytes, and it is only ever created. So a lost answer is resolved by
//! asking the store for that name, and a second put of the same segment is a success.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload, path::Path};
use sha2::{Digest, Sha256};
use thimble_record::{BatchSeq, ConnectionId, Epoch, SegmentRef};

use crate::{
    FinishedSegment, SegmentId, Stage, StageError,
    error::refused,
    limits::{PUT_ATTEMPTS, PUT_BACKOFF},
};

/// Folder of a batch's segments, under the staging root.
pub(crate) fn folder(id: &SegmentId) -> String {
    batch_folder(&id.connection, id.seq)
}

fn batch_folder(connection: &ConnectionId, seq: BatchSeq) -> String {
    format!("{connection}/{:020}", seq.0)
}

/// Name of a segment. The stream is not in it: its name may hold anything.
pub(crate) fn path(id: &SegmentId, sha256: &str) -> String {
    format!("{}/{}-{}-{sha256}.seg", folder(id), id.epoch, id.number)
}

/// The batch that an object of a connection belongs to, and the epoch that staged it; `None` for what is not ours.
pub(crate) fn origin(connection: &ConnectionId, path: &str) -> Option<(BatchSeq, Epoch)> {
    let (seq, file) = path.strip_prefix(connection.as_str())?.strip_prefix('/')?.split_once('/')?;
    let ours = seq.len() == 20 && seq.bytes().all(|b| b.is_ascii_digit()) && file.ends_with(".seg");
    let (epoch, _) = file.split_once('-')?;
    if ours { Some((BatchSeq(seq.parse().ok()?), Epoch(epoch.parse().ok()?))) } else { None }
}

/// What the store says about a name.
enum Held {
    Nothing,
    Same,
    Other,
}

impl Stage {
    /// Stores a segment. When this returns, the segment is durable. "Already exists" with the same content is success.
    pub async fn put(&self, segment: FinishedSegment) -> Result<SegmentRef, StageError> {
        let FinishedSegment { chunks, reference } = segment;
        let path = Path::from(reference.path.as_str());
        let payload = PutPayload::from_iter(chunks);
        let mut attempt = 1;
        loop {
            let error = match self.store.put_opts(&path, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => return Ok(reference),
                Err(error) => error,
            };
            if refused(&error) {
                return Err(StageError::store("write", path.as_ref(), error));
            }
            match self.held(&path, &reference).await? {
                Held::Same => return Ok(reference),
                Held::Other => return Err(StageError::Conflict(path.to_string())),
                Held::Nothing if attempt == PUT_ATTEMPTS => {
                    return Err(StageError::store("write", path.as_ref(), error));
                }
                Held::Nothing => tokio::time::sleep(PUT_BACKOFF * 2u32.pow(attempt - 1)).await,
            }
            attempt += 1;
        }
    }

    /// Asks the store what it holds under a name whose write had no clear answer.
    async fn held(&self, path: &Path, reference: &SegmentRef) -> Result<Held, StageError> {
        let unknown = |source| StageError::Unknown { path: path.to_string(), source };
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Held::Nothing),
            Err(source) => return Err(unknown(source)),
        };
        if found.meta.size != reference.bytes {
            return Ok(Held::Other);
        }
        let (digest, length) = found
            .into_stream()
            .try_fold((Sha256::new(), 0), |(sha, length), piece: Bytes| async move {
                Ok((sha.chain_update(&piece), length + piece.len() as u64))
            })
            .await
            .map_err(unknown)?;
        if length != reference.bytes {
            // A connection that was cut; what is there may be whole.
            let source = format!("{length} of {} bytes came", reference.bytes).into();
            return Err(unknown(object_store::Error::Generic { store: "stage", source }));
        }
        Ok(if hex::encode(digest.finalize()) == reference.sha256 { Held::Same } else { Held::Other })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_our_own_names_have_an_origin() {
        let connection = ConnectionId::new("c").unwrap();
        let origin = |path: &str| origin(&connection, path).map(|(seq, epoch)| (seq.0, epoch.0));
        assert_eq!(origin("c/00000000000000000042/17-0-aa.seg"), Some((42, 17)));
        assert_eq!(origin("c/00000000000000000042/x-0-aa.seg"), None);
        assert_eq!(origin("c/00000000000000000042/notes.txt"), None);
        assert_eq!(origin("c/42/1-0-aa.seg"), None);
        assert_eq!(origin("cc/00000000000000000042/1-0-aa.seg"), None);
    }
}
