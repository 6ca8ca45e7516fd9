//! Python's `%` formatting and `str.format`.

use std::{iter::Peekable, str::Chars};

use super::{
    attributes,
    fault::{Fault, Outcome},
    machine::Arguments,
    object::{Key, Object},
    operators::within,
    show,
};

/// How one value is laid out.
#[derive(Debug, Clone, Default)]
struct Layout {
    fill: Option<char>,
    /// One of `<>=^`.
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `format % values`.
///
/// # Errors
/// What Python would raise.
pub fn printf(format: &str, values: &Object) -> Outcome<String> {
    let mut positional = match values {
        Object::Tuple(items) => items.to_vec(),
        one => vec![one.clone()],
    }
    .into_iter();
    let mapping = matches!(values, Object::Dict(_));
    let mut named = false;
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let name = key(&mut chars)?;
        let mut layout = Layout::default();
        let mut left = false;
        while let Some(flag) = chars.next_if(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => left = true,
                '0' => layout.zero = true,
                '#' => layout.alternate = true,
                sign => layout.sign = layout.sign.filter(|held| *held == '+').or(Some(sign)),
            }
        }
        layout.width = digits(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            layout.precision = Some(digits(&mut chars)?.unwrap_or(0));
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let kind = chars.next().ok_or_else(|| Fault::other("incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match name {
            Some(name) => {
                named = true;
                let Object::Dict(dict) = values else { return Err(Fault::type_error("format requires a mapping")) };
                dict.get(&Key::text(&name)).ok_or_else(|| Fault::other(format!("KeyError: '{name}'")))?
            }
            None => positional.next().ok_or_else(|| Fault::type_error("not enough arguments for format string"))?,
        };
        layout.align = Some(if left { '<' } else { '>' });
        layout.kind = Some(kind);
        out.push_str(&converted(&value, layout)?);
        within(out.len())?;
    }
    if positional.next().is_some() && !named && !mapping {
        return Err(Fault::type_error("not all arguments converted during string formatting"));
    }
    Ok(out)
}

/// `(name)` after `%`.
fn key(chars: &mut Peekable<Chars<'_>>) -> Outcome<Option<String>> {
    if chars.next_if_eq(&'(').is_none() {
        return Ok(None);
    }
    let mut name = String::new();
    for c in chars.by_ref() {
        if c == ')' {
            return Ok(Some(name));
        }
        name.push(c);
    }
    Err(Fault::other("incomplete format key"))
}

fn digits(chars: &mut Peekable<Chars<'_>>) -> Outcome<Option<usize>> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let value = number.unwrap_or(0_usize) * 10 + digit as usize;
        within(value)?;
        number = Some(value);
    }
    Ok(number)
}

/// One value of `%` formatting.
fn converted(value: &Object, mut layout: Layout) -> Outcome<String> {
    let kind = layout.kind.unwrap_or('s');
    if layout.zero && layout.align == Some('>') && kind != 's' {
        layout.fill = Some('0');
        layout.align = Some('=');
    }
    match kind {
        's' | 'r' | 'a' => {
            let text = if kind == 's' { show::text(value) } else { show::repr(value) };
            layout.fill = None;
            Ok(laid_out(&cut(&text, layout.precision), "", &layout))
        }
        'c' => match value {
            Object::Str(text) if text.chars().count() == 1 => Ok(laid_out(text, "", &layout)),
            Object::Int(code) => {
                let c = u32::try_from(*code).ok().and_then(char::from_u32);
                let c = c.ok_or_else(|| Fault::other("%c arg not in range"))?;
                Ok(laid_out(&c.to_string(), "", &layout))
            }
            _ => Err(value.unfit("%c requires int or char")),
        },
        'd' | 'i' | 'u' => {
            let int = match value {
                Object::Float(float) if float.is_finite() => *float as i128,
                other => other.need_int(&format!("%{kind} format: a real number is required"))?,
            };
            layout.kind = Some('d');
            integer(int, &layout)
        }
        'x' | 'X' | 'o' => integer(value.need_int(&format!("%{kind} format: an integer is required"))?, &layout),
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let float = value.as_float().ok_or_else(|| value.unfit("must be real number"))?;
            Ok(floating(float, &layout))
        }
        _ => Err(Fault::other(format!("unsupported format character '{kind}'"))),
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    }
}

