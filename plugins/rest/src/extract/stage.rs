//! What tests of answers share: an environment without an outside, and short ways to make things.
#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, rc::Rc};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::{
    error::Result,
    stream::Env,
    value::Value,
    wire::{Answer, Exchange, Wire},
};

/// Keeps what the operator is told.
#[derive(Default)]
pub struct Quiet(pub RefCell<Vec<String>>);

impl Wire for Quiet {
    fn send(&self, _: Exchange) -> LocalBoxFuture<'_, Result<Answer>> {
        unreachable!("nothing here sends")
    }

    fn now_us(&self) -> i64 {
        1_700_000_000_000_000
    }

    fn sleep_us(&self, _: u64) -> LocalBoxFuture<'_, ()> {
        unreachable!("nothing here sleeps")
    }

    fn chance(&self) -> f64 {
        0.5
    }

    fn info(&self, line: &str) {
        self.0.borrow_mut().push(line.into());
    }
}

pub fn told() -> (Env, Rc<Quiet>) {
    let wire = Rc::new(Quiet::default());
    (Env { wire: wire.clone(), config: json(r#"{"prefix": "p_", "n": 5}"#), stream: "items".into() }, wire)
}

pub fn env() -> Env {
    told().0
}

pub fn json(text: &str) -> Value {
    Value::from_json(text.as_bytes()).unwrap()
}

pub fn answer(body: impl Into<Bytes>) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into(), url: "https://api.test/items".into() }
}

pub fn texts(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}
