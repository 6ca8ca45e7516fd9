//! Who asks: the bearer token and what its holder may see.
//!
//! A token is looked up by its keyed digest, so that neither the database nor the time of an answer tells anything
//! of it. Must never keep or log a token.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, Serialize};
use thimble_store::TokenRow;

use crate::{
    ControlSettings, Problem,
    limits::{FAILED_LOGIN_BURST, TOUCH_AFTER},
    rate::Rate,
    secret_token::{is_plausible, token_digest},
};

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

    /// The role of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

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
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::unauthorized("nobody asks"))
    }
}

/// Where a request comes from; put into every request by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What the check of tokens remembers between requests.
#[derive(Clone)]
pub(crate) struct Gate {
    settings: ControlSettings,
    memory: Arc<Memory>,
}

struct Memory {
    requests: Rate<String>,
    failures: Rate<IpAddr>,
    /// When the use of a token was last noted.
    noted: Mutex<HashMap<String, i64>>,
}

impl Gate {
    pub(crate) fn new(settings: ControlSettings) -> Self {
        let limits = &settings.limits;
        let minute = Duration::from_secs(60);
        let memory = Memory {
            requests: Rate::new(limits.request_burst, limits.requests_per_second, Duration::from_secs(1)),
            failures: Rate::new(FAILED_LOGIN_BURST, limits.failed_logins_per_minute, minute),
            noted: Mutex::default(),
        };
        Self { settings, memory: Arc::new(memory) }
    }

    pub(crate) fn settings(&self) -> &ControlSettings {
        &self.settings
    }

    /// The token of a request, if it is one that is accepted now.
    async fn accept(&self, headers: &HeaderMap, now_ms: i64) -> Result<TokenRow, Problem> {
        let Some(token) = bearer(headers).filter(|token| is_plausible(token)) else {
            return Err(Problem::unauthorized("the token is missing or mistyped"));
        };
        let digest = token_digest(&self.settings.keys, token);
        match self.settings.store.token_by_digest(&digest).await? {
            None => Err(Problem::unauthorized("the token is not known")),
            Some(row) if row.revoked_at.is_some() => Err(Problem::unauthorized("the token was revoked")),
            Some(row) if !row.is_live(now_ms) => Err(Problem::unauthorized("the token has expired")),
            Some(row) => Ok(row),
        }
    }

    /// Notes the use of a token, once a minute.
    async fn note(&self, token: &TokenRow, now_ms: i64) {
        let due = |last: i64| now_ms.saturating_sub(last) >= TOUCH_AFTER.as_millis() as i64;
        if !due(token.last_used_at.unwrap_or(0)) {
            return;
        }
        {
            // Requests that come together must not all write.
            let mut noted = self.memory.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.retain(|_, last| !due(*last));
            if noted.insert(token.id.clone(), now_ms).is_some() {
                return;
            }
        }
        if let Err(error) = self.settings.store.touch_token(&token.id, now_ms).await {
            tracing::warn!(error = %error.failure(), "the use of a token cannot be noted");
        }
    }
}

/// Lets only requests with a live token pass, and says who asks.
pub(crate) async fn require_token(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let now_ms = gate.settings.now_ms();
    let token = match gate.accept(request.headers(), now_ms).await {
        Ok(token) => token,
        Err(problem) if problem.is_unauthorized() => {
            let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
            // Who has a good token is let in whatever others at the same address do.
            gate.memory.failures.take(peer, now_ms).map_err(Problem::too_many_failures)?;
            return Err(problem);
        }
        Err(problem) => return Err(problem),
    };
    gate.memory.requests.take(token.id.clone(), now_ms).map_err(Problem::too_many_requests)?;
    gate.note(&token, now_ms).await;
    let Some(role) = Role::of_word(&token.role) else {
        return Err(Problem::forbidden(format!("the token has the role {:?}, which this version lacks", token.role)));
    };
    request.extensions_mut().insert(Caller { actor: token.name, role, workspace: token.workspace });
    Ok(next.run(request).await)
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_one_header_of_the_bearer_scheme_is_read() {
        let ask = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(ask(&["Bearer open sesame"]).as_deref(), Some("open sesame"));
        assert_eq!(ask(&["bearer open sesame"]).as_deref(), Some("open sesame"));
        for wrong in ["Basic open sesame", "open sesame", "Bearer", ""] {
            assert_eq!(ask(&[wrong]), None, "{wrong:?}");
        }
        assert_eq!(ask(&[]), None);
        assert_eq!(ask(&["Bearer open sesame", "Bearer open sesame"]), None, "two headers are no header");
    }
}
