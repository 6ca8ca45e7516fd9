//! The reconciler of notices: opens and ends what hangs on the time, and delivers what is due.
//!
//! Any number of processes may do so at once: each delivery is claimed by one. A process that dies leaves its claims to
//! run out; the message then arrives again, under the same id. Must never hold up anything but itself.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;
use thimble_record::{ConnectionId, Failure, RunId};
use thimble_store::{DeliveryRow, DeliveryTarget, EventKind, NewEvent, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    backoff::wait_before,
    channel::{Channel, ChannelKind, Outgoing, WebhookSettings},
    compose,
    hooks::{HOOK_USER_AGENT, payloads},
    loads::loads,
    outbound::{Outbound, OutboundError},
    secrets,
};
use crate::{
    Clock, SecretSealer, clock,
    limits::{DELIVERY_CLAIM, DELIVERY_DEADLINE, MAX_DELIVERIES_AT_ONCE, MAX_HOOK_ATTEMPTS, MAX_STORED_ERROR_BYTES},
};

/// How notices are delivered.
#[derive(Clone)]
pub struct NotifySettings {
    /// Name of this process as a holder of deliveries.
    pub holder: String,
    /// How often it looks for what is due; 1 s.
    pub tick: Duration,
    /// How often conditions of time are looked at, freshness above all; 10 s.
    pub check_every: Duration,
    /// Where people see runs and connections; links begin with it.
    pub base_url: Option<String>,
    pub clock: Clock,
}

impl NotifySettings {
    /// The defaults.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            tick: Duration::from_secs(1),
            check_every: Duration::from_secs(10),
            base_url: None,
            clock: clock::system_clock(),
        }
    }
}

/// Delivers until `cancel` fires. What is under way then is left to be claimed again.
pub async fn notify(
    store: Store,
    outbound: Arc<dyn Outbound>,
    sealer: Arc<dyn SecretSealer>,
    settings: NotifySettings,
    cancel: CancellationToken,
) {
    let courier = Courier { store, outbound, sealer, settings };
    let mut next_check = Instant::now();
    while !cancel.is_cancelled() {
        if Instant::now() >= next_check {
            next_check = Instant::now() + courier.settings.check_every;
            if let Err(error) = courier.store.check_conditions(courier.now_ms()).await {
                tracing::warn!(error = %error.failure(), "freshness cannot be checked; trying again");
            }
        }
        let round = async {
            match courier.round().await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(error = %error.failure(), "notifications cannot be delivered; trying again");
                    false
                }
            }
        };
        let more = tokio::select! {
            () = cancel.cancelled() => return,
            more = round => more,
        };
        if !more {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(courier.settings.tick) => {}
            }
        }
    }
}

/// Sends one message to a notifier at once, as a test of it. The answer says what is wrong.
pub(crate) async fn try_out(
    outbound: &dyn Outbound,
    channel: &Channel,
    notice: &super::Notice,
    now_ms: i64,
) -> Result<(), OutboundError> {
    send(outbound, channel.outgoing(notice, now_ms)).await
}

struct Courier {
    store: Store,
    outbound: Arc<dyn Outbound>,
    sealer: Arc<dyn SecretSealer>,
    settings: NotifySettings,
}

/// Why a delivery did not arrive.
enum Undelivered {
    /// Is tried again, as long as attempts are left.
    Later(String),
    Never(String),
}

impl From<OutboundError> for Undelivered {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Refused(message) => Self::Never(message),
            OutboundError::Failed(message) => Self::Later(message),
        }
    }
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        Self::Never(failure.message)
    }
}

impl From<StoreError> for Undelivered {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound { .. } => Self::Never(error.failure().message),
            _ => Self::Later(error.failure().message),
        }
    }
}

impl Courier {
    fn now_ms(&self) -> i64 {
        (self.settings.clock)()
    }

    /// Delivers what is due. Answers whether there may be more.
    async fn round(&self) -> Result<bool, StoreError> {
        let ttl = i64::try_from(DELIVERY_CLAIM.as_millis()).unwrap_or(i64::MAX);
        let limit = MAX_DELIVERIES_AT_ONCE;
        let due = self.store.claim_deliveries(&self.settings.holder, limit, ttl, self.now_ms()).await?;
        let more = due.len() >= limit as usize;
        let work = stream::iter(due).map(|delivery| self.deliver(delivery));
        let mut work = work.buffer_unordered(limit as usize);
        let mut failed = None;
        while let Some(done) = work.next().await {
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(more), Err)
    }

