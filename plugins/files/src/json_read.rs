//! A JSON document to records, forwarded as raw slices.
//!
//! Owns the walk over the file and the rejection of bad records. Must never parse a record into memory, and never
//! hold more than one window.

use std::io::Read;

use crate::{
    error::{FilesError, from_io},
    json_lines::judge,
    json_split::{Misfit, Splitter, Step},
    limits::{CHUNK_BYTES, MAX_RAW_BYTES, MAX_RECORD_BYTES},
    progress::Progress,
    window::Window,
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// What came of a window.
struct Walked {
    /// Bytes that were dealt with.
    consumed: usize,
    /// Bytes up to the last record: a read may resume there. 0: none ended here.
    resumable: usize,
    ended: bool,
    /// The document is broken behind what was dealt with.
    misfit: Option<Misfit>,
}

/// A walk over a file.
struct Reader<'p, 'a> {
    splitter: Splitter,
    progress: &'p mut Progress<'a>,
    /// Records to be forwarded.
    page: Vec<u8>,
    /// Start and first bytes of a record over the limit that is under way.
    oversized: Option<(u64, Vec<u8>)>,
}

/// Reads a file from `progress.position` to its end.
pub fn read(input: impl Read, path: &[String], progress: &mut Progress<'_>) -> Result<(), FilesError> {
    let start = progress.position.offset;
    let mut window = Window::new(input, start);
    let splitter = match start {
        0 => Splitter::new(path.to_vec()),
        _ => Splitter::resume(path.to_vec(), progress.position.in_array),
    };
    let mut reader = Reader { splitter, progress, page: Vec::new(), oversized: None };
    let mut wanted = CHUNK_BYTES;
    loop {
        let failed = window.fill(wanted).err();
        if window.offset() == 0 && window.data().starts_with(BOM) {
            window.consume(BOM.len());
        }
        let offset = window.offset();
        let walked = reader.walk(window.data(), window.finished(), offset)?;
        if walked.resumable > 0 {
            reader.progress.position.offset = offset + walked.resumable as u64;
            reader.progress.position.in_array = reader.splitter.in_array();
            reader.progress.advance(walked.resumable as u64)?;
        }
        window.consume(walked.consumed);
        if let Some(misfit) = walked.misfit {
            reader.progress.checkpoint()?;
            return Err(explain(&misfit, offset, path, &reader.progress.task.file));
        }
        if let Some(error) = failed {
            reader.progress.checkpoint()?;
            return Err(from_io(error, &reader.progress.task.file, window.offset()));
        }
        if walked.ended {
            break;
        }
        wanted = if walked.consumed > 0 { CHUNK_BYTES } else { (wanted * 2).min(MAX_RECORD_BYTES + 1) };
    }
    if progress.position.records == 0 {
        progress.output.info(&format!("{} has no records", progress.task.file));
    }
    progress.checkpoint()
}

fn explain(misfit: &Misfit, offset: u64, path: &[String], file: &str) -> FilesError {
    if misfit.path {
        let (path, what) = (path.join("."), &misfit.what);
        return FilesError::setting("json.records", format!("is \"{path}\", but {file} does not fit it: {what}"));
    }
    let (byte, what) = (offset + misfit.at as u64, misfit.what.clone());
    if what.starts_with("the document ends") {
        return FilesError::Truncated { file: file.to_owned(), byte, what };
    }
    FilesError::Damaged { file: file.to_owned(), byte, what }
}

impl Reader<'_, '_> {
    /// Hands on the records of a window that starts at byte `offset`. `last`: nothing follows it.
    fn walk(&mut self, data: &[u8], last: bool, offset: u64) -> Result<Walked, FilesError> {
        let clean = simdutf8::basic::from_utf8(data).is_ok();
        let mut walked = Walked { consumed: 0, resumable: 0, ended: false, misfit: None };
        loop {
            let at = walked.consumed;
            match self.splitter.step(&data[at..], last) {
                Ok(Step::Record { start, end }) => {
                    self.record(&data[at + start..at + end], clean, offset + (at + start) as u64)?;
                    walked.consumed = at + end;
                    walked.resumable = walked.consumed;
                }
                Ok(Step::Oversized { start, next }) => {
                    let raw = &data[at + start..at + next];
                    let raw = raw[..raw.len().min(MAX_RAW_BYTES)].to_vec();
                    self.oversized = Some((offset + (at + start) as u64, raw));
                    walked.consumed = at + next;
                }
                Ok(Step::Dropped { end }) => {
                    walked.consumed = at + end;
                    walked.resumable = walked.consumed;
                    self.reject_oversized(offset + walked.consumed as u64)?;
                }
                Ok(Step::More { keep }) => {
                    walked.consumed = at + keep;
                    break;
                }
                Ok(Step::End) => {
                    walked.ended = true;
                    break;
                }
                Err(misfit) => {
                    walked.misfit = Some(Misfit { at: at + misfit.at, ..misfit });
                    break;
                }
            }
        }
        self.flush()?;
        Ok(walked)
    }

    fn record(&mut self, record: &[u8], clean: bool, byte: u64) -> Result<(), FilesError> {
        self.progress.position.records += 1;
        match judge(record, clean) {
            Ok(()) => {
                if self.page.len() + record.len() > CHUNK_BYTES {
                    self.flush()?;
                }
                self.page.extend_from_slice(record);
                self.page.push(b'\n');
                Ok(())
            }
            Err((reason, what)) => {
                let place = format!("record {} at byte {byte}", self.progress.position.records);
                self.progress.reject(&place, reason, &what, record)
            }
        }
    }

    fn reject_oversized(&mut self, end: u64) -> Result<(), FilesError> {
        let Some((start, raw)) = self.oversized.take() else { return Ok(()) };
        self.progress.position.records += 1;
        let place = format!("record {} at byte {start}", self.progress.position.records);
        let what = format!("the record has {} bytes, over the limit of {MAX_RECORD_BYTES}", end - start);
        self.progress.reject(&place, "record-too-large", &what, &raw)
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        if !self.page.is_empty() {
            self.progress.output.json(&self.page)?;
            self.page.clear();
        }
        Ok(())
    }
}
