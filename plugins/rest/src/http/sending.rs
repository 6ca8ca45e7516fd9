//! Sending one request until its error handler is content, or until there is to be no further attempt.

use super::{
    error_text,
    filter::Seen,
    handler::MAX_SECONDS,
    prepare,
    requester::{Outcome, Requester},
    resolution::{self, Action, Resolution},
    retry::{Attempts, Why},
    text, url,
};
use crate::{
    error::{Kind, RestError, Result},
    limits,
    wire::{Answer, Exchange},
};

/// # Errors
/// As [`Requester::send`].
pub async fn send(requester: &Requester, mut exchange: Exchange) -> Result<Outcome> {
    let env = &requester.env;
    let mut attempts = Attempts::begin(requester.handler.max_retries, MAX_SECONDS, env.wire.now_us());
    let mut refreshed = false;
    loop {
        let answer = attempt(requester, &exchange).await?;
        let resolution = match &answer {
            Ok(answer) => requester.handler.interpret(&Seen::new(answer), env)?,
            // What the network does passes; the reference calls it a defect once its tries are spent.
            Err(_) => Resolution::new(Action::Retry, Kind::Transient),
        };
        match resolution.action {
            Action::Success | Action::Ignore => return Ok(content(answer)),
            Action::ResetPagination => return Ok(Outcome::ResetPagination),
            Action::ReducePageSize => return Ok(Outcome::ReducePageSize(resolution.message)),
            Action::SplitWindow => return Ok(Outcome::SplitWindow(resolution.message)),
            Action::Fail => return Err(failure(requester, &exchange, &answer, &resolution)),
            Action::RefreshThenRetry if refreshed => {
                let told = failure(requester, &exchange, &answer, &resolution);
                return Err(RestError { kind: Kind::Config, ..told });
            }
            Action::RefreshThenRetry => {
                refreshed = true;
                requester.authenticator.invalidate();
            }
            Action::Retry | Action::RateLimited => {}
        }
        let why = why(requester, &answer, resolution.action, attempts.count)?;
        let told = || failure(requester, &exchange, &answer, &resolution);
        let wait_us = attempts.wait_us(why).filter(|_| attempts.count < limits::MAX_ATTEMPTS);
        let Some(wait_us) = wait_us else { return Err(exhausted(told(), &answer, why)) };
        if wait_us > limits::MAX_WAIT_US {
            return Err(exhausted(told(), &answer, why));
        }
        env.wire.info(&waiting(&told(), wait_us, attempts.count));
        env.wire.sleep_us(wait_us.unsigned_abs()).await;
        attempts.again(why, env.wire.now_us());
        for (name, value) in requester.authenticator.parts().await?.headers {
            prepare::set_header(&mut exchange.headers, &name, text::text(&value));
        }
    }
}

/// What came back once, or what the network said. A refusal of the host, or an address that is none, ends it.
async fn attempt(requester: &Requester, exchange: &Exchange) -> Result<Result<Answer>> {
    let env = &requester.env;
    if let Some(budget) = &env.budget {
        budget.acquire(exchange, env).await?;
    }
    let answer = env.wire.send(exchange.clone()).await;
    match &answer {
        Err(error) if error.kind != Kind::Transient => return Err(error.clone()),
        Ok(answer) => {
            if let Some(budget) = &env.budget {
                budget.update(exchange, answer, env.wire.now_us());
            }
        }
        Err(_) => {}
    }
    Ok(answer)
}

/// The reference treats an answer of an error's status as no answer, whatever its handler says.
fn content(answer: Result<Answer>) -> Outcome {
    match answer {
        Ok(answer) if answer.status < 400 => Outcome::Answer(answer),
        _ => Outcome::Ignored,
    }
}

fn why(requester: &Requester, answer: &Result<Answer>, action: Action, attempt: u32) -> Result<Why> {
    // The host knows when it makes sense again.
    if let Err(RestError { retry_after_ms: Some(wait_ms), .. }) = answer {
        #[expect(clippy::cast_precision_loss, reason = "a wait is small")]
        return Ok(Why::Asked(*wait_ms as f64 / 1000.0));
    }
    for backoff in &requester.handler.backoffs {
        if let Some(wait) = backoff.wait(answer.as_ref().ok(), attempt, &requester.env)? {
            return Ok(Why::Asked(wait));
        }
    }
    Ok(if action == Action::RateLimited { Why::RateLimited } else { Why::Failed })
}

/// One sentence that names stream, address, status and what the source said.
fn failure(requester: &Requester, exchange: &Exchange, answer: &Result<Answer>, resolution: &Resolution) -> RestError {
    let (stream, method, address) = (&requester.env.stream, &exchange.method, url::plain(&exchange.url));
    let what = match answer {
        Err(error) => format!("{method} {address} failed: {}", error.message),
        Ok(answer) => {
            let said = error_text::error_text(&answer.body).unwrap_or_default();
            let said = error_text::shortened(&said, limits::MAX_ERROR_LETTERS);
            let colon = if said.is_empty() { "" } else { ": " };
            format!("{method} {address} answered {}{colon}{said}", answer.status)
        }
    };
    let advice = match answer {
        _ if !resolution.message.is_empty() => resolution.message.as_str(),
        Ok(answer) => resolution::advice(answer.status),
        Err(_) => "",
    };
    let advice = error_text::shortened(advice, limits::MAX_ERROR_LETTERS);
    let dash = if advice.is_empty() { "" } else { " — " };
    RestError::new(resolution.kind, format!("stream `{stream}`: {what}{dash}{advice}"))
}

/// The same once there is to be no further attempt.
fn exhausted(mut error: RestError, answer: &Result<Answer>, why: Why) -> RestError {
    if answer.as_ref().is_ok_and(|answer| answer.status == 429) {
        error.kind = Kind::Transient;
    }
    if let Why::Asked(seconds) = why {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive float saturates")]
        let wait_ms = (seconds * 1000.0) as u64;
        error.retry_after_ms = Some(wait_ms);
    }
    error
}

fn waiting(error: &RestError, wait_us: i64, attempt: u32) -> String {
    let seconds = wait_us / 1_000_000;
    format!("{}; attempt {attempt} is followed by another one in {seconds} s", error.message)
}
