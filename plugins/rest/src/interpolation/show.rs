//! How Python writes objects: `str`, `repr`, `json.dumps`.

use std::cell::OnceCell;

use crate::{
    datetime::{Civil, DateTime, Duration},
    limits,
};

use super::{
    containers::{Dict, deeper},
    fault::{Fault, Outcome},
    object::Object,
};

/// `str(object)`.
pub fn text(object: &Object) -> String {
    let mut out = String::new();
    write_text(object, &mut out);
    out
}

pub fn write_text(object: &Object, out: &mut String) {
    match object {
        Object::Undefined(_) => {}
        Object::Str(text) => out.push_str(text),
        Object::Moment(at) => out.push_str(&at.to_string()),
        Object::Date(date) => out.push_str(&date.date_text()),
        Object::Delta(us) => out.push_str(&Duration::from_us(*us).text()),
        Object::Period(duration) => out.push_str(&duration.text()),
        other => write_repr(other, out),
    }
}

/// `repr(object)`.
pub fn repr(object: &Object) -> String {
    let mut out = String::new();
    write_repr(object, &mut out);
    out
}

fn write_repr(object: &Object, out: &mut String) {
    match object {
        Object::Undefined(_) => out.push_str("Undefined"),
        Object::None => out.push_str("None"),
        Object::Bool(bool) => out.push_str(if *bool { "True" } else { "False" }),
        Object::Int(int) => out.push_str(&int.to_string()),
        Object::Big(digits) => out.push_str(digits),
        Object::Float(float) => out.push_str(&float_text(*float)),
        Object::Str(text) => write_quoted(text, out),
        Object::Bytes(bytes) => write_bytes(bytes, out),
        Object::List(list) => write_items(&list.to_vec(), "[", "]", out),
        Object::Tuple(items) => write_items(items, "(", if items.len() == 1 { ",)" } else { ")" }, out),
        Object::Set(items) if items.is_empty() => out.push_str("set()"),
        Object::Set(items) => write_items(items, "{", "}", out),
        Object::Dict(dict) => write_dict(dict, out),
        Object::Moment(at) => out.push_str(&moment_repr(at)),
        Object::Date(date) => out.push_str(&format!("datetime.date({}, {}, {})", date.year, date.month, date.day)),
        Object::Delta(us) => out.push_str(&delta_repr(*us)),
        Object::Period(duration) => out.push_str(&duration.text()),
        Object::Method(method) => out.push_str(&format!("<built-in method {}>", method.1)),
        Object::Function(name) => out.push_str(&format!("<function {name}>")),
        Object::Macro(code) => out.push_str(&format!("<Macro '{}'>", code.name)),
        Object::Loop(state) => out.push_str(&format!("<LoopContext {}/{}>", state.index0 + 1, state.items.len())),
        Object::Namespace(_) => out.push_str("<Namespace>"),
    }
}

/// A list that holds itself ends somewhere.
fn nested_repr(object: &Object, out: &mut String) {
    // Whoever asked refuses what is so long.
    if out.len() > limits::MAX_RENDERED_BYTES {
        return;
    }
    if deeper(|| write_repr(object, out)).is_none() {
        out.push_str("...");
    }
}

fn write_items(items: &[Object], open: &str, close: &str, out: &mut String) {
    out.push_str(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        nested_repr(item, out);
    }
    out.push_str(close);
}

fn write_dict(dict: &Dict, out: &mut String) {
    out.push('{');
    for (at, (key, value)) in dict.pairs().iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write_repr(key, out);
        out.push_str(": ");
        nested_repr(value, out);
    }
    out.push('}');
}

/// `repr(str)`.
pub(crate) fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            _ if printable(c) => out.push(c),
            _ => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
}

/// `str.isprintable` of one character.
fn printable(c: char) -> bool {
    thread_local! {
        static HIDDEN: OnceCell<regex::Regex> = const { OnceCell::new() };
    }
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    HIDDEN.with(|hidden| {
        let hidden = hidden.get_or_init(|| regex::Regex::new(r"^[\p{C}\p{Z}]$").expect("a constant pattern"));
        !hidden.is_match(c.encode_utf8(&mut [0; 4]))
    })
}