/// Puts a sign and digits, or a text, into its width.
fn laid_out(body: &str, sign: &str, layout: &Layout) -> String {
    let length = body.chars().count() + sign.chars().count();
    let missing = layout.width.saturating_sub(length);
    let fill = |count: usize| layout.fill.unwrap_or(' ').to_string().repeat(count);
    match layout.align.unwrap_or('<') {
        '<' => format!("{sign}{body}{}", fill(missing)),
        '^' => format!("{}{sign}{body}{}", fill(missing / 2), fill(missing - missing / 2)),
        '=' => format!("{sign}{}{body}", fill(missing)),
        _ => format!("{}{sign}{body}", fill(missing)),
    }
}

fn sign_of(negative: bool, layout: &Layout) -> &'static str {
    match (negative, layout.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

fn integer(int: i128, layout: &Layout) -> Outcome<String> {
    let size = int.unsigned_abs();
    let (prefix, digits) = match layout.kind.unwrap_or('d') {
        'd' | 'n' => ("", size.to_string()),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'o' => ("0o", format!("{size:o}")),
        'b' => ("0b", format!("{size:b}")),
        other => return Err(Fault::other(format!("Unknown format code '{other}' for object of type 'int'"))),
    };
    let digits = match layout.grouping {
        Some(separator) => grouped(&digits, separator),
        None => digits,
    };
    let missing = layout.precision.unwrap_or(0).saturating_sub(digits.len());
    let digits = "0".repeat(missing) + &digits;
    let sign = format!("{}{}", sign_of(int < 0, layout), if layout.alternate { prefix } else { "" });
    Ok(laid_out(&digits, &sign, layout))
}

fn grouped(digits: &str, separator: char) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

fn floating(float: f64, layout: &Layout) -> String {
    let kind = layout.kind.unwrap_or('g');
    let precision = layout.precision.unwrap_or(6).min(400);
    let size = float.abs();
    let mut digits = if !float.is_finite() {
        show::float_text(size)
    } else {
        match kind.to_ascii_lowercase() {
            'f' => format!("{size:.precision$}"),
            '%' => format!("{:.precision$}%", size * 100.0),
            'e' => scientific(size, precision),
            _ => general(size, precision.max(1), layout.alternate),
        }
    };
    if let Some(separator) = layout.grouping {
        let (whole, rest) = digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
        digits = format!("{}{rest}", grouped(whole, separator));
    }
    if kind.is_ascii_uppercase() {
        digits = digits.to_uppercase();
    }
    laid_out(&digits, sign_of(float.is_sign_negative() && !float.is_nan(), layout), layout)
}

fn scientific(size: f64, precision: usize) -> String {
    let text = format!("{size:.precision$e}");
    let (digits, exponent) = text.split_once('e').expect("this form has an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`: so many digits, without zeros at the end.
fn general(size: f64, precision: usize, alternate: bool) -> String {
    let text = scientific(size, precision - 1);
    let (digits, exponent) = text.split_once('e').expect("this form has an exponent");
    let exponent_number: i64 = exponent.parse().expect("a number");
    let trimmed = |digits: &str| {
        if alternate || !digits.contains('.') {
            digits.to_owned()
        } else {
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    if exponent_number < -4 || exponent_number >= precision as i64 {
        return format!("{}e{exponent}", trimmed(digits));
    }
    let places = usize::try_from(precision as i64 - 1 - exponent_number).unwrap_or(0);
    trimmed(&format!("{size:.places$}"))
}

/// `format.format(…)`.
///
/// # Errors
/// What Python would raise.
pub fn format(format: &str, args: &Arguments) -> Outcome<String> {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.next_if_eq(&'{').is_some() => out.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => out.push('}'),
            '}' => return Err(Fault::other("Single '}' encountered in format string")),
            '{' => {
                let field = field(&mut chars)?;
                out.push_str(&replaced(&field, args, &mut next)?);
                within(out.len())?;
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Up to the closing brace; braces within are kept.
fn field(chars: &mut Peekable<Chars<'_>>) -> Outcome<String> {
    let mut depth = 0_usize;
    let mut field = String::new();
    for c in chars.by_ref() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Ok(field),
            '}' => depth -= 1,
            _ => {}
        }
        field.push(c);
    }
    Err(Fault::other("expected '}' before end of string"))
}

fn replaced(field: &str, args: &Arguments, next: &mut usize) -> Outcome<String> {
    let (name, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = name.split_once('!').unwrap_or((name, ""));
    let value = looked_up(name, args, next)?;
    // A width may come from an argument.
    let spec = match spec.split_once('{') {
        Some((before, rest)) => {
            let (inner, after) = rest.split_once('}').unwrap_or((rest, ""));
            format!("{before}{}{after}", show::text(&looked_up(inner, args, next)?))
        }
        None => spec.to_owned(),
    };
    match conversion {
        "" => formatted(&value, &spec),
        "s" => formatted(&Object::str(show::text(&value)), &spec),
        _ => formatted(&Object::str(show::repr(&value)), &spec),
    }
}

/// `0`, `name`, `0.member`, `name[key]`.
fn looked_up(name: &str, args: &Arguments, next: &mut usize) -> Outcome<Object> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    let mut value = if first.is_empty() || first.bytes().all(|byte| byte.is_ascii_digit()) {
        let at = if first.is_empty() { *next } else { first.parse().unwrap_or(usize::MAX) };
        *next += usize::from(first.is_empty());
        let value = args.positional.get(at).cloned();
        value.ok_or_else(|| Fault::other("Replacement index out of range for positional args tuple"))?
    } else {
        let value = args.named.iter().find(|(known, _)| &**known == first).map(|(_, value)| value.clone());
        value.ok_or_else(|| Fault::other(format!("KeyError: '{first}'")))?
    };
    while !rest.is_empty() {
        let part;
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            (part, rest) = tail.split_at(end);
            value = attributes::attribute(&value, &part.into())?;
        } else {
            let (inner, tail) =
                rest[1..].split_once(']').ok_or_else(|| Fault::other("Missing ']' in format string"))?;
            rest = tail;
            let index = inner.parse::<i128>().map_or_else(|_| Object::str(inner), Object::Int);
            value = attributes::item(&value, &index)?;
        }
    }
    Ok(value)
}

/// `format(value, spec)`.
///
/// # Errors
/// What Python would raise.
pub fn formatted(value: &Object, spec: &str) -> Outcome<String> {
    match value {
        _ if spec.is_empty() => return Ok(show::text(value)),
        Object::Moment(at) => return Ok(crate::datetime::strftime(at, spec)),
        Object::Date(date) => return Ok(crate::datetime::format_date(date, spec)),
        _ => {}
    }
    let mut layout = layout(spec)?;
    match (value, layout.kind) {
        (Object::Str(text), None | Some('s')) => {
            layout.align = layout.align.or(Some('<'));
            Ok(laid_out(&cut(text, layout.precision), "", &layout))
        }
        (Object::Int(_) | Object::Bool(_), None | Some('d' | 'x' | 'X' | 'o' | 'b' | 'n')) => {
            layout.align = layout.align.or(Some('>'));
            integer(value.need_int("")?, &layout)
        }
        (_, kind) => {
            let float = value.as_float().filter(|_| !matches!(kind, Some('s' | 'd' | 'x' | 'X' | 'o' | 'b' | 'c')));
            let Some(float) = float else {
                let known = value.as_float().is_some() || matches!(value, Object::Str(_));
                let message = format!("the format `{spec}` does not fit '{}'", value.type_name());
                return Err(if known { Fault::other(message) } else { Fault::type_error(message) });
            };
            layout.align = layout.align.or(Some('>'));
            if kind.is_none() && layout.precision.is_none() {
                let text = show::float_text(float.abs());
                return Ok(laid_out(&text, sign_of(float < 0.0, &layout), &layout));
            }
            Ok(floating(float, &layout))
        }
    }
}

/// `[[fill]align][sign][#][0][width][,][.precision][type]`
fn layout(spec: &str) -> Outcome<Layout> {
    let mut layout = Layout::default();
    let mut chars = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    if second.is_some_and(|c| "<>=^".contains(c)) {
        (layout.fill, layout.align) = (first, second);
        chars.nth(1);
    } else {
        layout.align = chars.next_if(|c| "<>=^".contains(*c));
    }
    layout.sign = chars.next_if(|c| "+- ".contains(*c));
    layout.alternate = chars.next_if_eq(&'#').is_some();
    if chars.next_if_eq(&'0').is_some() && layout.align.is_none() {
        (layout.fill, layout.align) = (Some('0'), Some('='));
    }
    layout.width = digits(&mut chars)?.unwrap_or(0);
    layout.grouping = chars.next_if(|c| ",_".contains(*c));
    if chars.next_if_eq(&'.').is_some() {
        layout.precision = digits(&mut chars)?;
    }
    layout.kind = chars.next();
    if chars.next().is_some() {
        return Err(Fault::other(format!("Invalid format specifier '{spec}'")));
    }
    Ok(layout)
}
