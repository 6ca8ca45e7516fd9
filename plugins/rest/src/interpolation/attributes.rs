//! What `a.b`, `a[b]` and `a[b:c]` find, and which methods there are.

use std::rc::Rc;

use super::{
    container_methods,
    containers::{Dict, View},
    fault::{Fault, Outcome},
    machine::{Arguments, Machine},
    moment_methods,
    object::{Key, Object},
    text_methods,
};

/// `object.name`: Python's attributes come before an object's members.
///
/// # Errors
/// Where the object itself is not there.
pub fn attribute(object: &Object, name: &Rc<str>) -> Outcome<Object> {
    if let Object::Undefined(what) = object {
        return Err(Object::missing(what));
    }
    if has_method(object, name) {
        return Ok(Object::Method(Rc::new((object.clone(), Rc::clone(name)))));
    }
    let found = match object {
        Object::Dict(dict) => dict.get_text(name).or_else(|| slice_part(dict, name)),
        Object::Moment(_) | Object::Date(_) | Object::Delta(_) | Object::Period(_) => {
            moment_methods::member(object, name)
        }
        Object::Loop(state) => state.member(name),
        Object::Namespace(namespace) => namespace.get(name),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| Object::undefined(format!("'{} object' has no attribute '{name}'", object.type_name()))))
}

fn has_method(object: &Object, name: &str) -> bool {
    match object {
        Object::Str(_) | Object::Bytes(_) => text_methods::NAMES.contains(&name),
        Object::List(_) => container_methods::LIST_NAMES.contains(&name),
        Object::Tuple(_) => matches!(name, "count" | "index"),
        Object::Dict(_) => container_methods::DICT_NAMES.contains(&name),
        Object::Moment(_) | Object::Date(_) | Object::Delta(_) | Object::Period(_) => {
            moment_methods::has_method(object, name)
        }
        Object::Loop(_) => matches!(name, "cycle" | "changed"),
        Object::Int(_) | Object::Bool(_) => name == "bit_length",
        Object::Float(_) => name == "is_integer",
        _ => false,
    }
}

/// A slice's parts are attributes of it; all its members are in one object here.
fn slice_part(dict: &Dict, name: &str) -> Option<Object> {
    if dict.view != View::Slice {
        return None;
    }
    match name {
        "partition" | "_partition" | "cursor_slice" => Some(Object::Dict(dict.clone())),
        "extra_fields" => Some(Object::Dict(Dict::own(indexmap::IndexMap::new()))),
        _ => None,
    }
}

/// `object[index]`: members come before attributes.
///
/// # Errors
/// Where the object itself is not there.
pub fn item(object: &Object, index: &Object) -> Outcome<Object> {
    let found = match object {
        Object::Undefined(what) => return Err(Object::missing(what)),
        Object::Dict(dict) => Key::new(index.clone()).ok().and_then(|key| dict.get(&key)),
        Object::List(list) => position(index, list.len()).and_then(|at| list.get(at)),
        Object::Tuple(items) => position(index, items.len()).map(|at| items[at].clone()),
        Object::Str(text) => {
            let length = if text.is_ascii() { text.len() } else { text.chars().count() };
            position(index, length).and_then(|at| text.chars().nth(at)).map(|c| Object::str(c.encode_utf8(&mut [0; 4])))
        }
        Object::Bytes(bytes) => position(index, bytes.len()).map(|at| Object::Int(i128::from(bytes[at]))),
        _ => None,
    };
    match (found, index) {
        (Some(found), _) => Ok(found),
        (None, Object::Str(name)) => attribute(object, &Rc::from(&**name)),
        (None, _) => Ok(Object::undefined(format!(
            "'{} object' has no element {}",
            object.type_name(),
            super::show::repr(index)
        ))),
    }
}

/// An index, from the end where it is negative.
fn position(index: &Object, length: usize) -> Option<usize> {
    let index = index.need_int("").ok()?;
    let at = if index < 0 { index.checked_add(length as i128)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// `object[from:to:step]`.
///
/// # Errors
/// A type error for what cannot be sliced; a step of nothing.
pub fn slice(object: &Object, bounds: [Option<i128>; 3]) -> Outcome<Object> {
    if bounds[2] == Some(0) {
        return Err(Fault::other("slice step cannot be zero"));
    }
    Ok(match object {
        Object::Undefined(what) => return Err(Object::missing(what)),
        Object::Str(text) => {
            let chars: Vec<char> = text.chars().collect();
            Object::str(chosen(chars.len(), bounds).map(|at| chars[at]).collect::<String>())
        }
        Object::Bytes(bytes) => Object::Bytes(chosen(bytes.len(), bounds).map(|at| bytes[at]).collect()),
        Object::List(list) => {
            let items = list.to_vec();
            Object::list(chosen(items.len(), bounds).map(|at| items[at].clone()).collect())
        }
        Object::Tuple(items) => Object::tuple(chosen(items.len(), bounds).map(|at| items[at].clone()).collect()),
        other => return Err(other.unfit("the object is not subscriptable")),
    })
}

/// The places a slice takes, in order.
fn chosen(length: usize, [from, to, step]: [Option<i128>; 3]) -> impl Iterator<Item = usize> {
    let length = i128::try_from(length).expect("a length fits");
    let step = step.unwrap_or(1);
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => bound.saturating_add(length).max(lowest),
        Some(bound) => bound.min(highest),
    };
    let from = clamp(from, if step > 0 { lowest } else { highest });
    let to = clamp(to, if step > 0 { highest } else { lowest });
    let inside = move |at: &i128| if step > 0 { *at < to } else { *at > to };
    std::iter::successors(Some(from), move |at| at.checked_add(step))
        .take_while(inside)
        .map(|at| usize::try_from(at).expect("clamped to the length"))
}

/// Calls a method.
///
/// # Errors
/// What Python would raise.
pub fn call(machine: &mut Machine<'_>, object: &Object, name: &str, args: Arguments) -> Outcome<Object> {
    machine.spend(1 + object.len().unwrap_or(0) / 64)?;
    match object {
        Object::Str(text) => text_methods::call(text, name, args),
        Object::Bytes(bytes) => text_methods::call_bytes(bytes, name, args),
        Object::List(list) => container_methods::call_list(machine, list, name, args),
        Object::Tuple(items) => {
            let list = super::containers::List::own(items.to_vec());
            container_methods::call_list(machine, &list, name, args)
        }
        Object::Dict(dict) => container_methods::call_dict(dict, name, args),
        Object::Loop(state) => state.call(name, args),
        Object::Float(float) => Ok(Object::Bool(float.fract() == 0.0)),
        Object::Int(int) => Ok(Object::Int(i128::from(128 - int.unsigned_abs().leading_zeros()))),
        Object::Bool(bool) => Ok(Object::Int(i128::from(*bool))),
        other => moment_methods::call(machine, other, name, args),
    }
}
