//! Objects and arrays of templates.

use crate::{
    error::{RestError, Result},
    node::Node,
    value::{Map, Value},
};

use super::{Allowed, Scope, Template};

/// `InterpolatedMapping` and `InterpolatedNestedMapping`: an object (or array, or one text) whose keys and texts are
/// templates.
#[derive(Debug, Clone)]
pub struct TemplateTree {
    root: Branch,
}

#[derive(Debug, Clone)]
enum Branch {
    Leaf(Template),
    List(Vec<Branch>),
    /// With the object as it stands in the manifest.
    Map(Vec<(Template, Branch)>, Value),
}

impl TemplateTree {
    /// `node` is a member of `component`, as in [`Template::new`].
    ///
    /// # Errors
    /// Kind config where a template cannot be compiled.
    pub fn new(node: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        Ok(Self { root: Branch::new(node, component)? })
    }

    /// `InterpolatedMapping.eval`: one level; keys are evaluated as well. A value that comes to nothing is null.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn mapping(&self, scope: &Scope) -> Result<Map> {
        self.mapping_as(scope, Allowed::Any)
    }

    /// The same, with what values may turn into.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn mapping_as(&self, scope: &Scope, allowed: Allowed) -> Result<Map> {
        let Branch::Map(members, _) = &self.root else {
            return Err(RestError::config("this has to be an object").at(self.root.at()));
        };
        let mut map = Map::new();
        for (key, branch) in members {
            let value = match branch {
                Branch::Leaf(template) => template.value_or_null(scope, allowed)?,
                // Only texts are evaluated on this level.
                deeper => deeper.source(),
            };
            map.insert(text_key(key.value_or_null(scope, Allowed::Text)?), value);
        }
        Ok(map)
    }

    /// `InterpolatedNestedMapping.eval`: members that become null are left out.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn nested(&self, scope: &Scope) -> Result<Value> {
        self.root.nested(scope)
    }
}

impl Branch {
    fn new(node: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        Ok(match node.value {
            Value::List(_) => {
                Self::List(node.list().iter().map(|item| Self::new(item, component)).collect::<Result<_>>()?)
            }
            Value::Map(_) => {
                let mut members = Vec::new();
                for (key, member) in node.members() {
                    let name = Value::str(key);
                    let key = Node { value: &name, path: member.path.clone() };
                    members.push((Template::new(&key, component)?, Self::new(&member, component)?));
                }
                Self::Map(members, node.value.clone())
            }
            _ => Self::Leaf(Template::new(node, component)?),
        })
    }

    fn at(&self) -> String {
        match self {
            Self::Leaf(template) => template.at.clone(),
            _ => "manifest".into(),
        }
    }

    fn source(&self) -> Value {
        match self {
            Self::Leaf(template) => template.source.clone(),
            Self::List(items) => Value::list(items.iter().map(Self::source).collect()),
            Self::Map(_, source) => source.clone(),
        }
    }

    fn nested(&self, scope: &Scope) -> Result<Value> {
        Ok(match self {
            Self::Leaf(template) => template.value_or_null(scope, Allowed::Any)?,
            Self::List(items) => Value::list(items.iter().map(|item| item.nested(scope)).collect::<Result<_>>()?),
            Self::Map(members, _) => {
                let mut map = Map::new();
                for (key, member) in members {
                    let key = text_key(key.value_or_null(scope, Allowed::Any)?);
                    let value = member.nested(scope)?;
                    if !value.is_null() {
                        map.insert(key, value);
                    }
                }
                Value::map(map)
            }
        })
    }
}

/// A key that is no text, as JSON writes it.
fn text_key(key: Value) -> String {
    match key {
        Value::Str(text) => text.to_string(),
        other => other.to_json(),
    }
}
