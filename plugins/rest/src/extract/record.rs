//! One record, parsed only where somebody looks inside.

use bytes::Bytes;

use super::{json, scan};
use crate::value::Value;

#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The text of one JSON value, as it stood in the page. It may hold line ends between its members.
    Raw(Bytes),
    Parsed(Value),
}

impl Record {
    /// The whole record.
    pub fn value(&self) -> Value {
        match self {
            Self::Raw(text) => json::parse(text).unwrap_or_default(),
            Self::Parsed(value) => value.clone(),
        }
    }

    /// Its JSON text.
    pub fn json(&self) -> Bytes {
        match self {
            Self::Raw(text) => text.clone(),
            Self::Parsed(value) => value.to_json().into(),
        }
    }

    /// A member of the record; the rest of a raw record is not parsed.
    pub fn member(&self, name: &str) -> Option<Value> {
        match self {
            Self::Raw(text) => {
                let (start, end) = scan::member(text, scan::blank(text, 0), name).ok()??;
                json::parse(&text[start..end]).ok()
            }
            Self::Parsed(value) => value.get(name).cloned(),
        }
    }

    /// The value at the end of a path of keys (and indices, where it leads through arrays).
    pub fn at(&self, path: &[String]) -> Option<Value> {
        let (first, rest) = path.split_first()?;
        within(&self.member(first)?, rest).cloned()
    }

    pub fn is_object(&self) -> bool {
        match self {
            Self::Raw(text) => text.get(scan::blank(text, 0)) == Some(&b'{'),
            Self::Parsed(value) => value.as_map().is_some(),
        }
    }

    /// The whole record, to change it.
    pub fn value_mut(&mut self) -> &mut Value {
        if let Self::Raw(_) = self {
            *self = Self::Parsed(self.value());
        }
        match self {
            Self::Parsed(value) => value,
            Self::Raw(_) => unreachable!("parsed above"),
        }
    }
}

/// The value at the end of a path of keys and places in arrays; negative places count from the end.
pub fn within<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| child(value, name))
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Map(map) => map.get(name),
        Value::List(list) => {
            let at: i64 = name.parse().ok()?;
            let at = if at < 0 { at + i64::try_from(list.len()).ok()? } else { at };
            list.get(usize::try_from(at).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::stage::{json, texts};

    #[test]
    fn members_of_a_raw_record_are_found_without_the_rest() {
        let text = r#" {"a": {"b": [10, {"c": "x"}]}, "t": "2024", "a\u0062": 1, "t": "2025", "bad": tru}"#;
        let record = Record::Raw(Bytes::from_static(text.as_bytes()));
        assert_eq!(record.member("t"), Some(Value::str("2025")));
        assert_eq!(record.member("ab"), Some(Value::Int(1)));
        assert_eq!(record.member("c"), None);
        assert_eq!(record.at(&texts(&["a", "b", "-1", "c"])), Some(Value::str("x")));
        assert_eq!(record.at(&texts(&["a", "b", "2"])), None);
        assert!(record.is_object());
        let parsed = Record::Parsed(json(r#"{"a":{"b":1}}"#));
        assert_eq!(parsed.at(&texts(&["a", "b"])), Some(Value::Int(1)));
        assert!(!Record::Raw(Bytes::from_static(b"[1]")).is_object());
    }
}
