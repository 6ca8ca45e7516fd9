//! Authenticators: what proves to a source who asks.
//!
//! What needs no computation is put into the request as it is; secrets are placeholders that the host fills in. What
//! has to be computed from a secret, a signed token or one that a source gives for it, is an order to the host
//! ([`order`]) where it takes orders, else done here ([`exchange`], [`jwt`]).

pub mod exchange;
pub mod jwt;
pub mod legacy;
pub mod oauth;
pub mod order;
pub mod session;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tokens;

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

use crate::{
    error::Result,
    http::{RequestParts, text},
    node::Node,
    stream::Env,
    value::Value,
};

pub use tokens::Tokens;

pub trait Authenticator {
    /// What is added to a request. Asked anew before every attempt.
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>>;

    /// The source refused what [`Self::parts`] gave: a token that is kept is to be got anew.
    fn invalidate(&self) {}
}

/// `NoAuth`.
pub struct Nobody;

impl Authenticator for Nobody {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async { Ok(RequestParts::default()) })
    }
}

/// `base` is the requester's address, which only one authenticator wants.
///
/// # Errors
/// Kind config, naming what is wrong.
pub fn build(node: Option<&Node<'_>>, base: Option<&Node<'_>>, env: &Env) -> Result<Rc<dyn Authenticator>> {
    let Some(node) = node else { return Ok(Rc::new(Nobody)) };
    Ok(match node.kind() {
        "NoAuth" => Rc::new(Nobody),
        "BearerAuthenticator" => Rc::new(token::bearer(node, env)?),
        "ApiKeyAuthenticator" => Rc::new(token::api_key(node, env)?),
        "BasicHttpAuthenticator" => Rc::new(token::Basic::build(node, env)?),
        "OAuthAuthenticator" => Rc::new(oauth::OAuth::build(node, env)?),
        "JwtAuthenticator" => Rc::new(jwt::Jwt::build(node, env)?),
        "SessionTokenAuthenticator" => Rc::new(session::Session::build(node, env)?),
        "LegacySessionTokenAuthenticator" => Rc::new(legacy::LegacySession::build(node, base, env)?),
        "SelectiveAuthenticator" => return select(node, base, env),
        _ => return Err(node.unknown()),
    })
}

/// `SelectiveAuthenticator`: the configuration says which one.
fn select(node: &Node<'_>, base: Option<&Node<'_>>, env: &Env) -> Result<Rc<dyn Authenticator>> {
    let path = node.need("authenticator_selection_path")?;
    let steps: Vec<String> =
        node.items("authenticator_selection_path").iter().map(|step| text::text(step.value)).collect();
    let chosen = at(&env.config, &steps).map(text::text);
    let chosen = chosen.ok_or_else(|| path.wrong(format!("the setting `{}` is not set", steps.join("."))))?;
    let authenticators = node.need("authenticators")?;
    let known = authenticators.get(&chosen);
    let known = known.ok_or_else(|| {
        let names: Vec<&str> = authenticators.members().into_iter().map(|(name, _)| name).collect();
        let (setting, names) = (steps.join("."), names.join("`, `"));
        authenticators.wrong(format!("the setting `{setting}` is `{chosen}`; there is only `{names}`"))
    })?;
    build(Some(&known), base, env)
}

/// The value at a path of names and indices.
pub fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Map(map) => map.get(step),
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod asking {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt as _;

    /// What an authenticator adds, where nothing has to be waited for.
    pub fn parts(authenticator: &dyn Authenticator) -> Result<RequestParts> {
        authenticator.parts().now_or_never().unwrap()
    }
}
