//! Which parts of an answer templates look at, found in their text, so that nothing else is parsed for them. Pure.
//!
//! Whatever is not understood counts as a look at everything.

use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{
    value::{Map, Value},
    wire::Answer,
};

/// How much of an answer's body is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ResponseUse {
    #[default]
    Nothing,
    /// These members of the body, which is an object.
    Members(Vec<String>),
    All,
}

impl ResponseUse {
    /// What these templates look at together.
    pub fn of<'a>(templates: impl IntoIterator<Item = &'a Value>) -> Self {
        let texts = templates.into_iter().filter_map(Value::as_str);
        texts.flat_map(|text| uses(text, "response")).fold(Self::Nothing, Self::and)
    }

    fn and(self, one: Use) -> Self {
        match (self, one) {
            (Self::All, _) | (_, Use::Whole) => Self::All,
            (Self::Nothing, Use::Member(name)) => Self::Members(vec![name]),
            (Self::Members(mut names), Use::Member(name)) => {
                if !names.contains(&name) {
                    names.push(name);
                }
                Self::Members(names)
            }
        }
    }

    /// The body as far as it is looked at; `None` where it is no JSON. What is not an object is parsed whole.
    pub fn read(&self, body: &[u8]) -> Option<Value> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match self {
            Self::Nothing => Some(Value::Null),
            Self::Members(names) if body.trim_ascii_start().first() == Some(&b'{') => {
                let mut reader = serde_json::Deserializer::from_slice(body);
                let members = reader.deserialize_map(Members(names)).ok()?;
                reader.end().ok()?;
                Some(Value::map(members))
            }
            Self::Members(_) | Self::All => Value::from_json(body).ok(),
        }
    }
}

/// Reads these members of an object and skips the rest.
struct Members<'a>(&'a [String]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Map, A::Error> {
        let mut map = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if self.0.contains(&key) {
                map.insert(key, object.next_value()?);
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(map)
    }
}

/// Whether any of these templates names this variable.
pub fn names<'a>(templates: impl IntoIterator<Item = &'a Value>, variable: &str) -> bool {
    templates.into_iter().filter_map(Value::as_str).any(|text| !uses(text, variable).is_empty())
}

/// An answer's headers for templates: by their names in lower case, and as these templates spell them.
pub fn headers<'a>(answer: &Answer, templates: impl IntoIterator<Item = &'a Value>) -> Map {
    let mut map = Map::new();
    for (name, value) in &answer.headers {
        match map.get_mut(name) {
            Some(held) => *held = Value::str(format!("{}, {value}", held.as_str().unwrap_or_default())),
            None => drop(map.insert(name.clone(), Value::str(value))),
        }
    }
    let texts = templates.into_iter().filter_map(Value::as_str);
    for spelled in texts.flat_map(|text| uses(text, "headers")) {
        let Use::Member(spelled) = spelled else { continue };
        if let Some(value) = map.get(&spelled.to_ascii_lowercase()).cloned() {
            map.insert(spelled, value);
        }
    }
    map
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    Member(String),
    Whole,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    Text(&'a str),
    Mark(char),
}

/// Methods of a Python dict: a member of this name cannot be reached with a dot.
const METHODS: [&str; 10] =
    ["clear", "copy", "fromkeys", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];

fn uses(template: &str, variable: &str) -> Vec<Use> {
    if !template.contains(variable) {
        return Vec::new();
    }
    let tokens = tokens(template);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let of_another = at > 0 && tokens[at - 1] == Token::Mark('.');
        if *token != Token::Name(variable) || of_another {
            continue;
        }
        found.push(match &tokens[at + 1..] {
            [Token::Mark('.'), Token::Name("get"), Token::Mark('('), Token::Text(name), Token::Mark(',' | ')'), ..]
            | [Token::Mark('['), Token::Text(name), Token::Mark(']'), ..] => Use::Member((*name).to_owned()),
            [Token::Mark('.'), Token::Name(name), ..] if *name != "get" && !METHODS.contains(name) => {
                Use::Member((*name).to_owned())
            }
            _ => match &tokens[..at] {
                [.., Token::Text(name), Token::Name("in")]
                | [.., Token::Text(name), Token::Name("not"), Token::Name("in")] => Use::Member((*name).to_owned()),
                _ => Use::Whole,
            },
        });
    }
    found
}

