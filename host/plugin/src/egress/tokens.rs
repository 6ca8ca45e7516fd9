//! Access tokens that the host gets and keeps for guests: one request at a time for each credential, over all
//! instances and runs of the process.
//!
//! Owns when a token is asked for. Must never use a token whose refresh token is not yet durable, and never give up a
//! request half-way that may have spent one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use chrono::SecondsFormat;
use http::StatusCode;
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use thimble_record::{ErrorKind, Failure};
use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::{
    body::Payload,
    error::EgressError,
    http::{HttpClient, Means},
    kept::{self, Kept, Key},
    shared::TokenKeeper,
    token::{Granted, Refresh, Token, TokenOrder, error_code},
};

/// Tries to store a renewed refresh token before the run gives up, and the wait between them.
const KEEPING_TRIES: u32 = 5;
const KEEPING_WAIT: Duration = Duration::from_millis(500);
/// How much longer a claim lasts than the request that it is for.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);
/// Spent refresh tokens that are still known as such.
const MAX_SPENT: usize = 64;

/// The tokens of a process.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Kept<Arc<tokio::sync::Mutex<Slot>>>>);

/// The token of one credential. Whoever holds its lock asks; the others wait.
#[derive(Default)]
pub(super) struct Slot {
    held: Option<Token>,
    /// Whether the configuration's own token was looked at.
    begun: bool,
    /// The refresh token as it is after the last request.
    refresh: Option<SecretString>,
    /// Digests of the refresh tokens before it.
    spent: VecDeque<Key>,
    /// What could not be stored: a refresh token that was spent, the settings after it, and the token it was spent for.
    unkept: Option<(SecretString, BTreeMap<String, SecretString>, Token)>,
    /// How the last request failed, for those that waited for it.
    failed: Option<(Instant, EgressError)>,
}

impl Tokens {
    fn slot(&self, credential: &Key, most: usize) -> Arc<tokio::sync::Mutex<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(credential, most, Arc::default).clone()
    }

    /// Forgets a token that a source refused, unless it was replaced meanwhile.
    pub(super) async fn refused(&self, credential: &Key, token: &SecretString) {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(credential).cloned();
        let Some(slot) = slot else { return };
        let mut slot = slot.lock().await;
        if slot.held.as_ref().is_some_and(|held| held.value.expose_secret() == token.expose_secret()) {
            slot.held = None;
        }
    }
}

impl Slot {
    /// Brings the run's refresh token and this one together: the run may have begun before the last refresh, or its
    /// operator may have given another token since.
    fn meet(&mut self, refresh: &Refresh, client: &HttpClient) {
        let Some(given) = client.secrets.value_of(&refresh.setting) else { return };
        let Some(known) = &self.refresh else { return };
        if known.expose_secret() == given.expose_secret() {
            return;
        }
        if self.spent.contains(&digest(&given)) {
            client.secrets.renew(&refresh.setting, known);
        } else {
            *self = Self::default();
        }
    }

    fn spend(&mut self, spent: &SecretString, renewed: SecretString) {
        while self.spent.len() >= MAX_SPENT {
            self.spent.pop_front();
        }
        self.spent.push_back(digest(spent));
        self.refresh = Some(renewed);
    }
}

fn digest(secret: &SecretString) -> Key {
    kept::key([secret.expose_secret().as_bytes()])
}

impl HttpClient {
    /// The token of an order: the kept one while it is good, else a new one.
    pub(super) async fn token(
        self: &Arc<Self>,
        order: &Arc<TokenOrder>,
        credential: &Key,
    ) -> Result<SecretString, EgressError> {
        let waiting_since = Instant::now();
        let mut slot = self.shared.tokens.slot(credential, self.limits.kept_tokens).lock_owned().await;
        if let Some((at, error)) = &slot.failed
            && *at > waiting_since
        {
            return Err(error.clone());
        }
        if let Some(refresh) = &order.refresh {
            slot.meet(refresh, self);
        }
        if !slot.begun {
            slot.begun = true;
            slot.held = order.initial(&self.secrets, self.now());
        }
        if let Some(held) = slot.held.as_ref().filter(|held| slot.unkept.is_none() && held.is_good(self.now())) {
            return Ok(held.value.clone());
        }
        // In a task of its own: a guest that ends must not end what has spent its refresh token.
        let (client, ordered) = (self.clone(), order.clone());
        let granting = tokio::spawn(async move { client.granted(slot, &ordered).await });
        granting.await.map_err(|_| self.no_token(&order.host(), "its task ended early", ErrorKind::System))?
    }

