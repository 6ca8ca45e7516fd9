//! Byte ranges of a Parquet file, and its pages.
//!
//! Owns the read-ahead over range requests and the decompression of zstd pages. Must never hold more of a file than
//! the read-ahead of its columns and one page of each.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::RowGroups,
    basic::Compression,
    column::page::{Page, PageIterator, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        reader::{ChunkReader, Length},
        serialized_reader::SerializedPageReader,
    },
};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::{
    error::FilesError,
    fetch::Fetch,
    limits::{MAX_PARQUET_PAGE, PARQUET_COLUMN_READ_AHEAD, PARQUET_READ_AHEAD},
};

/// A part of a file, read in pieces of `ahead` bytes. Clones share the piece that was read last.
#[derive(Clone)]
pub struct Ranges {
    file: Arc<dyn Fetch>,
    size: u64,
    /// Nothing is read ahead beyond this byte.
    end: u64,
    ahead: usize,
    held: Arc<Mutex<(u64, Bytes)>>,
    /// The first failed request of all columns; the Parquet reader would bury it.
    failed: Arc<Mutex<Option<FilesError>>>,
}

impl Ranges {
    /// The whole file; reads ahead only from near its end, where the footer is.
    pub fn whole(file: Arc<dyn Fetch>, size: u64) -> Self {
        Self { file, size, end: size, ahead: 0, held: Arc::default(), failed: Arc::default() }
    }

    /// Bytes `start..end`, as one of `columns` that are read side by side.
    pub fn column(&self, end: u64, columns: usize) -> Self {
        let (least, most) = PARQUET_COLUMN_READ_AHEAD;
        let ahead = (PARQUET_READ_AHEAD / columns.max(1)).clamp(least, most);
        Self { end: end.min(self.size), ahead, held: Arc::default(), ..self.clone() }
    }

    /// Reads `length` bytes at `start` and keeps them.
    pub fn prefetch(&self, start: u64, length: usize) -> std::result::Result<Bytes, FilesError> {
        let bytes = Bytes::from(self.file.bytes(start, length)?);
        *locked(&self.held) = (start, bytes.clone());
        Ok(bytes)
    }

    /// The request that failed, where an error of the Parquet reader comes from one.
    pub fn take_failed(&self) -> Option<FilesError> {
        locked(&self.failed).take()
    }

    fn held(&self, start: u64, length: usize) -> Option<Bytes> {
        let held = locked(&self.held);
        let from = usize::try_from(start.checked_sub(held.0)?).ok()?;
        let to = from.checked_add(length)?;
        (to <= held.1.len()).then(|| held.1.slice(from..to))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Length for Ranges {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Ranges {
    type T = RangeRead;

    fn get_read(&self, start: u64) -> Result<RangeRead> {
        Ok(RangeRead { ranges: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if length > MAX_PARQUET_PAGE || start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!("a page of {length} bytes at byte {start} cannot be")));
        }
        if let Some(bytes) = self.held(start, length) {
            return Ok(bytes);
        }
        let until = self.end.saturating_sub(start).min(self.ahead as u64) as usize;
        match self.prefetch(start, length.max(until)) {
            Ok(bytes) => Ok(bytes.slice(..length)),
            Err(error) => {
                let shown = ParquetError::General(error.to_string());
                locked(&self.failed).get_or_insert(error);
                Err(shown)
            }
        }
    }
}

/// Reads on from a position; for page headers, which do not say how long they are.
pub struct RangeRead {
    ranges: Ranges,
    at: u64,
}

impl Read for RangeRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.ranges.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left).min(64 * 1024);
        if count == 0 {
            return Ok(0);
        }
        let bytes = self.ranges.get_bytes(self.at, count).map_err(io::Error::other)?;
        buffer[..count].copy_from_slice(&bytes);
        self.at += count as u64;
        Ok(count)
    }
}

/// One row group, for the Arrow reader.
pub struct RowGroup {
    pub ranges: Ranges,
    pub metadata: Arc<ParquetMetaData>,
    pub index: usize,
    /// How many columns are read.
    pub columns: usize,
}

impl RowGroup {
    fn group(&self) -> &RowGroupMetaData {
        self.metadata.row_group(self.index)
    }
}

