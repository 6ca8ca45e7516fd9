//! A serde deserializer over the located tree: unknown keys are refused with the nearest known one,
//! and every error carries its line and its key.
//!
//! Must never put a value that came from the environment into an error.

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{
    error::{Problem, plain},
    tree::{Key, Node, Value},
};

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.value {
            _ if self.expanded => Unexpected::Other("the value of an environment variable"),
            Value::Null => Unexpected::Unit,
            Value::Bool(flag) => Unexpected::Bool(*flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => Unexpected::Unsigned(number),
                (_, Some(number), _) => Unexpected::Signed(number),
                (_, _, Some(number)) => Unexpected::Float(number),
                _ => Unexpected::Other("a number"),
            },
            Value::Text(text) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    fn wrong(&self, expected: &dyn de::Expected) -> Problem {
        let mut problem = Problem::custom(format!("expected {}, found {}", plain(expected), self.unexpected()));
        problem.line = self.line;
        problem
    }

    /// The value of an expanded scalar as the number or flag that its text spells.
    fn reinterpreted(self) -> Self {
        let value = match &self.value {
            Value::Text(text) if self.expanded => match serde_json::from_str::<serde_json::Value>(text.trim()) {
                Ok(serde_json::Value::Number(number)) => Value::Number(number),
                Ok(serde_json::Value::Bool(flag)) => Value::Bool(flag),
                _ => self.value,
            },
            _ => self.value,
        };
        Self { value, ..self }
    }
}

fn located<T>(line: u64, result: Result<T, Problem>) -> Result<T, Problem> {
    result.map_err(|mut problem| {
        if problem.line == 0 {
            problem.line = line;
        }
        problem
    })
}

macro_rules! scalar {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            self.reinterpreted().deserialize_any(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let line = self.line;
        let probe = Probe(&visitor);
        let expected = self.wrong(&probe);
        let expanded = self.expanded;
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => return Err(expected),
            },
            Value::Text(text) => visitor.visit_string(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, None)),
        };
        // serde's own "invalid type" shows the value.
        result
            .map_err(|problem| if expanded && problem.path.is_empty() { expected } else { problem })
            .or_else(|problem| located(line, Err(problem)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => {
                let line = self.line;
                located(line, visitor.visit_some(self))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let line = self.line;
        match self.value {
            Value::Map(entries) => located(line, visitor.visit_map(Entries::new(entries, Some(fields)))),
            // A section whose settings are all commented out.
            Value::Null => located(line, visitor.visit_map(Entries::new(Vec::new(), Some(fields)))),
            _ => Err(self.wrong(&"a map of settings")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let line = self.line;
        match self.value {
            Value::Map(entries) => located(line, visitor.visit_map(Entries::new(entries, None))),
            Value::Null => located(line, visitor.visit_map(Entries::new(Vec::new(), None))),
            _ => Err(self.wrong(&"a map")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let known = format!("one of {}", variants.join(", "));
        match &self.value {
            Value::Text(text) if variants.contains(&text.as_str()) => {
                let chosen: de::value::StrDeserializer<'_, Problem> = text.as_str().into_deserializer();
                located(self.line, visitor.visit_enum(chosen))
            }
            _ => Err(self.wrong(&known.as_str())),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Problem> {
        let line = self.line;
        located(line, visitor.visit_newtype_struct(self))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    scalar! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct identifier
    }
}

/// Lets an error name what a visitor expects while the visitor is still needed.
struct Probe<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> de::Expected for Probe<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }
}

struct Items {
    items: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let (line, index) = (item.line, self.index);
        self.index += 1;
        located(line, seed.deserialize(item)).map(Some).map_err(|mut problem| {
            problem.path.push(index.to_string());
            problem
        })
    }
}

struct Entries {
    entries: std::vec::IntoIter<(Key, Node)>,
    known: Option<&'static [&'static str]>,
    current: Option<(Key, Node)>,
}

impl Entries {
    fn new(entries: Vec<(Key, Node)>, known: Option<&'static [&'static str]>) -> Self {
        Self { entries: entries.into_iter(), known, current: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        if let Some(known) = self.known
            && !known.contains(&key.name.as_str())
        {
            return Err(Problem::unknown_key(&key.name, key.line, known));
        }
        let name: de::value::StringDeserializer<Problem> = key.name.clone().into_deserializer();
        let parsed = located(key.line, seed.deserialize(name))?;
        self.current = Some((key, value));
        Ok(Some(parsed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, value) = self.current.take().expect("serde asks for a value after its key");
        // A value without a line of its own is told by the line of its key.
        let line = if value.line == 0 { key.line } else { value.line };
        located(line, seed.deserialize(value)).map_err(|mut problem| {
            problem.path.push(key.name);
            problem
        })
    }
}
