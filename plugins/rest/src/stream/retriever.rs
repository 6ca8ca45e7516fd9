//! How the records of one piece are got: the requests and what becomes of their answers (`SimpleRetriever`), or jobs of
//! the source (`AsyncRetriever`).

use std::{cell::OnceCell, rc::Rc};

use futures_util::future::LocalBoxFuture;

use crate::{
    cursor::{Cursor, Piece},
    error::Result,
    extract::{Around, Context, Look, Page, Record, Selector},
    http::{Outcome, RequestContext, RequestOption, RequestParts, Requester, ResponseUse},
    interpolation::Scope,
    node::Node,
    pagination::{self, PageSizeReducer, PageSizeReduction, Paginator},
    partition::Slice,
    schema::{FirstRecord, Loader},
    stream::{Env, Stream, jobs::Jobs, properties::Properties},
    value::{Map, Value},
    wire::Answer,
};

/// Whether a record is new, by the stream's cursor.
pub type IsNew<'a> = &'a dyn Fn(&Record, &Scope) -> Result<bool>;

/// What every piece of a stream is read with.
pub struct Retriever {
    pub env: Env,
    pub paginator: Paginator,
    pub asks: Asks,
    selector: Selector,
    loader: Loader,
    schema: OnceCell<Value>,
    looks: ResponseUse,
    /// Whether partition and cursor say something only in the request of the first page.
    only_first: bool,
    /// Pagination ends at the first record that is not new, and such records are dropped.
    pub is_data_feed: bool,
    /// Records that are not new are dropped before everything else.
    client_side: bool,
    /// Records after which pagination begins anew.
    pub record_limit: Option<usize>,
    /// Whether it then asks for what is left of the slice.
    pub shortens_slices: bool,
    lazy: bool,
    pub properties: Option<Properties>,
    bounds: Option<Bounds>,
    reduction: Option<PageSizeReduction>,
}

/// What the cursor adds to requests: the ends of the window, by the slice's names for them.
struct Bounds {
    from: Option<RequestOption>,
    to: Option<RequestOption>,
    names: (String, String),
}

impl Bounds {
    fn build(sync: &Node<'_>, cursor: &Cursor) -> Result<Self> {
        let option = |key: &str| sync.get(key).map(|node| RequestOption::build(&node)).transpose();
        let names = cursor.setting.as_ref().and_then(|setting| setting.bounds.clone());
        Ok(Self {
            from: option("start_time_option")?.or(option("start_value_option")?),
            to: option("end_time_option")?,
            names: names.unwrap_or_else(|| ("start".into(), "end".into())),
        })
    }

    /// Added to what the router adds; the cursor's stays where both set the same.
    fn add(&self, slice: &Slice, parts: &mut RequestParts, scope: &Scope) -> Result<()> {
        let mut own = RequestParts::default();
        for (option, name) in [(&self.from, &self.names.0), (&self.to, &self.names.1)] {
            if let Some(option) = option {
                option.inject(&mut own, slice.cursor.get(name).cloned().unwrap_or_default(), scope)?;
            }
        }
        parts.params.extend(own.params);
        parts.headers.extend(own.headers);
        for (body, own) in [(&mut parts.body_data, own.body_data), (&mut parts.body_json, own.body_json)] {
            if let Some(own) = own.as_map() {
                body.map_mut().extend(own.clone());
            }
        }
        Ok(())
    }
}

/// What is asked.
pub enum Asks {
    Pages(Box<Requester>),
    Jobs(Box<Jobs>),
}

