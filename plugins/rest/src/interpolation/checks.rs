//! Tests of templates: what stands behind `is`.

use super::{
    comparison,
    fault::{Fault, Outcome},
    filters,
    machine::{Arguments, compare},
    object::Object,
    operators::{self, Operator},
    show,
    syntax::Comparison,
    text_methods::soft,
};

const NAMES: [&str; 38] = [
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "in",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
];

pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || name == ">="
}

/// # Errors
/// What Python would raise.
pub fn apply(name: &str, value: &Object, args: Arguments) -> Outcome<bool> {
    let comparison = match name {
        "eq" | "equalto" | "==" => Some(Comparison::Equal),
        "ne" | "!=" => Some(Comparison::Unequal),
        "lt" | "lessthan" | "<" => Some(Comparison::Less),
        "le" | "<=" => Some(Comparison::LessOrEqual),
        "gt" | "greaterthan" | ">" => Some(Comparison::Greater),
        "ge" | ">=" => Some(Comparison::GreaterOrEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = args.exactly(name, ["other"])?;
        return compare(comparison, value, &other);
    }
    match name {
        "divisibleby" => {
            let [by] = args.exactly(name, ["num"])?;
            return Ok(comparison::equal(&operators::apply(Operator::Modulo, value, &by)?, &Object::Int(0)));
        }
        "sameas" => {
            let [other] = args.exactly(name, ["other"])?;
            return Ok(same(value, &other));
        }
        _ => {
            args.exactly::<0>(name, [])?;
        }
    }
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Object::None),
        "true" => matches!(value, Object::Bool(true)),
        "false" => matches!(value, Object::Bool(false)),
        "boolean" => matches!(value, Object::Bool(_)),
        "integer" => matches!(value, Object::Int(_) | Object::Big(_)),
        "float" => matches!(value, Object::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Object::Str(_)),
        "mapping" => matches!(value, Object::Dict(_)),
        "sequence" => value.len().is_some() && !matches!(value, Object::Set(_)),
        "iterable" => value.len().is_some(),
        "callable" => {
            matches!(value, Object::Method(_) | Object::Function(_) | Object::Macro(_) | Object::Undefined(_))
        }
        "odd" | "even" => {
            let rest = operators::apply(Operator::Modulo, value, &Object::Int(2))?;
            comparison::equal(&rest, &Object::Int(i128::from(name == "odd")))
        }
        "lower" | "upper" => {
            let text = soft(value);
            let wanted = |c: char| if name == "lower" { c.is_lowercase() } else { c.is_uppercase() };
            let other = |c: char| if name == "lower" { c.is_uppercase() } else { c.is_lowercase() };
            text.chars().any(wanted) && !text.chars().any(other)
        }
        "escaped" => false,
        "filter" => filters::is_known(&show::text(value)),
        "test" => is_known(&show::text(value)),
        _ => return Err(Fault::other(format!("there is no test `{name}`"))),
    })
}

/// Python's `is`, as far as templates can tell.
fn same(a: &Object, b: &Object) -> bool {
    match (a, b) {
        (Object::List(a), Object::List(b)) => a.same(b),
        (Object::Dict(a), Object::Dict(b)) => a.same(b),
        (Object::Bool(_), Object::Bool(_)) | (Object::Int(_), Object::Int(_)) | (Object::Str(_), Object::Str(_)) => {
            comparison::equal(a, b)
        }
        _ => matches!((a, b), (Object::None, Object::None)),
    }
}
