//! AWS Signature Version 4, for services that authenticate by it (S3 and its many look-alikes among them).
//!
//! Owns the signature as a pure function of request, keys and time. Must never keep a key longer than one request.
//! Source: "Create a signed AWS API request", AWS IAM User Guide; "Signature Calculations for the Authorization
//! Header", Amazon S3 API Reference.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::secrets::percent;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Stands for the digest of a body that streams; S3 knows it, other services do not.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Whose signature, and for what.
pub(super) struct Keys<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) access_key: &'a str,
    pub(super) secret_key: &'a str,
}

/// What is signed. `path` and `query` are as they are sent; `headers` are the ones to sign, with lower-case names.
pub(super) struct Signable<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: Vec<(String, String)>,
    /// Lower-case hexadecimal SHA-256 of the body, or [`UNSIGNED_PAYLOAD`].
    pub(super) payload: &'a str,
}

/// `x-amz-date` of an instant.
pub(super) fn amz_date(at: DateTime<Utc>) -> String {
    at.format("%Y%m%dT%H%M%SZ").to_string()
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The value of the `Authorization` header.
pub(super) fn authorization(keys: &Keys<'_>, request: &Signable<'_>, at: DateTime<Utc>) -> String {
    let canonical = canonical_request(keys.service, request);
    let scope = format!("{}/{}/{}/aws4_request", at.format("%Y%m%d"), keys.region, keys.service);
    let to_sign = string_to_sign(&canonical, &scope, at);
    let signature = hex::encode(hmac(&signing_key(keys, at), to_sign.as_bytes()));
    let (_, signed) = canonical_headers(&request.headers);
    format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}", keys.access_key)
}

fn string_to_sign(canonical: &str, scope: &str, at: DateTime<Utc>) -> String {
    format!("{ALGORITHM}\n{}\n{scope}\n{}", amz_date(at), sha256_hex(canonical.as_bytes()))
}

fn signing_key(keys: &Keys<'_>, at: DateTime<Utc>) -> [u8; 32] {
    let first = format!("AWS4{}", keys.secret_key);
    let date = hmac(first.as_bytes(), at.format("%Y%m%d").to_string().as_bytes());
    let region = hmac(&date, keys.region.as_bytes());
    let service = hmac(&region, keys.service.as_bytes());
    hmac(&service, b"aws4_request")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

pub(super) fn canonical_request(service: &str, request: &Signable<'_>) -> String {
    let (headers, signed) = canonical_headers(&request.headers);
    format!(
        "{}\n{}\n{}\n{headers}\n{signed}\n{}",
        request.method,
        canonical_path(service, request.path),
        canonical_query(request.query),
        request.payload
    )
}

/// Header lines in order, and their names joined by `;`.
fn canonical_headers(headers: &[(String, String)]) -> (String, String) {
    let mut merged: Vec<(&str, String)> = Vec::new();
    let mut sorted: Vec<&(String, String)> = headers.iter().collect();
    // Stable: equal names keep the order of their values.
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in sorted {
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        match merged.last_mut() {
            Some((last, values)) if *last == name => {
                values.push(',');
                values.push_str(&value);
            }
            _ => merged.push((name, value)),
        }
    }
    let lines = merged.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = merged.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    (lines, names)
}

/// S3 encodes each segment of an object's key once and normalizes nothing. Every other service removes dot segments
/// and empty ones and encodes what is sent once more.
pub(super) fn canonical_path(service: &str, path: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    if service == "s3" {
        return sent_path(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut canonical = String::from("/");
    canonical.push_str(&kept.iter().map(|segment| percent(segment)).collect::<Vec<_>>().join("/"));
    if !kept.is_empty() && (path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..")) {
        canonical.push('/');
    }
    canonical
}

/// `path` with every segment decoded and encoded again in the one way that AWS does it.
pub(super) fn sent_path(path: &str) -> String {
    path.split('/').map(|segment| encoded(segment, false)).collect::<Vec<_>>().join("/")
}

/// `query` with every name and value decoded and encoded again in the one way that AWS does it, in the same order.
/// A plus sign is a space, as forms write it and as S3 reads it.
pub(super) fn sent_query(query: &str) -> String {
    pairs(query).iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn canonical_query(query: &str) -> String {
    let mut pairs = pairs(query);
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name, true), encoded(value, true)))
        .collect()
}

/// Percent-decodes and encodes again. Bytes that are not UTF-8 keep their values.
fn encoded(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let byte = match hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(hex) => {
                at += 3;
                u8::from_str_radix(hex, 16).unwrap_or(b'%')
            }
            None => {
                at += 1;
                if plus_is_space && bytes[at - 1] == b'+' { b' ' } else { bytes[at - 1] }
            }
        };
        push_encoded(&mut out, byte);
    }
    out
}

fn push_encoded(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}
