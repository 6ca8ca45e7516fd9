//! Gets an access token where no host does it: outside of a component, for trying a manifest out.

use super::{order::TokenOrder, tokens::Kept};
use crate::{
    datetime,
    error::{Kind, RestError, Result},
    http::{error_text, text, url},
    limits,
    stream::Env,
    value::Value,
    wire::{Answer, Exchange},
};

/// A token for this order, from those that are kept or from the source. `assertion` is a signed token that goes along.
///
/// # Errors
/// Kind config where the source refuses the credentials, transient where it does not answer.
pub async fn token(order: &TokenOrder, refresh_name: &str, assertion: Option<&str>, env: &Env) -> Result<String> {
    let key = key(order);
    let now_us = env.wire.now_us();
    if let Some(token) = env.tokens.fresh(&key, now_us) {
        return Ok(token);
    }
    let unused = env.tokens.refresh(&key).is_none() && env.tokens.fresh(&key, i64::MIN).is_none();
    if let (true, Some(token), Some(until)) = (unused, &order.initial.token, &order.initial.expires_at) {
        let until_us = moment(until)?;
        if now_us <= until_us {
            env.tokens.keep(&key, Kept { token: token.clone(), expires_us: until_us, refresh: None });
            return Ok(token.clone());
        }
    }
    let exchange = request(order, refresh_name, env.tokens.refresh(&key).as_deref(), assertion);
    let body = ask(exchange, env).await?;
    let kept = read(&body, order, env.wire.now_us())?;
    env.tokens.keep(&key, kept.clone());
    Ok(kept.token)
}

/// The next request gets a new token.
pub fn forget(order: &TokenOrder, env: &Env) {
    env.tokens.expire(&key(order));
}

fn key(order: &TokenOrder) -> String {
    serde_json::to_string(order).expect("an order is always JSON")
}

/// `refresh` replaces the refresh token that stands in the order.
fn request(order: &TokenOrder, refresh_name: &str, refresh: Option<&str>, assertion: Option<&str>) -> Exchange {
    let request = &order.request;
    let mut body = request.body.clone();
    if let Some(refresh) = refresh {
        let one = |name: &str, value: &str| text::form([(&name.to_owned(), &Value::str(value))]);
        let prefix = one(refresh_name, "");
        let kept = body.split('&').filter(|member| !member.starts_with(&prefix) && !member.is_empty());
        let mut members: Vec<String> = kept.map(str::to_owned).collect();
        members.push(one(refresh_name, refresh));
        body = members.join("&");
    }
    let placeholder = request.jwt.as_ref().and_then(|jwt| jwt.placement.placeholder.as_deref());
    if let (Some(assertion), Some(placeholder)) = (assertion, placeholder) {
        body = body.replace(placeholder, assertion);
    }
    let mut headers: Vec<(String, String)> =
        request.headers.iter().map(|(name, value)| (name.clone(), text::text(value))).collect();
    if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("content-type")) && !body.is_empty() {
        headers.push(("Content-Type".into(), request.content_type.clone()));
    }
    if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("accept")) {
        headers.push(("Accept".into(), "*/*".into()));
    }
    Exchange { method: request.method.clone(), url: request.url.clone(), headers, body: body.into_bytes() }
}

/// The answer's body. What is likely to pass is asked for again, after a wait by chance of up to 1, 2, 4… seconds.
async fn ask(exchange: Exchange, env: &Env) -> Result<Value> {
    let address = url::plain(&exchange.url);
    let mut last = None;
    for attempt in 0..limits::MAX_TOKEN_ATTEMPTS {
        if attempt > 0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than a minute")]
            env.wire.sleep_us((env.wire.chance() * f64::from(attempt - 1).exp2() * 1e6) as u64).await;
        }
        let error = match env.wire.send(exchange.clone()).await {
            Ok(answer) if answer.status < 400 => {
                let told =
                    format!("stream `{}`: POST {address} answered no JSON where a token is expected", env.stream);
                return Value::from_json(&answer.body).map_err(|_| RestError::system(told));
            }
            Ok(answer) => refused(&answer, &address, env),
            Err(error) => error,
        };
        if error.kind != Kind::Transient {
            return Err(error);
        }
        last = Some(error);
    }
    Err(last.expect("there was an attempt"))
}

fn refused(answer: &Answer, address: &str, env: &Env) -> RestError {
    let said =
        error_text::shortened(&error_text::error_text(&answer.body).unwrap_or_default(), limits::MAX_ERROR_LETTERS);
    let kind = if answer.status == 429 || answer.status >= 500 { Kind::Transient } else { Kind::Config };
    let told = format!("stream `{}`: POST {address} gave no token but {}: {said}", env.stream, answer.status);
    RestError::new(kind, told)
}

fn read(body: &Value, order: &TokenOrder, now_us: i64) -> Result<Kept> {
    let find_at = |path: &[String]| path.last().and_then(|name| find(body, name, 0));
    let missing = || {
        let (address, name) = (url::plain(&order.request.url), order.token_path.join("."));
        RestError::config(format!("POST {address} answered without `{name}`, which is to hold the token"))
    };
    let token = find_at(&order.token_path).filter(|token| token.truthy()).ok_or_else(missing)?;
    let seconds = |seconds: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "a float beyond i64 saturates")]
        now_us.saturating_add((seconds.trunc() * 1e6) as i64)
    };
    #[expect(clippy::cast_precision_loss, reason = "a lifetime is small")]
    let default_us = seconds(order.lifetime_s.unwrap_or_default() as f64);
    let expires = order.expires_path.as_ref().and_then(|path| find_at(path)).filter(|expires| !expires.is_null());
    let expires_us = match expires {
        None => default_us,
        Some(expires) if order.expires_format.as_deref().is_none_or(|format| format == "seconds") => {
            let told = || RestError::config(format!("`{}` is no number of seconds", text::text(expires)));
            seconds(text::number(&text::text(expires)).ok_or_else(told)?)
        }
        Some(expires) => moment(&text::text(expires))?,
    };
    let refresh = order.refresh.as_ref().and_then(|refresh| find_at(&refresh.path)).map(text::text);
    Ok(Kept { token: text::text(token), expires_us, refresh })
}

fn moment(text: &str) -> Result<i64> {
    datetime::parse_lenient(text).map(|moment| moment.us())
}

/// A member of this name, however deep, the nearest to the beginning first.
fn find<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    if depth > limits::MAX_TOKEN_DEPTH {
        return None;
    }
    match value {
        Value::Map(map) => match map.get(name) {
            Some(found) => Some(found),
            None => map.values().find_map(|value| find(value, name, depth + 1)),
        },
        Value::List(items) => items.iter().find_map(|value| find(value, name, depth + 1)),
        _ => None,
    }
}
