//! Templates of manifests, evaluated as the reference does: Jinja, then `ast.literal_eval` on what was rendered.
//!
//! A template's way: [`lexer`] cuts it, [`statements`] and [`parser`] make [`syntax`] of it, [`names`] finds what it takes
//! from outside, [`machine`] and [`rendering`] run it on [`object`]s that behave as Python's, [`literal`] reads what came
//! out. Never does I/O; the present moment and chance are in the scope.

#![allow(clippy::mutable_key_type, reason = "what can be changed is refused as a key, as Python does")]

mod attributes;
mod checks;
mod codec_filters;
mod comparison;
mod container_methods;
mod containers;
mod escapes;
mod fault;
mod filters;
mod formatting;
mod functions;
pub(crate) mod lexer;
mod literal;
mod machine;
mod moment_methods;
mod names;
mod number_filters;
pub(crate) mod object;
pub(crate) mod operators;
mod parser;
mod pattern;
mod rendering;
mod sequence_filters;
pub(crate) mod show;
pub(crate) mod statements;
pub(crate) mod syntax;
mod text_filters;
mod text_methods;
mod tree;

pub use tree::TemplateTree;

use std::rc::Rc;

use crate::{
    error::{RestError, Result},
    limits,
    node::Node,
    value::Value,
};

use fault::{Fault, Outcome};
use machine::Machine;
use object::Object;
use syntax::Statement;

/// The variables of one evaluation. Nearer ones win.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Vec<(&'static str, Value)>,
    /// The present moment for `now_utc()` and its like, in microseconds since the epoch.
    pub now_us: i64,
    /// From 0 up to 1, for `generate_uuid()`.
    pub chance: f64,
}

impl Scope {
    pub fn new(now_us: i64) -> Self {
        Self { variables: Vec::new(), now_us, chance: 0.0 }
    }

    /// With one variable more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.set(name, value);
        self
    }

    /// With chance for identifiers; without, identifiers of one instance still differ from each other.
    #[must_use]
    pub fn with_chance(mut self, chance: f64) -> Self {
        self.chance = chance;
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

/// `valid_types` of the reference: what a text may turn into. Anything else leaves the text as it was rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allowed {
    #[default]
    Any,
    Text,
    Integer,
    Float,
    Bool,
    /// What parameters of requests may be.
    TextOrList,
}

impl Allowed {
    fn takes(self, object: &Object) -> bool {
        match self {
            Self::Any => true,
            Self::Text => matches!(object, Object::Str(_)),
            Self::Integer => matches!(object, Object::Int(_) | Object::Big(_) | Object::Bool(_)),
            Self::Float => matches!(object, Object::Float(_)),
            Self::Bool => matches!(object, Object::Bool(_)),
            Self::TextOrList => matches!(object, Object::Str(_) | Object::List(_)),
        }
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
    code: Rc<Code>,
}

#[derive(Debug)]
enum Code {
    /// What is not text.
    Value,
    /// Text without anything to evaluate, and what it is worth.
    Plain {
        text: Value,
        worth: Value,
    },
    Jinja {
        statements: Vec<Statement>,
        outside: Vec<Rc<str>>,
    },
}

/// What a template came to.
enum Outgoing {
    /// An object that was not written out, since reading it back would give the same.
    Object(Object),
    Text(std::sync::Arc<str>),
}

impl Template {
    /// `node` is a member of `component`, whose `$parameters` become the variable `parameters`. Text is a template; any
    /// other value stands for itself.
    ///
    /// # Errors
    /// Kind config where the template cannot be compiled.
    pub fn new(node: &Node<'_>, component: &Node<'_>) -> Result<Self> {
        let parameters = component.value.get("$parameters").cloned().unwrap_or_default();
        Self::compiled(node.value.clone(), node.path.clone(), parameters)
    }

