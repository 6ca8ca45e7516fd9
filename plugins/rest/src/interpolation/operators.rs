//! Python's arithmetic on numbers, texts, lists, moments and durations.

use crate::{
    datetime::{Civil, DateTime, Duration, US_PER_DAY},
    limits,
};

use super::{
    fault::{Fault, Outcome},
    formatting,
    object::Object,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::FloorDivide => "//",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }
}

/// # Errors
/// What Python would raise, and results beyond the limits.
pub fn apply(operator: Operator, a: &Object, b: &Object) -> Outcome<Object> {
    // A text to the left of `%` takes whatever is there.
    if let (Operator::Modulo, Object::Str(format)) = (operator, a) {
        return formatting::printf(format, b).map(Object::str);
    }
    if let Object::Undefined(name) = a {
        return Err(Object::missing(name));
    }
    if let Object::Undefined(name) = b {
        return Err(Object::missing(name));
    }
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return integers(operator, a, b);
    }
    if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
        return floats(operator, a, b);
    }
    let result = match operator {
        Operator::Add => add(a, b)?,
        Operator::Subtract => subtract(a, b)?,
        Operator::Multiply => multiply(a, b)?,
        Operator::Divide | Operator::FloorDivide | Operator::Modulo => divide_time(operator, a, b)?,
        Operator::Power => None,
    };
    result.ok_or_else(|| {
        Fault::type_error(format!(
            "unsupported operand type(s) for {}: '{}' and '{}'",
            operator.sign(),
            a.type_name(),
            b.type_name()
        ))
    })
}

fn whole(object: &Object) -> Option<i128> {
    match object {
        Object::Int(int) => Some(*int),
        Object::Bool(bool) => Some(i128::from(*bool)),
        _ => None,
    }
}

fn too_large() -> Fault {
    Fault::other("a number becomes too large")
}

fn integers(operator: Operator, a: i128, b: i128) -> Outcome<Object> {
    let by_zero = || Fault::other("division by zero");
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide if b == 0 => return Err(by_zero()),
        Operator::Divide => return Ok(Object::Float(a as f64 / b as f64)),
        Operator::FloorDivide | Operator::Modulo if b == 0 => return Err(by_zero()),
        Operator::FloorDivide => {
            a.checked_div(b).map(|quotient| if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
        }
        Operator::Modulo => {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        Operator::Power if b < 0 && a == 0 => return Err(by_zero()),
        Operator::Power if b < 0 => return Ok(Object::Float((a as f64).powf(b as f64))),
        Operator::Power => match u32::try_from(b) {
            Ok(exponent) => a.checked_pow(exponent),
            Err(_) => None,
        },
    };
    result.map(Object::Int).ok_or_else(too_large)
}

fn floats(operator: Operator, a: f64, b: f64) -> Outcome<Object> {
    if b == 0.0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo) {
        return Err(Fault::other("float division by zero"));
    }
    Ok(Object::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => {
            let quotient = (a - modulo(a, b)) / b;
            if quotient - quotient.floor() > 0.5 { quotient.floor() + 1.0 } else { quotient.floor() }
        }
        Operator::Modulo => modulo(a, b),
        Operator::Power => {
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(too_large());
            }
            power
        }
    }))
}

