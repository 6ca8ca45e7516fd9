//! Runs statements and writes what a template renders to.

use std::{cell::RefCell, rc::Rc};

use crate::limits;

use super::{
    comparison,
    fault::{Fault, Outcome},
    filters,
    machine::{Arguments, Machine},
    object::Object,
    show,
    syntax::{Expr, For, Macro, Statement, Target},
};

/// `loop` of a body.
#[derive(Debug)]
pub struct LoopState {
    pub items: Rc<Vec<Object>>,
    pub index0: usize,
    pub depth: usize,
    /// What `changed` was called with last.
    pub last_change: Rc<RefCell<Option<Vec<Object>>>>,
}

/// What `namespace()` makes: members that can be set from anywhere.
#[derive(Debug, Clone)]
pub struct Namespace(Rc<RefCell<Members>>);

type Members = Vec<(Rc<str>, Object)>;

impl Namespace {
    pub fn new(members: Members) -> Self {
        Self(Rc::new(RefCell::new(members)))
    }

    pub fn set(&self, name: &Rc<str>, value: Object) {
        let mut members = self.0.borrow_mut();
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, held)) => *held = value,
            None => members.push((Rc::clone(name), value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<Object> {
        self.0.borrow().iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
    }
}

#[derive(Debug)]
pub struct MacroCode {
    pub name: Rc<str>,
    code: Rc<Macro>,
    defaults: Vec<Option<Object>>,
}

impl Machine<'_> {
    /// # Errors
    /// What an expression raises, and limits.
    pub fn render(&mut self, statements: &[Statement]) -> Outcome<String> {
        let mut out = String::new();
        self.run(statements, &mut out)?;
        Ok(out)
    }

    fn run(&mut self, statements: &[Statement], out: &mut String) -> Outcome<()> {
        for statement in statements {
            self.spend(1)?;
            self.step(statement, out)?;
            if out.len() > limits::MAX_RENDERED_BYTES {
                return Err(Fault::other(format!("it renders to more than {} bytes", limits::MAX_RENDERED_BYTES)));
            }
        }
        Ok(())
    }

    fn step(&mut self, statement: &Statement, out: &mut String) -> Outcome<()> {
        match statement {
            Statement::Text(text) => out.push_str(text),
            Statement::Output(value) => {
                let value = self.eval(value)?;
                show::write_text(&value, out);
            }
            Statement::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition)?.truthy() {
                        return self.run(body, out);
                    }
                }
                self.run(otherwise, out)?;
            }
            Statement::For(repeat) => self.repeat(repeat, out)?,
            Statement::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            Statement::SetBlock(target, chain, body) => {
                let text = self.inner(|machine| machine.render(body))?;
                let value = match chain {
                    Some(chain) => self.filtered(chain, Object::str(text))?,
                    None => Object::str(text),
                };
                self.assign(target, value)?;
            }
            Statement::With(values, body) => {
                let mut given = Vec::new();
                for (target, value) in values {
                    given.push((target, self.eval(value)?));
                }
                self.inner(|machine| {
                    given.into_iter().try_for_each(|(target, value)| machine.assign(target, value))?;
                    machine.run(body, out)
                })?;
            }
            Statement::Macro(code) => {
                let value = self.macro_object(code)?;
                self.set(&code.name, value);
            }
            Statement::CallBlock(code, call) => self.call_block(code, call, out)?,
            Statement::FilterBlock(chain, body) => {
                let text = self.inner(|machine| machine.render(body))?;
                let value = self.filtered(chain, Object::str(text))?;
                show::write_text(&value, out);
            }
            Statement::Block(body) => self.inner(|machine| machine.run(body, out))?,
        }
        Ok(())
    }

    /// In a region with names of its own.
    fn inner<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.frames.push(Vec::new());
        let result = run(self);
        self.frames.pop();
        result
    }

    fn assign(&mut self, target: &Target, value: Object) -> Outcome<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Member(name, member) => match self.lookup(name) {
                Object::Namespace(namespace) => namespace.set(member, value),
                _ => return Err(Fault::other("cannot assign attribute on non-namespace object")),
            },
            Target::Tuple(targets) => {
                let items = value.items()?;
                if items.len() != targets.len() {
                    return Err(Fault::other(format!(
                        "cannot unpack: expected {} values, got {}",
                        targets.len(),
                        items.len()
                    )));
                }
                targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item))?;
            }
        }
        Ok(())
    }

    fn repeat(&mut self, repeat: &For, out: &mut String) -> Outcome<()> {
        let over = self.eval(&repeat.over)?;
        self.spend(over.len().unwrap_or(0))?;
        let mut items = over.items()?;
        if let Some(test) = &repeat.test {
            let mut kept = Vec::new();
            for item in items {
                let keep = self.inner(|machine| {
                    machine.assign(&repeat.target, item.clone())?;
                    Ok(machine.eval(test)?.truthy())
                })?;
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.inner(|machine| machine.run(&repeat.otherwise, out));
        }
        let items = Rc::new(items);
        let last_change = Rc::new(RefCell::new(None));
        self.depth += 1;
        for index0 in 0..items.len() {
            let state =
                LoopState { items: Rc::clone(&items), index0, depth: self.depth, last_change: Rc::clone(&last_change) };
            self.inner(|machine| {
                machine.assign(&repeat.target, items[index0].clone())?;
                machine.set(&Rc::from("loop"), Object::Loop(Rc::new(state)));
                machine.run(&repeat.body, out)
            })?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn macro_object(&mut self, code: &Rc<Macro>) -> Outcome<Object> {
        let mut defaults = Vec::new();
        for (_, default) in &code.parameters {
            defaults.push(default.as_ref().map(|default| self.eval(default)).transpose()?);
        }
        Ok(Object::Macro(Rc::new(MacroCode { name: Rc::clone(&code.name), code: Rc::clone(code), defaults })))
    }

    /// # Errors
    /// What its body raises, and limits.
    pub fn call_macro(&mut self, code: &MacroCode, mut args: Arguments) -> Outcome<Object> {
        if self.depth >= limits::MAX_TEMPLATE_DEPTH {
            return Err(Fault::other("macros call each other too deeply"));
        }
        let caller = args.named.iter().position(|(name, _)| &**name == "caller").map(|at| args.named.remove(at).1);
        let names: Vec<&str> = code.code.parameters.iter().map(|(name, _)| &**name).collect();
        let bound = args.bind(&format!("macro '{}'", code.name), &names)?;
        self.depth += 1;
        let text = self.inner(|machine| {
            for (at, (name, _)) in code.code.parameters.iter().enumerate() {
                let value = bound[at].clone().or_else(|| code.defaults[at].clone());
                machine.set(name, value.unwrap_or_else(|| Object::undefined(format!("parameter '{name}'"))));
            }
            machine.set(&Rc::from("caller"), caller.unwrap_or_else(|| Object::undefined("'caller'")));
            machine.render(&code.code.body)
        });
        self.depth -= 1;
        text.map(Object::str)
    }

    fn call_block(&mut self, code: &Rc<Macro>, call: &Expr, out: &mut String) -> Outcome<()> {
        let Expr::Call(callee, args) = call else { return Err(Fault::other("`call` needs a call")) };
        let callee = self.eval(callee)?;
        let mut args = self.args(args)?;
        args.named.push((Rc::from("caller"), self.macro_object(code)?));
        let value = self.call(&callee, args)?;
        show::write_text(&value, out);
        Ok(())
    }

    /// Puts a text through the filters of a region.
    fn filtered(&mut self, chain: &Expr, text: Object) -> Outcome<Object> {
        let Expr::Filter(inner, name, args) = chain else { return Ok(text) };
        let value = match inner {
            Some(inner) => self.filtered(inner, text)?,
            None => text,
        };
        let args = self.args(args)?;
        filters::apply(self, name, value, args)
    }
}

impl LoopState {
    /// A member of `loop` that is no method.
    pub fn member(&self, name: &str) -> Option<Object> {
        let count = |number: usize| Object::Int(number as i128);
        let length = self.items.len();
        let at = |index: Option<usize>, what: &str| {
            index
                .and_then(|index| self.items.get(index).cloned())
                .unwrap_or_else(|| Object::undefined(format!("there is no {what} item")))
        };
        Some(match name {
            "index" => count(self.index0 + 1),
            "index0" => count(self.index0),
            "revindex" => count(length - self.index0),
            "revindex0" => count(length - self.index0 - 1),
            "first" => Object::Bool(self.index0 == 0),
            "last" => Object::Bool(self.index0 + 1 == length),
            "length" => count(length),
            "depth" => count(self.depth),
            "depth0" => count(self.depth - 1),
            "previtem" => at(self.index0.checked_sub(1), "previous"),
            "nextitem" => at(self.index0.checked_add(1), "next"),
            _ => return None,
        })
    }

    /// # Errors
    /// A type error for what is no method of it.
    pub fn call(&self, name: &str, args: Arguments) -> Outcome<Object> {
        match name {
            "cycle" if args.positional.is_empty() => Err(Fault::type_error("no items for cycling given")),
            "cycle" => Ok(args.positional[self.index0 % args.positional.len()].clone()),
            "changed" => {
                let mut last = self.last_change.borrow_mut();
                let same = last.as_ref().is_some_and(|last| {
                    last.len() == args.positional.len()
                        && last.iter().zip(&args.positional).all(|(a, b)| comparison::equal(a, b))
                });
                *last = Some(args.positional);
                Ok(Object::Bool(!same))
            }
            _ => Err(Fault::type_error(format!("`loop` has no method `{name}`"))),
        }
    }
}
