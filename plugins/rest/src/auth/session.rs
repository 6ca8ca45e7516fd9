//! `SessionTokenAuthenticator`: a token that a login request gives.

use futures_util::future::LocalBoxFuture;

use super::{Authenticator, at, token, tokens::Kept};
use crate::{
    datetime,
    error::{RestError, Result},
    http::{Outcome, RequestContext, RequestOption, RequestParts, Requester, text},
    interpolation::Template,
    node::Node,
    stream::Env,
    value::Value,
};

pub struct Session {
    env: Env,
    at: String,
    login: Requester,
    path: Vec<String>,
    /// In microseconds; `None` logs in for every request.
    lifetime_us: Option<i64>,
    place: Place,
    key: String,
}

enum Place {
    Bearer,
    Option { option: RequestOption, token: Option<Template> },
}

impl Session {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let login = node.need("login_requester")?;
        let request = node.need("request_authentication")?;
        if let Some(decoder) = node.get("decoder").filter(|decoder| decoder.kind() != "JsonDecoder") {
            return Err(decoder.unknown());
        }
        let place = match request.kind() {
            "Bearer" => Place::Bearer,
            "ApiKey" => Place::Option {
                option: RequestOption::build(&request.need("inject_into")?)?,
                token: token::template(&request, "api_token")?,
            },
            _ => return Err(request.unknown()),
        };
        let path = node.need("session_token_path")?;
        let lifetime = node.get("expiration_duration").filter(|lifetime| lifetime.value.truthy());
        let lifetime = lifetime.map(|lifetime| {
            let parsed = datetime::parse_duration(lifetime.text()?);
            parsed.map_err(|error| lifetime.wrong(error.message))
        });
        Ok(Self {
            env: env.clone(),
            at: node.path.clone(),
            login: Requester::build(&login, &env.of_stream(&format!("{}_login_requester", env.stream)))?,
            path: path.list().iter().map(|step| text::text(step.value)).collect(),
            lifetime_us: lifetime.transpose()?.map(|lifetime| lifetime_us(&lifetime)),
            place,
            // Streams that log in the same way share the token.
            key: format!("{}{}", login.value.to_json(), path.value.to_json()),
        })
    }

    async fn token(&self) -> Result<String> {
        if let Some(token) = self.env.tokens.fresh(&self.key, self.env.wire.now_us()) {
            return Ok(token);
        }
        let wrong = |told: String| RestError::config(told).at(&self.at);
        let answer = match self.login.send(&RequestContext::default()).await? {
            Outcome::Answer(answer) => answer,
            _ => return Err(wrong("the login's answer was ignored, so that there is no token".into())),
        };
        let body = Value::from_json(&answer.body).map_err(|_| wrong("the login answered no JSON".into()))?;
        let token = at(&body, &self.path).filter(|token| !token.is_null()).map(text::text);
        let token = token.ok_or_else(|| {
            wrong(format!("the login answered without `{}`, which is to hold the token", self.path.join(".")))
        })?;
        if let Some(lifetime_us) = self.lifetime_us {
            let expires_us = self.env.wire.now_us().saturating_add(lifetime_us);
            self.env.tokens.keep(&self.key, Kept { token: token.clone(), expires_us, refresh: None });
        }
        Ok(token)
    }
}

/// Months count 30 days.
fn lifetime_us(lifetime: &datetime::Duration) -> i64 {
    lifetime.us.saturating_add(lifetime.months.saturating_mul(30 * 86_400 * 1_000_000))
}

impl Authenticator for Session {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async {
            let session = self.token().await?;
            match &self.place {
                Place::Bearer => Ok(token::header("Authorization", format!("Bearer {session}"))),
                Place::Option { option, token } => {
                    let scope = self.env.scope().with("session_token", Value::str(&session));
                    let token = token.as_ref().map_or(Ok(session), |token| token.text(&scope))?;
                    let mut parts = RequestParts::default();
                    option.inject(&mut parts, Value::str(token), &scope)?;
                    Ok(parts)
                }
            }
        })
    }

    fn invalidate(&self) {
        self.env.tokens.expire(&self.key);
    }
}
