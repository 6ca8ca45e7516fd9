//! The network as a guest sees it: denied by default, granted by name, checked again at every address.
//!
//! Owns the policy, the dialer, HTTP and raw connections, secrets at egress and request signing. Every API version
//! calls this and nothing else for traffic. Must never follow a redirect, use a proxy of the environment, or resolve
//! a name again after its addresses were checked.

mod address;
mod answers;
mod body;
mod connect;
mod detour;
mod dial;
mod error;
mod exchange;
mod http;
mod jws;
mod jwt;
mod kept;
mod limits;
mod net;
mod orders;
mod pace;
mod pattern;
mod policy;
mod prepare;
mod services;
mod shared;
mod signing;
mod sigv4;
mod template;
mod tls;
mod token;
mod tokens;

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::http::{Request, Response, header::ACCEPT_ENCODING};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::{sync::Semaphore, time::Instant};

pub use address::Range;
pub use body::BoxError;
pub use detour::Detour;
pub use dial::{Resolver, SystemResolver};
pub use error::{Cause, EgressError};
pub use exchange::{AnswerBody, Content, Exchange, Failed, Recorder, RecordingError, Rehearsal, Replay, Watcher};
pub use limits::EgressLimits;
pub use net::NetStream;
pub use pattern::{HostName, HostPattern, Origin, Target};
pub use policy::{Policy, PrivateNetwork, PrivateNetworks};
pub use shared::{RunServices, Shared, TokenKeeper};
pub use template::{check_grant, check_host, expand, is_template};
pub use tls::TlsRoots;

use self::{
    body::{GuestBody, ResponseBody},
    dial::Dialer,
    exchange::Tape,
    http::{HttpClient, HttpParts},
    tls::TlsClient,
};
use crate::{
    log::{LogLevel, LogSink},
    secrets::Secrets,
};

/// Gives the time of day, for signatures.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What an [`Egress`] is made of.
pub struct EgressParts {
    pub policy: Policy,
    pub secrets: Secrets,
    pub limits: EgressLimits,
    /// Gets a warning for every denied attempt. Meant to be the instance's [`crate::log::LimitedLog`].
    pub log: Arc<dyn LogSink>,
    pub roots: TlsRoots,
    pub resolver: Arc<dyn Resolver>,
    pub clock: Clock,
    /// Of the process.
    pub shared: Arc<Shared>,
    /// Of the run.
    pub run: RunServices,
    /// When the call of the guest ends: nothing waits for a turn that comes later.
    pub deadline: Option<Instant>,
    /// How this traffic differs from that of every day.
    pub rehearsal: Rehearsal,
}

impl EgressParts {
    /// With Mozilla's roots, the system's resolver and the system's clock.
    pub fn new(policy: Policy, secrets: Secrets, limits: EgressLimits, log: Arc<dyn LogSink>) -> Self {
        Self {
            policy,
            secrets,
            limits,
            log,
            roots: TlsRoots::default(),
            resolver: Arc::new(SystemResolver),
            clock: Arc::new(SystemTime::now),
            shared: Arc::default(),
            run: RunServices::default(),
            deadline: None,
            rehearsal: Rehearsal::default(),
        }
    }
}

/// The network of one instance: one policy, one connection pool. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    http: Arc<HttpClient>,
    dialer: Dialer,
    tls: TlsClient,
    streams: Arc<Semaphore>,
    limits: Arc<EgressLimits>,
    log: Arc<dyn LogSink>,
    secrets: Secrets,
    rehearsal: Rehearsal,
}

impl From<EgressParts> for Egress {
    fn from(parts: EgressParts) -> Self {
        let EgressParts { policy, secrets, limits, log, roots, resolver, clock, shared, run, deadline, rehearsal } =
            parts;
        let limits = Arc::new(limits);
        let dialer = Dialer::new(policy, resolver, limits.clone(), rehearsal.detours.clone());
        let tls = TlsClient::new(roots, limits.clone());
        let parts = HttpParts { secrets: secrets.clone(), shared, run, clock, deadline };
        let http = Arc::new(HttpClient::new(dialer.clone(), tls.clone(), parts));
        let streams = Arc::new(Semaphore::new(limits.net_connections));
        Self { inner: Arc::new(Inner { http, dialer, tls, streams, limits, log, secrets, rehearsal }) }
    }
}

impl Egress {
    /// [`EgressParts::new`], made into an egress.
    pub fn new(policy: Policy, secrets: Secrets, limits: EgressLimits, log: Arc<dyn LogSink>) -> Self {
        EgressParts::new(policy, secrets, limits, log).into()
    }

