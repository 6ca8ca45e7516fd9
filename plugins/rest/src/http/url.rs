//! Addresses: joined as Python's `urljoin` does, encoded as `requests` does. Pure.

use super::text;
use crate::value::{Map, Value};

/// The parts of an address. A part that is not there is empty.
struct Parts<'a> {
    scheme: String,
    /// With user and port.
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

fn split(url: &str) -> Parts<'_> {
    let (url, fragment) = url.split_once('#').map_or((url, None), |(url, fragment)| (url, Some(fragment)));
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), url),
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return Parts { scheme, authority: None, path: rest, query, fragment };
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Parts { scheme, authority: Some(authority), path, query, fragment }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn unsplit(parts: &Parts<'_>, path: &str) -> String {
    let mut url = String::new();
    if !parts.scheme.is_empty() {
        url.push_str(&parts.scheme);
        url.push(':');
    }
    if let Some(authority) = parts.authority {
        url.push_str("//");
        url.push_str(authority);
        url.push_str(if path.is_empty() || path.starts_with('/') { "" } else { "/" });
    }
    url.push_str(path);
    for (mark, part) in [('?', parts.query), ('#', parts.fragment)] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            url.push(mark);
            url.push_str(part);
        }
    }
    url
}

/// `urljoin(base, url)`.
fn join_reference(base: &str, url: &str) -> String {
    if base.is_empty() || url.is_empty() {
        return if base.is_empty() { url } else { base }.to_owned();
    }
    let (from, mut to) = (split(base), split(url));
    if !to.scheme.is_empty() && to.scheme != from.scheme {
        return url.to_owned();
    }
    to.scheme.clone_from(&from.scheme);
    if to.authority.is_some_and(|authority| !authority.is_empty()) {
        return unsplit(&to, to.path);
    }
    to.authority = from.authority;
    if to.path.is_empty() {
        to.query = to.query.filter(|query| !query.is_empty()).or(from.query);
        return unsplit(&to, from.path);
    }
    let path = join_paths(from.path, to.path);
    unsplit(&to, &path)
}

fn join_paths(base: &str, path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    if !path.starts_with('/') {
        segments.extend(base.split('/'));
        if segments.last().is_some_and(|last| !last.is_empty()) {
            segments.pop();
        }
    }
    segments.extend(path.split('/'));
    // Python drops empty segments in the middle here, and so a double slash of the base as well.
    let last = segments.len() - 1;
    let kept = segments.iter().enumerate().filter(|(at, segment)| *at == 0 || *at == last || !segment.is_empty());
    let segments: Vec<&str> = kept.map(|(_, segment)| *segment).collect();
    let mut resolved: Vec<&str> = Vec::new();
    for segment in &segments {
        match *segment {
            ".." => drop(resolved.pop()),
            "." => {}
            segment => resolved.push(segment),
        }
    }
    if matches!(segments.last(), Some(&"." | &"..")) {
        resolved.push("");
    }
    let joined = resolved.join("/");
    if joined.is_empty() { "/".into() } else { joined }
}

/// A base and a path, with one slash between them; no path leaves the base as it is.
pub fn join(base: &str, path: &str) -> String {
    if path.is_empty() {
        return base.to_owned();
    }
    let base = if base.ends_with('/') { base.to_owned() } else { format!("{base}/") };
    join_reference(&base, path)
}

/// Leaves out the parameters that the address holds already with the same value.
pub fn without_repeated(url: &str, params: Map) -> Map {
    let Some(query) = split(url).query else { return params };
    let mut known: Vec<(String, String)> = Vec::new();
    for (name, value) in query_members(query) {
        if known.iter().all(|(there, _)| *there != name) {
            known.push((name, value));
        }
    }
    let repeated =
        |name: &str, value: &Value| known.iter().any(|(there, held)| there == name && text::text(value) == *held);
    params.into_iter().filter(|(name, value)| !repeated(name, value)).collect()
}

/// Names and values of a query as `parse_qsl` reads them: without those that have no value.
pub fn query_members(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (unquote_plus(name), unquote_plus(value)));
    query.split('&').filter_map(pair).filter(|(_, value)| !value.is_empty()).collect()
}

fn unquote_plus(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let decoded = (bytes[at] == b'%').then(|| hex_byte(bytes.get(at + 1..at + 3)?)).flatten();
        match (decoded, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| digits[0] != b'+')
}

/// The address with its parameters, encoded; `None` where it names no host over HTTP.
pub fn prepare(url: &str, params: &Map) -> Option<String> {
    let url = url.trim_start();
    let parts = split(url);
    if !matches!(parts.scheme.as_str(), "http" | "https") {
        return None;
    }
    let authority = parts.authority.filter(|authority| !authority.is_empty())?;
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    if host.is_empty() || host.starts_with(':') || host.contains(|letter: char| letter <= ' ' || letter == '\u{7f}') {
        return None;
    }
    let path = encode(&without_dots(parts.path), b"/@");
    let own = parts.query.map(|query| encode(query, b"/@?")).unwrap_or_default();
    let added = text::form(params);
    let query = [own, added].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&");
    let mut out = format!("{}://", parts.scheme);
    if !user.is_empty() {
        out.push_str(&encode(user, b""));
        out.push('@');
    }
    out.push_str(&host.to_lowercase());
    out.push_str(if path.is_empty() { "/" } else { &path });
    if !query.is_empty() {
        out.push('?');
        out.push_str(&query);
    }
    Some(unquote_unreserved(&out))
}

