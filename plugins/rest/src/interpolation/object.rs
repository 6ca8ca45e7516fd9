//! What an expression is worth: Python's objects, as far as templates meet them.
//!
//! Cheap to clone. Lists and objects of the scope are wrapped, not copied.

use std::{
    hash::{Hash, Hasher},
    rc::Rc,
    sync::Arc,
};

use crate::{
    datetime::{Civil, DateTime, Duration},
    value::{Map, Value},
};

use super::{
    comparison::equal,
    containers::{Dict, List},
    fault::{Fault, Outcome},
    rendering::{LoopState, MacroCode, Namespace},
};

#[derive(Debug, Clone)]
pub enum Object {
    /// With what was looked for.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    /// An integer that fits nothing; it can only be shown and compared.
    Big(Arc<str>),
    Float(f64),
    Str(Arc<str>),
    Bytes(Rc<[u8]>),
    List(List),
    Tuple(Rc<Vec<Object>>),
    /// Only literals make one.
    Set(Rc<Vec<Object>>),
    Dict(Dict),
    Moment(DateTime),
    Date(Civil),
    /// `timedelta`, in microseconds.
    Delta(i64),
    /// `isodate.Duration`: with months.
    Period(Duration),
    /// A method that has not been called yet.
    Method(Rc<(Object, Rc<str>)>),
    /// One of the global functions.
    Function(&'static str),
    Macro(Rc<MacroCode>),
    Loop(Rc<LoopState>),
    Namespace(Namespace),
}

impl Object {
    pub fn str(text: impl AsRef<str>) -> Self {
        Self::Str(Arc::from(text.as_ref()))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::own(items))
    }

