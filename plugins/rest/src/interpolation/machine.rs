//! Evaluates expressions over the variables of a scope. Statements are [`super::rendering`].
//!
//! Every step is counted, so that no template runs on for ever.

use std::rc::Rc;

use indexmap::IndexMap;

use crate::{limits, value::Value};

use super::{
    Scope, attributes, checks, comparison,
    containers::{Dict, View},
    fault::{Fault, Outcome},
    filters, functions,
    object::{Key, Object},
    operators,
    syntax::{Args, Comparison, Expr},
};

pub struct Machine<'a> {
    pub scope: &'a Scope,
    parameters: &'a Value,
    /// Variables taken from the scope so far, so that each is one object throughout.
    taken: Vec<(Rc<str>, Object)>,
    pub frames: Vec<Vec<(Rc<str>, Object)>>,
    steps: usize,
    pub depth: usize,
}

/// Arguments of a call, evaluated.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    pub positional: Vec<Object>,
    pub named: Vec<(Rc<str>, Object)>,
}

impl Arguments {
    pub fn of(positional: Vec<Object>) -> Self {
        Self { positional, named: Vec::new() }
    }

    /// One place for each of `names`.
    ///
    /// # Errors
    /// A type error for arguments that have no place.
    pub fn bind(self, what: &str, names: &[&str]) -> Outcome<Vec<Option<Object>>> {
        if self.positional.len() > names.len() {
            return Err(Fault::type_error(format!("{what} takes at most {} arguments", names.len())));
        }
        let mut bound: Vec<Option<Object>> = self.positional.into_iter().map(Some).collect();
        bound.resize(names.len(), None);
        for (name, value) in self.named {
            let Some(at) = names.iter().position(|known| **known == *name) else {
                return Err(Fault::type_error(format!("{what} takes no argument `{name}`")));
            };
            if bound[at].replace(value).is_some() {
                return Err(Fault::type_error(format!("{what} got `{name}` twice")));
            }
        }
        Ok(bound)
    }

    /// Exactly these, all of them.
    ///
    /// # Errors
    /// A type error for any other.
    pub fn exactly<const N: usize>(self, what: &str, names: [&str; N]) -> Outcome<[Object; N]> {
        let bound = self.bind(what, &names)?;
        let given: Vec<Object> = bound.into_iter().flatten().collect();
        given.try_into().map_err(|_| Fault::type_error(format!("{what} takes {N} arguments")))
    }
}

impl<'a> Machine<'a> {
    pub fn new(scope: &'a Scope, parameters: &'a Value) -> Self {
        Self { scope, parameters, taken: Vec::new(), frames: vec![Vec::new()], steps: 0, depth: 0 }
    }

