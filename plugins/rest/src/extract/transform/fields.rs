//! Fields that are written and fields that are deleted.

use crate::{
    error::{RestError, Result},
    extract::dpath::{self, Path, Step},
    interpolation::{Allowed, Scope, Template},
    node::Node,
    value::{Map, Value},
};

/// `AddFields`.
#[derive(Debug, Clone)]
pub struct AddFields {
    fields: Vec<Field>,
    condition: Option<Template>,
}

#[derive(Debug, Clone)]
struct Field {
    path: Vec<String>,
    value: Template,
    /// `value_type`: what a rendered text may be read as.
    allowed: Allowed,
    at: String,
}

impl AddFields {
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let fields = node.items("fields").iter().map(Field::build).collect::<Result<_>>()?;
        Ok(Self { fields, condition: condition(node)? })
    }

    pub fn apply(&self, record: &mut Value, scope: &mut Scope) -> Result<()> {
        for field in &self.fields {
            let value = super::with_record(record, scope, |scope| {
                let value = field.value(scope)?;
                let Some(condition) = &self.condition else { return Ok(Some(value)) };
                let path = field.path.iter().map(Value::str).collect();
                let seen = scope.clone().with("value", value.clone()).with("path", Value::list(path));
                Ok::<_, RestError>(condition.boolean(&seen)?.then_some(value))
            })?;
            if let Some(value) = value {
                dpath::put(record, &field.path, value).map_err(|reason| {
                    RestError::config(format!("`{}` cannot be written: {reason}", field.path.join("."))).at(&field.at)
                })?;
            }
        }
        Ok(())
    }
}

impl AddFields {
    /// The fields where none depends on a record, has a condition, or goes into something else.
    pub fn constants(&self, scope: &Scope) -> Result<Option<Map>> {
        let mut constants = Map::new();
        for field in &self.fields {
            match &field.path[..] {
                [name] if self.condition.is_none() && field.same_for_all() => {
                    constants.insert(name.clone(), field.value(scope)?);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(constants))
    }
}

impl Field {
    /// Whether its template cannot tell records apart, nor chance.
    fn same_for_all(&self) -> bool {
        match &self.value.source {
            Value::Str(text) => !text.contains("record") && !text.contains("generate_uuid"),
            _ => true,
        }
    }

    fn build(node: &Node<'_>) -> Result<Self> {
        let path = node.need("path")?;
        let parts = path.list().iter().map(key).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(path.wrong("a path has to name at least one field"));
        }
        let allowed = match node.get("value_type") {
            None => Allowed::Any,
            Some(kind) => match kind.text()? {
                "string" => Allowed::Text,
                "number" => Allowed::Float,
                "integer" => Allowed::Integer,
                "boolean" => Allowed::Bool,
                _ => return Err(kind.wrong("this has to be string, number, integer or boolean")),
            },
        };
        // The value may be null, which `Node::need` would not see.
        let null = Value::Null;
        let value = node.value.get("value").unwrap_or(&null);
        let value = Node { value, path: format!("{}.value", node.path) };
        Ok(Self { path: parts, value: Template::new(&value, node)?, allowed, at: node.path.clone() })
    }

    fn value(&self, scope: &Scope) -> Result<Value> {
        self.value.value_as(scope, self.allowed)
    }
}

/// `RemoveFields`.
#[derive(Debug, Clone)]
pub struct RemoveFields {
    paths: Vec<Path>,
    condition: Option<Template>,
}

impl RemoveFields {
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let path = |pointer: Node<'_>| {
            let keys = pointer.list().iter().map(key).collect::<Result<Vec<_>>>()?;
            Path::new(&keys).map_err(|reason| pointer.wrong(reason))
        };
        let paths = node.items("field_pointers").into_iter().map(path).collect::<Result<_>>()?;
        Ok(Self { paths, condition: condition(node)? })
    }

    /// With a condition, the reference deletes every plain value for which it holds, wherever it is and whatever the
    /// pointers say; so does this.
    pub fn apply(&self, record: &mut Value, scope: &Scope) -> Result<()> {
        for path in &self.paths {
            let ways = match &self.condition {
                None => path.ways(record),
                Some(condition) => plain_values(record)
                    .into_iter()
                    .filter_map(|(way, value)| match condition.boolean(&scope.clone().with("property", value)) {
                        Ok(true) => Some(Ok(way)),
                        Ok(false) => None,
                        Err(error) => Some(Err(error)),
                    })
                    .collect::<Result<_>>()?,
            };
            for way in ways {
                dpath::delete(record, &way);
            }
        }
        Ok(())
    }
}

/// All values that hold no others.
fn plain_values(record: &Value) -> Vec<(Vec<Step>, Value)> {
    let mut found = Vec::new();
    dpath::every(record, &mut Vec::new(), &mut Vec::new(), &mut |way, _, value| {
        if !matches!(value, Value::Map(_) | Value::List(_)) {
            found.push((way.to_vec(), value.clone()));
        }
    });
    found
}

/// `condition`; an empty one counts as none.
fn condition(node: &Node<'_>) -> Result<Option<Template>> {
    let given = node.get("condition").filter(|condition| condition.value.truthy());
    given.map(|condition| Template::new(&condition, node)).transpose()
}

/// A part of a path, which is no template here.
fn key(node: &Node<'_>) -> Result<String> {
    match node.value {
        Value::Int(number) => Ok(number.to_string()),
        _ => node.text().map(str::to_owned),
    }
}
