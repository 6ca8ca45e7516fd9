//! `AsyncRetriever`: a source makes a job of a request, is asked how far it is, and gives its result to download.

use std::rc::Rc;

use crate::{
    cursor::Cursor,
    error::{RestError, Result},
    extract::{Decoder, Extractor},
    http::{Outcome, RequestContext, Requester},
    interpolation::Template,
    limits::MAX_DOWNLOADS,
    node::Node,
    partition::Slice,
    stream::{Env, retriever::Retriever},
    value::{Map, Value},
    wire::Answer,
};

/// Between two questions how far a job is.
const POLL_US: u64 = 5_000_000;
/// Of one piece, the first included.
const ATTEMPTS: usize = 3;
const DEFAULT_TIMEOUT_MINUTES: i64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Running,
    Completed,
    Failed,
    TimedOut,
    Skipped,
}

/// The requests around the jobs of one stream.
pub struct Jobs {
    env: Env,
    creation: Requester,
    polling: Requester,
    abort: Option<Requester>,
    delete: Option<Requester>,
    target_requester: Option<Requester>,
    status: Extractor,
    targets: Option<Extractor>,
    decoder: Decoder,
    statuses: Vec<(String, Status)>,
    timeout_us: i64,
    retry_wait_us: Option<u64>,
    /// Downloads one result, page by page.
    pub download: Rc<Retriever>,
    at: String,
}

/// A job that is done, and what to download of it.
pub struct Done {
    creation: Value,
    polling: Value,
    pub targets: Vec<Value>,
}

impl Jobs {
    /// `node` is the `AsyncRetriever`.
    ///
    /// # Errors
    /// Kind config, naming the place.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let requester = |key: &str| node.get(key).map(|node| Requester::build(&node, env)).transpose();
        let needed = |key: &str| Requester::build(&node.need(key)?, env);
        let extractor = |key: &str| node.get(key).map(|node| Extractor::build(&node, env)).transpose();
        let minutes = whole(node, "polling_job_timeout", env)?.unwrap_or(DEFAULT_TIMEOUT_MINUTES);
        let retry_wait = whole(node, "failed_retry_wait_time_in_seconds", env)?;
        let targets = extractor("download_target_extractor")?;
        let target_requester = requester("download_target_requester")?;
        if target_requester.is_some() && targets.is_none() {
            return Err(node.wrong("`download_target_requester` needs a `download_target_extractor`"));
        }
        Ok(Self {
            creation: needed("creation_requester")?,
            polling: needed("polling_requester")?,
            abort: requester("abort_requester")?,
            delete: requester("delete_requester")?,
            target_requester,
            status: Extractor::build(&node.need("status_extractor")?, env)?,
            targets,
            decoder: node.get("decoder").map_or_else(|| Ok(Decoder::Json), |node| Decoder::build(&node))?,
            statuses: statuses(&node.need("status_mapping")?, env)?,
            timeout_us: minutes.saturating_mul(60_000_000),
            retry_wait_us: retry_wait
                .and_then(|wait| u64::try_from(wait).ok())
                .map(|wait| wait.saturating_mul(1_000_000)),
            download: Rc::new(download(node, env)?),
            at: node.path.clone(),
            env: env.clone(),
        })
    }

    /// Makes a job for a slice and waits until it is done; `None` where the source has no data for it.
    ///
    /// # Errors
    /// Those of the source; kind system where the job failed in every attempt.
    pub async fn run(&self, slice: &Slice) -> Result<Option<Done>> {
        let mut last = RestError::system("no job was started");
        for attempt in 1..=ATTEMPTS {
            match self.attempt(slice).await {
                Ok((Status::Completed, creation, polling)) => {
                    let targets = self.find_targets(&polling).await?;
                    let (creation, polling) = (context(&creation), context(&polling));
                    return Ok(Some(Done { creation, polling, targets }));
                }
                Ok((Status::Skipped, ..)) => return Ok(None),
                Ok((status, creation, _)) => {
                    let stream = &self.env.stream;
                    let why = if status == Status::TimedOut { "took too long" } else { "failed" };
                    last = RestError::system(format!("stream {stream}: the source's job {why}, {attempt} times"));
                    if status == Status::TimedOut {
                        self.side(self.abort.as_ref(), slice, &creation).await;
                    }
                    if let Some(wait) = self.retry_wait_us.filter(|_| status == Status::Failed && attempt < ATTEMPTS) {
                        self.env.wire.sleep_us(wait).await;
                    }
                }
                Err(error) if error.kind == crate::error::Kind::Config || error.kind == crate::error::Kind::Refused => {
                    return Err(error);
                }
                Err(error) => last = error,
            }
            if attempt < ATTEMPTS {
                self.env.wire.sleep_us(POLL_US).await;
            }
        }
        Err(last.at(&self.at))
    }

    /// One job: how it ended, and the answers of its creation and of the last question.
    async fn attempt(&self, slice: &Slice) -> Result<(Status, Answer, Answer)> {
        let creation = self.ask(&self.creation, slice).await?;
        let began = self.env.wire.now_us();
        let with_creation = with(slice, &[("creation_response", context(&creation))]);
        loop {
            let polled = self.ask(&self.polling, &with_creation).await?;
            let status = self.read_status(&polled)?;
            if status != Status::Running {
                return Ok((status, creation, polled));
            }
            if self.env.wire.now_us() - began > self.timeout_us {
                return Ok((Status::TimedOut, creation, polled));
            }
            self.env.wire.sleep_us(POLL_US).await;
        }
    }

    fn read_status(&self, polled: &Answer) -> Result<Status> {
        let found = self.status.values(&self.decoder, polled, &self.env)?;
        let text = found.first().map(crate::http::text::text).unwrap_or_default();
        let known = self.statuses.iter().find(|(name, _)| *name == text);
        known.map(|(_, status)| *status).ok_or_else(|| {
            let message = format!("the source says that the job is `{text}`, which the status mapping does not know");
            RestError::system(message).at(format!("{}.status_mapping", self.at))
        })
    }

    async fn find_targets(&self, polled: &Answer) -> Result<Vec<Value>> {
        let Some(extractor) = &self.targets else { return Ok(vec!["".into()]) };
        let found = match &self.target_requester {
            None => extractor.values(&self.decoder, polled, &self.env)?,
            Some(requester) => {
                let slice = with(&Slice::default(), &[("polling_response", context(polled))]);
                extractor.values(&self.decoder, &self.ask(requester, &slice).await?, &self.env)?
            }
        };
        if found.len() > MAX_DOWNLOADS {
            return Err(RestError::refused(format!("a job has more than {MAX_DOWNLOADS} results to download")));
        }
        Ok(found)
    }

    /// The slice of one download.
    pub fn download_slice(&self, slice: &Slice, done: &Done, target: &Value) -> Slice {
        let (creation, polling) = (done.creation.clone(), done.polling.clone());
        let extra =
            [("download_target", target.clone()), ("creation_response", creation), ("polling_response", polling)];
        with(slice, &extra)
    }

    /// Everything was downloaded.
    pub async fn end(&self, slice: &Slice, done: &Done) {
        let slice = with(slice, &[("creation_response", done.creation.clone())]);
        if let Some(delete) = &self.delete
            && let Err(error) = self.ask(delete, &slice).await
        {
            self.env.wire.info(&format!("stream {}: a job could not be deleted: {error}", self.env.stream));
        }
    }

    async fn side(&self, requester: Option<&Requester>, slice: &Slice, creation: &Answer) {
        let slice = with(slice, &[("creation_response", context(creation))]);
        if let Some(requester) = requester
            && let Err(error) = self.ask(requester, &slice).await
        {
            self.env.wire.info(&format!("stream {}: a job could not be aborted: {error}", self.env.stream));
        }
    }

    async fn ask(&self, requester: &Requester, slice: &Slice) -> Result<Answer> {
        let context = RequestContext { slice: Some(slice), ..RequestContext::default() };
        match requester.send(&context).await? {
            Outcome::Answer(answer) => Ok(answer),
            _ => Err(RestError::system("a request around a job was answered by nothing").at(&self.at)),
        }
    }
}

