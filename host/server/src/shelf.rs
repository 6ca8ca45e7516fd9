//! The components of connectors in the staging area: where hosts that share a control database find them.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use thimble_control::SharedUploads;
use thimble_plugin::Shelf;
use thimble_record::Failure;
use thimble_stage::Stage;

/// Keeps components beside the segments.
pub struct StagedComponents(pub Arc<Stage>);

#[async_trait]
impl Shelf for StagedComponents {
    async fn put(&self, digest: &str, wasm: Bytes) -> Result<(), String> {
        self.0.put_component(digest, wasm).await.map_err(|error| error.to_string())
    }

    async fn get(&self, digest: &str, limit: usize) -> Result<Option<Bytes>, String> {
        self.0.get_component(digest, limit).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl SharedUploads for StagedComponents {
    async fn share(&self, digest: &str, file: &Path) -> Result<(), Failure> {
        let wasm = tokio::fs::read(file).await.map_err(|error| Failure::system(error.to_string()))?;
        self.0.put_component(digest, wasm.into()).await.map_err(|error| error.failure())
    }

    async fn prune(&self, kept: &BTreeSet<String>, put_before_ms: i64) -> Result<u64, Failure> {
        self.0.prune_components(kept, put_before_ms).await.map_err(|error| error.failure())
    }
}