/// Encodes what may not stand in this part of an address. Where every `%` begins an encoded byte, those stay.
fn encode(part: &str, also: &[u8]) -> String {
    let bytes = part.as_bytes();
    let encoded = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let is_encoded = bytes.iter().enumerate().all(|(at, byte)| *byte != b'%' || encoded(at));
    let mut out = String::with_capacity(part.len());
    for (at, byte) in bytes.iter().copied().enumerate() {
        let digit_of_code = (1..=2).any(|back| at >= back && bytes[at - back] == b'%' && encoded(at - back));
        match byte {
            b'%' if is_encoded => out.push('%'),
            byte if digit_of_code => out.push(char::from(byte.to_ascii_uppercase())),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            byte if b"._-~!$&'()*+,;=:".contains(&byte) || also.contains(&byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.starts_with('/') && kept.first().is_none_or(|first| !first.is_empty()) {
        kept.insert(0, "");
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    kept.join("/")
}

/// Letters, digits and `-._~` need no encoding, and `requests` takes it off.
fn unquote_unreserved(url: &str) -> String {
    let bytes = url.as_bytes();
    let (mut out, mut copied) = (String::with_capacity(url.len()), 0);
    for (at, _) in url.match_indices('%') {
        let Some(byte) = bytes.get(at + 1..at + 3).and_then(hex_byte) else { continue };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push_str(&url[copied..at]);
            out.push(char::from(byte));
            copied = at + 3;
        }
    }
    out.push_str(&url[copied..]);
    out
}

/// For messages: without user, query and fragment.
pub fn plain(url: &str) -> String {
    let parts = split(url);
    let host = parts.authority.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    unsplit(&Parts { authority: host, query: None, fragment: None, ..split(url) }, parts.path)
}

/// `scheme://host` and the path without a slash at its end, for call rate policies.
pub fn base_and_path(url: &str) -> (String, String) {
    let parts = split(url);
    let base = format!("{}://{}", parts.scheme, parts.authority.unwrap_or_default());
    (base, parts.path.trim_end_matches('/').to_owned())
}

/// The query as it stands.
pub fn query(url: &str) -> &str {
    split(url).query.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(json: &str) -> Map {
        Value::from_json(json.as_bytes()).unwrap().as_map().unwrap().clone()
    }

    #[test]
    fn bases_and_paths_are_joined_as_python_joins_them() {
        for (base, path, joined) in [
            ("https://a.com/api", "items", "https://a.com/api/items"),
            ("https://a.com/api/", "items/", "https://a.com/api/items/"),
            ("https://a.com/api/", "/items", "https://a.com/items"),
            ("https://a.com/api/", "", "https://a.com/api/"),
            ("https://a.com/api", "https://b.com/next?page=2#x", "https://b.com/next?page=2#x"),
            ("https://a.com/api", "../v2/./x/..", "https://a.com/v2/"),
            ("https://a.com//x//y", "z", "https://a.com/x/y/z"),
            ("https://a.com/api", "?page=2", "https://a.com/api/?page=2"),
            ("https://a.com/api?key=1", "x", "https://a.com/x"),
            ("https://a.com", "//b.com/x", "https://b.com/x"),
            ("https://a.com/v1", "reports:run", "reports:run"),
            ("https://a.com/v1", "a/reports:run", "https://a.com/v1/a/reports:run"),
        ] {
            assert_eq!(join(base, path), joined, "{base} and {path}");
        }
    }

    #[test]
    fn parameters_that_the_address_holds_already_are_left_out() {
        let params = map(r#"{"page":2,"q":"a b","other":"x","empty":""}"#);
        let left = without_repeated("https://a.com/?page=2&q=a+b&other=y&empty=", params);
        assert_eq!(Value::map(left).to_json(), r#"{"other":"x","empty":""}"#);
    }

    #[test]
    fn addresses_are_encoded_as_requests_does() {
        for (url, params, expected) in [
            ("https://A.com", "{}", "https://a.com/"),
            (
                "https://a.com/x y/é?q=[1]&r=%7e%2f",
                r#"{"p":"a b"}"#,
                "https://a.com/x%20y/%C3%A9?q=%5B1%5D&r=~%2F&p=a+b",
            ),
            ("https://a.com/100%/%41", "{}", "https://a.com/100%25/%2541"),
            ("https://a.com/a/../b/./c", r#"{"x":null}"#, "https://a.com/b/c"),
            ("https://u:p@a.com:8443/x#frag", "{}", "https://u:p@a.com:8443/x"),
        ] {
            assert_eq!(prepare(url, &map(params)).unwrap(), expected, "{url}");
        }
        for wrong in ["a.com/x", "ftp://a.com", "https://", "https://a b.com/", "/x"] {
            assert_eq!(prepare(wrong, &Map::new()), None, "{wrong}");
        }
    }

    #[test]
    fn messages_show_no_query_and_no_user() {
        assert_eq!(plain("https://user:word@a.com/x?api_key=1#f"), "https://a.com/x");
    }
}
