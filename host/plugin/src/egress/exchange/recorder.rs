//! Writes exchanges to a file, one JSON object a line.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{Exchange, Watcher, replay::Head};

/// A recording in the making. Only this user can read the file.
pub struct Recorder {
    file: Mutex<Written>,
}

struct Written {
    /// Absent once the recording is full or broken.
    file: Option<File>,
    /// Bytes that may still be written.
    left: u64,
}

impl Recorder {
    /// Makes the file, or empties it; it gets at most `most` bytes
    /// ([`EgressLimits::recording_bytes`](super::super::EgressLimits::recording_bytes)).
    pub fn create(path: &Path, most: u64) -> io::Result<Self> {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut written = Written { file: Some(file), left: most };
        written.line(&Head::default())?;
        Ok(Self { file: Mutex::new(written) })
    }
}

impl Written {
    fn line(&mut self, line: &impl serde::Serialize) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("it has reached the limit recording_bytes")),
        }
        file.write_all(&bytes)
    }
}

impl Watcher for Recorder {
    fn exchange(&self, exchange: &Exchange) {
        let mut written = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = written.line(exchange) {
            tracing::warn!(%error, "the recording ends here, and what follows is not in it");
            written.file = None;
        }
    }

    fn wants_plain_answers(&self) -> bool {
        true
    }
}