impl Retriever {
    /// `stream` is the stream's node, `node` its `retriever`, `state` what the last run left.
    ///
    /// # Errors
    /// Kind config, naming the place.
    pub fn build(stream: &Node<'_>, node: &Node<'_>, cursor: &Cursor, env: &Env, state: &Value) -> Result<Self> {
        let sync = stream.get("incremental_sync");
        let says = |key: &str| sync.as_ref().map_or(Ok(false), |sync| sync.flag(key, false));
        let (is_data_feed, by_client) = (says("is_data_feed")?, says("is_client_side_incremental")?);
        let around = Around {
            decoder: node.get("decoder"),
            transformations: stream.items("transformations"),
            transform_first: by_client,
        };
        let (asks, paginator, properties) = match node.kind() {
            "SimpleRetriever" => {
                let requester = node.need("requester")?;
                let properties = Properties::build(&requester, env)?;
                let paginator = Paginator::build(node.get("paginator").as_ref(), env)?;
                (Asks::Pages(Box::new(Requester::build(&requester, env)?)), paginator, properties)
            }
            "AsyncRetriever" => (Asks::Jobs(Box::new(Jobs::build(node, env)?)), Paginator::build(None, env)?, None),
            _ => return Err(node.unknown()),
        };
        let reset = node.get("pagination_reset");
        let limits = reset.as_ref().and_then(|reset| reset.get("limits"));
        let limit = limits.map(|limits| limits.int("number_of_records")).transpose()?.flatten();
        let action = reset.as_ref().and_then(|reset| reset.value.get("action")).and_then(Value::as_str);
        Ok(Self {
            looks: paginator.looks_at_response(),
            paginator,
            asks,
            selector: Selector::build(&node.need("record_selector")?, &around, env)?,
            loader: Loader::build(stream, env, &|retriever| First::build(retriever, env))?,
            schema: OnceCell::new(),
            only_first: node.flag("ignore_stream_slicer_parameters_on_paginated_requests", false)?,
            is_data_feed,
            client_side: by_client && !is_data_feed,
            record_limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            shortens_slices: action == Some("SPLIT_USING_CURSOR"),
            lazy: !state.truthy() && reads_lazily(node),
            properties,
            reduction: node.get("page_size_reduction").map(|node| PageSizeReduction::build(&node)).transpose()?,
            bounds: sync.as_ref().map(|sync| Bounds::build(sync, cursor)).transpose()?,
            env: env.clone(),
        })
    }

    pub fn counts_records(&self) -> bool {
        self.record_limit.is_some() || self.shortens_slices
    }

    /// What makes the pages of one piece smaller, where the manifest provides for it.
    ///
    /// # Errors
    /// Kind config: the page size is no number.
    pub fn reducer(&self) -> Result<Option<PageSizeReducer>> {
        let Some(reduction) = &self.reduction else { return Ok(None) };
        Ok(Some(PageSizeReducer::new(reduction.clone(), self.paginator.page_size()?)))
    }

    /// Asks for one page, of the paginator's size unless there is another one.
    ///
    /// # Errors
    /// Those of the source, by the manifest's error handler; kind config: templates.
    pub async fn ask(&self, slice: &Slice, piece: &Piece, token: Option<&Value>, size: Option<i64>) -> Result<Outcome> {
        let Asks::Pages(requester) = &self.asks else {
            return Err(crate::error::RestError::system("jobs are not asked for by pages"));
        };
        let mut parts = vec![self.paginator.parts(token, size)?];
        if token.is_none() || !self.only_first {
            let mut own = piece.parts.clone();
            if let Some(bounds) = &self.bounds {
                bounds.add(slice, &mut own, &self.env.scope())?;
            }
            parts.push(own);
        }
        let context =
            RequestContext { slice: Some(slice), next_page_token: token, parts: &parts, ..RequestContext::default() };
        requester.send(&context).await
    }

    /// The records of an answer.
    ///
    /// # Errors
    /// Kind system: the answer is not what the manifest says. Kind config: templates.
    pub async fn select(
        &self,
        answer: &Answer,
        slice: &Slice,
        token: Option<&Value>,
        is_new: IsNew<'_>,
    ) -> Result<Page> {
        let scope = self.env.scope();
        let keeps = |record: &Record| is_new(record, &scope);
        let schema = self.schema().await?;
        self.selector.select(answer, &self.context(slice, token, &keeps, schema))
    }

    /// Filters and transforms records that came another way.
    ///
    /// # Errors
    /// As [`Retriever::select`].
    pub async fn refine(&self, records: Vec<Record>, slice: &Slice, is_new: IsNew<'_>) -> Result<Vec<Record>> {
        let scope = self.env.scope();
        let keeps = |record: &Record| is_new(record, &scope);
        let schema = self.schema().await?;
        self.selector.refine(records, &self.context(slice, None, &keeps, schema))
    }

