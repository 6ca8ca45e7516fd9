//! Keeps compiled code on disk between runs of the host.
//!
//! Compiled code is run as it is, so only code that this host made may be loaded: each file carries an HMAC over its
//! code, its component and the engine's settings, and is verified before a byte of it reaches wasmtime. Must never
//! load code from anywhere else.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::{Engine, component::Component};

use crate::{error::PluginError, files};

const MAGIC: &[u8; 16] = b"thimble-code-1\n\0";
const TAG_BYTES: usize = 32;
/// The API version, filled up with zeros.
const VERSION_BYTES: usize = 16;
const HEADER_BYTES: usize = MAGIC.len() + TAG_BYTES + VERSION_BYTES;
/// Digits of the settings' digest in a file name; the whole digest is in the HMAC.
const NAME_DIGITS: usize = 16;

/// The folder of compiled code, for one engine.
pub(crate) struct CodeCache {
    folder: PathBuf,
    key: [u8; 32],
    /// [`crate::engine::code_digest`] of the engine.
    code_digest: String,
    max_code_bytes: usize,
}

impl CodeCache {
    pub(crate) fn new(folder: PathBuf, key: [u8; 32], code_digest: String, max_code_bytes: usize) -> Self {
        Self { folder, key, code_digest, max_code_bytes }
    }

    /// Where the code of the component with this digest lies.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}.code", &self.code_digest[..NAME_DIGITS]))
    }

    /// The stored form of the code of a component that was built for `api_version`.
    pub(crate) fn seal(&self, digest: &str, api_version: &str, code: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + code.len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&[0; TAG_BYTES]);
        let mut version = [0; VERSION_BYTES];
        let length = api_version.len().min(VERSION_BYTES);
        version[..length].copy_from_slice(&api_version.as_bytes()[..length]);
        sealed.extend_from_slice(&version);
        sealed.extend_from_slice(code);
        let tag = self.mac(digest, &sealed[MAGIC.len() + TAG_BYTES..]).finalize().into_bytes();
        sealed[MAGIC.len()..][..TAG_BYTES].copy_from_slice(&tag);
        sealed
    }

    /// Stores `sealed` in one step.
    pub(crate) async fn store(&self, digest: &str, sealed: Vec<u8>) -> Result<(), PluginError> {
        files::write(&self.path(digest), sealed).await
    }

    /// Reads what was stored; `None` where nothing of use is there.
    pub(crate) async fn fetch(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match files::read(&path, self.max_code_bytes + HEADER_BYTES).await {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cached code cannot be read, the component is compiled again");
                None
            }
        }
    }

    /// Removes the code of one component, for every engine.
    pub(crate) async fn remove(&self, digest: &str) -> Result<(), PluginError> {
        files::remove_prefixed(&self.folder, &format!("{digest}-")).await
    }

    /// The API version and the component of code that this host sealed; `None` where the seal is broken.
    #[allow(unsafe_code)]
    pub(crate) fn open(&self, engine: &Engine, digest: &str, sealed: &[u8]) -> Option<(String, Component)> {
        let (magic, rest) = sealed.split_at_checked(MAGIC.len())?;
        let (tag, body) = rest.split_at_checked(TAG_BYTES)?;
        let (version, code) = body.split_at_checked(VERSION_BYTES)?;
        if magic != MAGIC || self.mac(digest, body).verify_slice(tag).is_err() {
            return None;
        }
        let version = std::str::from_utf8(version).ok()?.trim_end_matches('\0').to_owned();
        // SAFETY: the HMAC, whose key never leaves this host, proves that these bytes are what our own compiling
        // child gave for this component with these engine settings, and that nobody changed them since.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some((version, component)),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cached code does not fit this host");
                None
            }
        }
    }

    fn mac(&self, digest: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [MAGIC.as_slice(), self.code_digest.as_bytes(), digest.as_bytes()] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.update(body);
        mac
    }
}

impl std::fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeCache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The folder of compiled code below the folder of plugins.
pub(crate) fn folder(plugins: &Path) -> PathBuf {
    plugins.join("cache")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        engine::{EngineSettings, code_digest},
        limits::Limits,
    };

    fn engine() -> Engine {
        EngineSettings::new(&Limits::default()).engine().unwrap()
    }

    fn cache(key: u8, engine: &Engine) -> CodeCache {
        CodeCache::new("unused".into(), [key; 32], code_digest(engine), 1 << 20)
    }

    #[test]
    fn only_what_was_sealed_is_opened() {
        let engine = engine();
        let cache = cache(1, &engine);
        let code = engine.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        let sealed = cache.seal("digest", "0.1.0", &code);
        assert_eq!(cache.open(&engine, "digest", &sealed).unwrap().0, "0.1.0");
        assert!(cache.open(&engine, "other digest", &sealed).is_none());
        assert!(self::cache(2, &engine).open(&engine, "digest", &sealed).is_none(), "another key");
        assert!(cache.open(&engine, "digest", &code).is_none(), "code without a seal");
        assert!(cache.open(&engine, "digest", b"").is_none());
        for at in [0, 20, 50, 64, sealed.len() / 2, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(cache.open(&engine, "digest", &changed).is_none(), "byte {at}");
        }
    }

    #[test]
    fn other_engine_settings_do_not_open() {
        let engine = engine();
        let code = engine.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        let sealed = cache(1, &engine).seal("digest", "0.1.0", &code);
        let other = CodeCache::new("unused".into(), [1; 32], "0".repeat(64), 1 << 20);
        assert!(other.open(&engine, "digest", &sealed).is_none());
    }
}
