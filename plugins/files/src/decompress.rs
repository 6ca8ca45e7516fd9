//! Bytes of a file to uncompressed bytes, and what to say when they end too early.
//!
//! Owns gzip (of several members) and zstd (of several frames) over any reader. Must never hold more than a
//! decoder's window, and never pass an early end off as the end.

use std::{
    cell::{Cell, RefCell},
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{FilesError, from_io, into_io},
    limits::MAX_ZSTD_WINDOW,
};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Looks at the first bytes of a file.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Counts what a reader gave and keeps its first error, which decoders would bury.
struct Source {
    inner: Box<dyn Read>,
    seen: Rc<Seen>,
}

#[derive(Default)]
struct Seen {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    error: RefCell<Option<io::Error>>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.seen.bytes.set(self.seen.bytes.get() + count as u64);
                self.seen.ended.set(count == 0 && !buffer.is_empty());
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.seen.error.borrow_mut().get_or_insert(error);
                Err(io::Error::other("the source failed"))
            }
        }
    }
}

enum Decoder {
    Plain(Source),
    Gzip(Gzip),
    Zstd(Box<Zstd>),
}

/// The uncompressed bytes of a file. Its errors carry a [`FilesError`].
pub struct Decompressed {
    decoder: Decoder,
    seen: Rc<Seen>,
    file: String,
    start: u64,
    failed: bool,
}

impl Decompressed {
    /// `reader` starts at byte `start` of the file (0 where it is compressed); `file` is its name in messages.
    pub fn new(reader: Box<dyn Read>, compression: Compression, file: &str, start: u64) -> Self {
        let seen = Rc::new(Seen::default());
        let source = Source { inner: reader, seen: Rc::clone(&seen) };
        let decoder = match compression {
            Compression::None => Decoder::Plain(source),
            Compression::Gzip => Decoder::Gzip(Gzip::Between(buffered(source))),
            Compression::Zstd => Decoder::Zstd(Box::new(Zstd::new(buffered(source)))),
        };
        Self { decoder, seen, file: file.to_owned(), start, failed: false }
    }

    /// Throws `count` uncompressed bytes away, to resume inside a compressed file.
    pub fn skip(&mut self, count: u64) -> Result<(), FilesError> {
        let skipped = io::copy(&mut self.by_ref().take(count), &mut io::sink());
        match skipped.map_err(|error| from_io(error, &self.file, self.byte()))? {
            skipped if skipped == count => Ok(()),
            skipped => Err(FilesError::Changed {
                file: self.file.clone(),
                what: format!("it has {skipped} bytes uncompressed, and {count} were read before"),
            }),
        }
    }

    fn byte(&self) -> u64 {
        self.start + self.seen.bytes.get()
    }

    /// What an error of the decoder means.
    fn explain(&self, error: &io::Error) -> FilesError {
        let (file, byte) = (self.file.clone(), self.byte());
        if let Some(source) = self.seen.error.borrow_mut().take() {
            return from_io(source, &file, byte);
        }
        let format = match self.decoder {
            Decoder::Plain(_) => return FilesError::Broken { file, byte, what: error.to_string() },
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        };
        if self.seen.ended.get() {
            return FilesError::Truncated { file, byte, what: format!("the {format} data has no end") };
        }
        FilesError::Damaged { file, byte, what: format!("the {format} data cannot be read: {error}") }
    }
}

fn buffered(source: Source) -> BufReader<Source> {
    BufReader::with_capacity(128 * 1024, source)
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            // Decoders may take up again behind an error; a caller must not take that for the end.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let result = match &mut self.decoder {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(gzip) => gzip.read(buffer),
            Decoder::Zstd(zstd) => zstd.read(buffer),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            result => result.map_err(|error| {
                self.failed = true;
                into_io(self.explain(&error))
            }),
        }
    }
}

/// Members of a gzip file one after the other. Zeros after a member are padding, as for `gzip` itself.
enum Gzip {
    Between(BufReader<Source>),
    Inside(Box<GzDecoder<BufReader<Source>>>),
    Moving,
}

impl Read for Gzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Moving) {
                Self::Between(mut source) => {
                    skip_zeros(&mut source)?;
                    if source.fill_buf()?.is_empty() {
                        *self = Self::Between(source);
                        return Ok(0);
                    }
                    *self = Self::Inside(Box::new(GzDecoder::new(source)));
                }
                Self::Inside(mut member) => {
                    let count = member.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        *self = Self::Inside(member);
                        return Ok(count);
                    }
                    *self = Self::Between(member.into_inner());
                }
                // An error was returned before; the file stays failed.
                Self::Moving => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

fn skip_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let available = source.fill_buf()?;
        let zeros = available.iter().take_while(|byte| **byte == 0).count();
        let more = zeros > 0 && zeros == available.len();
        source.consume(zeros);
        if !more {
            return Ok(());
        }
    }
}

/// Frames of a zstd file one after the other; skippable frames are skipped.
struct Zstd {
    source: BufReader<Source>,
    decoder: FrameDecoder,
    inside: bool,
    /// The block that is decoded next, whole: the decoder must not see half of one.
    block: Vec<u8>,
    /// Why there are no more blocks; said once what was decoded before is out.
    failed: Option<io::Error>,
}

/// An empty last block and room for a checksum. The decoder keeps a window of decoded bytes back until a frame
/// ends; where a file is cut off, this makes it hand them out.
const END_OF_FRAME: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

