//! One file to the right reader, whole or as a sample.
//!
//! Owns the choice of format and compression. I/O happens behind [`Fetch`] only.

use std::{io::Read, sync::Arc};

use crate::{
    config::{CompressionSetting, StreamConfig},
    csv_read::{self, CsvLayout},
    decompress::{Compression, Decompressed},
    error::{FilesError, from_io, into_io},
    fetch::{Fetch, FileVersion},
    json_lines, json_read,
    location::unescape,
    parquet_read::ParquetFile,
    progress::{Format, Position, Progress},
};

/// Bytes of a file that are looked at to tell its format.
const HEAD_BYTES: usize = 64 * 1024;

/// The last part of a URL's path, in lower case, without a compression's extension.
fn plain_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = unescape(path.rsplit('/').next().unwrap_or_default()).to_ascii_lowercase();
    let plain = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|extension| name.strip_suffix(extension));
    plain.map_or(name.clone(), String::from)
}

/// The format that a name promises.
pub fn format_by_name(url: &str) -> Option<Format> {
    let name = plain_name(url);
    Some(match name.rsplit_once('.')?.1 {
        "csv" | "tsv" | "tab" | "psv" => Format::Csv,
        "json" | "geojson" => Format::Json,
        "jsonl" | "ndjson" | "jsonlines" => Format::Jsonl,
        "parquet" | "pq" => Format::Parquet,
        _ => return None,
    })
}

/// The format of content that starts like this.
pub fn format_by_content(head: &[u8]) -> Format {
    if head.starts_with(b"PAR1") {
        return Format::Parquet;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'[') => Format::Json,
        Some(b'{') => {
            let line = memchr::memchr(b'\n', text).map(|end| &text[..end]);
            let whole = line.is_some_and(|line| json_lines::judge(line.trim_ascii(), false).is_ok());
            if whole { Format::Jsonl } else { Format::Json }
        }
        _ => Format::Csv,
    }
}

/// The delimiter that a name promises: tabs or not.
pub fn tabs_by_name(url: &str) -> bool {
    let name = plain_name(url);
    name.ends_with(".tsv") || name.ends_with(".tab")
}

/// A file that is about to be read.
pub struct Source<'a> {
    pub file: Arc<dyn Fetch>,
    pub version: &'a FileVersion,
    pub config: &'a StreamConfig,
    /// Its name in messages.
    pub name: &'a str,
}

impl Source<'_> {
    /// Finds out format and compression, and with them the start of the file.
    pub fn start(&self) -> Result<Position, FilesError> {
        let format = Format::of(self.config.format).or_else(|| format_by_name(&self.version.url));
        if format == Some(Format::Parquet) {
            return Ok(Position::start(Format::Parquet, Compression::None));
        }
        let compression = match self.config.compression {
            CompressionSetting::None => Some(Compression::None),
            CompressionSetting::Gzip => Some(Compression::Gzip),
            CompressionSetting::Zstd => Some(Compression::Zstd),
            CompressionSetting::Auto => None,
        };
        if let (Some(format), Some(compression)) = (format, compression) {
            return Ok(Position::start(format, compression));
        }
        let compression = match compression {
            Some(compression) => compression,
            None => Compression::of(&self.head(Compression::None, 4)?),
        };
        let format = match format {
            Some(format) => format,
            None => format_by_content(&self.head(compression, HEAD_BYTES)?),
        };
        if format == Format::Parquet && compression != Compression::None {
            let what = "it is a Parquet file inside of another compression; use the compression of Parquet".into();
            return Err(FilesError::Damaged { file: self.name.to_owned(), byte: 0, what });
        }
        Ok(Position::start(format, compression))
    }

    /// The first bytes, uncompressed. What goes wrong behind the first of them shows when the file is read.
    fn head(&self, compression: Compression, bytes: usize) -> Result<Vec<u8>, FilesError> {
        let mut reader = Decompressed::new(self.file.open(0)?, compression, self.name, 0);
        let (mut head, mut filled) = (vec![0; bytes], 0);
        while filled < bytes {
            match reader.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if filled > 0 => break,
                Err(error) => return Err(from_io(error, self.name, 0)),
            }
        }
        head.truncate(filled);
        Ok(head)
    }

    /// The uncompressed bytes from a position on. Plain files are asked for the rest only; compressed ones are
    /// decompressed again up to there.
    fn open(&self, position: &Position) -> Result<Decompressed, FilesError> {
        let plain = position.compression == Compression::None;
        let from = if plain { position.offset } else { 0 };
        let mut reader = Decompressed::new(self.file.open(from)?, position.compression, self.name, from);
        if !plain {
            reader.skip(position.offset)?;
        }
        Ok(reader)
    }

    /// Reads from the progress's position to the end.
    pub fn read(&self, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        if progress.position.format == Format::Parquet {
            return ParquetFile::open(Arc::clone(&self.file), self.name)?.read(progress);
        }
        self.records(self.open(&progress.position)?, progress)
    }

    /// Reads whole records out of the first `bytes` of uncompressed content; then [`FilesError::Enough`]. Not for
    /// Parquet, which says its types itself.
    pub fn sample(&self, progress: &mut Progress<'_>, bytes: u64) -> Result<(), FilesError> {
        self.records(UpTo { reader: self.open(&progress.position)?, left: bytes }, progress)
    }

    fn records(&self, input: impl Read, progress: &mut Progress<'_>) -> Result<(), FilesError> {
        match progress.position.format {
            Format::Csv => {
                let layout = CsvLayout::new(&self.config.csv, tabs_by_name(&self.version.url))?;
                csv_read::read(input, &layout, progress)
            }
            Format::Jsonl => json_lines::read(input, progress),
            _ => json_read::read(input, &self.config.json.path(), progress),
        }
    }
}

/// Fails behind the first bytes, so that a record which is cut off there is not taken for a whole one.
struct UpTo<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for UpTo<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(into_io(FilesError::Enough));
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_content_tell_the_format() {
        assert_eq!(format_by_name("http://h/a.CSV.gz?x=1"), Some(Format::Csv));
        assert_eq!(format_by_name("s3://b/k/a%2Epq"), Some(Format::Parquet));
        assert_eq!(format_by_name("http://h/a.ndjson.zst"), Some(Format::Jsonl));
        assert_eq!(format_by_name("http://h.csv/a"), None);
        assert!(tabs_by_name("http://h/a.tsv.gz"));
        assert_eq!(format_by_content(b"PAR1..."), Format::Parquet);
        assert_eq!(format_by_content(b" \n[{}]"), Format::Json);
        assert_eq!(format_by_content(b"{\"a\":1}\n{\"a\":2}"), Format::Jsonl);
        assert_eq!(format_by_content(b"{\n \"data\": []}"), Format::Json);
        assert_eq!(format_by_content(b"a,b\n1,2"), Format::Csv);
        assert_eq!(format_by_content(b""), Format::Csv);
    }
}
