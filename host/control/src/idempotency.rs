//! `Idempotency-Key`: a POST that is repeated with the same key is answered as the first time and does nothing again.
//!
//! As in draft-ietf-httpapi-idempotency-key-header: another request under the same key is 422, one that is still being
//! carried out 409. Answers that a repetition may change (429, 5xx) are not kept,
//! nor such as are larger than [`MAX_KEPT_ANSWER_BYTES`].

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};
use thimble_store::AnswerRow;

use crate::{
    Caller, ControlSettings, Problem,
    limits::{ABANDONED_KEY, MAX_BODY_BYTES, MAX_IDEMPOTENCY_KEY_BYTES, MAX_KEPT_ANSWER_BYTES},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Put into the extensions of an answer that must not be kept, because it shows a secret this once. Its request may be
/// repeated under the same key, and is then carried out again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotKept;

/// Headers of an answer that are kept with it.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// Answers repetitions; passes everything else on.
pub(crate) async fn once(
    State(settings): State<ControlSettings>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::POST || !request.headers().contains_key(&KEY) {
        return Ok(next.run(request).await);
    }
    let key = key(request.headers())?;
    let caller = request.extensions().get::<Caller>().cloned().ok_or_else(|| Problem::unauthorized("nobody asks"))?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| Problem::too_large(MAX_BODY_BYTES as u64))?;
    let mut hash = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let sha = hex::encode(hash.finalize());
    let abandoned = i64::try_from(ABANDONED_KEY.as_millis()).unwrap_or(i64::MAX);
    if let Some(known) = settings.store.take_key(&caller.actor, &key, &sha, abandoned, settings.now_ms()).await? {
        return repeat(known, &sha, &key);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(&settings, &caller, &key, response).await
}

fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(&KEY).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default().trim(),
        _ => "",
    };
    if value.is_empty() || value.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return Err(Problem::invalid(format!(
            "Idempotency-Key must be one value of 1 to {MAX_IDEMPOTENCY_KEY_BYTES} printable characters"
        )));
    }
    Ok(value.to_owned())
}

fn repeat(known: AnswerRow, sha: &str, key: &str) -> Result<Response, Problem> {
    if known.request_sha != sha {
        return Err(Problem::invalid(format!(
            "the Idempotency-Key {key:?} was used for another request: take a new one"
        )));
    }
    let status = StatusCode::from_u16(known.status).ok().filter(|_| known.status != 0);
    let Some(status) = status else {
        return Err(Problem::conflict(format!("the request with the Idempotency-Key {key:?} is being carried out")));
    };
    let mut response = Response::new(Body::from(known.body));
    *response.status_mut() = status;
    let headers: Vec<(String, String)> = serde_json::from_str(&known.headers).unwrap_or_default();
    for (name, value) in headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        response.headers_mut().insert(name, value);
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

async fn keep(settings: &ControlSettings, caller: &Caller, key: &str, response: Response) -> Result<Response, Problem> {
    let status = response.status();
    let secret = response.extensions().get::<NotKept>().is_some();
    if secret || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        settings.store.drop_key(&caller.actor, key).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    // An answer lies in memory as a whole before it is sent; the limit is on what is stored.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        settings.store.drop_key(&caller.actor, key).await?;
        return Err(Problem::internal());
    };
    if body.len() > MAX_KEPT_ANSWER_BYTES {
        settings.store.drop_key(&caller.actor, key).await?;
        tracing::warn!(%status, bytes = body.len(), "an answer is too large to be kept for its idempotency key");
        return Ok(Response::from_parts(parts, Body::from(body)));
    }
    let kept: Vec<(&str, &str)> =
        KEPT.iter().filter_map(|name| Some((name.as_str(), parts.headers.get(name)?.to_str().ok()?))).collect();
    let kept = serde_json::to_string(&kept).expect("pairs of texts always serialize");
    settings.store.keep_answer(&caller.actor, key, status.as_u16(), &kept, &body).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
