//! A cursor for each partition, and one over all of them (`ConcurrentPerPartitionCursor` of the reference).
//!
//! Pieces are closed in the order in which they were made, so that the state says what was read before anything else.

use std::collections::{BTreeSet, HashMap, VecDeque};

use indexmap::IndexMap;

use crate::{
    cursor::{
        point::Point,
        window::{Setting, Window, WindowCursor},
    },
    error::Result,
    limits::{MAX_PARTITIONS_KEPT, MAX_PARTITIONS_WITH_STATE},
    partition::Slice,
    value::{Map, Value},
};

/// Everything that is known of the partitions of a stream.
#[derive(Debug)]
pub struct PartitionedCursor {
    global_only: bool,
    /// By key, oldest first.
    cursors: IndexMap<String, WindowCursor>,
    /// Windows that are not closed yet, of partitions under way.
    open: HashMap<String, usize>,
    /// Place of a partition under way among those of this run.
    places: HashMap<String, u64>,
    under_way: BTreeSet<u64>,
    made: u64,
    /// State of the parents when a partition was made, where it differs from the one before.
    parents: VecDeque<(Value, u64)>,
    parent_state: Option<Value>,
    global: Option<Value>,
    new_global: Option<Value>,
    lookback_seconds: i64,
    seen: usize,
    synced_some: bool,
    started_us: Option<i64>,
}