    /// Sends a request and waits for the headers of its answer; the body streams. The URI must be absolute, http or
    /// https. Placeholders of secrets are replaced and `thimble-*` headers consumed. Redirects come back as they are.
    ///
    /// Where the session has secrets, or a signature is asked for, a body of unknown or small length is read to its
    /// end (or to [`EgressLimits::held_body_bytes`]) before the request leaves.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<AnswerBody>, EgressError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.send_within(request, None).await
    }

    /// [`Self::send`], waiting for the answer no longer than `patience`. Waiting for a turn does not count.
    pub async fn send_within<B>(
        &self,
        request: Request<B>,
        patience: Option<Duration>,
    ) -> Result<Response<AnswerBody>, EgressError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if self.inner.rehearsal.is_seen() {
            return self.send_seen(request, patience).await;
        }
        Ok(self.send_live(request, patience).await?.map(|body| AnswerBody::live(body, None)))
    }

    /// [`Egress::send`] where somebody watches, or answers instead of the network.
    async fn send_seen(
        &self,
        request: Request<GuestBody>,
        patience: Option<Duration>,
    ) -> Result<Response<AnswerBody>, EgressError> {
        let Inner { rehearsal, secrets, limits, dialer, .. } = &*self.inner;
        let (mut parts, body) = request.into_parts();
        let target = self.audited(prepare::target(&parts.uri).map(|(target, _)| target))?;
        self.audited(dialer.policy.check_target(&target))?;
        let body = whole(body, limits.recorded_body_bytes, &target).await?;
        let begun = exchange::begun(rehearsal.next_number(), &parts, &body, secrets);
        if let Some(replay) = &rehearsal.replay {
            let (recorded, answer) = replay.answer(&begun)?;
            rehearsal.tell(&Exchange { number: begun.number, ..recorded });
            return answer;
        }
        if rehearsal.watchers.iter().any(|watcher| watcher.wants_plain_answers()) {
            parts.headers.remove(ACCEPT_ENCODING);
        }
        let mut tape = Tape::new(begun, limits.recorded_body_bytes, secrets.clone(), rehearsal.clone());
        let request = Request::from_parts(parts, Full::new(body).map_err(|never| match never {}).boxed_unsync());
        match self.send_live(request, patience).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                tape.answered(&head);
                Ok(Response::from_parts(head, AnswerBody::live(body, Some(tape))))
            }
            Err(error) => {
                if error.is_denial() {
                    tape.forget()
                } else {
                    tape.end(Some(&error))
                }
                Err(error)
            }
        }
    }

    async fn send_live(
        &self,
        request: Request<GuestBody>,
        patience: Option<Duration>,
    ) -> Result<Response<ResponseBody>, EgressError> {
        self.audited(self.inner.http.send(request, patience).await)
    }

    /// Opens a raw connection.
    pub async fn connect(&self, host: &str, port: u16) -> Result<NetStream, EgressError> {
        self.audited(self.open(host, port).await)
    }

    async fn open(&self, host: &str, port: u16) -> Result<NetStream, EgressError> {
        let Inner { dialer, tls, streams, limits, rehearsal, .. } = &*self.inner;
        let target = dialer.policy.check(host, port)?;
        if rehearsal.replay.is_some() {
            let reason = "connections other than HTTP are not recorded";
            return Err(EgressError::NotRecorded { method: "CONNECT".into(), url: target.to_string(), reason });
        }
        // Not waited for: the guest that asks may be the one that holds them.
        let permit = streams.clone().try_acquire_owned().map_err(|_| EgressError::Limit {
            host: target.to_string(),
            what: "number of raw connections to it and others",
            limit: "net_connections",
            allowed: limits.net_connections as u64,
        })?;
        let tcp = dialer.dial(&target).await?;
        Ok(NetStream::new(target, tcp, tls.clone(), limits.clone(), permit))
    }

    fn audited<T>(&self, result: Result<T, EgressError>) -> Result<T, EgressError> {
        if let Err(error) = &result
            && error.is_denial()
        {
            self.inner.log.line(LogLevel::Warn, &format!("egress denied: {error}"));
            self.inner.log.denied(error.host().unwrap_or_default(), &error.to_string());
        }
        result
    }
}

/// A body of at most `most` bytes, in memory.
async fn whole(mut body: GuestBody, most: usize, target: &Target) -> Result<Bytes, EgressError> {
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| body::request_body_failed(&target.to_string(), &error))?;
        let Ok(data) = frame.into_data() else { continue };
        if held.len() + data.len() > most {
            return Err(EgressError::Limit {
                host: target.to_string(),
                what: "recorded request's body",
                limit: "recorded_body_bytes",
                allowed: most as u64,
            });
        }
        held.extend_from_slice(&data);
    }
    Ok(held.freeze())
}
