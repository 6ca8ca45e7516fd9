//! What one answer came to: its records, and the rest of it for who looks there.

use bytes::Bytes;

use super::{Record, json, scan, split::Split};
use crate::value::{Map, Value};

/// What somebody wants to see of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look<'a> {
    Nothing,
    /// These members of the root.
    Members(&'a [String]),
    All,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub records: Vec<Record>,
    /// How many there were before any was dropped.
    pub extracted: usize,
    pub body: Body,
}

/// The answer itself, parsed as far as it was.
#[derive(Debug, Clone, Default)]
pub enum Body {
    /// Unreadable, empty, or of a kind that pagination does not see.
    #[default]
    Hidden,
    Json {
        text: Bytes,
        split: Split,
    },
    Parsed(Value),
}

impl Page {
    /// `response` of templates: the decoded answer, its first value where there are several, an empty object where
    /// there is none. The member that holds the records is parsed only where it is asked for.
    pub fn response(&self, look: Look<'_>) -> Value {
        let empty = || Value::map(Map::new());
        match (&self.body, look) {
            (_, Look::Nothing) | (Body::Hidden, _) => empty(),
            (Body::Parsed(value), _) => value.clone(),
            (Body::Json { text, split }, Look::Members(names)) if !split.crowded && !split.members.is_empty() => {
                members(text, split, names)
            }
            (Body::Json { text, split }, _) => {
                let first = split.first.and_then(|(start, end)| json::parse(&text[start..end]).ok());
                first.unwrap_or_else(empty)
            }
        }
    }
}

fn members(text: &[u8], split: &Split, names: &[String]) -> Value {
    let mut map = Map::new();
    for member in &split.members {
        let Some(name) = names.iter().find(|name| scan::key_is(text, member.key, name)) else { continue };
        let (start, end) = member.value;
        map.insert(name.clone(), json::parse(&text[start..end]).unwrap_or_default());
    }
    Value::map(map)
}

#[cfg(test)]
mod tests {
    use crate::{
        extract::{
            Look, Selector,
            selector::{Around, Context},
            stage::{answer, env, json, texts},
        },
        node::Node,
    };

    fn response(body: &str, look: Look<'_>) -> String {
        let node = json(r#"{"type":"RecordSelector","extractor":{"type":"DpathExtractor","field_path":["data"]}}"#);
        let selector = Selector::build(&Node::root(&node), &Around::default(), &env()).expect("it is complete");
        let page = selector.select(&answer(body.to_owned()), &Context::default()).expect("it is JSON");
        page.response(look).to_json()
    }

    #[test]
    fn only_what_is_looked_at_is_parsed() {
        let body = r#"{"next":"x","data":[{"a":tru}],"meta":{"n":1},"next":"y"}"#;
        let names = texts(&["next", "meta", "none"]);
        assert_eq!(response(body, Look::Members(&names)), r#"{"next":"y","meta":{"n":1}}"#);
        assert_eq!(response(body, Look::Nothing), "{}");
        assert_eq!(response(r#"{"data":[{"a":1}],"n":2}"#, Look::All), r#"{"data":[{"a":1}],"n":2}"#);
    }

    #[test]
    fn of_an_array_the_first_element_is_seen() {
        assert_eq!(response(r#"[{"a":1},{"a":2}]"#, Look::All), r#"{"a":1}"#);
        assert_eq!(response(r#"[{"a":1},{"a":2}]"#, Look::Members(&texts(&["a"]))), r#"{"a":1}"#);
        assert_eq!(response("[]", Look::All), "{}");
        assert_eq!(response("", Look::All), "{}");
        assert_eq!(response("<html>", Look::All), "{}");
    }

    #[test]
    fn a_page_with_more_members_than_are_kept_is_parsed_as_a_whole() {
        let members: Vec<String> =
            (0..crate::limits::MAX_MEMBERS_KEPT + 2).map(|at| format!("\"m{at}\":{at}")).collect();
        let body = format!("{{{}}}", members.join(","));
        assert!(response(&body, Look::Members(&texts(&["m1001"]))).contains("\"m1001\":1001"));
    }
}
