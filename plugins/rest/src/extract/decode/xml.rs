//! XML as objects, in the shape of the library xmltodict.
//!
//! Attributes get `@` before their names, text beside them is `#text`, elements of one name become an array. Names keep
//! their prefixes. No entities but the five of XML itself: a document that declares others is refused.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use super::charset;
use crate::{
    limits::MAX_DEPTH,
    value::{Map, Value},
};

/// An element under way.
#[derive(Default)]
struct Open {
    name: String,
    /// Attributes and elements; `None` where there are none.
    item: Option<Map>,
    text: String,
}

/// # Errors
/// What is wrong with the document.
pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Value, String> {
    let text = charset::text_of(body, named(body, content_type).as_deref()).map_err(|error| error.message)?;
    let mut reader = Reader::from_str(&text);
    let mut open = vec![Open::default()];
    let mut done = false;
    loop {
        let event = reader.read_event().map_err(|error| format!("{error} at byte {}", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                begin(&mut open, &start, done)?;
            }
            Event::Empty(start) => {
                begin(&mut open, &start, done)?;
                done = end(&mut open);
            }
            Event::End(_) => done = end(&mut open),
            Event::Text(text) => add(&mut open, &text.xml10_content().map_err(|error| error.to_string())?)?,
            Event::CData(text) => add(&mut open, &text.xml10_content().map_err(|error| error.to_string())?)?,
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|error| error.to_string())?;
                let one = match entity.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_xml_entity(&name)
                        .ok_or_else(|| format!("the entity {name} is not known"))?
                        .to_owned(),
                };
                add(&mut open, &one)?;
            }
            Event::Eof if done && open.len() == 1 => break,
            Event::Eof => return Err("it ends inside an element, or holds none".into()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    Ok(open.pop().and_then(|root| root.item).map_or(Value::Null, Value::map))
}

/// The encoding that the answer's header or the document names.
fn named(body: &[u8], content_type: Option<&str>) -> Option<String> {
    let after = |text: &str, mark: &str| {
        let (_, rest) = text.split_once(mark)?;
        let rest = rest.trim_start().trim_start_matches(['"', '\'']);
        rest.split(['"', '\'', ';', ' ', '?']).next().map(str::to_owned)
    };
    content_type.and_then(|text| after(&text.to_lowercase(), "charset=")).or_else(|| {
        let head = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        after(head.split_once("<?xml")?.1.split_once("?>")?.0, "encoding=")
    })
}

fn begin(open: &mut Vec<Open>, start: &BytesStart<'_>, done: bool) -> Result<(), String> {
    if done && open.len() == 1 {
        return Err("a second element stands at its root".into());
    }
    if open.len() > MAX_DEPTH {
        return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
    }
    let mut item = None::<Map>;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = format!("@{}", String::from_utf8_lossy(attribute.key.as_ref()));
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        item.get_or_insert_default().insert(name, Value::str(value));
    }
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    open.push(Open { name, item, text: String::new() });
    Ok(())
}

/// Puts the innermost element into the one around it; whether that is the document.
fn end(open: &mut Vec<Open>) -> bool {
    let Some(element) = open.pop() else { return false };
    let text = element.text.trim();
    let value = match element.item {
        Some(mut item) => {
            if !text.is_empty() {
                push(&mut item, "#text".into(), Value::str(text));
            }
            Value::map(item)
        }
        None if text.is_empty() => Value::Null,
        None => Value::str(text),
    };
    if let Some(around) = open.last_mut() {
        push(around.item.get_or_insert_default(), element.name, value);
    }
    open.len() == 1
}

/// What comes again under one name becomes an array.
fn push(item: &mut Map, name: String, value: Value) {
    let held = match item.get_mut(&name) {
        None => {
            item.insert(name, value);
            return;
        }
        Some(held) => held,
    };
    match held {
        Value::List(list) => std::sync::Arc::make_mut(list).push(value),
        _ => *held = Value::list(vec![std::mem::take(held), value]),
    }
}

fn add(open: &mut [Open], text: &str) -> Result<(), String> {
    match open {
        [_] if text.trim().is_empty() => Ok(()),
        [_, .., innermost] => {
            innermost.text.push_str(text);
            Ok(())
        }
        _ => Err("text stands outside of its root".into()),
    }
}
