//! The body of an answer on its way to the guest, kept for whoever watches.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::{Content, Exchange, Failed, Rehearsal, shown};
use crate::{
    egress::{body::ResponseBody, error::EgressError},
    secrets::Secrets,
};

/// The body of an answer, from the network or from a recording.
pub struct AnswerBody {
    source: Source,
    tape: Option<Box<Tape>>,
}

enum Source {
    Live(ResponseBody),
    Recorded { bytes: Option<Bytes>, then: Option<EgressError> },
}

impl AnswerBody {
    pub(in crate::egress) fn live(body: ResponseBody, tape: Option<Tape>) -> Self {
        Self { source: Source::Live(body), tape: tape.map(Box::new) }
    }

    pub(super) fn recorded(bytes: Bytes, then: Option<EgressError>) -> Self {
        Self { source: Source::Recorded { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), then }, tape: None }
    }
}

// What passes is not for debug prints.
impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            Source::Live(body) => body,
            Source::Recorded { bytes, then } => {
                let data = bytes.take().map(|bytes| Ok(Frame::data(bytes)));
                return Poll::Ready(data.or_else(|| then.take().map(Err)));
            }
        };
        let polled = Pin::new(body).poll_frame(context);
        if let (Some(tape), Poll::Ready(polled)) = (&mut this.tape, &polled) {
            match polled {
                Some(Ok(frame)) => tape.keep(frame),
                Some(Err(error)) => tape.end(Some(error)),
                None => tape.end(None),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Live(body) => body.is_end_stream(),
            Source::Recorded { bytes, then } => bytes.is_none() && then.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Live(body) => body.size_hint(),
            Source::Recorded { bytes, then: None } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Recorded { .. } => SizeHint::default(),
        }
    }
}

/// An exchange under way. It is told when its answer was read to the end, or when nobody reads it any more.
pub(in crate::egress) struct Tape {
    exchange: Option<Exchange>,
    kept: BytesMut,
    most: usize,
    secrets: Secrets,
    rehearsal: Rehearsal,
    started: Instant,
}

impl Tape {
    pub(in crate::egress) fn new(exchange: Exchange, most: usize, secrets: Secrets, rehearsal: Rehearsal) -> Self {
        Self { exchange: Some(exchange), kept: BytesMut::new(), most, secrets, rehearsal, started: Instant::now() }
    }

    /// Notes the head of the answer.
    pub(in crate::egress) fn answered(&mut self, head: &http::response::Parts) {
        if let Some(exchange) = &mut self.exchange {
            exchange.status = Some(head.status.as_u16());
            exchange.headers = shown(&head.headers, &self.secrets);
        }
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let (Some(exchange), Some(data)) = (&mut self.exchange, frame.data_ref()) else { return };
        if exchange.cut || self.kept.len() + data.len() > self.most {
            exchange.cut = true;
            self.kept = BytesMut::new();
        } else {
            self.kept.extend_from_slice(data);
        }
    }

    /// Tells the exchange, once.
    pub(in crate::egress) fn end(&mut self, error: Option<&EgressError>) {
        let Some(mut exchange) = self.exchange.take() else { return };
        exchange.body = Content::masked(&self.kept, &self.secrets);
        exchange.error = error.map(|error| Failed::new(error, &self.secrets));
        exchange.ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.rehearsal.tell(&exchange);
    }

    /// Forgets the exchange: the request did not leave.
    pub(in crate::egress) fn forget(&mut self) {
        self.exchange = None;
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.end(None);
    }
}
