//! Backslash escapes of Python's text literals.

/// Undoes the escapes; `None` where one is broken (Python refuses such a literal). Unknown ones stay as they are.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let first = escape.chars().next()?;
        let mut length = first.len_utf8();
        match first {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(first),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            'x' | 'u' | 'U' => {
                length = match first {
                    'x' => 3,
                    'u' => 5,
                    _ => 9,
                };
                let digits = escape.get(1..length)?;
                if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return None;
                }
                let code = u32::from_str_radix(digits, 16).ok()?;
                let low = if (0xd800..0xdc00).contains(&code) { low_surrogate(&escape[length..]) } else { None };
                length += if low.is_some() { 6 } else { 0 };
                out.push(char::from_u32(low.map_or(code, |low| 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00)))?);
            }
            // Names of characters: nobody has their table here.
            'N' => return None,
            '0'..='7' => {
                length = escape.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                out.push(char::from_u32(u32::from_str_radix(&escape[..length], 8).ok()?)?);
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        rest = &escape[length..];
    }
    out.push_str(rest);
    Some(out)
}

/// The second half of a character that JSON writes as two escapes.
fn low_surrogate(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok().filter(|code| (0xdc00..0xe000).contains(code))
}
