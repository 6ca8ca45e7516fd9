//! `HttpRequester`: from a manifest's component and a context to a request.

use std::rc::Rc;

use super::{
    handler::ErrorHandler,
    input::Inputs,
    options::{self, RequestParts},
    prepare, sending, url,
};
use crate::{
    auth::{self, Authenticator},
    error::{RestError, Result},
    interpolation::{Scope, Template},
    node::Node,
    partition::Slice,
    stream::Env,
    value::{Map, Value},
    wire::{Answer, Exchange},
};

/// What one request is for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestContext<'a> {
    pub slice: Option<&'a Slice>,
    /// The token itself; templates see it inside of an object, as the reference has it.
    pub next_page_token: Option<&'a Value>,
    /// Of the paginator, the cursor, the partition router.
    pub parts: &'a [RequestParts],
    /// Such as `creation_response`, `polling_response`, `download_target`, `query_properties`.
    pub variables: &'a [(&'static str, Value)],
}

/// Variables that a slice's extra fields become.
const EXTRA_VARIABLES: [&str; 4] = ["creation_response", "polling_response", "download_target", "query_properties"];

impl RequestContext<'_> {
    /// The variables of a requester's templates.
    pub fn scope(&self, env: &Env) -> Scope {
        let token = |token: &Value| Value::map(Map::from_iter([("next_page_token".to_owned(), token.clone())]));
        let mut scope = env
            .scope()
            .with("stream_slice", self.slice.map(Slice::value).unwrap_or_default())
            .with("next_page_token", self.next_page_token.map(token).unwrap_or_default());
        for name in EXTRA_VARIABLES {
            if let Some(value) = self.slice.and_then(|slice| slice.extra_fields.get(name)) {
                scope.set(name, value.clone());
            }
        }
        for (name, value) in self.variables {
            scope.set(name, value.clone());
        }
        scope
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answer(Answer),
    /// To be treated as if there were nothing: no records, no further page.
    Ignored,
    ResetPagination,
    /// With the manifest's message, which may be empty.
    ReducePageSize(String),
    SplitWindow(String),
}

pub struct Requester {
    pub(super) env: Env,
    /// Path inside the manifest.
    pub(super) at: String,
    pub(super) authenticator: Rc<dyn Authenticator>,
    pub(super) handler: ErrorHandler,
    method: String,
    url: Option<Template>,
    url_base: Option<Template>,
    path: Option<Template>,
    inputs: Inputs,
    cached: bool,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester").field("at", &self.at).finish_non_exhaustive()
    }
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

impl Requester {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        if !matches!(node.kind(), "HttpRequester" | "") {
            return Err(node.unknown());
        }
        let method = match node.get("http_method") {
            None => "GET".to_owned(),
            Some(method) => {
                let name = method.text()?.to_ascii_uppercase();
                METHODS
                    .contains(&name.as_str())
                    .then_some(name)
                    .ok_or_else(|| method.wrong("this is no HTTP method"))?
            }
        };
        let template = |name: &str| {
            let text = node.get(name).filter(|text| text.value.truthy());
            text.map(|text| Template::new(&text, node)).transpose()
        };
        let (url, url_base) = (template("url")?, template("url_base")?);
        if url.is_none() && url_base.is_none() {
            return Err(node.wrong("`url` is missing"));
        }
        let base = node.get("url").or_else(|| node.get("url_base"));
        Ok(Self {
            env: env.clone(),
            at: node.path.clone(),
            authenticator: auth::build(node.get("authenticator").as_ref(), base.as_ref(), env)?,
            handler: ErrorHandler::build(node.get("error_handler").as_ref(), env)?,
            method,
            url,
            url_base,
            path: template("path")?,
            inputs: Inputs::build(node)?,
            cached: node.flag("use_cache", false)?,
        })
    }

    /// Sends one request, as often as its error handler says.
    ///
    /// # Errors
    /// Kind config where templates fail or the parts of the request do not fit together; else as the error handler
    /// says, in a sentence that names stream, address and status.
    pub async fn send(&self, context: &RequestContext<'_>) -> Result<Outcome> {
        let exchange = self.prepare(context).await.map_err(|error| error.at(&self.at))?;
        sending::send(self, exchange).await.map_err(|error| error.at(&self.at))
    }

    /// The request as it is sent first.
    ///
    /// # Errors
    /// As [`Self::send`], before anything is sent.
    pub async fn prepare(&self, context: &RequestContext<'_>) -> Result<Exchange> {
        let scope = context.scope(&self.env);
        let own = self.inputs.evaluate(&scope)?;
        let auth = self.authenticator.parts().await?;
        let parts =
            options::combine([&own, &auth].into_iter().chain(context.parts)).map_err(|told| self.wrong(&told))?;
        if parts.headers.contains_key("thimble-token") && parts.headers.contains_key("Authorization") {
            return Err(
                self.wrong("the manifest sets the header `Authorization`, which its authenticator sets as well")
            );
        }
        let address = self.address(parts.path.as_deref(), &scope)?;
        let mut exchange = prepare::prepare(&self.method, &address, &parts).map_err(|told| self.wrong(&told))?;
        if self.env.orders {
            let pace = self.env.budget.as_ref().and_then(|budget| budget.pace(&exchange));
            exchange.headers.extend(pace.map(|pace| ("thimble-pace".to_owned(), pace)));
            exchange.headers.extend(self.cached.then(|| ("thimble-cache".to_owned(), "run".to_owned())));
        }
        Ok(exchange)
    }

    fn wrong(&self, told: &str) -> RestError {
        RestError::config(format!("stream `{}`: {told}", self.env.stream)).at(&self.at)
    }

    /// `path` is a paginator's.
    fn address(&self, path: Option<&str>, scope: &Scope) -> Result<String> {
        let text = |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |text| text.text(scope));
        let base = text(&self.url_base)?;
        let base = if base.is_empty() { text(&self.url)? } else { base };
        match path {
            Some(path) => Ok(url::join(&base, path)),
            None => Ok(url::join(&base, text(&self.path)?.trim_start_matches('/'))),
        }
    }
}
