//! JSON lines: forwards the bytes as they are, line by line checked.
//!
//! Owns the check of a line and the rejection of bad ones. Must never parse a record into memory, and never hold
//! more than one window.

use std::io::Read;

use memchr::{memchr, memrchr};
use serde::de::IgnoredAny;

use crate::{
    error::{FilesError, from_io},
    json_split::ValueScan,
    limits::{CHUNK_BYTES, MAX_JSON_DEPTH, MAX_RAW_BYTES, MAX_RECORD_BYTES},
    progress::Progress,
    window::Window,
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a record cannot be loaded: (reason, what is wrong). `clean`: it is known to be UTF-8.
pub fn judge(record: &[u8], clean: bool) -> Result<(), (&'static str, String)> {
    if !clean && simdutf8::basic::from_utf8(record).is_err() {
        return Err(("invalid-utf8", "the record is not valid UTF-8".into()));
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(record) {
        return Err(("invalid-json", format!("the record is not valid JSON: {error}")));
    }
    if record.first() != Some(&b'{') {
        return Err(("not-an-object", "the record is not a JSON object".into()));
    }
    // Nesting takes two bytes a level.
    if record.len() > 2 * MAX_JSON_DEPTH && ValueScan::depth_of(record) > MAX_JSON_DEPTH {
        return Err(("too-deep", format!("the record is nested deeper than {MAX_JSON_DEPTH} levels")));
    }
    Ok(())
}

/// Reads a file from `progress.position` to its end.
pub fn read(input: impl Read, progress: &mut Progress<'_>) -> Result<(), FilesError> {
    let mut window = Window::new(input, progress.position.offset);
    let mut wanted = CHUNK_BYTES;
    loop {
        let failed = window.fill(wanted).err();
        if progress.position.offset == 0 && window.data().starts_with(BOM) {
            window.consume(BOM.len());
            progress.position.offset = window.offset();
        }
        let data = window.data();
        let cut = if window.finished() { data.len() } else { memrchr(b'\n', data).map_or(0, |at| at + 1) };
        if cut > 0 {
            lines(&data[..cut], progress)?;
            window.consume(cut);
            progress.position.offset = window.offset();
            progress.advance(cut as u64)?;
            wanted = CHUNK_BYTES;
        } else if failed.is_none() && data.len() > MAX_RECORD_BYTES {
            skip_line(&mut window, progress)?;
        } else {
            wanted = (wanted * 2).min(MAX_RECORD_BYTES + 1);
        }
        if let Some(error) = failed {
            progress.checkpoint()?;
            return Err(from_io(error, &progress.task.file, window.offset()));
        }
        if window.done() {
            break;
        }
    }
    if progress.position.line == 0 {
        progress.output.info(&format!("{} is empty", progress.task.file));
    }
    progress.checkpoint()
}

/// Forwards runs of good lines.
fn lines(data: &[u8], progress: &mut Progress<'_>) -> Result<(), FilesError> {
    let clean = simdutf8::basic::from_utf8(data).is_ok();
    let (mut run, mut at) = (0, 0);
    while at < data.len() {
        let end = memchr(b'\n', &data[at..]).map_or(data.len(), |line| at + line + 1);
        progress.position.line += 1;
        let line = data[at..end].trim_ascii();
        if !line.is_empty() {
            progress.position.records += 1;
            if let Err((reason, what)) = judge(line, clean) {
                forward(&data[run..at], progress)?;
                run = end;
                let place = progress.position.line.to_string();
                progress.reject(&place, reason, &what, line)?;
            }
        }
        at = end;
    }
    forward(&data[run..], progress)
}

/// A window may be longer than what is forwarded at once only where one record fills it.
fn forward(mut run: &[u8], progress: &mut Progress<'_>) -> Result<(), FilesError> {
    while !run.trim_ascii().is_empty() {
        let cut = if run.len() <= CHUNK_BYTES { None } else { memrchr(b'\n', &run[..CHUNK_BYTES]) };
        let cut = cut.or_else(|| memchr(b'\n', run)).filter(|_| run.len() > CHUNK_BYTES);
        let (page, rest) = run.split_at(cut.map_or(run.len(), |at| at + 1));
        if !page.trim_ascii().is_empty() {
            progress.output.json(page)?;
        }
        run = rest;
    }
    Ok(())
}

/// Walks over a line that is over the limit, and rejects it by its start.
fn skip_line(window: &mut Window<impl Read>, progress: &mut Progress<'_>) -> Result<(), FilesError> {
    let raw = window.data()[..MAX_RAW_BYTES].to_vec();
    let start = window.offset();
    loop {
        let end = memchr(b'\n', window.data());
        window.consume(end.map_or(window.data().len(), |at| at + 1));
        if end.is_some() {
            break;
        }
        if let Err(error) = window.fill(CHUNK_BYTES) {
            progress.checkpoint()?;
            return Err(from_io(error, &progress.task.file, window.offset()));
        }
        if window.done() {
            break;
        }
    }
    let size = window.offset() - start;
    progress.position.line += 1;
    progress.position.records += 1;
    progress.position.offset = window.offset();
    let place = progress.position.line.to_string();
    let what = format!("the record has {size} bytes, over the limit of {MAX_RECORD_BYTES}");
    progress.reject(&place, "record-too-large", &what, &raw)?;
    progress.advance(size)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_judged() {
        let reason = |text: &[u8]| judge(text, false).err().map(|(reason, _)| reason);
        assert_eq!(reason(br#"{"a":[1,{"b":null}]}"#), None);
        assert_eq!(reason(br#"{"a":1"#), Some("invalid-json"));
        assert_eq!(reason(br#"{"a":1} x"#), Some("invalid-json"));
        assert_eq!(reason(b"[1]"), Some("not-an-object"));
        assert_eq!(reason(b"{\"a\":\"\xff\"}"), Some("invalid-utf8"));
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(reason(nested(MAX_JSON_DEPTH - 1).as_bytes()), None);
        assert_eq!(reason(nested(MAX_JSON_DEPTH).as_bytes()), Some("too-deep"));
    }
}
