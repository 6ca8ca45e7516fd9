//! A wire for tests: answers as scripted, a clock that only sleeping moves.

#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};

use crate::{
    error::Result,
    stream::Env,
    value::Value,
    wire::{Answer, Exchange, Wire},
};

#[derive(Default)]
pub struct Script {
    pub answers: RefCell<VecDeque<Result<Answer>>>,
    pub sent: RefCell<Vec<Exchange>>,
    /// Waits in milliseconds.
    pub slept_ms: RefCell<Vec<u64>>,
    pub now_us: RefCell<i64>,
}

/// 2020-09-13T12:26:40Z.
pub const START_S: i64 = 1_600_000_000;

impl Script {
    pub fn new(answers: impl IntoIterator<Item = Result<Answer>>) -> Rc<Self> {
        let script = Self::default();
        *script.answers.borrow_mut() = answers.into_iter().collect();
        *script.now_us.borrow_mut() = START_S * 1_000_000;
        Rc::new(script)
    }

    pub fn env(self: &Rc<Self>, config: &str) -> Env {
        Env::new(self.clone(), value(config), "things")
    }

    pub fn headers(&self, at: usize, name: &str) -> Vec<String> {
        let sent = self.sent.borrow();
        let headers = sent[at].headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        headers.map(|(_, value)| value.clone()).collect()
    }
}

impl Wire for Script {
    fn send(&self, exchange: Exchange) -> LocalBoxFuture<'_, Result<Answer>> {
        let url = exchange.url.clone();
        self.sent.borrow_mut().push(exchange);
        let answer = self.answers.borrow_mut().pop_front().expect("the script has an answer for every request");
        Box::pin(async move { answer.map(|answer| Answer { url, ..answer }) })
    }

    fn now_us(&self) -> i64 {
        *self.now_us.borrow()
    }

    fn sleep_us(&self, us: u64) -> LocalBoxFuture<'_, ()> {
        self.slept_ms.borrow_mut().push(us / 1000);
        *self.now_us.borrow_mut() += us.cast_signed();
        Box::pin(async {})
    }

    fn chance(&self) -> f64 {
        0.5
    }

    fn info(&self, _line: &str) {}
}

pub fn value(json: &str) -> Value {
    Value::from_json(json.as_bytes()).unwrap()
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Answer { status, headers, body: body.to_owned().into(), ..Answer::default() }
}

/// What a future gives that has nothing to wait for.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}
