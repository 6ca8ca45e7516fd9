//! Bytes of a CSV file to records and fields, as spans over the bytes.
//!
//! Owns quoting and line ends, the same as the crates `csv-core` and `csv` (a property test holds them together).
//! Those copy each field and forget whether it was quoted; here a field is copied only where it holds doubled
//! quotes, and `""` differs from nothing. Pure; never looks at what a field means.

use memchr::memchr;

/// The special characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
}

/// A field: bytes of the data, or of the scratch where quotes had to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Quoted,
    /// Quoted, and in the scratch.
    Unescaped,
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The record ends before `end`; it spans `lines` lines.
    Record { end: usize, lines: u64 },
    /// More data is needed.
    Incomplete,
    /// The file ends inside quotes.
    Unclosed,
}

/// Finds records. Holds the table of characters that end an unquoted field.
#[derive(Debug, Clone)]
pub struct Splitter {
    dialect: Dialect,
    stops: [bool; 256],
}

enum Quoted {
    Field { span: Span, next: usize },
    Incomplete,
    Unclosed,
}

impl Splitter {
    pub fn new(dialect: Dialect) -> Self {
        let mut stops = [false; 256];
        for stop in [dialect.delimiter, b'\n', b'\r'] {
            stops[usize::from(stop)] = true;
        }
        Self { dialect, stops }
    }

    /// Scans the record that starts at `at`, which is no line end. `last`: nothing follows the data. The fields and
    /// the scratch are appended to; they are junk where the scan does not come to a record.
    pub fn scan(&self, data: &[u8], at: usize, last: bool, fields: &mut Vec<Span>, scratch: &mut Vec<u8>) -> Scan {
        let mut position = at;
        let mut lines = 1;
        loop {
            if self.dialect.quote.is_some() && data.get(position).copied() == self.dialect.quote {
                match self.quoted(data, position, last, scratch) {
                    Quoted::Incomplete => return Scan::Incomplete,
                    Quoted::Unclosed => return Scan::Unclosed,
                    Quoted::Field { span, next } => {
                        lines += count_lines(&data[position..next]);
                        fields.push(span);
                        position = next;
                    }
                }
            } else {
                let start = position;
                position = self.stop(data, position);
                fields.push(Span { start: short(start), end: short(position), form: Form::Plain });
            }
            match data.get(position) {
                None if last => return Scan::Record { end: position, lines },
                None => return Scan::Incomplete,
                Some(b'\n') => return Scan::Record { end: position + 1, lines },
                Some(b'\r') => match data.get(position + 1) {
                    Some(b'\n') => return Scan::Record { end: position + 2, lines },
                    None if !last => return Scan::Incomplete,
                    _ => return Scan::Record { end: position + 1, lines },
                },
                Some(_) => position += 1,
            }
        }
    }

    /// The first stop at or behind `from`, or the end.
    #[inline]
    fn stop(&self, data: &[u8], from: usize) -> usize {
        let rest = &data[from..];
        from + rest.iter().position(|byte| self.stops[usize::from(*byte)]).unwrap_or(rest.len())
    }

    fn quoted(&self, data: &[u8], open: usize, last: bool, scratch: &mut Vec<u8>) -> Quoted {
        let Some(quote) = self.dialect.quote else { return Quoted::Incomplete };
        let undone = scratch.len();
        let mut segment = open + 1;
        loop {
            let Some(close) = memchr(quote, &data[segment..]).map(|at| segment + at) else {
                return if last { Quoted::Unclosed } else { Quoted::Incomplete };
            };
            let after = data.get(close + 1).copied();
            if after == Some(quote) {
                scratch.extend_from_slice(&data[segment..=close]);
                segment = close + 2;
                continue;
            }
            if after.is_none() && !last {
                return Quoted::Incomplete;
            }
            // What stands between the closing quote and the delimiter belongs to the field.
            let next = self.stop(data, close + 1);
            if scratch.len() == undone && next == close + 1 {
                let span = Span { start: short(segment), end: short(close), form: Form::Quoted };
                return Quoted::Field { span, next };
            }
            scratch.extend_from_slice(&data[segment..close]);
            scratch.extend_from_slice(&data[close + 1..next]);
            let span = Span { start: short(undone), end: short(scratch.len()), form: Form::Unescaped };
            return Quoted::Field { span, next };
        }
    }
}

