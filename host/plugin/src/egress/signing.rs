//! Signs requests for guests that ask for it by the header `thimble-sign`, so that keys never enter a guest.
//!
//! Owns the header's grammar and the order of what happens to a request. Must never sign before the policy said yes.

use chrono::{DateTime, Utc};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    request::Parts,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    error::EgressError,
    pattern::Target,
    sigv4::{self, Keys, Signable},
};
use crate::secrets::{Form, Secrets};

/// `aws-sigv4; region=eu-west-1; service=s3; access-key=…; secret-key=…; session-token=…`
pub(super) const SIGN_HEADER: &str = "thimble-sign";

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const AMZ_CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A request for a signature, secrets in place.
pub(super) struct SignOrder {
    region: String,
    service: String,
    access_key: SecretString,
    secret_key: SecretString,
    session_token: Option<SecretString>,
}

impl SignOrder {
    /// Reads the header. Errors never quote it.
    pub(super) fn parse(header: &HeaderValue, secrets: &Secrets, target: &Target) -> Result<Self, EgressError> {
        let bad = |reason: &str| EgressError::Signing {
            host: target.to_string(),
            reason: format!("the header {SIGN_HEADER} {reason}"),
        };
        let text = header.to_str().map_err(|_| bad("is not ASCII"))?;
        let mut parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        if parts.next() != Some("aws-sigv4") {
            return Err(bad("names no scheme that is known; aws-sigv4 is"));
        }
        let mut order = Self {
            region: String::new(),
            service: String::new(),
            access_key: SecretString::default(),
            secret_key: SecretString::default(),
            session_token: None,
        };
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| bad("has a part without `=`"))?;
            let value = match secrets.reveal(value.as_bytes(), Form::Raw) {
                Some(value) => String::from_utf8(value).map_err(|_| bad("holds a secret that is not text"))?,
                None => value.to_owned(),
            };
            match name {
                "region" => order.region = value,
                "service" => order.service = value,
                "access-key" => order.access_key = value.into(),
                "secret-key" => order.secret_key = value.into(),
                "session-token" if value.is_empty() => {}
                "session-token" => order.session_token = Some(value.into()),
                _ => return Err(bad("has a part that is not known")),
            }
        }
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !word(&order.region) || !word(&order.service) {
            return Err(bad("lacks a region or a service"));
        }
        if order.access_key.expose_secret().is_empty() || order.secret_key.expose_secret().is_empty() {
            return Err(bad("lacks an access-key or a secret-key"));
        }
        Ok(order)
    }

    /// Signs `parts`, whose URI and headers are final but for what is added here. `body` is absent where it streams.
    pub(super) fn sign(
        &self,
        parts: &mut Parts,
        body: Option<&[u8]>,
        target: &Target,
        at: DateTime<Utc>,
    ) -> Result<(), EgressError> {
        let bad = |reason: &str| EgressError::Signing { host: target.to_string(), reason: reason.to_owned() };
        let payload = match body {
            Some(body) => sigv4::sha256_hex(body),
            None if self.service == "s3" => sigv4::UNSIGNED_PAYLOAD.to_owned(),
            None => {
                return Err(bad("its body is larger than the limit held_body_bytes, and only S3 takes such bodies"));
            }
        };
        let value = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| bad("a key cannot stand in a header"))?;
            value.set_sensitive(true);
            Ok::<_, EgressError>(value)
        };
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(AMZ_TOKEN);
        parts.headers.insert(AMZ_DATE, value(&sigv4::amz_date(at))?);
        parts.headers.insert(AMZ_CONTENT, value(&payload)?);
        if let Some(token) = &self.session_token {
            parts.headers.insert(AMZ_TOKEN, value(token.expose_secret())?);
        }
        self.spell(parts).map_err(|()| bad("its URL cannot be spelt as AWS wants it"))?;
        let request = Signable {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: signed_headers(&parts.headers),
            payload: &payload,
        };
        let keys = Keys {
            region: &self.region,
            service: &self.service,
            access_key: self.access_key.expose_secret(),
            secret_key: self.secret_key.expose_secret(),
        };
        let authorization = value(&sigv4::authorization(&keys, &request, at))?;
        parts.headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// Sends path and query in the spelling that is signed, so that no server can read them otherwise.
    fn spell(&self, parts: &mut Parts) -> Result<(), ()> {
        let path = match self.service.as_str() {
            "s3" => sigv4::sent_path(parts.uri.path()),
            _ => parts.uri.path().to_owned(),
        };
        let spelt = match parts.uri.query() {
            Some(query) => format!("{path}?{}", sigv4::sent_query(query)),
            None => path,
        };
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(spelt.parse().map_err(drop)?);
        parts.uri = Uri::from_parts(uri).map_err(drop)?;
        Ok(())
    }
}

/// Host, content type and everything of AWS's own.
fn signed_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| **name == HOST || **name == CONTENT_TYPE || name.as_str().starts_with("x-amz-"))
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}
