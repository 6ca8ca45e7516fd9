//! References: every text that begins with `#/`, and `$ref` members, replaced by what they name.
//!
//! What is referenced twice is resolved once and shared. Must never look at what a component means.

use std::{collections::HashMap, sync::Arc};

use super::{trail::Trail, yaml::too_deep};
use crate::{
    error::{RestError, Result},
    limits::{MAX_MANIFEST_DEPTH, MAX_MANIFEST_NODES},
    value::{Map, Value},
};

/// Members whose values are settings: a text in them that looks like a reference is none.
const HOLDS_SETTINGS: &str = "config_overrides";

/// Members of a manifest that stand only where they are used; nobody looks at them by themselves.
const LIBRARIES: [&str; 2] = ["definitions", "schemas"];

/// A manifest with every reference replaced, without its [`LIBRARIES`].
pub fn resolve(manifest: &Map) -> Result<Value> {
    let whole = Value::map(manifest.clone());
    let used = manifest.iter().filter(|(key, _)| !LIBRARIES.contains(&key.as_str()));
    let used = Value::map(used.map(|(key, value)| (key.clone(), value.clone())).collect());
    let (done, open, trail) = (HashMap::new(), Vec::new(), Trail::default());
    let resolved = Resolver { manifest: &whole, done, open, trail, depth: 0, made: 0 }.node(&used)?.value;
    // What is shared in memory is written out by those who walk it.
    if written_out(&resolved, &mut HashMap::new()) > MAX_MANIFEST_NODES {
        return Err(too_many());
    }
    Ok(resolved)
}

fn too_many() -> RestError {
    let message = format!("with its references followed, the manifest has more than {MAX_MANIFEST_NODES} values");
    RestError::config(message)
}

/// Values in a value, shared ones as often as they occur. `known` holds the counts of what was met, by address.
fn written_out(value: &Value, known: &mut HashMap<usize, usize>) -> usize {
    let (address, members): (usize, Vec<&Value>) = match value {
        Value::Map(map) => (Arc::as_ptr(map) as usize, map.values().collect()),
        Value::List(list) => (Arc::as_ptr(list) as usize, list.iter().collect()),
        _ => return 1,
    };
    if let Some(count) = known.get(&address) {
        return *count;
    }
    let count = members.into_iter().fold(1_usize, |sum, member| sum.saturating_add(written_out(member, known)));
    known.insert(address, count);
    count
}

/// A value without references.
#[derive(Clone)]
struct Resolved {
    value: Value,
    /// Levels of nesting.
    height: usize,
}

struct Resolver<'a> {
    manifest: &'a Value,
    done: HashMap<&'a str, Resolved>,
    /// References that are being resolved.
    open: Vec<&'a str>,
    trail: Trail<'a>,
    depth: usize,
    made: usize,
}

impl<'a> Resolver<'a> {
    fn node(&mut self, value: &'a Value) -> Result<Resolved> {
        self.made += 1;
        if self.made > MAX_MANIFEST_NODES {
            return Err(too_many().at(self.trail.path()));
        }
        if self.depth > MAX_MANIFEST_DEPTH {
            return Err(too_deep().at(self.trail.path()));
        }
        self.depth += 1;
        let resolved = match value {
            Value::Map(map) => self.map(map),
            Value::List(list) => self.list(list),
            Value::Str(text) if text.starts_with("#/") => self.reference(text),
            other => Ok(Resolved { value: other.clone(), height: 0 }),
        };
        self.depth -= 1;
        resolved
    }

    fn map(&mut self, map: &'a Map) -> Result<Resolved> {
        let mut own = Map::with_capacity(map.len());
        let mut height = 0;
        for (key, value) in map.iter().filter(|(key, _)| *key != "$ref") {
            let member = if key == HOLDS_SETTINGS {
                Resolved { value: value.clone(), height: 0 }
            } else {
                self.trail.enter(key);
                let member = self.node(value)?;
                self.trail.leave();
                member
            };
            height = self.over(height, &member)?;
            own.insert(key.clone(), member.value);
        }
        let Some(reference) = map.get("$ref") else { return Ok(Resolved { value: Value::map(own), height }) };
        self.trail.enter("$ref");
        let base = self.node(reference)?;
        self.trail.leave();
        let Some(members) = base.value.as_map() else { return Ok(base) };
        if own.is_empty() {
            return Ok(base);
        }
        let mut all = members.clone();
        all.extend(own);
        self.made += all.len();
        Ok(Resolved { value: Value::map(all), height: height.max(base.height) })
    }

    fn list(&mut self, list: &'a [Value]) -> Result<Resolved> {
        let mut items = Vec::with_capacity(list.len());
        let mut height = 0;
        for (at, value) in list.iter().enumerate() {
            self.trail.enter_item(at);
            let item = self.node(value)?;
            self.trail.leave();
            height = self.over(height, &item)?;
            items.push(item.value);
        }
        Ok(Resolved { value: Value::list(items), height })
    }

