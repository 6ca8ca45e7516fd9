//! Statements of templates: what stands in `{% … %}`. Expressions are [`super::parser`].

use std::{rc::Rc, vec};

use crate::limits;

use super::{
    fault::{Fault, Outcome},
    lexer::{Piece, Token, pieces},
    parser::Tokens,
    syntax::{Args, Expr, For, Macro, Statement, Target},
};

/// # Errors
/// Where the template is no Jinja, or uses a part of it that is not supported.
pub fn parse(source: &str) -> Outcome<Vec<Statement>> {
    let mut parser = Parser { pieces: pieces(source)?.into_iter(), depth: 0 };
    let (body, end) = parser.body(&[])?;
    match end {
        None => Ok(body),
        Some((name, _)) => Err(Fault::other(format!("unexpected `{name}`"))),
    }
}

struct Parser {
    pieces: vec::IntoIter<Piece>,
    depth: usize,
}

/// The tag that ended a body: its name and what follows the name.
type EndTag = Option<(Rc<str>, Tokens)>;

impl Parser {
    /// Statements up to a tag of `ends`, or to the template's end where there are none.
    fn body(&mut self, ends: &[&str]) -> Outcome<(Vec<Statement>, EndTag)> {
        if self.depth >= limits::MAX_TEMPLATE_DEPTH {
            return Err(Fault::other(format!("statements are nested deeper than {}", limits::MAX_TEMPLATE_DEPTH)));
        }
        self.depth += 1;
        let mut body = Vec::new();
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Text(text) => body.push(Statement::Text(text.into())),
                Piece::Output(tokens) => {
                    let mut tokens = Tokens::new(tokens);
                    body.push(Statement::Output(tokens.tuple(true, None)?));
                    tokens.end()?;
                }
                Piece::Block(tokens) => {
                    let mut tokens = Tokens::new(tokens);
                    let name = tokens.need_name()?;
                    if ends.contains(&&*name) {
                        self.depth -= 1;
                        return Ok((body, Some((name, tokens))));
                    }
                    body.push(self.statement(&name, &mut tokens)?);
                }
            }
        }
        if !ends.is_empty() {
            return Err(Fault::other(format!("the template ends before `{}`", ends.join("` or `"))));
        }
        self.depth -= 1;
        Ok((body, None))
    }

    /// Statements up to the tag `end`, which holds nothing else.
    fn until(&mut self, end: &str) -> Outcome<Vec<Statement>> {
        let (body, tag) = self.body(&[end])?;
        let (_, mut rest) = tag.expect("a body with ends has one");
        // `endblock` and `endmacro` may repeat the name.
        if matches!(end, "endblock" | "endmacro") && matches!(rest.peek(), Token::Name(_)) {
            rest.next();
        }
        rest.end()?;
        Ok(body)
    }

    fn statement(&mut self, name: &str, tokens: &mut Tokens) -> Outcome<Statement> {
        let statement = match name {
            "if" => return self.condition(tokens),
            "for" => return self.repeat(tokens),
            "set" => return self.set(tokens),
            "print" => Statement::Output(tokens.tuple(true, None)?),
            "with" => {
                let mut values = Vec::new();
                while *tokens.peek() != Token::End && !tokens.is_sign(":") {
                    if !values.is_empty() {
                        tokens.need_sign(",")?;
                    }
                    let target = target(tokens)?;
                    tokens.need_sign("=")?;
                    values.push((target, tokens.expression(true)?));
                }
                tokens.end_of_opening()?;
                Statement::With(values, self.until("endwith")?)
            }
            "macro" => {
                let name = tokens.need_name()?;
                tokens.need_sign("(")?;
                let parameters = parameters(tokens)?;
                tokens.end_of_opening()?;
                Statement::Macro(Rc::new(Macro { name, parameters, body: self.until("endmacro")? }))
            }
            "call" => {
                let parameters = if tokens.take_sign("(") { parameters(tokens)? } else { Vec::new() };
                let call = tokens.expression(true)?;
                tokens.end_of_opening()?;
                let code = Macro { name: "caller".into(), parameters, body: self.until("endcall")? };
                Statement::CallBlock(Rc::new(code), call)
            }
            "filter" => {
                let chain = tokens.filter_chain()?;
                tokens.end_of_opening()?;
                Statement::FilterBlock(chain, self.until("endfilter")?)
            }
            "block" => {
                tokens.need_name()?;
                Statement::Block(self.until("endblock")?)
            }
            "autoescape" | "include" | "import" | "from" | "extends" => {
                return Err(Fault::other(format!("`{name}` is not supported in manifests")));
            }
            _ => return Err(Fault::other(format!("unknown tag `{name}`"))),
        };
        tokens.end()?;
        Ok(statement)
    }

    fn condition(&mut self, tokens: &mut Tokens) -> Outcome<Statement> {
        let mut branches = Vec::new();
        let mut condition = tokens.tuple(false, None)?;
        tokens.end_of_opening()?;
        loop {
            let (body, tag) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            let (name, mut rest) = tag.expect("a body with ends has one");
            match &*name {
                "elif" => {
                    condition = rest.tuple(false, None)?;
                    rest.end_of_opening()?;
                }
                "else" => {
                    rest.end_of_opening()?;
                    return Ok(Statement::If(branches, self.until("endif")?));
                }
                _ => {
                    rest.end()?;
                    return Ok(Statement::If(branches, Vec::new()));
                }
            }
        }
    }

    fn repeat(&mut self, tokens: &mut Tokens) -> Outcome<Statement> {
        let target = target(tokens)?;
        if !tokens.take_name("in") {
            return Err(tokens.unexpected("`in`"));
        }
        let over = tokens.tuple(false, Some("recursive"))?;
        let test = if tokens.take_name("if") { Some(tokens.expression(true)?) } else { None };
        if tokens.take_name("recursive") {
            return Err(Fault::other("recursive loops are not supported in manifests"));
        }
        tokens.end_of_opening()?;
        let (body, tag) = self.body(&["endfor", "else"])?;
        let (name, mut rest) = tag.expect("a body with ends has one");
        if &*name == "else" {
            rest.end_of_opening()?;
        }
        rest.end()?;
        let otherwise = if &*name == "else" { self.until("endfor")? } else { Vec::new() };
        Ok(Statement::For(Rc::new(For { target, over, test, body, otherwise })))
    }

    fn set(&mut self, tokens: &mut Tokens) -> Outcome<Statement> {
        let target = target(tokens)?;
        if tokens.take_sign("=") {
            let value = tokens.tuple(true, None)?;
            tokens.end()?;
            return Ok(Statement::Set(target, value));
        }
        let filters = if tokens.take_sign("|") { Some(tokens.filter_chain()?) } else { None };
        tokens.end()?;
        Ok(Statement::SetBlock(target, filters, self.until("endset")?))
    }
}