/// The key of a partition in the state.
pub fn key_of(partition: &Map) -> String {
    sorted(&Value::map(partition.clone())).to_json()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let mut members: Vec<_> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::map(members.into_iter().collect())
        }
        Value::List(items) => Value::list(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

impl PartitionedCursor {
    /// `state` is the reference's, per partition or of one cursor for all.
    ///
    /// # Errors
    /// Kind config where a value of the state matches no format.
    pub fn new(setting: &Setting, state: &Value, global_only: bool) -> Result<Self> {
        let mut cursor = Self {
            global_only,
            cursors: IndexMap::new(),
            open: HashMap::new(),
            places: HashMap::new(),
            under_way: BTreeSet::new(),
            made: 0,
            parents: VecDeque::new(),
            parent_state: None,
            global: Some(Value::map(Map::new())),
            new_global: None,
            lookback_seconds: 0,
            seen: 0,
            synced_some: false,
            started_us: None,
        };
        if !state.truthy() {
            return Ok(cursor);
        }
        if state.get("states").is_none() && state.get("state").is_none() {
            cursor.set_global(setting, state)?;
        } else {
            cursor.global_only = state.get("use_global_cursor").is_some_and(Value::truthy);
            cursor.lookback_seconds = state.get("lookback_window").and_then(Value::as_int).unwrap_or(0);
            for known in state.get("states").and_then(Value::as_list).unwrap_or_default() {
                let (Some(partition), Some(of)) = (known.get("partition"), known.get("cursor")) else { continue };
                cursor.seen += 1;
                let key = sorted(partition).to_json();
                cursor.cursors.insert(key, WindowCursor::new(setting, of)?);
            }
            if let Some(global) = state.get("state") {
                cursor.set_global(setting, global)?;
            }
        }
        cursor.parent_state = state.get("parent_state").filter(|parents| parents.truthy()).cloned();
        Ok(cursor)
    }

    fn set_global(&mut self, setting: &Setting, state: &Value) -> Result<()> {
        let Some(value) = state.get(&setting.field).filter(|value| !value.is_null()) else { return Ok(()) };
        let written = setting.scale.write(&setting.scale.parse(value)?);
        let global: Map = [(setting.field.clone(), written)].into_iter().collect();
        self.global = Some(Value::map(global.clone()));
        self.new_global = Some(Value::map(global));
        Ok(())
    }

    /// The windows of a partition, which is under way from now on. Empty for one that was made already.
    ///
    /// # Errors
    /// Those of [`WindowCursor::windows`].
    pub fn begin(
        &mut self,
        setting: &Setting,
        partition: &Slice,
        parents: &Value,
        end: &Point,
        now_us: i64,
    ) -> Result<Vec<Window>> {
        self.started_us.get_or_insert(now_us);
        self.keep_few();
        let key = key_of(&partition.partition);
        if self.open.contains_key(&key) {
            return Ok(Vec::new());
        }
        if !self.cursors.contains_key(&key) {
            let fresh = self.fresh(setting)?;
            self.seen += 1;
            self.cursors.insert(key.clone(), fresh);
        }
        let place = self.made;
        self.made += 1;
        self.under_way.insert(place);
        self.places.insert(key.clone(), place);
        if self.parents.back().is_none_or(|(last, _)| last != parents) {
            self.parents.push_back((parents.clone(), place));
        }
        let cursor = self.cursors.get_mut(&key).expect("put in above");
        let windows = cursor.windows(setting, end)?;
        self.open.insert(key, windows.len());
        Ok(windows)
    }

    /// A cursor for a partition that is not known: it goes on from the one over all.
    fn fresh(&self, setting: &Setting) -> Result<WindowCursor> {
        let Some(global) = self.global.as_ref().filter(|global| global.truthy()) else {
            return WindowCursor::new(setting, &Value::map(Map::new()));
        };
        let mut state = global.clone();
        if self.lookback_seconds > 0
            && let Some(value) = global.get(&setting.field)
        {
            let back = crate::datetime::Duration { months: 0, us: self.lookback_seconds * 1_000_000 };
            if let Some(earlier) = setting.scale.parse(value)?.minus(&back) {
                state.map_mut().insert(setting.field.clone(), setting.scale.write(&earlier));
            }
        }
        WindowCursor::new(setting, &state)
    }

    fn keep_few(&mut self) {
        if !self.global_only && self.seen > MAX_PARTITIONS_WITH_STATE {
            self.global_only = true;
        }
        while self.cursors.len() >= MAX_PARTITIONS_KEPT {
            let done = self.cursors.keys().position(|key| !self.places.contains_key(key)).unwrap_or(0);
            self.cursors.shift_remove_index(done);
        }
    }

    /// A record's value was seen.
    pub fn observe(&mut self, setting: &Setting, value: &Point) {
        self.synced_some = true;
        self.raise_global(setting, setting.scale.write(value));
    }

    /// The reference compares what is written, as text.
    fn raise_global(&mut self, setting: &Setting, written: Value) {
        let held = self.new_global.as_ref().and_then(|global| global.get(&setting.field));
        let newer = match (held, &written) {
            (Some(Value::Str(held)), Value::Str(new)) => **held < **new,
            (Some(Value::Int(held)), Value::Int(new)) => held < new,
            _ => true,
        };
        if newer {
            let global: Map = [(setting.field.clone(), written)].into_iter().collect();
            self.new_global = Some(Value::map(global));
        }
    }

    /// A window of a partition was read to its end.
    ///
    /// # Errors
    /// Those of [`WindowCursor::close`].
    pub fn close(
        &mut self,
        setting: &Setting,
        partition: &Map,
        window: &Window,
        most_recent: Option<Point>,
    ) -> Result<()> {
        let key = key_of(partition);
        let left = self.open.get_mut(&key).map(|open| {
            *open = open.saturating_sub(1);
            *open
        });
        let ended = left == Some(0);
        let mut written = None;
        if !self.global_only
            && let Some(cursor) = self.cursors.get_mut(&key)
        {
            cursor.close(setting, window, most_recent)?;
            written = ended.then(|| cursor.state(setting).get(&setting.field).cloned()).flatten();
        }
        if let Some(written) = written {
            self.raise_global(setting, written);
        }
        if ended {
            self.open.remove(&key);
            if let Some(place) = self.places.remove(&key) {
                self.under_way.remove(&place);
            }
        }
        while let Some((_, place)) = self.parents.front() {
            if self.under_way.first().is_some_and(|first| first <= place) {
                break;
            }
            self.parent_state = self.parents.pop_front().map(|(state, _)| state).filter(|state| !state.is_null());
        }
        Ok(())
    }

    /// Everything was read, the parents too, whose state is null where there are none: the cursor over all moves, with the run's own length as lookback.
    pub fn end(&mut self, parents: Value, now_us: i64) {
        if self.open.values().any(|open| *open > 0) {
            return;
        }
        if self.synced_some {
            self.global = self.new_global.clone();
            let ran = now_us - self.started_us.unwrap_or(now_us);
            self.lookback_seconds = ran.max(0).div_euclid(1_000_000) + i64::from(ran.rem_euclid(1_000_000) > 0);
        }
        self.parent_state = Some(parents).filter(|parents| !parents.is_null());
    }

    /// The state as the reference writes it.
    pub fn state(&self, setting: &Setting) -> Value {
        let mut state = Map::new();
        state.insert("use_global_cursor".into(), self.global_only.into());
        if !self.global_only {
            let states = self.cursors.iter().map(|(key, cursor)| {
                let partition = Value::from_json(key.as_bytes()).unwrap_or_default();
                let of: Map = [("partition".into(), partition), ("cursor".into(), cursor.state(setting))].into();
                Value::map(of)
            });
            state.insert("states".into(), Value::list(states.collect()));
        }
        if let Some(global) = self.global.as_ref().filter(|global| global.truthy()) {
            state.insert("state".into(), global.clone());
        }
        state.insert("lookback_window".into(), self.lookback_seconds.into());
        if let Some(parents) = &self.parent_state {
            state.insert("parent_state".into(), parents.clone());
        }
        Value::map(state)
    }

    /// Whether a record of a partition is new.
    ///
    /// # Errors
    /// Kind config where the state cannot be read.
    pub fn is_new(&self, setting: &Setting, partition: &Map, value: &Point, end: &Point) -> Result<bool> {
        if !self.global_only
            && let Some(cursor) = self.cursors.get(&key_of(partition))
        {
            return Ok(cursor.is_new(setting, value, end));
        }
        Ok(self.fresh(setting)?.is_new(setting, value, end))
    }
}
