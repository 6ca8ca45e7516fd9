//! `GroupingPartitionRouter`: several partitions asked for at once.

use std::collections::HashSet;

use futures_util::future::LocalBoxFuture;

use crate::{
    error::Result,
    node::Node,
    partition::{Router, Slice},
    stream::Env,
    value::{Map, Value},
};

pub struct Grouping {
    inner: Box<dyn Router>,
    size: usize,
    distinct: bool,
    seen: HashSet<String>,
    state: Value,
    ended: bool,
    path: String,
}

impl Grouping {
    /// # Errors
    /// Kind config where the group's size is not positive, or by the router inside.
    pub fn build(node: &Node<'_>, env: &Env, state: &Value) -> Result<Self> {
        let size = node.int("group_size")?.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| node.wrong("`group_size` has to be at least 1"))?;
        Ok(Self {
            inner: super::build(Some(&node.need("underlying_partition_router")?), env, state)?,
            size,
            distinct: node.flag("deduplicate", true)?,
            seen: HashSet::new(),
            state: Value::map(Map::new()),
            ended: false,
            path: node.path.clone(),
        })
    }

    async fn following(&mut self) -> Result<Option<Slice>> {
        let mut batch: Vec<Slice> = Vec::new();
        while !self.ended && batch.len() < self.size {
            let Some(slice) = self.inner.next().await? else {
                self.ended = true;
                break;
            };
            let mut keys = slice.partition.iter().filter(|(key, _)| *key != "parent_slice");
            let (Some((_, key)), None) = (keys.next(), keys.next()) else {
                let message = "a group can be made of partitions with one key only";
                return Err(crate::error::RestError::config(message).at(&self.path));
            };
            if !self.distinct || self.seen.insert(key.to_json()) {
                batch.push(slice);
            }
        }
        self.state = self.inner.state();
        Ok((!batch.is_empty()).then(|| group(&batch)))
    }
}

/// One slice of many: each key holds the list of their values.
fn group(batch: &[Slice]) -> Slice {
    let lists = |of: fn(&Slice) -> &Map, keys: Vec<&String>| {
        let list = |key: &String| batch.iter().map(|slice| of(slice).get(key).cloned().unwrap_or_default()).collect();
        keys.into_iter().map(|key| (key.clone(), Value::list(list(key)))).collect::<Map>()
    };
    let keys = batch.first().map(|first| first.partition.keys().collect()).unwrap_or_default();
    let mut extra: Vec<&String> = Vec::new();
    for key in batch.iter().flat_map(|slice| slice.extra_fields.keys()) {
        if !extra.contains(&key) {
            extra.push(key);
        }
    }
    Slice {
        partition: lists(|slice| &slice.partition, keys),
        cursor: Map::new(),
        extra_fields: lists(|slice| &slice.extra_fields, extra),
    }
}

impl Router for Grouping {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        Box::pin(self.following())
    }

    fn state(&self) -> Value {
        self.state.clone()
    }
}
