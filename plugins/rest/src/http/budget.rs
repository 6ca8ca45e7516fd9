//! `HTTPAPIBudget`: one budget of calls, kept to by all requesters of an instance.

use std::cell::RefCell;

use serde_json::json;
use thimble_sdk::http::Pace;

use super::{
    matcher::Matcher,
    rate::{Allowed, FixedWindow, MovingWindow, Policy},
    text, url,
};
use crate::{
    auth::order,
    datetime,
    error::{RestError, Result},
    interpolation::Template,
    limits,
    node::Node,
    stream::Env,
    wire::{Answer, Exchange},
};

/// The host keeps to rates for all instances at once, where their intervals are no longer than this: a day.
const MAX_PACED_MS: u64 = 86_400_000;

#[derive(Debug)]
pub struct Budget {
    policies: RefCell<Vec<Guarded>>,
    reset_header: String,
    remaining_header: String,
    statuses: Vec<i64>,
}

/// A policy and the requests that it is about.
#[derive(Debug)]
struct Guarded {
    matchers: Vec<Matcher>,
    policy: Policy,
    /// The order by which the host keeps to it.
    pace: Option<String>,
}

impl Guarded {
    fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let matchers = node.items("matchers");
        let matchers = matchers.iter().map(|matcher| Matcher::build(matcher, env)).collect::<Result<Vec<_>>>()?;
        let policy = policy_of(node, env)?;
        let weighted = matchers.iter().any(|matcher| matcher.weight.is_some_and(|weight| weight != 1));
        let pace = policy.rates().filter(|_| env.orders && !weighted).and_then(|rates| pace(rates, &node.path));
        Ok(Self { matchers, policy, pace })
    }

    fn is_about(&self, exchange: &Exchange) -> bool {
        self.matchers.is_empty() || self.matchers.iter().any(|matcher| matcher.matches(exchange))
    }
}

fn pace(rates: &[(u64, i64)], at: &str) -> Option<String> {
    let policy = |(number, (limit, interval_ms)): (usize, &(u64, i64))| {
        let window_ms = u64::try_from(*interval_ms).ok().filter(|window| (1..=MAX_PACED_MS).contains(window))?;
        Some(Pace { key: format!("{at}.rates[{number}]"), limit: *limit, window_ms })
    };
    let policies: Vec<Pace> = rates.iter().enumerate().map(policy).collect::<Option<_>>()?;
    Some(order::encoded(&json!({ "policies": policies })))
}

