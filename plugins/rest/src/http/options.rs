//! What parts of a manifest add to a request, and how they are put together.

use std::sync::Arc;

use crate::value::{Map, Value};

/// What one part (the requester itself, a paginator, a cursor, a partition router, an authenticator) asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestParts {
    pub params: Map,
    pub headers: Map,
    /// A form, or text as it is; null where there is none.
    pub body_data: Value,
    /// Null where there is none.
    pub body_json: Value,
    /// Replaces the URL (`RequestPath`).
    pub path: Option<String>,
}

/// Puts the parts of several together. Two may not ask for the same name; in a JSON body they may where they ask for
/// the same value. The path is the first one that is not empty.
///
/// # Errors
/// One sentence about the name that is asked for twice.
pub fn combine<'a>(parts: impl IntoIterator<Item = &'a RequestParts>) -> Result<RequestParts, String> {
    let mut all = RequestParts::default();
    for part in parts {
        merge_flat(&mut all.params, &part.params, "request parameter")?;
        merge_flat(&mut all.headers, &part.headers, "request header")?;
        merge_body(&mut all.body_data, &part.body_data, false)?;
        merge_body(&mut all.body_json, &part.body_json, true)?;
        all.path = all.path.or_else(|| part.path.clone().filter(|path| !path.is_empty()));
    }
    Ok(all)
}

fn merge_flat(target: &mut Map, source: &Map, what: &str) -> Result<(), String> {
    for (name, value) in source {
        if target.insert(name.clone(), value.clone()).is_some() {
            return Err(format!("two parts of the manifest set the {what} `{name}`; let only one of them set it"));
        }
    }
    Ok(())
}

fn merge_body(target: &mut Value, source: &Value, same_value: bool) -> Result<(), String> {
    let nothing = |value: &Value| value.is_null() || value.as_map().is_some_and(Map::is_empty);
    match (&mut *target, source) {
        (_, source) if nothing(source) => Ok(()),
        (target, source) if nothing(target) => {
            *target = source.clone();
            Ok(())
        }
        (Value::Map(target), Value::Map(source)) => merge(Arc::make_mut(target), source, same_value, &mut Vec::new()),
        _ => Err("the request's body is text, and another part of the manifest adds a field to it".into()),
    }
}

fn merge<'a>(target: &mut Map, source: &'a Map, same_value: bool, path: &mut Vec<&'a str>) -> Result<(), String> {
    for (name, value) in source {
        let Some(held) = target.get_mut(name) else {
            target.insert(name.clone(), value.clone());
            continue;
        };
        path.push(name);
        match (held, value) {
            (Value::Map(held), Value::Map(value)) if same_value => {
                merge(Arc::make_mut(held), value, same_value, path)?;
            }
            (held, value) if same_value && held == value => {}
            _ => {
                let path = path.join(".");
                return Err(format!(
                    "two parts of the manifest set the field `{path}` of the body; let only one of them set it"
                ));
            }
        }
        path.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json(json.as_bytes()).unwrap()
    }

    fn bodies(first: &str, second: &str) -> Result<String, String> {
        let part = |json| RequestParts { body_json: value(json), ..RequestParts::default() };
        combine([&part(first), &part(second)]).map(|all| all.body_json.to_json())
    }

    #[test]
    fn a_json_body_is_merged_deeply_and_the_same_value_may_stand_twice() {
        assert_eq!(bodies(r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":[2]}}"#).unwrap(), r#"{"a":{"b":1,"c":[2]}}"#);
        assert!(bodies(r#"{"a":{"b":1}}"#, r#"{"a":{"b":2}}"#).unwrap_err().contains("`a.b`"));
        assert!(bodies(r#"{"a":{"b":1}}"#, r#"{"a":1}"#).unwrap_err().contains("`a`"));
    }

    #[test]
    fn a_form_or_a_parameter_may_be_set_once_only() {
        let params = |json| RequestParts { params: value(json).as_map().unwrap().clone(), ..RequestParts::default() };
        let twice = combine([&params(r#"{"limit":1}"#), &params(r#"{"limit":1}"#)]);
        assert!(twice.unwrap_err().contains("`limit`"));
        let data = |json| RequestParts { body_data: value(json), ..RequestParts::default() };
        assert!(combine([&data(r#"{"a":"1"}"#), &data(r#"{"a":"1"}"#)]).is_err());
        assert!(combine([&data(r#""text""#), &data(r#"{"a":"1"}"#)]).is_err());
        assert_eq!(combine([&data(r#""text""#), &data("{}")]).unwrap().body_data, value(r#""text""#));
    }
}
