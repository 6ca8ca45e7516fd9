//! The pages of one piece: asks, selects, and finds the way to the next page.

use std::{cell::RefCell, rc::Rc};

use futures_util::future::LocalBoxFuture;
use indexmap::IndexMap;

use crate::{
    cursor::{Cursor, Piece, Seen},
    error::{RestError, Result},
    extract::Record,
    http::Outcome,
    interpolation::Scope,
    pagination::{PageSizeReducer, Repeated},
    partition::Slice,
    stream::{
        jobs::{Done, Jobs},
        properties::Properties,
        retriever::{Asks, Retriever},
    },
    value::Value,
    wire::Answer,
};

/// One page's records, in order.
#[derive(Debug, Default)]
pub struct Page {
    pub records: Vec<Record>,
}

/// What came of asking for a page.
enum Answered {
    Page(Box<Found>),
    /// No records, and no page more.
    Nothing,
    BeginAgain,
}

struct Found {
    answer: Answer,
    page: crate::extract::Page,
}

/// A job that is done, and how far its results are downloaded.
struct Job {
    done: Done,
    at: usize,
    pages: Option<Box<Pages>>,
}

/// Reads one piece.
pub struct Pages {
    retriever: Rc<Retriever>,
    cursor: Rc<RefCell<Cursor>>,
    piece: Piece,
    /// What is asked for now: the piece's slice, or what is left of it after pagination began anew.
    slice: Slice,
    token: Option<Value>,
    repeated: Repeated,
    state: Progress,
    /// Of the records since pagination began.
    seen: Seen,
    counted: usize,
    same_again: usize,
    job: Option<Job>,
    /// Made with the first page, where the manifest provides for smaller ones.
    reducer: Option<PageSizeReducer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    First,
    Going,
    Ended,
}

impl Pages {
    pub fn new(retriever: Rc<Retriever>, cursor: Rc<RefCell<Cursor>>, piece: &Piece) -> Self {
        let (token, slice) = (retriever.paginator.initial_token(), piece.slice.clone());
        let (state, seen) = (Progress::First, Seen::default());
        Self {
            retriever,
            cursor,
            piece: piece.clone(),
            slice,
            token,
            repeated: Repeated::default(),
            state,
            seen,
            counted: 0,
            same_again: 0,
            job: None,
            reducer: None,
        }
    }

    /// Goes on with the page after this token.
    pub fn resume(&mut self, token: Value) {
        self.token = Some(token);
        self.state = Progress::Going;
    }

    /// What asks for the next page; `None` where there is none or it is the first.
    pub fn token(&self) -> Option<&Value> {
        self.token.as_ref().filter(|_| self.state == Progress::Going)
    }

    /// Whether every page was read.
    pub fn is_ended(&self) -> bool {
        self.state == Progress::Ended
    }

