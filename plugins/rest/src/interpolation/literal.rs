//! `ast.literal_eval`: what a rendered text is worth where it is a literal of Python.

use std::rc::Rc;

use indexmap::IndexMap;

use crate::limits;

use super::{
    containers::Dict,
    escapes::unescape,
    object::{Key, Object},
};

/// The literal's value; `None` where Python would raise what the reference catches, so that the text stays.
pub fn evaluate(text: &str) -> Option<Object> {
    let text = text.trim_start_matches([' ', '\t']);
    // Most texts are none, and their first character tells.
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || b"'\"([{+-.TFNbBrRuUs#\\\n\r\x0c".contains(&first)) || text.contains('\0') {
        return None;
    }
    let mut reader = Reader { text, at: 0, brackets: 0 };
    reader.blank_lines();
    // A line that is indented after an empty one is an error of indentation.
    if reader.rest().starts_with([' ', '\t']) {
        return None;
    }
    let value = reader.tuple(None)?;
    reader.space();
    reader.blank_lines();
    reader.space();
    reader.rest().is_empty().then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Open brackets: inside them lines do not end.
    brackets: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Spaces, continued lines, comments; inside brackets line ends as well.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let length =
                if rest.starts_with([' ', '\t', '\x0c']) || (self.brackets > 0 && rest.starts_with(['\n', '\r'])) {
                    1
                } else if rest.starts_with("\\\n") {
                    2
                } else if rest.starts_with("\\\r\n") {
                    3
                } else if rest.starts_with('#') {
                    rest.find(['\n', '\r']).unwrap_or(rest.len())
                } else {
                    return;
                };
            self.at += length;
        }
    }

    fn blank_lines(&mut self) {
        loop {
            let before = self.at;
            let rest = self.rest();
            let line = rest.trim_start_matches([' ', '\t', '\x0c']);
            let skipped = rest.len() - line.len();
            if line.starts_with(['\n', '\r']) {
                self.at += skipped + 1;
            } else if line.starts_with('#') {
                self.at += skipped + line.find(['\n', '\r']).unwrap_or(line.len());
            } else if line.is_empty() {
                self.at = self.text.len();
            }
            if self.at == before {
                return;
            }
        }
    }

    fn take(&mut self, sign: char) -> bool {
        self.space();
        let found = self.peek() == Some(sign);
        self.at += usize::from(found);
        found
    }

    /// One value, or several with commas, up to `close` or the end.
    fn tuple(&mut self, close: Option<char>) -> Option<Object> {
        let first = self.value()?;
        if !self.take(',') {
            return Some(first);
        }
        let mut items = vec![first];
        loop {
            self.space();
            let next = self.peek();
            if next.is_none() || next == close || (close.is_none() && matches!(next, Some('\n' | '\r'))) {
                return Some(Object::tuple(items));
            }
            items.push(self.value()?);
            if !self.take(',') {
                return Some(Object::tuple(items));
            }
        }
    }

    fn open(&mut self) -> Option<()> {
        self.at += 1;
        self.brackets += 1;
        (self.brackets < limits::MAX_LITERAL_DEPTH).then_some(())
    }

    fn close(&mut self, sign: char) -> Option<()> {
        let found = self.take(sign);
        self.brackets -= 1;
        found.then_some(())
    }

    fn value(&mut self) -> Option<Object> {
        self.space();
        match self.peek()? {
            '(' => self.parenthesized(),
            '[' => {
                self.open()?;
                let items = self.items(']')?;
                self.close(']')?;
                Some(Object::list(items))
            }
            '{' => self.braces(),
            '+' => {
                self.at += 1;
                self.number_operand()
            }
            '-' => {
                self.at += 1;
                super::operators::negate(&self.number_operand()?).ok()
            }
            '0'..='9' | '.' => self.number(),
            _ => self.word(),
        }
    }

    /// What may stand behind a sign.
    fn number_operand(&mut self) -> Option<Object> {
        let value = self.value_without_sign()?;
        matches!(value, Object::Int(_) | Object::Float(_)).then_some(value)
    }

    fn value_without_sign(&mut self) -> Option<Object> {
        self.space();
        match self.peek()? {
            '(' => {
                self.open()?;
                let value = self.value_without_sign()?;
                self.close(')')?;
                Some(value)
            }
            '0'..='9' | '.' => self.number(),
            _ => None,
        }
    }

    fn parenthesized(&mut self) -> Option<Object> {
        self.open()?;
        self.space();
        let value = if self.peek() == Some(')') { Object::tuple(Vec::new()) } else { self.tuple(Some(')'))? };
        self.close(')')?;
        Some(value)
    }

    fn items(&mut self, close: char) -> Option<Vec<Object>> {
        let mut items = Vec::new();
        loop {
            self.space();
            if self.peek()? == close {
                return Some(items);
            }
            items.push(self.value()?);
            if !self.take(',') {
                return Some(items);
            }
        }
    }

    /// An object or a set.
    fn braces(&mut self) -> Option<Object> {
        self.open()?;
        self.space();
        if self.peek()? == '}' {
            self.close('}')?;
            return Some(Object::Dict(Dict::own(IndexMap::new())));
        }
        let first = self.value()?;
        if !self.take(':') {
            let mut items = IndexMap::from([(Key::new(first).ok()?, ())]);
            if self.take(',') {
                for item in self.items('}')? {
                    items.insert(Key::new(item).ok()?, ());
                }
            }
            self.close('}')?;
            return Some(Object::Set(Rc::new(items.keys().map(|key| key.object().clone()).collect())));
        }
        let mut map = IndexMap::from([(Key::new(first).ok()?, self.value()?)]);
        while self.take(',') {
            self.space();
            if self.peek()? == '}' {
                break;
            }
            let key = Key::new(self.value()?).ok()?;
            if !self.take(':') {
                return None;
            }
            map.insert(key, self.value()?);
        }
        self.close('}')?;
        Some(Object::Dict(Dict::own(map)))
    }

    fn number(&mut self) -> Option<Object> {
        let rest = self.rest();
        let dotted = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_') || !c.is_ascii();
        let mut end = rest.find(|c: char| !dotted(c)).unwrap_or(rest.len());
        // The sign of an exponent.
        let decimal = !rest[..end].to_ascii_lowercase().starts_with("0x");
        if decimal && rest[..end].ends_with(['e', 'E']) && rest[end..].starts_with(['+', '-']) {
            let digits = rest[end + 1..].find(|c: char| !dotted(c)).unwrap_or(rest.len() - end - 1);
            end += 1 + digits;
        }
        let value = number_literal(&rest[..end])?;
        self.at += end;
        Some(value)
    }

    /// `True`, `None`, `set()`, or texts that stand side by side.
    fn word(&mut self) -> Option<Object> {
        let rest = self.rest();
        for (name, value) in [("True", Object::Bool(true)), ("False", Object::Bool(false)), ("None", Object::None)] {
            if let Some(after) = rest.strip_prefix(name)
                && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == '\'')
            {
                self.at += name.len();
                return Some(value);
            }
        }
        if rest.starts_with("set") {
            self.at += 3;
            let called = self.take('(') && self.take(')');
            return called.then(|| Object::Set(Rc::new(Vec::new())));
        }
        let mut whole = self.text_literal()?;
        loop {
            self.space();
            if !self.rest().starts_with(['\'', '"', 'b', 'B', 'r', 'R', 'u', 'U']) {
                return Some(whole);
            }
            whole = super::operators::apply(super::operators::Operator::Add, &whole, &self.text_literal()?).ok()?;
        }
    }

    /// One text or bytes literal.
    fn text_literal(&mut self) -> Option<Object> {
        let rest = self.rest();
        let start = rest.find(['\'', '"'])?;
        let prefix = rest[..start].to_ascii_lowercase();
        let (raw, bytes) = match &*prefix {
            "" | "u" => (false, false),
            "r" => (true, false),
            "b" => (false, true),
            "rb" | "br" => (true, true),
            _ => return None,
        };
        let body = &rest[start..];
        let quote = &body[..1];
        let triple = quote.repeat(3);
        let mark = if body.starts_with(&triple) { triple.as_str() } else { quote };
        let inner = &body[mark.len()..];
        let end = closing(inner, mark)?;
        let text = inner[..end].replace("\r\n", "\n").replace('\r', "\n");
        self.at += start + 2 * mark.len() + end;
        let text = if raw { text } else { unescape(&text)? };
        if !bytes {
            return Some(Object::str(text));
        }
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>()?;
        Some(Object::Bytes(bytes.into()))
    }
}

