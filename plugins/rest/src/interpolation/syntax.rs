//! A template as the parser leaves it.

use std::rc::Rc;

use super::{object::Object, operators::Operator};

#[derive(Debug, Clone)]
pub enum Expr {
    Constant(Object),
    Name(Rc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Rc<str>),
    Item(Box<Expr>, Box<Expr>),
    /// From, to, step.
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Args),
    /// Without a first expression inside `{% filter %}`.
    Filter(Option<Box<Expr>>, Rc<str>, Args),
    Test(Box<Expr>, Rc<str>, Args),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Concat(Vec<Expr>),
    /// Condition, then, else.
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Debug, Clone, Default)]
pub struct Args {
    pub positional: Vec<Expr>,
    pub named: Vec<(Rc<str>, Expr)>,
    pub star: Option<Box<Expr>>,
    pub double_star: Option<Box<Expr>>,
}

/// Where a value is put.
#[derive(Debug, Clone)]
pub enum Target {
    Name(Rc<str>),
    /// Of a `namespace`.
    Member(Rc<str>, Rc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug, Clone)]
pub struct For {
    pub target: Target,
    pub over: Expr,
    pub test: Option<Expr>,
    pub body: Vec<Statement>,
    pub otherwise: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub struct Macro {
    pub name: Rc<str>,
    pub parameters: Vec<(Rc<str>, Option<Expr>)>,
    pub body: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub enum Statement {
    Text(Rc<str>),
    Output(Expr),
    /// Conditions with what each leads to, and what is left otherwise.
    If(Vec<(Expr, Vec<Statement>)>, Vec<Statement>),
    For(Rc<For>),
    Set(Target, Expr),
    /// With the filters that the text goes through.
    SetBlock(Target, Option<Expr>, Vec<Statement>),
    With(Vec<(Target, Expr)>, Vec<Statement>),
    Macro(Rc<Macro>),
    CallBlock(Rc<Macro>, Expr),
    FilterBlock(Expr, Vec<Statement>),
    /// A region with names of its own.
    Block(Vec<Statement>),
}
