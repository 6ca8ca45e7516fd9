//! `RequestOption`: where in a request one value goes.

use super::options::RequestParts;
use crate::{
    error::Result,
    interpolation::{Scope, Template},
    node::Node,
    value::{Map, Value},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Parameter,
    Header,
    Form,
    Json,
}

#[derive(Debug, Clone)]
pub struct RequestOption {
    pub place: Place,
    /// More than one name only in a JSON body.
    path: Vec<Template>,
}

impl RequestOption {
    /// # Errors
    /// Kind config, naming the member that is wrong.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let inject = node.need("inject_into")?;
        let place = match inject.text()? {
            "request_parameter" => Place::Parameter,
            "header" => Place::Header,
            "body_data" => Place::Form,
            "body_json" => Place::Json,
            other => return Err(inject.wrong(format!("`{other}` is no part of a request"))),
        };
        let (name, path) = (node.get("field_name"), node.items("field_path"));
        let path = match (name, path.is_empty()) {
            (Some(name), true) => vec![name],
            (None, false) if place == Place::Json => path,
            (None, false) => return Err(node.wrong("`field_path` works in `body_json` only; use `field_name`")),
            (Some(_), false) => return Err(node.wrong("either `field_name` or `field_path`, not both")),
            (None, true) => return Err(node.wrong("`field_name` is missing")),
        };
        let path = path.iter().map(|part| Template::new(part, node)).collect::<Result<_>>()?;
        Ok(Self { place, path })
    }

    /// A header of this name, which is a template of `component`.
    ///
    /// # Errors
    /// Kind config where the template is none.
    pub fn header(name: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        Ok(Self { place: Place::Header, path: vec![Template::new(name, component)?] })
    }

    /// Puts `value` into `parts`.
    ///
    /// # Errors
    /// Kind config where a name cannot be evaluated.
    pub fn inject(&self, parts: &mut RequestParts, value: Value, scope: &Scope) -> Result<()> {
        let mut names = self.path.iter().map(|name| name.text(scope)).collect::<Result<Vec<_>>>()?;
        let last = names.pop().expect("an option has a name");
        match self.place {
            Place::Parameter => drop(parts.params.insert(last, value)),
            Place::Header => drop(parts.headers.insert(last, value)),
            Place::Form => drop(parts.body_data.map_mut().insert(last, value)),
            Place::Json => {
                let mut at = &mut parts.body_json;
                for name in names {
                    at = at.map_mut().entry(name).or_insert_with(|| Value::map(Map::new()));
                }
                at.map_mut().insert(last, value);
            }
        }
        Ok(())
    }

    /// Whether the two may end up at the same place whatever the values are.
    ///
    /// # Errors
    /// Kind config where a name cannot be evaluated.
    pub fn meets(&self, other: &Self, scope: &Scope) -> Result<bool> {
        let (mut one, mut two) = (RequestParts::default(), RequestParts::default());
        self.inject(&mut one, Value::str("one"), scope)?;
        other.inject(&mut two, Value::str("two"), scope)?;
        Ok(super::options::combine([&one, &two]).is_err())
    }
}
