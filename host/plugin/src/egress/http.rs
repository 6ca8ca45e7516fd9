//! One instance's HTTP client: its pool, its permits, and the way of one request.
//!
//! Must never follow a redirect: the guest's client asks again and is checked again.

use std::{
    error::Error,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_LENGTH, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Clock,
    body::{Activity, Payload, RequestBody, ResponseBody, request_too_large, response_too_large},
    connect::Connector,
    dial::Dialer,
    error::EgressError,
    kept::Key,
    limits::EgressLimits,
    pace::{self, Lane, PacePolicy},
    pattern::Target,
    prepare::{self, Admitted, Prepared},
    shared::{RunServices, Shared},
    signing::SignOrder,
    tls::TlsClient,
};
use crate::secrets::Secrets;

/// What a connection reads at once at most. Frames of a body are as large as what was read, and headers that do not
/// fit are refused.
const READ_BUFFER_BYTES: usize = 512 * 1024;

type HyperClient = Client<Connector, RequestBody>;

/// The HTTP half of an egress.
pub(super) struct HttpClient {
    client: RwLock<HyperClient>,
    connector: Connector,
    requests: Arc<Semaphore>,
    /// For requests of the host's own, which guests' requests wait for.
    token_requests: Arc<Semaphore>,
    pub(super) limits: Arc<EgressLimits>,
    pub(super) secrets: Secrets,
    pub(super) shared: Arc<Shared>,
    pub(super) run: RunServices,
    pub(super) clock: Clock,
    deadline: Option<Instant>,
}

/// What an HTTP client has beside its way out.
pub(super) struct HttpParts {
    pub(super) secrets: Secrets,
    pub(super) shared: Arc<Shared>,
    pub(super) run: RunServices,
    pub(super) clock: Clock,
    /// When the call of the guest ends.
    pub(super) deadline: Option<Instant>,
}

/// What goes into one request, and what it waits for.
#[derive(Default)]
pub(super) struct Means<'a> {
    pub(super) secrets: Secrets,
    pub(super) placed: Vec<(HeaderName, HeaderValue)>,
    pub(super) sign: Option<&'a SignOrder>,
    pub(super) pace: &'a [PacePolicy],
    /// Of the token that the host put in; else the headers tell.
    pub(super) credential: Option<Key>,
    /// Whether the body is wanted in memory, to be sent again.
    pub(super) hold: bool,
    /// How long the guest waits for the answer, where that is less than the host does.
    pub(super) patience: Option<Duration>,
    /// Whether the host asks for itself.
    pub(super) own: bool,
}

impl HttpClient {
    pub(super) fn new(dialer: Dialer, tls: TlsClient, parts: HttpParts) -> Self {
        let HttpParts { secrets, shared, run, clock, deadline } = parts;
        let limits = dialer.limits.clone();
        let open = Arc::new(Semaphore::new(limits.connections.max(limits.requests)));
        let connector = Connector { dialer, tls, open };
        Self {
            client: RwLock::new(build(&connector, &limits)),
            connector,
            requests: Arc::new(Semaphore::new(limits.requests)),
            token_requests: Arc::new(Semaphore::new(limits.requests)),
            limits,
            secrets,
            shared,
            run,
            clock,
            deadline,
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)().into()
    }

    pub(super) fn admit(&self, parts: &Parts) -> Result<Admitted, EgressError> {
        prepare::admit(parts, &self.connector.dialer.policy, &self.limits)
    }

    /// Sends one request in its turn and waits for the headers of its answer.
    pub(super) async fn once(
        &self,
        admitted: &Admitted,
        parts: Parts,
        payload: &mut Payload,
        means: &Means<'_>,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let target = &admitted.target;
        let mut prepared = prepare::prepare(parts, admitted, &means.secrets)?;
        let credential = pace::credential(&prepared.parts.headers, &self.run.owner);
        let credential = means.credential.unwrap_or(credential);
        for (name, value) in &means.placed {
            prepared.parts.headers.insert(name, value.clone());
        }
        let lane = Lane { target, credential, policies: means.pace, deadline: self.deadline };
        self.shared.pace.wait(&lane, &self.limits).await?;
        // Whoever waits for its turn has not begun to wait for the answer.
        let asking = self.ask(target, prepared, payload, means);
        let answer = match means.patience {
            Some(patience) => tokio::time::timeout(patience, asking).await.map_err(|_| EgressError::Timeout {
                host: target.to_string(),
                what: "its answer's headers",
                limit: "header_timeout_ms",
                milliseconds: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            })?,
            None => asking.await,
        }?;
        self.shared.pace.note(&lane, answer.status(), answer.headers(), self.now(), &self.limits);
        Ok(answer)
    }

    async fn ask(
        &self,
        target: &Target,
        prepared: Prepared,
        payload: &mut Payload,
        means: &Means<'_>,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let permit = self.permit(target, if means.own { &self.token_requests } else { &self.requests }).await?;
        let activity = Activity::new();
        let request = self.outgoing(prepared, target, payload, means, &activity).await?;
        let answer = self.answer(self.client().request(request), target, &activity).await?;
        self.incoming(answer, target, permit)
    }

