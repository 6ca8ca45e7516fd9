//! One piece of a stream that is asked for by itself (`StreamSlice` of the reference).

use crate::value::{Map, Value};

/// What is asked for. Seen from templates it is one object: the partition's members, then the cursor's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    /// Identifies the partition in the state.
    pub partition: Map,
    /// Such as `{"start_time": …, "end_time": …}`.
    pub cursor: Map,
    /// Of the parent's record, by `extra_fields`.
    pub extra_fields: Map,
}

impl Slice {
    /// `stream_slice`, `stream_interval` and `stream_partition` of templates.
    pub fn value(&self) -> Value {
        let mut all = self.partition.clone();
        all.extend(self.cursor.iter().map(|(key, value)| (key.clone(), value.clone())));
        if !self.extra_fields.is_empty() {
            all.insert("extra_fields".into(), Value::map(self.extra_fields.clone()));
        }
        Value::map(all)
    }
}
