//! `DefaultPaginator` and `NoPagination`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::strategy::Strategy;
use crate::{
    error::{RestError, Result},
    http::{RequestOption, RequestParts, ResponseUse, text, url},
    limits,
    node::Node,
    partition::Slice,
    stream::Env,
    value::Value,
    wire::Answer,
};

/// What is known of the page that was read.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    pub answer: &'a Answer,
    /// What the decoder makes of the body, as far as [`Paginator::looks_at_response`] asks for.
    pub response: &'a Value,
    /// Records that the extractor found, before any was filtered out.
    pub extracted: usize,
    /// Records that are left of them.
    pub emitted: usize,
    /// Of those that are left.
    pub last_record: Option<&'a Value>,
    /// That this page was asked for with.
    pub last_token: Option<&'a Value>,
    /// The page size that it was asked for with, where it is not the manifest's.
    pub size_override: Option<i64>,
    pub slice: Option<&'a Slice>,
}

#[derive(Debug)]
pub struct Paginator {
    env: Env,
    at: String,
    paging: Option<Paging>,
}

#[derive(Debug)]
struct Paging {
    strategy: Strategy,
    size_option: Option<RequestOption>,
    token_place: Option<TokenPlace>,
}

#[derive(Debug)]
enum TokenPlace {
    Option(RequestOption),
    /// The token is the address of the next page.
    Path,
}

/// How often in a row a page's token was that of the page before, and the last such page. Whoever goes from page to page
/// keeps one, begun anew with pagination: pieces that are read at once share a paginator.
#[derive(Debug, Default)]
pub struct Repeated {
    times: u32,
    page: Option<u64>,
}

impl Paginator {
    /// `None` stands for no pagination.
    ///
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: Option<&Node<'_>>, env: &Env) -> Result<Self> {
        let paging = match node {
            None => None,
            Some(node) => match node.kind() {
                "NoPagination" => None,
                "DefaultPaginator" => Some(Paging::build(node, env)?),
                _ => return Err(node.unknown()),
            },
        };
        let at = node.map(|node| node.path.clone()).unwrap_or_default();
        Ok(Self { env: env.clone(), at, paging })
    }

    /// The token of the first request, if it has one.
    pub fn initial_token(&self) -> Option<Value> {
        self.paging.as_ref()?.strategy.initial()
    }

    /// What asking for the page of this token adds to a request.
    ///
    /// # Errors
    /// Kind config where a template fails.
    pub fn parts(&self, token: Option<&Value>, size_override: Option<i64>) -> Result<RequestParts> {
        let mut parts = RequestParts::default();
        let Some(paging) = &self.paging else { return Ok(parts) };
        let scope = self.env.scope();
        match (token, &paging.token_place) {
            (Some(token), Some(TokenPlace::Option(option))) => option.inject(&mut parts, token.clone(), &scope)?,
            (Some(token), Some(TokenPlace::Path)) if token.truthy() => parts.path = Some(text::text(token)),
            _ => {}
        }
        if let Some(option) = &paging.size_option {
            let size = size_override.map_or_else(|| paging.strategy.page_size(&scope), |size| Ok(Some(size)))?;
            if let Some(size) = size.filter(|size| *size != 0) {
                option.inject(&mut parts, Value::Int(size), &scope)?;
            }
        }
        Ok(parts)
    }

    /// The token of the next page; `None` where this was the last one.
    ///
    /// # Errors
    /// Kind config where a template fails; system where the source never comes to an end.
    pub fn next(&self, page: &Page<'_>, repeated: &mut Repeated) -> Result<Option<Value>> {
        let Some(paging) = &self.paging else { return Ok(None) };
        let next = paging.strategy.next(page, &self.env).map_err(|error| error.at(&self.at))?;
        let Some(next) = next.filter(Value::truthy) else { return Ok(None) };
        if paging.strategy.is_cursor() {
            self.watch(page, &next, repeated)?;
        }
        Ok(Some(next))
    }

    /// Some sources give the same token for every page until there is none left. One that gives the same page for it
    /// as well would be asked forever.
    fn watch(&self, page: &Page<'_>, next: &Value, repeated: &mut Repeated) -> Result<()> {
        if page.last_token != Some(next) {
            *repeated = Repeated::default();
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        page.answer.body.hash(&mut hasher);
        let seen = Some(hasher.finish());
        let same = std::mem::replace(&mut repeated.page, seen) == seen;
        repeated.times += 1;
        if !same && repeated.times < limits::MAX_REPEATED_TOKENS {
            return Ok(());
        }
        let (stream, address) = (&self.env.stream, url::plain(&page.answer.url));
        let told = format!(
            "stream `{stream}`: {address} gives the same next page again and again, so that it would be read forever; \
             look at the paginator's `stop_condition` and `cursor_value`"
        );
        Err(RestError::system(told).at(&self.at))
    }

    /// The page size that the manifest asks for.
    ///
    /// # Errors
    /// Kind config where a template gives no number.
    pub fn page_size(&self) -> Result<Option<i64>> {
        self.paging.as_ref().map_or(Ok(None), |paging| paging.strategy.page_size(&self.env.scope()))
    }

    /// What of an answer's body the next token depends on.
    pub fn looks_at_response(&self) -> ResponseUse {
        self.paging.as_ref().map(|paging| paging.strategy.looks_at_response()).unwrap_or_default()
    }

    /// Whether the next token depends on the last record.
    pub fn looks_at_last_record(&self) -> bool {
        self.paging.as_ref().is_some_and(|paging| paging.strategy.looks_at_last_record())
    }
}

impl Paging {
    fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let strategy = Strategy::build(&node.need("pagination_strategy")?, env)?;
        let size_option = node.get("page_size_option").map(|option| RequestOption::build(&option)).transpose()?;
        let token_place = match node.get("page_token_option") {
            None => None,
            Some(option) if option.kind() == "RequestPath" => Some(TokenPlace::Path),
            Some(option) => Some(TokenPlace::Option(RequestOption::build(&option)?)),
        };
        let scope = env.scope();
        if size_option.is_some() && strategy.page_size(&scope)?.is_none() {
            return Err(node.wrong("`page_size_option` needs a `page_size` of the pagination strategy"));
        }
        if let (Some(size), Some(TokenPlace::Option(token))) = (&size_option, &token_place)
            && size.meets(token, &scope)?
        {
            return Err(node.wrong("`page_size_option` and `page_token_option` set the same field"));
        }
        Ok(Self { strategy, size_option, token_place })
    }
}
