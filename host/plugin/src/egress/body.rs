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

/// Frames of an answer that lies in memory are this long.
const PIECE_BYTES: usize = 64 * 1024;

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

/// The body of a guest's request, as far as it is known.
pub(super) enum Payload {
    /// In memory from its first byte to its last.
    Whole(Bytes),
    /// What was taken from it, and the rest.
    Begun(Option<Bytes>, GuestBody),
}

impl Default for Payload {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Payload {
    pub(super) fn new(body: GuestBody) -> Self {
        if body.is_end_stream() { Self::default() } else { Self::Begun(None, body) }
    }

    /// Its length, where that can be told.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Begun(None, body) => body.size_hint().exact(),
            Self::Begun(Some(_), _) => None,
        }
    }

    /// Takes all of it into memory, or as much as shows that it is longer than `most`.
    pub(super) async fn hold(self, most: usize, host: &str, activity: &Activity) -> Result<Self, EgressError> {
        let (first, mut rest) = match self {
            Self::Begun(first, rest) => (first, rest),
            whole @ Self::Whole(_) => return Ok(whole),
        };
        let mut held = BytesMut::from(first.unwrap_or_default());
        while held.len() <= most {
            let Some(frame) = rest.frame().await else { return Ok(Self::Whole(held.freeze())) };
            activity.touch();
            if let Ok(data) = frame.map_err(|error| request_body_failed(host, &error))?.into_data() {
                held.extend_from_slice(&data);
            }
        }
        Ok(Self::Begun(Some(held.freeze()), rest))
    }
}

/// The body of an answer. Ends with an error where it is longer than the limit, or silent for too long while somebody
/// waits for it.
pub struct ResponseBody {
    /// What was read before anybody asked for it; comes first.
    ready: Bytes,
    incoming: Option<Incoming>,
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
        Self { incoming: Some(incoming), permit: Some(permit), ..Self::held(Bytes::new(), target, limits) }
    }

    /// One that lies in memory.
    pub(super) fn held(ready: Bytes, target: &Target, limits: Arc<EgressLimits>) -> Self {
        Self {
            ready,
            incoming: None,
            host: target.to_string(),
            left: limits.response_bytes,
            limits,
            idle: None,
            waiting: false,
            ended: false,
            permit: None,
        }
    }

    /// Puts back what was read of it.
    pub(super) fn unread(&mut self, ready: Bytes) {
        self.ready = ready;
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
        if !this.ready.is_empty() {
            let piece = this.ready.split_to(this.ready.len().min(PIECE_BYTES));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(incoming) = this.incoming.as_mut().filter(|_| !this.ended) else {
            return Poll::Ready(None);
        };
        let polled = match Pin::new(incoming).poll_frame(context) {
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
        self.ready.is_empty() && (self.ended || self.incoming.as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready.len() as u64;
        let rest = self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ready));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(ready)) {
            hint.set_upper(upper);
        }
        hint
    }
}
