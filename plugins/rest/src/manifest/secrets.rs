//! Secret settings that a template computes with: their values are placeholders here, so that a hash of one would be the
//! hash of a placeholder.
//!
//! Putting a secret into a request as it is works, because the host replaces the placeholder on the way out.

use std::{collections::HashMap, rc::Rc};

use super::{
    finding::Findings,
    template_values::setting,
    walk::{Text, Visitor, walk},
};
use crate::{
    interpolation::{
        operators::Operator,
        statements::parse,
        syntax::{Args, Expr, Statement, Target},
    },
    node::Node,
};

/// Secret settings whose values the manifest has to see, under `prefix`; each use is a note.
pub fn read(root: &Node<'_>, secrets: &[String], prefix: &str, findings: &mut Findings) -> Vec<String> {
    let mut reads = Vec::new();
    let declared = root.get("permissions").map(|permissions| permissions.items("reads_secrets")).unwrap_or_default();
    for node in &declared {
        let name = node.value.as_str().unwrap_or_default();
        if secrets.iter().any(|secret| secret == name) {
            reads.push(prefixed(prefix, name));
        } else {
            findings.error(node, format!("`{name}` is no secret setting of this manifest"));
        }
    }
    let mut reader = Reader { secrets, prefix, reads, told: Vec::new(), findings };
    walk(root, &mut reader);
    reader.reads
}

/// A setting's name where the manifest's configuration stands under `prefix`.
pub fn prefixed(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}

struct Reader<'a> {
    secrets: &'a [String],
    prefix: &'a str,
    reads: Vec<String>,
    told: Vec<(String, String)>,
    findings: &'a mut Findings,
}

impl Visitor for Reader<'_> {
    fn text(&mut self, text: &Text<'_>) {
        if !text.text.contains("config") || !(text.text.contains("{{") || text.text.contains("{%")) {
            return;
        }
        let Ok(body) = parse(text.text) else { return };
        let basic = text.text.trim_start().to_ascii_lowercase().starts_with("basic ");
        let mut look =
            Look { secrets: self.secrets, names: HashMap::new(), basic, uses: Vec::new(), shown: Vec::new() };
        look.body(&body);
        let (uses, shown) = (look.uses, look.shown);
        if PACING.contains(&text.component.kind()) {
            return self.paced(&text.node, &uses);
        }
        for (name, what) in uses {
            self.tell(&text.node, &name, &what);
        }
        if text.component.kind() == "AddedFieldDefinition" && text.node.path.contains("transformations") {
            let record = !text.node.path.contains("config_normalization_rules");
            for name in shown.into_iter().filter(|_| record) {
                let message = format!("the secret setting `{name}` is put into records, which hold a placeholder then");
                self.findings.warning(&text.node, message);
            }
        }
    }
}

/// Components that only say how fast to read: no reason to see a secret.
const PACING: [&str; 5] =
    ["ConcurrencyLevel", "Rate", "FixedWindowCallRatePolicy", "MovingWindowCallRatePolicy", "HttpRequestRegexMatcher"];

impl Reader<'_> {
    fn paced(&mut self, node: &Node<'_>, uses: &[(String, String)]) {
        for (name, _) in uses {
            let message =
                format!("how fast to read depends on the secret setting `{name}`, which looks like any other here");
            self.findings.note(node, message);
        }
    }

    fn tell(&mut self, node: &Node<'_>, name: &str, what: &str) {
        let setting = prefixed(self.prefix, name);
        if !self.reads.contains(&setting) {
            self.reads.push(setting);
        }
        let use_of = (name.to_owned(), what.to_owned());
        if !self.told.contains(&use_of) {
            let message = format!(
                "{what} computes with the secret setting `{name}`, so that the connector asks to see its value; put it \
                 into the request as it is, or use an authenticator, and it need not"
            );
            self.findings.note(node, message);
            self.told.push(use_of);
        }
    }
}

struct Look<'a> {
    secrets: &'a [String],
    /// What `set` and `for` gave names to: the secrets in it.
    names: HashMap<Rc<str>, Vec<String>>,
    /// The text is the credentials of `Basic`, which the host opens.
    basic: bool,
    /// Secrets that are computed with, and by what.
    uses: Vec<(String, String)>,
    /// Secrets that are put out as they are.
    shown: Vec<String>,
}

