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
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    body::{Activity, GuestBody, RequestBody, ResponseBody, hold, request_too_large, response_too_large},
    connect::Connector,
    dial::Dialer,
    error::EgressError,
    limits::EgressLimits,
    pattern::Target,
    prepare::{self, Prepared},
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
    limits: Arc<EgressLimits>,
    secrets: Secrets,
}

impl HttpClient {
    pub(super) fn new(dialer: Dialer, tls: TlsClient, secrets: Secrets) -> Self {
        let limits = dialer.limits.clone();
        let open = Arc::new(Semaphore::new(limits.connections.max(limits.requests)));
        let connector = Connector { dialer, tls, open };
        Self {
            client: RwLock::new(build(&connector, &limits)),
            connector,
            requests: Arc::new(Semaphore::new(limits.requests)),
            limits,
            secrets,
        }
    }

    /// Sends a request and waits for the headers of its answer.
    pub(super) async fn send(
        &self,
        request: Request<GuestBody>,
        at: DateTime<Utc>,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let policy = &self.connector.dialer.policy;
        let prepared = prepare::prepare(request, policy, &self.limits, &self.secrets)?;
        let target = prepared.target.clone();
        let permit = self.permit(&target).await?;
        let activity = Activity::new();
        let request = self.outgoing(prepared, at, &activity).await?;
        let answer = self.answer(self.client().request(request), &target, &activity).await?;
        self.incoming(answer, &target, permit)
    }

    async fn permit(&self, target: &Target) -> Result<OwnedSemaphorePermit, EgressError> {
        let waiting = self.requests.clone().acquire_owned();
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

    /// Holds the body where secrets or a signature need it, puts secrets in, signs.
    async fn outgoing(
        &self,
        prepared: Prepared<GuestBody>,
        at: DateTime<Utc>,
        activity: &Activity,
    ) -> Result<Request<RequestBody>, EgressError> {
        let Prepared { mut parts, body, target, sign, body_form } = prepared;
        let host = target.to_string();
        let declared = prepare::declared_length(&parts.headers).or_else(|| body.size_hint().exact());
        if declared.is_some_and(|declared| declared > self.limits.request_bytes) {
            return Err(request_too_large(&host, self.limits.request_bytes));
        }
        let most = self.limits.held_body_bytes;
        let fits = declared.is_none_or(|declared| declared <= most as u64);
        let wanted = fits && (sign.is_some() || !self.secrets.is_empty());
        let (held, rest) = if body.is_end_stream() {
            (Some(Bytes::new()), None)
        } else if wanted {
            let holding = hold(body, most, &host, activity);
            let (held, rest) = self.while_active(holding, &target, activity, "its own body").await??;
            (Some(held), rest)
        } else {
            (None, Some(body))
        };
        let body = match (held, rest) {
            (held, Some(rest)) => {
                if let Some(sign) = &sign {
                    sign.sign(&mut parts, None, &target, at)?;
                }
                RequestBody::streaming(held, rest, &target, &self.limits, activity.clone())
            }
            (held, None) => {
                let held = held.unwrap_or_default();
                let held = self.secrets.reveal(&held, body_form).map_or(held, Bytes::from);
                // The client states the length, which may have changed.
                parts.headers.remove(CONTENT_LENGTH);
                if let Some(sign) = &sign {
                    sign.sign(&mut parts, Some(&held), &target, at)?;
                }
                RequestBody::held(held)
            }
        };
        activity.touch();
        Ok(Request::from_parts(parts, body))
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
