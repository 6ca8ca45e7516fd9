//! Backoff strategies: how long to wait before a request is sent again.

use regex::Regex;

use super::{look, text};
use crate::{
    error::{RestError, Result},
    interpolation::{Scope, Template},
    node::Node,
    stream::Env,
    value::{Map, Value},
    wire::Answer,
};

#[derive(Debug, Clone)]
pub enum Backoff {
    Constant {
        seconds: f64,
        jitter: Option<f64>,
    },
    Exponential {
        factor: f64,
        jitter: Option<f64>,
    },
    /// A header that says how many seconds.
    WaitTime {
        header: String,
        regex: Option<Regex>,
        max: Option<f64>,
    },
    /// A header that says until when, in seconds since the epoch.
    WaitUntil {
        header: String,
        regex: Option<Regex>,
        min: Option<f64>,
        max: Option<f64>,
    },
    /// A template over the answer.
    FromResponse {
        wait: Template,
        max: Option<f64>,
    },
}

/// `factor * 2^attempt` grows no further; longer waits are refused anyway.
const MAX_EXPONENT: u32 = 40;

impl Backoff {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let scope = env.scope();
        let jitter = || {
            let Some(jitter) = node.get("jitter_range_in_seconds") else { return Ok(None) };
            number(jitter.value).filter(|jitter| *jitter >= 0.0).map(Some).ok_or_else(|| not_seconds(&jitter))
        };
        Ok(match node.kind() {
            "ConstantBackoffStrategy" => Self::Constant {
                seconds: seconds(node, "backoff_time_in_seconds", &scope)?
                    .ok_or_else(|| node.wrong("`backoff_time_in_seconds` is missing"))?,
                jitter: jitter()?,
            },
            "ExponentialBackoffStrategy" => Self::Exponential {
                factor: seconds(node, "factor", &scope)?.filter(|factor| *factor != 0.0).unwrap_or(5.0),
                jitter: jitter()?,
            },
            "WaitTimeFromHeader" => Self::WaitTime {
                header: header(node, &scope)?,
                regex: regex(node, &scope)?,
                max: seconds(node, "max_waiting_time_in_seconds", &scope)?,
            },
            "WaitUntilTimeFromHeader" => Self::WaitUntil {
                header: header(node, &scope)?,
                regex: regex(node, &scope)?,
                min: seconds(node, "min_wait", &scope)?,
                max: seconds(node, "max_waiting_time_in_seconds", &scope)?,
            },
            "WaitTimeFromResponse" => Self::FromResponse {
                wait: Template::new(&node.need("wait_time_in_seconds")?, node)?,
                max: seconds(node, "max_waiting_time_in_seconds", &scope)?,
            },
            _ => return Err(node.unknown()),
        })
    }

    /// In seconds; `None` leaves it to the next strategy. `attempt` counts from 1; no answer where the network failed.
    ///
    /// # Errors
    /// Kind transient where the source asks for a longer wait than the manifest allows.
    pub fn wait(&self, answer: Option<&Answer>, attempt: u32, env: &Env) -> Result<Option<f64>> {
        let now_us = env.wire.now_us();
        let spread =
            |wait: f64, jitter: &Option<f64>| wait + jitter.map_or(0.0, |jitter| env.wire.chance() * jitter * 2.0);
        let (wait, max) = match self {
            Self::Constant { seconds, jitter } => (Some(spread(*seconds, jitter)), None),
            Self::Exponential { factor, jitter } => {
                let doubled = f64::from(attempt.min(MAX_EXPONENT)).exp2();
                (Some(spread(factor * doubled, jitter)), None)
            }
            Self::WaitTime { header, regex, max } => (from_header(answer, header, regex.as_ref()), *max),
            Self::WaitUntil { header, regex, min, max } => {
                (until(from_header(answer, header, regex.as_ref()), *min, now_us), *max)
            }
            Self::FromResponse { wait, max } => (from_response(wait, answer, env), *max),
        };
        let Some(wait) = wait.filter(|wait| *wait > 0.0) else { return Ok(None) };
        match max {
            Some(max) if wait >= max => Err(too_long(wait, max)),
            _ => Ok(Some(wait)),
        }
    }
}

fn too_long(wait: f64, max: f64) -> RestError {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive float saturates")]
    let retry_after_ms = Some((wait * 1000.0) as u64);
    let message = format!("the source asks to wait {wait} seconds, and the manifest allows less than {max}");
    RestError { retry_after_ms, ..RestError::transient(message) }
}

fn until(until: Option<f64>, min: Option<f64>, now_us: i64) -> Option<f64> {
    let min = min.filter(|min| *min != 0.0);
    let Some(until) = until.filter(|until| *until != 0.0) else { return min };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this century are exact")]
    let wait = until - now_us as f64 / 1e6;
    min.map_or(Some(wait), |min| Some(wait.max(min)))
}

fn from_header(answer: Option<&Answer>, name: &str, regex: Option<&Regex>) -> Option<f64> {
    let value = answer?.header(&name.to_ascii_lowercase())?;
    let found = regex.and_then(|regex| regex.find(value)).map_or(value, |found| found.as_str());
    text::number(found)
}

fn from_response(wait: &Template, answer: Option<&Answer>, env: &Env) -> Option<f64> {
    let (response, headers) = match answer {
        None => (None, Map::new()),
        Some(answer) => {
            let looked = look::ResponseUse::of([&wait.source]).read(&answer.body);
            (looked, look::headers(answer, [&wait.source]))
        }
    };
    let response = response.unwrap_or_else(|| Value::map(Map::new()));
    let scope = env.scope().with("response", response).with("headers", Value::map(headers));
    // A body of another shape leaves the wait to the next strategy.
    number(&wait.value(&scope).ok()?)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => None,
        value => text::number(&text::text(value)),
    }
}

fn not_seconds(node: &Node<'_>) -> RestError {
    node.wrong("this has to be a number of seconds")
}

/// A number, or a template over the configuration that gives one.
fn seconds(node: &Node<'_>, name: &str, scope: &Scope) -> Result<Option<f64>> {
    let Some(member) = node.get(name) else { return Ok(None) };
    let value = Template::new(&member, node)?.value(scope)?;
    number(&value).map(Some).ok_or_else(|| not_seconds(&member))
}

fn header(node: &Node<'_>, scope: &Scope) -> Result<String> {
    Template::new(&node.need("header")?, node)?.text(scope)
}

/// Matches at the beginning of the header only.
fn regex(node: &Node<'_>, scope: &Scope) -> Result<Option<Regex>> {
    let Some(member) = node.get("regex").filter(|member| member.value.truthy()) else { return Ok(None) };
    let pattern = Template::new(&member, node)?.text(scope)?;
    let compiled = Regex::new(&format!(r"\A(?:{pattern})"));
    compiled.map(Some).map_err(|error| member.wrong(format!("this is no regular expression: {error}")))
}
