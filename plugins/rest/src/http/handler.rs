//! `DefaultErrorHandler` and `CompositeErrorHandler`: what an answer means, and how often it is tried again.

use super::{
    backoff::Backoff,
    filter::{Filter, Seen},
    resolution::{self, Action, Resolution},
    text,
};
use crate::{error::Result, interpolation::Template, limits, node::Node, stream::Env};

/// In seconds; the reference leaves manifests no choice.
pub const MAX_SECONDS: u32 = 600;
const DEFAULT_RETRIES: u32 = 5;

#[derive(Debug, Clone)]
pub struct ErrorHandler {
    /// One, or those of a composite in order.
    handlers: Vec<Handler>,
    pub backoffs: Vec<Backoff>,
    pub max_retries: u32,
}

#[derive(Debug, Clone)]
enum Handler {
    Filters(Vec<Filter>),
    Composite(Vec<Handler>),
}

impl Default for ErrorHandler {
    fn default() -> Self {
        Self { handlers: vec![Handler::Filters(Vec::new())], backoffs: Vec::new(), max_retries: DEFAULT_RETRIES }
    }
}

impl ErrorHandler {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: Option<&Node<'_>>, env: &Env) -> Result<Self> {
        let Some(node) = node else { return Ok(Self::default()) };
        let mut built = Self { handlers: Vec::new(), ..Self::default() };
        let mut retries = None;
        let handler = built.handler(node, env, &mut retries)?;
        built.handlers.push(handler);
        built.max_retries = retries.unwrap_or(DEFAULT_RETRIES);
        Ok(built)
    }

    /// The first handler's retries count; the strategies of all are asked in order.
    fn handler(&mut self, node: &Node<'_>, env: &Env, retries: &mut Option<u32>) -> Result<Handler> {
        match node.kind() {
            "DefaultErrorHandler" => {
                if retries.is_none() {
                    *retries = Some(max_retries(node, env)?);
                }
                for strategy in node.items("backoff_strategies") {
                    self.backoffs.push(Backoff::build(&strategy, env)?);
                }
                let filters = node.items("response_filters").into_iter();
                Ok(Handler::Filters(
                    filters.filter_map(|filter| Filter::build(&filter).transpose()).collect::<Result<_>>()?,
                ))
            }
            "CompositeErrorHandler" => {
                let members = node.items("error_handlers");
                if members.is_empty() {
                    return Err(node.wrong("`error_handlers` is empty"));
                }
                let handlers = members.iter().map(|member| self.handler(member, env, retries));
                Ok(Handler::Composite(handlers.collect::<Result<_>>()?))
            }
            _ => Err(node.unknown()),
        }
    }

    /// # Errors
    /// Kind config where a template fails.
    pub fn interpret(&self, seen: &Seen<'_>, env: &Env) -> Result<Resolution> {
        interpret_all(&self.handlers, seen, env)
    }
}

/// The first handler that has a final word; else what the last one says.
fn interpret_all(handlers: &[Handler], seen: &Seen<'_>, env: &Env) -> Result<Resolution> {
    let mut last = None;
    for handler in handlers {
        let resolution = match handler {
            Handler::Composite(members) => interpret_all(members, seen, env)?,
            Handler::Filters(filters) => interpret(filters, seen, env)?,
        };
        let goes_on = matches!(resolution.action, Action::Fail | Action::RateLimited | Action::RefreshThenRetry);
        if !goes_on {
            return Ok(resolution);
        }
        last = Some(resolution);
    }
    Ok(last.unwrap_or_else(resolution::fallback))
}

fn interpret(filters: &[Filter], seen: &Seen<'_>, env: &Env) -> Result<Resolution> {
    for filter in filters {
        if let Some(resolution) = filter.matches(seen, env)? {
            return Ok(resolution);
        }
    }
    if seen.answer.status < 400 {
        return Ok(Resolution::success());
    }
    Ok(resolution::by_status(seen.answer.status).unwrap_or_else(resolution::fallback))
}

fn max_retries(node: &Node<'_>, env: &Env) -> Result<u32> {
    let Some(retries) = node.get("max_retries") else { return Ok(DEFAULT_RETRIES) };
    let value = Template::new(&retries, node)?.value(&env.scope())?;
    let number = value.as_int().or_else(|| text::text(&value).trim().parse().ok());
    let number = number.ok_or_else(|| retries.wrong("this has to be a whole number"))?;
    Ok(u32::try_from(number.max(0)).unwrap_or(u32::MAX).min(limits::MAX_RETRIES))
}
