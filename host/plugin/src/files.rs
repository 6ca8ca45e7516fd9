//! Files of the plugin folder: whole reads up to a limit, writes in one step.
//!
//! Must never leave half a file under its final name.

use std::{
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::io::AsyncReadExt;

use crate::error::PluginError;

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PluginError {
    let path = path.to_owned();
    move |source| PluginError::Io { doing, path, source }
}

/// Reads a file of at most `max` bytes; `None` where it does not exist.
pub(crate) async fn read(path: &Path, max: usize) -> Result<Option<Vec<u8>>, PluginError> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("reading", path)(error)),
    };
    let length = file.metadata().await.map_err(io("reading", path))?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(usize::MAX).min(max));
    file.take(max as u64 + 1).read_to_end(&mut bytes).await.map_err(io("reading", path))?;
    if bytes.len() > max {
        return Err(PluginError::TooLarge { bytes: bytes.len(), limit: max });
    }
    Ok(Some(bytes))
}

/// Writes a file that only this user can read, over whatever was there.
pub(crate) async fn write(path: &Path, bytes: Vec<u8>) -> Result<(), PluginError> {
    let target = path.to_owned();
    tokio::task::spawn_blocking(move || write_now(&target, &bytes))
        .await
        .map_err(|error| PluginError::runtime("write a file", error))?
}

fn write_now(path: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    use std::io::Write;
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let draft = PathBuf::from(format!("{}.{}-{number}.draft", path.display(), std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        // The draft may not exist; the first error is the one that counts.
        let _ = std::fs::remove_file(&draft);
        io("writing", path)(error)
    })
}

/// Removes a file; whether it was there.
pub(crate) async fn remove(path: &Path) -> Result<bool, PluginError> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("removing", path)(error)),
    }
}

/// Removes the files of `folder` whose names begin with `prefix`.
pub(crate) async fn remove_prefixed(folder: &Path, prefix: &str) -> Result<(), PluginError> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("listing", folder)(error)),
    };
    while let Some(entry) = entries.next_entry().await.map_err(io("listing", folder))? {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            remove(&entry.path()).await?;
        }
    }
    Ok(())
}
