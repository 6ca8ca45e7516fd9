//! Filters on lists and objects: Jinja's own.

use std::{cmp::Ordering, rc::Rc};

use super::{
    attributes, checks, comparison,
    fault::{Fault, Outcome},
    filters,
    machine::{Arguments, Machine},
    object::{Key, Object},
    operators::{self, Operator},
    show, text_methods,
};

pub const NAMES: [&str; 23] = [
    "batch",
    "count",
    "dictsort",
    "first",
    "groupby",
    "items",
    "join",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "sort",
    "sum",
    "unique",
    "tuple",
];

/// # Errors
/// What Python would raise, and limits.
pub fn apply(machine: &mut Machine<'_>, name: &str, value: Object, args: Arguments) -> Outcome<Object> {
    match name {
        "length" | "count" => {
            let length = value
                .len()
                .ok_or_else(|| Fault::type_error(format!("object of type '{}' has no len()", value.type_name())))?;
            return Ok(Object::Int(length as i128));
        }
        "items" => {
            let Object::Dict(dict) = &value else {
                return if value.is_undefined() {
                    Ok(Object::list(Vec::new()))
                } else {
                    Err(Fault::type_error("Can only get item pairs from a mapping."))
                };
            };
            let pairs = dict.pairs().into_iter().map(|(key, value)| Object::tuple(vec![key, value]));
            return Ok(Object::list(pairs.collect()));
        }
        "reverse" => {
            if let Object::Str(text) = &value {
                return Ok(Object::str(text.chars().rev().collect::<String>()));
            }
            let mut items = value.items()?;
            items.reverse();
            return Ok(Object::list(items));
        }
        "dictsort" => return dictsort(&value, args),
        _ => {}
    }
    // These take anything that counts as false for nothing, even what cannot be looped over.
    let lazy = matches!(name, "map" | "select" | "reject" | "selectattr" | "rejectattr");
    machine.spend(value.len().unwrap_or(0))?;
    let items = if lazy && !value.truthy() { Vec::new() } else { value.items()? };
    match name {
        "list" | "tuple" => Ok(Object::list(items)),
        "first" | "last" => {
            let item = if name == "first" { items.first() } else { items.last() };
            Ok(item.cloned().unwrap_or_else(|| Object::undefined(format!("No {name} item, sequence was empty."))))
        }
        "join" => join(machine, items, args),
        "map" => map(machine, items, args),
        "select" | "reject" | "selectattr" | "rejectattr" => select(name, items, args),
        "sort" => sorted(items, args),
        "unique" => unique(items, args),
        "min" | "max" => extreme(name, items, args),
        "sum" => sum(items, args),
        "groupby" => groupby(items, args),
        "batch" => batch(machine, items, args),
        _ => slices(machine, items, args),
    }
}

/// The attribute of an item by a path such as `a.b.0`.
fn member(item: &Object, path: &Object) -> Outcome<Object> {
    let Object::Str(path) = path else { return attributes::item(item, path) };
    path.split('.').try_fold(item.clone(), |object, part| {
        let index = match part.parse::<i128>() {
            Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Object::Int(index),
            _ => Object::str(part),
        };
        attributes::item(&object, &index)
    })
}

/// Texts compare without case unless asked otherwise.
fn folded(object: Object, case_sensitive: bool) -> Object {
    match &object {
        Object::Str(text) if !case_sensitive => Object::str(text.to_lowercase()),
        _ => object,
    }
}

/// A stable sort whose comparison may fail.
///
/// # Errors
/// The first failure.
pub fn sort<T>(items: &mut [T], mut order: impl FnMut(&T, &T) -> Outcome<Option<Ordering>>) -> Outcome<()> {
    let mut fault = None;
    items.sort_by(|a, b| match order(a, b) {
        Ok(order) if fault.is_none() => order.unwrap_or(Ordering::Equal),
        Ok(_) => Ordering::Equal,
        Err(raised) => {
            fault.get_or_insert(raised);
            Ordering::Equal
        }
    });
    fault.map_or(Ok(()), Err)
}

fn flag(object: Option<&Object>) -> bool {
    object.is_some_and(Object::truthy)
}

/// `attribute` where it is given and not None.
fn given(object: Option<&Object>) -> Option<&Object> {
    object.filter(|object| !matches!(object, Object::None))
}

