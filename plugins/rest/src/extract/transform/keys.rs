//! Names of fields.

use any_ascii::any_ascii;

use crate::{
    error::Result,
    interpolation::{Scope, Template},
    node::Node,
    value::{Map, Value},
};

/// The names at the top in lower case.
pub fn to_lower(record: &mut Map) {
    let members = std::mem::take(record).into_iter();
    record.extend(members.map(|(key, value)| (key.to_lowercase(), value)));
}

/// With other names, also in objects inside of objects; not in arrays.
pub fn renamed(record: &Value, name: &dyn Fn(&str) -> String) -> Value {
    match record {
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (name(key), renamed(value, name))).collect()),
        value => value.clone(),
    }
}

/// `KeysReplace`.
#[derive(Debug, Clone)]
pub struct Replace {
    old: Template,
    new: Template,
}

impl Replace {
    pub fn build(node: &Node<'_>) -> Result<Self> {
        // Either may be empty.
        Ok(Self { old: Template::new(&node.need("old")?, node)?, new: Template::new(&node.need("new")?, node)? })
    }

    pub fn apply(&self, record: &mut Value, scope: &mut Scope) -> Result<()> {
        let (old, new) = super::with_record(record, scope, |scope| {
            Ok::<_, crate::error::RestError>((self.old.text(scope)?, self.new.text(scope)?))
        })?;
        *record = renamed(record, &|key| key.replace(&old, &new));
        Ok(())
    }
}

/// `KeysToSnakeCase`: the words of a name as the reference sees them, in lower case.
pub fn snake_case(key: &str) -> String {
    let mut words = words(&any_ascii(key));
    // What stands between words counts only at the ends.
    if words.len() >= 3 {
        let last = words.len() - 1;
        let mut at = 0;
        words.retain(|word| {
            at += 1;
            at == 1 || at == last + 1 || !word.is_empty()
        });
    }
    if words.first().is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())) {
        words.insert(0, String::new());
    }
    words.join("_").to_lowercase()
}

/// Words (capitals and the small letters behind them, small letters, digits); an empty one for all else.
fn words(key: &str) -> Vec<String> {
    let bytes = key.as_bytes();
    let run = |from: usize, is: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|byte| is(byte)).count();
    let (mut words, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'A'..=b'Z' => run(run(at, u8::is_ascii_uppercase), u8::is_ascii_lowercase),
            b'a'..=b'z' => run(at, u8::is_ascii_lowercase),
            b'0'..=b'9' => run(at, u8::is_ascii_digit),
            _ => {
                at = run(at, |byte| !byte.is_ascii_alphanumeric());
                words.push(String::new());
                continue;
            }
        };
        words.push(key[at..end].to_owned());
        at = end;
    }
    words
}
