//! A sliding window over a reader: the only place where file content is buffered.
//!
//! Owns the buffer and the absolute position of its first byte. Must never hold more than asked for
//! through [`Window::fill`] rounded up to a doubling, and never knows a format.

use std::io::{self, Read};

/// Bytes `[consumed, read)` of a reader.
pub struct Window<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    finished: bool,
}

impl<R: Read> Window<R> {
    /// A window whose first byte is byte `offset` of the (uncompressed) file.
    pub fn new(reader: R, offset: u64) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, end: 0, offset, finished: false }
    }

    /// What was read and not consumed.
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Absolute position of the first byte of [`Window::data`].
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the reader has nothing more.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Whether every byte was read and consumed.
    pub fn done(&self) -> bool {
        self.finished && self.start == self.end
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only what is there can be consumed");
        self.start += count;
        self.offset += count as u64;
    }

    /// Reads until `wanted` bytes are there or the reader ends. After an error, what was read before
    /// it is in [`Window::data`], and the next call gives the error's successor.
    pub fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.end - self.start >= wanted || self.finished {
            return Ok(());
        }
        self.make_room(wanted);
        while self.end - self.start < wanted {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.finished = true;
                    return Ok(());
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_room(&mut self, wanted: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        } else if self.buffer.len() > 4 * wanted && self.end <= wanted {
            // One huge record must not keep its memory for the rest of the file.
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slides_over_everything_and_knows_where_it_is() {
        let source: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let mut window = Window::new(source.as_slice(), 1_000);
        let mut seen = Vec::new();
        while !window.done() {
            window.fill(700).unwrap();
            let step = window.data().len().min(333);
            seen.extend_from_slice(&window.data()[..step]);
            window.consume(step);
            assert_eq!(window.offset(), 1_000 + seen.len() as u64);
            assert!(window.buffer.len() <= 700);
        }
        assert_eq!(seen, source);
    }

    #[test]
    fn gives_its_memory_back_after_a_large_record() {
        let source = vec![7u8; 100_000];
        let mut window = Window::new(source.as_slice(), 0);
        window.fill(50_000).unwrap();
        window.consume(49_990);
        window.fill(1_000).unwrap();
        assert!(window.buffer.len() <= 1_000);
        assert_eq!(window.data().len(), 1_000);
    }
}
