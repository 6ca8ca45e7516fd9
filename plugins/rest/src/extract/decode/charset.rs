//! Text that is not UTF-8, by Python's names of encodings.

use std::io::{self, Read};

use crate::{
    error::{RestError, Result},
    node::Node,
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    #[default]
    Utf8,
    Ascii,
    Latin1,
    Windows1252,
    /// The mark at the start says which byte comes first; the lower one without a mark.
    Utf16,
    Utf16Le,
    Utf16Be,
}

/// What windows-1252 has in place of the control characters from 0x80 on.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

impl Charset {
    /// `encoding` of a decoder.
    ///
    /// # Errors
    /// Kind config for a name that is not known.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let Some(node) = node.get("encoding") else { return Ok(Self::Utf8) };
        Self::named(node.text()?).ok_or_else(|| {
            node.wrong("this encoding is not known; utf-8, utf-16, iso-8859-1, windows-1252 and ascii are")
        })
    }

    pub fn named(name: &str) -> Option<Self> {
        let plain: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
        Some(match plain.as_str() {
            "utf8" | "utf8sig" | "u8" | "utf" => Self::Utf8,
            "ascii" | "usascii" | "646" => Self::Ascii,
            "latin1" | "latin" | "l1" | "iso88591" | "88591" | "8859" | "cp819" => Self::Latin1,
            "cp1252" | "windows1252" | "1252" => Self::Windows1252,
            "utf16" | "u16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf16be" => Self::Utf16Be,
            _ => return None,
        })
    }

    /// The bytes as UTF-8, without the mark of the byte order. Bytes that are no UTF-8 stay as they are.
    pub fn reader(self, input: Box<dyn Read>) -> Box<dyn Read> {
        Box::new(Recoded { input, charset: self, begun: false, raw: Vec::new(), text: Vec::new(), at: 0 })
    }

    /// Takes as many bytes as make whole characters; returns how many are left over.
    fn convert(self, raw: &[u8], text: &mut Vec<u8>) -> io::Result<usize> {
        let mut push = |c: char| text.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        match self {
            Self::Utf8 => text.extend(raw),
            Self::Ascii => match raw.iter().find(|byte| !byte.is_ascii()) {
                Some(byte) => return Err(io::Error::other(format!("byte {byte:#04x} is not ASCII"))),
                None => text.extend(raw),
            },
            Self::Latin1 => raw.iter().for_each(|byte| push(char::from(*byte))),
            Self::Windows1252 => {
                let of = |byte: u8| WINDOWS.get(usize::from(byte.wrapping_sub(0x80))).copied();
                raw.iter().for_each(|byte| push(of(*byte).unwrap_or(char::from(*byte))));
            }
            Self::Utf16 | Self::Utf16Le | Self::Utf16Be => {
                let mut units: Vec<u16> = raw.chunks_exact(2).map(|pair| self.unit([pair[0], pair[1]])).collect();
                // The first half of a pair waits for its second.
                let waits = matches!(units.last(), Some(0xd800..=0xdbff));
                units.truncate(units.len() - usize::from(waits));
                char::decode_utf16(units).for_each(|c| push(c.unwrap_or(char::REPLACEMENT_CHARACTER)));
                return Ok(raw.len() % 2 + if waits { 2 } else { 0 });
            }
        }
        Ok(0)
    }

    fn unit(self, pair: [u8; 2]) -> u16 {
        if self == Self::Utf16Be { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    }

    /// What the mark at the start says, and how long it is.
    fn marked(self, raw: &[u8]) -> (Self, usize) {
        match (self, raw) {
            (Self::Utf8, [0xef, 0xbb, 0xbf, ..]) => (self, 3),
            (Self::Utf16 | Self::Utf16Le, [0xff, 0xfe, ..]) => (Self::Utf16Le, 2),
            (Self::Utf16 | Self::Utf16Be, [0xfe, 0xff, ..]) => (Self::Utf16Be, 2),
            _ => (self, 0),
        }
    }
}

struct Recoded {
    input: Box<dyn Read>,
    charset: Charset,
    begun: bool,
    /// Read, not converted.
    raw: Vec<u8>,
    /// Converted, given out up to `at`.
    text: Vec<u8>,
    at: usize,
}

impl Recoded {
    /// Whether anything came.
    fn fill(&mut self) -> io::Result<bool> {
        const PIECE: u64 = 64 * 1024;
        let before = self.raw.len();
        self.input.by_ref().take(PIECE).read_to_end(&mut self.raw)?;
        let ended = self.raw.len() == before;
        self.text.clear();
        self.at = 0;
        if !self.begun {
            self.begun = true;
            let (charset, length) = self.charset.marked(&self.raw);
            self.charset = charset;
            self.raw.drain(..length);
        }
        if ended && !self.raw.is_empty() {
            self.raw.clear();
            self.text.extend(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(true);
        }
        let left = self.charset.convert(&self.raw, &mut self.text)?;
        self.raw.drain(..self.raw.len() - left);
        Ok(!ended)
    }
}

impl Read for Recoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let taken = buffer.len().min(self.text.len() - self.at);
        buffer[..taken].copy_from_slice(&self.text[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// Text of a document that says itself how it is encoded, or else is UTF-8 or Latin-1.
///
/// # Errors
/// Kind system where it is not what it says.
pub fn text_of(body: &[u8], named: Option<&str>) -> Result<String> {
    let wide = matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    let charset = if wide { Charset::Utf16 } else { named.and_then(Charset::named).unwrap_or_default() };
    let mut text = Vec::new();
    let input = Box::new(io::Cursor::new(body.to_vec()));
    charset.reader(input).read_to_end(&mut text).map_err(|error| RestError::system(error.to_string()))?;
    Ok(String::from_utf8(text).unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect()))
}
