//! Which settings of a configuration are secret, as its JSON Schema says. Pure.

use serde_json::Value;

/// JSON pointers of those settings of `config` that `schema` marks `"x-secret": true`. Walks schema and
/// configuration together, so recursive schemas end where the configuration does.
pub fn secret_fields(schema: &Value, config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    mark(schema, &[schema], config, String::new(), &mut found);
    found
}

fn mark<'a>(root: &'a Value, schemas: &[&'a Value], value: &Value, pointer: String, found: &mut Vec<String>) {
    let applying = applying(root, schemas);
    if applying.iter().any(|schema| schema.get("x-secret") == Some(&Value::Bool(true))) {
        found.push(pointer);
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let below: Vec<&Value> = applying.iter().flat_map(|schema| of_property(schema, name)).collect();
                let name = name.replace('~', "~0").replace('/', "~1");
                mark(root, &below, value, format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                let below: Vec<&Value> = applying.iter().flat_map(|schema| of_item(schema)).collect();
                mark(root, &below, value, format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// `schemas` with everything that applies at the same place: references and combinations. Each schema counts once,
/// which ends reference cycles.
fn applying<'a>(root: &'a Value, schemas: &[&'a Value]) -> Vec<&'a Value> {
    let mut all: Vec<&Value> = Vec::new();
    let mut waiting: Vec<&Value> = schemas.to_vec();
    while let Some(schema) = waiting.pop() {
        if all.iter().any(|seen| std::ptr::eq(*seen, schema)) {
            continue;
        }
        all.push(schema);
        for name in ["$ref", "$dynamicRef"] {
            let target = schema.get(name).and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
            waiting.extend(target.and_then(|pointer| root.pointer(pointer)));
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            waiting.extend(schema.get(name).and_then(Value::as_array).into_iter().flatten());
        }
        for name in ["if", "then", "else", "not"] {
            waiting.extend(schema.get(name));
        }
        waiting
            .extend(schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(|all| all.values()));
    }
    all
}

fn of_property<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut below = Vec::new();
    below.extend(schema.get("properties").and_then(|properties| properties.get(name)));
    // Which patterns match is not asked: hiding one field too many is the safe mistake.
    below.extend(schema.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(|all| all.values()));
    below.extend(schema.get("additionalProperties"));
    below.extend(schema.get("unevaluatedProperties"));
    below
}

fn of_item(schema: &Value) -> Vec<&Value> {
    let mut below = Vec::new();
    for name in ["items", "contains", "unevaluatedItems"] {
        below.extend(schema.get(name));
    }
    below.extend(schema.get("prefixItems").and_then(Value::as_array).into_iter().flatten());
    below
}
