//! Signatures of webhooks and hooks, by the symmetric scheme of Standard Webhooks.
//!
//! The receiver gets `webhook-id`, `webhook-timestamp` (seconds since the epoch) and `webhook-signature`: `v1,` and
//! the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`, under the key that stands as base64 after `whsec_`.
//!
//! In Python, a receiver checks:
//! ```python
//! key = base64.b64decode(secret.removeprefix("whsec_"))
//! signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
//! expected = "v1," + base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
//! genuine = any(hmac.compare_digest(expected, one) for one in headers["webhook-signature"].split(" "))
//! recent = abs(time.time() - int(headers["webhook-timestamp"])) < 300
//! ```

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How far a receiver's clock may be off, in seconds.
pub const TOLERANCE: i64 = 300;

const PREFIX: &str = "whsec_";
const MIN_BYTES: usize = 24;
const MAX_BYTES: usize = 64;
/// Signatures of one header that are looked at.
const MAX_SIGNATURES: usize = 16;

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "a signing key is `whsec_` and the base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    Key,
    #[error("the timestamp is more than {TOLERANCE} seconds off")]
    Timestamp,
    #[error("no signature fits the body")]
    Mismatch,
}

/// The key of a receiver. Shows nothing.
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl SigningKey {
    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SignatureError::Key)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| SignatureError::Key)?);
        if !(MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            return Err(SignatureError::Key);
        }
        Ok(Self(bytes))
    }

    fn mac(&self, id: &str, seconds: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        mac
    }

    /// The three headers of a message that is sent at `seconds` since the epoch.
    pub fn headers(&self, id: &str, seconds: i64, body: &[u8]) -> [(&'static str, String); 3] {
        let signature = STANDARD.encode(self.mac(id, seconds, body).finalize().into_bytes());
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", format!("v1,{signature}")),
        ]
    }
}

/// Whether one of the space-separated `signatures` is genuine and recent; compares in constant time.
///
/// ```
/// use thimble_control::notify::{SigningKey, verify};
/// let key = SigningKey::parse("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz").unwrap();
/// let [(_, id), (_, seconds), (_, signature)] = key.headers("msg_1", 1_700_000_000, b"{}");
/// assert!(verify(&key, &id, &seconds, &signature, b"{}", 1_700_000_010).is_ok());
/// assert!(verify(&key, &id, &seconds, &signature, b"{ }", 1_700_000_010).is_err());
/// ```
pub fn verify(
    key: &SigningKey,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now_seconds: i64,
) -> Result<(), SignatureError> {
    let seconds: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
    if now_seconds.abs_diff(seconds) > TOLERANCE.unsigned_abs() {
        return Err(SignatureError::Timestamp);
    }
    let genuine = signatures.split(' ').take(MAX_SIGNATURES).any(|signature| {
        let given = signature.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
        given.is_some_and(|given| key.mac(id, seconds, body).verify_slice(&given).is_ok())
    });
    if genuine { Ok(()) } else { Err(SignatureError::Mismatch) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of the Standard Webhooks reference libraries.
    #[test]
    fn the_published_example_is_met() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = key.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_change_is_noticed() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let other = SigningKey::parse("whsec_AAKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.headers("id", 1_000, b"body")[2].1.clone();
        let ask =
            |key: &SigningKey, id, at, signatures: &str, body: &[u8], now| verify(key, id, at, signatures, body, now);
        assert_eq!(ask(&key, "id", "1000", &signature, b"body", 1_300), Ok(()));
        assert_eq!(ask(&key, "id", "1000", &format!("v1,AAAA v2,x {signature}"), b"body", 700), Ok(()));
        assert_eq!(ask(&key, "id", "1000", &signature, b"body", 1_301), Err(SignatureError::Timestamp));
        assert_eq!(ask(&key, "id", "soon", &signature, b"body", 1_000), Err(SignatureError::Timestamp));
        for (key, id, at, body) in [
            (&other, "id", "1000", b"body"),
            (&key, "di", "1000", b"body"),
            (&key, "id", "1001", b"body"),
            (&key, "id", "1000", b"Body"),
        ] {
            assert_eq!(ask(key, id, at, &signature, body, 1_000), Err(SignatureError::Mismatch));
        }
        let many = format!("{}{signature}", "v1,AAAA ".repeat(MAX_SIGNATURES));
        assert_eq!(ask(&key, "id", "1000", &many, b"body", 1_000), Err(SignatureError::Mismatch));
    }

    #[test]
    fn keys_are_of_the_one_form() {
        let of = |bytes: usize| SigningKey::parse(&format!("whsec_{}", STANDARD.encode(vec![7; bytes]))).is_ok();
        assert_eq!([of(23), of(24), of(64), of(65)], [false, true, true, false]);
        for wrong in ["", "whsec_", "whsec_***", "secret"] {
            assert!(SigningKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
