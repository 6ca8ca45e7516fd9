//! The outside by way of the host, and the loop that drives everything: one thread, many requests under way.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::{future::LocalBoxFuture, task::noop_waker};
use thimble_sdk::http::{Pending, Request, Response, Verb, wait};

use crate::{
    error::{RestError, Result, from_sdk},
    limits::{MAX_ANSWER_BYTES, REQUEST_TIMEOUT},
    wire::{Answer, Exchange, Wire, coding},
};

/// Requests and timers under way.
#[derive(Default)]
pub struct HostWire {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    sent: RefCell<Vec<Rc<RefCell<Option<Pending>>>>>,
    /// Microseconds of the wall clock at which somebody wants to go on.
    timers: RefCell<Vec<i64>>,
    /// Whether a future was polled to an end since the last wait, so that others may go on at once.
    moved: Cell<bool>,
    /// A clock that stands, and is moved by waiting alone.
    standing: Cell<Option<i64>>,
}

impl HostWire {
    /// Where the host's clock stands, which it does for comparisons, waits move the clock here and are over at once.
    pub fn new() -> Self {
        let read = || thimble_sdk::clock::now();
        let first = read();
        // A clock that goes never shows one nanosecond three times.
        match (read() == first && read() == first).then(now_us) {
            Some(now) => Self::standing(now),
            None => Self::default(),
        }
    }

    /// With a clock that stands at this moment and is moved by waits, which are over at once: for comparisons.
    pub fn standing(now_us: i64) -> Self {
        let wire = Self::default();
        wire.inner.standing.set(Some(now_us));
        wire
    }

    /// Drives a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.inner.wait();
        }
    }
}

impl Inner {
    fn wait(&self) {
        if self.moved.replace(false) {
            return;
        }
        let now = now_us();
        self.timers.borrow_mut().retain(|at| *at > now);
        let next = self.timers.borrow().iter().min().copied();
        self.sent.borrow_mut().retain(|sent| sent.borrow().is_some() && Rc::strong_count(sent) > 1);
        let sent = self.sent.borrow();
        let held: Vec<_> = sent.iter().map(|sent| sent.borrow()).collect();
        let pending: Vec<&Pending> = held.iter().filter_map(|held| held.as_ref()).collect();
        let until = next.map(|at| Duration::from_micros(u64::try_from(at - now).unwrap_or(0).max(1)));
        // Nothing to wait for means that everybody can go on.
        if !pending.is_empty() || until.is_some() {
            wait(&pending, until);
        }
    }
}

fn now_us() -> i64 {
    let since = thimble_sdk::clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A request under way, as a future.
struct Sending {
    slot: Rc<RefCell<Option<Pending>>>,
    inner: Rc<Inner>,
}

impl Future for Sending {
    type Output = Result<Answer>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = match self.slot.borrow_mut().as_mut() {
            Some(pending) => pending.answer(),
            None => return Poll::Ready(Err(RestError::system("a request was asked for its answer twice"))),
        };
        let Some(answered) = answered else { return Poll::Pending };
        self.slot.borrow_mut().take();
        self.inner.moved.set(true);
        Poll::Ready(answered.map_err(from_sdk).and_then(whole))
    }
}

/// An answer with its body, codings undone.
fn whole(response: Response) -> Result<Answer> {
    let status = response.status();
    let headers: Vec<(String, String)> =
        response.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let url = response.url().to_owned();
    let body = response.bytes_up_to(MAX_ANSWER_BYTES).map_err(from_sdk)?;
    let mut answer = Answer { status, headers, body: body.into(), url };
    coding::undo(&mut answer)?;
    Ok(answer)
}

fn verb(method: &str) -> Result<Verb> {
    Ok(match method {
        "GET" => Verb::Get,
        "HEAD" => Verb::Head,
        "POST" => Verb::Post,
        "PUT" => Verb::Put,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        other => return Err(RestError::config(format!("`{other}` is no HTTP method that is sent"))),
    })
}

impl Wire for HostWire {
    fn send(&self, exchange: Exchange) -> LocalBoxFuture<'_, Result<Answer>> {
        let started = verb(&exchange.method).and_then(|verb| {
            let mut request = Request::new(verb, &exchange.url).timeout(REQUEST_TIMEOUT).body(exchange.body);
            if !exchange.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept-encoding")) {
                request = request.header("accept-encoding", "gzip, deflate");
            }
            for (name, value) in &exchange.headers {
                request = request.header(name, value);
            }
            request.start().map_err(from_sdk)
        });
        match started {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(pending) => {
                let slot = Rc::new(RefCell::new(Some(pending)));
                self.inner.sent.borrow_mut().push(slot.clone());
                Box::pin(Sending { slot, inner: self.inner.clone() })
            }
        }
    }

    fn now_us(&self) -> i64 {
        self.inner.standing.get().unwrap_or_else(now_us)
    }

    fn sleep_us(&self, us: u64) -> LocalBoxFuture<'_, ()> {
        if let Some(now) = self.inner.standing.get() {
            self.inner.standing.set(Some(now.saturating_add(i64::try_from(us).unwrap_or(i64::MAX))));
            return Box::pin(std::future::ready(()));
        }
        let at = now_us().saturating_add(i64::try_from(us).unwrap_or(i64::MAX));
        self.inner.timers.borrow_mut().push(at);
        let inner = self.inner.clone();
        Box::pin(std::future::poll_fn(move |_| {
            if now_us() < at {
                return Poll::Pending;
            }
            inner.moved.set(true);
            Poll::Ready(())
        }))
    }

    fn chance(&self) -> f64 {
        thimble_sdk::clock::chance()
    }

    fn info(&self, line: &str) {
        thimble_sdk::info!("{line}");
    }
}
