//! JSON as Python's own parser takes it, which is more than JSON.
//!
//! Owns what is forgiven: `NaN`, `Infinity`, halves of surrogate pairs, a mark of the byte order.

use super::scan;
use crate::value::Value;

const MARK: &[u8] = b"\xef\xbb\xbf";

/// Without the mark of the byte order.
pub fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// # Errors
/// What serde_json says of it.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    Value::from_json(text).or_else(|error| match mended(text) {
        Some(mended) => Value::from_json(&mended),
        None => Err(error),
    })
}

/// With null for what is no number and U+FFFD for half of a pair; `None` where there is nothing to mend.
pub fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut changed) = (0, false);
    while at < text.len() {
        if text[at] == b'"' {
            let end = scan::string_end(text, at + 1).ok()?;
            changed |= whole_pairs(&text[at..end], &mut out);
            at = end;
            continue;
        }
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| text[at..].starts_with(word));
        match word {
            Some(word) => {
                out.extend(b"null");
                (at, changed) = (at + word.len(), true);
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    changed.then_some(out)
}

/// Copies one JSON text with its quotes; whether anything was mended.
fn whole_pairs(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut at, mut changed) = (0, false);
    while at < text.len() {
        if text[at] != b'\\' {
            out.push(text[at]);
            at += 1;
            continue;
        }
        let length = match unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(unit(text, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                out.extend(b"\\ufffd");
                (at, changed) = (at + 6, true);
                continue;
            }
            Some(_) => 6,
            None => 2,
        };
        let end = (at + length).min(text.len());
        out.extend(&text[at..end]);
        at = end;
    }
    changed
}

/// The code unit of a `\uXXXX` that stands there.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_only_python_reads_is_read() {
        let read = |text: &str| parse(text.as_bytes()).unwrap().to_json();
        assert_eq!(read(r#"{"a":NaN,"b":[-Infinity,1],"c":"NaN"}"#), r#"{"a":null,"b":[null,1],"c":"NaN"}"#);
        assert_eq!(
            read(r#"{"a":"x\ud83d","b":"\ud83d\ude00","c":"\\ud83d"}"#),
            "{\"a\":\"x\u{fffd}\",\"b\":\"😀\",\"c\":\"\\\\ud83d\"}"
        );
        assert!(parse(b"{\"a\":}").is_err());
        assert!(parse(b"\"a").is_err());
    }
}