fn join(machine: &mut Machine<'_>, items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("join", &["d", "attribute"])?;
    let separator = bound[0].as_ref().map(text_methods::soft).unwrap_or_default();
    let mut out = String::new();
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push_str(&separator);
        }
        let item = match given(bound[1].as_ref()) {
            Some(path) => member(&item, path)?,
            None => item,
        };
        machine.spend(1)?;
        show::write_text(&item, &mut out);
        operators::within(out.len())?;
    }
    Ok(Object::str(out))
}

fn map(machine: &mut Machine<'_>, items: Vec<Object>, mut args: Arguments) -> Outcome<Object> {
    let attribute = args.named.iter().find(|(name, _)| &**name == "attribute").map(|(_, value)| value.clone());
    let mut mapped = Vec::with_capacity(items.len());
    if let (true, Some(path)) = (args.positional.is_empty(), attribute) {
        let default = args.named.iter().find(|(name, _)| &**name == "default").map(|(_, value)| value);
        for item in items {
            let found = member(&item, &path)?;
            mapped.push(if found.is_undefined() { default.cloned().unwrap_or(found) } else { found });
        }
        return Ok(Object::list(mapped));
    }
    if args.positional.is_empty() {
        return Err(Fault::other("map requires a filter argument"));
    }
    let name = show::text(&args.positional.remove(0));
    if !filters::is_known(&name) {
        return Err(Fault::other(format!("there is no filter `{name}`")));
    }
    for item in items {
        mapped.push(filters::apply(machine, &name, item, args.clone())?);
    }
    Ok(Object::list(mapped))
}

fn select(name: &str, items: Vec<Object>, mut args: Arguments) -> Outcome<Object> {
    let path = if name.ends_with("attr") {
        if args.positional.is_empty() {
            return Err(Fault::other("Missing parameter for attribute name"));
        }
        Some(args.positional.remove(0))
    } else {
        None
    };
    let test = if args.positional.is_empty() { None } else { Some(show::text(&args.positional.remove(0))) };
    if let Some(unknown) = test.as_ref().filter(|test| !checks::is_known(test)) {
        return Err(Fault::other(format!("there is no test `{unknown}`")));
    }
    let wanted = name.starts_with("select");
    let mut kept = Vec::new();
    for item in items {
        let subject = match &path {
            Some(path) => member(&item, path)?,
            None => item.clone(),
        };
        let passes = match &test {
            Some(test) => checks::apply(test, &subject, args.clone())?,
            None => subject.truthy(),
        };
        if passes == wanted {
            kept.push(item);
        }
    }
    Ok(Object::list(kept))
}

fn sorted(items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("sort", &["reverse", "case_sensitive", "attribute"])?;
    let case_sensitive = flag(bound[1].as_ref());
    let paths: Vec<Object> = match given(bound[2].as_ref()) {
        Some(Object::Str(paths)) => paths.split(',').map(Object::str).collect(),
        Some(path) => vec![path.clone()],
        None => Vec::new(),
    };
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let key = if paths.is_empty() {
            folded(item.clone(), case_sensitive)
        } else {
            let parts = paths.iter().map(|path| Ok(folded(member(&item, path)?, case_sensitive)));
            let parts = parts.collect::<Outcome<Vec<Object>>>()?;
            Object::tuple(parts)
        };
        keyed.push((key, item));
    }
    let reverse = flag(bound[0].as_ref());
    sort(&mut keyed, |a, b| {
        let order = comparison::order(&a.0, &b.0)?;
        Ok(if reverse { order.map(Ordering::reverse) } else { order })
    })?;
    Ok(Object::list(keyed.into_iter().map(|(_, item)| item).collect()))
}

fn unique(items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("unique", &["case_sensitive", "attribute"])?;
    let case_sensitive = flag(bound[0].as_ref());
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for item in items {
        let value = match given(bound[1].as_ref()) {
            Some(path) => member(&item, path)?,
            None => item.clone(),
        };
        if seen.insert(Key::new(folded(value, case_sensitive))?) {
            kept.push(item);
        }
    }
    Ok(Object::list(kept))
}

