//! The settings of a connection made to what a manifest expects: `config_normalization_rules` of its spec.
//!
//! Pure. Must never put a setting's value into an error: it may be private.

use super::adheres;
use crate::{
    error::Result,
    extract::dpath::{self, Path},
    interpolation::{Allowed, Scope, Template, TemplateTree},
    node::Node,
    value::Value,
};

/// What stands for a secret inside the connector; nothing can be said about the value behind it.
pub const PLACEHOLDER: &str = "thimble-secret-";

/// Migrations, then transformations, then validations.
///
/// # Errors
/// Kind config, naming the path of the rule and the setting.
pub fn normalize(manifest: &Value, config: Value, now_us: i64) -> Result<Value> {
    let root = Node::root(manifest);
    let rules = root.get("spec").and_then(|spec| spec.get("config_normalization_rules"));
    let Some(rules) = rules.filter(|_| config.truthy()) else { return Ok(config) };
    let mut settings = Settings { config, now_us };
    for migration in rules.items("config_migrations") {
        for transformation in migration.items("transformations") {
            settings.transform(&transformation)?;
        }
    }
    for transformation in rules.items("transformations") {
        settings.transform(&transformation)?;
    }
    for validation in rules.items("validations") {
        settings.validate(&validation)?;
    }
    Ok(settings.config)
}

struct Settings {
    config: Value,
    now_us: i64,
}

impl Settings {
    fn scope(&self) -> Scope {
        Scope::new(self.now_us).with("config", self.config.clone())
    }

    fn transform(&mut self, node: &Node<'_>) -> Result<()> {
        match node.kind() {
            "ConfigAddFields" => self.add(node),
            "ConfigRemoveFields" => self.remove(node),
            "ConfigRemapField" => self.remap(node),
            _ => Err(node.unknown()),
        }
    }

    fn add(&mut self, node: &Node<'_>) -> Result<()> {
        for field in node.items("fields") {
            let keys = texts(&field.need("path")?)?;
            if keys.is_empty() {
                return Err(field.wrong("a path has to name at least one setting"));
            }
            let template = Template::new(&field.need("value")?, &field)?;
            let value = template.value_as(&self.scope(), allowed(&field)?)?;
            let path = Value::list(keys.iter().map(Value::str).collect());
            let scope = self.scope().with("value", value.clone()).with("path", path);
            if holds(node, &scope)? {
                dpath::put(&mut self.config, &keys, value).map_err(|reason| field.wrong(reason))?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, node: &Node<'_>) -> Result<()> {
        if !holds(node, &self.scope())? {
            return Ok(());
        }
        for pointer in node.items("field_pointers") {
            let path = Path::new(&texts(&pointer)?).map_err(|reason| pointer.wrong(reason))?;
            // From the end, so that the places of an array's elements stay what they were.
            for way in path.ways(&self.config).iter().rev() {
                dpath::delete(&mut self.config, way);
            }
        }
        Ok(())
    }

    fn remap(&mut self, node: &Node<'_>) -> Result<()> {
        let keys = self.evaluated(&node.need("field_path")?, &self.scope())?;
        let map = TemplateTree::new(&node.need("map")?, node)?.mapping(&self.scope())?;
        let Some((last, before)) = keys.split_last() else {
            return Err(node.wrong("`field_path` has to name a setting"));
        };
        let mut holder = &self.config;
        for key in before {
            let Some(next) = holder.get(key) else { return Ok(()) };
            holder = next;
        }
        let known = holder.get(last).and_then(|value| map.get(&key_of(value)?));
        if let Some(mapped) = known.cloned() {
            dpath::put(&mut self.config, &keys, mapped).map_err(|reason| node.wrong(reason))?;
        }
        Ok(())
    }

    fn evaluated(&self, node: &Node<'_>, scope: &Scope) -> Result<Vec<String>> {
        let parts = if node.value.as_list().is_some() { node.list() } else { vec![node.clone()] };
        parts.iter().map(|part| Template::new(part, node)?.text(scope)).collect()
    }

    fn validate(&self, node: &Node<'_>) -> Result<()> {
        let strategy = node.need("validation_strategy")?;
        if strategy.kind() != "ValidateAdheresToSchema" {
            return Err(strategy.unknown());
        }
        let schema = strategy.need("base_schema")?;
        let schema = as_json(schema.value).ok_or_else(|| schema.wrong("this is no JSON Schema"))?;
        let values = match node.kind() {
            "DpathValidator" => {
                let keys = self.evaluated(&node.need("field_path")?, &Scope::new(self.now_us))?;
                let path = Path::new(&keys).map_err(|reason| node.wrong(reason))?;
                let setting = keys.join(".");
                path.values(&self.config).into_iter().map(|value| (setting.clone(), value.clone())).collect()
            }
            "PredicateValidator" => {
                let value = node.need("value")?;
                vec![("value".to_owned(), Template::new(&value, node)?.value(&self.scope())?)]
            }
            _ => return Err(node.unknown()),
        };
        for (setting, value) in values {
            let text = value.as_str();
            if text.is_some_and(|text| text.starts_with(PLACEHOLDER)) {
                continue;
            }
            let value =
                as_json(&value).ok_or_else(|| node.wrong(format!("the setting `{setting}` is no JSON text")))?;
            adheres::check(&value, &schema).map_err(|wrong| {
                let setting = if wrong.path.is_empty() { setting } else { format!("{setting}.{}", wrong.path) };
                node.wrong(format!("the setting `{setting}` {}", wrong.message))
            })?;
        }
        Ok(())
    }
}

/// Text is JSON, as the reference reads it.
fn as_json(value: &Value) -> Option<Value> {
    match value {
        Value::Str(text) => Value::from_json(text.as_bytes()).ok(),
        other => Some(other.clone()),
    }
}

/// What a value is as a key of a map of replacements.
fn key_of(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::Bool(true) => Some("true".into()),
        Value::Bool(false) => Some("false".into()),
        Value::Int(int) => Some(int.to_string()),
        _ => None,
    }
}

fn texts(node: &Node<'_>) -> Result<Vec<String>> {
    let part = |part: &Node<'_>| match part.value {
        Value::Str(text) => Ok(text.to_string()),
        Value::Int(int) => Ok(int.to_string()),
        _ => Err(part.wrong("a part of a path is text or a number")),
    };
    node.list().iter().map(part).collect()
}

/// `condition`; true where there is none.
fn holds(node: &Node<'_>, scope: &Scope) -> Result<bool> {
    match node.get("condition").filter(|condition| condition.value.truthy()) {
        None => Ok(true),
        Some(condition) => Template::new(&condition, node)?.boolean(scope),
    }
}

/// `value_type`: a value of another type stays the text that it was.
fn allowed(field: &Node<'_>) -> Result<Allowed> {
    let Some(kind) = field.get("value_type") else { return Ok(Allowed::Any) };
    Ok(match kind.text()? {
        "string" => Allowed::Text,
        "number" => Allowed::Float,
        "integer" => Allowed::Integer,
        "boolean" => Allowed::Bool,
        _ => return Err(kind.wrong("this has to be string, number, integer or boolean")),
    })
}