impl Look<'_> {
    fn body(&mut self, body: &[Statement]) {
        for statement in body {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Output(expr) => {
                let held = self.expr(expr);
                self.shown.extend(held);
            }
            Statement::If(branches, otherwise) => {
                for (condition, body) in branches {
                    self.expr(condition);
                    self.body(body);
                }
                self.body(otherwise);
            }
            Statement::For(each) => {
                let held = self.expr(&each.over);
                self.used(held, "a loop");
                if let Some(test) = &each.test {
                    self.expr(test);
                }
                self.body(&each.body);
                self.body(&each.otherwise);
            }
            Statement::Set(target, expr) => {
                let held = self.expr(expr);
                self.bind(target, held);
            }
            Statement::SetBlock(_, _, body) | Statement::Block(body) => self.body(body),
            Statement::With(bound, body) => {
                for (target, expr) in bound {
                    let held = self.expr(expr);
                    self.bind(target, held);
                }
                self.body(body);
            }
            Statement::FilterBlock(filter, body) => {
                self.expr(filter);
                let before = std::mem::take(&mut self.shown);
                self.body(body);
                let held = std::mem::replace(&mut self.shown, before);
                self.used(held, "a filter");
            }
            Statement::Text(_) | Statement::Macro(_) | Statement::CallBlock(..) => {}
        }
    }

    fn bind(&mut self, target: &Target, held: Vec<String>) {
        match target {
            Target::Name(name) => {
                self.names.insert(name.clone(), held);
            }
            _ => self.used(held, "an assignment"),
        }
    }

    fn used(&mut self, held: Vec<String>, what: &str) {
        for name in held {
            let found = (name, what.to_owned());
            if !self.uses.contains(&found) {
                self.uses.push(found);
            }
        }
    }

    /// The secrets that an expression hands on as they are; those it computes with are noted.
    fn expr(&mut self, expr: &Expr) -> Vec<String> {
        if let Some(path) = setting(expr) {
            let mut held: Vec<String> = self.secrets.iter().filter(|secret| names(secret, &path)).cloned().collect();
            if let Expr::Call(_, args) = expr {
                held.extend(args.positional.iter().skip(1).flat_map(|default| self.expr(default)).collect::<Vec<_>>());
            }
            return held;
        }
        match expr {
            Expr::Name(name) => self.names.get(name).cloned().unwrap_or_default(),
            Expr::List(parts) | Expr::Tuple(parts) | Expr::Concat(parts) => self.all(parts),
            Expr::Dict(members) => {
                let pairs = members.iter().flat_map(|(key, value)| [key, value]);
                pairs.flat_map(|part| self.expr(part)).collect()
            }
            // The condition asks whether there is one, which a placeholder answers as well.
            Expr::If(condition, then, otherwise) => {
                self.expr(condition);
                let mut held = self.expr(then);
                held.extend(otherwise.iter().flat_map(|otherwise| self.expr(otherwise)).collect::<Vec<_>>());
                held
            }
            Expr::Or(left, right) | Expr::And(left, right) => [self.expr(left), self.expr(right)].concat(),
            Expr::Binary(Operator::Add, left, right) => [self.expr(left), self.expr(right)].concat(),
            Expr::Binary(_, left, right) => {
                let held = [self.expr(left), self.expr(right)].concat();
                self.consumed(held, "arithmetic")
            }
            Expr::Not(of) => {
                self.expr(of);
                Vec::new()
            }
            Expr::Negative(of) | Expr::Positive(of) => {
                let held = self.expr(of);
                self.consumed(held, "arithmetic")
            }
            Expr::Compare(left, others) => {
                let mut held = self.expr(left);
                held.extend(others.iter().flat_map(|(_, right)| self.expr(right)).collect::<Vec<_>>());
                self.consumed(held, "a comparison")
            }
            Expr::Test(of, name, args) => self.test(of, name, args),
            Expr::Filter(of, name, args) => self.filter(of.as_deref(), name, args),
            Expr::Call(of, args) => self.call(of, args),
            Expr::Attribute(of, _) | Expr::Item(of, _) => self.expr(of),
            Expr::Slice(of, _) => {
                let held = self.expr(of);
                self.consumed(held, "a slice")
            }
            Expr::Constant(_) => Vec::new(),
        }
    }

    fn all(&mut self, parts: &[Expr]) -> Vec<String> {
        parts.iter().flat_map(|part| self.expr(part)).collect()
    }

    fn consumed(&mut self, held: Vec<String>, what: &str) -> Vec<String> {
        self.used(held, what);
        Vec::new()
    }

    fn args(&mut self, args: &Args) -> Vec<String> {
        let mut held = self.all(&args.positional);
        held.extend(args.named.iter().flat_map(|(_, arg)| self.expr(arg)).collect::<Vec<_>>());
        held
    }

    fn test(&mut self, of: &Expr, name: &str, args: &Args) -> Vec<String> {
        let held = [self.expr(of), self.args(args)].concat();
        let about_being_there = matches!(name, "defined" | "undefined" | "none" | "string" | "mapping" | "sequence");
        if about_being_there { Vec::new() } else { self.consumed(held, "a test") }
    }

    fn filter(&mut self, of: Option<&Expr>, name: &str, args: &Args) -> Vec<String> {
        let held = [of.map(|of| self.expr(of)).unwrap_or_default(), self.args(args)].concat();
        match name {
            "string" | "trim" | "default" | "d" | "safe" | "tojson" | "urlencode" | "join" | "list" => held,
            "base64encode" if self.basic => held,
            _ => self.consumed(held, &format!("the filter `{name}`")),
        }
    }

    fn call(&mut self, of: &Expr, args: &Args) -> Vec<String> {
        let given = self.args(args);
        let Expr::Attribute(of, method) = of else {
            return self.consumed(given, "a function");
        };
        let held = [self.expr(of), given].concat();
        match &**method {
            "get" | "format" | "join" | "strip" | "items" | "values" | "keys" | "append" | "update" => held,
            _ => self.consumed(held, &format!("the method `{method}`")),
        }
    }
}

/// Whether a secret is the setting of this path; `*` in a secret's name stands for any part.
fn names(secret: &str, path: &[String]) -> bool {
    let mut parts = secret.split('.');
    path.iter().all(|part| parts.next().is_some_and(|name| name == "*" || name == part)) && parts.next().is_none()
}
