//! Building a request, and sending it until it is answered.

use std::time::Duration;

use serde::Serialize;
use url::Url;

use super::order::{CACHE_HEADER, JWT_HEADER, Jwt, PACE_HEADER, Pace, TOKEN_HEADER, Token, encoded};
use super::pending::Pending;
use super::redirect::{MAX_REDIRECTS, redirect};
use super::response::Response;
use super::retry::{self, Verdict};
use super::{Answer, Exchange, wire};
use crate::{Error, Result, clock};

/// How long a connection and the first byte of an answer may take, unless a request says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A request being built. Mistakes in it (a URL that is none) show when it is sent.
#[must_use = "a request does nothing until it is sent"]
#[derive(Clone)]
pub struct Request {
    verb: Verb,
    url: Result<Url>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
    tries: u32,
    accepted: Vec<u16>,
    follow: bool,
}

/// A GET request.
pub fn get(url: impl AsRef<str>) -> Request {
    Request::new(Verb::Get, url)
}

/// A POST request. Like any other it is sent again after a failure: a source only asks. Where the call
/// changes something, use [`Request::tries`] with 1.
pub fn post(url: impl AsRef<str>) -> Request {
    Request::new(Verb::Post, url)
}

impl Request {
    pub fn new(verb: Verb, url: impl AsRef<str>) -> Self {
        Self {
            verb,
            url: parse_url(url.as_ref()),
            headers: vec![("user-agent".to_owned(), concat!("thimble-sdk/", env!("CARGO_PKG_VERSION")).to_owned())],
            body: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            tries: retry::TRIES,
            accepted: Vec::new(),
            follow: true,
        }
    }

    /// Sets a header; an earlier one of the same name goes.
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// Adds a parameter to the URL's query, encoded.
    pub fn query(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        if let Ok(url) = &mut self.url {
            url.query_pairs_mut().append_pair(name, &value.to_string());
        }
        self
    }

    /// `Authorization: Bearer …`; works with a secret's placeholder.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sends a value as a JSON body.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body = body,
            Err(error) => self.url = Err(Error::system(format!("the request body cannot be written as JSON: {error}"))),
        }
        self.header("content-type", "application/json")
    }

    /// Sends bytes as the body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// For each of: connecting, waiting for the first byte, waiting between bytes. Default 60 s; the host's
    /// own limits hold beside it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often to try, the first time included. Default 5.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// Returns an answer with this status from [`Request::send`] instead of an error.
    pub fn accept_status(mut self, status: u16) -> Self {
        self.accepted.push(status);
        self
    }

    /// Returns redirects as answers instead of following them.
    pub fn no_redirects(mut self) -> Self {
        self.follow = false;
        self
    }

    /// Has the host sign the request by AWS Signature Version 4, after everything else is final. Keys may be
    /// placeholders of secrets, so they never enter the connector.
    pub fn aws_sigv4(
        mut self,
        region: &str,
        service: &str,
        access_key: &str,
        secret_key: &str,
        session_token: Option<&str>,
    ) -> Self {
        let parts = [("region", region), ("service", service), ("access-key", access_key), ("secret-key", secret_key)];
        let token = session_token.map(|token| ("session-token", token));
        let mut value = "aws-sigv4".to_owned();
        for (name, part) in parts.into_iter().chain(token) {
            if part.is_empty() || part.contains(|c: char| c == ';' || c.is_control() || c.is_whitespace()) {
                self.url = Err(Error::config(format!(
                    "signing: the {name} is empty or has a character that no key has: check the credentials"
                )));
                return self;
            }
            value.push_str(&format!("; {name}={part}"));
        }
        self.header(SIGN_HEADER, value)
    }

    /// Has the host sign a JSON Web Token and put it in.
    pub fn jwt(self, jwt: &Jwt) -> Self {
        self.header(JWT_HEADER, encoded(jwt))
    }

    /// Has the host get an access token and put it in. Where the source refuses it with 401, the host gets another and
    /// sends the request once more.
    pub fn token(self, token: &Token) -> Self {
        self.header(TOKEN_HEADER, encoded(token))
    }

    /// Has the host send the request when all of these rates allow it. The timeout of the request does not run
    /// meanwhile.
    pub fn pace(self, policies: &[Pace]) -> Self {
        self.header(PACE_HEADER, encoded(&serde_json::json!({ "policies": policies })))
    }

    /// Has the host answer from the cache of the run where an instance asked the same before: GET, or POST with the
    /// same body.
    pub fn cached(self) -> Self {
        self.header(CACHE_HEADER, "run")
    }

    /// Sends the request and follows redirects. Tries again after connection errors and 408, 429 and 5xx, with
    /// growing waits, or as long as `Retry-After` asks. Any status from 400 on is an error unless accepted.
    ///
    /// # Errors
    /// Kind config: wrong URL, 401, 403, 404, 410. Refused: not granted. Transient: still failing after all
    /// tries. System: any other status, or an answer that is not HTTP.
    pub fn send(self) -> Result<Response> {
        let url = self.url.clone()?;
        let mut tries_made = 1;
        loop {
            let result = self.follow(&url);
            let outcome = match &result {
                Ok((answer, _)) if self.accepted.contains(&answer.status) => retry::Outcome::Final,
                Ok((answer, _)) => retry::Outcome::Status { status: answer.status, retry_after: answer.retry_after() },
                Err(error) => retry::Outcome::Failed(error),
            };
            match retry::decide(self.tries, tries_made, &outcome, clock::now(), clock::chance()) {
                Verdict::Wait(wait) => clock::sleep(wait),
                Verdict::Settle { retry_after } => {
                    let (answer, url) = result.map_err(|error| retry::after_tries(error, tries_made))?;
                    let response = Response::new(self.verb, &url, answer);
                    let fine = response.status() < 400 || self.accepted.contains(&response.status());
                    return if fine { Ok(response) } else { Err(response.into_error(tries_made, retry_after)) };
                }
            }
            tries_made += 1;
        }
    }

    /// Sends the request and does not wait: one try, redirects followed, any status an answer.
    ///
    /// # Errors
    /// Kind config: a wrong URL. Refused: not granted.
    pub fn start(self) -> Result<Pending> {
        let exchange = Exchange {
            verb: self.verb,
            url: self.url.clone()?,
            headers: self.headers,
            body: self.body,
            timeout: self.timeout,
        };
        Pending::new(exchange, self.follow)
    }

    /// One try: the request and its redirects.
    fn follow(&self, url: &Url) -> Result<(Answer, Url)> {
        let mut exchange = Exchange {
            verb: self.verb,
            url: url.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            timeout: self.timeout,
        };
        for _ in 0..=MAX_REDIRECTS {
            let answer = wire::exchange(&exchange)?;
            if !self.follow || self.accepted.contains(&answer.status) {
                return Ok((answer, exchange.url));
            }
            match redirect(exchange, answer.status, answer.header("location"))? {
                Ok(next) => exchange = next,
                Err(unchanged) => return Ok((answer, unchanged.url)),
            }
        }
        let host = url.host_str().unwrap_or_default();
        Err(Error::system(format!("{host} redirects more than {MAX_REDIRECTS} times: check the URL")))
    }
}

