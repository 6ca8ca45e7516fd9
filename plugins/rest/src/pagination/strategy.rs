//! Pagination strategies: the token of the next page.

use super::{links, paginator::Page};
use crate::{
    error::{RestError, Result},
    http::{ResponseUse, look, text},
    interpolation::{Scope, Template},
    node::Node,
    partition::Slice,
    stream::Env,
    value::Value,
};

#[derive(Debug, Clone)]
pub enum Strategy {
    Pages { size: Option<i64>, first: i64, on_first: bool },
    Offset { size: OffsetSize, on_first: bool },
    Cursor { value: Template, stop: Option<Template>, size: Option<i64> },
}

#[derive(Debug, Clone)]
pub enum OffsetSize {
    None,
    Constant(i64),
    /// May look at the answer.
    Template(Template),
}

impl Strategy {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let on_first = || node.flag("inject_on_first_request", false);
        match node.kind() {
            "PageIncrement" => Ok(Self::Pages {
                size: constant_size(node, env)?,
                first: node.int("start_from_page")?.unwrap_or(0),
                on_first: on_first()?,
            }),
            "OffsetIncrement" => Ok(Self::Offset { size: offset_size(node)?, on_first: on_first()? }),
            "CursorPagination" => {
                let value = Template::new(&node.need("cursor_value")?, node)?;
                let stop = node.get("stop_condition").map(|stop| Template::new(&stop, node)).transpose()?;
                let size = constant_size(node, env)?;
                let texts = [Some(&value.source), stop.as_ref().map(|stop| &stop.source)];
                if size.is_none() && look::names(texts.into_iter().flatten(), "page_size") {
                    return Err(node.wrong("`page_size` is missing, which a template looks at"));
                }
                Ok(Self::Cursor { value, stop, size })
            }
            _ => Err(node.unknown()),
        }
    }

    pub fn initial(&self) -> Option<Value> {
        match self {
            Self::Pages { first, on_first: true, .. } => Some(Value::Int(*first)),
            Self::Offset { on_first: true, .. } => Some(Value::Int(0)),
            _ => None,
        }
    }

    /// # Errors
    /// Kind config where a template gives no number.
    pub fn page_size(&self, scope: &Scope) -> Result<Option<i64>> {
        match self {
            Self::Pages { size, .. } | Self::Cursor { size, .. } => Ok(*size),
            Self::Offset { size: OffsetSize::None, .. } => Ok(None),
            Self::Offset { size: OffsetSize::Constant(size), .. } => Ok(Some(*size)),
            Self::Offset { size: OffsetSize::Template(template), .. } => number(template, scope).map(Some),
        }
    }

    /// # Errors
    /// Kind config where a template fails, or the last token is none that the strategy gives.
    pub fn next(&self, page: &Page<'_>, env: &Env) -> Result<Option<Value>> {
        match self {
            Self::Pages { size, first, .. } => counted(page, *size, |last| last.unwrap_or(*first).saturating_add(1)),
            Self::Offset { size, .. } => {
                let size = match (page.size_override, size) {
                    (Some(size), _) => Some(size),
                    (None, OffsetSize::None) => None,
                    (None, OffsetSize::Constant(size)) => Some(*size),
                    (None, OffsetSize::Template(template)) => {
                        Some(number(template, &env.scope().with("response", page.response.clone()))?)
                    }
                };
                let records = i64::try_from(page.extracted).unwrap_or(i64::MAX);
                counted(page, size, |last| last.unwrap_or(0).saturating_add(records))
            }
            Self::Cursor { value, stop, size } => {
                let scope = cursor_scope(page, [Some(value), stop.as_ref()], page.size_override.or(*size), env);
                if stop.as_ref().map_or(Ok(false), |stop| stop.boolean(&scope))? {
                    return Ok(None);
                }
                Ok(Some(value.value(&scope)?))
            }
        }
    }

    fn templates(&self) -> Vec<&Value> {
        match self {
            Self::Pages { .. } | Self::Offset { size: OffsetSize::None | OffsetSize::Constant(_), .. } => Vec::new(),
            Self::Offset { size: OffsetSize::Template(size), .. } => vec![&size.source],
            Self::Cursor { value, stop, .. } => {
                [Some(value), stop.as_ref()].into_iter().flatten().map(|template| &template.source).collect()
            }
        }
    }

    pub fn looks_at_response(&self) -> ResponseUse {
        ResponseUse::of(self.templates())
    }

    pub fn looks_at_last_record(&self) -> bool {
        look::names(self.templates(), "last_record")
    }

    pub fn is_cursor(&self) -> bool {
        matches!(self, Self::Cursor { .. })
    }
}

/// Ends with a page that is empty or shorter than it was asked for.
fn counted(page: &Page<'_>, size: Option<i64>, next: impl Fn(Option<i64>) -> i64) -> Result<Option<Value>> {
    let records = i64::try_from(page.extracted).unwrap_or(i64::MAX);
    if records == 0 || size.is_some_and(|size| size != 0 && records < size) {
        return Ok(None);
    }
    let last = match page.last_token {
        None => None,
        Some(token) => Some(token.as_int().ok_or_else(|| {
            RestError::system(format!("the last page's token `{}` is no whole number", text::text(token)))
        })?),
    };
    Ok(Some(Value::Int(next(last))))
}

fn cursor_scope(page: &Page<'_>, templates: [Option<&Template>; 2], size: Option<i64>, env: &Env) -> Scope {
    let texts = || templates.iter().flatten().map(|template| &template.source);
    let mut headers = look::headers(page.answer, texts());
    headers.insert("link".into(), links::links(page.answer));
    env.scope()
        .with("response", page.response.clone())
        .with("headers", Value::map(headers))
        .with("last_record", page.last_record.cloned().unwrap_or_default())
        .with("last_page_size", Value::Int(i64::try_from(page.emitted).unwrap_or(i64::MAX)))
        .with("page_size", size.map(Value::Int).unwrap_or_default())
        .with("stream_slice", page.slice.map(Slice::value).unwrap_or_default())
}

fn number(template: &Template, scope: &Scope) -> Result<i64> {
    let value = template.value(scope)?;
    let told = || RestError::config(format!("`{}` is no whole number", text::text(&value))).at(&template.at);
    value.as_int().ok_or_else(told)
}

/// A number, or a template over the configuration that gives one.
fn constant_size(node: &Node<'_>, env: &Env) -> Result<Option<i64>> {
    match offset_size(node)? {
        OffsetSize::None => Ok(None),
        OffsetSize::Constant(size) => Ok(Some(size)),
        OffsetSize::Template(template) => number(&template, &env.scope()).map(Some),
    }
}

fn offset_size(node: &Node<'_>) -> Result<OffsetSize> {
    let Some(member) = node.get("page_size") else { return Ok(OffsetSize::None) };
    match member.value {
        Value::Int(0) => Ok(OffsetSize::None),
        Value::Int(size) => Ok(OffsetSize::Constant(*size)),
        Value::Str(text) if text.is_empty() => Ok(OffsetSize::None),
        Value::Str(text) => match text.parse() {
            Ok(size) => Ok(OffsetSize::Constant(size)),
            Err(_) => Ok(OffsetSize::Template(Template::new(&member, node)?)),
        },
        _ => Err(member.wrong("this has to be a whole number")),
    }
}
