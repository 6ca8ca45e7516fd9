//! What of a stream was read, and what is asked for next: the state between runs.
//!
//! Owns the state's form, which is the reference's, so that a state made there goes on here.

pub mod build;
pub mod clamp;
pub mod partitioned;
pub mod point;
pub mod range;
pub mod window;

pub use point::Point;
pub use window::{Setting, Window, WindowCursor};

use std::rc::Rc;

use crate::{
    cursor::{partitioned::PartitionedCursor, range::EndOfRange},
    error::Result,
    extract::Record,
    http::RequestParts,
    interpolation::Scope,
    partition::Slice,
    value::{Map, Value},
};

/// The key by which the reference says that a stream without cursor was read.
pub const NO_CURSOR: &str = "__ab_no_cursor_state_message";

/// The cursor of one stream.
pub struct Cursor {
    /// `None` where the stream has none.
    pub setting: Option<Rc<Setting>>,
    end: EndOfRange,
    kind: Kind,
    warned: bool,
}

enum Kind {
    /// Nothing to remember but that it was read.
    Final,
    Windows(WindowCursor),
    Partitioned(Box<PartitionedCursor>),
}

/// One thing to ask for: a slice, and the window of the cursor that it stands for.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    pub slice: Slice,
    pub window: Option<Window>,
    /// What the partition and the cursor add to each request of it.
    pub parts: RequestParts,
}

/// What the records of one piece showed so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    most_recent: Option<Point>,
    /// The last value as it stood, so that equal ones are read once.
    last: Option<(Value, Option<Point>)>,
    /// Whether a later record had a smaller value.
    pub unordered: bool,
}

impl Cursor {
    /// For streams that remember nothing.
    pub fn none() -> Self {
        Self { setting: None, end: EndOfRange::Never, kind: Kind::Final, warned: false }
    }

    pub(crate) fn windows(setting: Setting, end: EndOfRange, cursor: WindowCursor) -> Self {
        Self { setting: Some(Rc::new(setting)), end, kind: Kind::Windows(cursor), warned: false }
    }

    pub(crate) fn partitioned(setting: Setting, end: EndOfRange, cursor: PartitionedCursor) -> Self {
        Self { setting: Some(Rc::new(setting)), end, kind: Kind::Partitioned(Box::new(cursor)), warned: false }
    }

    /// The pieces of one partition of the router, whose parents' state is given.
    ///
    /// # Errors
    /// Kind config: templates, formats, limits.
    pub fn pieces(&mut self, partition: Slice, parents: &Value, scope: &Scope) -> Result<Vec<Piece>> {
        let Some(setting) = self.setting.clone() else {
            return Ok(vec![Piece { slice: partition, ..Piece::default() }]);
        };
        let end = self.end.at(scope)?;
        let windows = match &mut self.kind {
            Kind::Final => return Ok(vec![Piece { slice: partition, ..Piece::default() }]),
            Kind::Windows(cursor) => cursor.windows(&setting, &end)?,
            Kind::Partitioned(cursor) => cursor.begin(&setting, &partition, parents, &end, scope.now_us)?,
        };
        let piece = |window: Window| {
            let (from, to) = setting.bounds.clone().unwrap_or_else(|| ("start".into(), "end".into()));
            let mut slice = partition.clone();
            slice.cursor = [(from, setting.scale.write(&window.start)), (to, setting.scale.write(&window.end))].into();
            Piece { slice, window: Some(window), ..Piece::default() }
        };
        Ok(windows.into_iter().map(piece).collect())
    }

    /// A record of a piece was seen. Values that cannot be read leave the state alone, with one warning.
    pub fn observe(&mut self, seen: &mut Seen, record: &Record) -> Option<String> {
        let setting = self.setting.clone()?;
        let value = record.member(&setting.field).filter(|value| !value.is_null());
        let Some(value) = value else {
            return self.warn(|| format!("records have no value of the cursor `{}`: they count as new", setting.field));
        };
        if seen.last.as_ref().is_some_and(|(last, _)| *last == value) {
            return None;
        }
        let point = setting.scale.parse(&value);
        seen.last = Some((value, point.as_ref().ok().cloned()));
        let point = match point {
            Ok(point) => point,
            Err(error) => return self.warn(|| format!("{}: the state does not move by it", error.message)),
        };
        match &seen.most_recent {
            Some(held) if *held > point => seen.unordered = true,
            Some(held) if *held == point => {}
            _ => {
                seen.most_recent = Some(point.clone());
                if let Kind::Partitioned(cursor) = &mut self.kind {
                    cursor.observe(&setting, &point);
                }
            }
        }
        None
    }

