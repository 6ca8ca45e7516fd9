//! Methods of Python's `list` and `dict`.

use std::rc::Rc;

use indexmap::IndexMap;

use super::{
    comparison,
    containers::{Dict, List},
    fault::{Fault, Outcome},
    machine::{Arguments, Machine},
    object::{Key, Object},
    operators::within_items,
};

pub const LIST_NAMES: [&str; 11] =
    ["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
pub const DICT_NAMES: [&str; 10] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "setdefault", "update", "values"];

/// # Errors
/// What Python would raise.
pub fn call_list(machine: &mut Machine<'_>, list: &List, name: &str, args: Arguments) -> Outcome<Object> {
    machine.spend(1)?;
    match name {
        "append" => {
            let [item] = args.exactly(name, ["item"])?;
            within_items(list.len() + 1)?;
            list.change(|items| items.push(item));
        }
        "extend" => {
            let [more] = args.exactly(name, ["iterable"])?;
            let more = more.items()?;
            machine.spend(more.len())?;
            within_items(list.len() + more.len())?;
            list.change(|items| items.extend(more));
        }
        "insert" => {
            let [at, item] = args.exactly(name, ["index", "item"])?;
            let at = place(&at, list.len())?;
            list.change(|items| items.insert(at.min(items.len()), item));
        }
        "pop" => return pop(list, args),
        "remove" => {
            let [item] = args.exactly(name, ["item"])?;
            let at = list.to_vec().iter().position(|held| comparison::equal(held, &item));
            let at = at.ok_or_else(|| Fault::other("list.remove(x): x not in list"))?;
            list.change(|items| items.remove(at));
        }
        "index" => {
            let [item] = args.exactly(name, ["item"])?;
            let at = list.to_vec().iter().position(|held| comparison::equal(held, &item));
            return at.map(|at| Object::Int(at as i128)).ok_or_else(|| Fault::other("the item is not in the list"));
        }
        "count" => {
            let [item] = args.exactly(name, ["item"])?;
            let count = list.to_vec().iter().filter(|held| comparison::equal(held, &item)).count();
            return Ok(Object::Int(count as i128));
        }
        "copy" => return Ok(Object::list(list.to_vec())),
        "clear" => list.change(Vec::clear),
        "reverse" => list.change(|items| items.reverse()),
        "sort" => {
            let bound = args.bind(name, &["reverse"])?;
            let mut items = list.to_vec();
            super::sequence_filters::sort(&mut items, comparison::order)?;
            if bound[0].as_ref().is_some_and(Object::truthy) {
                items.reverse();
            }
            list.change(|held| *held = items);
        }
        _ => return Err(Fault::other(format!("the method `{name}` of lists is not supported"))),
    }
    Ok(Object::None)
}

fn place(index: &Object, length: usize) -> Outcome<usize> {
    let index = index.need_int("an index has to be an integer")?;
    let at = if index < 0 { index + length as i128 } else { index };
    Ok(usize::try_from(at.max(0)).unwrap_or(usize::MAX))
}

fn pop(list: &List, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("pop", &["index"])?;
    let length = list.len();
    let at = match &bound[0] {
        Some(index) => place(index, length)?,
        None => length.wrapping_sub(1),
    };
    if at >= length {
        return Err(Fault::other("pop index out of range"));
    }
    Ok(list.change(|items| items.remove(at)))
}

/// # Errors
/// What Python would raise.
pub fn call_dict(dict: &Dict, name: &str, args: Arguments) -> Outcome<Object> {
    let pair = |(key, value): (Object, Object)| Object::tuple(vec![key, value]);
    match name {
        "get" | "setdefault" | "pop" => return member(dict, name, args),
        "update" => update(dict, args)?,
        "clear" => dict.change(IndexMap::clear),
        "items" => return Ok(Object::list(dict.pairs().into_iter().map(pair).collect())),
        "keys" => return Ok(Object::list(dict.keys())),
        "values" => return Ok(Object::list(dict.values())),
        "copy" => {
            let copy = dict.change(|map| map.clone());
            return Ok(Object::Dict(Dict::own(copy)));
        }
        _ => return Err(Fault::other(format!("the method `{name}` of objects is not supported"))),
    }
    Ok(Object::None)
}

fn member(dict: &Dict, name: &str, args: Arguments) -> Outcome<Object> {
    // Python takes these by position only.
    let mut bound = args.bind(name, &["key", "default"])?;
    let default = bound.pop().flatten();
    let key = bound.pop().flatten().ok_or_else(|| Fault::type_error(format!("{name} needs a key")))?;
    let key = Key::new(key)?;
    let found = dict.get(&key);
    match name {
        "get" => Ok(found.or(default).unwrap_or(Object::None)),
        "setdefault" => Ok(found.unwrap_or_else(|| {
            let value = default.unwrap_or(Object::None);
            dict.change(|map| map.insert(key, value.clone()));
            value
        })),
        _ => {
            dict.change(|map| map.shift_remove(&key));
            found.or(default).ok_or_else(|| Fault::other(format!("KeyError: {}", super::show::repr(key.object()))))
        }
    }
}

fn update(dict: &Dict, mut args: Arguments) -> Outcome<()> {
    let named = std::mem::take(&mut args.named);
    let bound = args.bind("update", &["other"])?;
    let mut members = Vec::new();
    match &bound[0] {
        None => {}
        Some(Object::Dict(other)) => members.extend(other.pairs()),
        Some(pairs) => {
            for pair in pairs.items()? {
                let [key, value]: [Object; 2] = pair
                    .items()?
                    .try_into()
                    .map_err(|_| Fault::other("dictionary update sequence elements need a length of 2"))?;
                members.push((key, value));
            }
        }
    }
    members.extend(named.into_iter().map(|(name, value): (Rc<str>, Object)| (Object::str(&*name), value)));
    within_items(dict.len() + members.len())?;
    for (key, value) in members {
        let key = Key::new(key)?;
        dict.change(|map| map.insert(key, value));
    }
    Ok(())
}