impl RowGroups for RowGroup {
    fn num_rows(&self) -> usize {
        usize::try_from(self.group().num_rows()).unwrap_or_default()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let meta = self.group().column(column);
        let (start, length) = meta.byte_range();
        let end = start.checked_add(length).filter(|end| *end <= self.ranges.size);
        let end =
            end.ok_or_else(|| ParquetError::General(format!("column {column} lies beyond the end of the file")))?;
        let reader = Arc::new(self.ranges.column(end, self.columns));
        let zstd = matches!(meta.compression(), Compression::ZSTD(_));
        let plain = meta.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let meta = if zstd { &plain } else { meta };
        let pages = SerializedPageReader::new(reader, meta, self.num_rows(), None)?;
        let pages: Box<dyn PageReader> = if zstd { Box::new(ZstdPages { pages }) } else { Box::new(pages) };
        Ok(Box::new(OneChunk(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.group()))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of the one column chunk.
struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}

/// Decompresses what the inner reader takes for uncompressed.
struct ZstdPages {
    pages: SerializedPageReader<Ranges>,
}

fn unzstd(bytes: &[u8], into: &mut Vec<u8>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let wrong = |what: &dyn std::fmt::Display| ParquetError::General(format!("a zstd page cannot be read: {what}"));
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_PARQUET_PAGE as u64);
    let frame = StreamingDecoder::new_with_decoder(bytes, decoder).map_err(|error| wrong(&error))?;
    frame.take(MAX_PARQUET_PAGE as u64 + 1).read_to_end(into).map_err(|error| wrong(&error))?;
    if into.len() > MAX_PARQUET_PAGE {
        return Err(wrong(&format!("it has more than {MAX_PARQUET_PAGE} bytes")));
    }
    Ok(())
}

/// The page with its bytes decompressed; the levels of a V2 page never were compressed.
fn decompressed(page: Page) -> Result<Page> {
    let mut plain = Vec::new();
    Ok(match page {
        Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
            unzstd(&buf, &mut plain)?;
            Page::DictionaryPage { buf: plain.into(), num_values, encoding, is_sorted }
        }
        Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
            unzstd(&buf, &mut plain)?;
            Page::DataPage {
                buf: plain.into(),
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            }
        }
        Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            num_nulls,
            num_rows,
            def_levels_byte_len,
            rep_levels_byte_len,
            is_compressed: true,
            statistics,
        } => {
            let levels = def_levels_byte_len as usize + rep_levels_byte_len as usize;
            let Some((levels, values)) = buf.split_at_checked(levels) else {
                return Err(ParquetError::General("the levels of a page are longer than the page".into()));
            };
            plain.extend_from_slice(levels);
            unzstd(values, &mut plain)?;
            Page::DataPageV2 {
                buf: plain.into(),
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed: false,
                statistics,
            }
        }
        uncompressed => uncompressed,
    })
}

impl Iterator for ZstdPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ZstdPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.pages.get_next_page()?.map(decompressed).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file of nothing but zeros, which counts requests.
    struct Zeros(Mutex<Vec<usize>>);

    impl Fetch for Zeros {
        fn open(&self, _offset: u64) -> std::result::Result<Box<dyn Read>, FilesError> {
            Ok(Box::new(io::empty()))
        }

        fn bytes(&self, _start: u64, length: usize) -> std::result::Result<Vec<u8>, FilesError> {
            locked(&self.0).push(length);
            Ok(vec![0; length])
        }

        fn size(&self) -> Option<u64> {
            Some(1 << 40)
        }
    }

    #[test]
    fn pages_over_the_limit_are_refused() {
        let file = Arc::new(Zeros(Mutex::default()));
        let ranges = Ranges::whole(Arc::clone(&file) as Arc<dyn Fetch>, 1 << 40);
        assert!(ranges.get_bytes(0, MAX_PARQUET_PAGE + 1).is_err());
        assert!(locked(&file.0).is_empty(), "nothing is asked for");
        let bomb = zstd::encode_all(io::repeat(0).take(MAX_PARQUET_PAGE as u64 + 1), 1).unwrap();
        let error = unzstd(&bomb, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(&MAX_PARQUET_PAGE.to_string()), "{error}");
    }

    #[test]
    fn columns_share_the_read_ahead() {
        let file = Arc::new(Zeros(Mutex::default()));
        let ranges = Ranges::whole(Arc::clone(&file) as Arc<dyn Fetch>, 1 << 40);
        let column = ranges.column(1 << 40, 16);
        for page in 0..64 {
            column.get_bytes(page * 30_000, 30_000).unwrap();
        }
        assert_eq!(*locked(&file.0), [PARQUET_READ_AHEAD / 16]);
        let last = ranges.column(100, 1_000_000);
        last.get_bytes(90, 5).unwrap();
        assert_eq!(locked(&file.0).last(), Some(&10), "nothing beyond the column's end");
    }
}
