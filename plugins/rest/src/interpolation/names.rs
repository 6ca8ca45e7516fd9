//! Which variables a template takes from outside: the reference refuses a template that takes one that is not there, even
//! in a branch that is never reached.
//!
//! Follows what Jinja's compiler does, with its quirk: a name that only some branches of an `if` set counts as taken from
//! outside where it is read later.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    functions,
    statements::all_args,
    syntax::{Expr, For, Macro, Statement, Target},
};

/// In alphabetical order.
pub fn taken_from_outside(statements: &[Statement]) -> Vec<Rc<str>> {
    let mut reader = Reader { frames: vec![Frame::default()], outside: BTreeSet::new() };
    reader.statements(statements);
    reader.outside.into_iter().collect()
}

/// Names known in one region.
#[derive(Default, Clone)]
struct Frame {
    known: BTreeSet<Rc<str>>,
    stored: BTreeSet<Rc<str>>,
}

struct Reader {
    frames: Vec<Frame>,
    outside: BTreeSet<Rc<str>>,
}

impl Reader {
    fn load(&mut self, name: &Rc<str>) {
        if !self.frames.iter().any(|frame| frame.known.contains(name)) {
            self.top().known.insert(Rc::clone(name));
            if !functions::is_global(name) {
                self.outside.insert(Rc::clone(name));
            }
        }
    }

    fn store(&mut self, name: &Rc<str>) {
        let top = self.top();
        top.known.insert(Rc::clone(name));
        top.stored.insert(Rc::clone(name));
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the outermost region is always there")
    }

    fn inner(&mut self, names: &[&str], run: impl FnOnce(&mut Self)) {
        let mut frame = Frame::default();
        frame.known.extend(names.iter().map(|name| Rc::from(*name)));
        self.frames.push(frame);
        run(self);
        self.frames.pop();
    }

    fn statements(&mut self, statements: &[Statement]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Text(_) => {}
            Statement::Output(value) => self.expr(value),
            Statement::If(branches, otherwise) => self.branches(branches, otherwise),
            Statement::For(repeat) => self.repeat(repeat),
            Statement::Set(target, value) => {
                self.expr(value);
                self.target(target);
            }
            Statement::SetBlock(target, filters, body) => {
                self.target(target);
                self.inner(&[], |reader| {
                    reader.statements(body);
                    filters.iter().for_each(|chain| reader.expr(chain));
                });
            }
            Statement::With(values, body) => {
                values.iter().for_each(|(_, value)| self.expr(value));
                self.inner(&[], |reader| {
                    values.iter().for_each(|(target, _)| reader.target(target));
                    reader.statements(body);
                });
            }
            Statement::Macro(code) => {
                self.store(&code.name);
                self.code(code);
            }
            Statement::CallBlock(code, call) => {
                self.expr(call);
                self.code(code);
            }
            Statement::FilterBlock(chain, body) => {
                self.expr(chain);
                self.inner(&[], |reader| reader.statements(body));
            }
            Statement::Block(body) => self.inner(&[], |reader| reader.statements(body)),
        }
    }

    fn repeat(&mut self, repeat: &For) {
        self.expr(&repeat.over);
        self.inner(&[], |reader| {
            reader.target(&repeat.target);
            repeat.test.iter().for_each(|test| reader.expr(test));
        });
        self.inner(&["loop"], |reader| {
            reader.target(&repeat.target);
            reader.statements(&repeat.body);
        });
        self.inner(&[], |reader| reader.statements(&repeat.otherwise));
    }

    fn code(&mut self, code: &Macro) {
        code.parameters.iter().filter_map(|(_, default)| default.as_ref()).for_each(|default| self.expr(default));
        self.inner(&["caller", "varargs", "kwargs"], |reader| {
            code.parameters.iter().for_each(|(name, _)| reader.store(name));
            reader.statements(&code.body);
        });
    }

    /// The compiler sees three branches: the first, all `elif` together (each of them again an `if`), and `else`.
    fn branches(&mut self, branches: &[(Expr, Vec<Statement>)], otherwise: &[Statement]) {
        let Some(((condition, body), elifs)) = branches.split_first() else { return };
        self.expr(condition);
        let before = self.top().clone();
        let mut ends = Vec::new();
        self.statements(body);
        ends.push(std::mem::replace(self.top(), before.clone()));
        for (condition, body) in elifs {
            self.branches(std::slice::from_ref(&(condition.clone(), body.clone())), &[]);
        }
        ends.push(std::mem::replace(self.top(), before.clone()));
        self.statements(otherwise);
        ends.push(std::mem::replace(self.top(), before.clone()));
        for end in &ends {
            for name in &end.known {
                let partly = end.stored.contains(name)
                    && !before.stored.contains(name)
                    && !ends.iter().all(|end| end.stored.contains(name));
                let seen_before = self.frames.iter().any(|frame| frame.known.contains(name));
                if partly && !seen_before && !functions::is_global(name) {
                    self.outside.insert(Rc::clone(name));
                }
            }
        }
        for end in ends {
            self.top().known.extend(end.known);
            self.top().stored.extend(end.stored);
        }
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.store(name),
            Target::Member(name, _) => self.load(name),
            Target::Tuple(targets) => targets.iter().for_each(|target| self.target(target)),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Constant(_) => {}
            Expr::Name(name) => self.load(name),
            Expr::List(items) | Expr::Tuple(items) | Expr::Concat(items) => {
                items.iter().for_each(|item| self.expr(item))
            }
            Expr::Dict(members) => members.iter().for_each(|(key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            Expr::Attribute(value, _) | Expr::Not(value) | Expr::Negative(value) | Expr::Positive(value) => {
                self.expr(value);
            }
            Expr::Item(a, b) | Expr::Binary(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Expr::Slice(value, bounds) => {
                self.expr(value);
                bounds.iter().flatten().for_each(|bound| self.expr(bound));
            }
            Expr::Call(value, args) | Expr::Test(value, _, args) => {
                self.expr(value);
                all_args(args).for_each(|arg| self.expr(arg));
            }
            Expr::Filter(value, _, args) => {
                value.iter().for_each(|value| self.expr(value));
                all_args(args).for_each(|arg| self.expr(arg));
            }
            Expr::Compare(value, rest) => {
                self.expr(value);
                rest.iter().for_each(|(_, value)| self.expr(value));
            }
            Expr::If(condition, then, otherwise) => {
                self.expr(condition);
                self.expr(then);
                otherwise.iter().for_each(|value| self.expr(value));
            }
        }
    }
}
