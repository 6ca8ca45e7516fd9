//! The lake's requests to the object store. The only place that writes objects of the protocol.
//!
//! A create whose answer was lost is resolved by reading the name back, never by writing under another name.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};

use crate::{
    error::{LoadError, refused},
    limits::{PUT_ATTEMPTS, PUT_BACKOFF, RECORD_BYTES},
    objects::Objects,
};

/// What became of a create-only write.
pub(crate) enum Created {
    /// Our content is there. Whether by this write or by an earlier one that looked failed is not known.
    Ours,
    /// Other content is there.
    Other,
}

/// Requests to one lake.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) objects: Objects,
}

impl Client {
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.objects.durable
    }

    /// Creates a small object.
    pub(crate) async fn create(&self, path: &Path, content: Bytes) -> Result<Created, LoadError> {
        let mut attempt = 1;
        loop {
            let put = self.store().put_opts(path, PutPayload::from(content.clone()), PutMode::Create.into()).await;
            let error = match put {
                Ok(_) => return Ok(Created::Ours),
                Err(error) if refused(&error) => return Err(LoadError::store("write", path.as_ref(), error)),
                Err(error) => error,
            };
            match self.ask(path).await? {
                Some(held) if held == content => return Ok(Created::Ours),
                Some(_) => return Ok(Created::Other),
                None if attempt == PUT_ATTEMPTS => return Err(LoadError::store("write", path.as_ref(), error)),
                None => tokio::time::sleep(PUT_BACKOFF * 2u32.pow(attempt - 1)).await,
            }
            attempt += 1;
        }
    }

    /// Reads a name back after a write whose outcome is open.
    async fn ask(&self, path: &Path) -> Result<Option<Bytes>, LoadError> {
        match self.read(path).await {
            Ok(found) => Ok(found),
            Err(LoadError::Transient { object, source, .. } | LoadError::Denied { object, source, .. }) => {
                Err(LoadError::Unknown { object, source })
            }
            Err(other) => Err(other),
        }
    }

    /// Reads a small object whole; `None` when it is not there.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<Bytes>, LoadError> {
        let failed = |source| LoadError::store("read", path.as_ref(), source);
        let Some(found) = self.get(path).await? else { return Ok(None) };
        let size = found.meta.size;
        if size > RECORD_BYTES {
            let reason = format!("it has {size} bytes, more than the {RECORD_BYTES} that are read");
            return Err(LoadError::Corrupt { object: path.to_string(), reason });
        }
        let mut content = BytesMut::with_capacity(size as usize);
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            content.extend_from_slice(&piece);
        }
        if content.len() as u64 != size {
            // A connection that was cut; what is there may be whole.
            let message = format!("{} of {size} bytes came", content.len());
            return Err(failed(object_store::Error::Generic { store: "lake", source: message.into() }));
        }
        Ok(Some(content.freeze()))
    }

    /// Starts reading an object; `None` when it is not there.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<GetResult>, LoadError> {
        match self.store().get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(LoadError::store("read", path.as_ref(), source)),
        }
    }

    /// Lists a folder and what is below it; after `offset` where that is given.
    pub(crate) async fn list(&self, folder: &Path, offset: Option<&Path>) -> Result<Vec<ObjectMeta>, LoadError> {
        let found = match offset {
            Some(offset) => self.store().list_with_offset(Some(folder), offset),
            None => self.store().list(Some(folder)),
        };
        found.try_collect().await.map_err(|source| LoadError::store("list", folder.as_ref(), source))
    }

    /// Names of the folders in a folder.
    pub(crate) async fn folders(&self, folder: &Path) -> Result<Vec<String>, LoadError> {
        let found = self
            .store()
            .list_with_delimiter(Some(folder))
            .await
            .map_err(|source| LoadError::store("list", folder.as_ref(), source))?;
        Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    /// Deletes objects; those that are gone already do not count.
    pub(crate) async fn delete(&self, doomed: Vec<Path>) -> Result<u64, LoadError> {
        let mut results = self.store().delete_stream(futures::stream::iter(doomed.into_iter().map(Ok)).boxed());
        let mut deleted = 0;
        while let Some(result) = results.next().await {
            match result {
                Ok(_) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(LoadError::store("delete", "old objects", source)),
            }
        }
        Ok(deleted)
    }

    /// Overwrites a derived object; it need not survive a power cut.
    pub(crate) async fn replace_derived(&self, path: &Path, content: String) -> Result<(), LoadError> {
        match self.objects.quick.put(path, PutPayload::from(content)).await {
            Ok(_) => Ok(()),
            Err(source) => Err(LoadError::store("write", path.as_ref(), source)),
        }
    }
}
