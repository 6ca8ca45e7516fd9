//! Versions of resources as entity tags (RFC 9110 §8.8.3), and the conditions of a change (§13.1).

use axum::http::{HeaderMap, HeaderName, header};

use crate::Problem;

/// The header that says which version an answer shows.
pub(crate) fn etag(version: i64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

/// The version that a change expects: that of `If-Match`, 0 (it must not exist) for `If-None-Match: *`, none where the
/// client sent no condition.
pub(crate) fn expected(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    if let Some(value) = headers.get(header::IF_NONE_MATCH) {
        return match value.as_bytes() {
            b"*" => Ok(Some(0)),
            _ => Err(Problem::invalid("If-None-Match takes only *: the thing must not exist yet")),
        };
    }
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    version
        .filter(|version| *version > 0)
        .map(Some)
        .ok_or_else(|| Problem::invalid("If-Match takes one entity tag as an earlier answer gave it, such as \"3\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn conditions_are_read_or_refused() {
        let ask = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            expected(&headers).ok()
        };
        assert_eq!(expected(&HeaderMap::new()).unwrap(), None);
        assert_eq!(ask("if-match", "\"3\""), Some(Some(3)));
        assert_eq!(ask("if-none-match", "*"), Some(Some(0)));
        for wrong in ["3", "\"0\"", "\"x\"", "*", "W/\"3\""] {
            assert_eq!(ask("if-match", wrong), None, "{wrong}");
        }
        assert_eq!(ask("if-none-match", "\"3\""), None);
        assert_eq!(etag(3)[0].1, "\"3\"");
    }
}