    /// Pays for work.
    ///
    /// # Errors
    /// Where the template has done too much.
    pub fn spend(&mut self, steps: usize) -> Outcome<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > limits::MAX_TEMPLATE_STEPS {
            return Err(Fault::other(format!("it takes more than {} steps", limits::MAX_TEMPLATE_STEPS)));
        }
        Ok(())
    }

    /// Whether the scope has it, under this name or the one it stands for.
    pub fn has(&self, name: &str) -> bool {
        matches!(name, "parameters" | "config" | "self") || self.scope.get(alias(name)).is_some()
    }

    pub fn lookup(&mut self, name: &Rc<str>) -> Object {
        for frame in self.frames.iter().rev() {
            if let Some((_, object)) = frame.iter().rev().find(|(known, _)| known == name) {
                return object.clone();
            }
        }
        if let Some((_, object)) = self.taken.iter().find(|(known, _)| known == name) {
            return object.clone();
        }
        let found = match (self.scope.get(alias(name)), &**name) {
            (Some(value), _) => Object::from_value(value),
            (None, "parameters") => match self.parameters {
                Value::Null => Object::Dict(Dict::own(IndexMap::new())),
                other => Object::from_value(other),
            },
            // `self` is the template, which has no blocks.
            (None, "config" | "self") => Object::Dict(Dict::own(IndexMap::new())),
            _ => match functions::global(name) {
                Some(function) => return Object::Function(function),
                None => return Object::undefined(format!("'{name}'")),
            },
        };
        let found = match (found, alias(name)) {
            (Object::Dict(dict), "stream_slice") => Object::Dict(dict.seen_as(View::Slice)),
            (Object::Dict(dict), "headers") => Object::Dict(dict.seen_as(View::Headers)),
            (other, _) => other,
        };
        self.taken.push((Rc::clone(name), found.clone()));
        found
    }

    pub fn set(&mut self, name: &Rc<str>, value: Object) {
        let frame = self.frames.last_mut().expect("the outermost frame is always there");
        match frame.iter_mut().find(|(known, _)| known == name) {
            Some((_, held)) => *held = value,
            None => frame.push((Rc::clone(name), value)),
        }
    }

    /// # Errors
    /// What Python would raise, and limits.
    pub fn eval(&mut self, expr: &Expr) -> Outcome<Object> {
        let object = self.node(expr)?;
        // Large texts are paid for as well, so that they cannot pile up.
        self.spend(match &object {
            Object::Str(text) => 1 + text.len() / 64,
            _ => 1,
        })?;
        Ok(object)
    }

    fn node(&mut self, expr: &Expr) -> Outcome<Object> {
        match expr {
            Expr::Constant(object) => Ok(object.clone()),
            Expr::Name(name) => Ok(self.lookup(name)),
            Expr::List(items) => Ok(Object::list(self.eval_all(items)?)),
            Expr::Tuple(items) => Ok(Object::tuple(self.eval_all(items)?)),
            Expr::Dict(members) => self.dict(members),
            Expr::Attribute(value, name) => {
                let value = self.eval(value)?;
                attributes::attribute(&value, name)
            }
            Expr::Item(value, index) => {
                let value = self.eval(value)?;
                let index = self.eval(index)?;
                attributes::item(&value, &index)
            }
            Expr::Slice(value, bounds) => self.slice(value, bounds),
            Expr::Call(callee, args) => {
                let callee = self.eval(callee)?;
                let args = self.args(args)?;
                self.call(&callee, args)
            }
            Expr::Filter(value, name, args) => {
                let value = value.as_ref().ok_or_else(|| Fault::other("a filter without a value"))?;
                let value = self.eval(value)?;
                let args = self.args(args)?;
                filters::apply(self, name, value, args)
            }
            Expr::Test(value, name, args) => {
                let value = self.eval(value)?;
                let args = self.args(args)?;
                checks::apply(name, &value, args).map(Object::Bool)
            }
            Expr::Not(value) => Ok(Object::Bool(!self.eval(value)?.truthy())),
            Expr::Negative(value) => operators::negate(&self.eval(value)?),
            Expr::Positive(value) => self.positive(value),
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                operators::apply(*operator, &a, &b)
            }
            Expr::And(a, b) => {
                let a = self.eval(a)?;
                if a.truthy() { self.eval(b) } else { Ok(a) }
            }
            Expr::Or(a, b) => {
                let a = self.eval(a)?;
                if a.truthy() { Ok(a) } else { self.eval(b) }
            }
            Expr::Compare(first, rest) => self.compare(first, rest),
            Expr::Concat(parts) => self.concat(parts),
            Expr::If(condition, then, otherwise) => {
                if self.eval(condition)?.truthy() {
                    return self.eval(then);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Object::undefined("the inline if-expression without an else")),
                }
            }
        }
    }

    fn eval_all(&mut self, exprs: &[Expr]) -> Outcome<Vec<Object>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn dict(&mut self, members: &[(Expr, Expr)]) -> Outcome<Object> {
        let mut map = IndexMap::new();
        for (key, value) in members {
            let key = Key::new(self.eval(key)?)?;
            map.insert(key, self.eval(value)?);
        }
        Ok(Object::Dict(Dict::own(map)))
    }

    fn slice(&mut self, value: &Expr, bounds: &[Option<Box<Expr>>; 3]) -> Outcome<Object> {
        let value = self.eval(value)?;
        let mut given = [None; 3];
        for (slot, bound) in given.iter_mut().zip(bounds) {
            *slot = match bound.as_ref().map(|bound| self.eval(bound)).transpose()? {
                None | Some(Object::None) => None,
                Some(Object::Undefined(_)) => return Err(Fault::type_error("slice indices must be integers or None")),
                Some(bound) => Some(bound.need_int("slice indices must be integers or None")?),
            };
        }
        attributes::slice(&value, given)
    }

    fn positive(&mut self, value: &Expr) -> Outcome<Object> {
        match self.eval(value)? {
            Object::Bool(bool) => Ok(Object::Int(i128::from(bool))),
            number @ (Object::Int(_) | Object::Big(_) | Object::Float(_) | Object::Delta(_)) => Ok(number),
            other => Err(other.unfit("bad operand type for unary +")),
        }
    }

    fn compare(&mut self, first: &Expr, rest: &[(Comparison, Expr)]) -> Outcome<Object> {
        let mut left = self.eval(first)?;
        for (comparison, right) in rest {
            let right = self.eval(right)?;
            if !compare(*comparison, &left, &right)? {
                return Ok(Object::Bool(false));
            }
            left = right;
        }
        Ok(Object::Bool(true))
    }

    fn concat(&mut self, parts: &[Expr]) -> Outcome<Object> {
        let mut text = String::new();
        for part in parts {
            let part = self.eval(part)?;
            super::show::write_text(&part, &mut text);
            operators::within(text.len())?;
        }
        Ok(Object::str(text))
    }

    /// # Errors
    /// What the arguments raise.
    pub fn args(&mut self, args: &Args) -> Outcome<Arguments> {
        let mut given = Arguments { positional: self.eval_all(&args.positional)?, named: Vec::new() };
        if let Some(star) = &args.star {
            given.positional.extend(self.eval(star)?.items()?);
        }
        for (name, value) in &args.named {
            given.named.push((Rc::clone(name), self.eval(value)?));
        }
        if let Some(star) = &args.double_star {
            let Object::Dict(dict) = self.eval(star)? else {
                return Err(Fault::type_error("the argument after ** must be a mapping"));
            };
            for (name, value) in dict.pairs() {
                given.named.push((Rc::from(&*name.need_text("keywords must be strings")?), value));
            }
        }
        Ok(given)
    }

    /// # Errors
    /// What Python would raise.
    pub fn call(&mut self, callee: &Object, args: Arguments) -> Outcome<Object> {
        match callee {
            Object::Method(method) => attributes::call(self, &method.0, &method.1, args),
            Object::Function(name) => functions::call(self, name, args),
            Object::Macro(code) => self.call_macro(code, args),
            other => Err(other.unfit("the object is not callable")),
        }
    }
}

/// Names that the reference keeps for what `stream_slice` has become.
fn alias(name: &str) -> &str {
    match name {
        "stream_interval" | "stream_partition" => "stream_slice",
        other => other,
    }
}

/// # Errors
/// What Python would raise.
pub fn compare(comparison: Comparison, a: &Object, b: &Object) -> Outcome<bool> {
    use std::cmp::Ordering::{Greater, Less};
    Ok(match comparison {
        Comparison::Equal => comparison::equal(a, b),
        Comparison::Unequal => !comparison::equal(a, b),
        Comparison::Less => comparison::order(a, b)? == Some(Less),
        Comparison::LessOrEqual => comparison::order(a, b)?.is_some_and(|order| order != Greater),
        Comparison::Greater => comparison::order(a, b)? == Some(Greater),
        Comparison::GreaterOrEqual => comparison::order(a, b)?.is_some_and(|order| order != Less),
        Comparison::In => comparison::contains(b, a)?,
        Comparison::NotIn => !comparison::contains(b, a)?,
    })
}
