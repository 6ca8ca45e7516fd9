//! Who asks: the bearer token and what its holder may see. Only a token's SHA-256 is kept, and compared in constant
//! time.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{ControlSettings, Problem};

/// What a caller may do. Which routes that is stands at each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Installs, grants, connects, schedules, runs.
    Operator,
    /// Looks, and uploads versions of plugins.
    Author,
    /// Everything, tokens and keys included.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Author, Self::Admin];

    /// The word that it is written as.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Author => "author",
            Self::Admin => "admin",
        }
    }
}

/// Whoever asks, once its token was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token, as it stands in the audit log.
    pub actor: String,
    pub role: Role,
    /// Absent: all workspaces.
    pub workspace: Option<String>,
}

impl Caller {
    /// Whether a thing of this workspace exists for the caller.
    pub fn sees(&self, workspace: &str) -> bool {
        self.workspace.as_deref().is_none_or(|own| own == workspace)
    }

    /// As [`Caller::sees`]; a thing without a workspace is seen by callers of all workspaces only.
    pub fn sees_some(&self, workspace: Option<&str>) -> bool {
        workspace.map_or(self.workspace.is_none(), |workspace| self.sees(workspace))
    }

    /// The name that changes are noted under.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The workspace of a thing to be made: the wanted one if it is seen, else the caller's own, else the default.
    pub(crate) fn place(&self, wanted: Option<&str>) -> Result<String, Problem> {
        match wanted {
            Some(wanted) if self.sees(wanted) => Ok(wanted.to_owned()),
            Some(wanted) => Err(Problem::not_found("workspace", wanted)),
            None => Ok(self.workspace.clone().unwrap_or_else(|| thimble_store::DEFAULT_WORKSPACE.to_owned())),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthorized)
    }
}

/// Lets only requests with the token pass, and says who asks.
pub(crate) async fn require_token(
    State(settings): State<ControlSettings>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !authorized(request.headers(), &settings.token_sha256) {
        return Err(Problem::unauthorized());
    }
    let caller = Caller { actor: "api".into(), role: Role::Admin, workspace: None };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
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