/// The rest with the divisor's sign.
fn modulo(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

fn add(a: &Object, b: &Object) -> Outcome<Option<Object>> {
    Ok(Some(match (a, b) {
        (Object::Str(a), Object::Str(b)) => {
            within(a.len() + b.len())?;
            Object::str(format!("{a}{b}"))
        }
        (Object::Bytes(a), Object::Bytes(b)) => {
            within(a.len() + b.len())?;
            Object::Bytes([&**a, &**b].concat().into())
        }
        (Object::List(a), Object::List(b)) => {
            within_items(a.len() + b.len())?;
            Object::list([a.to_vec(), b.to_vec()].concat())
        }
        (Object::Tuple(a), Object::Tuple(b)) => {
            within_items(a.len() + b.len())?;
            Object::tuple([a.as_slice(), b.as_slice()].concat())
        }
        (Object::Delta(a), Object::Delta(b)) => Object::Delta(a.checked_add(*b).ok_or_else(too_large)?),
        (Object::Delta(us), Object::Period(period)) | (Object::Period(period), Object::Delta(us)) => {
            Object::Period(period.checked_add(&Duration::from_us(*us)).ok_or_else(too_large)?)
        }
        (Object::Period(a), Object::Period(b)) => Object::Period(a.checked_add(b).ok_or_else(too_large)?),
        _ => {
            let (at, duration) = match (time_of(b), time_of(a)) {
                (Some(duration), _) => (a, duration),
                (None, Some(duration)) => (b, duration),
                _ => return Ok(None),
            };
            return moved(at, &duration);
        }
    }))
}

fn time_of(object: &Object) -> Option<Duration> {
    match object {
        Object::Delta(us) => Some(Duration::from_us(*us)),
        Object::Period(duration) => Some(*duration),
        _ => None,
    }
}

fn moved(at: &Object, by: &Duration) -> Outcome<Option<Object>> {
    Ok(match at {
        Object::Moment(at) => Some(Object::Moment(at.plus(by)?)),
        Object::Date(date) => {
            // A date moves by whole days, rounded down.
            let days = by.us.div_euclid(US_PER_DAY).saturating_mul(US_PER_DAY);
            let at = DateTime::from_civil(date, None).ok_or_else(too_large)?;
            let at = at.plus(&Duration { months: by.months, us: days })?;
            Some(Object::Date(at.civil()))
        }
        _ => None,
    })
}

fn subtract(a: &Object, b: &Object) -> Outcome<Option<Object>> {
    let negated = |duration: Duration| duration.checked_neg().ok_or_else(too_large);
    Ok(match (a, b) {
        (Object::Moment(a), Object::Moment(b)) if a.offset_s().is_some() == b.offset_s().is_some() => {
            Some(Object::Delta(a.us() - b.us()))
        }
        (Object::Moment(_), Object::Moment(_)) => {
            return Err(Fault::type_error("can't subtract offset-naive and offset-aware datetimes"));
        }
        (Object::Date(a), Object::Date(b)) => Some(Object::Delta((a.days() - b.days()) * US_PER_DAY)),
        (Object::Delta(a), Object::Delta(b)) => Some(Object::Delta(a.checked_sub(*b).ok_or_else(too_large)?)),
        (Object::Delta(_) | Object::Period(_), Object::Delta(_) | Object::Period(_)) => {
            let (Some(a), Some(b)) = (time_of(a), time_of(b)) else { return Ok(None) };
            Some(Object::Period(a.checked_add(&negated(b)?).ok_or_else(too_large)?))
        }
        // Of a date whole days are taken, and rounded down before, not after.
        (Object::Date(_), Object::Delta(us)) => {
            moved(a, &Duration::from_us(us.div_euclid(US_PER_DAY).saturating_neg().saturating_mul(US_PER_DAY)))?
        }
        (Object::Date(_), Object::Period(period)) => {
            let days = period.us.div_euclid(US_PER_DAY).saturating_mul(US_PER_DAY);
            moved(a, &negated(Duration { months: period.months, us: days })?)?
        }
        (Object::Moment(_), _) => match time_of(b) {
            Some(duration) => moved(a, &negated(duration)?)?,
            None => None,
        },
        _ => None,
    })
}

fn multiply(a: &Object, b: &Object) -> Outcome<Option<Object>> {
    let (many, times) = if whole(a).is_some() || matches!(a, Object::Float(_)) { (b, a) } else { (a, b) };
    if let (Object::Delta(us), Object::Float(times)) = (many, times) {
        return Ok(Some(Object::Delta((*us as f64 * times).round_ties_even() as i64)));
    }
    let Some(times) = whole(times) else { return Ok(None) };
    if let Some(duration) = time_of(many) {
        let times = i64::try_from(times).map_err(|_| too_large())?;
        let product = duration.checked_mul(times).ok_or_else(too_large)?;
        return Ok(Some(if product.months == 0 { Object::Delta(product.us) } else { Object::Period(product) }));
    }
    let times = usize::try_from(times.max(0)).map_err(|_| too_large())?;
    Ok(Some(match many {
        Object::Str(text) => {
            within(text.len().saturating_mul(times))?;
            Object::str(text.repeat(times))
        }
        Object::List(list) => {
            within_items(list.len().saturating_mul(times))?;
            Object::list(repeated(&list.to_vec(), times))
        }
        Object::Tuple(items) => {
            within_items(items.len().saturating_mul(times))?;
            Object::tuple(repeated(items, times))
        }
        _ => return Ok(None),
    }))
}

fn repeated(items: &[Object], times: usize) -> Vec<Object> {
    let length = items.len() * times;
    items.iter().cycle().take(length).cloned().collect()
}

fn divide_time(operator: Operator, a: &Object, b: &Object) -> Outcome<Option<Object>> {
    let Object::Delta(us) = a else { return Ok(None) };
    let by_zero = || Fault::other("division by zero");
    Ok(match (operator, b) {
        (_, Object::Delta(0) | Object::Int(0)) => return Err(by_zero()),
        (Operator::Divide, Object::Delta(by)) => Some(Object::Float(*us as f64 / *by as f64)),
        (Operator::FloorDivide, Object::Delta(by)) => Some(integers(operator, i128::from(*us), i128::from(*by))?),
        (Operator::Modulo, Object::Delta(by)) => match integers(operator, i128::from(*us), i128::from(*by))? {
            Object::Int(rest) => Some(Object::Delta(rest as i64)),
            _ => None,
        },
        (Operator::FloorDivide, Object::Int(by)) => match integers(operator, i128::from(*us), *by)? {
            Object::Int(part) => Some(Object::Delta(part as i64)),
            _ => None,
        },
        (Operator::Divide, _) => match b.as_float() {
            Some(0.0) => return Err(by_zero()),
            Some(by) => Some(Object::Delta((*us as f64 / by).round_ties_even() as i64)),
            None => None,
        },
        _ => None,
    })
}

/// # Errors
/// Where a text becomes too large.
pub fn within(bytes: usize) -> Outcome<()> {
    if bytes > limits::MAX_TEMPLATE_TEXT {
        return Err(Fault::other(format!("a text becomes larger than {} bytes", limits::MAX_TEMPLATE_TEXT)));
    }
    Ok(())
}

/// # Errors
/// Where a list or an object becomes too large.
pub fn within_items(items: usize) -> Outcome<()> {
    if items > limits::MAX_TEMPLATE_ITEMS {
        return Err(Fault::other(format!("a list becomes longer than {} items", limits::MAX_TEMPLATE_ITEMS)));
    }
    Ok(())
}

/// `-object`.
///
/// # Errors
/// A type error for what has no sign.
pub fn negate(object: &Object) -> Outcome<Object> {
    Ok(match object {
        Object::Bool(bool) => Object::Int(-i128::from(*bool)),
        Object::Int(int) => Object::Int(int.checked_neg().ok_or_else(too_large)?),
        Object::Float(float) => Object::Float(-float),
        Object::Delta(us) => Object::Delta(us.checked_neg().ok_or_else(too_large)?),
        Object::Period(duration) => Object::Period(duration.checked_neg().ok_or_else(too_large)?),
        _ => return Err(object.unfit("bad operand type for unary -")),
    })
}

/// The day of a moment.
pub fn day(at: &DateTime) -> Civil {
    let civil = at.civil();
    Civil::date(civil.year, civil.month, civil.day)
}
