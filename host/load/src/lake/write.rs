//! Writes one data file: streams a segment's plaintext into a create-only object, verified on the way.
//!
//! In a local folder the file is written below `_thimble/incoming` and then hard-linked to its name, so that a folder of
//! data files never holds anything else, not even after a crash.

use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutPayload, path::Path};
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};
use sha2::{Digest, Sha256};
use thimble_record::{Failure, SealedBatch, SegmentRef, StreamBatch};

use super::{Lake, commit::DataFile, names};
use crate::{
    destination::SegmentSource,
    error::{LoadError, refused},
    limits::{FOOTER_BYTES, PART_BYTES, PUT_ATTEMPTS, PUT_BACKOFF, SINGLE_PUT_BYTES},
};

/// What the store holds under a data file's name.
enum Held {
    Nothing,
    Same,
    Other,
}

impl Lake {
    /// Writes the data file of a segment, or finds it written.
    pub(super) async fn write_file(
        &self,
        batch: &SealedBatch,
        stream: &StreamBatch,
        segment: &SegmentRef,
        segments: &dyn SegmentSource,
    ) -> Result<DataFile, LoadError> {
        let table = names::table_name(&stream.stream);
        let path = names::data(&batch.connection, &table, stream.generation, batch.seq, segment.number);
        let verifier = Verifier::new(&stream.stream, segment);
        let source = segments.open(batch, stream, segment).await?;
        let local = self.client.objects.folder.is_some();
        let incoming = local.then(|| names::incoming(&batch.connection).join(format!("{}.tmp", random())));
        if segment.plain_bytes <= SINGLE_PUT_BYTES {
            let payload = verifier.collect(source).await?;
            self.publish(&path, payload, incoming.as_ref(), segment).await?;
        } else if let Some(incoming) = &incoming {
            self.upload(incoming, source, verifier).await?;
            self.link(incoming, &path, segment).await?;
        } else if !matches!(self.held(&path, segment).await?, Held::Same) {
            // Parts cannot be completed conditionally. That is safe: whoever writes this name writes these bytes, and
            // they were verified before the upload completes.
            self.upload(&path, source, verifier).await?;
        }
        Ok(DataFile {
            path: path.to_string(),
            rows: segment.rows,
            bytes: segment.plain_bytes,
            sha256: segment.plain_sha256.clone(),
        })
    }

    /// Creates a file from memory.
    async fn publish(
        &self,
        path: &Path,
        payload: PutPayload,
        incoming: Option<&Path>,
        segment: &SegmentRef,
    ) -> Result<(), LoadError> {
        if let Some(incoming) = incoming {
            // A neighbour that just removed the folder's last file may have removed the folder with it.
            let mut put = self.client.store().put(incoming, payload.clone()).await;
            for _ in 1..PUT_ATTEMPTS {
                if put.as_ref().err().is_none_or(refused) {
                    break;
                }
                put = self.client.store().put(incoming, payload.clone()).await;
            }
            put.map_err(|source| LoadError::store("write", incoming.as_ref(), source))?;
            return self.link(incoming, path, segment).await;
        }
        let mut attempt = 1;
        loop {
            let error = match self.client.store().put_opts(path, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => return Ok(()),
                Err(error) if refused(&error) => return Err(LoadError::store("write", path.as_ref(), error)),
                Err(error) => error,
            };
            if self.settled(path, segment, &error).await? {
                return Ok(());
            }
            if attempt == PUT_ATTEMPTS {
                return Err(LoadError::store("write", path.as_ref(), error));
            }
            tokio::time::sleep(PUT_BACKOFF * 2u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    /// Gives a complete file its name, unless the name is taken.
    async fn link(&self, incoming: &Path, path: &Path, segment: &SegmentRef) -> Result<(), LoadError> {
        let linked = self.client.store().copy_if_not_exists(incoming, path).await;
        let removed = self.client.store().delete(incoming).await;
        if let Err(error) = removed {
            tracing::debug!(file = %incoming, %error, "a file that was being written could not be removed");
        }
        match linked {
            Ok(()) => Ok(()),
            Err(error) if self.settled(path, segment, &error).await? => Ok(()),
            Err(error) => Err(LoadError::store("write", path.as_ref(), error)),
        }
    }

    /// After a failed create: whether our content is there all the same.
    async fn settled(&self, path: &Path, segment: &SegmentRef, error: &object_store::Error) -> Result<bool, LoadError> {
        if refused(error) {
            return Ok(false);
        }
        match self.held(path, segment).await? {
            Held::Same => Ok(true),
            Held::Nothing => Ok(false),
            Held::Other => Err(LoadError::Conflict(format!(
                "the lake holds another file {path}, of a batch with this number that was never committed: was the \
                 control database restored from an older copy? Move the file away, then run again"
            ))),
        }
    }

    /// Asks the store what it holds under a name.
    async fn held(&self, path: &Path, segment: &SegmentRef) -> Result<Held, LoadError> {
        let unknown =
            |source: object_store::Error| LoadError::Unknown { object: path.to_string(), source: source.into() };
        let found = match self.client.store().get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Held::Nothing),
            Err(source) => return Err(unknown(source)),
        };
        if found.meta.size != segment.plain_bytes {
            return Ok(Held::Other);
        }
        let mut digest = Sha256::new();
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(unknown)? {
            digest.update(&piece);
        }
        Ok(if hex::encode(digest.finalize()) == segment.plain_sha256 { Held::Same } else { Held::Other })
    }

    /// Writes a large object in parts; it appears, whole, only when everything was verified.
    async fn upload(
        &self,
        path: &Path,
        source: BoxStream<'static, Result<Bytes, Failure>>,
        verifier: Verifier<'_>,
    ) -> Result<(), LoadError> {
        let failed = |source| LoadError::store("write", path.as_ref(), source);
        let segment = verifier.segment;
        let mut upload = self.client.store().put_multipart(path).await.map_err(failed)?;
        if let Err(error) = send_parts(upload.as_mut(), source, verifier, path).await {
            if let Err(error) = upload.abort().await {
                tracing::debug!(file = %path, %error, "an unfinished upload could not be removed");
            }
            return Err(error);
        }
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(error) if self.settled(path, segment, &error).await? => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    mut source: BoxStream<'static, Result<Bytes, Failure>>,
    mut verifier: Verifier<'_>,
    path: &Path,
) -> Result<(), LoadError> {
    let failed = |source| LoadError::store("write", path.as_ref(), source);
    let mut part = BytesMut::with_capacity(PART_BYTES);
    while let Some(piece) = source.next().await {
        let mut piece = piece?;
        verifier.take(&piece)?;
        // Every part but the last has the same size, which some stores demand.
        while part.len() + piece.len() >= PART_BYTES {
            part.extend_from_slice(&piece.split_to(PART_BYTES - part.len()));
            let full = std::mem::replace(&mut part, BytesMut::with_capacity(PART_BYTES));
            upload.put_part(full.freeze().into()).await.map_err(failed)?;
        }
        part.extend_from_slice(&piece);
    }
    verifier.finish()?;
    if !part.is_empty() {
        upload.put_part(part.freeze().into()).await.map_err(failed)?;
    }
    Ok(())
}

/// A name that no other writer uses at this time.
fn random() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Compares a plaintext stream with what was sealed, and keeps its end for the Parquet footer.
struct Verifier<'a> {
    stream: &'a str,
    segment: &'a SegmentRef,
    digest: Sha256,
    bytes: u64,
    tail: BytesMut,
}

impl<'a> Verifier<'a> {
    fn new(stream: &'a str, segment: &'a SegmentRef) -> Self {
        Self { stream, segment, digest: Sha256::new(), bytes: 0, tail: BytesMut::new() }
    }

