//! What components there are, what each takes and needs: the table in `components.txt`, read once.
//!
//! Knows nothing of any manifest.

use std::{collections::HashMap, sync::OnceLock};

const TABLE: &str = include_str!("components.txt");

#[derive(Debug)]
pub struct Component {
    pub members: Vec<Member>,
    /// Its type may be left out.
    pub untyped: bool,
}

#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub needed: bool,
    pub shapes: Vec<Shape>,
}

/// One of the things that a member may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Text,
    Int,
    Number,
    Flag,
    Map,
    List,
    Any,
    Null,
    Exactly(&'static str),
    Component(&'static str),
    Array(Vec<Shape>),
    Object(Vec<Shape>),
}

/// A component by its type.
pub fn component(kind: &str) -> Option<&'static Component> {
    table().get(kind)
}

/// The type that is written almost like this one.
pub fn nearest(kind: &str) -> Option<&'static str> {
    let distance = |known: &&&str| edits(kind, known);
    table().keys().min_by_key(distance).filter(|known| edits(kind, known) <= 3).copied()
}

fn table() -> &'static HashMap<&'static str, Component> {
    static READ: OnceLock<HashMap<&'static str, Component>> = OnceLock::new();
    READ.get_or_init(read)
}

fn read() -> HashMap<&'static str, Component> {
    let (mut sets, mut table) = (HashMap::new(), HashMap::new());
    let mut kind = "";
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, types)) = line.split_once(" = ") {
            sets.insert(name, shapes(types, &sets));
        } else if let Some(member) = line.strip_prefix("  ") {
            let (name, types) = member.split_once(' ').expect("a member of the table has types");
            let name = (name.strip_suffix('!').unwrap_or(name), name.ends_with('!'));
            let member = Member { name: name.0, needed: name.1, shapes: shapes(types, &sets) };
            let component: &mut Component = table.get_mut(kind).expect("a member follows its component");
            component.members.push(member);
        } else {
            kind = line.strip_suffix(" ?").unwrap_or(line);
            table.insert(kind, Component { members: Vec::new(), untyped: line.ends_with('?') });
        }
    }
    table
}

fn shapes(text: &'static str, sets: &HashMap<&'static str, Vec<Shape>>) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with(['[', '{']) { bracket_end(rest) } else { rest.find(' ').unwrap_or(rest.len()) };
        let (word, after) = rest.split_at(end);
        let inside = || shapes_inside(word, sets);
        match word {
            "text" => shapes.push(Shape::Text),
            "int" => shapes.push(Shape::Int),
            "number" => shapes.push(Shape::Number),
            "flag" => shapes.push(Shape::Flag),
            "map" => shapes.push(Shape::Map),
            "list" => shapes.push(Shape::List),
            "any" => shapes.push(Shape::Any),
            "null" => shapes.push(Shape::Null),
            _ if word.starts_with('\'') => shapes.push(Shape::Exactly(word.trim_matches('\''))),
            _ if word.starts_with('[') => shapes.push(Shape::Array(inside())),
            _ if word.starts_with('{') => shapes.push(Shape::Object(inside())),
            _ if word.starts_with('@') => shapes.extend(sets[word].iter().cloned()),
            _ => shapes.push(Shape::Component(word)),
        }
        rest = after.trim_start();
    }
    shapes
}

fn shapes_inside(word: &'static str, sets: &HashMap<&'static str, Vec<Shape>>) -> Vec<Shape> {
    shapes(&word[1..word.len() - 1], sets)
}

/// Just after the bracket that closes the first one.
fn bracket_end(text: &str) -> usize {
    let mut open = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Letters to change, add or take away between two words.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    // Longer words are no slips of the pen.
    for (at, letter) in left.chars().take(100).enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (column, other) in right.iter().enumerate() {
            let change = before + usize::from(letter != *other);
            before = row[column + 1];
            row[column + 1] = change.min(before + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(shapes: &[Shape], names: &mut Vec<&'static str>) {
        for shape in shapes {
            match shape {
                Shape::Component(name) => names.push(name),
                Shape::Array(inside) | Shape::Object(inside) => named(inside, names),
                _ => {}
            }
        }
    }

    #[test]
    fn every_component_that_the_table_names_stands_in_it() {
        assert!(table().len() > 110);
        for component in table().values() {
            let mut names = Vec::new();
            component.members.iter().for_each(|member| named(&member.shapes, &mut names));
            for name in names {
                assert!(table().contains_key(name), "{name}");
            }
        }
        let nested = &component("ParentStreamConfig").unwrap().members;
        let fields = nested.iter().find(|member| member.name == "extra_fields").unwrap();
        assert_eq!(fields.shapes, [Shape::Array(vec![Shape::Array(vec![Shape::Text])])]);
    }

    #[test]
    fn a_slip_of_the_pen_is_recognized() {
        assert_eq!(nearest("SimpleRetreiver"), Some("SimpleRetriever"));
        assert_eq!(nearest("Kettle"), None);
    }
}