    fn warn(&mut self, line: impl FnOnce() -> String) -> Option<String> {
        (!std::mem::replace(&mut self.warned, true)).then(line)
    }

    /// A piece was read to its end.
    ///
    /// # Errors
    /// Kind config: more than one piece for a cursor that can have one only.
    pub fn close(&mut self, piece: &Piece, seen: Seen) -> Result<()> {
        let (Some(setting), Some(window)) = (self.setting.clone(), &piece.window) else { return Ok(()) };
        match &mut self.kind {
            Kind::Final => Ok(()),
            Kind::Windows(cursor) => cursor.close(&setting, window, seen.most_recent),
            Kind::Partitioned(cursor) => cursor.close(&setting, &piece.slice.partition, window, seen.most_recent),
        }
    }

    /// A piece that was read to its end by an interrupted run, whose state is given.
    ///
    /// # Errors
    /// Those of [`Cursor::close`].
    pub fn skip(&mut self, piece: &Piece, state: &Value) -> Result<()> {
        let Some(setting) = self.setting.clone() else { return Ok(()) };
        let of_piece = match &self.kind {
            Kind::Partitioned(_) => {
                let key = partitioned::key_of(&piece.slice.partition);
                let states = state.get("states").and_then(Value::as_list).unwrap_or_default();
                let same = |known: &&Value| {
                    known.get("partition").and_then(Value::as_map).is_some_and(|of| partitioned::key_of(of) == key)
                };
                states.iter().find(same).and_then(|known| known.get("cursor"))
            }
            _ => Some(state),
        };
        let value = of_piece.and_then(|state| state.get(&setting.field)).filter(|value| !value.is_null());
        let most_recent = value.map(|value| setting.scale.parse(value)).transpose()?;
        if let (Kind::Partitioned(cursor), Some(point)) = (&mut self.kind, &most_recent) {
            cursor.observe(&setting, point);
        }
        self.close(piece, Seen { most_recent, ..Seen::default() })
    }

    /// Where a state of one position stands.
    pub fn position(&self, state: &Value) -> Option<Point> {
        let setting = self.setting.as_ref()?;
        setting.scale.parse(state.get(&setting.field)?).ok()
    }

    /// The greatest value that a piece showed, as the state has it.
    pub fn written(&self, seen: &Seen) -> Value {
        match (&self.setting, &seen.most_recent) {
            (Some(setting), Some(point)) => setting.scale.write(point),
            _ => Value::Null,
        }
    }

    /// What a piece showed before it was interrupted.
    pub fn seen(&self, written: &Value) -> Seen {
        let setting = self.setting.as_ref().filter(|_| !written.is_null());
        Seen { most_recent: setting.and_then(|setting| setting.scale.parse(written).ok()), ..Seen::default() }
    }

    /// Everything was read.
    pub fn end(&mut self, parents: Value, now_us: i64) {
        if let Kind::Partitioned(cursor) = &mut self.kind {
            cursor.end(parents, now_us);
        }
    }

    /// The state as the reference writes it.
    pub fn state(&self) -> Value {
        match (&self.kind, &self.setting) {
            (Kind::Windows(cursor), Some(setting)) => cursor.state(setting),
            (Kind::Partitioned(cursor), Some(setting)) => cursor.state(setting),
            _ => Value::map([(NO_CURSOR.to_owned(), true.into())].into()),
        }
    }

    /// Whether a record is new. One without a value is.
    ///
    /// # Errors
    /// Kind config: templates, the state.
    pub fn is_new(&self, partition: &Map, record: &Record, scope: &Scope) -> Result<bool> {
        let Some(setting) = &self.setting else { return Ok(true) };
        let Some(value) = record.member(&setting.field).filter(|value| !value.is_null()) else { return Ok(true) };
        let Ok(point) = setting.scale.parse(&value) else { return Ok(true) };
        let end = self.end.at(scope)?;
        match &self.kind {
            Kind::Final => Ok(true),
            Kind::Windows(cursor) => Ok(cursor.is_new(setting, &point, &end)),
            Kind::Partitioned(cursor) => cursor.is_new(setting, partition, &point, &end),
        }
    }

    /// The part of a slice that is left after the records that were seen (`reduce_slice_range`).
    pub fn shorten(&self, piece: &Piece, seen: &Seen) -> Slice {
        let mut slice = piece.slice.clone();
        if let (Some(setting), Some(most_recent)) = (&self.setting, &seen.most_recent) {
            let from = setting.bounds.as_ref().map_or("start", |bounds| &bounds.0);
            slice.cursor.insert(from.to_owned(), setting.scale.write(most_recent));
        }
        slice
    }
}