/// The tokens of what stands between `{{` and `}}` or `{%` and `%}`.
fn tokens(template: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        rest = &rest[start + 1..];
        rest = match rest.bytes().next() {
            Some(b'{') => code(&rest[1..], "}}", &mut tokens),
            Some(b'%') => code(&rest[1..], "%}", &mut tokens),
            Some(b'#') => rest.split_once("#}").map_or("", |(_, after)| after),
            _ => rest,
        };
    }
    tokens
}

/// Reads code up to `end`; what stands behind it.
fn code<'a>(text: &'a str, end: &str, tokens: &mut Vec<Token<'a>>) -> &'a str {
    let (mut rest, mut open) = (text, 0_u32);
    while let Some(first) = rest.chars().next() {
        if open == 0 && rest.starts_with(end) {
            return &rest[end.len()..];
        }
        let length = if first.is_alphabetic() || first == '_' {
            let length = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            tokens.push(Token::Name(&rest[..length]));
            length
        } else if matches!(first, '\'' | '"') {
            quoted(rest, first, tokens)
        } else {
            match first {
                '{' => open += 1,
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    rest
}

/// A text in quotes; its length. One with escapes is no text that could be a name here.
fn quoted<'a>(rest: &'a str, quote: char, tokens: &mut Vec<Token<'a>>) -> usize {
    let (mut escaped, mut plain) = (false, true);
    for (at, letter) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            (escaped, plain) = (true, false);
        } else if letter == quote {
            tokens.push(if plain { Token::Text(&rest[1..at]) } else { Token::Mark(quote) });
            return at + 1;
        }
    }
    tokens.push(Token::Mark(quote));
    rest.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn looks(template: &str) -> ResponseUse {
        ResponseUse::of([&Value::str(template)])
    }

    fn members(names: &[&str]) -> ResponseUse {
        ResponseUse::Members(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn members_are_found_in_all_their_spellings() {
        assert_eq!(looks("{{ response.next }}"), members(&["next"]));
        assert_eq!(looks("{{ response['meta']['next'] or response[\"x y\"] }}"), members(&["meta", "x y"]));
        assert_eq!(looks("{{ response.get('links', {}).get('next') }}"), members(&["links"]));
        assert_eq!(looks("{% if 'a' in response and 'b' not in response %}1{% endif %}"), members(&["a", "b"]));
        assert_eq!(looks("{{ {'a': {'b': 1}} }} don't {{ response.c }}"), members(&["c"]));
        assert_eq!(looks("{{ last_record.response }} response {# response #} {{ 'response' }}"), ResponseUse::Nothing);
    }

    #[test]
    fn what_is_not_understood_is_a_look_at_everything() {
        for template in [
            "{{ response | length }}",
            "{{ response.items() }}",
            "{{ response[0].id }}",
            "{{ response[config.key] }}",
            "{{ response.get(config.key) }}",
            "{% set r = response %}{{ r.x }}",
            "{{ response['a\\'b'] }}",
            "{{ 'a' if response else response.b }}",
            "{{ response",
        ] {
            assert_eq!(looks(template), ResponseUse::All, "{template}");
        }
    }

    #[test]
    fn only_what_is_looked_at_is_parsed() {
        let body = br#" {"data":[{"id":1}],"next":"a","next":"b","more":true}"#;
        assert_eq!(looks("{{ response.next }}").read(body).unwrap().to_json(), r#"{"next":"b"}"#);
        assert_eq!(looks("{{ response.next }}").read(b"[1]").unwrap().to_json(), "[1]");
        assert_eq!(looks("{{ response.next }}").read(b"{\"next\":1} x"), None);
        assert_eq!(looks("{{ response }}").read(b"<html>"), None);
    }

    #[test]
    fn headers_are_found_as_templates_spell_them() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers_sent = vec![header("x-next", "2"), header("x-next", "3"), header("date", "now")];
        let answer = Answer { headers: headers_sent, ..Answer::default() };
        let map = headers(&answer, [&Value::str("{{ headers['X-Next'] }}{{ headers.get('X-None') }}")]);
        assert_eq!(Value::map(map).to_json(), r#"{"x-next":"2, 3","date":"now","X-Next":"2, 3"}"#);
    }
}
