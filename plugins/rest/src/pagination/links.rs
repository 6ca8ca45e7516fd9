//! The header `Link`, as Python's `requests` takes it apart. Pure.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    value::{Map, Value},
    wire::Answer,
};

static BETWEEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(", *<").expect("the pattern is right"));

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\'', '"'])
}

/// Links by what they relate to; by their address where they do not say.
pub fn links(answer: &Answer) -> Value {
    let headers = answer.headers.iter().filter(|(name, _)| name == "link").map(|(_, value)| value.as_str());
    let header = headers.collect::<Vec<_>>().join(", ");
    let mut links = Map::new();
    let header = trimmed(&header);
    if header.is_empty() {
        return Value::map(links);
    }
    for link in BETWEEN.split(header) {
        let (address, params) = link.split_once(';').unwrap_or((link, ""));
        let address = address.trim_matches(['<', '>', ' ', '\'', '"']);
        let mut members = Map::from_iter([("url".to_owned(), Value::str(address))]);
        for param in params.split(';') {
            // A parameter with two signs of equality ends it as one without does.
            let Some((name, value)) = param.split_once('=').filter(|(_, value)| !value.contains('=')) else { break };
            members.insert(trimmed(name).to_owned(), Value::str(trimmed(value)));
        }
        let named = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let key = named("rel").or_else(|| named("url")).unwrap_or_default().to_owned();
        links.insert(key, Value::map(members));
    }
    Value::map(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_by_what_they_relate_to() {
        let of = |header: &str| {
            let answer = Answer { headers: vec![("link".into(), header.into())], ..Answer::default() };
            links(&answer).to_json()
        };
        assert_eq!(
            of(r#"<https://a.com/?page=2>; rel="next"; title="x", <https://a.com/?page=9&x=a,b>; rel=last"#),
            r#"{"next":{"url":"https://a.com/?page=2","rel":"next","title":"x"},"last":{"url":"https://a.com/?page=9&x=a,b","rel":"last"}}"#
        );
        assert_eq!(of("<https://a.com>"), r#"{"https://a.com":{"url":"https://a.com"}}"#);
        assert_eq!(of(r#"<u>; a="b=c"; rel="next""#), r#"{"u":{"url":"u"}}"#);
        assert_eq!(of(""), "{}");
    }
}
