//! Components of connectors beside the segments, so that every host of an installation can have them.
//!
//! A component is named by its digest and only ever created. Must never be trusted by its name: whoever reads one checks
//! its digest.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload, path::Path};

use crate::{Stage, StageError, error::refused};

/// No connection has a dot in its name.
const FOLDER: &str = ".components";

/// Most components that are removed at one time; the others go the next time.
const MAX_REMOVED_AT_ONCE: u64 = 1_000;

impl Stage {
    /// Keeps a component. One that is there already stays.
    pub async fn put_component(&self, digest: &str, wasm: Bytes) -> Result<(), StageError> {
        let path = path(digest);
        match self.store.put_opts(&path, PutPayload::from_bytes(wasm), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) if refused(&error) => Err(StageError::store("write", path.as_ref(), error)),
            // An answer may have been lost; then the second try finds it there.
            Err(error) => match self.store.head(&path).await {
                Ok(_) => Ok(()),
                Err(_) => Err(StageError::store("write", path.as_ref(), error)),
            },
        }
    }

    /// A component of at most `limit` bytes; `None` where there is none.
    pub async fn get_component(&self, digest: &str, limit: usize) -> Result<Option<Bytes>, StageError> {
        let path = path(digest);
        let failed = |error| StageError::store("read", path.as_ref(), error);
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = BytesMut::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            if bytes.len() + chunk.len() > limit {
                let reason = format!("it is larger than {limit} bytes");
                return Err(StageError::Corrupt { path: path.to_string(), reason });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.freeze()))
    }

    /// Removes components that were put before a time (milliseconds since the epoch) and are none of `kept`, at most
    /// [`MAX_REMOVED_AT_ONCE`]; answers how many.
    pub async fn prune_components(&self, kept: &BTreeSet<String>, put_before_ms: i64) -> Result<u64, StageError> {
        let folder = Path::from(FOLDER);
        let mut found = self.store.list(Some(&folder));
        let mut removed = 0;
        while let Some(object) =
            found.try_next().await.map_err(|error| StageError::store("list", folder.as_ref(), error))?
        {
            let digest = object.location.filename().and_then(|name| name.strip_suffix(".wasm"));
            // What was not put here stays.
            let Some(digest) = digest else { continue };
            if kept.contains(digest) || object.last_modified.timestamp_millis() >= put_before_ms {
                continue;
            }
            match self.store.delete(&object.location).await {
                Ok(()) => removed += 1,
                // Another host was faster.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(StageError::store("remove", object.location.as_ref(), error)),
            }
            if removed >= MAX_REMOVED_AT_ONCE {
                break;
            }
        }
        Ok(removed)
    }
}

/// The digest is checked by the caller: hex, so that it is one part of a path.
fn path(digest: &str) -> Path {
    Path::from_iter([FOLDER, &format!("{digest}.wasm")])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use thimble_record::envelope::HostKey;

    use super::*;

    #[tokio::test]
    async fn a_component_is_kept_as_it_was_first_put() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let stage = Stage::open(&url, &BTreeMap::new(), HostKey::generate().unwrap()).unwrap();
        assert!(stage.get_component("ab", 9).await.unwrap().is_none());
        for wasm in ["component", "another"] {
            stage.put_component("ab", Bytes::from(wasm)).await.unwrap();
        }
        assert_eq!(stage.get_component("ab", 9).await.unwrap().unwrap(), "component");
        assert!(matches!(stage.get_component("ab", 8).await, Err(StageError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn components_that_nobody_names_go_after_a_grace_time() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let stage = Stage::open(&url, &BTreeMap::new(), HostKey::generate().unwrap()).unwrap();
        let kept = BTreeSet::from(["ab".to_owned()]);
        assert_eq!(stage.prune_components(&kept, i64::MAX).await.unwrap(), 0, "there is no folder yet");
        for digest in ["ab", "cd"] {
            stage.put_component(digest, Bytes::from("component")).await.unwrap();
        }
        assert_eq!(stage.prune_components(&kept, 0).await.unwrap(), 0, "they are young");
        assert_eq!(stage.prune_components(&kept, i64::MAX).await.unwrap(), 1);
        assert!(stage.get_component("ab", 9).await.unwrap().is_some());
        assert!(stage.get_component("cd", 9).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn so_many_components_go_at_one_time_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let stage = Stage::open(&url, &[("fsync".to_owned(), "false".to_owned())].into(), HostKey::generate().unwrap());
        let stage = stage.unwrap();
        for number in 0..=MAX_REMOVED_AT_ONCE {
            stage.put_component(&number.to_string(), Bytes::from("c")).await.unwrap();
        }
        let none = BTreeSet::new();
        assert_eq!(stage.prune_components(&none, i64::MAX).await.unwrap(), MAX_REMOVED_AT_ONCE);
        assert_eq!(stage.prune_components(&none, i64::MAX).await.unwrap(), 1);
    }
}
