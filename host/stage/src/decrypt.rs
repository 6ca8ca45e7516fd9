//! Reads a segment back: fetches, verifies and decrypts it chunk by chunk.
//!
//! Nothing is handed out that was not authenticated, and the last chunk only after the digests and lengths of the
//! whole segment were found right. A reader that saw the end without an error saw exactly what was sealed.

use std::{io::Read, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetResultPayload, ObjectStoreExt, path::Path};
use sha2::{Digest, Sha256};
use thimble_record::{BatchSeq, ConnectionId, Epoch, SegmentRef};

use crate::{
    SegmentId, Stage, StageError,
    frame::{ChunkCipher, HEADER, SEALED_BYTES, TAG_BYTES, segment_aad},
    limits::READ_BYTES,
};

impl Stage {
    /// Streams the plaintext Parquet file of a segment.
    ///
    /// # Errors
    /// [`StageError::Missing`], [`StageError::Corrupt`] (any change of the stored bytes, or a segment of another place),
    /// [`StageError::Key`] (another host key), [`StageError::Unavailable`].
    pub async fn open_segment(
        &self,
        connection: &ConnectionId,
        epoch: Epoch,
        seq: BatchSeq,
        stream: &str,
        segment: &SegmentRef,
    ) -> Result<BoxStream<'static, Result<Bytes, StageError>>, StageError> {
        let id =
            SegmentId { connection: connection.clone(), epoch, seq, stream: stream.to_owned(), number: segment.number };
        let key = hex::decode(&segment.wrapped_key)
            .map_err(|_| thimble_record::envelope::EnvelopeError::Unopenable)
            .and_then(|wrapped| self.keys.unwrap_key(&wrapped, &segment_aad(&id)))
            .map_err(|source| StageError::Key { path: segment.path.clone(), source })?;
        let found = match self.store.get(&Path::from(segment.path.as_str())).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(StageError::Missing(segment.path.clone())),
            Err(source) => return Err(StageError::store("read", &segment.path, source)),
        };
        if found.meta.size != segment.bytes {
            let reason = format!("it has {} bytes instead of {}", found.meta.size, segment.bytes);
            return Err(StageError::Corrupt { path: segment.path.clone(), reason });
        }
        let body = match found.payload {
            GetResultPayload::File(file, _) => Body::File(Arc::new(file)),
            GetResultPayload::Stream(stream) => Body::Stream(stream),
        };
        let reader = Reader::new(body, ChunkCipher::new(&key, &id), segment.clone());
        Ok(stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next_chunk().await?.map(|chunk| (chunk, reader)))
        })
        .boxed())
    }
}

/// Where ciphertext comes from. A local file is read in large pieces; the store's own stream of it has small ones.
enum Body {
    File(Arc<std::fs::File>),
    Stream(BoxStream<'static, object_store::Result<Bytes>>),
}

impl Body {
    async fn next(&mut self) -> Option<object_store::Result<Bytes>> {
        match self {
            Self::Stream(stream) => stream.next().await,
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || read_some(&file)).await;
                match read {
                    Ok(Ok(piece)) if piece.is_empty() => None,
                    Ok(Ok(piece)) => Some(Ok(piece)),
                    Ok(Err(error)) => Some(Err(generic(error))),
                    Err(error) => Some(Err(generic(error))),
                }
            }
        }
    }
}

fn read_some(mut file: &std::fs::File) -> std::io::Result<Bytes> {
    let mut piece = Vec::with_capacity(READ_BYTES);
    file.by_ref().take(READ_BYTES as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "file", source: Box::new(error) }
}

struct Reader {
    body: Body,
    cipher: ChunkCipher,
    segment: SegmentRef,
    /// Fetched, not yet opened.
    buffer: BytesMut,
    fetched: u64,
    /// Header and chunks that were taken out of the buffer.
    opened: u64,
    stored_sha: Sha256,
    plain_sha: Sha256,
    plain_bytes: u64,
    /// Whether the last chunk was opened and the whole verified.
    complete: bool,
}

impl Reader {
    fn new(body: Body, cipher: ChunkCipher, segment: SegmentRef) -> Self {
        Self {
            body,
            cipher,
            segment,
            buffer: BytesMut::new(),
            fetched: 0,
            opened: 0,
            stored_sha: Sha256::new(),
            plain_sha: Sha256::new(),
            plain_bytes: 0,
            complete: false,
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> StageError {
        StageError::Corrupt { path: self.segment.path.clone(), reason: reason.into() }
    }

    /// The next plaintext, or `None` after the last chunk.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, StageError> {
        if self.opened == 0 {
            self.fill(HEADER.len()).await?;
            if self.buffer[..HEADER.len()] != HEADER {
                return Err(self.corrupt("it does not begin as a segment of a known format"));
            }
            self.buffer.advance(HEADER.len());
            self.opened = HEADER.len() as u64;
        }
        let rest = self.segment.bytes.saturating_sub(self.opened);
        if self.complete {
            return Ok(None);
        }
        if rest < TAG_BYTES as u64 {
            return Err(self.corrupt("it has no last chunk"));
        }
        let last = rest <= SEALED_BYTES as u64;
        let length = if last { rest as usize } else { SEALED_BYTES };
        self.fill(length).await?;
        let mut chunk = self.buffer.split_to(length).to_vec();
        let at = self.opened;
        self.cipher
            .open(&mut chunk, last)
            .map_err(|_| self.corrupt(format!("the chunk at byte {at} was changed or belongs elsewhere")))?;
        self.opened += length as u64;
        self.plain_sha.update(&chunk);
        self.plain_bytes += chunk.len() as u64;
        if last {
            self.verify_whole().await?;
            self.complete = true;
        }
        Ok(Some(chunk.into()))
    }

    /// Fetches until the buffer holds `length` bytes.
    async fn fill(&mut self, length: usize) -> Result<(), StageError> {
        while self.buffer.len() < length {
            match self.body.next().await {
                None => {
                    return Err(self.corrupt(format!("it ends after {} of {} bytes", self.fetched, self.segment.bytes)));
                }
                Some(Err(source)) => return Err(StageError::store("read", &self.segment.path, source)),
                Some(Ok(piece)) => {
                    self.fetched += piece.len() as u64;
                    if self.fetched > self.segment.bytes {
                        return Err(self.corrupt(format!("it goes on after {} bytes", self.segment.bytes)));
                    }
                    self.stored_sha.update(&piece);
                    self.buffer.extend_from_slice(&piece);
                }
            }
        }
        Ok(())
    }

    async fn verify_whole(&mut self) -> Result<(), StageError> {
        while let Some(piece) = self.body.next().await {
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(_) => return Err(self.corrupt(format!("it goes on after {} bytes", self.segment.bytes))),
                Err(source) => return Err(StageError::store("read", &self.segment.path, source)),
            }
        }
        let stored = hex::encode(self.stored_sha.finalize_reset());
        let plain = hex::encode(self.plain_sha.finalize_reset());
        if stored != self.segment.sha256 {
            return Err(self.corrupt("its digest is not the sealed one"));
        }
        if plain != self.segment.plain_sha256 || self.plain_bytes != self.segment.plain_bytes {
            return Err(self.corrupt("its content is not the sealed one"));
        }
        Ok(())
    }
}
