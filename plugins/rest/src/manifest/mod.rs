//! Manifests: read, resolved, checked, and what they say of themselves.
//!
//! A text's way: [`yaml`] (with [`scalar`]) reads it, [`refs`] follows references, [`parameters`] (with [`implicit`])
//! puts types and parameters into every component. [`check`] compares it with the table of [`components`] and with
//! [`rules`]. Nothing here does I/O or builds a component.

mod about;
mod adheres;
mod check;
mod components;
mod custom;
mod finding;
mod hosts;
mod implicit;
mod normalization;
pub mod parameters;
mod refs;
mod rules;
mod scalar;
mod secrets;
mod settings;
pub mod spec;
pub mod streams;
mod template_values;
mod trail;
mod walk;
pub mod yaml;

pub use finding::{Finding, Level};
pub use normalization::normalize;
pub use spec::SpecOut;

use std::sync::Arc;

use crate::{
    error::{RestError, Result},
    value::{Map, Value},
};

/// A manifest without references, every component with its type and parameters.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub resolved: Value,
}

/// Reads the text of a manifest, YAML or JSON.
///
/// # Errors
/// Kind config: one sentence with the line or the path.
pub fn load(text: &[u8]) -> Result<Manifest> {
    Manifest::new(&yaml::parse(text)?)
}

impl Manifest {
    /// Takes a manifest that was read already.
    ///
    /// # Errors
    /// Kind config: one sentence with the path.
    pub fn new(read: &Value) -> Result<Self> {
        Ok(Self { resolved: resolve(read)? })
    }

    /// What it says of itself; its configuration stands under `prefix` (`""`, or such as `config`).
    pub fn spec(&self, prefix: &str) -> SpecOut {
        spec::spec(self, prefix)
    }

    /// What is to be said about it. Not done by [`load`]: a run has no use for it.
    pub fn findings(&self) -> Vec<Finding> {
        check::check(&self.root())
    }
}

fn resolve(read: &Value) -> Result<Value> {
    let Some(map) = read.as_map() else {
        return Err(RestError::config("the manifest is no mapping; it begins with `version`, `type` and `streams`"));
    };
    let mut typed: Map = map.clone();
    if !typed.contains_key("type") {
        typed.insert("type".into(), "DeclarativeSource".into());
    }
    let mut resolved = parameters::propagate(&refs::resolve(&typed)?, parameters::Winner::Nearer)?;
    if let Some(Value::List(streams)) = resolved.map_mut().get_mut("streams") {
        streams::cache_parents(Arc::make_mut(streams).as_mut_slice());
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests;
