//! The way through every component of a resolved manifest, member by member as the table of components has them.
//!
//! What a parameter put into a component that takes no such member is not visited, nor are JSON Schemas.

use super::components::component;
use crate::{node::Node, value::Value};

/// What somebody does on the way. Both are told in the manifest's order, a component before its members.
pub trait Visitor {
    fn component(&mut self, component: &Node<'_>) {
        let _ = component;
    }

    /// A text, perhaps inside the objects and arrays of a member.
    fn text(&mut self, text: &Text<'_>) {
        let _ = text;
    }
}

/// A text in a component.
#[derive(Debug)]
pub struct Text<'a> {
    pub component: &'a Node<'a>,
    pub node: Node<'a>,
    pub text: &'a str,
}

pub fn walk(root: &Node<'_>, visitor: &mut dyn Visitor) {
    visit(root, visitor);
}

/// Members that hold no templates and no components.
fn is_data(kind: &str, member: &str) -> bool {
    matches!(
        (kind, member),
        ("InlineSchemaLoader", "schema")
            | ("Spec", "connection_specification" | "advanced_auth" | "documentation_url")
            | ("DeclarativeSource", "metadata" | "description" | "version" | "permissions")
            | ("CheckStream" | "CheckDynamicStream", _)
            | ("ValidateAdheresToSchema", _)
            | ("ConfigMigration", "description")
    )
}

fn visit(node: &Node<'_>, visitor: &mut dyn Visitor) {
    visitor.component(node);
    let Some(known) = component(node.kind()) else { return };
    for member in &known.members {
        if is_data(node.kind(), member.name) {
            continue;
        }
        if let Some(value) = node.get(member.name) {
            inside(node, &value, visitor);
        }
    }
}

fn inside(owner: &Node<'_>, node: &Node<'_>, visitor: &mut dyn Visitor) {
    match node.value {
        Value::Str(text) => visitor.text(&Text { component: owner, node: node.clone(), text }),
        Value::List(_) => node.list().iter().for_each(|item| inside(owner, item, visitor)),
        Value::Map(_) if component(node.kind()).is_some() || node.value.get("class_name").is_some() => {
            visit(node, visitor);
        }
        Value::Map(_) => {
            for (key, value) in node.members() {
                if key != "$parameters" {
                    inside(owner, &value, visitor);
                }
            }
        }
        _ => {}
    }
}
