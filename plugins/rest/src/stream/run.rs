//! Reads a stream: several pieces are asked for at once, their records leave in the order of the pieces.
//!
//! Because the order holds, a checkpoint covers exactly what left before it. What is read ahead of its turn is bounded
//! by pages for each piece, and by the number of pieces.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::LocalBoxFuture};

use crate::{
    cursor::{Cursor, Piece, Seen},
    error::Result,
    extract::Record,
    limits::{MAX_FAILED_IN_A_ROW, PAGES_AHEAD},
    stream::{
        Env, Stream,
        pages::{Page, Pages},
        pieces::Pieces,
        resume::{Resume, Resuming},
        retriever::Retriever,
    },
    value::Value,
};

/// Bytes of records after which a checkpoint inside a piece is worth its cost.
const CHECKPOINT_BYTES: usize = 2 * 1024 * 1024;
/// Microseconds after which a checkpoint is made even where the state is large.
const CHECKPOINT_US: i64 = 5_000_000;
/// A state of fewer bytes is written after every piece.
const SMALL_STATE: usize = 16 * 1024;

/// Where records and positions go.
pub trait Output {
    /// Takes records in order; returns their size in bytes.
    ///
    /// # Errors
    /// Those of the host.
    fn records(&mut self, records: Vec<Record>) -> Result<usize>;

    /// States that everything so far is covered by `state`.
    ///
    /// # Errors
    /// Those of the host.
    fn checkpoint(&mut self, state: &Value) -> Result<()>;
}

type Fetched = (Pages, Result<Option<Page>>);

/// A piece under way.
struct Active {
    piece: Piece,
    seen: Seen,
    /// Pages that wait for their turn, each with the token of the page after it.
    ready: VecDeque<(Page, Option<Value>)>,
    fetching: Option<LocalBoxFuture<'static, Fetched>>,
    failed: Option<crate::error::RestError>,
}

impl Active {
    fn new(piece: Piece, pages: Pages, seen: Seen) -> Self {
        Self { piece, seen, ready: VecDeque::new(), fetching: Some(fetch(pages)), failed: None }
    }

