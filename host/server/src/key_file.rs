//! The file that keeps the host keys: read at every change, replaced in one step.
//!
//! Must never hold the keys of a file longer than the file does, and never leave half a file behind.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use thimble_control::KeyRotation;
use thimble_record::{
    ErrorKind, Failure,
    envelope::{HostKey, KeyId, KeyRing, KeySource, MAX_HOST_KEYS},
};

use crate::{
    data_folder::{read_or_create, read_secret},
    exit::{CliError, Exit},
};

/// Largest key file that is read.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// The key file of this host. A change of the file is seen at the next use of a key.
pub struct KeyFile {
    path: PathBuf,
    read: RwLock<(Option<Stamp>, Arc<KeyRing>)>,
}

/// What differs between a file and the one that replaced it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { inode: meta.ino(), bytes: meta.len(), modified: meta.modified().ok() })
    }
}

impl KeyFile {
    /// Reads the file; with `make`, a missing one is made with a new key.
    pub fn open(path: &Path, make: bool) -> Result<Self, CliError> {
        if !make && !path.exists() {
            let message = format!("the host key file {} is not there", path.display());
            let hint = format!(
                "put the keys of the other hosts there, or begin with: thimble key generate > {}",
                path.display()
            );
            return Err(CliError::new(Exit::Usage, message).hint(hint));
        }
        let first = || Ok(KeyRing::from(generate()?).expose_text().into_bytes());
        let stamp = Stamp::of(path);
        let (bytes, _) = read_or_create(path, first, MAX_FILE_BYTES)?;
        let ring = parse(path, &bytes)?;
        Ok(Self { path: path.to_owned(), read: RwLock::new((stamp, Arc::new(ring))) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new key in front of the others.
    pub fn rotate(&self, now: DateTime<Utc>) -> Result<(), CliError> {
        self.change(|ring| {
            ring.rotated(generate()?, now).ok_or_else(|| {
                let message = format!("the key file holds {MAX_HOST_KEYS} keys already");
                CliError::new(Exit::Conflict, message).hint("remove the old ones first: thimble key rotate --retire")
            })
        })
    }

    /// Removes all keys but `current`, which must still be the current one.
    pub fn retire(&self, current: KeyId) -> Result<(), CliError> {
        self.change(|ring| {
            if ring.current().id() != current {
                return Err(CliError::new(Exit::Conflict, "the host key was changed meanwhile; try again"));
            }
            Ok(ring.retired())
        })
    }

    /// Replaces the file under a lock; the new one has the old one's owner and mode, so that who could read it still can.
    fn change(&self, change: impl FnOnce(&KeyRing) -> Result<KeyRing, CliError>) -> Result<(), CliError> {
        let failed = |error: std::io::Error| {
            CliError::io(format_args!("the host key file {} cannot be changed", self.path.display()), &error)
        };
        let beside = |ending: &str| {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            self.path.with_file_name(name)
        };
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside(".lock"));
        let lock = lock.map_err(failed)?;
        lock.lock().map_err(failed)?;
        let old = fs::metadata(&self.path).map_err(failed)?;
        let ring = change(&load(&self.path)?)?;
        let draft = beside(".draft");
        // What an earlier attempt left behind.
        let _ = fs::remove_file(&draft);
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(ring.expose_text().as_bytes())?;
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.map_err(failed)
    }
}

/// The key file as the API changes it.
pub struct FileRotation(pub Arc<KeyFile>);

impl KeyRotation for FileRotation {
    fn rotate(&self, now_ms: i64) -> Result<(), Failure> {
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        self.0.rotate(now).map_err(told)
    }

    fn retire(&self, current: KeyId) -> Result<(), Failure> {
        self.0.retire(current).map_err(told)
    }
}

fn told(error: CliError) -> Failure {
    Failure::new(ErrorKind::Config, error.message)
}

impl KeySource for KeyFile {
    fn ring(&self) -> Arc<KeyRing> {
        let stamp = Stamp::of(&self.path);
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_none() || read.0 == stamp {
            return Arc::clone(&read.1);
        }
        drop(read);
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        match load(&self.path) {
            Ok(ring) => *read = (stamp, Arc::new(ring)),
            Err(error) => {
                // Tried again when the file changes again.
                read.0 = stamp;
                tracing::error!(%error, "the host key file changed and cannot be read; the keys from before stay in use");
            }
        }
        Arc::clone(&read.1)
    }
}

/// A new random key.
pub fn generate() -> Result<HostKey, CliError> {
    HostKey::generate().map_err(|error| CliError::new(Exit::Failed, error.to_string()))
}

fn load(path: &Path) -> Result<KeyRing, CliError> {
    let bytes = read_secret(path, MAX_FILE_BYTES)
        .map_err(|error| CliError::io(format_args!("cannot read the host key file {}", path.display()), &error))?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<KeyRing, CliError> {
    let damaged = |what: String| {
        let message = format!("the host key in {} cannot be used: {what}", path.display());
        CliError::new(Exit::Usage, message).hint("restore the file from a backup: what it encrypted is lost without it")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
    KeyRing::parse(text).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::envelope::{DataKey, Keys};

    use super::*;

    fn at() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    #[test]
    fn a_rotation_by_another_process_is_seen_at_the_next_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        let serving = Keys::new(Arc::new(KeyFile::open(&path, true).unwrap()));
        let data = DataKey::generate().unwrap();
        let wrapped = serving.wrap(&data, b"a").unwrap();
        let before = serving.ring().current().id();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let other = KeyFile::open(&path, false).unwrap();
        other.rotate(at()).unwrap();
        assert_ne!(serving.ring().current().id(), before);
        assert_eq!(serving.unwrap_key(&wrapped, b"a").unwrap().expose(), data.expose());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640, "the mode of the operator stays");
        assert!(other.retire(before).is_err(), "not the current key");
        other.retire(serving.ring().current().id()).unwrap();
        assert!(serving.unwrap_key(&wrapped, b"a").is_err());
        for _ in 1..MAX_HOST_KEYS {
            other.rotate(at()).unwrap();
        }
        assert!(other.rotate(at()).unwrap_err().message.contains("8 keys already"));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_file_that_became_unreadable_leaves_the_keys_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        let file = KeyFile::open(&path, true).unwrap();
        let id = file.ring().current().id();
        fs::write(&path, "damaged").unwrap();
        assert_eq!(file.ring().current().id(), id);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.ring().current().id(), id);
        assert!(KeyFile::open(&path, false).err().unwrap().message.contains("is not there"));
    }
}