/// `a`, `a.b`, `a, b` or `(a, b)`.
fn target(tokens: &mut Tokens) -> Outcome<Target> {
    let first = one_target(tokens)?;
    if !tokens.is_sign(",") {
        return Ok(first);
    }
    let mut targets = vec![first];
    while tokens.take_sign(",") {
        if !matches!(tokens.peek(), Token::Name(_) | Token::Sign("(")) || tokens.is_name("in") {
            break;
        }
        targets.push(one_target(tokens)?);
    }
    Ok(Target::Tuple(targets))
}

fn one_target(tokens: &mut Tokens) -> Outcome<Target> {
    if tokens.take_sign("(") {
        let inner = tokens.targets_in_parentheses()?;
        return Ok(inner);
    }
    let name = tokens.need_name()?;
    if matches!(&*name, "true" | "True" | "false" | "False" | "none" | "None") {
        return Err(Fault::other(format!("`{name}` cannot be set")));
    }
    if tokens.take_sign(".") {
        return Ok(Target::Member(name, tokens.need_name()?));
    }
    Ok(Target::Name(name))
}

impl Tokens {
    fn targets_in_parentheses(&mut self) -> Outcome<Target> {
        let mut names = Vec::new();
        while !self.take_sign(")") {
            if !names.is_empty() {
                self.need_sign(",")?;
            }
            names.push(Target::Name(self.need_name()?));
        }
        Ok(Target::Tuple(names))
    }
}

/// Of a macro, after `(`.
fn parameters(tokens: &mut Tokens) -> Outcome<Vec<(Rc<str>, Option<Expr>)>> {
    let mut parameters = Vec::new();
    while !tokens.take_sign(")") {
        if !parameters.is_empty() {
            tokens.need_sign(",")?;
        }
        let name = tokens.need_name()?;
        let default = if tokens.take_sign("=") { Some(tokens.expression(true)?) } else { None };
        parameters.push((name, default));
    }
    Ok(parameters)
}

/// Every expression of a list of arguments.
pub fn all_args(args: &Args) -> impl Iterator<Item = &Expr> {
    let named = args.named.iter().map(|(_, value)| value);
    args.positional.iter().chain(named).chain(args.star.as_deref()).chain(args.double_star.as_deref())
}
