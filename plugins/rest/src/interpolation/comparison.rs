//! Python's `==`, `<` and `in`.

use std::cmp::Ordering;

use super::{
    containers::deeper_in_both,
    fault::{Fault, Outcome},
    object::{Key, Object},
};

/// `==`: never fails; what cannot be compared is unequal.
pub fn equal(a: &Object, b: &Object) -> bool {
    match (a, b) {
        (Object::Undefined(_), Object::Undefined(_)) | (Object::None, Object::None) => true,
        (Object::Str(a), Object::Str(b)) => a == b,
        (Object::Bytes(a), Object::Bytes(b)) => a == b,
        (Object::Big(a), Object::Big(b)) => a == b,
        (Object::Big(_), Object::Int(_)) | (Object::Int(_), Object::Big(_)) => false,
        (Object::List(a), Object::List(b)) => a.same(b) || all_equal(&a.to_vec(), &b.to_vec()),
        (Object::Tuple(a), Object::Tuple(b)) => all_equal(a, b),
        (Object::Set(a), Object::Set(b)) => a.len() == b.len() && a.iter().all(|item| b.iter().any(|b| equal(item, b))),
        (Object::Dict(a), Object::Dict(b)) => {
            a.same(b)
                || a.len() == b.len()
                    && a.pairs().into_iter().all(|(key, value)| {
                        let other = Key::new(key).ok().and_then(|key| b.get(&key));
                        other.is_some_and(|other| deeper_in_both(|| equal(&value, &other)).unwrap_or(false))
                    })
        }
        (Object::Moment(a), Object::Moment(b)) => a == b && a.offset_s().is_some() == b.offset_s().is_some(),
        (Object::Date(a), Object::Date(b)) => a == b,
        (Object::Delta(a), Object::Delta(b)) => a == b,
        (Object::Period(a), Object::Period(b)) => a == b,
        (Object::Function(a), Object::Function(b)) => a == b,
        _ => numbers(a, b) == Some(Ordering::Equal),
    }
}

fn all_equal(a: &[Object], b: &[Object]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| deeper_in_both(|| equal(a, b)).unwrap_or(false))
}

/// `None` where one is no number or NaN.
fn numbers(a: &Object, b: &Object) -> Option<Ordering> {
    let whole = |object: &Object| match object {
        Object::Int(int) => Some(*int),
        Object::Bool(bool) => Some(i128::from(*bool)),
        _ => None,
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_float()?.partial_cmp(&b.as_float()?),
    }
}

/// `<` and its like; `None` where NaN is compared.
///
/// # Errors
/// A type error for what has no order.
pub fn order(a: &Object, b: &Object) -> Outcome<Option<Ordering>> {
    Ok(match (a, b) {
        (Object::Undefined(name), _) | (_, Object::Undefined(name)) => return Err(Object::missing(name)),
        (Object::Str(a), Object::Str(b)) => Some(a.cmp(b)),
        (Object::Bytes(a), Object::Bytes(b)) => Some(a.cmp(b)),
        (Object::List(a), Object::List(b)) => order_items(&a.to_vec(), &b.to_vec())?,
        (Object::Tuple(a), Object::Tuple(b)) => order_items(a, b)?,
        (Object::Moment(a), Object::Moment(b)) if a.offset_s().is_some() == b.offset_s().is_some() => Some(a.cmp(b)),
        (Object::Moment(_), Object::Moment(_)) => {
            return Err(Fault::type_error("can't compare offset-naive and offset-aware datetimes"));
        }
        (Object::Date(a), Object::Date(b)) => Some(a.days().cmp(&b.days())),
        (Object::Delta(a), Object::Delta(b)) => Some(a.cmp(b)),
        _ if a.as_float().is_some() && b.as_float().is_some() => numbers(a, b),
        _ => {
            return Err(Fault::type_error(format!(
                "'<' not supported between instances of '{}' and '{}'",
                a.type_name(),
                b.type_name()
            )));
        }
    })
}

fn order_items(a: &[Object], b: &[Object]) -> Outcome<Option<Ordering>> {
    for (a, b) in a.iter().zip(b) {
        if !equal(a, b) {
            return deeper_in_both(|| order(a, b))
                .ok_or_else(|| Fault::other("values are nested too deeply to compare"))?;
        }
    }
    Ok(Some(a.len().cmp(&b.len())))
}

/// `item in container`.
///
/// # Errors
/// A type error for what holds nothing.
pub fn contains(container: &Object, item: &Object) -> Outcome<bool> {
    match container {
        Object::Str(text) => match item {
            Object::Str(part) => Ok(text.contains(&**part)),
            _ => Err(Fault::type_error(format!(
                "'in <string>' requires string as left operand, not {}",
                item.type_name()
            ))),
        },
        Object::Dict(dict) => Ok(dict.get(&Key::new(item.clone())?).is_some()),
        _ => Ok(container.items()?.iter().any(|held| equal(held, item))),
    }
}