    async fn permit(&self, target: &Target, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, EgressError> {
        let waiting = of.clone().acquire_owned();
        match tokio::time::timeout(self.limits.connect_timeout(), waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(EgressError::Limit {
                host: target.to_string(),
                what: "number of requests with unread answers, to it and others,",
                limit: "requests",
                allowed: self.limits.requests as u64,
            }),
        }
    }

    #[cfg(test)]
    pub(super) fn open_connections(&self) -> usize {
        self.limits.connections.max(self.limits.requests) - self.connector.open.available_permits()
    }

    /// The client; a fresh one where idle connections have used up the limit, which closes them.
    fn client(&self) -> HyperClient {
        if self.connector.open.available_permits() == 0 {
            let fresh = build(&self.connector, &self.limits);
            *self.client.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds the body where secrets, a signature or a second try need it, puts secrets in, signs.
    async fn outgoing(
        &self,
        prepared: Prepared,
        target: &Target,
        payload: &mut Payload,
        means: &Means<'_>,
        activity: &Activity,
    ) -> Result<Request<RequestBody>, EgressError> {
        let Prepared { mut parts, body_form } = prepared;
        let host = target.to_string();
        let declared = prepare::declared_length(&parts.headers).or_else(|| payload.length());
        if declared.is_some_and(|declared| declared > self.limits.request_bytes) {
            return Err(request_too_large(&host, self.limits.request_bytes));
        }
        let most = self.limits.held_body_bytes;
        let fits = declared.is_none_or(|declared| declared <= most as u64);
        if fits && (means.hold || means.sign.is_some() || !means.secrets.is_empty()) {
            self.hold(payload, most, target, activity).await?;
        }
        let body = match std::mem::take(payload) {
            Payload::Begun(first, rest) => {
                if let Some(sign) = means.sign {
                    sign.sign(&mut parts, None, target, self.now())?;
                }
                RequestBody::streaming(first, rest, target, &self.limits, activity.clone())
            }
            Payload::Whole(held) => {
                *payload = Payload::Whole(held.clone());
                let held = means.secrets.reveal(&held, body_form).map_or(held, Bytes::from);
                // The client states the length, which may have changed.
                parts.headers.remove(CONTENT_LENGTH);
                if let Some(sign) = means.sign {
                    sign.sign(&mut parts, Some(&held), target, self.now())?;
                }
                RequestBody::held(held)
            }
        };
        activity.touch();
        Ok(Request::from_parts(parts, body))
    }

    /// Takes a body into memory, up to `most` bytes, for as long as it arrives.
    pub(super) async fn hold(
        &self,
        payload: &mut Payload,
        most: usize,
        target: &Target,
        activity: &Activity,
    ) -> Result<(), EgressError> {
        let host = target.to_string();
        let holding = std::mem::take(payload).hold(most, &host, activity);
        *payload = self.while_active(holding, target, activity, "its own body").await??;
        Ok(())
    }

    async fn answer(
        &self,
        sending: ResponseFuture,
        target: &Target,
        activity: &Activity,
    ) -> Result<Response<Incoming>, EgressError> {
        let answer = self.while_active(sending, target, activity, "its answer's headers").await?;
        answer.map_err(|error| self.failed(target, error))
    }

    /// Waits for as long as something moves.
    async fn while_active<T>(
        &self,
        doing: impl Future<Output = T>,
        target: &Target,
        activity: &Activity,
        what: &'static str,
    ) -> Result<T, EgressError> {
        let patience = self.limits.header_timeout();
        tokio::pin!(doing);
        loop {
            let deadline = activity.last() + patience;
            tokio::select! {
                biased;
                done = &mut doing => return Ok(done),
                () = tokio::time::sleep_until(deadline) => {}
            }
            if activity.last() + patience <= deadline {
                return Err(EgressError::Timeout {
                    host: target.to_string(),
                    what,
                    limit: "header_timeout_ms",
                    milliseconds: self.limits.header_timeout_ms,
                });
            }
        }
    }

    fn incoming(
        &self,
        answer: Response<Incoming>,
        target: &Target,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let host = target.to_string();
        let (mut parts, body) = answer.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let reason = "it switched to another protocol without being asked".into();
            return Err(EgressError::Broken { host, reason, source: None });
        }
        check_headers(&parts.headers, &host, &self.limits)?;
        if body.size_hint().lower() > self.limits.response_bytes {
            return Err(response_too_large(&host, &self.limits));
        }
        prepare::strip_hop_headers(&mut parts.headers);
        Ok(Response::from_parts(parts, ResponseBody::new(body, target, self.limits.clone(), permit)))
    }

    /// The error that our own parts raised inside the client, or what the client says.
    fn failed(&self, target: &Target, error: hyper_util::client::legacy::Error) -> EgressError {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref::<EgressError>() {
                return ours.clone();
            }
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
                // The client does not say which of the two it was.
                return headers_too_large(&target.to_string(), "headers (by number) or header_bytes", &self.limits);
            }
            cause = error.source();
        }
        broken(&target.to_string(), error)
    }
}

fn build(connector: &Connector, limits: &EgressLimits) -> HyperClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_millis(limits.keep_alive_ms))
        .pool_max_idle_per_host(limits.requests)
        .http1_max_buf_size(READ_BUFFER_BYTES.max(limits.header_bytes))
        .http1_max_headers(limits.headers)
        // Ours is in its place already.
        .set_host(false)
        .build(connector.clone())
}

fn check_headers(headers: &HeaderMap, host: &str, limits: &EgressLimits) -> Result<(), EgressError> {
    if prepare::header_bytes(headers) > limits.header_bytes {
        return Err(headers_too_large(host, "header_bytes", limits));
    }
    Ok(())
}

fn headers_too_large(host: &str, limit: &'static str, limits: &EgressLimits) -> EgressError {
    EgressError::Limit { host: host.to_owned(), what: "answer's headers", limit, allowed: limits.header_bytes as u64 }
}

/// A failure of the connection or of the other side's HTTP, with the innermost cause, which says most.
pub(super) fn broken(host: &str, error: impl Error + Send + Sync + 'static) -> EgressError {
    let mut innermost: &(dyn Error + 'static) = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let reason = innermost.to_string();
    EgressError::Broken { host: host.to_owned(), reason, source: Some(Arc::new(error)) }
}
