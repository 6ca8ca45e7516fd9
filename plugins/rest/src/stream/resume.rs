//! How an interrupted read goes on: what its checkpoints hold beside the reference's state.
//!
//! The pieces of a run follow from the state that it began with and the moment at which it began. So a checkpoint keeps
//! both, counts the pieces that were read, and knows the page of the one that was not.

use crate::{
    cursor::Piece,
    value::{Map, Value},
};

/// An interrupted read goes on by its page's token for this long; afterwards its piece is read again, because pages
/// may have moved.
pub const RESUME_WITHIN_US: i64 = 3_600_000_000;
/// Larger checkpoints hold the state alone: what was read of an unfinished run may then be read again.
const MAX_RESUME_BYTES: usize = 768 * 1024;

const MARK: &str = "thimble_resume";

/// What is known of the run that is gone on with, and of this one's pieces.
#[derive(Debug, Default)]
pub struct Resume {
    /// Pieces that are to be skipped still.
    skip: u64,
    state: Value,
    /// What the interrupted piece asked for, its page and its greatest value.
    page: Option<(Value, Value, Value)>,
    /// Pieces that were read, in this run and before.
    done: u64,
    last: Option<Piece>,
}

/// What to do with a piece.
#[derive(Debug, PartialEq)]
pub enum Resuming {
    Not,
    /// It was read; the state says how far it came.
    Skip(Value),
    GoOn {
        token: Value,
        most_recent: Value,
    },
}

/// A checkpoint, taken apart.
#[derive(Debug)]
pub struct Checkpoint {
    /// What the stream is to be built from.
    pub state: Value,
    /// The moment at which the interrupted run began.
    pub pinned_now_us: Option<i64>,
    pub resume: Resume,
}

impl Checkpoint {
    /// Of `kept`, which [`Resume::written`] wrote or is the reference's state.
    pub fn read(kept: &Value, now_us: i64) -> Self {
        let Some(marked) = kept.get(MARK) else {
            return Self { state: kept.clone(), pinned_now_us: None, resume: Resume::default() };
        };
        let member = |key: &str| marked.get(key).cloned().unwrap_or_default();
        let state = kept.get("state").cloned().unwrap_or_default();
        let at = member("at_us").as_int().unwrap_or_default();
        let (Some(base), true) = (marked.get("base").cloned(), (0..RESUME_WITHIN_US).contains(&(now_us - at))) else {
            return Self { state, pinned_now_us: None, resume: Resume::default() };
        };
        let skip = member("done").as_int().and_then(|done| u64::try_from(done).ok()).unwrap_or_default();
        let page = marked.get("token").filter(|token| !token.is_null());
        let page = page.map(|token| (member("piece"), token.clone(), member("most_recent")));
        let resume = Resume { skip, state, page, done: 0, last: None };
        Self { state: base, pinned_now_us: member("now_us").as_int(), resume }
    }
}

impl Resume {
    /// Decides on the next piece of the run, in order.
    pub fn meet(&mut self, piece: &Piece) -> Resuming {
        if self.skip > 0 {
            self.skip -= 1;
            self.closed(piece);
            return Resuming::Skip(self.state.clone());
        }
        match self.page.take() {
            Some((asked, token, most_recent)) if asked == piece.slice.value() => Resuming::GoOn { token, most_recent },
            _ => Resuming::Not,
        }
    }

    /// A piece was read to its end.
    pub fn closed(&mut self, piece: &Piece) {
        self.done += 1;
        self.last = Some(piece.clone());
    }

    /// The last piece that was closed.
    pub fn last(&self) -> Option<&Piece> {
        self.last.as_ref()
    }

    /// A checkpoint: `state` is the reference's, `page` the token of the page after the last one that left, with the
    /// greatest value of its piece.
    pub fn written(
        &self,
        piece: &Piece,
        base: &Value,
        state: &Value,
        page: Option<(Value, Value)>,
        began_us: i64,
        now_us: i64,
    ) -> Value {
        let mut marked = Map::new();
        marked.insert("base".into(), base.clone());
        marked.insert("done".into(), i64::try_from(self.done).unwrap_or(i64::MAX).into());
        marked.insert("now_us".into(), began_us.into());
        marked.insert("at_us".into(), now_us.into());
        if let Some((token, most_recent)) = page {
            marked.insert("piece".into(), piece.slice.value());
            marked.insert("token".into(), token);
            marked.insert("most_recent".into(), most_recent);
        }
        let kept: Map = [(MARK.to_owned(), Value::map(marked)), ("state".to_owned(), state.clone())].into();
        let kept = Value::map(kept);
        if kept.to_json().len() <= MAX_RESUME_BYTES {
            return kept;
        }
        Value::map([(MARK.to_owned(), Value::map(Map::new())), ("state".to_owned(), state.clone())].into())
    }
}