    fn compiled(source: Value, at: String, parameters: Value) -> Result<Self> {
        let code = match source.as_str().map(compile) {
            None => Code::Value,
            Some(Ok(code)) => code,
            Some(Err(fault)) => {
                let text = source.as_str().unwrap_or_default();
                let message = format!("the template `{}` cannot be read: {fault}", shortened(text));
                return Err(RestError::config(message).at(at));
            }
        };
        Ok(Self { source, at, parameters, code: Rc::new(code) })
    }

    /// The value after `literal_eval`, as `InterpolatedString.eval` gives it.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn value(&self, scope: &Scope) -> Result<Value> {
        self.value_as(scope, Allowed::Any)
    }

    /// The value after `literal_eval` where that is allowed, else the text.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn value_as(&self, scope: &Scope, allowed: Allowed) -> Result<Value> {
        match &*self.code {
            Code::Value => Ok(self.source.clone()),
            Code::Plain { worth, .. } if allowed == Allowed::Any => self.supported().map(|()| worth.clone()),
            _ => {
                let outgoing = self.run(scope).map_err(|fault| self.failed(&fault))?;
                Ok(worth(outgoing, allowed))
            }
        }
    }

    /// What `JinjaInterpolation.eval` gives without a default: null where it comes to nothing.
    fn value_or_null(&self, scope: &Scope, allowed: Allowed) -> Result<Value> {
        if matches!(*self.code, Code::Value) {
            return Ok(self.source.clone());
        }
        match self.run(scope) {
            Ok(Outgoing::Text(text)) if text.is_empty() => Ok(Value::Null),
            Ok(outgoing) => Ok(worth(outgoing, allowed)),
            Err(Fault::Undefined(_)) => Ok(Value::Null),
            Err(fault) => Err(self.failed(&fault)),
        }
    }

    /// `InterpolatedString.eval` as text, the way Python's `str()` writes what is not text.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn text(&self, scope: &Scope) -> Result<String> {
        if matches!(*self.code, Code::Value) {
            return Ok(show::text(&Object::from_value(&self.source)));
        }
        match self.run(scope).map_err(|fault| self.failed(&fault))? {
            Outgoing::Object(object) => Ok(show::text(&object)),
            Outgoing::Text(text) => {
                Ok(literal::evaluate(&text).map_or_else(|| text.to_string(), |object| show::text(&object)))
            }
        }
    }

    /// `InterpolatedBoolean.eval`.
    ///
    /// # Errors
    /// Kind config, naming path and template.
    pub fn boolean(&self, scope: &Scope) -> Result<bool> {
        if matches!(*self.code, Code::Value) {
            return Ok(self.source.truthy());
        }
        let object = match self.run(scope) {
            Ok(Outgoing::Object(object)) => object,
            Ok(Outgoing::Text(text)) => literal::evaluate(&text).unwrap_or(Object::Str(text)),
            Err(Fault::Undefined(_)) => return Ok(false),
            Err(fault) => return Err(self.failed(&fault)),
        };
        Ok(match &object {
            Object::Str(text) => !matches!(&**text, "False" | "false" | "{}" | "[]" | "()" | "" | "0" | "0.0"),
            Object::Bytes(_) => true,
            other => other.truthy(),
        })
    }

    /// The value where it holds nothing to evaluate.
    pub fn constant(&self) -> Option<&Value> {
        match &*self.code {
            Code::Value => Some(&self.source),
            Code::Plain { worth, .. } if self.supported().is_ok() => Some(worth),
            _ => None,
        }
    }

    /// The reference refuses a text that holds this name anywhere.
    fn supported(&self) -> Result<()> {
        match self.source.as_str() {
            Some(text) if text.contains("stream_state") => Err(self.failed(&Fault::other(
                "`stream_state` is no longer supported for interpolation; use `stream_interval` instead",
            ))),
            _ => Ok(()),
        }
    }

    fn run(&self, scope: &Scope) -> Outcome<Outgoing> {
        self.supported().map_err(|error| Fault::Other(error.message))?;
        let source = match &self.source {
            Value::Str(text) => text,
            other => return Ok(Outgoing::Object(Object::from_value(other))),
        };
        let (statements, outside) = match &*self.code {
            Code::Jinja { statements, outside } => (statements, outside),
            Code::Plain { text: Value::Str(text), .. } => return Ok(Outgoing::Text(text.clone())),
            _ => return Ok(Outgoing::Text(source.clone())),
        };
        let mut machine = Machine::new(scope, &self.parameters);
        if let Some(unknown) = outside.iter().find(|name| !machine.has(name)) {
            return Err(Fault::other(format!("there is no variable `{unknown}` here")));
        }
        match outgoing(&mut machine, statements) {
            // The reference takes a template with a type error for plain text.
            Err(Fault::Type(_)) => Ok(Outgoing::Text(source.clone())),
            other => other,
        }
    }

    fn failed(&self, fault: &Fault) -> RestError {
        let text = shortened(self.source.as_str().unwrap_or_default());
        RestError::config(format!("the template `{text}` cannot be evaluated: {fault}")).at(&self.at)
    }
}

