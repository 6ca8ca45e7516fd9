//! Where a redirect leads, and what may go there. Pure.

use super::{Exchange, Verb};
use crate::{Error, Result};

/// The most redirects of one try.
pub(super) const MAX_REDIRECTS: usize = 10;

/// Headers that may follow to another host. Everything else may hold a credential.
const HARMLESS: [&str; 9] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "range",
    "user-agent",
];

/// The next exchange, or the same one back where the answer is no redirect.
///
/// # Errors
/// Kind system where `Location` is missing or leads nowhere.
pub(super) fn redirect(from: Exchange, status: u16, location: Option<&str>) -> Result<Result<Exchange, Exchange>> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(Err(from));
    }
    let host = from.url.host_str().unwrap_or_default().to_owned();
    let location = location
        .ok_or_else(|| Error::system(format!("{host} answered {status} without saying where to go instead")))?;
    let url = from
        .url
        .join(location)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
        .ok_or_else(|| Error::system(format!("{host} redirects to something that is not an HTTP address")))?;
    let mut next = Exchange { url, ..from.clone() };
    if status == 303 || (matches!(status, 301 | 302) && from.verb == Verb::Post) {
        next.verb = if from.verb == Verb::Head { Verb::Head } else { Verb::Get };
        next.body = Vec::new();
        next.headers.retain(|(name, _)| name != "content-type");
    }
    if !same_party(&from.url, &next.url) {
        next.headers.retain(|(name, _)| HARMLESS.contains(&name.as_str()));
    }
    Ok(Ok(next))
}

/// Whether credentials meant for `from` may go to `to`: the same host and port, and never from TLS to
/// clear text. From port 80 to 443 of the same host is an upgrade.
fn same_party(from: &url::Url, to: &url::Url) -> bool {
    let ports = (from.port_or_known_default(), to.port_or_known_default());
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && ports == (Some(80), Some(443));
    from.host() == to.host() && (upgrade || (from.scheme() == to.scheme() && ports.0 == ports.1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use url::Url;

    fn start(verb: Verb, url: &str) -> Exchange {
        let headers = [("authorization", "Bearer x"), ("x-api-key", "k"), ("thimble-sign", "s"), ("accept", "a")];
        Exchange {
            verb,
            url: Url::parse(url).unwrap(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: b"body".to_vec(),
            timeout: std::time::Duration::from_secs(1),
        }
    }

    fn names(exchange: &Exchange) -> Vec<&str> {
        exchange.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn credentials_stay_with_their_host() {
        for (from, to, kept) in [
            ("https://a.example/x", "/y", true),
            ("http://a.example/x", "https://a.example/x", true),
            ("https://a.example/x", "http://a.example/x", false),
            ("https://a.example/x", "https://b.example/x", false),
            ("https://a.example/x", "https://a.example:8443/x", false),
            ("https://a.example/x", "//sub.a.example/x", false),
        ] {
            let next = redirect(start(Verb::Get, from), 302, Some(to)).unwrap().unwrap();
            let expected: &[&str] =
                if kept { &["authorization", "x-api-key", "thimble-sign", "accept"] } else { &["accept"] };
            assert_eq!(names(&next), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn the_verb_follows_the_status() {
        for (verb, status, expected) in [
            (Verb::Post, 301, Verb::Get),
            (Verb::Post, 302, Verb::Get),
            (Verb::Post, 303, Verb::Get),
            (Verb::Post, 307, Verb::Post),
            (Verb::Post, 308, Verb::Post),
            (Verb::Head, 303, Verb::Head),
            (Verb::Get, 301, Verb::Get),
        ] {
            let next = redirect(start(verb, "https://a.example/x"), status, Some("/y")).unwrap().unwrap();
            assert_eq!(next.verb, expected, "{verb:?} {status}");
            assert_eq!(next.body.is_empty(), verb == Verb::Post && status < 307 || status == 303);
        }
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        for location in [None, Some("mailto:a@b"), Some("file:///etc/passwd"), Some("http://[")] {
            assert!(redirect(start(Verb::Get, "https://a.example"), 302, location).is_err(), "{location:?}");
        }
        assert!(redirect(start(Verb::Get, "https://a.example"), 304, None).unwrap().is_err());
    }
}
