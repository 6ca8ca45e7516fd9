//! Encryption at rest: the host key, the data keys it wraps, and small values sealed under it.
//!
//! Owns the key types and their formats. Must never print, log or serialize a key, and never use
//! the host key itself as a cipher key: each purpose has its own derived key.
//!
//! [`Keys`] is what the rest of the host holds: a ring of host keys of which the first wraps and all unwrap, so that
//! the host key can be changed while everything runs. [`seal_fields`] and [`open_fields`] keep the secret settings of
//! one row of the control database.

mod fields;
mod ring;

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroize;

pub use fields::{
    MAX_SEALED_FIELDS, MAX_SEALED_ROW_BYTES, SecretFields, SecretRow, open_fields, rewrap_fields, seal_fields,
    sealed_under,
};
pub use ring::{KeyId, KeyRing, KeySource, Keys, MAX_HOST_KEYS, Purpose};

/// Length of every key, in bytes.
pub const KEY_BYTES: usize = 32;
/// Largest value that [`HostKey::seal`] takes, in bytes. Larger data belongs into segments.
pub const MAX_SEALED_BYTES: usize = 1024 * 1024;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// First byte of every sealed value, so that the format can change.
const FORMAT: u8 = 1;
/// First byte of a wrapped key that says under which host key it is; format 1 did not.
const WRAPPED_FORMAT: u8 = 2;
const OVERHEAD: usize = 1 + NONCE_BYTES + TAG_BYTES;

const ID_PURPOSE: &str = "name host keys";
const WRAP_PURPOSE: &str = "wrap data keys";
const SEAL_PURPOSE: &str = "seal small values";

/// Why a key or a sealed value cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// The key file or setting holds something else than a key.
    #[error("a host key must be 64 hexadecimal digits, or 32 bytes: this one is {0}")]
    InvalidKey(String),
    /// Another key, another place, or changed bytes.
    #[error("the encrypted value cannot be opened: it was changed, moved, or written under another host key")]
    Unopenable,
    /// The key that is needed was removed, or this host never had it.
    #[error("the encrypted value was written under the host key {0}, which is not in this host's key file")]
    UnknownKey(KeyId),
    /// A row keeps its secrets in pieces; there are too many, or they are too long together.
    #[error(
        "the secrets of {0} are more than are kept for one: at most {MAX_SEALED_FIELDS} settings and {MAX_SEALED_ROW_BYTES} bytes"
    )]
    TooMany(String),
    /// Only small values are sealed in one piece.
    #[error("a value of {0} bytes is too large to be sealed at once: the limit is {MAX_SEALED_BYTES} bytes")]
    TooLarge(usize),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes, so nothing can be encrypted: {0}")]
    NoRandomness(String),
}

/// The key of one installation; everything at rest hangs on it. Zeroed when dropped.
///
/// It has no `Debug`, `Display` or `Serialize`, on purpose.
#[derive(Clone)]
pub struct HostKey([u8; KEY_BYTES]);

/// The key of one segment or one row of secrets; travels only wrapped. Zeroed when dropped.
#[derive(Clone)]
pub struct DataKey([u8; KEY_BYTES]);

impl Drop for HostKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl HostKey {
    /// A new random key.
    pub fn generate() -> Result<Self, EnvelopeError> {
        random().map(Self)
    }

