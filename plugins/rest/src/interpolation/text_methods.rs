//! Methods of Python's `str` (and the few of `bytes` that text leads to).

use std::{rc::Rc, sync::Arc};

use super::{
    fault::{Fault, Outcome},
    formatting,
    machine::Arguments,
    object::Object,
    operators::within,
    show,
};

pub const NAMES: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "decode",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "hex",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// # Errors
/// What Python would raise.
pub fn call(text: &Arc<str>, name: &str, args: Arguments) -> Outcome<Object> {
    match name {
        "format" => return formatting::format(text, &args).map(Object::str),
        "lower" | "casefold" => return Ok(Object::str(text.to_lowercase())),
        "upper" => return Ok(Object::str(text.to_uppercase())),
        "title" => return Ok(Object::str(title(text))),
        "capitalize" => return Ok(Object::str(capitalize(text))),
        "swapcase" => return Ok(Object::str(swapcase(text))),
        "split" | "rsplit" => return split(text, name, args),
        "splitlines" => return Ok(Object::list(text.lines().map(Object::str).collect())),
        "join" => return join(text, args),
        "encode" => return Ok(Object::Bytes(text.as_bytes().into())),
        "replace" => return replace(text, args),
        "strip" | "lstrip" | "rstrip" => return strip(text, name, args),
        "startswith" | "endswith" => return begins(text, name, args),
        "find" | "rfind" | "index" | "rindex" | "count" => return find(text, name, args),
        "partition" | "rpartition" => return partition(text, name, args),
        "center" | "ljust" | "rjust" => return pad(text, name, args),
        _ => {}
    }
    if let Some(answer) = question(text, name) {
        return Ok(Object::Bool(answer));
    }
    match name {
        "zfill" => {
            let [width] = args.exactly(name, ["width"])?;
            Ok(Object::str(zfill(text, width_of(&width)?)))
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.exactly(name, ["part"])?;
            let part = part.need_text("removeprefix needs text")?;
            let rest = if name == "removeprefix" { text.strip_prefix(&*part) } else { text.strip_suffix(&*part) };
            Ok(Object::str(rest.unwrap_or(text)))
        }
        "expandtabs" => Ok(Object::str(text.replace('\t', "        "))),
        _ => Err(Fault::other(format!("the method `{name}` of texts is not supported"))),
    }
}

/// # Errors
/// What Python would raise.
pub fn call_bytes(bytes: &Rc<[u8]>, name: &str, args: Arguments) -> Outcome<Object> {
    match name {
        "decode" => {
            args.bind(name, &["encoding", "errors"])?;
            let text = std::str::from_utf8(bytes).map_err(|_| Fault::other("the bytes are not UTF-8"))?;
            Ok(Object::str(text))
        }
        "hex" => Ok(Object::str(hex::encode(bytes))),
        _ => Err(Fault::other(format!("the method `{name}` of bytes is not supported"))),
    }
}

fn question(text: &str, name: &str) -> Option<bool> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Some(match name {
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(char::is_whitespace),
        "isascii" => text.is_ascii(),
        "islower" => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        "istitle" => text.chars().any(char::is_alphabetic) && title(text) == text,
        "isprintable" => !text.chars().any(char::is_control),
        "isidentifier" => !text.starts_with(|c: char| c.is_numeric()) && all(|c| c.is_alphanumeric() || c == '_'),
        _ => return None,
    })
}

/// `str.title`: a letter after none is a capital.
pub fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

fn swapcase(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
    }
    out
}

fn zfill(text: &str, width: usize) -> String {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let missing = width.saturating_sub(text.chars().count());
    format!("{sign}{}{digits}", "0".repeat(missing))
}

/// # Errors
/// A type error, and widths beyond the limit.
pub fn width_of(object: &Object) -> Outcome<usize> {
    let width = usize::try_from(object.need_int("a width has to be an integer")?.max(0)).unwrap_or(usize::MAX);
    within(width)?;
    Ok(width)
}

fn pad(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind(name, &["width", "fillchar"])?;
    let width = width_of(bound[0].as_ref().unwrap_or(&Object::None))?;
    let fill = match &bound[1] {
        Some(fill) => fill.need_text("the fill character must be a text")?,
        None => Arc::from(" "),
    };
    let missing = width.saturating_sub(text.chars().count());
    let left = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Python puts the odd one to the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(Object::str(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))))
}

fn limit_of(object: Option<&Object>) -> Outcome<Option<usize>> {
    let Some(object) = object else { return Ok(None) };
    let count = object.need_int("a count has to be an integer")?;
    Ok(usize::try_from(count).ok())
}

fn split(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind(name, &["sep", "maxsplit"])?;
    let most = limit_of(bound[1].as_ref())?;
    let parts: Vec<Object> = match bound[0].as_ref().filter(|separator| !matches!(separator, Object::None)) {
        Some(separator) => {
            let separator = separator.need_text("must be str or None")?;
            if separator.is_empty() {
                return Err(Fault::other("empty separator"));
            }
            match (most, name) {
                (None, _) => text.split(&*separator).map(Object::str).collect(),
                (Some(most), "split") => text.splitn(most.saturating_add(1), &*separator).map(Object::str).collect(),
                (Some(most), _) => {
                    let mut parts: Vec<Object> =
                        text.rsplitn(most.saturating_add(1), &*separator).map(Object::str).collect();
                    parts.reverse();
                    parts
                }
            }
        }
        None => words(text, most, name == "rsplit"),
    };
    Ok(Object::list(parts))
}

