//! Filters on texts: Jinja's own, as far as manifests use them.

use super::{
    fault::{Fault, Outcome},
    formatting,
    machine::Arguments,
    object::Object,
    operators::within,
    text_methods::{self, soft},
};

pub const NAMES: [&str; 16] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "format",
    "indent",
    "lower",
    "replace",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "wordcount",
    "filesizeformat",
];

/// `soft_str`.
pub fn soft_text(value: &Object) -> String {
    soft(value).to_string()
}

/// # Errors
/// What Python would raise.
pub fn apply(name: &str, value: &Object, args: Arguments) -> Outcome<Object> {
    let text = soft(value);
    Ok(Object::str(match name {
        "lower" => text.to_lowercase(),
        "upper" => text.to_uppercase(),
        "capitalize" => text_methods::capitalize(&text),
        "title" => title(&text),
        "trim" => {
            let bound = args.bind(name, &["chars"])?;
            match bound[0].as_ref().filter(|chars| !matches!(chars, Object::None)) {
                Some(chars) => {
                    let chars = chars.need_text("strip arg must be None or str")?;
                    text.trim_matches(|c| chars.contains(c)).to_owned()
                }
                None => text.trim().to_owned(),
            }
        }
        "center" => {
            let bound = args.bind(name, &["width"])?;
            let width = bound.into_iter().flatten().next().unwrap_or(Object::Int(80));
            return text_methods::call(&text, name, Arguments::of(vec![width]));
        }
        "replace" => return replace(&text, args),
        "format" => return formatting::printf(&text, &printf_args(args)).map(Object::str),
        "escape" | "e" | "forceescape" => escape(&text),
        "striptags" => striptags(&text),
        "wordcount" => {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            return Ok(Object::Int(words.count() as i128));
        }
        "indent" => indent(&text, args)?,
        "truncate" => truncate(&text, args)?,
        "filesizeformat" => filesize(value, args)?,
        _ => return Err(Fault::other(format!("there is no filter `{name}`"))),
    }))
}

/// Jinja's `title`: a capital after white space, dashes and opening brackets.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for c in text.chars() {
        if c.is_whitespace() || "-({[<".contains(c) {
            out.push(c);
            first = true;
        } else if first {
            out.extend(c.to_uppercase());
            first = false;
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn replace(text: &str, args: Arguments) -> Outcome<Object> {
    let bound = args.bind("replace", &["old", "new", "count"])?;
    let part = |at: usize| bound[at].as_ref().map(soft).ok_or_else(|| Fault::type_error("replace takes two texts"));
    let most = match bound[2].as_ref().filter(|count| !matches!(count, Object::None)) {
        Some(count) => usize::try_from(count.need_int("a count has to be an integer")?).ok(),
        None => None,
    };
    Ok(Object::str(text_methods::replaced(text, &part(0)?, &part(1)?, most)?))
}

fn printf_args(args: Arguments) -> Object {
    if args.named.is_empty() {
        return Object::tuple(args.positional);
    }
    let members = args.named.iter().map(|(name, value)| (super::object::Key::text(name), value.clone())).collect();
    Object::Dict(super::containers::Dict::own(members))
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}

/// Without what stands between `<` and `>`, white space made single.
fn striptags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        let Some((_, after)) = tag.split_once('>') else { break };
        out.push_str(before);
        rest = after;
    }
    out.push_str(rest);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn indent(text: &str, args: Arguments) -> Outcome<String> {
    let bound = args.bind("indent", &["width", "first", "blank"])?;
    let prefix = match &bound[0] {
        Some(Object::Str(prefix)) => prefix.to_string(),
        Some(width) => " ".repeat(text_methods::width_of(width)?),
        None => "    ".into(),
    };
    let flag = |at: usize| bound[at].as_ref().is_some_and(Object::truthy);
    let (first, blank) = (flag(1), flag(2));
    let lines = text.split('\n').enumerate().map(|(at, line)| {
        let wanted = if at == 0 { first } else { blank || !line.is_empty() };
        if wanted { format!("{prefix}{line}") } else { line.to_owned() }
    });
    let lines: Vec<String> = lines.collect();
    let indented = lines.join("\n");
    within(indented.len())?;
    Ok(indented)
}

fn truncate(text: &str, args: Arguments) -> Outcome<String> {
    let bound = args.bind("truncate", &["length", "killwords", "end", "leeway"])?;
    let number = |at: usize, default: usize| bound[at].as_ref().map_or(Ok(default), text_methods::width_of);
    let (length, leeway) = (number(0, 255)?, number(3, 5)?);
    let end = bound[2].as_ref().map_or_else(|| "...".into(), soft);
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= length + leeway {
        return Ok(text.to_owned());
    }
    let kept = length.saturating_sub(end.chars().count());
    let cut: String = chars[..kept].iter().collect();
    let whole = bound[1].as_ref().is_some_and(Object::truthy);
    let cut = if whole { cut } else { cut.rsplit_once(' ').map_or(cut.clone(), |(words, _)| words.to_owned()) };
    Ok(cut + &end)
}

fn filesize(value: &Object, args: Arguments) -> Outcome<String> {
    let bound = args.bind("filesizeformat", &["binary"])?;
    let binary = bound[0].as_ref().is_some_and(Object::truthy);
    let bytes = match value {
        Object::Str(text) => text.trim().parse().map_err(|_| Fault::other("could not convert string to float"))?,
        other => other.as_float().ok_or_else(|| other.unfit("float() argument"))?,
    };
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let mut unit = base;
    for letter in ["k", "M", "G", "T", "P", "E", "Z"] {
        unit *= base;
        if bytes < unit {
            let letter = if binary && letter == "k" { "K" } else { letter };
            return Ok(format!("{:.1} {letter}{}B", base * bytes / unit, if binary { "i" } else { "" }));
        }
    }
    Ok(format!("{:.1} Y{}B", bytes / unit, if binary { "i" } else { "" }))
}
