//! Paths through values as the library dpath has them: every part is a pattern.
//!
//! Owns finding, writing and deleting along paths. Pure. Must never follow more than one `**` in a path.

use std::sync::Arc;

use crate::{
    limits::{MAX_ARRAY_PLACE, MAX_PATH_PARTS},
    value::{Map, Value},
};

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    text: String,
    /// Meant for arrays; negative ones count from the end.
    index: Option<i64>,
    pattern: bool,
}

/// A path whose parts may be patterns: `*`, `?`, `[abc]`, and one `**` for any number of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    parts: Vec<Part>,
    /// Where `**` stands.
    deep: Option<usize>,
}

/// One step to a value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// # Errors
    /// What is wrong with it.
    pub fn new(parts: &[String]) -> Result<Self, String> {
        if parts.len() > MAX_PATH_PARTS {
            return Err(format!("a path has more than {MAX_PATH_PARTS} parts"));
        }
        let deep = parts.iter().position(|part| part == "**");
        if parts.iter().filter(|part| *part == "**").count() > 1 {
            return Err("only one `**` may stand in a path".into());
        }
        let part = |text: &String| Part {
            text: text.clone(),
            index: text.trim().parse().ok(),
            pattern: text.contains(['*', '?', '[']),
        };
        Ok(Self { parts: parts.iter().map(part).collect(), deep })
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it can lead to one value only.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| !part.pattern)
    }

    /// Whether one of its parts is `*`: then it stands for all values that it leads to.
    pub fn is_many(&self) -> bool {
        self.parts.iter().any(|part| part.text == "*")
    }

    /// The keys of a plain path.
    pub fn keys(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.text.clone()).collect()
    }

    /// The one value it leads to.
    ///
    /// # Errors
    /// It leads to several.
    pub fn get<'a>(&self, value: &'a Value) -> Result<Option<&'a Value>, String> {
        if self.is_empty() {
            return Ok(Some(value));
        }
        let mut found = self.values(value).into_iter();
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(format!("the path `{self}` leads to more than one value")),
        }
    }

    /// All values it leads to, in the order of the document, level by level.
    pub fn values<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        self.walk(value, &mut Vec::new(), &mut |_, value| found.push(value));
        found
    }

    /// The ways to all values it leads to.
    pub fn ways(&self, value: &Value) -> Vec<Vec<Step>> {
        let mut found = Vec::new();
        self.walk(value, &mut Vec::new(), &mut |way, _| found.push(way.to_vec()));
        found
    }

    fn walk<'a>(&self, value: &'a Value, way: &mut Vec<Step>, found: &mut impl FnMut(&[Step], &'a Value)) {
        match self.deep {
            _ if self.parts.is_empty() => {}
            Some(deep) => every(value, way, &mut Vec::new(), &mut |way, lengths, value| {
                if self.matches(deep, way, lengths) {
                    found(way, value);
                }
            }),
            None => self.level(0, value, way, found),
        }
    }

    /// Without `**`: only what fits is followed.
    fn level<'a>(&self, at: usize, value: &'a Value, way: &mut Vec<Step>, found: &mut impl FnMut(&[Step], &'a Value)) {
        let Some(part) = self.parts.get(at) else { return };
        let last = at + 1 == self.parts.len();
        let mut visit = |step: Step, value: &'a Value, way: &mut Vec<Step>| {
            way.push(step);
            if last {
                found(way, value);
            } else {
                self.level(at + 1, value, way, found);
            }
            way.pop();
        };
        match value {
            Value::Map(map) if !part.pattern => {
                if let Some(value) = map.get(&part.text) {
                    visit(Step::Key(part.text.clone()), value, way);
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter().filter(|(key, _)| fits(key, &part.text)) {
                    visit(Step::Key(key.clone()), value, way);
                }
            }
            Value::List(list) => {
                for (index, value) in list.iter().enumerate().filter(|(index, _)| part.takes(*index, list.len())) {
                    visit(Step::Index(index), value, way);
                }
            }
            _ => {}
        }
    }

    /// With `**` at `deep`, which stands for none or more steps.
    fn matches(&self, deep: usize, way: &[Step], lengths: &[usize]) -> bool {
        let after = self.parts.len() - deep - 1;
        if way.len() < deep + after {
            return false;
        }
        let fit = |part: &Part, at: usize| match &way[at] {
            Step::Key(key) => fits(key, &part.text),
            Step::Index(index) => part.takes(*index, lengths[at]),
        };
        let tail = way.len() - after;
        (0..deep).all(|at| fit(&self.parts[at], at)) && (0..after).all(|at| fit(&self.parts[deep + 1 + at], tail + at))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.keys().join("."))
    }
}

impl Part {
    /// Whether it means this place of an array. A number is a place, else the place is text to the pattern.
    fn takes(&self, index: usize, length: usize) -> bool {
        match self.index {
            Some(wanted) => {
                let (index, length) = (i64::try_from(index).unwrap_or(i64::MAX), i64::try_from(length).unwrap_or(0));
                wanted == index || wanted + length == index
            }
            None => self.pattern && fits(&index.to_string(), &self.text),
        }
    }
}

