//! What a request may ask of the host: tokens, signatures, turns. The host takes the order off the request.
//!
//! Texts of an order may hold placeholders of secrets, so that keys and tokens never enter the connector. Owns the
//! spelling of orders. Must never hold a token: the host keeps them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};

pub(super) const JWT_HEADER: &str = "thimble-jwt";
pub(super) const TOKEN_HEADER: &str = "thimble-token";
pub(super) const PACE_HEADER: &str = "thimble-pace";
pub(super) const CACHE_HEADER: &str = "thimble-cache";

/// Where the host puts a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// Into this header, behind `prefix`.
    pub header: Option<String>,
    pub prefix: String,
    /// Wherever this text stands in URL, headers or body: `thimble-secret-` and 32 hexadecimal digits, always the same.
    pub placeholder: Option<String>,
}

impl Placement {
    /// `Authorization: Bearer …`.
    pub fn bearer() -> Self {
        Self { header: Some("authorization".into()), prefix: "Bearer ".into(), placeholder: None }
    }

    /// Wherever `placeholder` stands.
    pub fn at(placeholder: impl Into<String>) -> Self {
        Self { header: None, prefix: String::new(), placeholder: Some(placeholder.into()) }
    }
}

/// A JSON Web Token that the host signs.
#[derive(Clone, Serialize)]
pub struct Jwt {
    /// HS256, RS256, PS256, ES256 and their longer ones, or EdDSA.
    pub algorithm: String,
    /// A shared text, or a private key in PEM.
    pub key: String,
    /// Whether the base64 of the shared text is the key.
    pub key_base64: bool,
    pub headers: Map<String, Value>,
    pub payload: Map<String, Value>,
    /// Whether the claims `iat` and `nbf` say when it was made.
    pub iat_now: bool,
    pub nbf_now: bool,
    /// The claim `exp`, in seconds from when it was made. The host uses the token again while it is good.
    pub exp_in_s: Option<u64>,
    pub placement: Placement,
}

/// An access token that the host gets by a request, keeps while it is good, and gets anew where it is refused.
#[derive(Clone, Serialize)]
pub struct Token {
    pub request: TokenRequest,
    /// Where the answer, a JSON object, holds the token; a single name is looked for below too.
    pub token_path: Vec<String>,
    pub expires_path: Option<Vec<String>>,
    /// `seconds`, or the format of a date.
    pub expires_format: Option<String>,
    /// How long a token is good whose answer does not say.
    pub lifetime_s: Option<u64>,
    pub refresh: Option<Refresh>,
    /// One that the configuration holds already.
    pub initial: Option<Initial>,
    pub placement: Placement,
}

/// The request that is answered with a token. Its host must be granted as any other.
#[derive(Clone, Serialize)]
pub struct TokenRequest {
    pub method: String,
    pub url: String,
    pub headers: Map<String, Value>,
    pub body: String,
    pub content_type: String,
    /// A token that goes into this request, as the assertion of a service account does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
}

/// A refresh token that every use replaces: where the answer holds the new one, and the settings (`auth.refresh_token`)
/// that the host keeps it in before it uses the access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refresh {
    pub path: Vec<String>,
    pub setting: String,
    pub access_setting: Option<String>,
    pub expiry_setting: Option<String>,
}

/// A token of the configuration.
#[derive(Clone, Serialize)]
pub struct Initial {
    pub token: Option<String>,
    pub expires_at: Option<String>,
}

/// At most `limit` requests in any `window_ms`, over all connectors of the host that name the same key with the same
/// credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pace {
    pub key: String,
    pub limit: u64,
    pub window_ms: u64,
}

/// An order as its header holds it.
pub(super) fn encoded(order: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(order).expect("orders are plain data, which always serializes"))
}
