//! The way of one request through what the host does for it: orders, the cache of the run, tokens, a second try after
//! a token was refused.
//!
//! Must never carry out an order of a request that the policy does not allow.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use secrecy::{ExposeSecret, SecretString};

use super::{
    answers::{self, Cell},
    body::{Activity, GuestBody, Payload, ResponseBody},
    error::EgressError,
    http::{HttpClient, Means},
    kept::{self, Key},
    orders::{Orders, Placement},
    pattern::Target,
    prepare::Admitted,
};

/// A request on its way, orders taken out.
struct Asking {
    admitted: Admitted,
    parts: Parts,
    payload: Payload,
    orders: Orders,
    patience: Option<Duration>,
}

impl HttpClient {
    /// Sends a request of a guest and waits for the headers of its answer; for no longer than `patience` once it is
    /// its turn.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<GuestBody>,
        patience: Option<Duration>,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let (mut parts, body) = request.into_parts();
        let admitted = self.admit(&parts)?;
        let key = answers::request_key(&parts);
        let orders = Orders::take(&mut parts.headers, &self.secrets, &admitted.target, &self.limits)?;
        let asking = Asking { admitted, parts, payload: Payload::new(body), orders, patience };
        match key.filter(|_| asking.orders.cached) {
            Some(key) => self.cached(asking, &key).await,
            None => self.served(asking).await,
        }
    }

    /// Answers from the cache of the run, which this fills where nobody did.
    async fn cached(self: &Arc<Self>, mut asking: Asking, key: &Key) -> Result<Response<ResponseBody>, EgressError> {
        let most = self.limits.cached_request_bytes;
        self.hold(&mut asking.payload, most, &asking.admitted.target, &Activity::new()).await?;
        let cell = match &asking.payload {
            Payload::Whole(body) => {
                self.run.answers.cell(kept::key([key.as_slice(), body]), self.limits.cached_answers)
            }
            Payload::Begun(..) => None,
        };
        let Some(cell) = cell else { return self.served(asking).await };
        let cell = cell.lock_owned().await;
        match &*cell {
            Cell::Kept(parts, held) => {
                let body = ResponseBody::held(held.clone(), &asking.admitted.target, self.limits.clone());
                Ok(Response::from_parts(parts.clone(), body))
            }
            Cell::Unfit => {
                drop(cell);
                self.served(asking).await
            }
            Cell::Empty => {
                let answer = self.served(asking).await?;
                self.run.answers.fill(cell, answer, &self.limits).await
            }
        }
    }

    /// Sends a request with what was ordered; once more where its token was refused.
    async fn served(self: &Arc<Self>, asking: Asking) -> Result<Response<ResponseBody>, EgressError> {
        let Asking { admitted, parts, mut payload, orders, patience } = asking;
        let mut tried = false;
        loop {
            let mut means = Means {
                secrets: self.secrets.clone(),
                sign: orders.sign.as_ref(),
                pace: &orders.pace,
                hold: orders.token.is_some(),
                patience,
                ..Means::default()
            };
            self.put_jwt(&orders, &admitted.target, &mut means)?;
            let used = self.put_token(&orders, &admitted.target, &mut means).await?;
            let answer = self.once(&admitted, parts.clone(), &mut payload, &means).await?;
            let Some((credential, token)) = used else { return Ok(answer) };
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            self.shared.tokens.refused(&credential, &token).await;
            if tried || !matches!(payload, Payload::Whole(_)) {
                return Ok(answer);
            }
            tried = true;
        }
    }

    fn put_jwt(&self, orders: &Orders, target: &Target, means: &mut Means<'_>) -> Result<(), EgressError> {
        let Some(order) = &orders.jwt else { return Ok(()) };
        let credential = order.credential(&self.run.owner, &self.secrets);
        let most = self.limits.kept_tokens;
        let token = self.shared.jwts.token(order, &credential, &self.secrets, target, self.now(), most)?;
        means.credential = Some(credential);
        self.place(&order.placement, &token, means, target)
    }

    /// Puts the token of an order in; what was put in, and whose it is.
    async fn put_token(
        self: &Arc<Self>,
        orders: &Orders,
        target: &Target,
        means: &mut Means<'_>,
    ) -> Result<Option<(Key, SecretString)>, EgressError> {
        let Some(order) = &orders.token else { return Ok(None) };
        let credential = order.credential(&self.run.owner, &self.secrets);
        let token = self.token(order, &credential).await?;
        means.credential = Some(credential);
        self.place(&order.placement, &token, means, target)?;
        Ok(Some((credential, token)))
    }

    /// Puts a token into its place. From now on the run's logs do not show it.
    pub(super) fn place(
        &self,
        placement: &Placement,
        token: &SecretString,
        means: &mut Means<'_>,
        target: &Target,
    ) -> Result<(), EgressError> {
        self.secrets.hide(token.expose_secret());
        if let Some(Ok(name)) = placement.header_name() {
            let value = format!("{}{}", placement.prefix, token.expose_secret());
            means.placed.push(header(name, &value).ok_or_else(|| EgressError::Signing {
                host: target.to_string(),
                reason: "its token cannot stand in a header".into(),
            })?);
        }
        if let Some(placeholder) = &placement.placeholder {
            means.secrets = means.secrets.lend(placeholder, "the token", token.clone());
        }
        Ok(())
    }
}

fn header(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}
