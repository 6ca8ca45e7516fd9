//! What a template can become, as far as that can be seen without running it: texts and settings one after the other,
//! in as many variants as its conditions allow.

use std::{collections::HashMap, rc::Rc};

use crate::{
    interpolation::{
        object::Object,
        operators::Operator,
        statements::parse,
        syntax::{Args, Expr, Statement, Target},
    },
    limits::{MAX_LOOK_STEPS, MAX_TEMPLATE_VARIANTS, MAX_VARIANT_BYTES},
    value::Value,
};

/// A piece of what a template becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// The value of a setting, or a part of it, by its path.
    Setting(Vec<String>),
    /// Known only when it runs.
    Unknown,
}

/// One of the things that a template can become.
pub type Variant = Vec<Piece>;

/// Variants of a template; one unknown piece where it is too much to follow, or no template.
pub fn variants(template: &str, parameters: &Value) -> Vec<Variant> {
    let Ok(body) = parse(template) else { return unknown() };
    let mut look = Look { parameters, names: HashMap::new(), steps: 0 };
    look.body(&body).into_iter().map(joined).collect()
}

/// The path of the setting that an expression is, without anything done to it.
pub fn setting(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Name(name) if &**name == "config" => Some(Vec::new()),
        Expr::Attribute(of, key) => {
            let mut path = setting(of)?;
            path.push(key.to_string());
            Some(path)
        }
        Expr::Item(of, key) => {
            let mut path = setting(of)?;
            path.push(text_of(key)?);
            Some(path)
        }
        Expr::Call(of, args) => match &**of {
            Expr::Attribute(of, method) if &**method == "get" => {
                let mut path = setting(of)?;
                path.push(text_of(args.positional.first()?)?);
                Some(path)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A constant as text.
pub fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Constant(Object::Str(text)) => Some(text.to_string()),
        Expr::Constant(Object::Int(int)) => Some(int.to_string()),
        _ => None,
    }
}

fn unknown() -> Vec<Variant> {
    vec![vec![Piece::Unknown]]
}

/// Texts side by side become one.
fn joined(variant: Variant) -> Variant {
    let mut all: Variant = Vec::new();
    for piece in variant {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, Piece::Text(text)) if text.is_empty() => {}
            (_, piece) => all.push(piece),
        }
    }
    all
}

struct Look<'a> {
    parameters: &'a Value,
    /// What `set` gave names to.
    names: HashMap<Rc<str>, Expr>,
    steps: usize,
}

