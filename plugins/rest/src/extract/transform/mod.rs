//! What a manifest changes in records, one transformation after the other.
//!
//! Owns the order and what templates see. Must never keep anything from one record to the next.

mod fields;
mod flatten;
mod keys;

use self::{
    fields::{AddFields, RemoveFields},
    flatten::DpathFlatten,
    keys::Replace,
};
use crate::{
    error::{RestError, Result},
    interpolation::Scope,
    node::Node,
    partition::Slice,
    stream::Env,
    value::Value,
};

#[derive(Debug, Clone)]
pub struct Transformation {
    work: Work,
    at: String,
}

#[derive(Debug, Clone)]
enum Work {
    Add(AddFields),
    Remove(RemoveFields),
    ToLower,
    ToSnakeCase,
    Replace(Replace),
    Flatten { lists: bool },
    DpathFlatten(DpathFlatten),
}

impl Transformation {
    /// # Errors
    /// Kind config: a transformation that is not known, or one that is incomplete.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let work = match node.kind() {
            "AddFields" => Work::Add(AddFields::build(node)?),
            "RemoveFields" => Work::Remove(RemoveFields::build(node)?),
            "KeysToLower" => Work::ToLower,
            "KeysToSnakeCase" => Work::ToSnakeCase,
            "KeysReplace" => Work::Replace(Replace::build(node)?),
            "FlattenFields" => Work::Flatten { lists: node.flag("flatten_lists", true)? },
            "DpathFlattenFields" => Work::DpathFlatten(DpathFlatten::build(node, env)?),
            _ => return Err(node.unknown()),
        };
        Ok(Self { work, at: node.path.clone() })
    }

    /// Changes one record, which has to be an object.
    ///
    /// # Errors
    /// Kind config: a template that fails, or a field that cannot be written.
    pub fn apply(&self, record: &mut Value, scope: &mut Scope) -> Result<()> {
        let result = match &self.work {
            Work::Add(add) => add.apply(record, scope),
            Work::Remove(remove) => remove.apply(record, scope),
            Work::ToLower => {
                keys::to_lower(record.map_mut());
                Ok(())
            }
            Work::ToSnakeCase => {
                *record = keys::renamed(record, &keys::snake_case);
                Ok(())
            }
            Work::Replace(replace) => replace.apply(record, scope),
            Work::Flatten { lists } => {
                *record = flatten::whole(record, *lists);
                Ok(())
            }
            Work::DpathFlatten(flatten) => flatten.apply(record).map_err(RestError::config),
        };
        result.map_err(|error| error.at(&self.at))
    }
}

/// The variables of transformations, but for the record.
pub fn scope(env: &Env, slice: Option<&Slice>) -> Scope {
    env.scope().with("stream_slice", slice.map(Slice::value).unwrap_or_default())
}

/// The templates of the values see the record as it is at this moment.
fn with_record<T>(record: &Value, scope: &mut Scope, see: impl FnOnce(&Scope) -> T) -> T {
    scope.set("record", record.clone());
    let seen = see(scope);
    // Else the record would be copied when it is changed.
    scope.set("record", Value::Null);
    seen
}
