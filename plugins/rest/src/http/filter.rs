//! `HttpResponseFilter`: which answers a manifest has its own word on.

use std::cell::OnceCell;

use super::{
    error_text::error_text,
    look::{self, ResponseUse},
    resolution::{self, Action, Resolution},
    url,
};
use crate::{
    error::{Kind, Result},
    interpolation::{Scope, Template},
    node::Node,
    stream::Env,
    value::{Map, Value},
    wire::Answer,
};

/// One answer, with what was found in it so far.
pub struct Seen<'a> {
    pub answer: &'a Answer,
    error: OnceCell<Option<String>>,
}

impl<'a> Seen<'a> {
    pub fn new(answer: &'a Answer) -> Self {
        Self { answer, error: OnceCell::new() }
    }

    pub fn error(&self) -> Option<&str> {
        self.error.get_or_init(|| error_text(&self.answer.body)).as_deref()
    }

    /// `response`, `headers` and `request_url` for one template.
    pub fn scope(&self, template: &Template, mut scope: Scope) -> Scope {
        let response = ResponseUse::of([&template.source]).read(&self.answer.body);
        scope.set("response", response.unwrap_or_else(|| Value::map(Map::new())));
        scope.set("headers", Value::map(look::headers(self.answer, [&template.source])));
        scope.set("request_url", Value::str(url::plain(&self.answer.url)));
        scope
    }
}

#[derive(Debug, Clone)]
pub struct Filter {
    action: Action,
    kind: Option<Kind>,
    codes: Vec<u16>,
    contains: Option<String>,
    predicate: Option<Template>,
    message: Option<Template>,
}

impl Filter {
    /// `None` where it says nothing to do: such a filter matches nothing.
    ///
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>) -> Result<Option<Self>> {
        let Some(action) = node.get("action") else { return Ok(None) };
        let parsed = Action::parse(action.text()?);
        let text = |name: &str| node.get(name).filter(|text| text.value.truthy());
        let template = |name: &str| text(name).map(|text| Template::new(&text, node)).transpose();
        let code = |code: Node<'_>| {
            let number = code.value.as_int().or_else(|| code.value.as_str()?.parse().ok());
            number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| code.wrong("this is no HTTP status"))
        };
        Ok(Some(Self {
            action: parsed.ok_or_else(|| action.wrong("this action is not known here"))?,
            kind: text("failure_type").map(|kind| failure(&kind)).transpose()?,
            codes: node.items("http_codes").into_iter().map(code).collect::<Result<_>>()?,
            contains: text("error_message_contains").map(|text| text.text().map(str::to_owned)).transpose()?,
            predicate: template("predicate")?,
            message: template("error_message")?,
        }))
    }

    /// # Errors
    /// Kind config where a template fails.
    pub fn matches(&self, seen: &Seen<'_>, env: &Env) -> Result<Option<Resolution>> {
        let status = seen.answer.status;
        if !(self.codes.contains(&status) || self.predicate_holds(seen, env)? || self.is_in_error(seen)) {
            return Ok(None);
        }
        let default = resolution::by_status(status);
        let kind = match (self.kind, self.action) {
            (Some(kind), Action::Fail) => kind,
            _ => default.map_or(Kind::System, |default| default.kind),
        };
        let message = match &self.message {
            Some(message) => message.text(&seen.scope(message, env.scope()))?,
            None => String::new(),
        };
        Ok(Some(Resolution { action: self.action, kind, message }))
    }

    fn predicate_holds(&self, seen: &Seen<'_>, env: &Env) -> Result<bool> {
        let Some(predicate) = &self.predicate else { return Ok(false) };
        // The reference gives predicates no configuration.
        let scope = Scope::new(env.wire.now_us()).with("config", Value::Null);
        predicate.boolean(&seen.scope(predicate, scope))
    }

    fn is_in_error(&self, seen: &Seen<'_>) -> bool {
        self.contains.as_ref().is_some_and(|part| seen.error().is_some_and(|error| error.contains(part.as_str())))
    }
}

fn failure(node: &Node<'_>) -> Result<Kind> {
    match node.text()? {
        "config_error" => Ok(Kind::Config),
        "transient_error" => Ok(Kind::Transient),
        "system_error" => Ok(Kind::System),
        other => Err(node.wrong(format!("`{other}` is no kind of failure"))),
    }
}
