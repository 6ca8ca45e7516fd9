//! From a template's text to pieces: plain text, and the tokens of its tags. Knows no grammar.

use std::rc::Rc;

use super::{
    escapes::unescape,
    fault::{Fault, Outcome},
    object::Object,
};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Name(Rc<str>),
    Text(Rc<str>),
    Integer(Rc<str>),
    Float(f64),
    Sign(&'static str),
    End,
}

#[derive(Debug)]
pub enum Piece {
    Text(String),
    /// `{{ … }}`
    Output(Vec<Token>),
    /// `{% … %}`
    Block(Vec<Token>),
}

impl Token {
    pub fn integer(digits: &str) -> Object {
        Object::from_digits(digits)
    }
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",",
];

/// # Errors
/// Where a tag is left open or holds what is no token.
pub fn pieces(source: &str) -> Outcome<Vec<Piece>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    // The last line's end is not part of the template.
    let mut rest = source.strip_suffix('\n').unwrap_or(&source);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let start = ["{{", "{%", "{#"].iter().filter_map(|mark| rest.find(mark)).min();
        let Some(start) = start else {
            pieces.push(Piece::Text(rest.to_owned()));
            break;
        };
        let (text, tag) = rest.split_at(start);
        let control = tag[2..].chars().next();
        let text = if control == Some('-') { text.trim_end() } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let skip = 2 + usize::from(matches!(control, Some('-' | '+')));
        rest = match &tag[..2] {
            "{#" => comment(&tag[2..])?,
            "{%" => match raw(&tag[skip..])? {
                Some((text, after)) => {
                    pieces.push(Piece::Text(text.to_owned()));
                    after
                }
                None => {
                    let (tokens, after) = tokens(&tag[skip..], "%}")?;
                    pieces.push(Piece::Block(tokens));
                    after
                }
            },
            _ => {
                let (tokens, after) = tokens(&tag[skip..], "}}")?;
                pieces.push(Piece::Output(tokens));
                after
            }
        };
    }
    Ok(pieces)
}

fn comment(text: &str) -> Outcome<&str> {
    let end = text.find("#}").ok_or_else(|| Fault::other("a comment is not closed by `#}`"))?;
    Ok(after_close(&text[..end], &text[end + 2..]))
}

/// What follows a tag: a `-` before its end takes the white space after it.
fn after_close<'a>(inside: &str, after: &'a str) -> &'a str {
    if inside.ends_with('-') { after.trim_start() } else { after }
}

/// `{% raw %}`: its text, and what follows its end; `tag` begins inside the braces.
fn raw(tag: &str) -> Outcome<Option<(&str, &str)>> {
    let opened = tag.trim_start().strip_prefix("raw").map(str::trim_start);
    let body = match opened {
        Some(text) if text.starts_with("-%}") => text[3..].trim_start(),
        Some(text) if text.starts_with("%}") => &text[2..],
        _ => return Ok(None),
    };
    let mut from = 0;
    while let Some(at) = body[from..].find("{%").map(|at| at + from) {
        let tag = &body[at + 2..];
        let strip = tag.starts_with('-');
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        if let Some(end) = inner.strip_prefix("endraw").map(str::trim_start) {
            let text = if strip { body[..at].trim_end() } else { &body[..at] };
            if let Some(after) = end.strip_prefix("-%}") {
                return Ok(Some((text, after.trim_start())));
            }
            if let Some(after) = end.strip_prefix("%}").or_else(|| end.strip_prefix("+%}")) {
                return Ok(Some((text, after)));
            }
        }
        from = at + 2;
    }
    Err(Fault::other("a `raw` region is not closed by `endraw`"))
}

/// Tokens up to `close`, and what follows it.
fn tokens<'a>(text: &'a str, close: &str) -> Outcome<(Vec<Token>, &'a str)> {
    let mut tokens = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if open.is_empty() {
            for mark in ["-", "+", ""] {
                let allowed = mark != "+" || close == "%}";
                if let Some(after) =
                    rest.strip_prefix(mark).and_then(|rest| rest.strip_prefix(close)).filter(|_| allowed)
                {
                    return Ok((tokens, after_close(mark, after)));
                }
            }
        }
        let (token, length) = token(rest, tokens.last())?;
        if let Token::Sign(sign) = token {
            match sign {
                "(" => open.push(")"),
                "[" => open.push("]"),
                "{" => open.push("}"),
                ")" | "]" | "}" if open.pop() != Some(sign) => {
                    return Err(Fault::other(format!("unexpected `{sign}`")));
                }
                _ => {}
            }
        }
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
}

fn token(text: &str, before: Option<&Token>) -> Outcome<(Token, usize)> {
    let Some(first) = text.chars().next() else { return Err(Fault::other("a tag is not closed")) };
    if first.is_ascii_digit() {
        let after_dot = matches!(before, Some(Token::Sign(".")));
        return number(text, after_dot);
    }
    if first.is_alphabetic() || first == '_' {
        let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        return Ok((Token::Name(text[..length].into()), length));
    }
    if first == '"' || first == '\'' {
        return quoted(text, first);
    }
    match SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None => Err(Fault::other(format!("unexpected character `{first}`"))),
    }
}

fn quoted(text: &str, quote: char) -> Outcome<(Token, usize)> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            let text = unescape(&text[1..at]).ok_or_else(|| Fault::other("a text has a broken escape"))?;
            return Ok((Token::Text(text.into()), at + 1));
        }
    }
    Err(Fault::other("a text is not closed"))
}

fn number(text: &str, after_dot: bool) -> Outcome<(Token, usize)> {
    let lower = text.get(..2).unwrap_or_default().to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let length = 2 + digits(&text[lower.len().min(2)..], radix);
        if lower == prefix && length > 2 {
            let value = i128::from_str_radix(&text[2..length].replace('_', ""), radix);
            let value = value.map_err(|_| Fault::other("a number is too large"))?;
            return Ok((Token::Integer(value.to_string().into()), length));
        }
    }
    let whole = digits(text, 10);
    let mut end = whole;
    if !after_dot {
        if text[end..].starts_with('.') && digits(&text[end + 1..], 10) > 0 {
            end += 1 + digits(&text[end + 1..], 10);
        }
        if text[end..].starts_with(['e', 'E']) {
            let signed = 1 + usize::from(text[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&text[end + signed..], 10);
            end += if exponent > 0 { signed + exponent } else { 0 };
        }
    }
    if end > whole {
        let value = text[..end].replace('_', "").parse().map_err(|_| Fault::other("a number cannot be read"))?;
        return Ok((Token::Float(value), end));
    }
    // A leading zero stands alone.
    let length = if text.starts_with('0') {
        text.bytes().take(whole).take_while(|byte| matches!(byte, b'0' | b'_')).count()
    } else {
        whole
    };
    Ok((Token::Integer(text[..length].replace('_', "").trim_start_matches('0').into()).or_zero(), length))
}

impl Token {
    fn or_zero(self) -> Self {
        match self {
            Self::Integer(digits) if digits.is_empty() => Self::Integer("0".into()),
            other => other,
        }
    }
}

/// How many characters at the start are digits, with single `_` between them.
fn digits(text: &str, radix: u32) -> usize {
    let mut length = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let digit_follows = chars.peek().is_some_and(|(_, next)| next.is_digit(radix));
        if c.is_digit(radix) || (c == '_' && at > 0 && digit_follows) {
            length = at + 1;
        } else {
            break;
        }
    }
    length
}
