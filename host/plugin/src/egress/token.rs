//! The order `thimble-token`: which request gets an access token, and where its answer holds what.
//!
//! Pure: reads orders and answers. Must never quote an answer, which holds secrets.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header::CONTENT_TYPE, request::Parts};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    jwt::JwtOrder,
    kept::{self, Key},
    orders::{self, Placement},
    pattern::shown,
};
use crate::secrets::Secrets;

/// How deep a name is looked for in an answer that does not hold it at its top.
const MAX_DEPTH: usize = 5;
/// Numbers from here on are milliseconds: as seconds they would lie in the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;
/// How long a token is good whose answer does not say so although it should.
const USUAL_LIFETIME_S: i64 = 3_600;
/// A hundred years, in seconds.
const MAX_LIFETIME_S: f64 = 3_153_600_000.0;

/// An order to get an access token and to put it into the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenOrder {
    request: TokenRequest,
    token_path: Vec<String>,
    #[serde(default)]
    expires_path: Option<Vec<String>>,
    /// `seconds` from now on, or the format of a date.
    #[serde(default)]
    expires_format: Option<String>,
    /// How long a token is good, where the answer does not say.
    #[serde(default)]
    lifetime_s: Option<f64>,
    #[serde(default)]
    pub(super) refresh: Option<Refresh>,
    #[serde(default)]
    initial: Option<Initial>,
    pub(super) placement: Placement,
}

/// The request that is answered with a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    /// A JSON Web Token that goes into this request, as the assertion of a service account does.
    #[serde(default)]
    jwt: Option<JwtOrder>,
}

/// A refresh token that every use replaces: where the answer holds the new one, and the settings to keep it in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refresh {
    path: Vec<String>,
    pub(super) setting: String,
    #[serde(default)]
    pub(super) access_setting: Option<String>,
    #[serde(default)]
    pub(super) expiry_setting: Option<String>,
}

/// A token that the configuration holds already.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Initial {
    token: Option<String>,
    expires_at: Option<String>,
}

/// A token and until when it is good; where that is not known, until it is refused.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: SecretString,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Whether it is worth being sent.
    pub(super) fn is_good(&self, at: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|expires_at| at < expires_at)
    }
}

/// What an answer holds.
pub(super) struct Granted {
    pub(super) token: Token,
    /// The refresh token that replaces the one that was spent.
    pub(super) refresh: Option<SecretString>,
}

impl TokenOrder {
    /// Whether the order can be carried out at all; the end of a sentence where not.
    pub(super) fn check(&self) -> Result<(), String> {
        self.placement.check()?;
        if let Some(jwt) = &self.request.jwt {
            jwt.placement.check()?;
        }
        if self.lifetime_s.is_some_and(|lifetime| !(0.0..=MAX_LIFETIME_S).contains(&lifetime)) {
            return Err("has a lifetime_s that is not a sensible number of seconds".into());
        }
        if self.token_path.is_empty() || self.refresh.as_ref().is_some_and(|refresh| refresh.path.is_empty()) {
            return Err("has an empty path".into());
        }
        self.request().map(drop)
    }

    /// Where the token comes from, for messages.
    pub(super) fn host(&self) -> String {
        let uri = self.request.url.parse::<Uri>().ok();
        uri.as_ref().and_then(Uri::host).map_or_else(|| "its source".to_owned(), shown)
    }

    pub(super) fn jwt(&self) -> Option<&JwtOrder> {
        self.request.jwt.as_ref()
    }

