//! Objects inside of records, moved up.

use crate::{
    error::Result,
    extract::{
        dpath::{self, Path},
        parts,
    },
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// `FlattenFields`. The names that come out depend on the order in which the reference goes through a record: the last
/// first, and once an array was seen, names get those of their parents.
pub fn whole(record: &Value, lists: bool) -> Value {
    let mut stack = vec![(record.clone(), "_".to_owned())];
    let mut flat = Map::new();
    let mut in_full = false;
    while let Some((value, name)) = stack.pop() {
        match value {
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    let full = in_full || flat.contains_key(key);
                    stack.push((value.clone(), if full { format!("{name}.{key}") } else { key.clone() }));
                }
            }
            Value::List(list) if lists => {
                in_full |= !list.is_empty();
                stack.extend(list.iter().enumerate().map(|(at, value)| (value.clone(), format!("{name}.{at}"))));
            }
            value => {
                flat.insert(name, value);
            }
        }
    }
    Value::map(flat)
}

/// `DpathFlattenFields`.
#[derive(Debug, Clone)]
pub struct DpathFlatten {
    path: Path,
    delete: bool,
    replace: bool,
    prefix: String,
    suffix: String,
}

impl DpathFlatten {
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let affix = |name: &str| match node.get("key_transformation").and_then(|keys| keys.get(name)) {
            Some(affix) => parts::text(&affix, node, env),
            None => Ok(String::new()),
        };
        Ok(Self {
            path: parts::path(node, "field_path", env)?,
            delete: node.flag("delete_origin_value", false)?,
            replace: node.flag("replace_record", false)?,
            prefix: affix("prefix")?,
            suffix: affix("suffix")?,
        })
    }

    /// Moves the members of the object that the path leads to into the record, unless one is there already.
    pub fn apply(&self, record: &mut Value) -> Result<(), String> {
        let found =
            if self.path.is_many() { self.path.values(record).first().copied() } else { self.path.get(record)? };
        let Some(Value::Map(found)) = found else { return Ok(()) };
        let (prefix, suffix) = (&self.prefix, &self.suffix);
        let moved: Map = found.iter().map(|(key, value)| (format!("{prefix}{key}{suffix}"), value.clone())).collect();
        if self.replace && !moved.is_empty() {
            *record = Value::map(moved);
        } else if !moved.keys().any(|key| record.get(key).is_some()) {
            if self.delete {
                for way in self.path.ways(record) {
                    dpath::delete(record, &way);
                }
            }
            record.map_mut().extend(moved);
        }
        Ok(())
    }
}