/// Where a text ends; one line only unless its mark is triple.
fn closing(inner: &str, mark: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if inner[at..].starts_with(mark) {
            return Some(at);
        } else if mark.len() == 1 && matches!(c, '\n' | '\r') {
            return None;
        }
    }
    None
}

/// Digits with single `_` between them.
fn plain_digits(text: &str, radix: u32) -> Option<String> {
    let good = !text.is_empty()
        && text.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii() && c.is_digit(radix)));
    good.then(|| text.replace('_', ""))
}

/// An integer or a float as Python's source has it.
fn number_literal(text: &str) -> Option<Object> {
    let lower = text.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            let digits = plain_digits(digits.strip_prefix('_').unwrap_or(digits), radix)?;
            return i128::from_str_radix(&digits, radix).ok().map(Object::Int);
        }
    }
    if let Some(digits) = plain_digits(&lower, 10) {
        let bare = digits.trim_start_matches('0');
        // Python takes zeros in front only of zero, and limits the digits.
        let good = (bare.len() == digits.len() || bare.is_empty()) && digits.len() <= limits::MAX_INTEGER_DIGITS;
        return good.then(|| Object::from_digits(if bare.is_empty() { "0" } else { bare }));
    }
    decimal(&lower).map(Object::Float)
}

/// `1.`, `.5`, `1e5`, `1_0.5e-3`.
fn decimal(lower: &str) -> Option<f64> {
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (lower, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None if exponent.is_some() => (mantissa, ""),
        None => return None,
    };
    let part = |digits: &str| if digits.is_empty() { Some(String::new()) } else { plain_digits(digits, 10) };
    let (whole, fraction) = (part(whole)?, part(fraction)?);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match exponent {
        Some(exponent) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let sign = if exponent.starts_with('-') { "-" } else { "" };
            format!("e{sign}{}", plain_digits(digits, 10)?)
        }
        None => String::new(),
    };
    format!("{whole}.{fraction}0{exponent}").parse().ok()
}

/// Python's `int(text, base)`.
pub fn int_of(text: &str, base: u32) -> Option<Object> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    if base == 10 {
        let digits = plain_digits(digits, 10)?;
        let bare = digits.trim_start_matches('0');
        let bare = if bare.is_empty() { "0" } else { bare };
        return (digits.len() <= limits::MAX_INTEGER_DIGITS).then(|| Object::from_digits(&format!("{sign}{bare}")));
    }
    if !(2..=36).contains(&base) {
        return None;
    }
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let lower = digits.to_ascii_lowercase();
    let digits = plain_digits(lower.strip_prefix(prefix).unwrap_or(&lower), base)?;
    i128::from_str_radix(&format!("{sign}{digits}"), base).ok().map(Object::Int)
}

/// Python's `float(text)`.
pub fn float_of(text: &str) -> Option<f64> {
    let text = text.trim();
    let body = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match &*body {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let value = match plain_digits(&body, 10) {
        Some(digits) => digits.parse().ok()?,
        None => decimal(&body)?,
    };
    Some(sign * value)
}
