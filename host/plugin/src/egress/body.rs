//! The bodies of requests and answers, counted and timed.
//!
//! Must never copy what passes: frames are handed on as they are.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

use super::{error::EgressError, limits::EgressLimits, pattern::Target};

/// Any error of a guest's body.
pub type BoxError = Box<dyn Error + Send + Sync>;
/// The body of a guest's request, whatever it is made of.
pub(super) type GuestBody = UnsyncBoxBody<Bytes, BoxError>;

/// When something last moved.
#[derive(Clone)]
pub(super) struct Activity {
    start: Instant,
    millis: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), millis: Arc::default() }
    }

    pub(super) fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.start + std::time::Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// The body of a request on its way out.
pub(super) enum RequestBody {
    /// Held in memory.
    Held(Option<Bytes>),
    /// From the guest, after what was already taken from it.
    Streaming(Box<Streaming>),
}

/// A body that passes through.
pub(super) struct Streaming {
    first: Option<Bytes>,
    rest: GuestBody,
    host: String,
    sent: u64,
    allowed: u64,
    activity: Activity,
}

impl RequestBody {
    pub(super) fn held(bytes: Bytes) -> Self {
        Self::Held(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub(super) fn streaming(
        first: Option<Bytes>,
        rest: GuestBody,
        target: &Target,
        limits: &EgressLimits,
        activity: Activity,
    ) -> Self {
        let (host, allowed) = (target.to_string(), limits.request_bytes);
        Self::Streaming(Box::new(Streaming { first, rest, host, sent: 0, allowed, activity }))
    }
}

impl Streaming {
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, EgressError> {
        self.activity.touch();
        self.sent = self.sent.saturating_add(frame.data_ref().map_or(0, Bytes::len) as u64);
        if self.sent > self.allowed {
            return Err(request_too_large(&self.host, self.allowed));
        }
        Ok(frame)
    }
}

pub(super) fn request_too_large(host: &str, allowed: u64) -> EgressError {
    EgressError::Limit { host: host.to_owned(), what: "request's body", limit: "request_bytes", allowed }
}

pub(super) fn request_body_failed(host: &str, error: &BoxError) -> EgressError {
    EgressError::RequestBody { host: host.to_owned(), reason: error.to_string() }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let streaming = match self.get_mut() {
            Self::Held(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(streaming) => streaming,
        };
        if let Some(first) = streaming.first.take() {
            return Poll::Ready(Some(streaming.count(Frame::data(first))));
        }
        Pin::new(&mut streaming.rest).poll_frame(context).map(|frame| match frame? {
            Ok(frame) => Some(streaming.count(frame)),
            Err(error) => Some(Err(request_body_failed(&streaming.host, &error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(bytes) => bytes.is_none(),
            Self::Streaming(streaming) => streaming.first.is_none() && streaming.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming(streaming) => {
                let first = streaming.first.as_ref().map_or(0, Bytes::len) as u64;
                let rest = streaming.rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(first));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
                    hint.set_upper(upper);
                }
                hint
            }
        }
    }
}

/// Takes a whole body into memory, or as much of it as shows that it is longer than `most`.
pub(super) async fn hold(
    mut body: GuestBody,
    most: usize,
    host: &str,
    activity: &Activity,
) -> Result<(Bytes, Option<GuestBody>), EgressError> {
    let mut held = BytesMut::new();
    while held.len() <= most {
        let Some(frame) = body.frame().await else { return Ok((held.freeze(), None)) };
        activity.touch();
        if let Ok(data) = frame.map_err(|error| request_body_failed(host, &error))?.into_data() {
            held.extend_from_slice(&data);
        }
    }
    Ok((held.freeze(), Some(body)))
}

/// The body of an answer. Ends with an error where it is longer than the limit, or silent for too long while somebody
/// waits for it.
pub struct ResponseBody {
    incoming: Incoming,
    host: String,
    left: u64,
    limits: Arc<EgressLimits>,
    /// Runs while a poll waits; absent until the first wait.
    idle: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    ended: bool,
    /// The request counts as open until its body ended.
    permit: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub(super) fn new(
        incoming: Incoming,
        target: &Target,
        limits: Arc<EgressLimits>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            incoming,
            host: target.to_string(),
            left: limits.response_bytes,
            limits,
            idle: None,
            waiting: false,
            ended: false,
            permit: Some(permit),
        }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<EgressError> {
        let patience = self.limits.idle_timeout();
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !self.waiting {
            self.waiting = true;
            idle.as_mut().reset(Instant::now() + patience);
        }
        idle.as_mut().poll(context).map(|()| EgressError::Timeout {
            host: self.host.clone(),
            what: "the next part of the body",
            limit: "idle_timeout_ms",
            milliseconds: self.limits.idle_timeout_ms,
        })
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, EgressError> {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => Err(response_too_large(&self.host, &self.limits)),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.permit = None;
    }
}

// What passes is not for debug prints.
impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("host", &self.host).field("left", &self.left).finish_non_exhaustive()
    }
}

pub(super) fn response_too_large(host: &str, limits: &EgressLimits) -> EgressError {
    EgressError::Limit {
        host: host.to_owned(),
        what: "answer's body",
        limit: "response_bytes",
        allowed: limits.response_bytes,
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let polled = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Some(this.count(frame)),
            Poll::Ready(Some(Err(error))) => Some(Err(super::http::broken(&this.host, error))),
            Poll::Ready(None) => None,
            Poll::Pending => match this.poll_idle(context) {
                Poll::Ready(late) => Some(Err(late)),
                Poll::Pending => return Poll::Pending,
            },
        };
        this.waiting = false;
        if !matches!(polled, Some(Ok(_))) {
            this.end();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