    fn context<'a>(
        &self,
        slice: &'a Slice,
        next_page_token: Option<&'a Value>,
        keeps: &'a dyn Fn(&Record) -> Result<bool>,
        schema: Option<&'a Value>,
    ) -> Context<'a> {
        Context { slice: Some(slice), next_page_token, schema, keeps: self.client_side.then_some(keeps) }
    }

    /// The stream's schema, where records are normalized by it.
    async fn schema(&self) -> Result<Option<&Value>> {
        if !self.selector.normalizes() {
            return Ok(None);
        }
        if self.schema.get().is_none() {
            let loaded = self.loader.load().await?;
            let _ = self.schema.set(loaded);
        }
        Ok(self.schema.get())
    }

    /// What asks for the page after this one; `None` after the last.
    ///
    /// # Errors
    /// Kind config: templates. Kind system: the same page again and again.
    pub fn next_token(
        &self,
        answer: &Answer,
        page: &Page,
        token: Option<&Value>,
        (slice, size): (&Slice, Option<i64>),
        repeated: &mut pagination::Repeated,
    ) -> Result<Option<Value>> {
        let look = match &self.looks {
            ResponseUse::Nothing => Look::Nothing,
            ResponseUse::Members(names) => Look::Members(names),
            ResponseUse::All => Look::All,
        };
        let response = page.response(look);
        let last = page.records.last().map(Record::value).filter(|_| self.paginator.looks_at_last_record());
        let asked = pagination::Page {
            answer,
            response: &response,
            extracted: page.extracted,
            emitted: page.records.len(),
            last_record: last.as_ref(),
            last_token: token,
            size_override: size,
            slice: Some(slice),
        };
        self.paginator.next(&asked, repeated)
    }

    /// The first page of a child that stands in its parent's record.
    pub fn lazy_answer(&self, slice: &Slice) -> Option<Answer> {
        let held = slice.extra_fields.get("child_response").filter(|_| self.lazy)?;
        Some(Answer { status: 200, body: held.to_json().into(), ..Answer::default() })
    }
}

fn reads_lazily(node: &Node<'_>) -> bool {
    let Some(router) = node.get("partition_router").filter(|router| router.kind() == "SubstreamPartitionRouter") else {
        return false;
    };
    let names = |parent: &Node<'_>| parent.get("lazy_read_pointer").is_some_and(|pointer| pointer.value.truthy());
    router.items("parent_stream_configs").iter().any(names)
}

/// The first record of a retriever inside a schema loader.
struct First {
    stream: Value,
    path: String,
    env: Env,
}

impl First {
    fn build(retriever: &Node<'_>, env: &Env) -> Result<Rc<dyn FirstRecord>> {
        let name = Value::str(&env.stream);
        let stream: Map = [
            ("type".into(), "DeclarativeStream".into()),
            ("name".into(), name),
            ("retriever".into(), retriever.value.clone()),
        ]
        .into();
        Ok(Rc::new(Self { stream: Value::map(stream), path: retriever.path.clone(), env: env.clone() }))
    }
}

impl FirstRecord for First {
    fn first(&self) -> LocalBoxFuture<'_, Result<Option<Value>>> {
        Box::pin(async move {
            let node = Node { value: &self.stream, path: self.path.clone() };
            let stream = Stream::build(&node, &self.env, &Value::map(Map::new()))?;
            Ok(stream.first_record().await?.map(|record| record.value()))
        })
    }
}

/// The fields of a stream for the catalog.
///
/// # Errors
/// Kind config; those of the source where it is asked.
pub async fn json_schema(stream: &Node<'_>, env: &Env) -> Result<Value> {
    let name = stream.value.get("name").and_then(Value::as_str).unwrap_or_default();
    let env = Env { stream: name.into(), ..env.clone() };
    Loader::build(stream, &env, &|retriever| First::build(retriever, &env))?.load().await
}