/// Visits all that is inside a value: its children, then what is inside each.
pub fn every<'a>(
    value: &'a Value,
    way: &mut Vec<Step>,
    lengths: &mut Vec<usize>,
    found: &mut impl FnMut(&[Step], &[usize], &'a Value),
) {
    let children: Vec<(Step, usize, &'a Value)> = match value {
        Value::Map(map) => map.iter().map(|(key, value)| (Step::Key(key.clone()), 0, value)).collect(),
        Value::List(list) => list.iter().enumerate().map(|(at, value)| (Step::Index(at), list.len(), value)).collect(),
        _ => return,
    };
    for inside in [false, true] {
        for (step, length, child) in &children {
            way.push(step.clone());
            lengths.push(*length);
            if inside {
                every(child, way, lengths, found);
            } else {
                found(way, lengths, child);
            }
            lengths.pop();
            way.pop();
        }
    }
}

/// `fnmatch.fnmatchcase`: `*`, `?`, `[abc]`, `[!a-z]`.
fn fits(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last star stands, and the text that it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        let step = match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
                continue;
            }
            Some('[') => class(&pattern[of..], text[at]),
            Some('?') => Some((true, 1)),
            Some(wanted) => Some((*wanted == text[at], 1)),
            None => None,
        };
        match (step, star) {
            (Some((true, length)), _) => (at, of) = (at + 1, of + length),
            (_, Some((place, taken))) => {
                star = Some((place, taken + 1));
                (at, of) = (taken + 1, place + 1);
            }
            _ => return false,
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

/// Whether a class of characters at the start of `pattern` has this one, and how long the class is. A bracket that is
/// never closed stands for itself.
fn class(pattern: &[char], one: char) -> Option<(bool, usize)> {
    let negated = pattern.get(1) == Some(&'!');
    let start = 1 + usize::from(negated);
    let Some(end) = (start + 1..pattern.len()).find(|at| pattern[*at] == ']') else { return Some((one == '[', 1)) };
    let (mut at, mut has) = (start, false);
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            has |= (pattern[at]..=pattern[at + 2]).contains(&one);
            at += 3;
        } else {
            has |= pattern[at] == one;
            at += 1;
        }
    }
    Some((has != negated, end + 1))
}

/// Deletes what a way leads to. An element of an array leaves null behind unless it is the last. Whether there was
/// something.
pub fn delete(value: &mut Value, way: &[Step]) -> bool {
    let Some((last, before)) = way.split_last() else { return false };
    let Some(holder) = before.iter().try_fold(value, child_mut) else { return false };
    match (holder, last) {
        (Value::Map(map), Step::Key(key)) => Arc::make_mut(map).shift_remove(key).is_some(),
        (Value::List(list), Step::Index(index)) if *index < list.len() => {
            let list = Arc::make_mut(list);
            if *index + 1 == list.len() {
                list.pop();
            } else {
                list[*index] = Value::Null;
            }
            true
        }
        _ => false,
    }
}

/// Replaces every value that the path leads to, and creates none. How many there were.
pub fn set(value: &mut Value, path: &Path, written: &Value) -> usize {
    let ways = path.ways(value);
    for way in &ways {
        if let Some(place) = way.iter().try_fold(&mut *value, child_mut) {
            *place = written.clone();
        }
    }
    ways.len()
}

fn child_mut<'a>(value: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match (value, step) {
        (Value::Map(map), Step::Key(key)) if map.contains_key(key) => Arc::make_mut(map).get_mut(key),
        (Value::List(list), Step::Index(index)) if *index < list.len() => Arc::make_mut(list).get_mut(*index),
        _ => None,
    }
}

/// Writes along plain keys and makes what is missing on the way: arrays where a number follows, else objects.
///
/// # Errors
/// Something on the way is neither an object nor an array, or an array is asked for a name.
pub fn put(value: &mut Value, keys: &[String], written: Value) -> Result<(), String> {
    let mut holder = value;
    for (at, key) in keys.iter().enumerate() {
        let next = keys.get(at + 1);
        holder = match holder {
            Value::Map(map) => {
                let map = Arc::make_mut(map);
                let Some(next) = next else {
                    map.insert(key.clone(), written);
                    return Ok(());
                };
                map.entry(key.clone()).or_insert_with(|| fresh(next))
            }
            Value::List(list) => {
                let index = key.parse().ok().filter(|_| decimal(key));
                let Some(index) = index.filter(|index: &usize| *index < MAX_ARRAY_PLACE) else {
                    return Err(format!("`{key}` is no place in the array `{}`", keys[..at].join(".")));
                };
                let missing = index >= list.len();
                let list = Arc::make_mut(list);
                if missing {
                    list.resize(index + 1, Value::Null);
                }
                match next {
                    None => {
                        list[index] = written;
                        return Ok(());
                    }
                    Some(next) if missing => list[index] = fresh(next),
                    Some(_) => {}
                }
                &mut list[index]
            }
            _ => return Err(format!("`{}` is neither an object nor an array", keys[..at].join("."))),
        };
    }
    Ok(())
}