    fn corrupt(&self, reason: impl Into<String>) -> LoadError {
        let segment = self.segment.path.clone();
        LoadError::CorruptSegment { stream: self.stream.to_owned(), segment, reason: reason.into() }
    }

    /// Takes a whole small file into memory.
    async fn collect(
        mut self,
        mut source: BoxStream<'static, Result<Bytes, Failure>>,
    ) -> Result<PutPayload, LoadError> {
        let mut pieces = Vec::new();
        while let Some(piece) = source.next().await {
            let piece = piece?;
            self.take(&piece)?;
            pieces.push(piece);
        }
        self.finish()?;
        Ok(PutPayload::from_iter(pieces))
    }

    fn take(&mut self, piece: &Bytes) -> Result<(), LoadError> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.segment.plain_bytes {
            return Err(self.corrupt(format!("it goes on after {} bytes", self.segment.plain_bytes)));
        }
        self.digest.update(piece);
        self.tail.extend_from_slice(piece);
        if self.tail.len() > 2 * FOOTER_BYTES {
            self.tail = BytesMut::from(&self.tail[self.tail.len() - FOOTER_BYTES..]);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LoadError> {
        if self.bytes != self.segment.plain_bytes {
            return Err(self.corrupt(format!("it ends after {} of {} bytes", self.bytes, self.segment.plain_bytes)));
        }
        if hex::encode(self.digest.finalize_reset()) != self.segment.plain_sha256 {
            return Err(self.corrupt("its digest is another one"));
        }
        match footer_rows(&self.tail) {
            Ok(rows) if rows == self.segment.rows => Ok(()),
            Ok(rows) => Err(self.corrupt(format!("it holds {rows} rows instead of {}", self.segment.rows))),
            Err(reason) => Err(self.corrupt(reason)),
        }
    }
}

/// Rows of a Parquet file by its footer, which must lie within `tail`, the end of the file.
fn footer_rows(tail: &[u8]) -> Result<u64, String> {
    let unreadable = |error: parquet::errors::ParquetError| format!("its Parquet footer cannot be read: {error}");
    let (rest, end) = tail.split_last_chunk::<8>().ok_or("it is too short for a Parquet file")?;
    let length = FooterTail::try_new(end).map_err(unreadable)?.metadata_length();
    let start = rest.len().checked_sub(length).ok_or_else(|| format!("its Parquet footer has {length} bytes"))?;
    let footer = ParquetMetaDataReader::decode_metadata(&rest[start..]).map_err(unreadable)?;
    u64::try_from(footer.file_metadata().num_rows()).map_err(|_| "its Parquet footer has a negative row count".into())
}
