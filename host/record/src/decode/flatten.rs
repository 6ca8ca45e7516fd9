//! The fields of a record, and, where nested values are flattened, of the objects and arrays in it.
//!
//! Objects become columns `parent__child`; elements of arrays become rows of subtables. Recursion ends at
//! [`MAX_FLATTEN_DEPTH`], so that no record can exhaust the stack.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Decoder, MAX_CHILD_ROWS, MAX_FLATTEN_DEPTH, MAX_NAME_BYTES, MAX_SUBTABLES,
    column::unquote,
    json::Batch,
    shape::Shape,
    stop::{Reject, Stop, Unforeseen},
    table::{Rows, Table, twice},
};
use crate::{
    schema::{DataType, StreamSchema},
    selection::Contract,
};

/// Elements after which the size of the batch is looked at again.
const CHECK_EVERY: usize = 1_024;

/// Where a field lies.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub table: usize,
    /// The flattened name of the object that it lies in, within its table; empty at the top.
    pub prefix: &'a str,
    /// Objects and arrays around it, the record itself not counted.
    pub depth: usize,
    /// Whether the selection holds all that lies here.
    pub wanted: bool,
}

impl Batch<'_> {
    /// Reads the fields of an object, which is valid JSON.
    pub fn object(&mut self, at: At<'_>, raw: &str) -> Result<(), Stop> {
        let mut stop = None;
        let read = serde_json::Deserializer::from_str(raw).deserialize_map(Fields { batch: self, at, stop: &mut stop });
        match (stop, read) {
            (Some(stop), _) => Err(stop),
            (None, Ok(())) => Ok(()),
            // The slice was delimited as valid JSON, so only text that is no Unicode (a key with a lone surrogate) ends
            // here.
            (None, Err(error)) => {
                let message = format!("a field name cannot be read: {error}");
                Err(Reject { reason: "invalid-text", message }.into())
            }
        }
    }

    #[inline]
    fn field(&mut self, at: At<'_>, key: &str, raw: &str) -> Result<(), Stop> {
        let name = match at.prefix {
            "" => Cow::Borrowed(key),
            prefix => Cow::Owned(format!("{prefix}__{key}")),
        };
        let wanted = at.wanted || self.decoder.wants(&name);
        if self.flatten && at.depth < MAX_FLATTEN_DEPTH && !self.stays_json(at.table, &name) {
            match raw.as_bytes()[0] {
                b'{' => return self.object(At { prefix: &name, depth: at.depth + 1, wanted, ..at }, raw),
                b'[' if wanted => return self.array(at.table, at.depth + 1, &name, raw),
                _ => {}
            }
        }
        if !wanted {
            return Ok(());
        }
        let Decoder { shapes, options, .. } = &mut *self.decoder;
        Table { shape: &mut shapes[at.table], rows: &mut self.tables[at.table], options }.put(&name, raw)
    }

    /// Whether nested values were stored as JSON in a column of this name, and stay so.
    fn stays_json(&self, table: usize, name: &str) -> bool {
        let shape = &self.decoder.shapes[table];
        shape.position(name).is_some_and(|position| shape.type_of(position) == DataType::Json)
    }

    /// Reads the elements of an array in the row under construction of `parent` as rows of its subtable.
    fn array(&mut self, parent: usize, depth: usize, name: &str, raw: &str) -> Result<(), Stop> {
        if raw[1..].trim_start().starts_with(']') {
            return Ok(());
        }
        let Some(child) = self.child(parent, name)? else { return Ok(()) };
        let source = Some((parent, self.tables[parent].rows));
        if self.tables[child].last_array == source {
            return Err(twice(name).into());
        }
        self.tables[child].last_array = source;
        self.levels.push(0);
        let mut stop = None;
        let elements = Elements { batch: self, child, depth, stop: &mut stop };
        let read = serde_json::Deserializer::from_str(raw).deserialize_seq(elements);
        self.levels.pop();
        read.expect("the slice was delimited as valid JSON, and elements are raw slices");
        stop.map_or(Ok(()), Err)
    }

    /// The subtable of an array, made now where it is new; `None` where the contract leaves its values out.
    fn child(&mut self, parent: usize, name: &str) -> Result<Option<usize>, Stop> {
        let path = match &self.decoder.shapes[parent].path {
            None => name.to_owned(),
            Some(above) => format!("{above}__{name}"),
        };
        if let Some(child) = self.decoder.paths.get(&path) {
            return Ok(Some(*child));
        }
        let shape = &self.decoder.shapes[parent];
        if let Some(reject) = shape.refuse_reserved(name) {
            return Err(reject.into());
        }
        if self.decoder.options.contract != Contract::Evolve {
            self.decoder.options.decide(&shape.stream, &Unforeseen::NewSubtable(&path))?;
            return Ok(None);
        }
        let refuse = |reason, message| Err(Stop::RejectRecord(Reject { reason, message }));
        if path.len() > MAX_NAME_BYTES {
            let shown = &path[..path.floor_char_boundary(60)];
            return refuse("name-too-long", format!("the array `{shown}…` has a path over {MAX_NAME_BYTES} bytes"));
        }
        if self.decoder.shapes.len() > MAX_SUBTABLES {
            let message = format!("the array `{path}` would be a subtable over the limit of {MAX_SUBTABLES}");
            return refuse("too-many-subtables", message);
        }
        let shape = Shape::new(self.decoder.child_stream(&path), Some(path), StreamSchema::default());
        self.tables.push(Rows::default());
        Ok(Some(self.decoder.add_child(shape)))
    }

    /// Reads one element as the next row of its subtable. What is wrong with it alone is settled here.
    fn element(&mut self, child: usize, depth: usize, raw: &str) -> Result<(), Stop> {
        self.elements += 1;
        if self.elements > MAX_CHILD_ROWS {
            let message = format!("the arrays of one batch hold more than {MAX_CHILD_ROWS} elements");
            return Err(Stop::RejectRecord(Reject { reason: "too-many-elements", message }));
        }
        if self.elements.is_multiple_of(CHECK_EVERY) {
            self.check_cells().map_err(Stop::Fail)?;
        }
        let standing = self.mark();
        let root = self.tables[0].rows;
        self.tables[child].begin(&self.decoder.shapes[child]);
        self.tables[child].begin_element(root, &self.levels);
        let at = At { table: child, prefix: "", depth, wanted: true };
        let read = match raw.as_bytes()[0] {
            b'n' => Ok(()),
            b'{' => self.object(at, raw),
            _ => self.field(at, "value", raw),
        };
        self.tables[child].rows += 1;
        match read {
            Ok(()) => {
                self.keep(&standing);
                self.tables[child].emitted += 1;
                Ok(())
            }
            Err(Stop::Reject(reject)) => {
                self.roll_back(&standing);
                self.reject(child, reject, raw);
                Ok(())
            }
            Err(Stop::Filter) => {
                self.roll_back(&standing);
                self.filter(child);
                Ok(())
            }
            Err(stop) => Err(stop),
        }
    }
}

struct Fields<'b, 'd, 's> {
    batch: &'b mut Batch<'d>,
    at: At<'b>,
    stop: &'s mut Option<Stop>,
}

impl<'de> Visitor<'de> for Fields<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let raw: &'de RawValue = map.next_value()?;
            if self.stop.is_none() {
                let name = unquote(key.get()).ok_or_else(|| serde::de::Error::custom("a lone surrogate"))?;
                if let Err(stop) = self.batch.field(self.at, &name, raw.get()) {
                    *self.stop = Some(stop);
                }
            }
        }
        Ok(())
    }
}

/// A key as its raw, quoted slice: names without escapes are compared without a copy.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'de RawValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

struct Elements<'b, 'd, 's> {
    batch: &'b mut Batch<'d>,
    child: usize,
    depth: usize,
    stop: &'s mut Option<Stop>,
}

impl<'de> Visitor<'de> for Elements<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let level = self.batch.levels.len() - 1;
        while let Some(raw) = elements.next_element::<&'de RawValue>()? {
            if self.stop.is_none() {
                *self.stop = self.batch.element(self.child, self.depth, raw.get()).err();
                self.batch.levels.truncate(level + 1);
                self.batch.levels[level] += 1;
            }
        }
        Ok(())
    }
}
