//! Paths of a manifest whose parts are templates over the configuration.

use super::dpath::Path;
use crate::{
    error::{RestError, Result},
    interpolation::{Template, is_template},
    node::Node,
    stream::Env,
    value::Value,
};

/// Text as the manifest has it where it holds no template, else what the template gives.
///
/// # Errors
/// Kind config, naming the place.
pub fn text(node: &Node<'_>, component: &Node<'_>, env: &Env) -> Result<String> {
    match node.value {
        Value::Str(text) if !is_template(text) => Ok(text.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        _ => Template::new(node, component)?.text(&env.scope()),
    }
}

/// The parts of a path.
///
/// # Errors
/// As [`text`].
pub fn keys(node: &Node<'_>, component: &Node<'_>, env: &Env) -> Result<Vec<String>> {
    node.list().iter().map(|part| text(part, component, env)).collect()
}

/// A member of `component` that is a path; empty where there is none.
///
/// # Errors
/// As [`text`], and where its patterns are wrong.
pub fn path(component: &Node<'_>, name: &str, env: &Env) -> Result<Path> {
    match component.get(name) {
        Some(node) => Path::new(&keys(&node, component, env)?).map_err(|reason| node.wrong(reason)),
        None => Path::new(&[]).map_err(RestError::config),
    }
}
