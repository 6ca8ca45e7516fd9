//! `LegacySessionTokenAuthenticator`: a session's token from the configuration where it is still valid, else from a
//! login with a name and a password.

use futures_util::future::LocalBoxFuture;

use super::{Authenticator, token, token::template, tokens::Kept};
use crate::{
    error::{Kind, RestError, Result},
    http::{RequestParts, text, url},
    interpolation::Template,
    node::Node,
    stream::Env,
    value::{Map, Value},
    wire::{Answer, Exchange},
};

/// How long a login's token is kept: a day.
const LIFETIME_US: i64 = 86_400_000_000;

pub struct LegacySession {
    env: Env,
    at: String,
    base: Option<Template>,
    header: Template,
    username: Option<Template>,
    password: Option<Template>,
    session: Option<Template>,
    response_key: Option<Template>,
    login_url: Template,
    validate_url: Template,
}

impl LegacySession {
    /// # Errors
    /// Kind config, naming what is missing.
    pub fn build(node: &Node<'_>, base: Option<&Node<'_>>, env: &Env) -> Result<Self> {
        let needed = |name: &str| Template::new(&node.need(name)?, node);
        Ok(Self {
            env: env.clone(),
            at: node.path.clone(),
            base: base.map(|base| Template::new(base, node)).transpose()?,
            header: needed("header")?,
            username: template(node, "username")?,
            password: template(node, "password")?,
            session: template(node, "session_token")?,
            response_key: template(node, "session_token_response_key")?,
            login_url: needed("login_url")?,
            validate_url: needed("validate_session_url")?,
        })
    }

    fn text(&self, template: Option<&Template>) -> Result<String> {
        template.map_or(Ok(String::new()), |template| template.text(&self.env.scope()))
    }

    fn address(&self, path: &Template) -> Result<String> {
        let address = format!("{}{}", self.text(self.base.as_ref())?, self.text(Some(path))?);
        let prepared = url::prepare(&address, &Map::new());
        prepared.ok_or_else(|| RestError::config(format!("`{}` is no URL", url::plain(&address))).at(&self.at))
    }

    async fn token(&self) -> Result<String> {
        let (header, session) = (self.text(Some(&self.header))?, self.text(self.session.as_ref())?);
        if !session.is_empty() && self.is_valid(&header, &session).await? {
            return Ok(session);
        }
        let (user, password) = (self.text(self.username.as_ref())?, self.text(self.password.as_ref())?);
        if user.is_empty() || password.is_empty() {
            let told = "the session's token is not valid, and there are no name and password to log in with";
            return Err(RestError::config(told).at(&self.at));
        }
        let (address, name) = (self.address(&self.login_url)?, self.text(self.response_key.as_ref())?);
        let credentials = [("username".to_owned(), Value::str(user)), ("password".to_owned(), Value::str(password))];
        let body = text::json(&Value::map(Map::from_iter(credentials)));
        let key = format!("{address} {name} {body}");
        if let Some(token) = self.env.tokens.fresh(&key, self.env.wire.now_us()) {
            return Ok(token);
        }
        let answer = self.ask("POST", address, ("Content-Type".into(), "application/json".into()), body).await?;
        let found = Value::from_json(&answer.body).ok().and_then(|body| body.get(&name).map(text::text));
        let wrong = || RestError::config(format!("the login answered {} without `{name}`", answer.status)).at(&self.at);
        let token = found.filter(|_| answer.status < 400).ok_or_else(wrong)?;
        let expires_us = self.env.wire.now_us().saturating_add(LIFETIME_US);
        self.env.tokens.keep(&key, Kept { token: token.clone(), expires_us, refresh: None });
        Ok(token)
    }

    /// Asked once per instance.
    async fn is_valid(&self, header: &str, session: &str) -> Result<bool> {
        let address = self.address(&self.validate_url)?;
        let key = format!("{address} {header} {session}");
        let now_us = self.env.wire.now_us();
        if let Some(known) = self.env.tokens.fresh(&key, now_us) {
            return Ok(known == "valid");
        }
        let answer = self.ask("GET", address.clone(), (header.into(), session.into()), String::new()).await?;
        let valid = match answer.status {
            401 => false,
            status if status < 400 => true,
            status => {
                let kind = if status >= 500 { Kind::Transient } else { Kind::Config };
                let told = format!("GET {} answered {status} to a look at the session", url::plain(&address));
                return Err(RestError::new(kind, told).at(&self.at));
            }
        };
        let token = if valid { "valid" } else { "refused" }.to_owned();
        self.env.tokens.keep(&key, Kept { token, expires_us: now_us.saturating_add(LIFETIME_US), refresh: None });
        Ok(valid)
    }

    async fn ask(&self, method: &str, url: String, header: (String, String), body: String) -> Result<Answer> {
        let exchange = Exchange { method: method.into(), url, headers: vec![header], body: body.into_bytes() };
        self.env.wire.send(exchange).await
    }
}

impl Authenticator for LegacySession {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async { Ok(token::header(&self.text(Some(&self.header))?, self.token().await?)) })
    }
}
