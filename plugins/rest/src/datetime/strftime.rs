//! Writing moments: `strftime` as CPython on glibc does it in the C locale and UTC, and Airbyte's own formats above it.

use super::{
    Civil, DateTime,
    directive::{MONTHS, WEEKDAYS, short},
    offset_name, offset_text,
};

/// Airbyte's `DatetimeParser.format`: `%s`, `%s_as_float`, `%ms` and `%epoch_microseconds` stand alone, `%_ms` anywhere.
pub fn format(at: &DateTime, format: &str) -> String {
    match format {
        "%s" => (at.timestamp().trunc() as i64).to_string(),
        "%s_as_float" => float_text(at.timestamp()),
        "%epoch_microseconds" => ((at.timestamp() * 1_000_000.0) as i64).to_string(),
        "%ms" => ((at.timestamp() * 1000.0) as i64).to_string(),
        _ if format.contains("%_ms") => {
            let us = at.civil().us;
            // The reference replaces the digits wherever they stand.
            strftime(at, &format.replace("%_ms", "%f")).replace(&format!("{us:06}"), &format!("{:03}", us / 1000))
        }
        _ => strftime(at, format),
    }
}

fn float_text(seconds: f64) -> String {
    if seconds.fract() == 0.0 { format!("{seconds:.1}") } else { seconds.to_string() }
}

/// `datetime.strftime`.
pub fn strftime(at: &DateTime, format: &str) -> String {
    write(&at.civil(), at.offset_s(), format)
}

/// `date.strftime`: no time and no zone.
pub fn format_date(date: &Civil, format: &str) -> String {
    write(date, None, format)
}

/// Flags and width between `%` and its letter, as glibc reads them.
#[derive(Default, Clone, Copy)]
struct Shape {
    pad: Option<char>,
    upper: bool,
    swap: bool,
    width: usize,
}

fn write(civil: &Civil, offset_s: Option<i32>, format: &str) -> String {
    let mut out = String::with_capacity(format.len() * 2);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = &rest[at..];
        let length = directive_length(directive);
        match one(civil, offset_s, &directive[1..length]) {
            Some(text) => out.push_str(&text),
            // What is no directive is written as it stands.
            None => out.push_str(&directive[..length]),
        }
        rest = &directive[length..];
    }
    out.push_str(rest);
    out
}

/// From `%` to its letter.
fn directive_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while chars.next_if(|(_, c)| "_-0^#+".contains(*c)).is_some() {}
    while chars.next_if(|(_, c)| c.is_ascii_digit()).is_some() {}
    if chars.next_if(|(_, c)| "EO".contains(*c)).is_some() && chars.peek().is_none() {
        return text.len();
    }
    chars.next().map_or(text.len(), |(at, c)| at + c.len_utf8())
}

/// `body` is the directive without `%`.
fn one(civil: &Civil, offset_s: Option<i32>, body: &str) -> Option<String> {
    let letter = body.chars().last()?;
    // CPython itself writes these three, and only in their plain form.
    match body {
        "f" => return Some(format!("{:06}", civil.us)),
        "z" => return Some(offset_s.map(|offset| offset_text(offset, "")).unwrap_or_default()),
        "Z" => return Some(offset_s.map(offset_name).unwrap_or_default()),
        _ => {}
    }
    let mut shape = Shape::default();
    let mut digits = String::new();
    for flag in body[..body.len() - letter.len_utf8()].chars() {
        match flag {
            '_' => shape.pad = Some(' '),
            '-' => shape.pad = Some('-'),
            '0' if digits.is_empty() => shape.pad = Some('0'),
            '^' => shape.upper = true,
            '#' => shape.swap = true,
            '0'..='9' => digits.push(flag),
            _ => {}
        }
    }
    // Wider than any date needs is taken for a mistake, not for a wish.
    shape.width = digits.parse().unwrap_or(0).min(64);
    number(civil, letter)
        .map(|(value, width, pad)| numeric(value, width, pad, shape))
        .or_else(|| name(civil, letter).map(|text| worded(text, letter, shape)))
        .or_else(|| composite(civil, letter).map(|text| worded(text, letter, shape)))
}