    /// Fills a slot.
    async fn granted(&self, mut slot: OwnedMutexGuard<Slot>, order: &TokenOrder) -> Result<SecretString, EgressError> {
        let granted = match &order.refresh {
            None => self.grant(order).await.map(|granted| granted.token),
            Some(refresh) => self.refreshed(&mut slot, order, refresh).await,
        };
        match granted {
            Ok(token) => {
                slot.failed = None;
                slot.held = Some(token.clone());
                Ok(token.value)
            }
            Err(error) => {
                slot.held = None;
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Spends the refresh token and stores the one that replaces it.
    async fn refreshed(&self, slot: &mut Slot, order: &TokenOrder, refresh: &Refresh) -> Result<Token, EgressError> {
        let setting = &refresh.setting;
        let config = |reason: String| self.no_token(&order.host(), reason, ErrorKind::Config);
        let keeper = self.run.keeper.as_deref().ok_or_else(|| {
            config(format!("every use replaces its refresh token, which only a stored connection can keep ({setting})"))
        })?;
        let given = self.secrets.value_of(setting).ok_or_else(|| {
            config(format!("the setting {setting} is empty or not marked as a secret, so that it cannot be renewed"))
        })?;
        if let Some((spent, renewed, token)) = slot.unkept.take() {
            return self.keep(keeper, slot, order, setting, (spent, renewed, token)).await;
        }
        let settings: Vec<&str> = refresh.settings().collect();
        let claimed = keeper.claim(&settings, self.limits.token_timeout() + CLAIM_MARGIN).await;
        let stored = claimed.map_err(|failure| self.not_kept(order, &failure))?;
        let present = stored.get(setting).cloned().unwrap_or(given.clone());
        if present.expose_secret() != given.expose_secret() {
            // Another process has spent the one that this run began with.
            self.secrets.renew(setting, &present);
            slot.spend(&given, present.clone());
            if let Some(token) = order.stored(refresh, &stored, self.now()) {
                keeper.release(setting).await;
                return Ok(token);
            }
        }
        let Granted { token, refresh: renewed } = match self.grant(order).await {
            Ok(granted) => granted,
            Err(error) => {
                keeper.release(setting).await;
                return Err(error);
            }
        };
        slot.refresh = Some(present.clone());
        let changed = changed_settings(refresh, &token, renewed);
        self.keep(keeper, slot, order, setting, (present, changed, token)).await
    }

    /// Stores what a refresh changed. Where that fails it is tried again before the next use, and nothing is spent.
    async fn keep(
        &self,
        keeper: &dyn TokenKeeper,
        slot: &mut Slot,
        order: &TokenOrder,
        setting: &str,
        (spent, renewed, token): (SecretString, BTreeMap<String, SecretString>, Token),
    ) -> Result<Token, EgressError> {
        let mut tries = 1;
        while let Err(failure) = keeper.keep(setting, &spent, &renewed).await {
            if tries >= KEEPING_TRIES {
                slot.unkept = Some((spent, renewed, token));
                return Err(self.not_kept(order, &failure));
            }
            tries += 1;
            tokio::time::sleep(KEEPING_WAIT).await;
        }
        for (setting, value) in &renewed {
            self.secrets.renew(setting, value);
        }
        if let Some(new) = renewed.get(setting) {
            slot.spend(&spent, new.clone());
        }
        Ok(token)
    }

    fn not_kept(&self, order: &TokenOrder, failure: &Failure) -> EgressError {
        let reason = format!("its renewed refresh token cannot be stored: {}", failure.message);
        self.no_token(&order.host(), reason, failure.kind)
    }

    fn no_token(&self, host: &impl ToString, reason: impl Into<String>, kind: ErrorKind) -> EgressError {
        EgressError::Token { host: host.to_string(), reason: self.secrets.scrub(&reason.into()), kind }
    }

    /// Sends the request of an order and reads its answer.
    async fn grant(&self, order: &TokenOrder) -> Result<Granted, EgressError> {
        let order_wrong =
            |reason: String| self.no_token(&order.host(), format!("the order {reason}"), ErrorKind::System);
        let (parts, body) = order.request().map_err(order_wrong)?;
        let admitted = self.admit(&parts)?;
        let target = &admitted.target;
        let mut means = Means { secrets: self.secrets.clone(), own: true, ..Means::default() };
        if let Some(jwt) = order.jwt() {
            let credential = jwt.credential(&self.run.owner, &self.secrets);
            let most = self.limits.kept_tokens;
            let made = self.shared.jwts.token(jwt, &credential, &self.secrets, target, self.now(), most)?;
            self.place(&jwt.placement, &made, &mut means, target)?;
        }
        let mut payload = Payload::Whole(body.into());
        let asking = async {
            let answer = self.once(&admitted, parts, &mut payload, &means).await?;
            let (status, mut body) = (answer.status(), answer.into_body());
            let mut read = BytesMut::new();
            while let Some(frame) = body.frame().await {
                read.extend_from_slice(&frame?.into_data().unwrap_or_default());
                if read.len() > self.limits.token_answer_bytes {
                    return Err(EgressError::Limit {
                        host: target.to_string(),
                        what: "answer to a request for an access token",
                        limit: "token_answer_bytes",
                        allowed: self.limits.token_answer_bytes as u64,
                    });
                }
            }
            Ok((status, read.freeze()))
        };
        let answered = tokio::time::timeout(self.limits.token_timeout(), asking).await;
        let (status, answer) = answered.map_err(|_| EgressError::Timeout {
            host: target.to_string(),
            what: "its access token",
            limit: "token_timeout_ms",
            milliseconds: self.limits.token_timeout_ms,
        })??;
        if !status.is_success() {
            let (reason, kind) = refusal(order, status, &answer);
            return Err(self.no_token(target, reason, kind));
        }
        let granted = order.read(&answer, self.now());
        let granted = granted.map_err(|reason| self.no_token(target, reason, ErrorKind::System))?;
        let longest = [Some(&granted.token.value), granted.refresh.as_ref()];
        if longest.into_iter().flatten().any(|token| token.expose_secret().len() > self.limits.token_bytes) {
            return Err(EgressError::Limit {
                host: target.to_string(),
                what: "access token",
                limit: "token_bytes",
                allowed: self.limits.token_bytes as u64,
            });
        }
        longest.into_iter().flatten().for_each(|token| self.secrets.hide(token.expose_secret()));
        Ok(granted)
    }
}

/// The settings after a refresh.
fn changed_settings(refresh: &Refresh, token: &Token, renewed: Option<SecretString>) -> BTreeMap<String, SecretString> {
    let mut changed = BTreeMap::new();
    if let Some(renewed) = renewed {
        changed.insert(refresh.setting.clone(), renewed);
    }
    if let Some(setting) = &refresh.access_setting {
        changed.insert(setting.clone(), token.value.clone());
        if let (Some(setting), Some(at)) = (&refresh.expiry_setting, token.expires_at) {
            changed.insert(setting.clone(), at.to_rfc3339_opts(SecondsFormat::Secs, true).into());
        }
    }
    changed
}

/// What a source that refused meant, and what can be done about it.
fn refusal(order: &TokenOrder, status: StatusCode, answer: &[u8]) -> (String, ErrorKind) {
    let what = if order.refresh.is_some() { "refresh token" } else { "credentials" };
    let code = error_code(answer).map(|code| format!(" {code}")).unwrap_or_default();
    let number = status.as_u16();
    match number {
        400 | 401 | 403 => {
            let reason = format!("the source refused the {what} ({number}{code}): authorize the connection again");
            (reason, ErrorKind::Config)
        }
        408 | 429 | 500.. => (format!("it answered {number}{code} for now"), ErrorKind::Transient),
        _ => (format!("it answered {number}{code}, which is no token"), ErrorKind::System),
    }
}