/// Parts between white space.
fn words(text: &str, most: Option<usize>, from_end: bool) -> Vec<Object> {
    let Some(most) = most else { return text.split_whitespace().map(Object::str).collect() };
    let mut parts = Vec::new();
    // White space at the far end stays with the last part.
    let mut rest = if from_end { text.trim_end() } else { text.trim_start() };
    while !rest.is_empty() && parts.len() < most {
        let at = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        let Some(at) = at else { break };
        let (before, after) = rest.split_at(at);
        if from_end {
            parts.push(Object::str(&after[after.chars().next().map_or(0, char::len_utf8)..]));
            rest = before.trim_end();
        } else {
            parts.push(Object::str(before));
            rest = after.trim_start();
        }
    }
    if !rest.is_empty() {
        parts.push(Object::str(rest));
    }
    if from_end {
        parts.reverse();
    }
    parts
}

fn join(separator: &str, args: Arguments) -> Outcome<Object> {
    let [items] = args.exactly("join", ["iterable"])?;
    if items.is_undefined() {
        return Ok(Object::str(""));
    }
    let mut out = String::new();
    for (at, item) in items.items()?.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        let Object::Str(text) = item else {
            return Err(Fault::type_error(format!(
                "sequence item {at}: expected str instance, {} found",
                item.type_name()
            )));
        };
        out.push_str(text);
        within(out.len())?;
    }
    Ok(Object::str(out))
}

fn replace(text: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("replace", &["old", "new", "count"])?;
    let part = |at: usize| match &bound[at] {
        Some(object) => object.need_text("replace() argument must be str"),
        None => Err(Fault::type_error("replace expected at least 2 arguments")),
    };
    let (old, new) = (part(0)?, part(1)?);
    let most = limit_of(bound[2].as_ref())?;
    Ok(Object::str(replaced(text, &old, &new, most)?))
}

/// # Errors
/// Results beyond the limit.
pub fn replaced(text: &str, old: &str, new: &str, most: Option<usize>) -> Outcome<String> {
    let hits = text.matches(old).count().min(most.unwrap_or(usize::MAX));
    within(text.len().saturating_add(hits.saturating_mul(new.len())))?;
    Ok(match most {
        Some(most) => text.replacen(old, new, most),
        None => text.replace(old, new),
    })
}

fn strip(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind(name, &["chars"])?;
    let chars = match bound[0].as_ref().filter(|chars| !matches!(chars, Object::None)) {
        Some(chars) => Some(chars.need_text("strip arg must be None or str")?),
        None => None,
    };
    let gone = |c: char| match &chars {
        Some(chars) => chars.contains(c),
        None => c.is_whitespace(),
    };
    Ok(Object::str(match name {
        "strip" => text.trim_matches(gone),
        "lstrip" => text.trim_start_matches(gone),
        _ => text.trim_end_matches(gone),
    }))
}

fn begins(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let [parts] = args.exactly(name, ["prefix"])?;
    let parts = match parts {
        Object::Tuple(parts) => parts.to_vec(),
        one => vec![one],
    };
    for part in parts {
        let part = part.need_text("startswith first arg must be str or a tuple of str")?;
        if if name == "startswith" { text.starts_with(&*part) } else { text.ends_with(&*part) } {
            return Ok(Object::Bool(true));
        }
    }
    Ok(Object::Bool(false))
}

fn find(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind(name, &["sub", "start", "end"])?;
    let part = bound[0].as_ref().unwrap_or(&Object::None).need_text("must be str")?;
    let chars: Vec<char> = text.chars().collect();
    let bounds = [bound[1].as_ref(), bound[2].as_ref()].map(|bound| bound.and_then(|bound| bound.need_int("").ok()));
    let length = chars.len() as i128;
    let place =
        |bound: i128| usize::try_from(if bound < 0 { bound + length } else { bound }.clamp(0, length)).unwrap_or(0);
    let (from, to) = (bounds[0].map_or(0, place), bounds[1].map_or(chars.len(), place));
    let window: String = chars[from..to.max(from)].iter().collect();
    if name == "count" {
        return Ok(Object::Int(window.matches(&*part).count() as i128));
    }
    let at = if name.starts_with('r') { window.rfind(&*part) } else { window.find(&*part) };
    match at {
        Some(at) => Ok(Object::Int((from + window[..at].chars().count()) as i128)),
        None if name.ends_with("index") => Err(Fault::other("substring not found")),
        None => Ok(Object::Int(-1)),
    }
}

fn partition(text: &str, name: &str, args: Arguments) -> Outcome<Object> {
    let [separator] = args.exactly(name, ["sep"])?;
    let separator = separator.need_text("must be str")?;
    let parts = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
    let parts = match (parts, name) {
        (Some((before, after)), _) => [before, &*separator, after],
        (None, "partition") => [text, "", ""],
        (None, _) => ["", "", text],
    };
    Ok(Object::tuple(parts.iter().map(Object::str).collect()))
}

/// Jinja's `soft_str`.
pub fn soft(object: &Object) -> Arc<str> {
    match object {
        Object::Str(text) => Arc::clone(text),
        other => Arc::from(show::text(other)),
    }
}
