//! Templates of manifests, evaluated as the reference does: Jinja, then `ast.literal_eval` on what was rendered.

use crate::{error::Result, node::Node, value::Value};

/// The variables of one evaluation. Nearer ones win.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Vec<(&'static str, Value)>,
    /// The present moment for `now_utc()` and its like, in microseconds since the epoch.
    pub now_us: i64,
}

impl Scope {
    pub fn new(now_us: i64) -> Self {
        Self { variables: Vec::new(), now_us }
    }

    /// With one variable more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'static str, value: Value) {
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, held)) => *held = value,
            None => self.variables.push((name, value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.variables.iter().map(|(name, value)| (*name, value))
    }
}

/// One template of a manifest with `$parameters` of its component, compiled once.
#[derive(Debug, Clone)]
pub struct Template {
    pub source: Value,
    /// Path inside the manifest.
    pub at: String,
    /// `parameters` of the component.
    pub parameters: Value,
}

impl Template {
    /// `node` is a member of `component`, whose `$parameters` become the variable `parameters`. Text is a template; any
    /// other value stands for itself.
    ///
    /// # Errors
    /// Kind config where the template cannot be compiled.
    pub fn new(node: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        let parameters = component.value.get("$parameters").cloned().unwrap_or_default();
        Ok(Self { source: node.value.clone(), at: node.path.clone(), parameters })
    }

    /// The value after `literal_eval`.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn value(&self, scope: &Scope) -> Result<Value> {
        let _ = scope;
        unimplemented!("written by its owner")
    }

    /// `InterpolatedString.eval` as text, the way Python's `str()` writes what is not text.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn text(&self, scope: &Scope) -> Result<String> {
        let _ = scope;
        unimplemented!("written by its owner")
    }

    /// `InterpolatedBoolean.eval`.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn boolean(&self, scope: &Scope) -> Result<bool> {
        let _ = scope;
        unimplemented!("written by its owner")
    }

    /// The value where it holds nothing to evaluate.
    pub fn constant(&self) -> Option<&Value> {
        None
    }
}

/// `InterpolatedMapping` and `InterpolatedNestedMapping`: an object (or array, or one text) whose keys and texts are
/// templates.
#[derive(Debug, Clone)]
pub struct TemplateTree {
    root: Value,
}

impl TemplateTree {
    /// `node` is a member of `component`, as in [`Template::new`].
    ///
    /// # Errors
    /// Kind config where a template cannot be compiled.
    pub fn new(node: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        let _ = component;
        Ok(Self { root: node.value.clone() })
    }

    /// `InterpolatedMapping.eval`: one level; keys are evaluated as well.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn mapping(&self, scope: &Scope) -> Result<crate::value::Map> {
        let _ = (scope, &self.root);
        unimplemented!("written by its owner")
    }

    /// `InterpolatedNestedMapping.eval`: members that become null are left out.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn nested(&self, scope: &Scope) -> Result<Value> {
        let _ = scope;
        unimplemented!("written by its owner")
    }
}