fn write_bytes(bytes: &[u8], out: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => {
                if char::from(*byte) == quote {
                    out.push('\\');
                }
                out.push(char::from(*byte));
            }
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
}

/// `repr(float)`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub fn float_text(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').expect("this form has an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn moment_repr(at: &DateTime) -> String {
    let Civil { year, month, day, hour, minute, second, us } = at.civil();
    let mut text = format!("datetime.datetime({year}, {month}, {day}, {hour}, {minute}");
    if second != 0 || us != 0 {
        text.push_str(&format!(", {second}"));
    }
    if us != 0 {
        text.push_str(&format!(", {us}"));
    }
    match at.offset_s() {
        None => {}
        Some(0) => text.push_str(", tzinfo=datetime.timezone.utc"),
        Some(offset) => text.push_str(&format!(
            ", tzinfo=datetime.timezone({})",
            delta_repr(i64::from(offset) * crate::datetime::US_PER_SECOND)
        )),
    }
    text + ")"
}

fn delta_repr(us: i64) -> String {
    let days = us.div_euclid(crate::datetime::US_PER_DAY);
    let rest = us.rem_euclid(crate::datetime::US_PER_DAY);
    let named = [("days", days), ("seconds", rest / 1_000_000), ("microseconds", rest % 1_000_000)];
    let parts: Vec<String> =
        named.iter().filter(|(_, value)| *value != 0).map(|(name, value)| format!("{name}={value}")).collect();
    format!("datetime.timedelta({})", if parts.is_empty() { "0".into() } else { parts.join(", ") })
}

/// `json.dumps(object)`.
///
/// # Errors
/// A type error for what JSON cannot hold.
pub fn json(object: &Object, sorted: bool) -> Outcome<String> {
    let mut out = String::new();
    write_json(object, sorted, &mut out)?;
    Ok(out)
}

fn write_json(object: &Object, sorted: bool, out: &mut String) -> Outcome<()> {
    match object {
        Object::None => out.push_str("null"),
        Object::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Object::Int(_) | Object::Big(_) => write_repr(object, out),
        Object::Float(float) if float.is_nan() => out.push_str("NaN"),
        Object::Float(float) if float.is_infinite() => {
            out.push_str(if *float > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Object::Float(float) => out.push_str(&float_text(*float)),
        Object::Str(text) => write_json_text(text, out),
        Object::List(list) => write_json_items(&list.to_vec(), sorted, out)?,
        Object::Tuple(items) => write_json_items(items, sorted, out)?,
        Object::Dict(dict) => {
            let mut pairs = Vec::new();
            for (key, value) in dict.pairs() {
                let text = key.json_key().ok_or_else(|| {
                    Fault::type_error(format!("keys must be str, int, float, bool or None, not {}", key.type_name()))
                })?;
                pairs.push((text, value));
            }
            if sorted {
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
            }
            out.push('{');
            for (at, (key, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_json_text(key, out);
                out.push_str(": ");
                nested_json(value, sorted, out)?;
            }
            out.push('}');
        }
        other => {
            return Err(Fault::type_error(format!("Object of type {} is not JSON serializable", other.type_name())));
        }
    }
    Ok(())
}

fn nested_json(object: &Object, sorted: bool, out: &mut String) -> Outcome<()> {
    if out.len() > limits::MAX_RENDERED_BYTES {
        return Err(Fault::other(format!("a value is longer than {} bytes as JSON", limits::MAX_RENDERED_BYTES)));
    }
    deeper(|| write_json(object, sorted, out)).ok_or_else(|| Fault::other("a value is nested too deeply to be JSON"))?
}

fn write_json_items(items: &[Object], sorted: bool, out: &mut String) -> Outcome<()> {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        nested_json(item, sorted, out)?;
    }
    out.push(']');
    Ok(())
}

/// With everything beyond ASCII escaped, as Python does unless told otherwise.
pub(crate) fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}