    /// Goes on where it can; pending where it waits for the source.
    fn advance(&mut self, context: &mut Context<'_>) {
        while self.ready.len() < PAGES_AHEAD {
            let Some(future) = self.fetching.as_mut() else { return };
            let Poll::Ready((pages, fetched)) = future.poll_unpin(context) else { return };
            self.fetching = None;
            match fetched {
                Ok(Some(page)) => {
                    self.ready.push_back((page, pages.token().cloned()));
                    self.fetching = (!pages.is_ended()).then(|| fetch(pages));
                }
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

fn fetch(mut pages: Pages) -> LocalBoxFuture<'static, Fetched> {
    Box::pin(async move {
        let page = pages.next().await;
        (pages, page)
    })
}

type Found = (Pieces, Result<Option<Piece>>);

/// One read of one stream.
struct Run {
    env: Env,
    cursor: Rc<RefCell<Cursor>>,
    retriever: Rc<Retriever>,
    /// `None` while the next piece is looked for.
    pieces: Option<Pieces>,
    finding: Option<LocalBoxFuture<'static, Found>>,
    exhausted: bool,
    active: VecDeque<Active>,
    at_once: usize,
    failed: Option<crate::error::RestError>,
    resume: Resume,
}

/// What happens next, in order.
enum Step {
    Page(Page, Option<Value>),
    PieceEnded,
    AllRead,
    Failed(crate::error::RestError),
}

impl Run {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            self.find(context);
            for active in &mut self.active {
                active.advance(context);
            }
            if let Some(head) = self.active.front_mut() {
                if let Some((page, token)) = head.ready.pop_front() {
                    return Poll::Ready(Step::Page(page, token));
                }
                if let Some(error) = head.failed.take() {
                    return Poll::Ready(Step::Failed(error));
                }
                return if head.fetching.is_none() { Poll::Ready(Step::PieceEnded) } else { Poll::Pending };
            }
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Step::Failed(error));
            }
            if self.exhausted {
                return Poll::Ready(Step::AllRead);
            }
            if self.finding.is_some() {
                return Poll::Pending;
            }
        }
    }

    /// Looks for more pieces while there is room for them.
    fn find(&mut self, context: &mut Context<'_>) {
        while self.active.len() < self.at_once && !self.exhausted && self.failed.is_none() {
            if let Some(mut pieces) = self.pieces.take() {
                self.finding = Some(Box::pin(async move {
                    let piece = pieces.next().await;
                    (pieces, piece)
                }));
            }
            let Some(finding) = self.finding.as_mut() else { return };
            let Poll::Ready((pieces, found)) = finding.poll_unpin(context) else { return };
            (self.finding, self.pieces) = (None, Some(pieces));
            match found {
                Ok(Some(piece)) => self.begin(piece),
                Ok(None) => self.exhausted = true,
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn begin(&mut self, piece: Piece) {
        let mut pages = Pages::new(self.retriever.clone(), self.cursor.clone(), &piece);
        let mut seen = Seen::default();
        match self.resume.meet(&piece) {
            Resuming::Skip(state) => {
                let skipped = self.cursor.borrow_mut().skip(&piece, &state);
                self.failed = skipped.err();
                return;
            }
            Resuming::GoOn { token, most_recent } => {
                pages.resume(token);
                seen = self.cursor.borrow().seen(&most_recent);
            }
            Resuming::Not => {}
        }
        self.active.push_back(Active::new(piece, pages, seen));
    }
}

/// Reads everything that is left of a stream. `base` is the state that the stream was built from, `at_once` how many
/// pieces may be under way.
///
/// # Errors
/// Those of the source and the host. What was checkpointed stays.
pub async fn read(stream: Stream, base: &Value, resume: Resume, at_once: usize, out: &mut dyn Output) -> Result<()> {
    let (pieces, cursor, retriever, env) = stream.into_pieces();
    let mut run = Run {
        env,
        cursor,
        retriever,
        pieces: Some(pieces),
        finding: None,
        exhausted: false,
        active: VecDeque::new(),
        at_once: at_once.max(1),
        failed: None,
        resume,
    };
    let mut since = Since { bytes: 0, us: run.env.wire.now_us(), state: 0 };
    let mut failed = Failed::default();
    loop {
        match (Steps { run: &mut run }).await {
            Step::Failed(error) => {
                // Of the run, not of a piece: there is nothing to go on with.
                if run.active.pop_front().is_none() || failed.is_too_much(error) {
                    return failed.end(&run, out);
                }
            }
            Step::Page(page, token) => {
                let Some(head) = run.active.front_mut() else { continue };
                for record in &page.records {
                    let warning = run.cursor.borrow_mut().observe(&mut head.seen, record);
                    if let Some(warning) = warning {
                        run.env.wire.info(&format!("stream {}: {warning}", run.env.stream));
                    }
                }
                since.bytes += out.records(page.records)?;
                if let Some(token) = token.filter(|_| since.bytes >= CHECKPOINT_BYTES && failed.first.is_none()) {
                    inside(&mut run, base, token, &mut since, out)?;
                }
            }
            Step::PieceEnded => {
                let Some(ended) = run.active.pop_front() else { continue };
                run.resume.closed(&ended.piece);
                run.cursor.borrow_mut().close(&ended.piece, ended.seen)?;
                failed.in_a_row = 0;
                // The pieces of an interrupted run are counted: with a gap among them there is no going on in the middle.
                if failed.first.is_none() {
                    between(&mut run, base, &mut since, out)?;
                }
            }
            Step::AllRead if failed.first.is_some() => return failed.end(&run, out),
            Step::AllRead => {
                let parents = run.pieces.as_ref().map(Pieces::parents).unwrap_or_default();
                run.cursor.borrow_mut().end(parents, run.env.wire.now_us());
                let state = run.cursor.borrow().state();
                return out.checkpoint(&state);
            }
        }
    }
}

/// Pieces that could not be read. The others are read all the same: one repository that is gone must not hold up a
/// hundred.
#[derive(Default)]
struct Failed {
    first: Option<crate::error::RestError>,
    in_a_row: usize,
}

impl Failed {
    fn is_too_much(&mut self, error: crate::error::RestError) -> bool {
        self.in_a_row += 1;
        let refused = error.kind == crate::error::Kind::Refused;
        self.first.get_or_insert(error);
        refused || self.in_a_row >= MAX_FAILED_IN_A_ROW
    }

    /// Keeps what was read of the other pieces, and says what failed.
    fn end(&mut self, run: &Run, out: &mut dyn Output) -> Result<()> {
        out.checkpoint(&run.cursor.borrow().state())?;
        self.first.take().map_or(Ok(()), Err)
    }
}

struct Steps<'a> {
    run: &'a mut Run,
}

impl Future for Steps<'_> {
    type Output = Step;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Step> {
        self.run.poll(context)
    }
}

/// Since the last checkpoint.
struct Since {
    bytes: usize,
    us: i64,
    /// Bytes of that state.
    state: usize,
}

/// A checkpoint inside a piece: what was closed, and the page to go on with.
fn inside(run: &mut Run, base: &Value, token: Value, since: &mut Since, out: &mut dyn Output) -> Result<()> {
    let state = run.cursor.borrow().state();
    let Some(head) = run.active.front() else { return Ok(()) };
    let most_recent = run.cursor.borrow().written(&head.seen);
    let now = run.env.wire.now_us();
    let kept = run.resume.written(&head.piece, base, &state, Some((token, most_recent)), run.env.now_us(), now);
    *since = Since { bytes: 0, us: now, state: kept.to_json().len() };
    out.checkpoint(&kept)
}

/// A checkpoint between pieces, where it is cheap or time for one.
fn between(run: &mut Run, base: &Value, since: &mut Since, out: &mut dyn Output) -> Result<()> {
    let now = run.env.wire.now_us();
    let due = since.bytes >= CHECKPOINT_BYTES || now - since.us >= CHECKPOINT_US;
    if !due && (since.state > SMALL_STATE || since.bytes == 0) {
        return Ok(());
    }
    let state = run.cursor.borrow().state();
    let last = run.resume.last().cloned().unwrap_or_default();
    let kept = run.resume.written(&last, base, &state, None, run.env.now_us(), now);
    *since = Since { bytes: 0, us: now, state: kept.to_json().len() };
    out.checkpoint(&kept)
}