    /// The request, placeholders in their places.
    pub(super) fn request(&self) -> Result<(Parts, String), String> {
        let TokenRequest { method, url, headers, body, content_type, jwt: _ } = &self.request;
        let mut request = Request::new(());
        *request.method_mut() = method.parse::<Method>().map_err(|_| "has a method that is none")?;
        *request.uri_mut() = url.parse::<Uri>().map_err(|_| "has a URL that is none")?;
        for (name, value) in headers {
            let name: HeaderName = name.parse().map_err(|_| "has a header that is none")?;
            let value: HeaderValue = value.parse().map_err(|_| "has a header whose value is none")?;
            request.headers_mut().insert(name, value);
        }
        if let Some(kind) = content_type.as_ref().filter(|kind| !kind.is_empty()) {
            let kind: HeaderValue = kind.parse().map_err(|_| "has a content type that is none")?;
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        // The answer is read by the host, which unpacks nothing; and a token request has no orders of its own.
        request.headers_mut().remove(http::header::ACCEPT_ENCODING);
        orders::strip(request.headers_mut());
        Ok((request.into_parts().0, body.clone().unwrap_or_default()))
    }

    /// What the credential is told apart by. Settings that change with every refresh count by their names.
    pub(super) fn credential(&self, owner: &str, secrets: &Secrets) -> Key {
        let TokenRequest { method, url, headers, body, content_type, jwt } = &self.request;
        let named: Vec<&str> = self.refresh.iter().flat_map(Refresh::settings).collect();
        let shown = serde_json::json!([method, url, headers, body, content_type, self.token_path]).to_string();
        let jwt = jwt.as_ref().map(|jwt| jwt.credential(owner, secrets));
        let shown = secrets.reveal_but(shown.as_bytes(), &named);
        kept::key([b"token".as_slice(), owner.as_bytes(), &shown, jwt.as_ref().map_or(&[], <[u8; 32]>::as_slice)])
    }

    /// The token that the configuration holds, where it is still good as far as is known.
    pub(super) fn initial(&self, secrets: &Secrets, at: DateTime<Utc>) -> Option<Token> {
        let initial = self.initial.as_ref()?;
        let text = |text: &Option<String>| {
            let text = String::from_utf8(secrets.reveal_but(text.as_ref()?.as_bytes(), &[])).ok()?;
            Some(text).filter(|text| !text.is_empty())
        };
        let expires_at = text(&initial.expires_at).map(|text| moment(&text, self.date_format()));
        let token = Token { value: text(&initial.token)?.into(), expires_at: expires_at.flatten() };
        // A date that cannot be read may lie in the past.
        (token.is_good(at) && expires_at.is_none_or(|read| read.is_some())).then_some(token)
    }

    /// The token that another process stored, where it is still good.
    pub(super) fn stored(
        &self,
        refresh: &Refresh,
        stored: &BTreeMap<String, SecretString>,
        at: DateTime<Utc>,
    ) -> Option<Token> {
        let value = stored.get(refresh.access_setting.as_ref()?)?.clone();
        let expires_at = moment(stored.get(refresh.expiry_setting.as_ref()?)?.expose_secret(), None)?;
        Some(Token { value, expires_at: Some(expires_at) }).filter(|token| token.is_good(at))
    }

    fn date_format(&self) -> Option<&str> {
        self.expires_format.as_deref().filter(|format| *format != "seconds")
    }

    /// Reads an answer; the end of a sentence where it does not hold what it should.
    pub(super) fn read(&self, answer: &[u8], at: DateTime<Utc>) -> Result<Granted, String> {
        let answer: Value = serde_json::from_slice(answer).map_err(|_| "its answer is not JSON")?;
        let missing = || format!("its answer has no token at {}", self.token_path.join("."));
        let value = text_at(&answer, &self.token_path).ok_or_else(missing)?;
        let expires_at = match &self.expires_path {
            Some(path) => match find(&answer, path) {
                Some(found) => Some(self.expiry(found, at)?),
                None => Some(at + lifetime(self.lifetime_s).unwrap_or(TimeDelta::seconds(USUAL_LIFETIME_S))),
            },
            None => lifetime(self.lifetime_s).map(|lifetime| at + lifetime),
        };
        let refresh = self.refresh.as_ref().and_then(|refresh| text_at(&answer, &refresh.path));
        Ok(Granted { token: Token { value: value.into(), expires_at }, refresh: refresh.map(Into::into) })
    }

    fn expiry(&self, found: &Value, at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        let unreadable = || format!("its answer has an expiry that cannot be read at {}", self.expires_name());
        let text = match found {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(unreadable()),
        };
        match self.date_format() {
            Some(format) => moment(&text, Some(format)).ok_or_else(unreadable),
            None => {
                let seconds =
                    text.trim().parse::<f64>().ok().filter(|seconds| (0.0..=MAX_LIFETIME_S).contains(seconds));
                seconds.and_then(|seconds| Some(at + lifetime(Some(seconds))?)).ok_or_else(unreadable)
            }
        }
    }

    fn expires_name(&self) -> String {
        self.expires_path.as_ref().map_or_else(String::new, |path| path.join("."))
    }
}

impl Refresh {
    /// The settings that a refresh changes, that of the refresh token first.
    pub(super) fn settings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.setting.as_str())
            .chain(self.access_setting.as_deref())
            .chain(self.expiry_setting.as_deref())
    }
}

fn lifetime(seconds: Option<f64>) -> Option<TimeDelta> {
    #[allow(clippy::cast_possible_truncation, reason = "checked to be within a hundred years")]
    seconds.map(|seconds| TimeDelta::milliseconds((seconds * 1_000.0) as i64))
}

/// What stands at a path; a single name is looked for below too, as sources wrap their answers.
fn find<'a>(answer: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut found = Some(answer);
    for part in path {
        found = match found {
            Some(Value::Array(items)) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            Some(value) => value.get(part),
            None => None,
        };
    }
    match path {
        [name] if found.is_none() => below(answer, name, 0),
        _ => found,
    }
    .filter(|found| !found.is_null())
}

fn below<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut children: Box<dyn Iterator<Item = &'a Value>> = match value {
        Value::Object(fields) => match fields.get(name) {
            Some(found) => return Some(found),
            None => Box::new(fields.values()),
        },
        Value::Array(items) => Box::new(items.iter()),
        _ => return None,
    };
    children.find_map(|child| below(child, name, depth + 1))
}