/// Windows are a few MiB: see [`crate::limits::MAX_RECORD_BYTES`].
fn short(position: usize) -> u32 {
    u32::try_from(position).expect("windows are far below 4 GiB")
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Length of the line ends that `data` starts with, and how many lines they end.
pub fn blank_lines(data: &[u8]) -> (usize, u64) {
    let (mut at, mut lines) = (0, 0);
    loop {
        match &data[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [b'\n' | b'\r', ..] => at += 1,
            _ => return (at, lines),
        }
        lines += 1;
    }
}

/// Walks over a record that is too large to be held, piece by piece.
#[derive(Debug, Clone)]
pub struct Skipper {
    dialect: Dialect,
    state: State,
    pub lines: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
    CarriageReturn,
}

impl Skipper {
    /// At the start of a record.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, state: State::FieldStart, lines: 0 }
    }

    /// Takes the next bytes; how many of them belong to the record, where it ends among them.
    pub fn skip(&mut self, data: &[u8]) -> Option<usize> {
        for (at, byte) in data.iter().copied().enumerate() {
            if self.state == State::CarriageReturn {
                return Some(at + usize::from(byte == b'\n'));
            }
            self.lines += u64::from(byte == b'\n' && self.state == State::Quoted);
            let quote = Some(byte) == self.dialect.quote;
            self.state = match self.state {
                State::Quoted if quote => State::QuoteInQuoted,
                State::Quoted => State::Quoted,
                State::FieldStart | State::QuoteInQuoted if quote => State::Quoted,
                _ if byte == b'\n' => {
                    self.lines += 1;
                    return Some(at + 1);
                }
                _ if byte == b'\r' => {
                    self.lines += 1;
                    State::CarriageReturn
                }
                _ if byte == self.dialect.delimiter => State::FieldStart,
                _ => State::Plain,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };

    fn text(data: &[u8], scratch: &[u8], span: Span) -> Vec<u8> {
        let bytes = if span.form == Form::Unescaped { scratch } else { data };
        bytes[span.start as usize..span.end as usize].to_vec()
    }

    /// All records, and whether the file ended inside quotes.
    fn split(data: &[u8]) -> (Vec<Vec<Vec<u8>>>, bool) {
        let splitter = Splitter::new(COMMA);
        let (mut records, mut at) = (Vec::new(), 0);
        loop {
            at += blank_lines(&data[at..]).0;
            if at == data.len() {
                return (records, false);
            }
            let (mut fields, mut scratch) = (Vec::new(), Vec::new());
            match splitter.scan(data, at, true, &mut fields, &mut scratch) {
                Scan::Record { end, .. } => {
                    records.push(fields.iter().map(|span| text(data, &scratch, *span)).collect());
                    at = end;
                }
                Scan::Unclosed => return (records, true),
                Scan::Incomplete => panic!("nothing follows"),
            }
        }
    }

    fn reference(data: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(data);
        reader.byte_records().map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect()).collect()
    }

    #[test]
    fn quotes_lines_and_ends() {
        let (records, _) = split(b"a,\"b,\"\"c\"\"\",\"\"\r\n\n\"x\ny\"z,1\r,");
        let expected: Vec<Vec<&[u8]>> = vec![vec![b"a", b"b,\"c\"", b""], vec![b"x\nyz", b"1"], vec![b"", b""]];
        assert_eq!(records, expected);
        assert!(split(b"a,\"b").1);
    }

    #[test]
    fn lines_inside_quotes_count() {
        let data = b"a,\"1\n2\n3\",b\nx";
        let scan = Splitter::new(COMMA).scan(data, 0, true, &mut Vec::new(), &mut Vec::new());
        assert_eq!(scan, Scan::Record { end: 12, lines: 3 });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn agrees_with_the_csv_crate(data in proptest::collection::vec(proptest::sample::select(b"ab,\"\"\n\r\n".to_vec()), 0..60)) {
            let (records, unclosed) = split(&data);
            if !unclosed {
                prop_assert_eq!(records, reference(&data));
            }
        }

        #[test]
        fn a_cut_is_incomplete_or_the_same(data in proptest::collection::vec(proptest::sample::select(b"ab,\"\n\r".to_vec()), 1..60), cut in 0usize..60) {
            let start = blank_lines(&data).0;
            let cut = cut.min(data.len());
            if start < cut {
                let splitter = Splitter::new(COMMA);
                let (mut some, mut all) = (Vec::new(), Vec::new());
                let early = splitter.scan(&data[..cut], start, false, &mut some, &mut Vec::new());
                let late = splitter.scan(&data, start, true, &mut all, &mut Vec::new());
                if let Scan::Record { .. } = early {
                    prop_assert_eq!(early, late);
                    prop_assert_eq!(some, all);
                }
            }
        }

        #[test]
        fn the_skipper_ends_where_the_splitter_does(data in proptest::collection::vec(proptest::sample::select(b"ab,\"\"\n\r".to_vec()), 1..60), cut in 0usize..60) {
            let start = blank_lines(&data).0;
            let record = &data[start..];
            if !record.is_empty() {
                let mut skipper = Skipper::new(COMMA);
                let (a, b) = record.split_at(cut.min(record.len()));
                let end = skipper.skip(a).or_else(|| skipper.skip(b).map(|end| a.len() + end));
                match Splitter::new(COMMA).scan(record, 0, true, &mut Vec::new(), &mut Vec::new()) {
                    Scan::Record { end: expected, lines } => {
                        prop_assert_eq!(end.unwrap_or(record.len()), expected);
                        prop_assert!(skipper.lines == lines || expected == record.len());
                    }
                    _ => prop_assert_eq!(end, None),
                }
            }
        }
    }
}
