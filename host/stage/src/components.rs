//! Components of connectors beside the segments, so that every host of an installation can have them.
//!
//! A component is named by its digest and only ever created. Must never be trusted by its name: whoever reads one checks
//! its digest.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutPayload, path::Path};

use crate::{Stage, StageError, error::refused};

/// No connection has a dot in its name.
const FOLDER: &str = ".components";

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
}
