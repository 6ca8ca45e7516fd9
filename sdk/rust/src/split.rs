//! Cuts pages that are over the boundary's limit at record borders. Pure.
//!
//! Never changes, drops or judges a record: what is not JSON goes on as it is, for the host to reject.

/// A part of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Fits as it is.
    Whole(&'a [u8]),
    /// Elements of an array with their commas; brackets have to go around it.
    Elements(&'a [u8]),
    /// One record that is over the limit by itself.
    TooLarge(&'a [u8]),
}

/// The pieces of a page of one JSON array, or of objects one after the other. `max` in bytes, brackets
/// included.
pub(crate) fn json_pieces(page: &[u8], max: usize) -> Vec<Piece<'_>> {
    let page = page.trim_ascii();
    if page.is_empty() {
        return Vec::new();
    }
    if let Some(inside) = page.strip_prefix(b"[") {
        if inside.strip_suffix(b"]").is_some_and(|elements| elements.trim_ascii().is_empty()) {
            return Vec::new();
        }
        if page.len() <= max {
            return vec![Piece::Whole(page)];
        }
        return array_pieces(inside, max.saturating_sub(2));
    }
    if page.len() <= max { vec![Piece::Whole(page)] } else { line_pieces(page, max) }
}

/// `inside`: what follows the opening bracket.
fn array_pieces(inside: &[u8], max: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut end, mut at) = (0, 0, 0);
    loop {
        let from = skip(inside, at, b", \t\r\n");
        if inside.get(from).is_none_or(|byte| *byte == b']') {
            break;
        }
        // An element without an end takes the rest of the page with it.
        let to = value_end(inside, from).unwrap_or(inside.len());
        if to - from > max {
            push(&mut pieces, &inside[start..end], Piece::Elements);
            pieces.push(Piece::TooLarge(&inside[from..to]));
            start = to;
        } else {
            if end <= start {
                start = from;
            } else if to - start > max {
                pieces.push(Piece::Elements(&inside[start..end]));
                start = from;
            }
        }
        end = to;
        at = to;
    }
    push(&mut pieces, &inside[start.min(end)..end], Piece::Elements);
    pieces
}

fn line_pieces(page: &[u8], max: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    // Once a value has no end, brackets tell nothing any more and lines are the borders; this also keeps
    // the work linear.
    let mut by_line = false;
    while at < page.len() {
        let from = skip(page, at, b" \t\r\n");
        let to = if by_line { None } else { value_end(page, from) };
        let to = to.unwrap_or_else(|| {
            by_line = true;
            page[from..].iter().position(|byte| *byte == b'\n').map_or(page.len(), |line| from + line + 1)
        });
        if to - from > max {
            push(&mut pieces, &page[start..at], Piece::Whole);
            pieces.push(Piece::TooLarge(&page[from..to]));
            start = to;
        } else if to - start > max {
            push(&mut pieces, &page[start..at], Piece::Whole);
            start = from;
        }
        at = to;
    }
    push(&mut pieces, &page[start..], Piece::Whole);
    pieces
}

fn push<'a>(pieces: &mut Vec<Piece<'a>>, bytes: &'a [u8], piece: fn(&'a [u8]) -> Piece<'a>) {
    if !bytes.trim_ascii().is_empty() {
        pieces.push(piece(bytes));
    }
}

fn skip(bytes: &[u8], at: usize, what: &[u8]) -> usize {
    bytes[at..].iter().position(|byte| !what.contains(byte)).map_or(bytes.len(), |count| at + count)
}

/// Where the value that starts at `from` ends; `None` where it does not.
fn value_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                // A closing bracket without an opening one: the border of the array itself, or junk.
                if depth == 0 {
                    return (at > from).then_some(at);
                }
                depth -= 1;
                at += 1;
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(at),
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
    (depth == 0).then_some(at)
}

/// Behind the closing quote. A line break inside a string is not JSON, and shows where to pick up again.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            b'\n' => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every record of every piece, in order; the too large ones too.
    fn records(pieces: &[Piece<'_>]) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Whole(bytes) if bytes.starts_with(b"[") => {
                    all.extend(serde_json::from_slice::<Vec<serde_json::Value>>(bytes).unwrap());
                }
                Piece::Elements(bytes) => {
                    let text = format!("[{}]", std::str::from_utf8(bytes).unwrap());
                    all.extend(serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap());
                }
                Piece::Whole(bytes) | Piece::TooLarge(bytes) => {
                    all.extend(serde_json::Deserializer::from_slice(bytes).into_iter().map(|value| value.unwrap()));
                }
            }
        }
        all
    }

    fn size(piece: &Piece<'_>) -> usize {
        match piece {
            Piece::Whole(bytes) | Piece::TooLarge(bytes) => bytes.len(),
            Piece::Elements(bytes) => bytes.len() + 2,
        }
    }

    fn rows() -> Vec<serde_json::Value> {
        let trap = r#"],{"\ [ é"#;
        (0..40).map(|n| serde_json::json!({"id": n, "text": trap.repeat(n % 5), "in": [{"a": [n]}]})).collect()
    }

    #[test]
    fn every_way_of_cutting_keeps_every_record() {
        let rows = rows();
        let array = serde_json::to_vec(&rows).unwrap();
        let pretty = serde_json::to_vec_pretty(&rows).unwrap();
        let lines = rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes();
        let glued = rows.iter().map(ToString::to_string).collect::<String>().into_bytes();
        for page in [&array, &pretty, &lines, &glued] {
            for max in [40, 100, 250, 1000, 100_000] {
                let pieces = json_pieces(page, max);
                assert_eq!(records(&pieces), rows, "max {max}");
                for piece in &pieces {
                    let too_large = matches!(piece, Piece::TooLarge(_));
                    assert_eq!(size(piece) > max - if too_large { 2 } else { 0 }, too_large, "max {max} {piece:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_within_the_limit_goes_as_it_is() {
        assert_eq!(json_pieces(b" [{\"a\":1}] ", 100), [Piece::Whole(b"[{\"a\":1}]")]);
        assert_eq!(json_pieces(b"{oops", 100), [Piece::Whole(b"{oops")]);
        for empty in [&b""[..], b" \n", b"[]", b"[ \n ]"] {
            assert_eq!(json_pieces(empty, 1), [], "{empty:?}");
        }
    }

    #[test]
    fn one_broken_line_does_not_hide_the_others() {
        let page = b"{\"a\":1}\n{\"b\":\"x\n{\"c\":3}\n{\"d\":{\n{\"e\":5}\n";
        let pieces = json_pieces(page, 16);
        let glued: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Whole(bytes) => bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .filter(|byte| *byte != b'\n')
            .collect();
        assert_eq!(glued, page.iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>());
        assert!(pieces.contains(&Piece::Whole(b"{\"c\":3}\n{\"d\":{\n")), "{pieces:?}");
    }

    #[test]
    fn an_array_that_breaks_off_is_handed_on() {
        let pieces = json_pieces(b"[{\"a\":1},{\"b\":2},{\"c\":", 12);
        assert_eq!(pieces, [Piece::Elements(b"{\"a\":1}"), Piece::Elements(b"{\"b\":2}"), Piece::Elements(b"{\"c\":")]);
    }

    #[test]
    fn junk_comes_to_an_end() {
        for junk in
            ["]]]]]]]]]]", "}}}}{{{{[[[[", "[,,,,,,,,,,", "[}}}}}}}}}}}}", "[\"\\", "\\\\\\\\\\\\\"", "[1 2 3 4 5 6 7"]
        {
            let _ = json_pieces(junk.as_bytes(), 5);
        }
    }
}