    pub fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(items))
    }

    pub fn undefined(what: impl AsRef<str>) -> Self {
        Self::Undefined(Rc::from(what.as_ref()))
    }

    pub fn from_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(bool) => Self::Bool(*bool),
            Value::Int(int) => Self::Int(i128::from(*int)),
            Value::Big(digits) => Self::from_digits(digits),
            Value::Float(float) => Self::Float(*float),
            Value::Str(text) => Self::Str(Arc::clone(text)),
            Value::List(items) => Self::List(List::shared(Arc::clone(items))),
            Value::Map(map) => Self::Dict(Dict::shared(Arc::clone(map))),
        }
    }

    /// An integer of any size from decimal digits.
    pub fn from_digits(digits: &str) -> Self {
        digits.parse().map_or_else(|_| Self::Big(Arc::from(digits)), Self::Int)
    }

    /// As JSON; tuples and sets become arrays, keys become text. `None` for what JSON cannot hold.
    /// Only for what the scope or a literal gave, which holds nothing twice.
    pub fn to_value(&self) -> Option<Value> {
        Some(match self {
            Self::None => Value::Null,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Int(int) => i64::try_from(*int).map_or_else(|_| Value::Big(int.to_string().into()), Value::Int),
            Self::Big(digits) => Value::Big(Arc::clone(digits)),
            Self::Float(float) => Value::Float(*float),
            Self::Str(text) => Value::Str(Arc::clone(text)),
            Self::List(list) => match list.as_shared() {
                Some(shared) => Value::List(shared),
                None => Value::list(list.to_vec().iter().map(Self::to_value).collect::<Option<_>>()?),
            },
            Self::Tuple(items) | Self::Set(items) => {
                Value::list(items.iter().map(Self::to_value).collect::<Option<_>>()?)
            }
            Self::Dict(dict) => match dict.as_shared() {
                Some(shared) => Value::Map(shared),
                None => {
                    let mut map = Map::new();
                    for (key, value) in dict.pairs() {
                        map.insert(key.json_key()?, value.to_value()?);
                    }
                    Value::map(map)
                }
            },
            _ => return None,
        })
    }

    /// A key as `json.dumps` writes it.
    pub fn json_key(&self) -> Option<String> {
        Some(match self {
            Self::Str(text) => text.to_string(),
            Self::None => "null".into(),
            Self::Bool(bool) => bool.to_string(),
            Self::Int(_) | Self::Big(_) | Self::Float(_) => super::show::text(self),
            _ => return None,
        })
    }

    pub fn truthy(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(bool) => *bool,
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(list) => list.len() != 0,
            Self::Tuple(items) | Self::Set(items) => !items.is_empty(),
            Self::Dict(dict) => dict.len() != 0,
            Self::Delta(us) => *us != 0,
            _ => true,
        }
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// As Python names the type in messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::Dict(_) => "dict",
            Self::Moment(_) => "datetime.datetime",
            Self::Date(_) => "datetime.date",
            Self::Delta(_) => "datetime.timedelta",
            Self::Period(_) => "Duration",
            Self::Method(_) => "builtin_function_or_method",
            Self::Function(_) => "function",
            Self::Macro(_) => "Macro",
            Self::Loop(_) => "LoopContext",
            Self::Namespace(_) => "Namespace",
        }
    }

    /// Using what is not there.
    pub fn missing(what: &str) -> Fault {
        Fault::Undefined(format!("{what} is undefined"))
    }

    /// The fault of an operation that this type does not have.
    pub fn unfit(&self, what: &str) -> Fault {
        match self {
            Self::Undefined(name) => Self::missing(name),
            _ => Fault::type_error(format!("{what}: not for '{}'", self.type_name())),
        }
    }

    /// # Errors
    /// A type error where it is no text.
    pub fn need_text(&self, what: &str) -> Outcome<Arc<str>> {
        match self {
            Self::Str(text) => Ok(Arc::clone(text)),
            _ => Err(self.unfit(what)),
        }
    }

    /// # Errors
    /// A type error where it is no integer.
    pub fn need_int(&self, what: &str) -> Outcome<i128> {
        match self {
            Self::Int(int) => Ok(*int),
            Self::Bool(bool) => Ok(i128::from(*bool)),
            Self::Big(_) => Err(Fault::other(format!("{what}: the number is too large"))),
            _ => Err(self.unfit(what)),
        }
    }

    /// Integers, floats and truth values, as a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Bool(bool) => Some(f64::from(u8::from(*bool))),
            Self::Int(int) => Some(*int as f64),
            Self::Big(digits) => digits.parse().ok(),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// What a loop over it meets.
    ///
    /// # Errors
    /// A type error where it cannot be looped over.
    pub fn items(&self) -> Outcome<Vec<Self>> {
        Ok(match self {
            Self::Undefined(_) => Vec::new(),
            Self::Str(text) => text.chars().map(|c| Self::str(c.encode_utf8(&mut [0; 4]))).collect(),
            Self::Bytes(bytes) => bytes.iter().map(|byte| Self::Int(i128::from(*byte))).collect(),
            Self::List(list) => list.to_vec(),
            Self::Tuple(items) | Self::Set(items) => items.to_vec(),
            Self::Dict(dict) => dict.keys(),
            _ => return Err(Fault::type_error(format!("'{}' object is not iterable", self.type_name()))),
        })
    }

    /// `len()`; `None` for what has none.
    pub fn len(&self) -> Option<usize> {
        Some(match self {
            Self::Undefined(_) => 0,
            Self::Str(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Tuple(items) | Self::Set(items) => items.len(),
            Self::Dict(dict) => dict.len(),
            _ => return None,
        })
    }
}

/// An object that can be a key: what Python can hash.
#[derive(Debug, Clone)]
pub struct Key(Object);

impl Key {
    /// # Errors
    /// A type error for what cannot be hashed.
    pub fn new(object: Object) -> Outcome<Self> {
        match &object {
            Object::List(_) | Object::Dict(_) | Object::Set(_) | Object::Namespace(_) => {
                Err(Fault::type_error(format!("unhashable type: '{}'", object.type_name())))
            }
            Object::Tuple(items) => {
                for item in items.iter() {
                    Self::new(item.clone())?;
                }
                Ok(Self(object))
            }
            _ => Ok(Self(object)),
        }
    }

    pub fn text(text: &str) -> Self {
        Self(Object::str(text))
    }

    pub fn object(&self) -> &Object {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Object::Str(text) => text.hash(state),
            Object::Tuple(items) => items.iter().for_each(|item| Self(item.clone()).hash(state)),
            Object::Moment(at) => at.us().hash(state),
            Object::Delta(us) => us.hash(state),
            other => {
                // Numbers that are equal have one hash, whatever their type.
                if let Some(float) = other.as_float() {
                    (if float == 0.0 { 0.0 } else { float }).to_bits().hash(state);
                }
            }
        }
    }
}
