//! Checks JSON text for what the server's `jsonb` takes. Pure; one pass, without recursion.

use crate::limits::{JSON_DEPTH, JSON_FRACTION_DIGITS, JSON_WHOLE_DIGITS, JSONB_BYTES, JSONB_VALUE_BYTES};

/// Why a document cannot be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Invalid,
    TooDeep,
    Nul,
    Surrogate,
    Number,
    TooLarge,
}

impl Fault {
    /// A short code in kebab-case.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "invalid-json",
            Self::TooDeep => "json-too-deep",
            Self::Nul => "nul-in-json",
            Self::Surrogate => "surrogate-in-json",
            Self::Number => "number-in-json",
            Self::TooLarge => "json-too-large",
        }
    }

    /// The end of a sentence that begins with the field.
    pub(super) fn says(self) -> String {
        match self {
            Self::Invalid => "holds text that is not JSON".into(),
            Self::TooDeep => format!("holds a JSON document of more than {JSON_DEPTH} levels"),
            Self::Nul => "holds a JSON document with the character \\u0000, which jsonb cannot hold".into(),
            Self::Surrogate => "holds a JSON document with half of a surrogate pair, which jsonb cannot hold".into(),
            Self::Number => "holds a JSON document with a number that has more digits than numeric can hold".into(),
            Self::TooLarge => "holds a JSON document that is larger than jsonb can be".into(),
        }
    }
}

const DEPTH_WORDS: usize = JSON_DEPTH / 64 + 1;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Of each level, whether it is an object.
    objects: [u64; DEPTH_WORDS],
    values: usize,
}

