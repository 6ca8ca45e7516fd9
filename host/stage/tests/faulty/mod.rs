//! A layer around a real store that disturbs chosen requests, once each. Shared by the tests of staging and loading.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// The requests that can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Put,
    Get,
    Copy,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503: nothing is done.
    Reject,
    /// It is done, and the answer is lost.
    LoseAnswer,
    /// 403: nothing is done.
    Forbid,
    /// The byte at this place is another one.
    Flip(usize),
    /// The answer ends after this many bytes, as if that were all.
    Cut(usize),
}

#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

/// The faults to come. Cheap to clone; the test keeps one.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    script: Arc<Mutex<Vec<(Request, String, Fault)>>>,
    requests: Arc<AtomicUsize>,
}

impl Faults {
    /// Disturbs the next request of this kind to a name that contains `part`.
    pub fn inject(&self, request: Request, part: &str, fault: Fault) {
        self.script.lock().unwrap().push((request, part.to_owned(), fault));
    }

    pub fn wrap(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Faulty { inner, faults: self.clone() })
    }

    /// Fails the test when a fault was never met.
    pub fn assert_all_met(&self) {
        let left = self.script.lock().unwrap();
        assert!(left.is_empty(), "faults that nothing ran into: {left:?}");
    }

    /// Requests (put, get, head, copy) since the last reset.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn reset_count(&self) {
        self.requests.store(0, Ordering::SeqCst);
    }

    fn take(&self, request: Request, path: &Path) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut faults = self.script.lock().unwrap();
        let at = faults.iter().position(|(kind, part, _)| *kind == request && path.as_ref().contains(part.as_str()))?;
        Some(faults.remove(at).2)
    }
}

fn fail(path: &Path, fault: Fault) -> Error {
    match fault {
        Fault::Forbid => Error::PermissionDenied { path: path.to_string(), source: "scripted 403".into() },
        _ => Error::Generic { store: "faulty", source: format!("scripted fault {fault:?}").into() },
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.faults.take(Request::Put, path) {
            None => self.inner.put_opts(path, payload, options).await,
            Some(fault) => {
                if fault == Fault::LoseAnswer {
                    self.inner.put_opts(path, payload, options).await?;
                }
                Err(fail(path, fault))
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        match self.faults.take(Request::Put, path) {
            None => self.inner.put_multipart_opts(path, options).await,
            Some(fault) => Err(fail(path, fault)),
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let fault = self.faults.take(Request::Get, path);
        if let Some(fault @ (Fault::Reject | Fault::LoseAnswer | Fault::Forbid)) = fault {
            return Err(fail(path, fault));
        }
        let mut found = self.inner.get_opts(path, options).await?;
        if head {
            return Ok(found);
        }
        let meta = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let mut content = found.bytes().await?.to_vec();
        match fault {
            Some(Fault::Flip(at)) => content[at] ^= 1,
            Some(Fault::Cut(at)) => content.truncate(at),
            _ => {}
        }
        // In uneven pieces, as networks do.
        let pieces: Vec<_> = content.chunks(77_777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        found = GetResult {
            payload: GetResultPayload::Stream(stream::iter(pieces).boxed()),
            meta: meta.0,
            range: meta.1,
            attributes: meta.2,
            extensions: Default::default(),
        };
        Ok(found)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.faults.take(Request::Copy, to) {
            None => self.inner.copy_opts(from, to, options).await,
            Some(fault) => {
                if fault == Fault::LoseAnswer {
                    self.inner.copy_opts(from, to, options).await?;
                }
                Err(fail(to, fault))
            }
        }
    }
}