fn text_at(answer: &Value, path: &[String]) -> Option<String> {
    match find(answer, path)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A moment as sources and settings write it: seconds or milliseconds since 1970, RFC 3339, or by a format.
fn moment(text: &str, format: Option<&str>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        let milliseconds = if number.abs() < MILLISECONDS_FROM { number * 1_000.0 } else { number };
        #[allow(clippy::cast_possible_truncation, reason = "what is too large saturates, and is no date then")]
        return DateTime::from_timestamp_millis(milliseconds as i64);
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    // Fractions of a second are digits behind a point there, and nanoseconds here.
    let given = format.map(|format| format.replace(".%f", "%.f"));
    let usual = ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    given.as_deref().into_iter().chain(usual).find_map(|format| {
        DateTime::parse_from_str(text, format)
            .map(|moment| moment.to_utc())
            .or_else(|_| NaiveDateTime::parse_from_str(text, format).map(|moment| moment.and_utc()))
            .or_else(|_| {
                NaiveDate::parse_from_str(text, format).map(|date| date.and_time(Default::default()).and_utc())
            })
            .ok()
    })
}

/// The code of an OAuth error, where an answer holds one that is only that: a word.
pub(super) fn error_code(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize, Serialize)]
    struct Refusal {
        error: String,
    }
    let Refusal { error } = serde_json::from_slice(answer).ok()?;
    let word = !error.is_empty() && error.len() <= 64;
    (word && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn order(more: Value) -> TokenOrder {
        let mut order = json!({
            "request": { "method": "POST", "url": "https://id.test/token" },
            "token_path": ["access_token"],
            "placement": { "header": "Authorization", "prefix": "Bearer " },
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(order).unwrap()
    }

    #[test]
    fn an_answer_says_how_long_its_token_is_good() {
        let at: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let expiry = |more: Value, answer: Value| {
            let granted = order(more).read(answer.to_string().as_bytes(), at);
            granted.map(|granted| granted.token.expires_at.map(|at| at.to_rfc3339()))
        };
        let path = json!({ "expires_path": ["expires_in"] });
        let date = |format: &str| json!({ "expires_path": ["expires_in"], "expires_format": format });
        for (more, answer, expected) in [
            (json!({}), json!({ "access_token": "t" }), None),
            (json!({ "lifetime_s": 90 }), json!({ "access_token": "t" }), Some("2026-01-01T00:01:30+00:00")),
            (path.clone(), json!({ "access_token": "t", "expires_in": 60 }), Some("2026-01-01T00:01:00+00:00")),
            (
                path.clone(),
                json!({ "a": [{ "access_token": "t" }], "expires_in": "60.5" }),
                Some("2026-01-01T00:01:00.500+00:00"),
            ),
            (path.clone(), json!({ "access_token": "t" }), Some("2026-01-01T01:00:00+00:00")),
            (
                date("%Y-%m-%d"),
                json!({ "access_token": "t", "expires_in": "2026-02-03" }),
                Some("2026-02-03T00:00:00+00:00"),
            ),
            (
                date("%Y-%m-%dT%H:%M:%S.%f%z"),
                json!({ "access_token": "t", "expires_in": "2026-02-03T01:02:03.5+0200" }),
                Some("2026-02-02T23:02:03.500+00:00"),
            ),
            (date("%s"), json!({ "access_token": "t", "expires_in": 1770000000 }), Some("2026-02-02T02:40:00+00:00")),
        ] {
            assert_eq!(expiry(more, answer.clone()).unwrap().as_deref(), expected, "{answer}");
        }
        let error = expiry(path.clone(), json!({ "access_token": "t", "expires_in": "soon" })).unwrap_err();
        assert_eq!(error, "its answer has an expiry that cannot be read at expires_in");
        assert_eq!(expiry(path, json!({ "token": "t" })).unwrap_err(), "its answer has no token at access_token");
    }

    #[test]
    fn a_token_of_the_configuration_counts_until_its_date() {
        let at: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let initial = |token: Value, expires_at: Value| {
            let order = order(json!({ "initial": { "token": token, "expires_at": expires_at } }));
            order.initial(&Secrets::default(), at).map(|token| token.value.expose_secret().to_owned())
        };
        assert_eq!(initial(json!("t"), json!("2026-01-01T00:00:01Z")).as_deref(), Some("t"));
        assert_eq!(initial(json!("t"), json!("2025-12-31T23:59:59+00:00")), None);
        assert_eq!(initial(json!("t"), json!("some day")), None);
        assert_eq!(initial(json!("t"), json!(null)).as_deref(), Some("t"));
        assert_eq!((initial(json!(""), json!(null)), initial(json!(null), json!(null))), (None, None));
    }

    #[test]
    fn only_words_of_a_refusal_are_told() {
        assert_eq!(
            error_code(br#"{"error":"invalid_grant","error_description":"x"}"#).as_deref(),
            Some("invalid_grant")
        );
        assert_eq!(error_code(br#"{"error":"the token abc is bad"}"#), None);
        assert_eq!(error_code(b"no"), None);
    }
}