impl Zstd {
    fn new(source: BufReader<Source>) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_ZSTD_WINDOW);
        Self { source, decoder, inside: false, block: Vec::new(), failed: None }
    }

    /// Starts the next frame; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    /// Reads the next block whole. Format: 3 bytes little-endian: last?, type (2 bits), size (21 bits).
    fn read_block(&mut self) -> io::Result<()> {
        let mut header = [0; 3];
        self.source.read_exact(&mut header)?;
        let bits = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let repeated = (bits >> 1) & 3 == 1;
        let size = if repeated { 1 } else { u64::from(bits >> 3) };
        self.block.clear();
        self.block.extend_from_slice(&header);
        let read = self.source.by_ref().take(size).read_to_end(&mut self.block)?;
        if read as u64 == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn decode_block(&mut self) -> io::Result<()> {
        if let Err(error) = self.read_block() {
            self.failed = Some(error);
            self.block = END_OF_FRAME.to_vec();
        }
        // The source follows for the checksum after the last block.
        let input = self.block.as_slice().chain(&mut self.source);
        match self.decoder.decode_blocks(input, BlockDecodingStrategy::UptoBlocks(1)) {
            Ok(_) => Ok(()),
            Err(error) if self.decoder.is_finished() => {
                self.failed.get_or_insert_with(|| io::Error::other(error));
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn checksum(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(written), Some(computed)) if written != computed => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a frame does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decode_block()?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.checksum()?;
            self.inside = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Cursor, Write};

    use super::*;
    use crate::error::Kind;

    fn text() -> Vec<u8> {
        (0..60_000).map(|n| format!("line {n} {}\n", n * 7919 % 1013)).collect::<String>().into_bytes()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open(bytes: Vec<u8>, compression: Compression) -> Decompressed {
        Decompressed::new(Box::new(Cursor::new(bytes)), compression, "f", 0)
    }

    fn read(bytes: Vec<u8>, compression: Compression) -> (Vec<u8>, Option<FilesError>) {
        let mut out = Vec::new();
        let mut reader = open(bytes, compression);
        let mut buffer = [0; 7_777];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return (out, None),
                Ok(count) => out.extend_from_slice(&buffer[..count]),
                Err(error) => return (out, Some(from_io(error, "f", 0))),
            }
        }
    }

    fn packed(bytes: &[u8], compression: Compression) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => gzip(bytes),
            Compression::Zstd => zstd::encode_all(bytes, 3).unwrap(),
        }
    }

    const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    #[test]
    fn several_members_and_frames_are_one_file() {
        let text = text();
        let (a, b) = text.split_at(123_456);
        for compression in BOTH {
            let mut file = packed(a, compression);
            assert_eq!(Compression::of(&file), compression);
            if compression == Compression::Zstd {
                file.extend_from_slice(&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
            }
            file.extend(packed(b, compression));
            if compression == Compression::Gzip {
                file.extend([0; 512]);
            }
            let (out, error) = read(file, compression);
            assert!(error.is_none(), "{error:?}");
            assert!(out == text);
        }
    }

    #[test]
    fn a_cut_file_gives_what_it_has_and_says_where_it_ended() {
        let text = text();
        for compression in BOTH {
            let whole = packed(&text, compression);
            for cut in [5, whole.len() / 2, whole.len() - 3] {
                let (out, error) = read(whole[..cut].to_vec(), compression);
                assert!(text.starts_with(&out));
                let error = error.expect("a cut must not pass for the end");
                assert!(matches!(error, FilesError::Truncated { byte, .. } if byte == cut as u64), "{cut}: {error:?}");
                assert_eq!(error.kind(), Kind::Transient);
            }
            assert!(read(whole[..whole.len() / 2].to_vec(), compression).0.len() > text.len() / 4);
        }
    }

    #[test]
    fn damage_is_told_from_a_cut() {
        for compression in BOTH {
            let mut file = packed(&text(), compression);
            let middle = file.len() / 2;
            file[middle..middle + 40].fill(0xff);
            file.extend(packed(&text(), compression).repeat(8));
            let (_, error) = read(file, compression);
            assert!(matches!(error, Some(FilesError::Damaged { .. })), "{error:?}");
        }
        let (_, error) = read([gzip(b"a"), b"rubbish".repeat(100)].concat(), Compression::Gzip);
        assert!(matches!(error, Some(FilesError::Damaged { .. } | FilesError::Truncated { .. })), "{error:?}");
    }

    #[test]
    fn empty_files_are_empty() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            assert!(read(Vec::new(), compression).1.is_none());
            let (out, error) = read(packed(b"", compression), compression);
            assert!(out.is_empty() && error.is_none());
        }
    }

    #[test]
    fn skips_to_where_reading_stopped() {
        let text = text();
        for compression in BOTH {
            let mut reader = open(packed(&text, compression), compression);
            reader.skip(100_001).unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == text[100_001..]);
            let error = open(packed(b"short", compression), compression).skip(10).unwrap_err();
            assert!(matches!(error, FilesError::Changed { .. }));
        }
    }

    #[test]
    fn a_source_error_comes_through_the_decoders() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(into_io(FilesError::Host { kind: Kind::Transient, message: "503".into(), retry_after_ms: Some(7) }))
            }
        }
        for compression in BOTH {
            let whole = packed(&text(), compression);
            let half = whole[..whole.len() / 2].to_vec();
            let mut reader = Decompressed::new(Box::new(Cursor::new(half).chain(Failing)), compression, "f", 0);
            let error = from_io(io::copy(&mut reader, &mut io::sink()).unwrap_err(), "f", 0);
            assert_eq!(error.retry_after_ms(), Some(7), "{error:?}");
        }
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        // A frame header that asks for a window of 128 MiB: descriptor 0, window descriptor 17 << 3.
        let file = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0];
        let (_, error) = read(file, Compression::Zstd);
        assert!(error.is_some());
    }
}