    /// Takes exactly 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let key = bytes.try_into().map_err(|_| EnvelopeError::InvalidKey(format!("{} bytes long", bytes.len())))?;
        Ok(Self(key))
    }

    /// Reads the text form: 64 hexadecimal digits; white space around it is ignored.
    pub fn from_hex(text: &str) -> Result<Self, EnvelopeError> {
        let text = text.trim();
        let mut key = [0; KEY_BYTES];
        match hex::decode_to_slice(text, &mut key) {
            Ok(()) => Ok(Self(key)),
            Err(hex::FromHexError::InvalidHexCharacter { index, .. }) => {
                Err(EnvelopeError::InvalidKey(format!("not hexadecimal at character {}", index + 1)))
            }
            Err(_) => Err(EnvelopeError::InvalidKey(format!("{} characters long", text.chars().count()))),
        }
    }

    /// The text form, for the key file only.
    pub fn expose_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// A key for one purpose: HMAC-SHA256 of the purpose under the host key. Different purposes give
    /// independent keys; the same purpose always gives the same key.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"thimble key v1\0");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Names the key without telling anything of it.
    pub fn id(&self) -> KeyId {
        let mut digest = self.derive(ID_PURPOSE);
        let id = KeyId::of(&digest);
        digest.zeroize();
        id
    }

    /// Encrypts a data key, bound to `aad`. The key's own id stands in front.
    pub fn wrap(&self, key: &DataKey, aad: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let body = self.encrypt(WRAP_PURPOSE, aad, &key.0)?;
        Ok([&[WRAPPED_FORMAT][..], &self.id().0, &body[1..]].concat())
    }

    /// Opens what [`wrap`](Self::wrap) made with the same `aad`, or what an earlier version made without an id.
    pub fn unwrap_key(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        let body = match wrapped_under(wrapped) {
            Some(id) if id != self.id() => return Err(EnvelopeError::UnknownKey(id)),
            Some(_) => [&[FORMAT][..], &wrapped[1 + KeyId::BYTES..]].concat(),
            None => wrapped.to_vec(),
        };
        let mut plain = self.decrypt(WRAP_PURPOSE, aad, &body)?;
        let key = <[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| EnvelopeError::Unopenable);
        plain.zeroize();
        key.map(DataKey)
    }

    /// Encrypts a small value such as a secret, bound to `aad`: the name of the place where it is
    /// stored, so that it cannot be moved to another.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        if plaintext.len() > MAX_SEALED_BYTES {
            return Err(EnvelopeError::TooLarge(plaintext.len()));
        }
        self.encrypt(SEAL_PURPOSE, aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) made with the same `aad`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        if sealed.len() > MAX_SEALED_BYTES + OVERHEAD {
            return Err(EnvelopeError::TooLarge(sealed.len()));
        }
        self.decrypt(SEAL_PURPOSE, aad, sealed)
    }

    fn cipher(&self, purpose: &str) -> ChaCha20Poly1305 {
        let mut key = self.derive(purpose);
        let cipher = ChaCha20Poly1305::new(&key.into());
        key.zeroize();
        cipher
    }

    /// Format byte, random nonce, ciphertext, tag. Random 96-bit nonces are safe for the few (below 2^32)
    /// small values that one host key ever protects.
    fn encrypt(&self, purpose: &str, aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        encrypt(&self.cipher(purpose), aad, msg)
    }

    fn decrypt(&self, purpose: &str, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        decrypt(&self.cipher(purpose), aad, sealed)
    }
}

/// The id of the host key that a data key is wrapped under; `None` where the form is older than ids.
pub fn wrapped_under(wrapped: &[u8]) -> Option<KeyId> {
    let (&format, rest) = wrapped.split_first()?;
    let id = rest.first_chunk::<{ KeyId::BYTES }>()?;
    (format == WRAPPED_FORMAT).then_some(KeyId(*id))
}

fn encrypt(cipher: &ChaCha20Poly1305, aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let nonce: [u8; NONCE_BYTES] = random()?;
    let body = cipher
        .encrypt(&Nonce::from(nonce), Payload { msg, aad })
        .expect("the value is far below the cipher's limit of 256 GiB");
    Ok([&[FORMAT][..], &nonce, &body].concat())
}

fn decrypt(cipher: &ChaCha20Poly1305, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let (&format, rest) = sealed.split_first().ok_or(EnvelopeError::Unopenable)?;
    let (nonce, msg) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(EnvelopeError::Unopenable)?;
    if format != FORMAT {
        return Err(EnvelopeError::Unopenable);
    }
    cipher.decrypt(&Nonce::from(*nonce), Payload { msg, aad }).map_err(|_| EnvelopeError::Unopenable)
}

impl DataKey {
    /// A new random key, for one segment or one row.
    pub fn generate() -> Result<Self, EnvelopeError> {
        random().map(Self)
    }

    /// Encrypts a small value, bound to `aad`. A key that seals values must not encrypt a segment.
    fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        if plaintext.len() > MAX_SEALED_BYTES {
            return Err(EnvelopeError::TooLarge(plaintext.len()));
        }
        encrypt(&ChaCha20Poly1305::new(&self.0.into()), aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) made with the same `aad`.
    fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        if sealed.len() > MAX_SEALED_BYTES + OVERHEAD {
            return Err(EnvelopeError::TooLarge(sealed.len()));
        }
        decrypt(&ChaCha20Poly1305::new(&self.0.into()), aad, sealed)
    }

    /// The key's bytes, for the cipher only.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

