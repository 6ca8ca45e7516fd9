//! Implicit types, and `$parameters` handed down: nearer ones win, and a member that is there wins over a parameter.
//!
//! Must never enter a JSON Schema: its `type` names no component.

use super::{
    implicit::{custom_type, default_type},
    yaml::too_deep,
};
use crate::{
    error::{RestError, Result},
    limits::MAX_MANIFEST_DEPTH,
    value::{Map, Value},
};

const PARAMETERS: &str = "$parameters";

/// Which parameters win where parent and child have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    Nearer,
    /// As in streams that a template makes (`use_parent_parameters`).
    Parent,
}

/// A whole manifest, or one stream of a template.
///
/// # Errors
/// Kind config, naming the path, where `$parameters` are no object.
pub fn propagate(component: &Value, winner: Winner) -> Result<Value> {
    let Some(map) = component.as_map() else { return Ok(component.clone()) };
    Propagation { winner }.component(&Place::Root, map, &Map::new(), 0).map(Value::map)
}

/// Where a component stands: what its parent calls it, and the way there.
enum Place<'a> {
    Root,
    Member { parent: &'a Place<'a>, kind: String, key: &'a str, at: Option<usize> },
}

impl Place<'_> {
    fn path(&self) -> String {
        let Self::Member { parent, key, at, .. } = self else { return String::new() };
        let parent = parent.path();
        let path = if parent.is_empty() { (*key).to_owned() } else { format!("{parent}.{key}") };
        at.map_or_else(|| path.clone(), |at| format!("{path}[{at}]"))
    }

    fn implicit(&self, custom: bool) -> Option<&'static str> {
        let Self::Member { kind, key, .. } = self else { return None };
        if custom { custom_type(kind, key) } else { default_type(kind, key) }
    }
}

struct Propagation {
    winner: Winner,
}

impl Propagation {
    fn component(&self, place: &Place<'_>, map: &Map, inherited: &Map, depth: usize) -> Result<Map> {
        if depth > MAX_MANIFEST_DEPTH {
            return Err(too_deep().at(place.path()));
        }
        let mut component = map.clone();
        if !component.contains_key("type")
            && let Some(found) = place.implicit(component.contains_key("class_name"))
        {
            component.insert("type".into(), found.into());
        }
        let own = component.shift_remove(PARAMETERS);
        let Some(kind) = kind_of(&component) else {
            self.nested(place, &mut component, &self.merged(place, own, inherited)?, depth)?;
            return Ok(component);
        };
        let mut parameters = self.merged(place, own, inherited)?;
        for (key, value) in &parameters {
            let there = component.get(key).is_some_and(Value::truthy);
            if !there {
                component.insert(key.clone(), value.clone());
            }
        }
        self.members(place, &kind, &mut component, &mut parameters, depth)?;
        if !parameters.is_empty() {
            component.insert(PARAMETERS.into(), Value::map(parameters));
        }
        Ok(component)
    }

    fn merged(&self, place: &Place<'_>, own: Option<Value>, inherited: &Map) -> Result<Map> {
        let own = match own {
            None => return Ok(inherited.clone()),
            Some(own) => own.as_map().cloned().ok_or_else(|| {
                RestError::config("`$parameters` has to be an object of names and values").at(place.path())
            })?,
        };
        let (mut all, over) =
            if self.winner == Winner::Parent { (own, inherited.clone()) } else { (inherited.clone(), own) };
        all.extend(over);
        Ok(all)
    }

    /// The components inside a component. A parameter of the same name as the member stays outside it: it would come
    /// back in itself for ever.
    fn members(
        &self,
        place: &Place<'_>,
        kind: &str,
        component: &mut Map,
        parameters: &mut Map,
        depth: usize,
    ) -> Result<()> {
        for (key, value) in component.iter_mut() {
            if !matches!(value, Value::Map(_) | Value::List(_)) {
                continue;
            }
            let excluded = parameters.shift_remove(key);
            let inside = |at| Place::Member { parent: place, kind: kind.to_owned(), key, at };
            match value {
                Value::Map(map) => *value = Value::map(self.component(&inside(None), map, parameters, depth + 1)?),
                Value::List(list) if list.iter().any(|item| item.as_map().is_some()) => {
                    let item = |(at, item): (usize, &Value)| match item {
                        Value::Map(map) => {
                            self.component(&inside(Some(at)), map, parameters, depth + 1).map(Value::map)
                        }
                        other => Ok(other.clone()),
                    };
                    *value = Value::list(list.iter().enumerate().map(item).collect::<Result<_>>()?);
                }
                _ => {}
            }
            if let Some(excluded) = excluded.filter(Value::truthy) {
                parameters.insert(key.clone(), excluded);
            }
        }
        Ok(())
    }

    /// An object that is no component may hold components as its members, such as `request_parameters`.
    fn nested(&self, place: &Place<'_>, object: &mut Map, parameters: &Map, depth: usize) -> Result<()> {
        if object.get("type").is_some() {
            return Ok(());
        }
        for (key, value) in object.iter_mut() {
            let Some(map) = value.as_map().filter(|map| map.get("type").is_some_and(Value::truthy)) else { continue };
            let inside = Place::Member { parent: place, kind: String::new(), key, at: None };
            *value = Value::map(self.component(&inside, map, parameters, depth + 1)?);
        }
        Ok(())
    }
}

/// The type of a component as text; `None` for objects without one and for JSON Schemas.
fn kind_of(component: &Map) -> Option<String> {
    match component.get("type")? {
        Value::Str(kind) if &**kind == "object" => None,
        Value::Str(kind) => Some(kind.to_string()),
        Value::List(_) | Value::Map(_) => None,
        other => Some(other.to_json()),
    }
}
