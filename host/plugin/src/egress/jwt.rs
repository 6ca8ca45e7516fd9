//! JSON Web Tokens made for guests that ask by the header `thimble-jwt`, so that keys never enter a guest.
//!
//! Owns the order and the claims of time. Must never keep a token beyond its lifetime.

use std::sync::{Mutex, PoisonError};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    error::EgressError,
    jws,
    kept::{self, Kept, Key},
    orders::Placement,
    pattern::Target,
};
use crate::secrets::{Form, Secrets};

/// Seconds of its lifetime that a kept token is not used any more: clocks differ, and requests take their time.
const MARGIN_S: i64 = 30;
/// A hundred years, in seconds: longer lifetimes are mistakes.
const MAX_LIFETIME_S: f64 = 3_153_600_000.0;

/// An order to make a token. Its texts may hold placeholders.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtOrder {
    algorithm: String,
    key: String,
    /// Whether the base64 of the key's text is the key, and not the text.
    #[serde(default)]
    key_base64: bool,
    /// Encrypted keys are refused whatever this says.
    #[serde(default)]
    #[allow(dead_code, reason = "a part of the grammar that makes no difference yet")]
    passphrase: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    payload: Map<String, Value>,
    /// Whether the claims `iat` and `nbf` say when the token was made.
    #[serde(default)]
    iat_now: bool,
    #[serde(default)]
    nbf_now: bool,
    /// The claim `exp`, in seconds from when the token was made.
    #[serde(default)]
    exp_in_s: Option<f64>,
    pub(super) placement: Placement,
}

/// Tokens that are still good, of all instances.
#[derive(Default)]
pub(super) struct KeptJwts(Mutex<Kept<(SecretString, DateTime<Utc>)>>);

impl JwtOrder {
    /// What the credential is told apart by: who it is of, its key and its claims.
    pub(super) fn credential(&self, owner: &str, secrets: &Secrets) -> Key {
        let claims = [&self.headers, &self.payload];
        let claims = claims.map(|claims| revealed(Value::Object(claims.clone()), secrets).to_string());
        let terms = format!("{} {} {} {:?}", self.key_base64, self.iat_now, self.nbf_now, self.exp_in_s);
        let key = secrets.reveal_but(self.key.as_bytes(), &[]);
        kept::key([
            b"jwt".as_slice(),
            owner.as_bytes(),
            self.algorithm.as_bytes(),
            &key,
            claims[0].as_bytes(),
            claims[1].as_bytes(),
            terms.as_bytes(),
        ])
    }

    /// A token of now.
    fn make(&self, secrets: &Secrets, target: &Target, at: DateTime<Utc>) -> Result<SecretString, EgressError> {
        let bad = |reason: String| EgressError::Jwt { host: target.to_string(), reason };
        let now = at.timestamp();
        let mut payload = self.payload.clone();
        if self.iat_now {
            payload.insert("iat".into(), now.into());
        }
        if self.nbf_now {
            payload.insert("nbf".into(), now.into());
        }
        if let Some(lifetime) = self.exp_in_s {
            if !(0.0..=MAX_LIFETIME_S).contains(&lifetime) {
                return Err(bad("its lifetime exp_in_s is not a sensible number of seconds".into()));
            }
            payload.insert("exp".into(), (now + seconds(lifetime)).into());
        }
        let mut head = Map::new();
        head.insert("typ".into(), "JWT".into());
        head.extend(self.headers.clone());
        head.insert("alg".into(), self.algorithm.as_str().into());
        let part = |part: Map<String, Value>| {
            URL_SAFE_NO_PAD.encode(revealed(Value::Object(part), secrets).to_string().as_bytes())
        };
        let input = format!("{}.{}", part(head), part(payload));
        let key = secrets.reveal(self.key.as_bytes(), Form::Raw);
        let key = key.map_or_else(|| Ok(self.key.clone()), String::from_utf8);
        let mut key = SecretString::from(key.map_err(|_| bad("its key is not text".into()))?);
        if self.key_base64 {
            if !jws::is_symmetric(&self.algorithm) {
                return Err(bad("only the key of an HS algorithm can be taken as base64".into()));
            }
            key = STANDARD.encode(key.expose_secret()).into();
        }
        let signed = jws::sign(&self.algorithm, key.expose_secret(), input.as_bytes()).map_err(bad)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signed)).into())
    }
}

impl KeptJwts {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The token of an order: a kept one where it is good for a while, else a new one. `most` tokens are kept.
    pub(super) fn token(
        &self,
        order: &JwtOrder,
        credential: &Key,
        secrets: &Secrets,
        target: &Target,
        at: DateTime<Utc>,
        most: usize,
    ) -> Result<SecretString, EgressError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = lock().get(credential)
            && *until > at
        {
            return Ok(token.clone());
        }
        let token = order.make(secrets, target, at)?;
        let good = order.exp_in_s.map_or(0, |lifetime| seconds(lifetime) - MARGIN_S);
        if good > 0 {
            let until = at + chrono::TimeDelta::seconds(good);
            *lock().entry(credential, most, || (token.clone(), until)) = (token.clone(), until);
        }
        Ok(token)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked to be within a hundred years")]
fn seconds(lifetime: f64) -> i64 {
    lifetime as i64
}

/// `value` with the secrets of its texts.
fn revealed(value: Value, secrets: &Secrets) -> Value {
    match value {
        Value::String(text) => match secrets.reveal(text.as_bytes(), Form::Raw) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            None => text.into(),
        },
        Value::Array(items) => items.into_iter().map(|item| revealed(item, secrets)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, revealed(value, secrets))).collect())
        }
        other => other,
    }
}
