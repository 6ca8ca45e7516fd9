//! Where components lie that other hosts installed.
//!
//! Must never hold compiled code: each host compiles what it runs, from bytes whose digest it checked.

use async_trait::async_trait;
use bytes::Bytes;

/// Keeps components by their digest for all hosts of an installation. What it hands out is not trusted.
#[async_trait]
pub trait Shelf: Send + Sync + 'static {
    /// Keeps a component; it may be there already. The error is a sentence for the operator.
    async fn put(&self, digest: &str, wasm: Bytes) -> Result<(), String>;

    /// A component of at most `limit` bytes; `None` where nobody put it there.
    async fn get(&self, digest: &str, limit: usize) -> Result<Option<Bytes>, String>;
}