    /// The next page; `None` after the last one. A page may have no records.
    ///
    /// # Errors
    /// Those of the source, by the manifest's error handler; kind config: templates.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        if self.state == Progress::Ended {
            return Ok(None);
        }
        let retriever = self.retriever.clone();
        if let Asks::Jobs(jobs) = &retriever.asks {
            return self.next_of_job(&retriever, jobs).await;
        }
        let mut found = match self.answered(&retriever).await? {
            Answered::Page(found) => found,
            Answered::Nothing => {
                self.state = Progress::Ended;
                return Ok(Some(Page::default()));
            }
            Answered::BeginAgain => {
                self.begin_again()?;
                return Ok(Some(Page::default()));
            }
        };
        if retriever.counts_records() {
            self.count(&found.page.records);
        }
        let scope = retriever.env.scope();
        let stops = match found.page.records.last().filter(|_| retriever.is_data_feed) {
            Some(last) => !self.is_new(last, &scope)?,
            None => false,
        };
        let next = match stops {
            true => None,
            false => {
                let size = self.reducer.as_ref().and_then(PageSizeReducer::size_override);
                let (token, asked) = (self.token.as_ref(), (&self.slice, size));
                retriever.next_token(&found.answer, &found.page, token, asked, &mut self.repeated)?
            }
        };
        if let Some(reducer) = &mut self.reducer {
            reducer.succeeded();
        }
        let mut records = std::mem::take(&mut found.page.records);
        if retriever.is_data_feed {
            let mut kept = Vec::with_capacity(records.len());
            for record in records {
                if self.is_new(&record, &scope)? {
                    kept.push(record);
                }
            }
            records = kept;
        }
        if retriever.record_limit.is_some_and(|limit| self.counted >= limit) {
            self.begin_again()?;
        } else {
            match next {
                Some(next) => self.token = Some(next),
                None => self.state = Progress::Ended,
            }
        }
        Ok(Some(Page { records }))
    }

    fn is_new(&self, record: &Record, scope: &Scope) -> Result<bool> {
        self.cursor.borrow().is_new(&self.piece.slice.partition, record, scope)
    }

    /// Asks for the page at hand, and selects its records.
    async fn answered(&mut self, retriever: &Retriever) -> Result<Answered> {
        let first = self.state == Progress::First;
        self.state = Progress::Going;
        if self.reducer.is_none() {
            self.reducer = retriever.reducer()?;
        }
        if let Some(properties) = &retriever.properties {
            return self.by_chunks(retriever, properties).await;
        }
        let answer = match retriever.lazy_answer(&self.slice).filter(|_| first) {
            Some(answer) => answer,
            None => match self.ask_smaller(retriever).await? {
                Outcome::Answer(answer) => answer,
                Outcome::ResetPagination => return Ok(Answered::BeginAgain),
                outcome => return self.other(outcome),
            },
        };
        let is_new = |record: &Record, scope: &Scope| self.is_new(record, scope);
        let page = retriever.select(&answer, &self.slice, self.token.as_ref(), &is_new).await?;
        Ok(Answered::Page(Box::new(Found { answer, page })))
    }

    /// Asks for the page at hand, in ever smaller sizes where the source wants that.
    async fn ask_smaller(&mut self, retriever: &Retriever) -> Result<Outcome> {
        loop {
            let size = self.reducer.as_ref().and_then(PageSizeReducer::size_override);
            let outcome = retriever.ask(&self.slice, &self.piece, self.token.as_ref(), size).await?;
            let Some(reducer) = &mut self.reducer else { return Ok(outcome) };
            if !matches!(outcome, Outcome::ReducePageSize(_)) {
                return Ok(outcome);
            }
            let wait = reducer.reduce(&retriever.env.stream)?;
            retriever.env.wire.sleep_us(wait).await;
        }
    }

    fn other(&self, outcome: Outcome) -> Result<Answered> {
        let stream = &self.retriever.env.stream;
        match outcome {
            Outcome::ReducePageSize(_) => Err(RestError::config(format!(
                "stream {stream}: the source wants smaller pages, which this manifest does not provide for"
            ))),
            Outcome::SplitWindow(_) => Err(RestError::config(format!(
                "stream {stream}: the source wants shorter windows, which this manifest does not provide for"
            ))),
            _ => Ok(Answered::Nothing),
        }
    }

    /// One page of records whose fields come in several answers.
    async fn by_chunks(&self, retriever: &Retriever, properties: &Properties) -> Result<Answered> {
        let mut merged = IndexMap::new();
        let mut all: Option<Found> = None;
        let mut slice = self.slice.clone();
        for chunk in properties.chunks().await? {
            let chunk = Value::list(chunk.into_iter().map(Value::from).collect());
            slice.extra_fields = [("query_properties".to_owned(), chunk)].into();
            let answer = match retriever.ask(&slice, &self.piece, self.token.as_ref(), None).await? {
                Outcome::Answer(answer) => answer,
                Outcome::ResetPagination => return Ok(Answered::BeginAgain),
                outcome => return self.other(outcome),
            };
            let is_new = |record: &Record, scope: &Scope| self.is_new(record, scope);
            let mut page = retriever.select(&answer, &slice, self.token.as_ref(), &is_new).await?;
            if properties.merges() {
                let alone = std::mem::take(&mut page.records).into_iter();
                page.records = alone.filter_map(|record| properties.merge(&mut merged, record)).collect();
            }
            if let Some(before) = all.take() {
                let mut records = before.page.records;
                records.append(&mut page.records);
                page.records = records;
            }
            all = Some(Found { answer, page });
        }
        let Some(mut all) = all else { return Ok(Answered::Nothing) };
        all.page.records.extend(merged.into_values().map(Record::Parsed));
        Ok(Answered::Page(Box::new(all)))
    }

    /// The next page of the results of the piece's job.
    async fn next_of_job(&mut self, retriever: &Retriever, jobs: &Jobs) -> Result<Option<Page>> {
        if self.job.is_none() {
            let Some(done) = jobs.run(&self.slice).await? else {
                self.state = Progress::Ended;
                return Ok(None);
            };
            self.job = Some(Job { done, at: 0, pages: None });
        }
        let Some(job) = self.job.as_mut() else { return Ok(None) };
        loop {
            let Some(target) = job.done.targets.get(job.at) else {
                jobs.end(&self.slice, &job.done).await;
                self.state = Progress::Ended;
                return Ok(None);
            };
            if job.pages.is_none() {
                let slice = jobs.download_slice(&self.slice, &job.done, target);
                let piece = Piece { slice, ..Piece::default() };
                let nothing = Rc::new(RefCell::new(Cursor::none()));
                job.pages = Some(Box::new(Pages::new(jobs.download.clone(), nothing, &piece)));
            }
            let Some(pages) = job.pages.as_mut() else { continue };
            // A future of its own type cannot stand inside itself.
            let next: LocalBoxFuture<'_, Result<Option<Page>>> = Box::pin(pages.next());
            if let Some(page) = next.await? {
                let (cursor, partition) = (&self.cursor, &self.piece.slice.partition);
                let is_new = |record: &Record, scope: &Scope| cursor.borrow().is_new(partition, record, scope);
                let records = retriever.refine(page.records, &self.slice, &is_new).await?;
                return Ok(Some(Page { records }));
            }
            job.pages = None;
            job.at += 1;
        }
    }

    fn count(&mut self, records: &[Record]) {
        self.counted += records.len();
        if self.retriever.shortens_slices {
            let mut cursor = self.cursor.borrow_mut();
            for record in records {
                let _ = cursor.observe(&mut self.seen, record);
            }
        }
    }

    /// Pagination begins anew, with what is left of the slice.
    fn begin_again(&mut self) -> Result<()> {
        let left = match self.retriever.shortens_slices {
            true => self.cursor.borrow().shorten(&self.piece, &self.seen),
            false => self.slice.clone(),
        };
        if left == self.slice {
            self.same_again += 1;
            if self.same_again >= if self.retriever.shortens_slices { 1 } else { 2 } {
                let stream = &self.retriever.env.stream;
                return Err(RestError::system(format!(
                    "stream {stream}: pagination was to begin anew, but the slice could not be made shorter"
                )));
            }
        } else {
            self.same_again = 0;
        }
        self.slice = left;
        self.counted = 0;
        self.token = self.retriever.paginator.initial_token();
        self.repeated = Repeated::default();
        self.state = Progress::First;
        Ok(())
    }
}
