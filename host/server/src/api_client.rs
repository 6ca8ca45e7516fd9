//! A client of the HTTP API, for commands that work on a server.
//!
//! Must never put the token into an error.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::exit::{CliError, Exit};

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Most pages of one list that are read.
const MAX_PAGES: usize = 1_000;

/// A server and the token to ask it with.
pub struct ApiClient {
    client: Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: String,
    token: SecretString,
}

impl ApiClient {
    /// `server` is a URL such as `https://thimble.example.org`.
    pub fn new(server: &str, token: SecretString) -> Self {
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, server: server.trim_end_matches('/').to_owned(), token }
    }

    /// Asks a path below `/api/v1`; `None` where it answers 404 to a GET or DELETE.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, CliError> {
        let may_miss = method == Method::GET || method == Method::DELETE;
        let url = format!("{}/api/v1{path}", self.server);
        let mut token = header::HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| CliError::new(Exit::Usage, "the token holds characters that no header can"))?;
        token.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))
            .map_err(|error| CliError::new(Exit::Usage, format!("{url} cannot be asked: {error}")))?;
        let answer = self.client.request(request).await.map_err(|error| {
            CliError::new(Exit::Transient, format!("no server answers at {}: {error}", self.server))
                .hint("start it with `thimble serve`, or name it with --server or THIMBLE_SERVER")
        })?;
        let status = answer.status();
        let broken = |what: String| CliError::new(Exit::Transient, format!("{url} answered {status}: {what}"));
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let bytes = bytes.map_err(|error| broken(error.to_string()))?.to_bytes();
        if status == StatusCode::NOT_FOUND && may_miss {
            return Ok(None);
        }
        if bytes.is_empty() && status.is_success() {
            return Ok(Some(Value::Null));
        }
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|_| broken("no JSON; is it a Thimble server?".into()))?;
        if status.is_success() {
            return Ok(Some(json));
        }
        let exit = match status.as_u16() {
            401 | 403 => Exit::Refused,
            409 | 412 => Exit::Conflict,
            429 | 500.. => Exit::Transient,
            _ => Exit::Usage,
        };
        let detail = json.get("detail").and_then(Value::as_str).unwrap_or("it does not say why");
        Err(CliError::new(exit, format!("{path}: {detail}")))
    }

    /// All items of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, CliError> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        for _ in 0..MAX_PAGES {
            let page = self.ask(Method::GET, &format!("{path}?limit=1000{cursor}"), None).await?.unwrap_or_default();
            items.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
        Err(CliError::new(Exit::Failed, format!("{path} has more than {MAX_PAGES} pages")))
    }
}