    /// The height of a node with one more member.
    fn over(&self, height: usize, member: &Resolved) -> Result<usize> {
        let height = height.max(member.height + 1);
        if height > MAX_MANIFEST_DEPTH { Err(too_deep().at(self.trail.path())) } else { Ok(height) }
    }

    fn reference(&mut self, reference: &'a str) -> Result<Resolved> {
        if let Some(done) = self.done.get(reference) {
            return Ok(done.clone());
        }
        if self.open.contains(&reference) {
            let message = format!("the reference `{reference}` leads back to itself");
            return Err(RestError::config(message).at(self.trail.path()));
        }
        let target = lookup(&reference[2..], self.manifest).ok_or_else(|| {
            let message = format!("the reference `{reference}` names nothing in this manifest");
            RestError::config(message).at(self.trail.path())
        })?;
        self.open.push(reference);
        let before = self.trail.jump(&reference[2..]);
        let resolved = self.node(target)?;
        self.trail.back(before);
        self.open.pop();
        self.done.insert(reference, resolved.clone());
        Ok(resolved)
    }
}

/// What a path names: the whole rest of it as a key first, then its first part.
fn lookup<'a>(path: &str, from: &'a Value) -> Option<&'a Value> {
    let (mut rest, mut node) = (path, from);
    while !rest.is_empty() {
        if let Some(value) = node.get(rest) {
            return Some(value);
        }
        let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
        node = match (node, head.trim().parse::<i64>()) {
            (Value::List(items), Ok(at)) => {
                let at = if at < 0 { at + i64::try_from(items.len()).ok()? } else { at };
                items.get(usize::try_from(at).ok()?)?
            }
            (node, _) => node.get(head)?,
        };
        rest = tail;
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolved(json: &str) -> Result<String> {
        resolve(Value::from_json(json.as_bytes()).unwrap().as_map().unwrap()).map(|value| value.to_json())
    }

    #[test]
    fn siblings_of_a_reference_win_and_references_nest() {
        let text = r##"{"a":{"x":1,"y":{"$ref":"#/b"}},"b":{"z":"#/c/1"},"c":[0,2],"d":{"y":3,"$ref":"#/a","w":4}}"##;
        let told = r#"{"a":{"x":1,"y":{"z":2}},"b":{"z":2},"c":[0,2],"d":{"x":1,"y":3,"w":4}}"#;
        assert_eq!(resolved(text).unwrap(), told);
    }

    #[test]
    fn a_key_with_a_slash_wins_over_the_path_that_it_looks_like() {
        let text =
            r##"{"n":{"p":"first"},"n/p":"uh oh","v":"#/n/p","d":{"e/f":7},"w":"#/d/e/f","l":"#/c/-1","c":[1,2]}"##;
        let told = r#"{"n":{"p":"first"},"n/p":"uh oh","v":"uh oh","d":{"e/f":7},"w":7,"l":2,"c":[1,2]}"#;
        assert_eq!(resolved(text).unwrap(), told);
    }

    #[test]
    fn a_reference_to_a_scalar_takes_the_place_of_the_object_around_it() {
        assert_eq!(resolved(r##"{"a":5,"b":{"$ref":"#/a","c":1}}"##).unwrap(), r#"{"a":5,"b":5}"#);
    }

    #[test]
    fn settings_of_the_check_are_not_references() {
        let text = r##"{"check":{"config_overrides":{"path":"#/nowhere"}}}"##;
        assert_eq!(resolved(text).unwrap(), text);
    }

    #[test]
    fn a_cycle_and_a_reference_to_nothing_are_told_with_their_place() {
        let told = resolved(r##"{"a":{"b":{"$ref":"#/c"}},"c":{"d":["#/a"]}}"##).unwrap_err().to_string();
        assert_eq!(told, "a.b.$ref: the reference `#/c` leads back to itself");
        let told = resolved(r##"{"streams":[{"$ref":"#/definitions/x"}],"definitions":{}}"##).unwrap_err().to_string();
        assert_eq!(told, "streams[0].$ref: the reference `#/definitions/x` names nothing in this manifest");
    }

    #[test]
    fn references_that_double_at_every_step_are_refused_before_they_fill_the_memory() {
        let mut text = String::from(r#"{"r0":[1,2]"#);
        for step in 1..40 {
            let before = step - 1;
            text.push_str(&format!(r##","r{step}":["#/r{before}","#/r{before}"]"##));
        }
        text.push('}');
        let told = resolved(&text).unwrap_err().to_string();
        assert!(told.ends_with("with its references followed, the manifest has more than 1000000 values"), "{told}");
    }

    #[test]
    fn references_that_nest_too_deep_are_refused() {
        let mut text = String::from(r#"{"r0":[1]"#);
        for step in 1..MAX_MANIFEST_DEPTH + 1 {
            text.push_str(&format!(r##","r{step}":["#/r{}"]"##, step - 1));
        }
        text.push('}');
        let told = resolved(&text).unwrap_err().to_string();
        assert!(told.ends_with("the manifest is nested deeper than 128 levels"), "{told}");
    }
}
