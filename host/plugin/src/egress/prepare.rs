//! From the request of a guest to the request that leaves: host, headers, secrets.
//!
//! Owns what a guest may say in a request. Must never put a secret in before the policy said yes.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use super::{
    error::EgressError,
    limits::EgressLimits,
    pattern::{Target, shown},
    policy::Policy,
    signing::{SIGN_HEADER, SignOrder},
};
use crate::secrets::{Form, Secrets};

/// Headers with this prefix are orders to the host.
pub(super) const ORDER_PREFIX: &str = "thimble-";

/// Headers that concern one connection only; the host makes its own.
pub(super) const HOP_HEADERS: [HeaderName; 10] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("http2-settings"),
];

/// Where a request goes, in canonical spelling, and whether by TLS.
pub(super) fn target(uri: &Uri) -> Result<(Target, bool), EgressError> {
    let given = || shown(uri.authority().map_or("", |authority| authority.host()));
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(_) => return Err(EgressError::BadHost { given: given(), reason: "the scheme is neither http nor https" }),
        None => return Err(EgressError::BadHost { given: given(), reason: "the URL has no scheme" }),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    Ok((Target::of_authority(authority, if secure { 443 } else { 80 })?, secure))
}

/// A request that passed the policy, with its secrets in place but for those of its body.
pub(super) struct Prepared<B> {
    pub(super) parts: Parts,
    pub(super) body: B,
    pub(super) target: Target,
    pub(super) sign: Option<SignOrder>,
    /// How secrets are spelt in the body.
    pub(super) body_form: Form,
}

/// Checks a request against policy and limits and makes it what may leave.
pub(super) fn prepare<B>(
    request: Request<B>,
    policy: &Policy,
    limits: &EgressLimits,
    secrets: &Secrets,
) -> Result<Prepared<B>, EgressError> {
    let (mut parts, body) = request.into_parts();
    let (target, secure) = target(&parts.uri)?;
    policy.check_target(&target)?;
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let reason = format!("the method {} is never sent", parts.method);
        return Err(EgressError::BadRequest { host: target.to_string(), reason });
    }
    if header_bytes(&parts.headers) + parts.uri.path_and_query().map_or(0, |path| path.as_str().len())
        > limits.header_bytes
    {
        return Err(EgressError::Limit {
            host: target.to_string(),
            what: "request's headers",
            limit: "header_bytes",
            allowed: limits.header_bytes as u64,
        });
    }
    strip_hop_headers(&mut parts.headers);
    parts.headers.remove(HOST);
    check_length(&parts.headers, &target)?;
    let sign = match parts.headers.get(SIGN_HEADER) {
        Some(header) => Some(SignOrder::parse(header, secrets, &target)?),
        None => None,
    };
    let orders: Vec<HeaderName> =
        parts.headers.keys().filter(|name| name.as_str().starts_with(ORDER_PREFIX)).cloned().collect();
    for order in orders {
        parts.headers.remove(order);
    }
    reveal_headers(&mut parts.headers, secrets)?;
    let host = authority(&target, secure);
    parts.uri = final_uri(&parts.uri, &host, secure, secrets, &target)?;
    let host = HeaderValue::from_str(&host).expect("a canonical host is ASCII");
    // First, as some servers want it.
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 8);
    headers.insert(HOST, host);
    headers.extend(std::mem::take(&mut parts.headers));
    parts.headers = headers;
    let body_form = body_form(&parts.headers);
    Ok(Prepared { parts, body, target, sign, body_form })
}

/// Bytes of names and values, with the four that separate them.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Removes the headers of one hop, also those that `connection` names.
pub(super) fn strip_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What frames the body is not the guest's to remove.
        .filter(|name| *name != CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&HOP_HEADERS) {
        headers.remove(name);
    }
}

fn check_length(headers: &HeaderMap, target: &Target) -> Result<(), EgressError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if digits && lengths.next().is_none() && declared_length(headers).is_some() {
        return Ok(());
    }
    Err(EgressError::BadRequest { host: target.to_string(), reason: "its content-length is not one number".into() })
}

/// `content-length` as a number.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `host`, or `host:port` where the port is not the scheme's own.
fn authority(target: &Target, secure: bool) -> String {
    if target.port == if secure { 443 } else { 80 } { target.host.to_string() } else { target.to_string() }
}

fn final_uri(uri: &Uri, authority: &str, secure: bool, secrets: &Secrets, target: &Target) -> Result<Uri, EgressError> {
    let asked = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let bad = || EgressError::BadRequest { host: target.to_string(), reason: "its URL is not valid".into() };
    let path = match secrets.reveal(asked.as_str().as_bytes(), Form::Percent) {
        Some(revealed) => PathAndQuery::try_from(revealed).map_err(|_| bad())?,
        None => asked,
    };
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().map_err(|_| bad())
}

fn reveal_headers(headers: &mut HeaderMap, secrets: &Secrets) -> Result<(), EgressError> {
    if secrets.is_empty() {
        return Ok(());
    }
    for value in headers.values_mut() {
        let Some((revealed, setting)) = revealed_value(value.as_bytes(), secrets) else { continue };
        let mut new = HeaderValue::from_bytes(&revealed).map_err(|_| EgressError::Secret {
            setting,
            reason: "its value cannot stand in a header, perhaps because of a line feed",
        })?;
        new.set_sensitive(true);
        *value = new;
    }
    Ok(())
}

/// A header's value with its secrets, also inside the base64 of `Basic`, and the setting that the first came from.
fn revealed_value(value: &[u8], secrets: &Secrets) -> Option<(Vec<u8>, String)> {
    let name = |text: &[u8]| secrets.setting_in(text).unwrap_or_default().to_owned();
    if let Some(revealed) = secrets.reveal(value, Form::Raw) {
        return Some((revealed, name(value)));
    }
    let (scheme, credentials) = value.split_at_checked("basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let revealed = secrets.reveal(&plain, Form::Raw)?;
    Some((format!("Basic {}", STANDARD.encode(revealed)).into_bytes(), name(&plain)))
}

fn body_form(headers: &HeaderMap) -> Form {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => Form::Percent,
        kind if kind.ends_with("json") => Form::Json,
        _ => Form::Raw,
    }
}