impl Budget {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let policies = node.items("policies");
        let policies = policies.iter().map(|policy| Guarded::build(policy, env)).collect::<Result<_>>()?;
        let header = |name: &str, default: &str| {
            let text = node.get(name).and_then(|name| name.value.as_str());
            text.unwrap_or(default).to_ascii_lowercase()
        };
        let statuses: Vec<i64> =
            node.items("status_codes_for_ratelimit_hit").iter().filter_map(|status| status.value.as_int()).collect();
        Ok(Self {
            policies: RefCell::new(policies),
            reset_header: header("ratelimit_reset_header", "ratelimit-reset"),
            remaining_header: header("ratelimit_remaining_header", "ratelimit-remaining"),
            statuses: if statuses.is_empty() { vec![429] } else { statuses },
        })
    }

    /// The order by which the host makes the request wait, if it is to.
    pub fn pace(&self, exchange: &Exchange) -> Option<String> {
        self.policies.borrow().iter().find(|guarded| guarded.is_about(exchange))?.pace.clone()
    }

    /// Waits until the request may be made, unless the host does that.
    ///
    /// # Errors
    /// Transient where that is too long; config where the request counts more than its policy allows at all.
    pub async fn acquire(&self, exchange: &Exchange, env: &Env) -> Result<()> {
        let address = url::plain(&exchange.url);
        let mut waited_us: i64 = 0;
        loop {
            match self.ask(exchange, env.wire.now_us()) {
                Allowed::Yes => return Ok(()),
                Allowed::Never => {
                    let told =
                        format!("a request to {address} counts more calls than its call rate policy allows at once");
                    return Err(RestError::config(told));
                }
                Allowed::In(wait_us) => {
                    waited_us = waited_us.saturating_add(wait_us);
                    if waited_us > limits::MAX_WAIT_US {
                        return Err(too_long(&address, wait_us));
                    }
                    env.wire.sleep_us(wait_us.unsigned_abs()).await;
                }
            }
        }
    }

    fn ask(&self, exchange: &Exchange, now_us: i64) -> Allowed {
        let mut policies = self.policies.borrow_mut();
        let guarded = policies.iter_mut().find(|guarded| guarded.is_about(exchange));
        let Some(Guarded { matchers, policy, .. }) = guarded.filter(|guarded| guarded.pace.is_none()) else {
            return Allowed::Yes;
        };
        let weight = matchers.iter().find(|matcher| matcher.matches(exchange)).and_then(|matcher| matcher.weight);
        policy.acquire(weight.unwrap_or(1), now_us)
    }

    /// Takes in what an answer says about calls that are left.
    pub fn update(&self, exchange: &Exchange, answer: &Answer, now_us: i64) {
        let mut policies = self.policies.borrow_mut();
        let Some(guarded) = policies.iter_mut().find(|guarded| guarded.is_about(exchange)) else { return };
        let number = |name: &str| answer.header(name).and_then(|value| value.trim().parse::<i64>().ok());
        let hit = self.statuses.contains(&i64::from(answer.status)).then_some(0);
        let available = number(&self.remaining_header).and_then(|left| u64::try_from(left.max(0)).ok()).or(hit);
        let resets_us = number(&self.reset_header).map(|seconds| seconds.saturating_mul(1_000_000));
        guarded.policy.update(available, resets_us, now_us);
    }
}

fn too_long(address: &str, wait_us: i64) -> RestError {
    let told = format!("the call budget for {address} is spent for another {} s", wait_us / 1_000_000);
    RestError { retry_after_ms: Some(wait_us.unsigned_abs() / 1000), ..RestError::transient(told) }
}

fn policy_of(node: &Node<'_>, env: &Env) -> Result<Policy> {
    match node.kind() {
        "UnlimitedCallRatePolicy" => Ok(Policy::Unlimited),
        "FixedWindowCallRatePolicy" => {
            Ok(Policy::Fixed(FixedWindow::new(count(node, "call_limit", env)?, interval_us(node, "period")?)))
        }
        "MovingWindowCallRatePolicy" => {
            let rate = |rate: &Node<'_>| Ok((count(rate, "limit", env)?, interval_us(rate, "interval")? / 1000));
            let rates = node.items("rates").iter().map(rate).collect::<Result<Vec<_>>>()?;
            if rates.is_empty() {
                return Err(node.wrong("`rates` is empty"));
            }
            Ok(Policy::Moving(MovingWindow::new(rates)))
        }
        _ => Err(node.unknown()),
    }
}

fn count(node: &Node<'_>, name: &str, env: &Env) -> Result<u64> {
    let member = node.need(name)?;
    let value = Template::new(&member, node)?.value(&env.scope())?;
    let number = text::number(&text::text(&value)).filter(|number| *number >= 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, and saturates")]
    number.map(|number| number as u64).ok_or_else(|| member.wrong("this has to be a whole number from 1 on"))
}

/// Months count 30 days.
fn interval_us(node: &Node<'_>, name: &str) -> Result<i64> {
    let member = node.need(name)?;
    let duration = datetime::parse_duration(member.text()?).map_err(|error| member.wrong(error.message))?;
    let us = duration.us.saturating_add(duration.months.saturating_mul(30 * 86_400 * 1_000_000));
    if us > 0 { Ok(us) } else { Err(member.wrong("this has to be longer than nothing")) }
}
