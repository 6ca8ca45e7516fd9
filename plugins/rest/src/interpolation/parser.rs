//! Expressions of templates, with Jinja's precedence. Statements are [`super::statements`].

use std::rc::Rc;

use crate::limits;

use super::{
    fault::{Fault, Outcome},
    lexer::Token,
    object::Object,
    operators::Operator,
    syntax::{Args, Comparison, Expr},
};

/// The tokens of one tag, read from the front.
pub struct Tokens {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Tokens {
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0, depth: 0 }
    }

    pub fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn after(&self) -> &Token {
        self.tokens.get(self.at + 1).unwrap_or(&Token::End)
    }

    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(known) if *known == sign)
    }

    pub fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(known) if &**known == name)
    }

    pub fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    pub fn take_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub fn need_sign(&mut self, sign: &str) -> Outcome<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    pub fn need_name(&mut self) -> Outcome<Rc<str>> {
        match self.next() {
            Token::Name(name) => Ok(name),
            _ => {
                self.at -= 1;
                Err(self.unexpected("a name"))
            }
        }
    }

    pub fn end(&self) -> Outcome<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("the end of the tag")) }
    }

    /// The end of a tag that opens a body; a colon may stand before it.
    pub fn end_of_opening(&mut self) -> Outcome<()> {
        self.take_sign(":");
        self.end()
    }

    pub fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::Name(name) => format!("`{name}`"),
            Token::Text(text) => format!("the text `{text}`"),
            Token::Integer(digits) => format!("`{digits}`"),
            Token::Float(float) => format!("`{float}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end of the tag".to_owned(),
        };
        Fault::other(format!("expected {wanted}, found {found}"))
    }

    /// Guards every way into an expression within an expression.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= limits::MAX_TEMPLATE_DEPTH {
            return Err(Fault::other(format!("expressions are nested deeper than {}", limits::MAX_TEMPLATE_DEPTH)));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// With `conditional`, `a if b else c` is one.
    pub fn expression(&mut self, conditional: bool) -> Outcome<Expr> {
        self.nested(|tokens| {
            let mut value = tokens.or()?;
            while conditional && tokens.take_name("if") {
                let condition = tokens.or()?;
                let otherwise = match tokens.take_name("else") {
                    true => Some(Box::new(tokens.expression(true)?)),
                    false => None,
                };
                value = Expr::If(Box::new(condition), Box::new(value), otherwise);
            }
            Ok(value)
        })
    }

    /// One expression, or several with commas: a tuple. `ends` is a name that ends it.
    pub fn tuple(&mut self, conditional: bool, ends: Option<&str>) -> Outcome<Expr> {
        let first = self.expression(conditional)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.take_sign(",") {
            let ended = matches!(self.peek(), Token::End | Token::Sign(")" | "]" | "}" | "="))
                || ends.is_some_and(|name| self.is_name(name));
            if ended {
                break;
            }
            items.push(self.expression(conditional)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut left = self.and()?;
        while self.take_name("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut left = self.not()?;
        while self.take_name("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.take_name("not") {
            return self.nested(|tokens| Ok(Expr::Not(Box::new(tokens.not()?))));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let left = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison() {
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { left } else { Expr::Compare(Box::new(left), rest) })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::Unequal,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Name(name) if &**name == "in" => Comparison::In,
            Token::Name(name) if &**name == "not" && matches!(self.after(), Token::Name(next) if &**next == "in") => {
                self.at += 1;
                Comparison::NotIn
            }
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    fn binary(&mut self, operators: &[(&str, Operator)], operand: fn(&mut Self) -> Outcome<Expr>) -> Outcome<Expr> {
        let mut left = operand(self)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.is_sign(sign)) {
            self.at += 1;
            left = Expr::Binary(*operator, Box::new(left), Box::new(operand(self)?));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Outcome<Expr> {
        self.binary(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let first = self.product()?;
        if !self.is_sign("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_sign("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Outcome<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Modulo),
        ];
        self.binary(&operators, Self::power)
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.binary(&[("**", Operator::Power)], |tokens| tokens.unary(true))
    }

    fn unary(&mut self, with_filter: bool) -> Outcome<Expr> {
        self.nested(|tokens| {
            let value = if tokens.take_sign("-") {
                Expr::Negative(Box::new(tokens.unary(false)?))
            } else if tokens.take_sign("+") {
                Expr::Positive(Box::new(tokens.unary(false)?))
            } else {
                tokens.primary()?
            };
            let value = tokens.postfix(value)?;
            if with_filter { tokens.filters(value) } else { Ok(value) }
        })
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let token = self.next();
        match token {
            Token::Name(name) => Ok(match &*name {
                "true" | "True" => Expr::Constant(Object::Bool(true)),
                "false" | "False" => Expr::Constant(Object::Bool(false)),
                "none" | "None" => Expr::Constant(Object::None),
                _ => Expr::Name(name),
            }),
            Token::Text(text) => {
                let mut text = text.to_string();
                while let Token::Text(more) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Ok(Expr::Constant(Object::str(text)))
            }
            Token::Integer(digits) => Ok(Expr::Constant(Token::integer(&digits))),
            Token::Float(float) => Ok(Expr::Constant(Object::Float(float))),
            Token::Sign("(") => {
                if self.take_sign(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple(true, None)?;
                self.need_sign(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.dict(),
            _ => {
                self.at -= 1;
                Err(self.unexpected("a value"))
            }
        }
    }

    fn list(&mut self) -> Outcome<Expr> {
        let mut items = Vec::new();
        while !self.take_sign("]") {
            if !items.is_empty() {
                self.need_sign(",")?;
                if self.take_sign("]") {
                    break;
                }
            }
            items.push(self.expression(true)?);
        }
        Ok(Expr::List(items))
    }

    fn dict(&mut self) -> Outcome<Expr> {
        let mut members = Vec::new();
        while !self.take_sign("}") {
            if !members.is_empty() {
                self.need_sign(",")?;
                if self.take_sign("}") {
                    break;
                }
            }
            let key = self.expression(true)?;
            self.need_sign(":")?;
            members.push((key, self.expression(true)?));
        }
        Ok(Expr::Dict(members))
    }

    pub fn postfix(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            if self.take_sign(".") {
                value = match self.next() {
                    Token::Name(name) => Expr::Attribute(Box::new(value), name),
                    Token::Integer(digits) => {
                        Expr::Item(Box::new(value), Box::new(Expr::Constant(Token::integer(&digits))))
                    }
                    _ => return Err(Fault::other("expected a name or a number after `.`")),
                };
            } else if self.take_sign("[") {
                value = self.subscript(value)?;
            } else if self.take_sign("(") {
                value = Expr::Call(Box::new(value), self.args()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn subscript(&mut self, value: Expr) -> Outcome<Expr> {
        let mut from = None;
        if !self.is_sign(":") {
            let index = self.expression(true)?;
            if self.is_sign(",") {
                let mut items = vec![index];
                while self.take_sign(",") {
                    items.push(self.expression(true)?);
                }
                self.need_sign("]")?;
                return Ok(Expr::Item(Box::new(value), Box::new(Expr::Tuple(items))));
            }
            if self.take_sign("]") {
                return Ok(Expr::Item(Box::new(value), Box::new(index)));
            }
            from = Some(Box::new(index));
        }
        self.need_sign(":")?;
        let mut bounds = [from, None, None];
        for bound in &mut bounds[1..] {
            if !self.is_sign(":") && !self.is_sign("]") {
                *bound = Some(Box::new(self.expression(true)?));
            }
            if !self.take_sign(":") {
                break;
            }
        }
        self.need_sign("]")?;
        Ok(Expr::Slice(Box::new(value), bounds))
    }

    /// After `(`, up to `)`.
    pub fn args(&mut self) -> Outcome<Args> {
        let mut args = Args::default();
        let mut first = true;
        while !self.take_sign(")") {
            if !first {
                self.need_sign(",")?;
                if self.take_sign(")") {
                    break;
                }
            }
            first = false;
            let named = matches!((self.peek(), self.after()), (Token::Name(_), Token::Sign("=")));
            if self.take_sign("**") {
                args.double_star = Some(Box::new(self.expression(true)?));
            } else if self.take_sign("*") {
                args.star = Some(Box::new(self.expression(true)?));
            } else if named {
                let name = self.need_name()?;
                self.need_sign("=")?;
                args.named.push((name, self.expression(true)?));
            } else if args.named.is_empty() && args.star.is_none() && args.double_star.is_none() {
                args.positional.push(self.expression(true)?);
            } else {
                return Err(Fault::other("an argument without a name follows one with a name"));
            }
        }
        Ok(args)
    }

    fn filters(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            if self.take_sign("|") {
                let (name, args) = self.filter()?;
                value = Expr::Filter(Some(Box::new(value)), name, args);
            } else if self.take_name("is") {
                value = self.test(value)?;
            } else if self.take_sign("(") {
                value = Expr::Call(Box::new(value), self.args()?);
            } else {
                return Ok(value);
            }
        }
    }

    /// A filter's name and arguments, after `|`.
    pub fn filter(&mut self) -> Outcome<(Rc<str>, Args)> {
        let name = self.dotted_name()?;
        if !super::filters::is_known(&name) {
            return Err(Fault::other(format!("there is no filter `{name}`")));
        }
        let args = if self.take_sign("(") { self.args()? } else { Args::default() };
        Ok((name, args))
    }

    /// `a | b | c` without the value at its front, for regions.
    pub fn filter_chain(&mut self) -> Outcome<Expr> {
        let (name, args) = self.filter()?;
        let mut chain = Expr::Filter(None, name, args);
        while self.take_sign("|") {
            let (name, args) = self.filter()?;
            chain = Expr::Filter(Some(Box::new(chain)), name, args);
        }
        Ok(chain)
    }

    fn dotted_name(&mut self) -> Outcome<Rc<str>> {
        let mut name = self.need_name()?;
        while self.take_sign(".") {
            name = format!("{name}.{}", self.need_name()?).into();
        }
        Ok(name)
    }

    fn test(&mut self, value: Expr) -> Outcome<Expr> {
        let negated = self.take_name("not");
        let name = self.dotted_name()?;
        if !super::checks::is_known(&name) {
            return Err(Fault::other(format!("there is no test `{name}`")));
        }
        let argument = match self.peek() {
            Token::Name(next) => !matches!(&**next, "else" | "or" | "and" | "if" | "is" | "in" | "not"),
            Token::Text(_) | Token::Integer(_) | Token::Float(_) | Token::Sign("[" | "{") => true,
            _ => false,
        };
        let args = if self.take_sign("(") {
            self.args()?
        } else if argument {
            let primary = self.primary()?;
            Args { positional: vec![self.postfix(primary)?], ..Args::default() }
        } else {
            Args::default()
        };
        let test = Expr::Test(Box::new(value), name, args);
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }
}