/// Looks a whole document over.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, depth: 0, objects: [0; DEPTH_WORDS], values: 0 };
    scanner.document()?;
    // Each value has an entry of 4 bytes and, being a number, some more than its text.
    if text.len() + scanner.values.saturating_mul(JSONB_VALUE_BYTES) > JSONB_BYTES {
        return Err(Fault::TooLarge);
    }
    Ok(())
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        loop {
            // A container that holds something begins with another value.
            if !self.value()? {
                continue;
            }
            loop {
                self.skip_space();
                if self.depth == 0 {
                    return if self.at == self.bytes.len() { Ok(()) } else { Err(Fault::Invalid) };
                }
                let object = self.in_object();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.close(),
                    Some(b']') if !object => self.close(),
                    _ => return Err(Fault::Invalid),
                }
            }
        }
    }

    /// Reads a scalar or an empty container, or the beginning of one that is not: then it is not complete.
    fn value(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        self.values += 1;
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(Fault::Invalid),
        }
        Ok(true)
    }

    fn open(&mut self, object: bool) -> Result<bool, Fault> {
        if self.depth == JSON_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(if object { b'}' } else { b']' }) {
            self.at += 1;
            return Ok(true);
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if object {
            self.objects[word] |= bit;
        } else {
            self.objects[word] &= !bit;
        }
        self.depth += 1;
        if object {
            self.name()?;
        }
        Ok(false)
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        let level = self.depth - 1;
        self.objects[level / 64] & (1 << (level % 64)) != 0
    }

    /// Reads a member's name and its colon.
    fn name(&mut self) -> Result<(), Fault> {
        self.skip_space();
        self.values += 1;
        if self.peek() != Some(b'"') {
            return Err(Fault::Invalid);
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(Fault::Invalid);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Fault::Invalid);
        }
        self.at += word.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < b' ';
            self.at += rest.iter().position(special).ok_or(Fault::Invalid)?;
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err(Fault::Invalid),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit()? {
                0 => Err(Fault::Nul),
                0xd800..0xdc00 => {
                    if !self.bytes[self.at..].starts_with(b"\\u") {
                        return Err(Fault::Surrogate);
                    }
                    match self.unit()? {
                        0xdc00..0xe000 => Ok(()),
                        _ => Err(Fault::Surrogate),
                    }
                }
                0xdc00..0xe000 => Err(Fault::Surrogate),
                _ => Ok(()),
            },
            _ => Err(Fault::Invalid),
        }
    }

    /// Reads `\uXXXX`.
    fn unit(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes.get(self.at + 2..self.at + 6).ok_or(Fault::Invalid)?;
        let mut unit = 0;
        for digit in digits {
            unit = unit * 16 + char::from(*digit).to_digit(16).ok_or(Fault::Invalid)?;
        }
        self.at += 6;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                1
            }
            _ => self.digits()?,
        };
        let mut fraction = 0;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
        }
        let mut exponent = 0;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            exponent = self.exponent()?;
        }
        if whole + exponent > JSON_WHOLE_DIGITS || fraction - exponent > JSON_FRACTION_DIGITS {
            return Err(Fault::Number);
        }
        Ok(())
    }

    fn exponent(&mut self) -> Result<i64, Fault> {
        let negative = self.peek() == Some(b'-');
        if matches!(self.peek(), Some(b'-' | b'+')) {
            self.at += 1;
        }
        let begin = self.at;
        self.digits()?;
        let digits = &self.bytes[begin..self.at];
        let size =
            digits.iter().fold(0i64, |size, digit| size.saturating_mul(10).saturating_add((digit - b'0').into()));
        // Far beyond every limit, and far from overflowing the sums with it.
        let size = size.min(i64::from(i32::MAX));
        Ok(if negative { -size } else { size })
    }

    /// Reads at least one digit.
    fn digits(&mut self) -> Result<i64, Fault> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begin { Err(Fault::Invalid) } else { Ok((self.at - begin) as i64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn what_is_json_is_what_serde_takes(text in r#"[\[\]{}:,"\\ue0-2dn.truefals \n-]{0,12}|[\[{"a,:1\]}]{0,9}"#) {
            let valid = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
            match check(&text) {
                Ok(()) => prop_assert!(valid, "{text:?}"),
                Err(Fault::Invalid) => prop_assert!(!valid, "{text:?}"),
                // What serde thinks of surrogates and numbers is another matter.
                Err(_) => {}
            }
        }
    }

    #[test]
    fn each_fault_is_told() {
        let nested = |levels: usize| format!("{}0{}", "[".repeat(levels), "]".repeat(levels));
        let cases = [
            (nested(JSON_DEPTH), None),
            (nested(JSON_DEPTH + 1), Some(Fault::TooDeep)),
            ("{\"a\":".repeat(JSON_DEPTH) + "1" + &"}".repeat(JSON_DEPTH), None),
            ("{\"a\":".repeat(JSON_DEPTH) + "[]" + &"}".repeat(JSON_DEPTH), Some(Fault::TooDeep)),
            (r#""\u0000""#.into(), Some(Fault::Nul)),
            (r#""\\u0000""#.into(), None),
            (r#""\\\u0000""#.into(), Some(Fault::Nul)),
            (r#"{"\u0000":1}"#.into(), Some(Fault::Nul)),
            (r#""\ud83d\ude00""#.into(), None),
            (r#""\ud83d""#.into(), Some(Fault::Surrogate)),
            (r#""\ud83dx""#.into(), Some(Fault::Surrogate)),
            (r#""\ude00""#.into(), Some(Fault::Surrogate)),
            (r#""\ud83d\u0041""#.into(), Some(Fault::Surrogate)),
            ("1e131071".into(), None),
            ("1e131072".into(), Some(Fault::Number)),
            ("1e-16383".into(), None),
            ("1e-16384".into(), Some(Fault::Number)),
            ("1e99999999999999999999".into(), Some(Fault::Number)),
            ("1e-99999999999999999999".into(), Some(Fault::Number)),
            ("9".repeat(131_072), None),
            ("9".repeat(131_073), Some(Fault::Number)),
            (" [ 1 , {\"a\" : null } ] ".into(), None),
            ("[1,]".into(), Some(Fault::Invalid)),
            ("01".into(), Some(Fault::Invalid)),
            ("".into(), Some(Fault::Invalid)),
            ("1 2".into(), Some(Fault::Invalid)),
            ("\"\n\"".into(), Some(Fault::Invalid)),
            ("nan".into(), Some(Fault::Invalid)),
        ];
        for (text, fault) in cases {
            assert_eq!(check(&text).err(), fault, "{:.60}", text);
        }
    }
}
