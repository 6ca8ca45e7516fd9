//! A place in a manifest: a value and the path that leads to it, so that every complaint names the path.

use crate::{
    error::{RestError, Result},
    value::Value,
};

/// Cheap to make; lives as long as the manifest.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// A member that is there and not null.
    pub fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Self { value, path })
    }

    /// A member that has to be there.
    ///
    /// # Errors
    /// Kind config, naming the member.
    pub fn need(&self, key: &str) -> Result<Self> {
        self.get(key).ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    /// The items of an array; a single value counts as an array of one, nothing as an empty one.
    pub fn items(&self, key: &str) -> Vec<Self> {
        let Some(node) = self.get(key) else { return Vec::new() };
        match node.value.as_list() {
            Some(_) => node.list(),
            None => vec![node],
        }
    }

    /// The items of this value where it is an array.
    pub fn list(&self) -> Vec<Self> {
        let items = self.value.as_list().unwrap_or_default().iter().enumerate();
        items.map(|(at, value)| Self { value, path: format!("{}[{at}]", self.path) }).collect()
    }

    /// The members of this value where it is an object, in order.
    pub fn members(&self) -> Vec<(&'a str, Self)> {
        let Some(map) = self.value.as_map() else { return Vec::new() };
        let member = |(key, value): (&'a String, &'a Value)| {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            (key.as_str(), Self { value, path })
        };
        map.iter().map(member).collect()
    }

    /// `type` of a component; after [`crate::manifest`] every component has one.
    pub fn kind(&self) -> &'a str {
        self.value.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// # Errors
    /// Kind config where it is no text.
    pub fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("this has to be text"))
    }

    /// # Errors
    /// Kind config where it is there and no whole number.
    pub fn int(&self, key: &str) -> Result<Option<i64>> {
        let Some(node) = self.get(key) else { return Ok(None) };
        node.value.as_int().map(Some).ok_or_else(|| node.wrong("this has to be a whole number"))
    }

    /// `default` where it is not there.
    ///
    /// # Errors
    /// Kind config where it is there and neither true nor false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(node) = self.get(key) else { return Ok(default) };
        node.value.as_bool().ok_or_else(|| node.wrong("this has to be true or false"))
    }

    /// A complaint about this place.
    pub fn wrong(&self, message: impl Into<String>) -> RestError {
        RestError::config(message).at(if self.path.is_empty() { "manifest" } else { &self.path })
    }

    /// A component whose type is not known here.
    pub fn unknown(&self) -> RestError {
        self.wrong(format!("the component `{}` is not known here", self.kind()))
    }
}