fn random<const N: usize>() -> Result<[u8; N], EnvelopeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| EnvelopeError::NoRandomness(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(byte: u8) -> HostKey {
        HostKey::from_bytes(&[byte; KEY_BYTES]).unwrap()
    }

    fn unopenable<T>(result: Result<T, EnvelopeError>) -> bool {
        matches!(result, Err(EnvelopeError::Unopenable))
    }

    #[test]
    fn sealed_value_opens_only_at_its_place_and_under_its_key() {
        let sealed = key(1).seal(b"secret/a", b"hunter2").unwrap();
        assert_eq!(key(1).open(b"secret/a", &sealed).unwrap(), b"hunter2");
        assert!(unopenable(key(1).open(b"secret/b", &sealed)));
        assert!(unopenable(key(2).open(b"secret/a", &sealed)));
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let sealed = key(1).seal(b"place", b"value").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(unopenable(key(1).open(b"place", &changed)), "flipped byte {at}");
            assert!(unopenable(key(1).open(b"place", &sealed[..at])), "cut at {at}");
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        assert_ne!(key(1).seal(b"", b"x").unwrap(), key(1).seal(b"", b"x").unwrap());
    }

    #[test]
    fn wrapped_key_comes_back_and_is_bound_to_its_segment() {
        let data = DataKey::generate().unwrap();
        let wrapped = key(1).wrap(&data, b"segment 1").unwrap();
        assert_eq!(key(1).unwrap_key(&wrapped, b"segment 1").unwrap().expose(), data.expose());
        assert!(unopenable(key(1).unwrap_key(&wrapped, b"segment 2")));
        assert!(unopenable(key(1).open(b"segment 1", &wrapped)), "a wrapped key must not open as a value");
        assert_eq!(wrapped_under(&wrapped), Some(key(1).id()));
        assert_eq!(key(2).unwrap_key(&wrapped, b"segment 1").err(), Some(EnvelopeError::UnknownKey(key(1).id())));
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(key(1).unwrap_key(&changed, b"segment 1").is_err(), "flipped byte {at}");
            assert!(key(1).unwrap_key(&wrapped[..at], b"segment 1").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn keys_that_were_wrapped_before_there_were_ids_still_open() {
        let data = DataKey::generate().unwrap();
        let old = key(1).encrypt(WRAP_PURPOSE, b"segment 1", &data.0).unwrap();
        assert_eq!(wrapped_under(&old), None);
        assert_eq!(key(1).unwrap_key(&old, b"segment 1").unwrap().expose(), data.expose());
        assert!(unopenable(key(2).unwrap_key(&old, b"segment 1")));
    }

    #[test]
    fn sealing_has_a_size_limit() {
        assert!(key(1).seal(b"", &vec![0; MAX_SEALED_BYTES]).is_ok());
        let over = vec![0; MAX_SEALED_BYTES + 1];
        assert_eq!(key(1).seal(b"", &over), Err(EnvelopeError::TooLarge(MAX_SEALED_BYTES + 1)));
        let sealed = vec![FORMAT; MAX_SEALED_BYTES + OVERHEAD + 1];
        assert!(matches!(key(1).open(b"", &sealed), Err(EnvelopeError::TooLarge(_))));
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_by_host_key() {
        assert_eq!(key(1).derive("cache"), key(1).derive("cache"));
        assert_ne!(key(1).derive("cache"), key(1).derive("cache2"));
        assert_ne!(key(1).derive("cache"), key(2).derive("cache"));
        // Pinned, because data on disk hangs on it.
        let pinned = "c65f9f4e19850eaabf4f35a5839dfe7bd415f9c045fe68611f05e9009b8e500f";
        assert_eq!(hex::encode(key(1).derive("cache")), pinned);
    }

    #[test]
    fn key_text_round_trips_and_bad_text_is_named() {
        let made = HostKey::generate().unwrap();
        let read = HostKey::from_hex(&format!("{}\n", made.expose_hex())).unwrap();
        assert_eq!(made.expose_hex(), read.expose_hex());
        let message = |text: &str| HostKey::from_hex(text).err().unwrap().to_string();
        assert!(message("abcd").contains("4 characters long"));
        assert!(message(&"zz".repeat(32)).contains("not hexadecimal at character 1"));
        assert!(HostKey::from_bytes(&[0; 31]).is_err());
    }
}
