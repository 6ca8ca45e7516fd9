//! Finds where JSON values start and end without parsing them.
//!
//! Owns the walk over bytes, eight at a time. A value is only delimited: brackets have to match and texts have to end,
//! what stands between is for whoever parses it. Must never copy, and never go deeper than [`MAX_DEPTH`].

use crate::limits::MAX_DEPTH;

/// The text is no JSON, at byte `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    pub at: usize,
    pub what: &'static str,
}

pub type Found<T> = std::result::Result<T, Misfit>;

/// A key and its value, as they stand in the text: the key without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub key: (usize, usize),
    pub value: (usize, usize),
}

pub fn misfit<T>(at: usize, what: &'static str) -> Found<T> {
    Err(Misfit { at, what })
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of the first byte of `word` that is `byte`; higher bits mean nothing.
#[inline(always)]
fn first_of(word: u64, byte: u8) -> u64 {
    let zero = word ^ (LOW * byte as u64);
    zero.wrapping_sub(LOW) & !zero & HIGH
}

#[inline(always)]
fn word_at(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// Where the next quote or bracket stands, or something that looks like one: `Y`, `_` and `y`, which JSON has in texts
/// only.
#[inline(always)]
fn next_structure(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(text, at) {
        // The four brackets differ in bits 1, 2 and 5.
        let hit = first_of(word, b'"') | first_of(word | (LOW * 0x26), 0x7f);
        if hit != 0 {
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| *byte == b'"' || byte | 0x26 == 0x7f).unwrap_or(rest.len())
}

/// Behind the closing quote of the text whose first byte (behind its opening quote) is at `at`.
#[inline(always)]
pub fn string_end(text: &[u8], mut at: usize) -> Found<usize> {
    loop {
        while let Some(word) = word_at(text, at) {
            let hit = first_of(word, b'"') | first_of(word, b'\\');
            if hit != 0 {
                at += (hit.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return misfit(text.len(), "a text does not end"),
        }
    }
}

#[inline(always)]
pub fn blank(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Behind the value that starts at `at`.
#[inline]
pub fn value_end(text: &[u8], at: usize) -> Found<usize> {
    match text.get(at) {
        Some(b'"') => string_end(text, at + 1),
        Some(b'{' | b'[') => container_end(text, at),
        Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I') => {
            let rest = &text[at..];
            let end = rest.iter().position(|b| !matches!(b, b'+' | b'-' | b'.') && !b.is_ascii_alphanumeric());
            Ok(at + end.unwrap_or(rest.len()))
        }
        Some(_) => misfit(at, "a value is missing"),
        None => misfit(at, "it ends where a value is missing"),
    }
}

fn container_end(text: &[u8], mut at: usize) -> Found<usize> {
    // One bit a level, the innermost lowest: whether it is an object.
    let (mut kinds, mut depth) = (0u128, 0usize);
    loop {
        at = next_structure(text, at);
        let Some(byte) = text.get(at) else { return misfit(text.len(), "it ends before its last bracket") };
        match byte {
            b'"' => {
                at = string_end(text, at + 1)?;
                continue;
            }
            b'{' | b'[' => {
                (kinds, depth) = (kinds << 1 | u128::from(*byte == b'{'), depth + 1);
                if depth > MAX_DEPTH {
                    return misfit(at, "it is nested too deep");
                }
            }
            b'}' | b']' => {
                if (kinds & 1 == 1) != (*byte == b'}') {
                    return misfit(at, "a bracket does not match");
                }
                (kinds, depth) = (kinds >> 1, depth - 1);
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Walks over the array at `at`. `each` gets where an element starts and says where it ends. Returns the place behind
/// the array.
#[inline]
pub fn elements(text: &[u8], at: usize, mut each: impl FnMut(usize) -> Found<usize>) -> Found<usize> {
    let mut at = blank(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        at = blank(text, each(at)?);
        match text.get(at) {
            Some(b',') => at = blank(text, at + 1),
            Some(b']') => return Ok(at + 1),
            Some(_) => return misfit(at, "a comma or ] is missing behind an element"),
            None => return misfit(at, "it ends inside an array"),
        }
    }
}

/// Walks over the object at `at`. `each` gets a key (without its quotes) and where its value starts, and says where the
/// value ends. Returns the place behind the object.
#[inline]
pub fn members(text: &[u8], at: usize, mut each: impl FnMut((usize, usize), usize) -> Found<usize>) -> Found<usize> {
    let mut at = blank(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if text.get(at) != Some(&b'"') {
            return misfit(at, "a key is missing");
        }
        let key_end = string_end(text, at + 1)?;
        let key = (at + 1, key_end - 1);
        at = blank(text, key_end);
        if text.get(at) != Some(&b':') {
            return misfit(at, "a colon is missing behind a key");
        }
        at = blank(text, each(key, blank(text, at + 1))?);
        match text.get(at) {
            Some(b',') => at = blank(text, at + 1),
            Some(b'}') => return Ok(at + 1),
            Some(_) => return misfit(at, "a comma or } is missing behind a value"),
            None => return misfit(at, "it ends inside an object"),
        }
    }
}

/// Whether a key as it stands in the text is `name`.
#[inline]
pub fn key_is(text: &[u8], key: (usize, usize), name: &str) -> bool {
    let raw = &text[key.0..key.1];
    if raw == name.as_bytes() {
        // A name with a backslash or a quote cannot stand there as it is.
        return !raw.contains(&b'\\');
    }
    raw.contains(&b'\\') && key_text(text, key).is_some_and(|text| text == name)
}

/// A key with its escapes undone.
pub fn key_text(text: &[u8], key: (usize, usize)) -> Option<String> {
    serde_json::from_slice(&text[key.0 - 1..=key.1]).ok()
}

/// Where the value of the last member of this name lies, as parsers have it; `None` also where `at` is no object.
pub fn member(text: &[u8], at: usize, name: &str) -> Found<Option<(usize, usize)>> {
    let mut found = None;
    if text.get(at) == Some(&b'{') {
        members(text, at, |key, value| {
            let end = value_end(text, value)?;
            if key_is(text, key, name) {
                found = Some((value, end));
            }
            Ok(end)
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let text = proptest::string::string_regex("[a-z\"\\\\\\[\\]{},: \n\u{e9}\u{1f600}_Yy]{0,20}").unwrap().boxed();
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            (-1e9..1e9f64).prop_map(serde_json::Value::from),
            text.clone().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::hash_map(text.clone(), inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn finds_the_same_elements_as_serde_json(values in proptest::collection::vec(any_json(), 0..6), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&values) } else { serde_json::to_vec(&values) }.unwrap();
            let expected: Vec<&RawValue> = serde_json::from_slice(&text).unwrap();
            let mut found = Vec::new();
            let end = elements(&text, 0, |at| {
                let end = value_end(&text, at)?;
                found.push(std::str::from_utf8(&text[at..end]).unwrap());
                Ok(end)
            }).unwrap();
            prop_assert_eq!(end, text.len());
            prop_assert_eq!(found, expected.iter().map(|raw| raw.get()).collect::<Vec<_>>());
            prop_assert_eq!(value_end(&text, 0).unwrap(), text.len());
        }

        #[test]
        fn a_document_that_is_cut_is_an_error(values in proptest::collection::vec(any_json(), 1..6), cut in 1usize..400) {
            let text = serde_json::to_vec(&values).unwrap();
            if cut < text.len() {
                prop_assert!(value_end(&text[..cut], 0).is_err());
            }
        }

        #[test]
        fn whatever_comes_in_ends(text in proptest::collection::vec(proptest::sample::select(b"[]{},:\"\\ a1".to_vec()), 0..60)) {
            let _ = value_end(&text, 0);
            let _ = member(&text, 0, "a");
        }
    }

    #[test]
    fn brackets_have_to_match_and_depth_has_a_limit() {
        assert_eq!(value_end(b"[{]}", 0).unwrap_err().what, "a bracket does not match");
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(value_end(deep(MAX_DEPTH).as_bytes(), 0).is_ok());
        assert_eq!(value_end(deep(MAX_DEPTH + 1).as_bytes(), 0).unwrap_err().what, "it is nested too deep");
    }
}
