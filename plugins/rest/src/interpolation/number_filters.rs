//! Filters that make or change numbers.

use super::{
    fault::{Fault, Outcome},
    literal,
    machine::Arguments,
    object::Object,
    operators,
};

pub const NAMES: [&str; 4] = ["abs", "float", "int", "round"];

/// # Errors
/// What Python would raise.
pub fn apply(name: &str, value: &Object, args: Arguments) -> Outcome<Object> {
    match name {
        "int" => int(value, args),
        "float" => {
            let mut bound = args.bind(name, &["default"])?;
            let default = bound.pop().flatten().unwrap_or(Object::Float(0.0));
            Ok(to_float(value)?.map_or(default, Object::Float))
        }
        "abs" => match value {
            Object::Int(int) if *int < 0 => operators::negate(value),
            Object::Int(_) => Ok(value.clone()),
            Object::Float(float) => Ok(Object::Float(float.abs())),
            Object::Bool(bool) => Ok(Object::Int(i128::from(*bool))),
            Object::Delta(us) => Ok(Object::Delta(us.saturating_abs())),
            other => Err(other.unfit("bad operand type for abs()")),
        },
        _ => round(value, args),
    }
}

fn int(value: &Object, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("int", &["default", "base"])?;
    let default = bound[0].clone().unwrap_or(Object::Int(0));
    let base = match &bound[1] {
        Some(base) => u32::try_from(base.need_int("a base has to be an integer")?).unwrap_or(10),
        None => 10,
    };
    Ok(match value {
        Object::Undefined(what) => return Err(Object::missing(what)),
        Object::Int(_) | Object::Big(_) => value.clone(),
        Object::Bool(bool) => Object::Int(i128::from(*bool)),
        Object::Str(text) => match literal::int_of(text, base) {
            Some(int) => int,
            None => to_float(value)?.and_then(truncated).unwrap_or(default),
        },
        other => to_float(other)?.and_then(truncated).unwrap_or(default),
    })
}

fn truncated(float: f64) -> Option<Object> {
    (float.is_finite() && float.abs() < 1e38).then(|| Object::Int(float as i128))
}

/// Python's `float()`; `None` where it refuses.
fn to_float(value: &Object) -> Outcome<Option<f64>> {
    Ok(match value {
        Object::Undefined(what) => return Err(Object::missing(what)),
        Object::Str(text) => literal::float_of(text),
        other => other.as_float(),
    })
}

fn round(value: &Object, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("round", &["precision", "method"])?;
    let precision = match &bound[0] {
        Some(precision) => precision.need_int("'precision' has to be an integer")?.clamp(-300, 300) as i32,
        None => 0,
    };
    let method = match &bound[1] {
        Some(method) => method.need_text("method must be common, ceil or floor")?,
        None => "common".into(),
    };
    let float = match value {
        Object::Undefined(_) => return Err(Fault::type_error("type Undefined doesn't define __round__ method")),
        other => other.as_float().ok_or_else(|| other.unfit("a number is needed to round"))?,
    };
    let scale = 10_f64.powi(precision);
    Ok(match &*method {
        "common" => match value {
            Object::Int(_) | Object::Bool(_) if precision >= 0 => {
                operators::apply(operators::Operator::Add, value, &Object::Int(0))?
            }
            _ => Object::Float(nearest(float, precision)),
        },
        "ceil" => Object::Float((float * scale).ceil() / scale),
        "floor" => Object::Float((float * scale).floor() / scale),
        _ => return Err(Fault::other("method must be common, ceil or floor")),
    })
}

/// Half goes to the even digit, as the exact decimal value has it.
pub fn nearest(float: f64, precision: i32) -> f64 {
    if precision < 0 {
        let scale = 10_f64.powi(-precision);
        return (float / scale).round_ties_even() * scale;
    }
    let digits = usize::try_from(precision).unwrap_or(0);
    format!("{float:.digits$}").parse().unwrap_or(float)
}
