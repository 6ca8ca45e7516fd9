//! The error that a source's answer talks about, wherever it keeps it. Pure.

use super::look::ResponseUse;
use crate::value::Value;

/// Members that hold the error, the first that is not empty wins.
const NAMES: [&str; 12] = [
    "message",
    "messages",
    "error",
    "errors",
    "failures",
    "failure",
    "detail",
    "err",
    "error_message",
    "msg",
    "reason",
    "status_message",
];

/// What an answer's body says is wrong; the body itself where it is no JSON.
pub fn error_text(body: &[u8]) -> Option<String> {
    let members = ResponseUse::Members(NAMES.iter().map(|name| (*name).to_owned()).collect());
    match members.read(body) {
        Some(value) => find(&value),
        None => std::str::from_utf8(body).ok().map(str::to_owned),
    }
}

fn find(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::List(items) => Some(items.iter().filter_map(find).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => NAMES.iter().filter_map(|name| map.get(*name)).find(|held| held.truthy()).and_then(find),
        _ => None,
    }
}

/// Shortened to so many letters, on one line.
pub fn shortened(text: &str, letters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(letters) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_found_where_the_reference_finds_it() {
        for (body, expected) in [
            (r#"{"message":"no"}"#, Some("no")),
            (r#"{"message":"","errors":[{"detail":"a"},{"code":1},"b"]}"#, Some("a, b")),
            (r#"{"error":{"error":{"reason":"deep"}},"data":[1]}"#, Some("deep")),
            (r#"[{"msg":"x"},{"msg":"y"}]"#, Some("x, y")),
            (r#"{"error":1,"detail":"unseen"}"#, None),
            (r#"{"code":7}"#, None),
            ("12", None),
            ("Bad Gateway", Some("Bad Gateway")),
        ] {
            assert_eq!(error_text(body.as_bytes()).as_deref(), expected, "{body}");
        }
        assert_eq!(error_text(b"\xff"), None);
    }

    #[test]
    fn long_errors_are_cut_at_a_letter() {
        assert_eq!(shortened("a\n  é bc", 3), "a é…");
        assert_eq!(shortened("short", 5), "short");
    }
}