/// The header by which a request asks the host to sign it; never leaves the host.
const SIGN_HEADER: &str = "thimble-sign";

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn retry_after(&self) -> Option<&str> {
        self.header("retry-after")
    }
}

// Headers may hold credentials, so only the outline is shown.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.as_ref().map(super::response::shown);
        f.debug_struct("Request").field("verb", &self.verb).field("url", &url).finish_non_exhaustive()
    }
}

fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text.trim())
        .map_err(|error| Error::config(format!("`{}` is not a URL ({error}): check the setting", cut(text))))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Error::config(format!("`{}` is not an http:// or https:// URL: check the setting", cut(text))));
    }
    Ok(url)
}

/// Enough of a URL to recognise it; what follows `?` may be secret.
fn cut(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wrong_url_is_a_config_error_at_send() {
        for url in ["", "api.example.com/x", "ftp://a.example/x", "file:///etc/passwd"] {
            let error = get(url).query("a", 1).send().unwrap_err();
            assert_eq!(error.kind, crate::ErrorKind::Config, "{error}");
        }
        assert!(!get("nonsense?token=hunter2").send().unwrap_err().message.contains("hunter2"));
    }

    #[test]
    fn signing_asks_the_host() {
        let request = get("https://b.example/k").aws_sigv4("eu-west-1", "s3", "AK", "SK", Some("T"));
        let value = &request.headers.iter().find(|(name, _)| name == SIGN_HEADER).unwrap().1;
        assert_eq!(value, "aws-sigv4; region=eu-west-1; service=s3; access-key=AK; secret-key=SK; session-token=T");
        assert!(!format!("{request:?}").contains("SK"));
        let error = get("https://b.example/k").aws_sigv4("r", "s3", "AK", "a;b", None).send().unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::Config);
    }

    #[test]
    fn orders_are_headers_that_the_host_reads() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let jwt = Jwt {
            algorithm: "HS256".into(),
            key: "thimble-secret-0".into(),
            key_base64: false,
            headers: Default::default(),
            payload: Default::default(),
            iat_now: true,
            nbf_now: false,
            exp_in_s: Some(60),
            placement: crate::http::Placement::bearer(),
        };
        let paced = Pace { key: "all".into(), limit: 3, window_ms: 1_000 };
        let request = get("https://a.example").jwt(&jwt).pace(&[paced]).cached();
        let header = |name: &str| request.headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
        let order = |name| String::from_utf8(URL_SAFE_NO_PAD.decode(header(name)).unwrap()).unwrap();
        assert_eq!(order(PACE_HEADER), r#"{"policies":[{"key":"all","limit":3,"window_ms":1000}]}"#);
        let placed = r#""placement":{"header":"authorization","prefix":"Bearer ","placeholder":null}}"#;
        assert!(order(JWT_HEADER).ends_with(placed), "{}", order(JWT_HEADER));
        assert_eq!(header(CACHE_HEADER), "run");
    }

    #[test]
    fn a_header_is_set_once() {
        let request = get("https://a.example").header("Accept", "a").header("accept", "b");
        assert_eq!(request.headers.iter().filter(|(name, _)| name == "accept").count(), 1);
    }
}