fn numeric(value: i64, width: usize, pad: char, shape: Shape) -> String {
    let pad = shape.pad.unwrap_or(pad);
    // Without padding only a width that is asked for counts.
    let width = if pad == '-' { shape.width } else { width.max(shape.width) };
    match pad {
        '0' if value < 0 => format!("-{:0>width$}", value.unsigned_abs(), width = width.saturating_sub(1)),
        '0' => format!("{value:0>width$}"),
        _ => format!("{value:>width$}"),
    }
}

fn worded(text: String, letter: char, shape: Shape) -> String {
    let text = match (shape.upper, shape.swap, letter) {
        (_, true, 'p' | 'Z') => text.to_lowercase(),
        (true, ..) | (_, true, 'a' | 'A' | 'b' | 'B' | 'h') => text.to_uppercase(),
        _ => text,
    };
    let fill = if shape.pad == Some('0') { '0' } else { ' ' };
    let missing = shape.width.saturating_sub(text.chars().count());
    fill.to_string().repeat(missing) + &text
}

fn hour_of_half(civil: &Civil) -> i64 {
    i64::from((civil.hour + 11) % 12 + 1)
}

/// A number, how wide it is, and what fills it.
fn number(civil: &Civil, letter: char) -> Option<(i64, usize, char)> {
    let days = i64::from(civil.day_of_year()) - 1;
    let (iso_year, iso_week, iso_day) = civil.iso_week();
    let sunday = i64::from((civil.weekday() + 1) % 7);
    Some(match letter {
        'Y' => (i64::from(civil.year), 1, '0'),
        'C' => (i64::from(civil.year / 100), 2, '0'),
        'y' => (i64::from(civil.year % 100), 2, '0'),
        'G' => (i64::from(iso_year), 1, '0'),
        'g' => (i64::from(iso_year.rem_euclid(100)), 2, '0'),
        'm' => (i64::from(civil.month), 2, '0'),
        'd' => (i64::from(civil.day), 2, '0'),
        'e' => (i64::from(civil.day), 2, ' '),
        'H' => (i64::from(civil.hour), 2, '0'),
        'k' => (i64::from(civil.hour), 2, ' '),
        'I' => (hour_of_half(civil), 2, '0'),
        'l' => (hour_of_half(civil), 2, ' '),
        'M' => (i64::from(civil.minute), 2, '0'),
        'S' => (i64::from(civil.second), 2, '0'),
        'j' => (days + 1, 3, '0'),
        'U' => ((days + 7 - sunday) / 7, 2, '0'),
        'W' => ((days + 7 - i64::from(civil.weekday())) / 7, 2, '0'),
        'V' => (i64::from(iso_week), 2, '0'),
        'u' => (i64::from(iso_day), 1, '0'),
        'w' => (sunday, 1, '0'),
        // The C library takes what the clock shows for its own zone's time, which is UTC here.
        's' => (civil.us_since_epoch().div_euclid(1_000_000), 1, '0'),
        _ => return None,
    })
}

fn name(civil: &Civil, letter: char) -> Option<String> {
    let weekday = WEEKDAYS[civil.weekday() as usize];
    let month = MONTHS[civil.month as usize - 1];
    let half = if civil.hour < 12 { "AM" } else { "PM" };
    Some(match letter {
        'A' => weekday.into(),
        'a' => short(weekday).into(),
        'B' => month.into(),
        'b' | 'h' => short(month).into(),
        'p' => half.into(),
        'P' => half.to_lowercase(),
        'n' => "\n".into(),
        't' => "\t".into(),
        '%' => "%".into(),
        _ => return None,
    })
}

fn composite(civil: &Civil, letter: char) -> Option<String> {
    Some(match letter {
        'c' => write(civil, None, "%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => write(civil, None, "%m/%d/%y"),
        'F' => write(civil, None, "%Y-%m-%d"),
        'R' => write(civil, None, "%H:%M"),
        'r' => write(civil, None, "%I:%M:%S %p"),
        'T' | 'X' => write(civil, None, "%H:%M:%S"),
        // With flags they reach the C library, which knows no zone of this moment.
        'z' => "+0000".into(),
        'Z' => String::new(),
        _ => return None,
    })
}
