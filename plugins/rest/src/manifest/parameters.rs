//! Implicit types, and `$parameters` handed down: nearer ones win, and a member that is there wins over a parameter.
//!
//! Must never enter a JSON Schema: its `type` names no component.

use std::cell::Cell;

use super::{
    implicit::{custom_type, default_type},
    yaml::too_deep,
};
use crate::{
    error::{RestError, Result},
    limits::{MAX_MANIFEST_DEPTH, MAX_MANIFEST_NODES},
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
    within(component, winner, MAX_MANIFEST_NODES)
}

fn within(component: &Value, winner: Winner, limit: usize) -> Result<Value> {
    let Some(map) = component.as_map() else { return Ok(component.clone()) };
    Propagation { winner, limit, made: Cell::new(0) }.component(&Place::Root, map, &Map::new(), 0).map(Value::map)
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
    limit: usize,
    /// Members written so far: parameters that are components themselves multiply.
    made: Cell<usize>,
}

impl Propagation {
    fn component(&self, place: &Place<'_>, map: &Map, inherited: &Map, depth: usize) -> Result<Map> {
        if depth > MAX_MANIFEST_DEPTH {
            return Err(too_deep().at(place.path()));
        }
        self.made.set(self.made.get() + map.len() + inherited.len());
        if self.made.get() > self.limit {
            let message = format!("with its parameters handed down, the manifest has more than {} values", self.limit);
            return Err(RestError::config(message).at(place.path()));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn propagated(json: &str, winner: Winner) -> Result<String> {
        propagate(&Value::from_json(json.as_bytes()).unwrap(), winner).map(|value| value.to_json())
    }

    #[test]
    fn parameters_fill_what_is_missing_or_empty_and_nearer_ones_win() {
        let text = r#"{"type":"DeclarativeSource","streams":[{"$parameters":{"name":"a","path":"/a"},"primary_key":[],
            "retriever":{"requester":{"path":"","$parameters":{"path":"/b"}}}}]}"#;
        let told = concat!(
            r#"{"type":"DeclarativeSource","streams":[{"primary_key":[],"retriever":{"requester":"#,
            r#"{"path":"/b","type":"HttpRequester","name":"a","$parameters":{"name":"a","path":"/b"}},"#,
            r#""type":"SimpleRetriever","name":"a","path":"/a","$parameters":{"name":"a","path":"/a"}},"#,
            r#""type":"DeclarativeStream","name":"a","path":"/a","$parameters":{"name":"a","path":"/a"}}]}"#
        );
        assert_eq!(propagated(text, Winner::Nearer).unwrap(), told);
    }

    #[test]
    fn of_a_template_the_parents_parameters_win() {
        let text = r#"{"type":"A","$parameters":{"x":1},"b":{"type":"B","$parameters":{"x":2,"y":3}}}"#;
        let told =
            r#"{"type":"A","b":{"type":"B","x":1,"y":3,"$parameters":{"x":1,"y":3}},"x":1,"$parameters":{"x":1}}"#;
        assert_eq!(propagated(text, Winner::Parent).unwrap(), told);
    }

    #[test]
    fn a_json_schema_takes_no_parameters() {
        let text = r#"{"type":"InlineSchemaLoader","$parameters":{"name":"n"},"schema":{"type":"object","properties":
            {"type":{"type":"string"}}}}"#;
        let told = concat!(
            r#"{"type":"InlineSchemaLoader","schema":{"type":"object","properties":{"type":{"type":"string"}}},"#,
            r#""name":"n","$parameters":{"name":"n"}}"#
        );
        assert_eq!(propagated(text, Winner::Nearer).unwrap(), told);
    }

    #[test]
    fn a_class_without_a_type_gets_the_custom_one_of_its_place() {
        let text = r#"{"type":"RecordSelector","extractor":{"class_name":"x.Y"}}"#;
        let told = r#"{"type":"RecordSelector","extractor":{"class_name":"x.Y","type":"CustomRecordExtractor"}}"#;
        assert_eq!(propagated(text, Winner::Nearer).unwrap(), told);
    }

    #[test]
    fn parameters_that_are_no_object_are_told_with_their_place() {
        let told = propagated(r#"{"type":"A","b":[{"type":"B","$parameters":3}]}"#, Winner::Nearer).unwrap_err();
        assert_eq!(told.to_string(), "b[0]: `$parameters` has to be an object of names and values");
    }

    #[test]
    fn parameters_that_multiply_in_each_other_are_refused() {
        let one = |name| format!(r#""p{name}":{{"type":"A"}}"#);
        let all: Vec<_> = (0..12).map(one).collect();
        let text = format!(r#"{{"type":"A","$parameters":{{{}}}}}"#, all.join(","));
        let told = within(&Value::from_json(text.as_bytes()).unwrap(), Winner::Nearer, 10_000).unwrap_err().to_string();
        assert!(told.ends_with("with its parameters handed down, the manifest has more than 10000 values"), "{told}");
    }
}
