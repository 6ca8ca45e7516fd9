//! The segment format: a header, then sealed chunks.
//!
//! ```text
//! "THSEG" 1 0 0 | chunk 0 | chunk 1 | … | last chunk
//! chunk = up to CHUNK_BYTES of ciphertext, then a tag of 16 bytes; only the last may be shorter
//! nonce = 0u32, chunk number as u64, big-endian (the key belongs to this segment alone)
//! aad   = header, connection, epoch, seq, stream, segment number, then chunk number and last flag
//! ```
//! The chunk number and the last flag make a swapped, repeated, missing or cut chunk fail to open.
//! Pure: no I/O here.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce};
use thimble_record::envelope::DataKey;

use crate::{SegmentId, limits::CHUNK_BYTES};

/// First bytes of every segment: magic and format version.
pub(crate) const HEADER: [u8; 8] = *b"THSEG\x01\0\0";
/// Bytes that sealing adds to a chunk.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a stored chunk that is not the last.
pub(crate) const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// A chunk that does not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unopenable;

/// Seals and opens the chunks of one segment, in order.
pub(crate) struct ChunkCipher {
    cipher: ChaCha20Poly1305,
    /// The associated data; its last [`CHUNK_AAD`] bytes are those of the next chunk.
    aad: Vec<u8>,
    next: u64,
}

const CHUNK_AAD: usize = 9;

impl ChunkCipher {
    pub(crate) fn new(key: &DataKey, id: &SegmentId) -> Self {
        let mut aad = segment_aad(id);
        aad.extend([0; CHUNK_AAD]);
        Self { cipher: ChaCha20Poly1305::new(&(*key.expose()).into()), aad, next: 0 }
    }

    fn advance(&mut self, last: bool) -> Nonce {
        let number = self.next.to_be_bytes();
        let at = self.aad.len() - CHUNK_AAD;
        self.aad[at..at + 8].copy_from_slice(&number);
        self.aad[at + 8] = u8::from(last);
        self.next += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number);
        Nonce::from(nonce)
    }

    /// Encrypts the next chunk in place and appends its tag.
    pub(crate) fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) {
        let nonce = self.advance(last);
        self.cipher
            .encrypt_in_place(&nonce, &self.aad, chunk)
            .expect("a chunk is far below the cipher's limit of 256 GiB");
    }

    /// Decrypts the next chunk in place and removes its tag.
    pub(crate) fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), Unopenable> {
        let nonce = self.advance(last);
        self.cipher.decrypt_in_place(&nonce, &self.aad, chunk).map_err(|_| Unopenable)
    }
}

/// What the segment's key and chunks are bound to. Lengths precede texts, so that no two segments share it.
pub(crate) fn segment_aad(id: &SegmentId) -> Vec<u8> {
    let SegmentId { connection, epoch, seq, stream, number } = id;
    let mut aad = HEADER.to_vec();
    for text in [connection.as_str(), stream.as_str()] {
        aad.extend((text.len() as u64).to_be_bytes());
        aad.extend(text.as_bytes());
    }
    aad.extend(epoch.0.to_be_bytes());
    aad.extend(seq.0.to_be_bytes());
    aad.extend(number.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thimble_record::{BatchSeq, ConnectionId, Epoch};

    fn id(connection: &str, epoch: u64, seq: u64, stream: &str, number: u32) -> SegmentId {
        let connection = ConnectionId::new(connection).unwrap();
        SegmentId { connection, epoch: Epoch(epoch), seq: BatchSeq(seq), stream: stream.into(), number }
    }

    /// Seals one chunk for an id and opens it for another, under the same key.
    fn opens(sealed_for: &SegmentId, opened_for: &SegmentId) -> bool {
        let key = DataKey::generate().unwrap();
        let mut chunk = b"rows".to_vec();
        ChunkCipher::new(&key, sealed_for).seal(&mut chunk, true);
        ChunkCipher::new(&key, opened_for).open(&mut chunk, true).is_ok()
    }

    #[test]
    fn a_chunk_is_bound_to_each_part_of_its_id() {
        let own = id("ab", 1, 2, "cd", 3);
        assert!(opens(&own, &own));
        for other in [
            id("ax", 1, 2, "cd", 3),
            id("ab", 9, 2, "cd", 3),
            id("ab", 1, 9, "cd", 3),
            id("ab", 2, 1, "cd", 3),
            id("ab", 1, 2, "cx", 3),
            id("ab", 1, 2, "cd", 9),
            id("a", 1, 2, "bcd", 3),
            id("abc", 1, 2, "d", 3),
        ] {
            assert!(!opens(&own, &other), "{other:?}");
        }
    }

    #[test]
    fn a_chunk_is_bound_to_its_number_and_to_being_the_last() {
        let own = id("c", 1, 1, "s", 0);
        let key = DataKey::generate().unwrap();
        let sealed: Vec<Vec<u8>> = {
            let mut cipher = ChunkCipher::new(&key, &own);
            let seal = |n: u8| {
                let mut chunk = vec![n; 10];
                cipher.seal(&mut chunk, n == 2);
                chunk
            };
            (0..3).map(seal).collect()
        };
        let open = |order: &[(usize, bool)]| {
            let mut cipher = ChunkCipher::new(&key, &own);
            order.iter().all(|&(n, last)| cipher.open(&mut sealed[n].clone(), last).is_ok())
        };
        assert!(open(&[(0, false), (1, false), (2, true)]));
        assert!(!open(&[(1, false)]));
        assert!(!open(&[(0, false), (0, false)]));
        assert!(!open(&[(0, true)]), "a cut segment must not look complete");
        assert!(!open(&[(0, false), (1, false), (2, false)]), "the end must not look like the middle");
    }
}