/// What holds a part of this name.
fn fresh(part: &str) -> Value {
    if decimal(part) { Value::list(Vec::new()) } else { Value::map(Map::new()) }
}

fn decimal(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::extract::stage::{json, texts};

    fn found(text: &str, path: &[&str]) -> Vec<String> {
        let path = Path::new(&texts(path)).unwrap();
        path.values(&json(text)).into_iter().map(Value::to_json).collect()
    }

    #[test]
    fn parts_are_patterns() {
        let text = r#"{"item1":[{"a":1},{"a":2}],"item2":[{"a":3}],"x":{"a":4}}"#;
        assert_eq!(found(text, &["item?", "*", "a"]), ["1", "2", "3"]);
        assert_eq!(found(text, &["item[!1]", "0", "a"]), ["3"]);
        assert_eq!(found(text, &["*1", "-1", "a"]), ["2"]);
        assert_eq!(found(text, &["item1", "[0-9]", "a"]), ["1", "2"]);
        assert_eq!(found(text, &["x", "a"]), ["4"]);
        assert_eq!(found(text, &["x", "a", "b"]), [""; 0]);
        assert_eq!(found(text, &[]), [""; 0]);
    }

    #[test]
    fn two_stars_stand_for_any_way() {
        let text = r#"{"a":1,"b":{"a":2,"c":[{"a":3}]}}"#;
        assert_eq!(found(text, &["**", "a"]), ["1", "2", "3"]);
        assert_eq!(found(text, &["b", "**", "a"]), ["2", "3"]);
        assert_eq!(found(r#"{"a":{"b":1}}"#, &["**"]), [r#"{"b":1}"#, "1"]);
        assert!(Path::new(&texts(&["**", "a", "**"])).is_err());
        let error = Path::new(&texts(&["**", "a"])).unwrap().get(&json(text)).unwrap_err();
        assert_eq!(error, "the path `**.a` leads to more than one value");
    }

    #[test]
    fn a_pattern_takes_what_fnmatch_takes() {
        for (text, pattern, expected) in [
            ("abc", "a*c", true),
            ("abc", "*b", false),
            ("ab", "a?", true),
            ("a", "a?", false),
            ("", "*", true),
            ("a]", "a[]]", true),
            ("b", "[a-c]", true),
            ("b", "[!a-c]", false),
            ("[", "[", true),
            ("xaxb", "*x?", true),
        ] {
            assert_eq!(fits(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn writing_makes_what_is_missing() {
        let written = |text: &str, path: &[&str]| {
            let mut value = json(text);
            put(&mut value, &texts(path), Value::Int(1)).map(|()| value.to_json())
        };
        assert_eq!(written("{}", &["a", "b"]).unwrap(), r#"{"a":{"b":1}}"#);
        assert_eq!(written("{}", &["a", "2", "b"]).unwrap(), r#"{"a":[null,null,{"b":1}]}"#);
        assert_eq!(written(r#"{"a":[7]}"#, &["a", "2"]).unwrap(), r#"{"a":[7,null,1]}"#);
        assert_eq!(written(r#"{"a":{"*":2}}"#, &["a", "*"]).unwrap(), r#"{"a":{"*":1}}"#);
        assert_eq!(written(r#"{"a":null}"#, &["a", "b"]).unwrap_err(), "`a` is neither an object nor an array");
        assert_eq!(written(r#"{"a":[]}"#, &["a", "b"]).unwrap_err(), "`b` is no place in the array `a`");
        assert!(written("{}", &["a", &MAX_ARRAY_PLACE.to_string()]).is_err());
    }

    #[test]
    fn deleting_from_an_array_leaves_null_behind_unless_it_is_the_last() {
        let deleted = |text: &str, path: &[&str]| {
            let mut value = json(text);
            for way in Path::new(&texts(path)).unwrap().ways(&value) {
                delete(&mut value, &way);
            }
            value.to_json()
        };
        assert_eq!(deleted(r#"{"a":[1,2,3],"b":1}"#, &["a", "0"]), r#"{"a":[null,2,3],"b":1}"#);
        assert_eq!(deleted(r#"{"a":[1,2,3],"b":1}"#, &["a", "2"]), r#"{"a":[1,2],"b":1}"#);
        assert_eq!(deleted(r#"{"a":[1,2,3],"b":1}"#, &["a", "*"]), r#"{"a":[null,null],"b":1}"#);
        assert_eq!(deleted(r#"{"a":{"b":1,"c":2},"d":3}"#, &["**", "b"]), r#"{"a":{"c":2},"d":3}"#);
    }

    #[test]
    fn a_path_has_a_limit() {
        assert!(Path::new(&vec!["a".to_owned(); MAX_PATH_PARTS + 1]).is_err());
    }
}
