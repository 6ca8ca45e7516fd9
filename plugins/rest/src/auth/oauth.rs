//! `OAuthAuthenticator`: access tokens that a source gives for credentials, for a refresh token, or for a signed token.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use thimble_sdk::http::Refresh;

use super::{
    Authenticator, at, exchange,
    jwt::{self, Jwt},
    order::{self, Initial, Placement, TokenOrder, TokenRequest},
    token::{self, template},
};
use crate::{
    error::{RestError, Result},
    http::{RequestParts, text, url},
    interpolation::{Scope, Template, TemplateTree},
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// In seconds, where a source does not say how long a token lasts.
const DEFAULT_LIFETIME: u64 = 3600;
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const FORM: &str = "application/x-www-form-urlencoded";

/// A name that a manifest may change.
struct Name(Option<Template>, &'static str);

impl Name {
    fn build(node: &Node<'_>, member: &str, default: &'static str) -> Result<Self> {
        Ok(Self(template(node, member)?, default))
    }

    fn text(&self, scope: &Scope) -> Result<String> {
        self.0.as_ref().map_or_else(|| Ok(self.1.to_owned()), |name| name.text(scope))
    }
}

pub struct OAuth {
    env: Env,
    at: String,
    endpoint: Option<Template>,
    grant: (Name, Name),
    client_id: (Name, Option<Template>),
    client_secret: (Name, Option<Template>),
    refresh: (Name, Option<Template>),
    scopes: Vec<Value>,
    body: Option<TemplateTree>,
    headers: Option<TemplateTree>,
    in_query: bool,
    access_name: Name,
    expires_name: Name,
    expires_format: Option<String>,
    access_token: Option<Template>,
    expires_at: Option<Template>,
    updater: Option<Updater>,
    assertion: Option<Rc<Jwt>>,
}

/// `refresh_token_updater`: paths inside the configuration where the tokens are kept.
struct Updater {
    name: String,
    access: Vec<String>,
    refresh: Vec<String>,
    expiry: Vec<String>,
}

impl Updater {
    fn build(node: &Node<'_>) -> Self {
        let path = |name: &str, last: &str| {
            let steps: Vec<String> = node.items(name).iter().map(|step| text::text(step.value)).collect();
            if steps.is_empty() { vec!["credentials".into(), last.into()] } else { steps }
        };
        Self {
            name: node.get("refresh_token_name").map_or_else(|| "refresh_token".into(), |name| text::text(name.value)),
            access: path("access_token_config_path", "access_token"),
            refresh: path("refresh_token_config_path", "refresh_token"),
            expiry: path("token_expiry_date_config_path", "token_expiry_date"),
        }
    }
}

impl OAuth {
    /// # Errors
    /// Kind config, naming what is missing.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let tree = |name: &str| node.get(name).map(|tree| TemplateTree::new(&tree, node)).transpose();
        let with_assertion = jwt::flag(node, "use_profile_assertion", env)?;
        let assertion = node.get("profile_assertion").filter(|_| with_assertion);
        let built = Self {
            env: env.clone(),
            at: node.path.clone(),
            endpoint: template(node, "token_refresh_endpoint")?,
            grant: (
                Name::build(node, "grant_type_name", "grant_type")?,
                if with_assertion { Name(None, JWT_BEARER) } else { Name::build(node, "grant_type", "refresh_token")? },
            ),
            client_id: (Name::build(node, "client_id_name", "client_id")?, template(node, "client_id")?),
            client_secret: (
                Name::build(node, "client_secret_name", "client_secret")?,
                template(node, "client_secret")?,
            ),
            refresh: (Name::build(node, "refresh_token_name", "refresh_token")?, template(node, "refresh_token")?),
            scopes: node.items("scopes").iter().map(|scope| scope.value.clone()).collect(),
            body: tree("refresh_request_body")?,
            headers: tree("refresh_request_headers")?,
            in_query: node.flag("send_refresh_request_as_query_params", false)?,
            access_name: Name::build(node, "access_token_name", "access_token")?,
            expires_name: Name::build(node, "expires_in_name", "expires_in")?,
            expires_format: node.get("token_expiry_date_format").map(|format| text::text(format.value)),
            access_token: template(node, "access_token_value")?,
            expires_at: template(node, "token_expiry_date")?,
            updater: node.get("refresh_token_updater").map(|updater| Updater::build(&updater)),
            assertion: assertion.map(|assertion| Jwt::build(&assertion, env).map(Rc::new)).transpose()?,
        };
        built.check(node, with_assertion)?;
        Ok(built)
    }

    fn check(&self, node: &Node<'_>, with_assertion: bool) -> Result<()> {
        if self.endpoint.is_none() {
            let given = self.access_token.is_some();
            return if given { Ok(()) } else { Err(node.wrong("`token_refresh_endpoint` is missing")) };
        }
        if with_assertion {
            return if self.assertion.is_some() { Ok(()) } else { Err(node.wrong("`profile_assertion` is missing")) };
        }
        if self.updater.is_some() {
            return Ok(());
        }
        for name in ["client_id", "client_secret"] {
            node.need(name)?;
        }
        let grant = self.grant.1.text(&self.env.scope())?;
        if grant == "refresh_token" && self.refresh.1.is_none() {
            return Err(node.wrong("`refresh_token` is missing, which the grant type `refresh_token` needs"));
        }
        Ok(())
    }

    /// # Errors
    /// Kind config where a template fails or gives nothing where something is needed.
    pub fn order(&self) -> Result<TokenOrder> {
        let scope = self.env.scope();
        let updater = self.updater.as_ref();
        let refresh = updater.map(|updater| Refresh {
            path: vec![updater.name.clone()],
            setting: updater.refresh.join("."),
            access_setting: Some(updater.access.join(".")),
            expiry_setting: Some(updater.expiry.join(".")),
        });
        Ok(TokenOrder {
            request: self.request(&scope)?,
            token_path: vec![self.access_name.text(&scope)?],
            expires_path: Some(vec![self.expires_name.text(&scope)?]),
            expires_format: Some(self.expires_format.clone().unwrap_or_else(|| "seconds".into())),
            lifetime_s: Some(DEFAULT_LIFETIME),
            refresh,
            initial: self.initial(&scope)?,
            placement: Placement::header("Authorization".into(), "Bearer ".into()),
        })
    }

    fn request(&self, scope: &Scope) -> Result<TokenRequest> {
        let endpoint = self.endpoint.as_ref().map_or(Ok(String::new()), |endpoint| endpoint.text(scope))?;
        let headers = self.headers.as_ref().map_or(Ok(Map::new()), |headers| headers.mapping(scope))?;
        let members = self.members(scope, headers.contains_key("Authorization"))?;
        let (query, body) = if self.in_query { (members, Map::new()) } else { (Map::new(), members) };
        let url = url::prepare(&endpoint, &query).ok_or_else(|| {
            let told = format!("the token endpoint `{}` is no http:// or https:// URL", url::plain(&endpoint));
            RestError::config(told).at(&self.at)
        })?;
        let kind = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        Ok(TokenRequest {
            method: "POST".into(),
            url,
            content_type: kind.map_or_else(|| FORM.to_owned(), |(_, kind)| text::text(kind)),
            headers: headers.into_iter().map(|(name, value)| (name, Value::str(text::text(&value)))).collect(),
            body: text::form(body.iter()),
            jwt: self.assertion.as_ref().map(|jwt| jwt.order(Placement::placeholder(&jwt.at))).transpose()?,
        })
    }

    /// The members of the request's form.
    fn members(&self, scope: &Scope, in_header: bool) -> Result<Map> {
        let mut members = Map::from_iter([(self.grant.0.text(scope)?, Value::str(self.grant.1.text(scope)?))]);
        if let Some(jwt) = &self.assertion {
            members.insert("assertion".into(), Value::str(format!("{}{}", jwt.prefix()?, order::placeholder(&jwt.at))));
            return Ok(members);
        }
        if !in_header {
            let id = self.credential("client_id", self.client_id.1.as_ref(), scope)?;
            if id.is_empty() {
                return Err(RestError::config("`client_id` is empty").at(&self.at));
            }
            members.insert(self.client_id.0.text(scope)?, Value::str(id));
            let secret = self.credential("client_secret", self.client_secret.1.as_ref(), scope)?;
            members.insert(self.client_secret.0.text(scope)?, Value::str(secret));
        }
        let refresh = match &self.updater {
            Some(updater) => {
                Some(Value::str(at(&self.env.config, &updater.refresh).map(text::text).unwrap_or_default()))
            }
            None => self.refresh.1.as_ref().map(|token| token.text(scope).map(Value::str)).transpose()?,
        };
        if let Some(refresh) = refresh {
            members.insert(self.refresh_name(scope)?, refresh);
        }
        if !self.scopes.is_empty() {
            members.insert("scopes".into(), Value::list(self.scopes.clone()));
        }
        for (name, value) in self.body.as_ref().map_or(Ok(Map::new()), |body| body.mapping(scope))? {
            members.entry(name).or_insert(value);
        }
        Ok(members)
    }

    fn refresh_name(&self, scope: &Scope) -> Result<String> {
        self.updater.as_ref().map_or_else(|| self.refresh.0.text(scope), |updater| Ok(updater.name.clone()))
    }

    /// With an updater, what stands in the configuration's `credentials` wins.
    fn credential(&self, name: &str, template: Option<&Template>, scope: &Scope) -> Result<String> {
        let path = ["credentials".to_owned(), name.to_owned()];
        match self.updater.as_ref().and_then(|_| at(&self.env.config, &path)) {
            Some(value) => Ok(text::text(value)),
            None => template.map_or(Ok(String::new()), |template| template.text(scope)),
        }
    }

    /// A token counts only with a moment up to which it is valid.
    fn initial(&self, scope: &Scope) -> Result<Initial> {
        let (token, expires_at) = match &self.updater {
            Some(updater) => {
                let setting = |path: &[String]| at(&self.env.config, path).map(text::text);
                (setting(&updater.access), setting(&updater.expiry))
            }
            None => {
                let text = |template: &Option<Template>| template.as_ref().map(|text| text.text(scope)).transpose();
                (text(&self.access_token)?, text(&self.expires_at)?)
            }
        };
        let there = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        Ok(if there(&token) && there(&expires_at) { Initial { token, expires_at } } else { Initial::default() })
    }
}

impl Authenticator for OAuth {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async {
            if self.endpoint.is_none() {
                let token =
                    self.access_token.as_ref().map_or(Ok(String::new()), |token| token.text(&self.env.scope()))?;
                return Ok(token::header("Authorization", format!("Bearer {token}")));
            }
            let order = self.order().map_err(|error| error.at(&self.at))?;
            if self.env.orders {
                return Ok(order.parts());
            }
            let assertion = self.assertion.as_ref().map(|jwt| jwt.signed()).transpose()?;
            let refresh_name = self.refresh_name(&self.env.scope())?;
            let token = exchange::token(&order, &refresh_name, assertion.as_deref(), &self.env).await;
            let token = token.map_err(|error| error.at(&self.at))?;
            Ok(token::header("Authorization", format!("Bearer {token}")))
        })
    }

    fn invalidate(&self) {
        if let (false, Ok(order)) = (self.env.orders, self.order()) {
            exchange::forget(&order, &self.env);
        }
    }
}