/// Whether there is anything to evaluate in a text.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

fn compile(text: &str) -> Outcome<Code> {
    if text.len() > limits::MAX_TEMPLATE_BYTES {
        return Err(Fault::other(format!("it is longer than {} bytes", limits::MAX_TEMPLATE_BYTES)));
    }
    if !is_template(text) {
        // Jinja leaves out the end of the last line.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let text: std::sync::Arc<str> = text.strip_suffix('\n').unwrap_or(&text).into();
        let worth = worth(Outgoing::Text(text.clone()), Allowed::Any);
        return Ok(Code::Plain { text: Value::Str(text), worth });
    }
    let statements = statements::parse(text)?;
    let outside = names::taken_from_outside(&statements);
    Ok(Code::Jinja { statements, outside })
}

/// Runs a template; where it is one expression, what that is worth is not written out in vain.
fn outgoing(machine: &mut Machine<'_>, statements: &[Statement]) -> Outcome<Outgoing> {
    let [Statement::Output(expr)] = statements else {
        return machine.render(statements).map(|text| Outgoing::Text(text.into()));
    };
    let object = machine.eval(expr)?;
    Ok(match object {
        Object::Str(text) => Outgoing::Text(text),
        other if reads_back(&other) => Outgoing::Object(other),
        other => {
            let text = show::text(&other);
            if text.len() > limits::MAX_RENDERED_BYTES {
                return Err(Fault::other(format!("it renders to more than {} bytes", limits::MAX_RENDERED_BYTES)));
            }
            Outgoing::Text(text.into())
        }
    })
}

/// Whether `literal_eval` on what Python writes gives the same again.
fn reads_back(object: &Object) -> bool {
    match object {
        Object::None | Object::Bool(_) | Object::Int(_) => true,
        Object::Float(float) => float.is_finite(),
        Object::List(list) => list.as_shared().is_some_and(|items| items.iter().all(finite)),
        Object::Dict(dict) => dict.as_shared().is_some_and(|map| map.values().all(finite)),
        _ => false,
    }
}

fn finite(value: &Value) -> bool {
    match value {
        Value::Float(float) => float.is_finite(),
        Value::List(items) => items.iter().all(finite),
        Value::Map(map) => map.values().all(finite),
        _ => true,
    }
}

fn worth(outgoing: Outgoing, allowed: Allowed) -> Value {
    match outgoing {
        Outgoing::Object(object) if allowed.takes(&object) => object.to_value().unwrap_or_default(),
        Outgoing::Object(object) => Value::str(show::text(&object)),
        Outgoing::Text(text) => {
            let literal = literal::evaluate(&text).filter(|object| allowed.takes(object));
            literal.and_then(|object| object.to_value()).unwrap_or(Value::Str(text))
        }
    }
}

/// For messages.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
