//! Packed bodies: gzip and zip.
//!
//! Must never unpack more than a limit, whatever the sizes in the archive say.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

use super::{Decoder, Values};
use crate::{
    error::{RestError, Result},
    limits::{MAX_ARCHIVE_FILES, MAX_UNPACKED_BYTES},
    stream::Env,
    wire::Answer,
};

/// Ends with an error where more comes than is allowed.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(taken as u64).ok_or_else(|| io::Error::other(TooMuch))?;
        Ok(taken)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it unpacks to more than is allowed for one answer")]
struct TooMuch;

/// What reading a body came to.
pub fn broken(error: &io::Error) -> RestError {
    match error.get_ref() {
        Some(inner) if inner.is::<TooMuch>() => RestError::refused(format!("the answer is too large: {inner}")),
        _ => RestError::system(format!("the answer cannot be read: {error}")),
    }
}

/// Unpacks where the first bytes are gzip's, else passes on what is there.
///
/// # Errors
/// Kind system where nothing can be read.
pub fn gunzip(mut input: Box<dyn Read>) -> Result<Box<dyn Read>> {
    let mut head = Vec::new();
    input.by_ref().take(2).read_to_end(&mut head).map_err(|error| broken(&error))?;
    let packed = head == [0x1f, 0x8b];
    let whole = Cursor::new(head).chain(input);
    if packed {
        Ok(Box::new(Bounded::new(MultiGzDecoder::new(whole), MAX_UNPACKED_BYTES)))
    } else {
        Ok(Box::new(whole))
    }
}

/// The values of all files of an archive, file by file.
///
/// # Errors
/// Kind system where it is no archive.
pub fn unzip(answer: &Answer, inner: &Decoder, env: &Env) -> Result<Values> {
    let archive = ZipArchive::new(Cursor::new(answer.body.clone()))
        .map_err(|error| RestError::system(format!("the answer of {} is not a zip archive: {error}", answer.url)))?;
    if archive.len() > MAX_ARCHIVE_FILES {
        let count = archive.len();
        return Err(RestError::refused(format!(
            "the zip archive holds {count} files; {MAX_ARCHIVE_FILES} are allowed"
        )));
    }
    let (inner, env) = (inner.clone(), env.clone());
    Ok(Box::new(Unzip { archive, inner, env, next: 0, left: MAX_UNPACKED_BYTES, current: None }))
}

struct Unzip {
    archive: ZipArchive<Cursor<Bytes>>,
    inner: Decoder,
    env: Env,
    next: usize,
    /// What the files to come may unpack to.
    left: u64,
    current: Option<Values>,
}

impl Unzip {
    /// The values of the next file; `None` for a folder.
    fn open(&mut self) -> Result<Option<Values>> {
        let mut file = self.archive.by_index(self.next).map_err(|error| {
            RestError::system(format!("file {} of the zip archive cannot be read: {error}", self.next))
        })?;
        self.next += 1;
        if file.is_dir() {
            return Ok(None);
        }
        let name = file.name().to_owned();
        let mut text = Vec::new();
        let failed =
            |error: RestError| RestError { message: format!("file {name} of the zip archive: {error}"), ..error };
        Bounded::new(&mut file, self.left).read_to_end(&mut text).map_err(|error| failed(broken(&error)))?;
        self.left -= text.len() as u64;
        self.inner.read(Box::new(Cursor::new(text)), &self.env).map(Some).map_err(failed)
    }
}

impl Iterator for Unzip {
    type Item = Result<super::Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.current.as_mut().and_then(Iterator::next) {
                return Some(next);
            }
            if self.next >= self.archive.len() {
                return None;
            }
            match self.open() {
                Ok(values) => self.current = values,
                Err(error) => {
                    // Nothing behind a broken file is read.
                    (self.next, self.current) = (usize::MAX, None);
                    return Some(Err(error));
                }
            }
        }
    }
}
