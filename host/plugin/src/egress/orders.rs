//! What guests ask of the host by headers that begin with `thimble-`: read, checked, and taken out of the request.
//!
//! Owns the grammar that the orders share. Must never reveal a secret here, nor let an order leave the host.

use std::sync::Arc;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_LENGTH, HOST},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    error::EgressError,
    jwt::JwtOrder,
    limits::EgressLimits,
    pace::PacePolicy,
    pattern::Target,
    prepare::HOP_HEADERS,
    signing::{SIGN_HEADER, SignOrder},
    token::TokenOrder,
};
use crate::secrets::{Secrets, is_placeholder};

/// Headers with this prefix are orders to the host.
pub(super) const ORDER_PREFIX: &str = "thimble-";
pub(super) const JWT_HEADER: &str = "thimble-jwt";
pub(super) const TOKEN_HEADER: &str = "thimble-token";
pub(super) const PACE_HEADER: &str = "thimble-pace";
pub(super) const CACHE_HEADER: &str = "thimble-cache";

/// base64url, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The orders of one request.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) sign: Option<SignOrder>,
    pub(super) jwt: Option<JwtOrder>,
    pub(super) token: Option<Arc<TokenOrder>>,
    pub(super) pace: Vec<PacePolicy>,
    /// Answered from the cache of the run where it holds the answer.
    pub(super) cached: bool,
}

/// What a guest lists in `thimble-pace`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policies {
    policies: Vec<PacePolicy>,
}

impl Orders {
    /// Takes the orders out of the headers. Call it for requests that the policy allowed.
    pub(super) fn take(
        headers: &mut HeaderMap,
        secrets: &Secrets,
        target: &Target,
        limits: &EgressLimits,
    ) -> Result<Self, EgressError> {
        let mut orders = Self::default();
        if let Some(header) = headers.get(SIGN_HEADER) {
            orders.sign = Some(SignOrder::parse(header, secrets, target)?);
        }
        if let Some(order) = decode::<JwtOrder>(headers, JWT_HEADER, target)? {
            order.placement.check().map_err(|reason| bad(target, JWT_HEADER, reason))?;
            orders.jwt = Some(order);
        }
        if let Some(order) = decode::<TokenOrder>(headers, TOKEN_HEADER, target)? {
            order.check().map_err(|reason| bad(target, TOKEN_HEADER, reason))?;
            orders.token = Some(Arc::new(order));
        }
        if let Some(Policies { policies }) = decode(headers, PACE_HEADER, target)? {
            PacePolicy::check(&policies, target, limits)?;
            orders.pace = policies;
        }
        orders.cached = match headers.get(CACHE_HEADER).map(|value| value.as_bytes()) {
            None => false,
            Some(b"run") => true,
            Some(_) => return Err(bad(target, CACHE_HEADER, "names no cache that is known; `run` is")),
        };
        strip(headers);
        Ok(orders)
    }
}

/// Takes out all headers that are orders, known or not.
pub(super) fn strip(headers: &mut HeaderMap) {
    let orders: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(ORDER_PREFIX)).cloned().collect();
    for order in orders {
        headers.remove(order);
    }
}

/// The JSON of an order. Errors name the place, and may quote what the guest wrote: no secret stands there yet.
fn decode<T: DeserializeOwned>(
    headers: &HeaderMap,
    name: &'static str,
    target: &Target,
) -> Result<Option<T>, EgressError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(target, name, "stands twice in one request"));
    }
    let json = BASE64.decode(value.as_bytes()).map_err(|_| bad(target, name, "is not base64url"))?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| bad(target, name, format!("is not as it should be: {error}")))
}

fn bad(target: &Target, header: &'static str, reason: impl Into<String>) -> EgressError {
    EgressError::Order { host: target.to_string(), header, reason: reason.into() }
}

/// Where a token goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placement {
    /// Into this header, behind `prefix`.
    #[serde(default)]
    pub(super) header: Option<String>,
    #[serde(default)]
    pub(super) prefix: String,
    /// Wherever this text stands in URL, headers or body, spelt as secrets are there. It looks like a placeholder of
    /// a secret and is the guest's own choice.
    #[serde(default)]
    pub(super) placeholder: Option<String>,
}

impl Placement {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.header.is_none() && self.placeholder.is_none() {
            return Err("has a placement without header and placeholder");
        }
        if self.placeholder.as_deref().is_some_and(|placeholder| !is_placeholder(placeholder)) {
            return Err("has a placeholder that is not `thimble-secret-` with 32 hexadecimal digits");
        }
        match self.header_name() {
            Some(Err(())) => Err("is to be placed into a header that guests cannot set"),
            _ => Ok(()),
        }
    }

    /// The header, where there is one; an error where it is none that may be set.
    pub(super) fn header_name(&self) -> Option<Result<HeaderName, ()>> {
        let name: Result<HeaderName, _> = self.header.as_ref()?.parse();
        Some(match name {
            Ok(name) if name == HOST || name == CONTENT_LENGTH || HOP_HEADERS.contains(&name) => Err(()),
            Ok(name) if name.as_str().starts_with(ORDER_PREFIX) => Err(()),
            other => other.map_err(drop),
        })
    }
}
