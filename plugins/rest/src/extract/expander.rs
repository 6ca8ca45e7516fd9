//! Records inside of records: the elements of an array of each become records themselves.

use std::sync::Arc;

use super::{
    dpath::{self, Path, Step},
    parts,
};
use crate::{
    error::Result,
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// `RecordExpander` of a manifest.
#[derive(Debug, Clone)]
pub struct Expander {
    path: Path,
    keep_original: bool,
    merge_parent: bool,
    emit_parent: bool,
    fields: Vec<Copied>,
}

/// A value of the record that each element gets.
#[derive(Debug, Clone)]
struct Copied {
    from: Path,
    to: Vec<String>,
    at: String,
}

impl Expander {
    /// # Errors
    /// Kind config: what is not supported, or a path that is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        if let Some(retriever) = node.get("truncated_list_retriever") {
            return Err(retriever.wrong("lists that are fetched again because they were cut are not supported"));
        }
        let fields = node.items("parent_fields").iter().map(|field| copied(field, env)).collect::<Result<_>>()?;
        Ok(Self {
            path: parts::path(node, "expand_records_from_field", env)?,
            keep_original: node.flag("remain_original_record", false)?,
            merge_parent: node.flag("merge_parent", false)?,
            emit_parent: node.get("on_no_records").is_some_and(|node| node.value.as_str() == Some("emit_parent")),
            fields,
        })
    }

    /// # Errors
    /// Kind config: a value of the record cannot be written into an element.
    pub fn expand(&self, record: Value, out: &mut Vec<Value>) -> Result<()> {
        if record.as_map().is_none() || self.path.is_empty() {
            out.push(record);
            return Ok(());
        }
        let base = self.merge_parent.then(|| self.without_lists(&record));
        let mut none = true;
        for list in self.path.values(&record).into_iter().filter_map(Value::as_list) {
            for item in list {
                none = false;
                out.push(self.child(&record, item, base.as_ref())?);
            }
        }
        if none && self.emit_parent {
            out.push(record);
        }
        Ok(())
    }

    fn child(&self, record: &Value, item: &Value, base: Option<&Value>) -> Result<Value> {
        let context = self.keep_original || self.merge_parent || !self.fields.is_empty();
        let mut child = match item {
            Value::Map(map) => Map::clone(map),
            _ if !context => return Ok(item.clone()),
            _ => Map::from_iter([("value".into(), item.clone())]),
        };
        if let Some(base) = base.and_then(Value::as_map) {
            let mut merged = base.clone();
            merged.extend(child);
            child = merged;
        }
        let mut child = Value::map(child);
        for field in &self.fields {
            let value = field.from.get(record).ok().flatten().cloned().unwrap_or_default();
            dpath::put(&mut child, &field.to, value)
                .map_err(|reason| crate::error::RestError::config(format!("{reason} of a record")).at(&field.at))?;
        }
        if self.keep_original {
            child.map_mut().insert("original_record".into(), record.clone());
        }
        Ok(child)
    }

    /// The record without the arrays that are expanded. They go from the last to the first, so that places stay right.
    fn without_lists(&self, record: &Value) -> Value {
        let mut base = record.clone();
        let mut ways = self.path.ways(record);
        ways.retain(|way| matches!(follow(record, way), Some(Value::List(_))));
        for way in ways.iter().rev() {
            remove(&mut base, way);
        }
        base
    }
}

fn copied(node: &Node<'_>, env: &Env) -> Result<Copied> {
    let (from, to) = (parts::path(node, "parent_path", env)?, node.need("record_path")?);
    let keys = parts::keys(&to, node, env)?;
    let plain = Path::new(&keys).is_ok_and(|path| path.is_plain() && !path.is_empty());
    if from.is_empty() || !from.is_plain() || !plain {
        return Err(node.wrong("`parent_path` and `record_path` have to name one field each, without patterns"));
    }
    Ok(Copied { from, to: keys, at: to.path })
}

fn follow<'a>(value: &'a Value, way: &[Step]) -> Option<&'a Value> {
    way.iter().try_fold(value, |value, step| match (value, step) {
        (Value::Map(map), Step::Key(key)) => map.get(key),
        (Value::List(list), Step::Index(index)) => list.get(*index),
        _ => None,
    })
}

/// Takes out what a way leads to; elements of arrays move up.
fn remove(value: &mut Value, way: &[Step]) {
    match (value, way) {
        (Value::Map(map), [Step::Key(key)]) => {
            Arc::make_mut(map).shift_remove(key);
        }
        (Value::List(list), [Step::Index(index)]) if *index < list.len() => {
            Arc::make_mut(list).remove(*index);
        }
        (Value::Map(map), [Step::Key(key), rest @ ..]) => {
            if let Some(inner) = Arc::make_mut(map).get_mut(key) {
                remove(inner, rest);
            }
        }
        (Value::List(list), [Step::Index(index), rest @ ..]) => {
            if let Some(inner) = Arc::make_mut(list).get_mut(*index) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}