    async fn deliver(&self, delivery: DeliveryRow) -> Result<(), StoreError> {
        let holder = &self.settings.holder;
        let sent = match delivery.target {
            DeliveryTarget::Notice => self.notice(&delivery).await,
            DeliveryTarget::Hook => self.hook(&delivery).await,
            DeliveryTarget::Loads => return self.divide(&delivery).await,
        };
        let error = match sent {
            Ok(()) => return self.store.delivered(&delivery.id, holder, self.now_ms()).await,
            Err(error) => error,
        };
        let (message, next) = match error {
            Undelivered::Never(message) => (message, None),
            Undelivered::Later(message) => (message, self.next(&delivery)),
        };
        let message = &message[..message.floor_char_boundary(MAX_STORED_ERROR_BYTES)];
        let (name, last) = (delivery.notifier.as_deref().or(delivery.connection.as_deref()), next.is_none());
        tracing::warn!(notifier = name, delivery = delivery.id, error = message, last, "a notification did not arrive");
        self.store.undelivered(&delivery.id, holder, message, next, self.now_ms()).await?;
        if let (None, DeliveryTarget::Hook, Some(connection)) = (next, delivery.target, &delivery.connection) {
            let detail = serde_json::json!({"error": message, "table": delivery.stream});
            let event = NewEvent::of(EventKind::HookFailed, connection.clone(), detail);
            self.store.append_event(&event, self.now_ms()).await?;
        }
        Ok(())
    }

    /// When a delivery is tried again.
    fn next(&self, delivery: &DeliveryRow) -> Option<i64> {
        if delivery.target == DeliveryTarget::Hook && delivery.attempts >= MAX_HOOK_ATTEMPTS {
            return None;
        }
        // The id ends in randomness, which is all that a jitter needs.
        let spread = delivery.id.bytes().last().map_or(0.0, |byte| f64::from(byte % 32) / 32.0);
        wait_before(delivery.attempts, spread).map(|wait| self.now_ms().saturating_add(wait))
    }

    async fn notice(&self, delivery: &DeliveryRow) -> Result<(), Undelivered> {
        let name = delivery.notifier.as_deref().unwrap_or_default();
        let row = self.store.notifier(name).await?;
        let kind: ChannelKind = serde_json::from_value(Value::String(row.kind.clone()))
            .map_err(|_| Undelivered::Never(format!("notifier {name} is of a kind that this version does not know")))?;
        let config = self.sealer.open(&secrets::notifier(&row), row.config.clone(), &row.secrets)?;
        let channel = Channel::parse(kind, &config)?;
        let Some(notice) = compose::notice(delivery, self.settings.base_url.as_deref()) else {
            return Err(Undelivered::Never("what is to be told was written by another version".into()));
        };
        Ok(send(&*self.outbound, channel.outgoing(&notice, self.now_ms())).await?)
    }

    async fn hook(&self, delivery: &DeliveryRow) -> Result<(), Undelivered> {
        let connection = connection(delivery)?;
        let row = self.store.connection(&connection).await?;
        let sealed = self.store.hook_secrets(&connection).await?;
        let hooks = self.sealer.open(&secrets::hooks(&row), row.hooks.clone(), &sealed)?;
        let name = delivery.body.get("hook").and_then(Value::as_str).unwrap_or_default();
        let hook = hooks.get(name).ok_or_else(|| Undelivered::Never(format!("the hook {name:?} was deleted")))?;
        let document = delivery.body.get("document").unwrap_or(&Value::Null);
        let post = WebhookSettings::parse(hook)?.signed(&delivery.id, document, HOOK_USER_AGENT, self.now_ms());
        Ok(send(&*self.outbound, Outgoing::Post(post)).await?)
    }

    /// Makes one delivery of each table for each hook.
    async fn divide(&self, delivery: &DeliveryRow) -> Result<(), StoreError> {
        let found = match self.loaded(delivery).await {
            // Connection or run are gone: nobody is left to be told.
            Err(StoreError::NotFound { .. }) => Vec::new(),
            other => other?,
        };
        self.store.divide_loads(delivery, &self.settings.holder, &found, self.now_ms()).await
    }

    async fn loaded(&self, delivery: &DeliveryRow) -> Result<Vec<(String, String, Value)>, StoreError> {
        let Ok(connection) = connection(delivery) else { return Ok(Vec::new()) };
        let hooks = self.store.connection(&connection).await?.hooks;
        let run = delivery.body.get("run").and_then(Value::as_str).unwrap_or_default();
        let run = self.store.run(&RunId(run.to_owned())).await?;
        let documents = loads(&run).map(|loads| payloads(&loads)).unwrap_or_default();
        let names: Vec<_> = hooks.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let one_each = documents.into_iter().flat_map(|(table, document)| {
            names.iter().map(move |name| (name.clone(), table.clone(), document.clone())).collect::<Vec<_>>()
        });
        Ok(one_each.collect())
    }
}

fn connection(delivery: &DeliveryRow) -> Result<ConnectionId, Undelivered> {
    let name = delivery.connection.clone().unwrap_or_default();
    ConnectionId::new(name).map_err(|error| Undelivered::Never(error.to_string()))
}

async fn send(outbound: &dyn Outbound, outgoing: Outgoing) -> Result<(), OutboundError> {
    match outgoing {
        Outgoing::Mail(mail) => outbound.mail(mail, DELIVERY_DEADLINE).await,
        Outgoing::Post(post) => match outbound.post(post, DELIVERY_DEADLINE).await? {
            200..=299 => Ok(()),
            // The receiver says that it will never take this again.
            410 => Err(OutboundError::Refused("the receiver answered 410: it is gone".into())),
            300..=399 => {
                Err(OutboundError::Failed("the receiver answered by a redirect, which is not followed".into()))
            }
            status => Err(OutboundError::Failed(format!("the receiver answered {status}"))),
        },
    }
}
