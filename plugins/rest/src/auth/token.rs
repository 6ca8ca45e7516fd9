//! Tokens that stand in the configuration: bearer tokens, keys, names with passwords.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::LocalBoxFuture;

use super::Authenticator;
use crate::{
    error::Result,
    http::{RequestOption, RequestParts},
    interpolation::Template,
    node::Node,
    stream::Env,
    value::Value,
};

/// `BearerAuthenticator` and `ApiKeyAuthenticator`.
pub struct Token {
    env: Env,
    /// `None` stands for an empty token.
    token: Option<Template>,
    place: Place,
}

enum Place {
    Bearer,
    Option(RequestOption),
}

/// # Errors
/// Kind config where the token's template is none.
pub fn bearer(node: &Node<'_>, env: &Env) -> Result<Token> {
    Ok(Token { env: env.clone(), token: template(node, "api_token")?, place: Place::Bearer })
}

/// # Errors
/// Kind config where it is not said, or said twice, where the key goes.
pub fn api_key(node: &Node<'_>, env: &Env) -> Result<Token> {
    let option = match (node.get("inject_into"), node.get("header")) {
        (Some(option), None) => RequestOption::build(&option)?,
        (None, Some(header)) => RequestOption::header(&header, node)?,
        (Some(_), Some(_)) => return Err(node.wrong("either `inject_into` or `header`, not both")),
        (None, None) => return Err(node.wrong("`inject_into` is missing")),
    };
    Ok(Token { env: env.clone(), token: template(node, "api_token")?, place: Place::Option(option) })
}

pub(super) fn template(node: &Node<'_>, name: &str) -> Result<Option<Template>> {
    let text = node.get(name).filter(|text| text.value.truthy());
    text.map(|text| Template::new(&text, node)).transpose()
}

/// A request with one header.
pub(super) fn header(name: &str, value: String) -> RequestParts {
    let mut parts = RequestParts::default();
    parts.headers.insert(name.to_owned(), Value::str(value));
    parts
}

impl Authenticator for Token {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async {
            let scope = self.env.scope();
            let token = self.token.as_ref().map_or(Ok(String::new()), |token| token.text(&scope))?;
            match &self.place {
                Place::Bearer => Ok(header("Authorization", format!("Bearer {token}"))),
                Place::Option(option) => {
                    let mut parts = RequestParts::default();
                    option.inject(&mut parts, Value::str(token), &scope)?;
                    // A header without a name is none.
                    parts.headers.shift_remove("");
                    Ok(parts)
                }
            }
        })
    }
}

/// `BasicHttpAuthenticator`. The host looks into what is encoded here for placeholders.
pub struct Basic {
    env: Env,
    username: Option<Template>,
    password: Option<Template>,
}

impl Basic {
    /// # Errors
    /// Kind config where a template is none.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let (username, password) = (template(node, "username")?, template(node, "password")?);
        Ok(Self { env: env.clone(), username, password })
    }
}

impl Authenticator for Basic {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async {
            let scope = self.env.scope();
            let text =
                |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |text| text.text(&scope));
            let pair = format!("{}:{}", text(&self.username)?, text(&self.password)?);
            Ok(header("Authorization", format!("Basic {}", BASE64_STANDARD.encode(pair))))
        })
    }
}
