//! The bearer token. Only its SHA-256 is kept, and compared in constant time.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{ControlSettings, Problem};

/// Lets only requests with the token pass.
pub(crate) async fn require_token(
    State(settings): State<ControlSettings>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if authorized(request.headers(), &settings.token_sha256) {
        Ok(next.run(request).await)
    } else {
        Err(Problem::unauthorized())
    }
}

fn authorized(headers: &HeaderMap, token_sha256: &[u8; 32]) -> bool {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return false };
    let digest: [u8; 32] = Sha256::digest(token.trim_start().as_bytes()).into();
    scheme.eq_ignore_ascii_case("bearer") && bool::from(digest.ct_eq(token_sha256))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_token_by_the_bearer_scheme_is_let_in() {
        let digest: [u8; 32] = Sha256::digest(b"open sesame").into();
        let ask = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            authorized(&headers, &digest)
        };
        assert!(ask(&["Bearer open sesame"]));
        assert!(ask(&["bearer open sesame"]));
        for wrong in ["Bearer open sesam", "Bearer open sesame ", "Basic open sesame", "open sesame", "Bearer", ""] {
            assert!(!ask(&[wrong]), "{wrong:?}");
        }
        assert!(!ask(&[]));
        assert!(!ask(&["Bearer open sesame", "Bearer open sesame"]), "two headers are no header");
    }
}
