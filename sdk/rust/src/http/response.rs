//! An answer: status, headers, and a body that is read as a stream or whole up to a limit.

use std::io::Read;
use std::time::Duration;

use serde::de::DeserializeOwned;
use url::Url;

use super::{Answer, Verb};
use crate::{Error, ErrorKind, Result};

/// The most bytes that [`Response::bytes`] and [`Response::json`] take.
pub const DEFAULT_BODY_LIMIT: u64 = 64 * 1024 * 1024;
/// How much of an error's body is shown.
const SHOWN_BODY_CHARS: usize = 200;

/// An answer whose body is still to be read.
pub struct Response {
    verb: Verb,
    url: Url,
    answer: Answer,
}

/// The body as a stream. A connection that breaks off shows as an `io::Error` that `?` turns into a
/// transient [`Error`].
pub struct Body(Box<dyn Read>);

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(into)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("url", &shown(&self.url)).field("status", &self.answer.status).finish()
    }
}

impl Response {
    pub(super) fn new(verb: Verb, url: &Url, answer: Answer) -> Self {
        Self { verb, url: url.clone(), answer }
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The address that answered, after redirects.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The first header of this name. `None` where its value is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.answer.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The length that the source announced.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body as a stream, for what does not fit into memory.
    pub fn reader(self) -> Body {
        Body(self.answer.body)
    }

    /// The whole body, at most 64 MiB.
    ///
    /// # Errors
    /// Kind refused over the limit; transient where the connection breaks off.
    pub fn bytes(self) -> Result<Vec<u8>> {
        self.bytes_up_to(DEFAULT_BODY_LIMIT)
    }

    /// The whole body, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Response::bytes`].
    pub fn bytes_up_to(self, limit: u64) -> Result<Vec<u8>> {
        let (what, at) = (self.what(), shown(&self.url));
        // The announced length only sizes the buffer; a lie costs at most a mebibyte.
        let mut bytes = Vec::with_capacity(self.content_length().unwrap_or_default().min(1024 * 1024) as usize);
        let read = self.answer.body.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| {
            let error = Error::from(error);
            // Errors of the wire name the address already.
            if error.message.contains(&at) { error } else { error.context(&what) }
        })?;
        if bytes.len() as u64 > limit {
            return Err(Error::refused(format!(
                "{what}: the answer has more than {limit} bytes: ask for smaller pages"
            )));
        }
        Ok(bytes)
    }

    /// The whole body as JSON, at most 64 MiB.
    ///
    /// # Errors
    /// As [`Response::bytes`]; kind system where it is not JSON of this shape.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let what = self.what();
        let bytes = self.bytes()?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::system(format!("{what}: the answer is not the JSON expected ({error}): {}", snippet(&bytes)))
        })
    }

    /// The whole body as text, invalid UTF-8 replaced, at most 64 MiB.
    ///
    /// # Errors
    /// As [`Response::bytes`].
    pub fn text(self) -> Result<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn what(&self) -> String {
        format!("{} {}", self.verb.as_str(), shown(&self.url))
    }

    /// The error that a status from 400 on stands for.
    pub(super) fn into_error(self, tries: u32, retry_after: Option<Duration>) -> Error {
        let (status, what) = (self.answer.status, self.what());
        let kind = match status {
            401 | 403 | 404 | 410 => ErrorKind::Config,
            408 | 429 | 500..=599 => ErrorKind::Transient,
            _ => ErrorKind::System,
        };
        let mut body = Vec::new();
        // What went wrong matters less here than the status itself.
        let _ = self.answer.body.take(4 * SHOWN_BODY_CHARS as u64).read_to_end(&mut body);
        let mut message = format!("{what} answered {status}{}", hint(status));
        if tries > 1 {
            message.push_str(&format!(" (after {tries} tries)"));
        }
        let body = snippet(&body);
        if !body.is_empty() {
            message.push_str(&format!(": {body}"));
        }
        Error { kind, message, retry_after, status: Some(status) }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        400 => " Bad Request",
        401 => " Unauthorized, check the credentials",
        403 => " Forbidden, check the credentials and what they may read",
        404 => " Not Found, check the URL",
        410 => " Gone, check the URL",
        429 => " Too Many Requests",
        500 => " Internal Server Error",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    }
}

/// A URL without what may be secret in it: user, password, query, fragment.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// The start of a body on one line.
fn snippet(body: &[u8]) -> String {
    let start = &body[..body.len().min(4 * SHOWN_BODY_CHARS)];
    let text = String::from_utf8_lossy(start);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(SHOWN_BODY_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn response(status: u16, body: &'static str) -> Response {
        let url = Url::parse("https://user:pw@a.example:8443/x/y?token=hunter2#f").unwrap();
        let body: Box<dyn Read> = Box::new(body.as_bytes());
        Response::new(Verb::Get, &url, Answer { status, headers: vec![("etag".into(), "e".into())], body })
    }

    #[test]
    fn errors_say_what_to_do_and_keep_secrets() {
        let error = response(404, "<h1>no\n\t such   thing</h1>").into_error(1, None);
        assert_eq!(
            error.message,
            "GET https://a.example:8443/x/y answered 404 Not Found, check the URL: <h1>no such thing</h1>"
        );
        assert_eq!((error.kind, error.status), (ErrorKind::Config, Some(404)));
        let error = response(503, "").into_error(5, Some(Duration::from_secs(9)));
        assert_eq!(error.message, "GET https://a.example:8443/x/y answered 503 Service Unavailable (after 5 tries)");
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Transient, Some(Duration::from_secs(9))));
        assert_eq!(response(422, "").into_error(1, None).kind, ErrorKind::System);
        assert!(!format!("{:?}", response(200, "")).contains("hunter2"));
    }

    #[test]
    fn bodies_have_a_limit() {
        assert_eq!(response(200, "12345").bytes_up_to(5).unwrap(), b"12345");
        let error = response(200, "123456").bytes_up_to(5).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert_eq!(response(200, "1").header("ETag"), Some("e"));
    }

    #[test]
    fn json_errors_show_the_start_of_the_body() {
        let error = response(200, "<html>login</html>").json::<u32>().unwrap_err();
        assert!(error.message.ends_with("<html>login</html>"), "{error}");
        assert_eq!(response(200, "7").json::<u32>().unwrap(), 7);
    }
}
