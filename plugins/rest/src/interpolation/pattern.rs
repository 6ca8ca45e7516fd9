//! Python's regular expressions, by the crate `regex`: what that cannot do is refused with a sentence.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use regex::{Captures, Regex};

use crate::limits;

use super::{
    fault::{Fault, Outcome},
    object::Object,
    operators::within,
};

/// `regex_search`: the first group of the first match, or nothing.
///
/// # Errors
/// A type error for what is no text, and patterns that cannot be read.
pub fn search(value: &Object, pattern: &Object) -> Outcome<Object> {
    let (text, regex) = operands(value, pattern)?;
    let found = regex.captures(&text).filter(|captures| captures.len() > 1);
    Ok(match found {
        Some(captures) => captures.get(1).map_or(Object::None, |group| Object::str(group.as_str())),
        None => Object::str(""),
    })
}

/// `regex_replace`.
///
/// # Errors
/// A type error for what is no text, and patterns that cannot be read.
pub fn replace(value: &Object, pattern: &Object, replacement: &Object) -> Outcome<Object> {
    let (text, regex) = operands(value, pattern)?;
    let replacement = typed(replacement)?;
    let mut out = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(&text) {
        let whole = captures.get(0).expect("the whole match is always there");
        out.push_str(&text[end..whole.start()]);
        expand(&replacement, &captures, &mut out)?;
        within(out.len())?;
        end = whole.end();
    }
    out.push_str(&text[end..]);
    Ok(Object::str(out))
}

fn operands(value: &Object, pattern: &Object) -> Outcome<(std::sync::Arc<str>, Rc<Regex>)> {
    let pattern = typed(pattern)?;
    Ok((typed(value)?, compiled(&pattern)?))
}

/// Python's `re` raises a type error even for what is not there.
fn typed(object: &Object) -> Outcome<std::sync::Arc<str>> {
    match object {
        Object::Str(text) => Ok(text.clone()),
        _ => Err(Fault::type_error("expected string or bytes-like object")),
    }
}

/// Compiled once; patterns that templates compute do not add up.
pub fn compiled(pattern: &str) -> Outcome<Rc<Regex>> {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default();
    }
    if let Some(regex) = KNOWN.with_borrow(|known| known.get(pattern).cloned()) {
        return Ok(regex);
    }
    if pattern.len() > limits::MAX_PATTERN_BYTES {
        return Err(Fault::other(format!("a regular expression is longer than {} bytes", limits::MAX_PATTERN_BYTES)));
    }
    let translated = translate(pattern)?;
    let regex = regex::RegexBuilder::new(&translated)
        .size_limit(limits::MAX_PATTERN_MEMORY)
        .build()
        .map_err(|_| Fault::other(format!("the regular expression `{pattern}` cannot be used")))?;
    let regex = Rc::new(regex);
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= limits::MAX_PATTERNS {
            known.clear();
        }
        known.insert(pattern.to_owned(), Rc::clone(&regex));
    });
    Ok(regex)
}

/// From Python's syntax to that of the crate.
pub fn translate(pattern: &str) -> Outcome<String> {
    let refused = |what: &str| {
        Err(Fault::other(format!("the regular expression `{pattern}` uses {what}, which is not supported here")))
    };
    let mut out = String::with_capacity(pattern.len() + 8);
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    let mut in_class = false;
    while at < chars.len() {
        let c = chars[at];
        let rest = &chars[at + 1..];
        at += 1;
        match c {
            '\\' => {
                let Some(escaped) = rest.first() else { return refused("a backslash at its end") };
                if matches!(escaped, '1'..='9') && !in_class {
                    return refused("a reference to a group");
                }
                at += escape(rest, in_class, &mut out);
            }
            '[' if in_class => out.push_str("\\["),
            '[' => {
                in_class = true;
                out.push('[');
                let mut next = at;
                if chars.get(next) == Some(&'^') {
                    out.push('^');
                    next += 1;
                }
                // A bracket that stands first is itself.
                if chars.get(next) == Some(&']') {
                    out.push_str("\\]");
                    next += 1;
                }
                at = next;
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' | '-' if in_class && rest.first() == Some(&c) => {
                out.push('\\');
                out.push(c);
            }
            // Python's end of text leaves out a last line break.
            '$' if !in_class => out.push_str("(?:$|\\n\\z)"),
            '{' if !in_class && !quantifier(rest) => out.push_str("\\{"),
            '(' if !in_class && rest.first() == Some(&'?') => {
                match rest.get(1) {
                    Some('=' | '!') => return refused("look-ahead"),
                    Some('<') if matches!(rest.get(2), Some('=' | '!')) => return refused("look-behind"),
                    Some('>' | '(' | '#') => return refused("a special group"),
                    Some('P') if rest.get(2) == Some(&'=') => return refused("a reference to a group"),
                    _ => {}
                }
                out.push('(');
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// What follows a backslash; how many characters it is.
fn escape(rest: &[char], in_class: bool, out: &mut String) -> usize {
    match rest[0] {
        'Z' => out.push_str("\\z"),
        '0'..='7' => {
            let digits: String = rest.iter().take(3).take_while(|c| c.is_digit(8)).collect();
            out.push_str(&format!("\\x{{{:x}}}", u32::from_str_radix(&digits, 8).unwrap_or(0)));
            return digits.len();
        }
        '<' | '>' => out.push(rest[0]),
        'b' if in_class => out.push_str("\\x08"),
        other => {
            out.push('\\');
            out.push(other);
        }
    }
    1
}

/// `3}`, `3,}`, `,3}` or `3,4}`.
fn quantifier(rest: &[char]) -> bool {
    let Some(end) = rest.iter().position(|c| *c == '}') else { return false };
    let inside: String = rest[..end].iter().collect();
    let (from, to) = inside.split_once(',').unwrap_or((&inside, "0"));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    !from.is_empty() && digits(from) && digits(to)
}

/// `\1`, `\g<name>` and escapes of the replacement.
fn expand(replacement: &str, captures: &Captures<'_>, out: &mut String) -> Outcome<()> {
    let mut rest = replacement;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let Some(first) = escape.chars().next() else {
            return Err(Fault::other("the replacement of a regular expression ends with a backslash"));
        };
        let mut length = first.len_utf8();
        match first {
            '0'..='9' => {
                length = escape.bytes().take(2).take_while(u8::is_ascii_digit).count();
                group(captures, &escape[..length], out)?;
            }
            'g' => {
                let name = escape.strip_prefix("g<").and_then(|rest| rest.split_once('>'));
                let (name, _) = name.ok_or_else(|| Fault::other("a replacement has a broken `\\g<…>`"))?;
                length = name.len() + 3;
                group(captures, name, out)?;
            }
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '\\' => out.push('\\'),
            other if other.is_ascii_alphabetic() => return Err(Fault::other(format!("bad escape \\{other}"))),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        rest = &escape[length..];
    }
    out.push_str(rest);
    Ok(())
}

fn group(captures: &Captures<'_>, name: &str, out: &mut String) -> Outcome<()> {
    let unknown = || Fault::other(format!("a replacement refers to the group `{name}`, which is not there"));
    let found = match name.parse::<usize>() {
        Ok(number) if number < captures.len() => captures.get(number),
        Ok(_) => return Err(unknown()),
        Err(_) => captures.name(name),
    };
    out.push_str(found.map_or("", |group| group.as_str()));
    Ok(())
}
