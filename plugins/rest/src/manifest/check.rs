//! Whether a resolved manifest says what the language allows: components by the table, then what only makes sense
//! together ([`super::rules`]).
//!
//! Must never look into JSON Schemas or into records.

use super::{
    components::{Component, Shape, component, nearest},
    custom,
    finding::{Finding, Findings},
};
use crate::{
    node::Node,
    value::{Map, Value},
};

/// Every finding of a manifest, in its order.
pub fn check(root: &Node<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    version(root, &mut findings);
    if root.get("streams").is_none() && root.get("dynamic_streams").is_none() {
        findings.error(root, "the manifest has neither `streams` nor `dynamic_streams`");
    }
    let known = component("DeclarativeSource").expect("the table has the whole manifest");
    members(root, "DeclarativeSource", known, &mut findings);
    super::rules::check(root, &mut findings);
    findings.into_list()
}

/// The newest version of the language that is known here.
const NEWEST: u64 = 7;

fn version(root: &Node<'_>, findings: &mut Findings) {
    let Some(node) = root.get("version") else { return };
    let Some(text) = node.value.as_str() else { return };
    let parts: Vec<Option<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts.first() {
        Some(Some(major)) if *major > NEWEST => {
            let message = format!("it is written for version {text} of the language; known here is {NEWEST}");
            findings.warning(&node, message);
        }
        Some(Some(_)) => {}
        _ => findings.error(&node, format!("`{text}` is no version; write one such as 6.0.0")),
    }
}

fn members(node: &Node<'_>, kind: &str, known: &Component, findings: &mut Findings) {
    for member in &known.members {
        match node.get(member.name) {
            Some(value) => shape(&value, &member.shapes, findings),
            None if member.needed => findings.error(node, format!("`{kind}` needs `{}`", member.name)),
            None => {}
        }
    }
}

fn shape(node: &Node<'_>, shapes: &[Shape], findings: &mut Findings) {
    match node.value {
        Value::Map(map) => object(node, map, shapes, findings),
        Value::List(_) => array(node, shapes, findings),
        scalar if shapes.iter().any(|shape| fits(scalar, shape)) => {}
        _ => findings.error(node, format!("this has to be {}", wanted(shapes))),
    }
}

fn fits(scalar: &Value, shape: &Shape) -> bool {
    match (scalar, shape) {
        (_, Shape::Any)
        | (Value::Str(_), Shape::Text)
        | (Value::Int(_) | Value::Big(_), Shape::Int | Shape::Number)
        | (Value::Float(_), Shape::Number)
        | (Value::Bool(_), Shape::Flag)
        | (Value::Null, Shape::Null) => true,
        (Value::Float(float), Shape::Int) => float.fract() == 0.0,
        (Value::Str(text), Shape::Exactly(exactly)) => &**text == *exactly,
        _ => false,
    }
}

fn object(node: &Node<'_>, map: &Map, shapes: &[Shape], findings: &mut Findings) {
    let kinds: Vec<&'static str> = shapes.iter().filter_map(of_component).collect();
    let plain = shapes.iter().any(|shape| matches!(shape, Shape::Map | Shape::Any));
    let values = shapes.iter().find_map(|shape| if let Shape::Object(inside) = shape { Some(inside) } else { None });
    match map.get("type") {
        Some(Value::Str(_)) if !plain && custom::is_custom(node) => findings.error(node, custom::refusal(node)),
        Some(Value::Str(kind)) if !kinds.is_empty() => typed(node, kind, &kinds, findings),
        _ if plain => {}
        _ if values.is_some() => {
            let inside =
                values.into_iter().flat_map(|shapes| node.members().into_iter().map(move |(_, n)| (n, shapes)));
            // Parameters that are handed down are nobody's member.
            for (member, shapes) in inside.filter(|(member, _)| !member.path.ends_with(".$parameters")) {
                shape(&member, shapes, findings);
            }
        }
        _ => match kinds.as_slice() {
            [] => findings.error(node, format!("this has to be {}", wanted(shapes))),
            _ => match kinds.iter().find_map(|kind| component(kind).filter(|known| known.untyped).map(|k| (kind, k))) {
                Some((kind, known)) => members(node, kind, known, findings),
                None => findings.error(node, format!("`type` is missing; it takes {}", listed(&kinds))),
            },
        },
    }
}

fn of_component(shape: &Shape) -> Option<&'static str> {
    if let Shape::Component(kind) = shape { Some(kind) } else { None }
}

fn typed(node: &Node<'_>, kind: &str, kinds: &[&'static str], findings: &mut Findings) {
    match component(kind) {
        Some(known) if kinds.contains(&kind) => members(node, kind, known, findings),
        Some(_) => findings.error(node, format!("`{kind}` cannot stand here; it takes {}", listed(kinds))),
        None => {
            let hint = nearest(kind).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            findings.error(node, format!("the component `{kind}` is not known here{hint}"));
        }
    }
}

fn array(node: &Node<'_>, shapes: &[Shape], findings: &mut Findings) {
    if shapes.iter().any(|shape| matches!(shape, Shape::List | Shape::Any)) {
        return;
    }
    let Some(inside) =
        shapes.iter().find_map(|shape| if let Shape::Array(inside) = shape { Some(inside) } else { None })
    else {
        return findings.error(node, format!("this has to be {}", wanted(shapes)));
    };
    node.list().iter().for_each(|item| shape(item, inside, findings));
}

/// What a member takes, in words.
fn wanted(shapes: &[Shape]) -> String {
    let mut words = Vec::new();
    for shape in shapes {
        let word = match shape {
            Shape::Text => "text".into(),
            Shape::Int => "a whole number".into(),
            Shape::Number => "a number".into(),
            Shape::Flag => "true or false".into(),
            Shape::Map | Shape::Object(_) => "an object".into(),
            Shape::List | Shape::Array(_) => "an array".into(),
            Shape::Any | Shape::Null => "empty".into(),
            Shape::Exactly(text) => format!("`{text}`"),
            Shape::Component(kind) => format!("a `{kind}`"),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    joined(&words)
}

fn listed(kinds: &[&str]) -> String {
    joined(&kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>())
}

fn joined(words: &[String]) -> String {
    match words {
        [] => "nothing".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