fn extreme(name: &str, items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind(name, &["case_sensitive", "attribute"])?;
    let case_sensitive = flag(bound[0].as_ref());
    let wanted = if name == "max" { Ordering::Greater } else { Ordering::Less };
    let mut best: Option<(Object, Object)> = None;
    for item in items {
        let value = match given(bound[1].as_ref()) {
            Some(path) => member(&item, path)?,
            None => item.clone(),
        };
        let key = folded(value, case_sensitive);
        let better = match &best {
            Some((held, _)) => comparison::order(&key, held)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Object::undefined("No aggregated item, sequence was empty."), |(_, item)| item))
}

fn sum(items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("sum", &["attribute", "start"])?;
    let start = bound[1].clone().unwrap_or(Object::Int(0));
    items.into_iter().try_fold(start, |sum, item| {
        let item = match given(bound[0].as_ref()) {
            Some(path) => member(&item, path)?,
            None => item,
        };
        operators::apply(Operator::Add, &sum, &item)
    })
}

/// Pairs of a value and the items that have it, in the order of the values.
fn groupby(items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("groupby", &["attribute", "default", "case_sensitive"])?;
    let path = bound[0].clone().ok_or_else(|| Fault::type_error("groupby needs an attribute"))?;
    let case_sensitive = flag(bound[2].as_ref());
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let value = member(&item, &path)?;
        let value = if value.is_undefined() { bound[1].clone().unwrap_or(value) } else { value };
        keyed.push((folded(value.clone(), case_sensitive), value, item));
    }
    sort(&mut keyed, |a, b| comparison::order(&a.0, &b.0))?;
    let mut groups: Vec<(Object, Object, Vec<Object>)> = Vec::new();
    for (key, value, item) in keyed {
        match groups.last_mut().filter(|(held, ..)| comparison::equal(held, &key)) {
            Some((_, _, group)) => group.push(item),
            None => groups.push((key, value, vec![item])),
        }
    }
    let pairs = groups.into_iter().map(|(_, value, group)| Object::tuple(vec![value, Object::list(group)]));
    Ok(Object::list(pairs.collect()))
}

fn dictsort(value: &Object, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("dictsort", &["case_sensitive", "by", "reverse"])?;
    let Object::Dict(dict) = value else {
        return Err(match value {
            Object::Undefined(what) => Object::missing(what),
            other => Fault::other(format!("'{}' object has no attribute 'items'", other.type_name())),
        });
    };
    let by = bound[1].as_ref().map_or_else(|| "key".into(), show::text);
    if !matches!(&*by, "key" | "value") {
        return Err(Fault::other("You can only sort by either \"key\" or \"value\""));
    }
    let case_sensitive = flag(bound[0].as_ref());
    let reverse = flag(bound[2].as_ref());
    let mut pairs = dict.pairs();
    sort(&mut pairs, |a, b| {
        let of =
            |pair: &(Object, Object)| folded(if by == "key" { pair.0.clone() } else { pair.1.clone() }, case_sensitive);
        let order = comparison::order(&of(a), &of(b))?;
        Ok(if reverse { order.map(Ordering::reverse) } else { order })
    })?;
    Ok(Object::list(pairs.into_iter().map(|(key, value)| Object::tuple(vec![key, value])).collect()))
}

fn batch(machine: &mut Machine<'_>, items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("batch", &["linecount", "fill_with"])?;
    let size = text_methods::width_of(bound[0].as_ref().unwrap_or(&Object::None))?.max(1);
    machine.spend(size)?;
    let fill = given(bound[1].as_ref());
    let rows = items.chunks(size).map(|chunk| {
        let mut row = chunk.to_vec();
        if let Some(fill) = fill {
            row.resize(size, fill.clone());
        }
        Object::list(row)
    });
    Ok(Object::list(rows.collect()))
}

/// So many lists of nearly one length.
fn slices(machine: &mut Machine<'_>, items: Vec<Object>, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("slice", &["slices", "fill_with"])?;
    let count = text_methods::width_of(bound[0].as_ref().unwrap_or(&Object::None))?.max(1);
    machine.spend(count)?;
    let (each, longer) = (items.len() / count, items.len() % count);
    let mut rows = Vec::new();
    let mut rest: Rc<[Object]> = items.into();
    for at in 0..count {
        let take = (each + usize::from(at < longer)).min(rest.len());
        let mut row = rest[..take].to_vec();
        rest = rest[take..].into();
        if let Some(fill) = given(bound[1].as_ref()).filter(|_| longer != 0 && at >= longer) {
            row.push(fill.clone());
        }
        rows.push(Object::list(row));
    }
    Ok(Object::list(rows))
}
