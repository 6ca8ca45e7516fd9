//! The data folder: its layout, its modes, and the secrets made once in it.
//!
//! Must never hold a secret longer than it takes to hand it over.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use thimble_control::SecretToken;

use crate::exit::{CliError, Exit};

/// Longest secret file that is read.
const MAX_SECRET_BYTES: u64 = 4096;

/// Where things are.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// Makes the folder with mode 0700 where it is absent. A folder of the operator keeps its mode.
    pub fn open(root: &Path) -> Result<Self, CliError> {
        let failed = |error| CliError::io(format_args!("cannot use the data folder {}", root.display()), &error);
        if !root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        }
        Ok(Self { root: std::path::absolute(root).map_err(failed)? })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The control database.
    pub fn database(&self) -> PathBuf {
        self.root.join("thimble.db")
    }

    /// Components and their compiled code.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Where uploaded components wait for their installation; made when absent.
    pub fn uploads(&self) -> Result<PathBuf, CliError> {
        let folder = self.root.join("uploads");
        fs::create_dir_all(&folder)
            .map_err(|error| CliError::io(format_args!("cannot make the folder {}", folder.display()), &error))?;
        Ok(folder)
    }

    /// URL of the embedded staging store.
    pub fn staging_url(&self) -> Result<String, CliError> {
        self.object_store_url("staging")
    }

    /// URL of the embedded lake.
    pub fn lake_url(&self) -> Result<String, CliError> {
        self.object_store_url("lake")
    }

    fn object_store_url(&self, name: &str) -> Result<String, CliError> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder)
            .map_err(|error| CliError::io(format_args!("cannot make the folder {}", folder.display()), &error))?;
        let url = url::Url::from_directory_path(&folder)
            .map_err(|()| CliError::new(Exit::Usage, format!("{} cannot be written as a URL", folder.display())))?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    /// Where the host keys are unless the operator says otherwise.
    pub fn key_file(&self) -> PathBuf {
        self.root.join("host.key")
    }

    /// Where the first token is.
    pub fn token_file(&self, chosen: Option<&Path>) -> PathBuf {
        chosen.map_or_else(|| self.root.join("api-token"), Path::to_owned)
    }

    /// The token in that file, and whether it was made now.
    pub fn api_token(&self, file: &Path) -> Result<(SecretString, bool), CliError> {
        let make = || match SecretToken::generate() {
            Ok(token) => Ok(format!("{}\n", token.expose()).into_bytes()),
            Err(error) => Err(CliError::new(Exit::Failed, format!("the system gives no random bytes: {error}"))),
        };
        let (bytes, made) = read_or_create(file, make, MAX_SECRET_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| CliError::new(Exit::Usage, format!("the token in {} is not text", file.display())))?;
        let token = SecretString::from(text.trim());
        if token.expose_secret().len() < 16 {
            let message = format!("the token in {} has less than 16 characters", file.display());
            return Err(CliError::new(Exit::Usage, message).hint("remove the file, and a new token is made"));
        }
        Ok((token, made))
    }
}

/// The token in a file that must exist.
pub fn token_in(file: &Path) -> Result<SecretString, CliError> {
    let bytes = read_secret(file, MAX_SECRET_BYTES).map_err(|error| {
        CliError::io(format_args!("cannot read the token in {}", file.display()), &error)
            .hint("name another file with --token-file, or set THIMBLE_TOKEN")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::new(Exit::Usage, format!("the token in {} is not text", file.display())))?;
    Ok(SecretString::from(text.trim()))
}

/// Reads a secret file, or makes it with mode 0600. Two processes that start together read the same bytes:
/// the content is written to a file of its own and linked, and the loser of the race reads the winner's.
pub fn read_or_create(
    file: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, CliError>,
    limit: u64,
) -> Result<(Vec<u8>, bool), CliError> {
    let failed = |error: std::io::Error| CliError::io(format_args!("cannot use {}", file.display()), &error);
    match read_secret(file, limit) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => return read.map(|bytes| (bytes, false)).map_err(failed),
    }
    let bytes = make()?;
    let draft = file.with_extension(format!("draft-{}", std::process::id()));
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let linked = opened.write_all(&bytes).and_then(|()| opened.sync_all()).and_then(|()| fs::hard_link(&draft, file));
    fs::remove_file(&draft).map_err(failed)?;
    match linked {
        Ok(()) => Ok((bytes, true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok((read_secret(file, limit).map_err(failed)?, false))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The bytes of a secret file, `limit` of them at most.
pub fn read_secret(file: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let opened = fs::File::open(file)?;
    let mode = opened.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), mode = format_args!("{:o}", mode & 0o777), "others can read this secret");
    }
    let mut bytes = Vec::new();
    opened.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key_file::KeyFile;

    #[test]
    fn folder_and_secrets_are_private_and_made_once() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("a/data");
        let folder = DataFolder::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        KeyFile::open(&folder.key_file(), true).unwrap();
        let key = fs::read(root.join("host.key")).unwrap();
        KeyFile::open(&folder.key_file(), true).unwrap();
        assert_eq!(fs::read(root.join("host.key")).unwrap(), key);
        assert_eq!(fs::metadata(root.join("host.key")).unwrap().permissions().mode() & 0o777, 0o600);
        let file = folder.token_file(None);
        let (first, made) = folder.api_token(&file).unwrap();
        assert!(made && first.expose_secret().starts_with(thimble_control::TOKEN_PREFIX));
        let (second, made) = folder.api_token(&file).unwrap();
        assert!(!made && first.expose_secret() == second.expose_secret());
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn damaged_secrets_are_told() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(temporary.path()).unwrap();
        fs::write(temporary.path().join("host.key"), b"short").unwrap();
        assert!(KeyFile::open(&folder.key_file(), true).err().unwrap().message.contains("host.key cannot be used"));
        fs::write(temporary.path().join("api-token"), b"short\n").unwrap();
        assert!(folder.api_token(&folder.token_file(None)).unwrap_err().message.contains("less than 16"));
    }
}
