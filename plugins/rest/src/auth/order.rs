//! Orders to the host: headers that it takes off a request and acts upon, because only it knows the secrets.
//!
//! Placeholders stand for secrets inside of them.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use thimble_sdk::http::Refresh;

use super::token;
use crate::{http::RequestParts, value::Map};

/// Where the token goes: into a header, or where a placeholder of our own stands in the request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placement {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// With the space, if there is to be one.
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
}

impl Placement {
    pub fn header(name: String, prefix: String) -> Self {
        Self { header: Some(name), prefix, placeholder: None }
    }

    /// Where the text of [`placeholder`] for this component stands.
    pub fn placeholder(at: &str) -> Self {
        Self { header: None, prefix: String::new(), placeholder: Some(placeholder(at)) }
    }
}

/// Stands for the token of the component at this place of the manifest, always the same one.
pub fn placeholder(at: &str) -> String {
    format!("thimble-secret-{}", hex::encode(&Sha256::digest(at.as_bytes())[..16]))
}

/// Get a token by this request, keep it until it expires, put it into this header.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenOrder {
    pub request: TokenRequest,
    pub token_path: Vec<String>,
    pub expires_path: Option<Vec<String>>,
    /// `seconds`, or the format of a moment.
    pub expires_format: Option<String>,
    /// How long a token lasts where the answer does not say.
    pub lifetime_s: Option<u64>,
    pub refresh: Option<Refresh>,
    pub initial: Initial,
    pub placement: Placement,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenRequest {
    pub method: String,
    pub url: String,
    pub headers: Map,
    pub body: String,
    pub content_type: String,
    /// A signed token that goes along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtOrder>,
}

/// A token that is there already.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Initial {
    pub token: Option<String>,
    pub expires_at: Option<String>,
}

/// Sign a token with this key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JwtOrder {
    pub algorithm: String,
    pub key: String,
    /// The key is used in Base64.
    pub key_base64: bool,
    pub passphrase: Option<String>,
    pub headers: Map,
    pub payload: Map,
    pub iat_now: bool,
    pub nbf_now: bool,
    pub exp_in_s: Option<i64>,
    pub placement: Placement,
}

impl TokenOrder {
    pub fn parts(&self) -> RequestParts {
        token::header("thimble-token", encoded(self))
    }
}

impl JwtOrder {
    pub fn parts(&self) -> RequestParts {
        token::header("thimble-jwt", encoded(self))
    }
}

/// An order as a header holds it.
pub fn encoded(order: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(order).expect("an order is always JSON"))
}
