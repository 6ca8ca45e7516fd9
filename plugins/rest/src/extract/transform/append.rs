//! The raw path of added fields: those that are the same for all records of a page are written behind each as text.

use bytes::Bytes;

use crate::{
    error::Result,
    extract::scan,
    interpolation::Scope,
    value::{Map, Value},
};

use super::{Transformation, Work};

/// What is written behind every record.
pub struct Appendix {
    names: Vec<String>,
    /// The members as text, without brackets.
    text: Vec<u8>,
}

impl Appendix {
    /// Of transformations that do nothing but add fields which do not depend on the record; `None` where one does more.
    ///
    /// # Errors
    /// Kind config: a template fails.
    pub fn of(transformations: &[Transformation], scope: &Scope) -> Result<Option<Self>> {
        let mut fields = Map::new();
        for transformation in transformations {
            let Work::Add(add) = &transformation.work else { return Ok(None) };
            match add.constants(scope).map_err(|error| error.at(&transformation.at))? {
                Some(constants) => fields.extend(constants),
                None => return Ok(None),
            }
        }
        let names = fields.keys().cloned().collect();
        let text = Value::map(fields).to_json();
        Ok(Some(Self { names, text: text[1..text.len() - 1].into() }))
    }

    /// The record with these members behind its own; `None` where it has one of them already, or is no object.
    pub fn behind(&self, record: &[u8]) -> Option<Bytes> {
        let start = scan::blank(record, 0);
        if record.get(start) != Some(&b'{') {
            return None;
        }
        let (mut free, mut count) = (true, 0);
        let end = scan::members(record, start, |key, value| {
            count += 1;
            free &= !self.names.iter().any(|name| scan::key_is(record, key, name));
            scan::value_end(record, value)
        });
        let end = end.ok().filter(|_| free)?;
        let mut text = Vec::with_capacity(record.len() + self.text.len() + 2);
        text.extend(&record[start..end - 1]);
        if count > 0 && !self.text.is_empty() {
            text.push(b',');
        }
        text.extend(&self.text);
        text.push(b'}');
        Some(text.into())
    }
}