impl Look<'_> {
    fn body(&mut self, body: &[Statement]) -> Vec<Variant> {
        body.iter().fold(vec![Vec::new()], |before, statement| {
            let after = self.statement(statement);
            crossed(&before, &after)
        })
    }

    fn statement(&mut self, statement: &Statement) -> Vec<Variant> {
        match statement {
            Statement::Text(text) => vec![vec![Piece::Text(text.to_string())]],
            Statement::Output(expr) => self.expr(expr),
            Statement::If(branches, otherwise) => {
                let mut all: Vec<Variant> = branches.iter().flat_map(|(_, body)| self.body(body)).collect();
                all.extend(self.body(otherwise));
                limited(all)
            }
            Statement::Set(Target::Name(name), expr) => {
                self.names.insert(name.clone(), expr.clone());
                vec![Vec::new()]
            }
            Statement::Block(body) => self.body(body),
            Statement::Macro(_) => vec![Vec::new()],
            _ => unknown(),
        }
    }

    fn expr(&mut self, expr: &Expr) -> Vec<Variant> {
        self.steps += 1;
        if self.steps > MAX_LOOK_STEPS {
            return unknown();
        }
        if let Some(text) = text_of(expr) {
            return vec![vec![Piece::Text(text)]];
        }
        if let Some(path) = setting(expr).filter(|path| !path.is_empty()) {
            return self.of_setting(path, expr);
        }
        match expr {
            Expr::Constant(_) => vec![Vec::new()],
            Expr::Name(name) => match self.names.remove(name) {
                Some(bound) => {
                    let variants = self.expr(&bound);
                    self.names.insert(name.clone(), bound);
                    variants
                }
                None => unknown(),
            },
            Expr::If(_, then, otherwise) => {
                let mut all = self.expr(then);
                all.extend(otherwise.as_ref().map_or_else(|| vec![Vec::new()], |otherwise| self.expr(otherwise)));
                limited(all)
            }
            Expr::Or(left, right) => self.either(&[left, right]),
            Expr::And(_, right) => {
                let mut all = self.expr(right);
                all.push(Vec::new());
                limited(all)
            }
            Expr::Concat(parts) => self.sequence(parts.iter()),
            Expr::Binary(Operator::Add, left, right) => self.sequence([&**left, &**right].into_iter()),
            Expr::Filter(Some(of), name, args) => self.filter(of, name, args),
            Expr::Call(of, args) => self.call(of, args),
            Expr::Attribute(of, key) => self.member(of, Some(key)),
            Expr::Item(of, key) => self.member(of, text_of(key).as_deref()),
            _ => unknown(),
        }
    }

    /// A setting, or what stands in for it where it is not given.
    fn of_setting(&mut self, path: Vec<String>, expr: &Expr) -> Vec<Variant> {
        let mut all = vec![vec![Piece::Setting(path)]];
        if let Expr::Call(_, args) = expr
            && let Some(default) = args.positional.get(1)
        {
            all.extend(self.expr(default));
        }
        limited(all)
    }

    fn either(&mut self, exprs: &[&Expr]) -> Vec<Variant> {
        let all = exprs.iter().flat_map(|expr| self.expr(expr)).collect();
        limited(all)
    }

    fn sequence<'e>(&mut self, parts: impl Iterator<Item = &'e Expr>) -> Vec<Variant> {
        parts.fold(vec![Vec::new()], |before, part| {
            let after = self.expr(part);
            crossed(&before, &after)
        })
    }

    fn filter(&mut self, of: &Expr, name: &str, args: &Args) -> Vec<Variant> {
        match (name, args.positional.first()) {
            ("default" | "d", Some(default)) => self.either(&[of, default]),
            ("string" | "trim" | "lower" | "replace" | "safe", _) => self.expr(of),
            _ => unknown(),
        }
    }

    fn call(&mut self, of: &Expr, args: &Args) -> Vec<Variant> {
        let Expr::Attribute(of, method) = of else { return unknown() };
        match (&**method, text_of(of)) {
            ("format", Some(pattern)) => self.formatted(&pattern, &args.positional),
            ("strip" | "rstrip" | "lstrip" | "lower" | "replace" | "removesuffix" | "removeprefix" | "split", _) => {
                self.expr(of)
            }
            ("get", _) => {
                let mut all = self.member(of, args.positional.first().and_then(text_of).as_deref());
                if let Some(default) = args.positional.get(1) {
                    all.extend(self.expr(default));
                }
                limited(all)
            }
            _ => unknown(),
        }
    }

    fn formatted(&mut self, pattern: &str, args: &[Expr]) -> Vec<Variant> {
        let mut args = args.iter();
        let mut all = vec![Vec::new()];
        for (at, text) in pattern.split("{}").enumerate() {
            if at > 0 {
                let after = args.next().map_or_else(unknown, |arg| self.expr(arg));
                all = crossed(&all, &after);
            }
            all = crossed(&all, &[vec![Piece::Text(text.to_owned())]]);
        }
        all
    }

    /// A member of an object that the template holds itself, of `parameters`, or a part of a setting.
    fn member(&mut self, of: &Expr, key: Option<&str>) -> Vec<Variant> {
        match of {
            Expr::Name(name) if &**name == "parameters" => {
                match key.and_then(|key| self.parameters.get(key)).map(|value| (value, value.as_str())) {
                    Some((_, Some(text))) if !text.contains("{{") => vec![vec![Piece::Text(text.to_owned())]],
                    Some((Value::Int(int), _)) => vec![vec![Piece::Text(int.to_string())]],
                    _ => unknown(),
                }
            }
            Expr::Name(name) => match self.names.remove(name) {
                Some(bound) => {
                    let variants = self.member(&bound, key);
                    self.names.insert(name.clone(), bound);
                    variants
                }
                None => unknown(),
            },
            Expr::Dict(members) => {
                let fits = |name: &Expr| key.is_none() || text_of(name).as_deref() == key;
                let all =
                    members.iter().filter(|(name, _)| fits(name)).flat_map(|(_, value)| self.expr(value)).collect();
                limited(all)
            }
            // A piece of a text that was split.
            Expr::Call(inner, _) if matches!(&**inner, Expr::Attribute(_, method) if &**method == "split") => {
                self.expr(of)
            }
            _ => unknown(),
        }
    }
}

fn crossed(before: &[Variant], after: &[Variant]) -> Vec<Variant> {
    let bytes = |side: &[Variant]| side.iter().flatten().map(length).sum::<usize>();
    if before.len().saturating_mul(after.len()) > MAX_TEMPLATE_VARIANTS
        || bytes(before).saturating_add(bytes(after)) > MAX_VARIANT_BYTES
    {
        return unknown();
    }
    let both = |left: &Variant, right: &Variant| left.iter().chain(right).cloned().collect();
    before.iter().flat_map(|left| after.iter().map(move |right| both(left, right))).collect()
}

fn length(piece: &Piece) -> usize {
    match piece {
        Piece::Text(text) => text.len(),
        Piece::Setting(path) => path.iter().map(String::len).sum(),
        Piece::Unknown => 1,
    }
}

fn limited(mut variants: Vec<Variant>) -> Vec<Variant> {
    let mut seen: Vec<Variant> = Vec::new();
    variants.retain(|variant| {
        let fresh = !seen.contains(variant);
        if fresh {
            seen.push(variant.clone());
        }
        fresh
    });
    if variants.len() > MAX_TEMPLATE_VARIANTS { unknown() } else { variants }
}
