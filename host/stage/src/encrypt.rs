//! Takes the plaintext of a segment as it is encoded and keeps only ciphertext and digests.

use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use thimble_record::envelope::DataKey;

use crate::{
    SegmentId,
    frame::{ChunkCipher, HEADER, SEALED_BYTES},
    limits::CHUNK_BYTES,
};

/// A writer that encrypts. A full chunk waits until more comes, because the last one is marked.
pub(crate) struct Encryptor {
    cipher: ChunkCipher,
    pending: Vec<u8>,
    stored: Vec<Bytes>,
    stored_sha: Sha256,
    stored_bytes: u64,
    plain_sha: Sha256,
    plain_bytes: u64,
}

/// A whole encrypted segment, in memory.
pub(crate) struct Encrypted {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    pub(crate) plain_sha256: String,
    pub(crate) plain_bytes: u64,
}

impl Encryptor {
    pub(crate) fn new(key: &DataKey, id: &SegmentId) -> Self {
        let mut this = Self {
            cipher: ChunkCipher::new(key, id),
            pending: Vec::with_capacity(SEALED_BYTES),
            stored: Vec::new(),
            stored_sha: Sha256::new(),
            stored_bytes: 0,
            plain_sha: Sha256::new(),
            plain_bytes: 0,
        };
        this.keep(Bytes::from_static(&HEADER));
        this
    }

    fn keep(&mut self, bytes: Bytes) {
        self.stored_sha.update(&bytes);
        self.stored_bytes += bytes.len() as u64;
        self.stored.push(bytes);
    }

    fn seal_pending(&mut self, last: bool) {
        let capacity = if last { 0 } else { SEALED_BYTES };
        let mut chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(capacity));
        self.cipher.seal(&mut chunk, last);
        if last {
            chunk.shrink_to_fit();
        }
        self.keep(chunk.into());
    }

    /// Seals what is left as the last chunk.
    pub(crate) fn finish(mut self) -> Encrypted {
        self.seal_pending(true);
        Encrypted {
            chunks: self.stored,
            sha256: hex::encode(self.stored_sha.finalize()),
            bytes: self.stored_bytes,
            plain_sha256: hex::encode(self.plain_sha.finalize()),
            plain_bytes: self.plain_bytes,
        }
    }
}

impl io::Write for Encryptor {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut rest = plain;
        while !rest.is_empty() {
            if self.pending.len() == CHUNK_BYTES {
                self.seal_pending(false);
            }
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            rest = later;
        }
        self.plain_sha.update(plain);
        self.plain_bytes += plain.len() as u64;
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
