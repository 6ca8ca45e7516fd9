//! How deep a JSON text is nested, and whether it holds what no database takes, seen before anything is parsed.
//!
//! Looks at bytes only: what is no JSON at all is the parser's to say.

/// Why a text is not handed to the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// More levels than allowed.
    TooDeep,
    /// The character U+0000, which PostgreSQL stores in no text.
    Nul,
}

/// Checks that no array or object stands deeper than `most` levels, and that no text holds U+0000.
pub(crate) fn check(json: &[u8], most: usize) -> Result<(), Refused> {
    let (mut depth, mut in_text) = (0_usize, false);
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match (in_text, byte) {
            (true, b'\\') => {
                if json[at + 1..].starts_with(b"u0000") {
                    return Err(Refused::Nul);
                }
                // The escaped character is no end of the text.
                at += 1;
            }
            (_, b'"') => in_text = !in_text,
            (_, 0) => return Err(Refused::Nul),
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > most {
                    return Err(Refused::TooDeep);
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_is_open_outside_of_texts() {
        for (json, most, expected) in [
            ("[[]]", 2, Ok(())),
            ("[[]]", 1, Err(Refused::TooDeep)),
            (r#"{"a":{"b":[1]},"c":[2]}"#, 3, Ok(())),
            (r#"{"a":{"b":[1]},"c":[2]}"#, 2, Err(Refused::TooDeep)),
            (r#"["[[[[", "\"[[["]"#, 1, Ok(())),
            (r#"["\\", [ ]]"#, 1, Err(Refused::TooDeep)),
            ("]]]][", 1, Ok(())),
            (r#"["\u0000"]"#, 9, Err(Refused::Nul)),
            (r#"["\\u0000"]"#, 9, Ok(())),
            (r#"["\\\u0000"]"#, 9, Err(Refused::Nul)),
            ("[\"a\0\"]", 9, Err(Refused::Nul)),
            (r#"["\"#, 9, Ok(())),
            ("", 0, Ok(())),
        ] {
            assert_eq!(check(json.as_bytes(), most), expected, "{json}");
        }
    }
}
