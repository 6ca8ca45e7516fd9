//! The raw path: cuts a page into records along a plain path, without parsing and in one pass.
//!
//! Decides as the decoders and the path extractor of the reference do together; what it cannot decide without parsing
//! it says.

use super::scan::{self, Found, Member, elements, members, misfit, value_end};
use crate::limits::MAX_MEMBERS_KEPT;

/// What a page holds, by places in its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    pub records: Vec<(usize, usize)>,
    /// Of the root, where it is an object.
    pub members: Vec<Member>,
    /// The root has more members than are kept.
    pub crowded: bool,
    /// The first element where the root is an array with one; the root itself where it is something else.
    pub first: Option<(usize, usize)>,
    /// The path leads through an array by a number: what the page holds has to be parsed.
    pub unclear: bool,
}

/// Cuts a whole document. An array at its root stands for its elements, each of which is looked into by itself.
///
/// # Errors
/// The text is no JSON as far as brackets and texts go.
pub fn document(text: &[u8], path: &[String]) -> Found<Split> {
    let mut split = Split::default();
    let start = scan::blank(text, 0);
    let mut walk = Walk { text, split: &mut split };
    let end = match text.get(start) {
        Some(b'[') => elements(text, start, |at| {
            let end = walk.step_into(at, path)?;
            walk.split.first.get_or_insert((at, end));
            Ok(end)
        })?,
        Some(b'{') => walk.root(start, path)?,
        _ => walk.step_into(start, path)?,
    };
    if text[start] != b'[' {
        split.first = Some((start, end));
    }
    if scan::blank(text, end) != text.len() {
        return misfit(end, "something follows the document");
    }
    Ok(split)
}

/// Cuts one value of several.
///
/// # Errors
/// As [`document`].
pub fn piece(text: &[u8], path: &[String]) -> Found<Split> {
    let mut split = Split::default();
    let start = scan::blank(text, 0);
    let end = Walk { text, split: &mut split }.step_into(start, path)?;
    if scan::blank(text, end) != text.len() {
        return misfit(end, "something follows the value");
    }
    Ok(split)
}

struct Walk<'a> {
    text: &'a [u8],
    split: &'a mut Split,
}

impl Walk<'_> {
    /// The object at the root, whose members are kept.
    fn root(&mut self, at: usize, path: &[String]) -> Found<usize> {
        let text = self.text;
        let end = members(text, at, |key, value| {
            let end = match path {
                [first, rest @ ..] if scan::key_is(text, key, first) => {
                    self.split.records.clear();
                    self.step_into(value, rest)?
                }
                _ => value_end(text, value)?,
            };
            if self.split.members.len() < MAX_MEMBERS_KEPT {
                self.split.members.push(Member { key, value: (value, end) });
            } else {
                self.split.crowded = true;
            }
            Ok(end)
        })?;
        if path.is_empty() && !self.split.members.is_empty() {
            self.split.records.push((at, end));
        }
        Ok(end)
    }

    /// The records of the value at `at` along `path`; returns the place behind the value.
    fn step_into(&mut self, at: usize, path: &[String]) -> Found<usize> {
        let text = self.text;
        match (path, text.get(at)) {
            ([], Some(b'[')) => elements(text, at, |element| {
                let end = value_end(text, element)?;
                self.split.records.push((element, end));
                Ok(end)
            }),
            ([], _) => {
                let end = value_end(text, at)?;
                if truthy(&text[at..end]) {
                    self.split.records.push((at, end));
                }
                Ok(end)
            }
            ([first, rest @ ..], Some(b'{')) => {
                let before = self.split.records.len();
                members(text, at, |key, value| {
                    if scan::key_is(text, key, first) {
                        // The last of several counts.
                        self.split.records.truncate(before);
                        self.step_into(value, rest)
                    } else {
                        value_end(text, value)
                    }
                })
            }
            ([first, ..], Some(b'[')) if first.trim().parse::<i64>().is_ok() => {
                self.split.unclear = true;
                value_end(text, at)
            }
            _ => value_end(text, at),
        }
    }
}

/// What Python's `bool()` says of a value as it stands.
fn truthy(value: &[u8]) -> bool {
    match value {
        b"null" | b"false" | b"\"\"" => false,
        [b'{' | b'[', inner @ .., _] => inner.iter().any(|byte| !byte.is_ascii_whitespace()),
        [b'-' | b'0'..=b'9', ..] => !value.iter().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| b"-0.".contains(b)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::stage::texts;

    fn cut(text: &str, path: &[&str]) -> Vec<String> {
        let split = document(text.as_bytes(), &texts(path)).unwrap();
        assert!(!split.unclear);
        split.records.iter().map(|(start, end)| text[*start..*end].to_owned()).collect()
    }

    #[test]
    fn records_are_cut_as_they_stand() {
        assert_eq!(
            cut(r#" {"n" : 1, "data": [ {"a": 1} , {"b":"]}"}]} "#, &["data"]),
            [r#"{"a": 1}"#, r#"{"b":"]}"}"#]
        );
        assert_eq!(cut(r#"[{"a":1},{},null,[{"b":2},3],0,"x"]"#, &[]), [r#"{"a":1}"#, r#"{"b":2}"#, "3", r#""x""#]);
        assert_eq!(cut(r#"{"a":1}"#, &[]), [r#"{"a":1}"#]);
        assert_eq!(cut(r#"[{"d":[1]},{"d":[]},{"e":[2]},{"d":{"x":1}}]"#, &["d"]), ["1", r#"{"x":1}"#]);
        assert_eq!(cut(r#"{"a":{"b":[{},{"c":1}]}}"#, &["a", "b"]), ["{}", r#"{"c":1}"#]);
    }

    #[test]
    fn what_is_empty_or_missing_gives_no_records() {
        for (text, path) in [
            ("{}", &[][..]),
            ("[]", &[]),
            (r#"{"a":{ }}"#, &["a"]),
            (r#"{"a":null}"#, &["a"]),
            (r#"{"a":0.0}"#, &["a"]),
            (r#"{"a":""}"#, &["a"]),
            (r#"{"a":1}"#, &["a", "b"]),
            (r#"{"a":[{"b":1}]}"#, &["a", "b"]),
            (r#"{"b":1}"#, &["a"]),
        ] {
            assert!(cut(text, path).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_last_of_two_members_of_one_name_counts() {
        assert_eq!(cut(r#"{"data":[1,2],"x":0,"data":[3]}"#, &["data"]), ["3"]);
        assert_eq!(cut(r#"{"a":{"b":[1]},"a":{"c":[2]}}"#, &["a", "b"]), [""; 0]);
    }

    #[test]
    fn keys_may_be_written_with_escapes() {
        assert_eq!(cut(r#"{"d\u0061ta":[1]}"#, &["data"]), ["1"]);
        assert_eq!(cut(r#"{"q\"t":[1]}"#, &["q\"t"]), ["1"]);
        assert_eq!(cut(r#"{"a":[1],"a\\":[2]}"#, &[r"a\"]), ["2"]);
    }

    #[test]
    fn a_number_that_meets_an_array_is_left_to_others() {
        assert!(document(br#"{"a":[[1]]}"#, &texts(&["a", "0"])).unwrap().unclear);
    }

    #[test]
    fn what_follows_a_document_makes_it_none() {
        assert!(document(b"[] []", &[]).is_err());
        assert!(document(b"", &[]).is_err());
        assert!(piece(b"{} x", &[]).is_err());
    }
}