/// What templates see of an answer: its object, and its headers where the object has none.
fn context(answer: &Answer) -> Value {
    let mut seen = Value::from_json(&answer.body).unwrap_or_default();
    let headers: Map = answer.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    seen.map_mut().entry("headers".into()).or_insert_with(|| Value::map(headers));
    seen
}

fn with(slice: &Slice, extra: &[(&str, Value)]) -> Slice {
    let mut slice = slice.clone();
    slice.extra_fields.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    slice
}

fn whole(node: &Node<'_>, key: &str, env: &Env) -> Result<Option<i64>> {
    let Some(member) = node.get(key) else { return Ok(None) };
    let text = Template::new(&member, node)?.text(&env.scope())?;
    text.trim().parse().map(Some).map_err(|_| member.wrong(format!("`{text}` is no whole number")))
}

fn statuses(node: &Node<'_>, env: &Env) -> Result<Vec<(String, Status)>> {
    let mut all = Vec::new();
    for (key, status) in [
        ("running", Status::Running),
        ("completed", Status::Completed),
        ("failed", Status::Failed),
        ("timeout", Status::TimedOut),
        ("skipped", Status::Skipped),
    ] {
        for name in node.items(key) {
            all.push((Template::new(&name, node)?.text(&env.scope())?, status));
        }
    }
    Ok(all)
}

/// The retriever of results: no filter and no transformation, which the stream's own selector does.
fn download(node: &Node<'_>, env: &Env) -> Result<Retriever> {
    let member = |key: &str| node.get(key).map(|member| member.value.clone());
    let everything: Map =
        [("type".into(), "DpathExtractor".into()), ("field_path".into(), Value::list(Vec::new()))].into();
    let extractor = member("download_extractor").unwrap_or_else(|| Value::map(everything));
    let selector: Map = [("type".into(), "RecordSelector".into()), ("extractor".into(), extractor)].into();
    let mut retriever: Map = [
        ("type".into(), "SimpleRetriever".into()),
        ("requester".into(), node.need("download_requester")?.value.clone()),
        ("record_selector".into(), Value::map(selector)),
    ]
    .into();
    for (key, from) in [("decoder", "download_decoder"), ("paginator", "download_paginator")] {
        retriever.extend(member(from).map(|value| (key.to_owned(), value)));
    }
    let stream: Map = [("type".into(), "DeclarativeStream".into())].into();
    let (stream, retriever) = (Value::map(stream), Value::map(retriever));
    let at = |value| Node { value, path: node.path.clone() };
    Retriever::build(&at(&stream), &at(&retriever), &Cursor::none(), env, &Value::map(Map::new()))
}
