//! How the columns of a stream leave extraction: renamed, hashed, masked.
//!
//! Owns what an operator chose to hide: a value that is to be hashed or masked passes here before anything is staged,
//! and so does the raw text of rejected records. Must never let such a value through under another name: columns that
//! evolution derives from a hidden field (`email__text`, `user__email` of a hidden `user`) are hidden like it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, cast::AsArray};
use arrow_schema::{ArrowError, DataType as ArrowType};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::Sha256;
use thimble_record::{
    DataType, Field, StreamSchema, StreamSelection, SystemColumn, SystemNaming,
    system::{DELETED_FIELD, SDC_PREFIX},
};

/// What stands in the place of a masked value.
pub const MASKED: &str = "***";

/// Between the names of a field and of what lies in it or derives from it.
const INSIDE: &str = "__";

/// What is done to the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Hash,
    Mask,
}

/// The operator's choices about the columns of one stream, or of one of its subtables.
#[derive(Clone)]
pub struct Shape {
    rename: BTreeMap<String, String>,
    /// By field; an empty name stands for every field.
    hidden: Vec<(String, Treatment)>,
    /// Fields that were asked for; the others do not stay in raw records either.
    wanted: Option<BTreeSet<String>>,
    naming: SystemNaming,
    /// Keys the digests, so that they cannot be looked up in a list of likely values.
    key: [u8; 32],
}

impl fmt::Debug for Shape {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rename, hidden, wanted, naming, key: _ } = self;
        let mut shown = f.debug_struct("Shape");
        shown.field("rename", rename).field("hidden", hidden).field("wanted", wanted).field("naming", naming);
        shown.finish_non_exhaustive()
    }
}

impl Shape {
    /// The choices of a selection. `key` keys the digests of hashed values; `wanted` names the fields asked for.
    ///
    /// # Errors
    /// One sentence, where two fields would get one name.
    pub fn new(selection: &StreamSelection, wanted: Option<BTreeSet<String>>, key: [u8; 32]) -> Result<Self, String> {
        let mut targets = BTreeSet::new();
        for (field, column) in &selection.rename {
            let own = column.is_empty() || column.starts_with(thimble_record::system::SYSTEM_PREFIX);
            if own || !targets.insert(column) {
                let why = if own { "is not a name for it" } else { "is the new name of another field, too" };
                return Err(format!("stream {}: `rename` of `{field}`: {column:?} {why}", selection.stream));
            }
        }
        let masks = selection.mask.iter().map(|field| (field.clone(), Treatment::Mask));
        let hashes = selection.hash.iter().map(|field| (field.clone(), Treatment::Hash));
        Ok(Self {
            rename: selection.rename.clone(),
            hidden: masks.chain(hashes).collect(),
            wanted,
            naming: selection.system_columns,
            key,
        })
    }

    /// Names of the host's columns.
    pub fn naming(&self) -> SystemNaming {
        self.naming
    }

    /// Names that no new field may have, because a renamed field has them.
    pub fn taken(&self) -> BTreeSet<String> {
        self.rename.values().filter(|column| !self.rename.contains_key(*column)).cloned().collect()
    }

    /// Why a field cannot become a column beside the host's; `None` where it can.
    pub fn clash(&self, field: &str) -> Option<String> {
        let column = self.column(field);
        let reserved = self.naming == SystemNaming::Sdc && column.starts_with(SDC_PREFIX) && field != DELETED_FIELD;
        reserved.then(|| format!("the field `{field}` uses the prefix `{SDC_PREFIX}` of the host's columns: rename it"))
    }

    /// The column that a field becomes.
    pub fn column(&self, field: &str) -> String {
        if field == DELETED_FIELD {
            return self.naming.name(SystemColumn::DeletedAt).to_owned();
        }
        self.rename.get(field).cloned().unwrap_or_else(|| field.to_owned())
    }

    /// The choices about a subtable, by the path of its array.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let inside = format!("{path}{INSIDE}");
        let covers = |name: &str| name.is_empty() || path == name || path.starts_with(&format!("{name}{INSIDE}"));
        let below = |(name, treatment): &(String, Treatment)| {
            if covers(name) {
                return Some((String::new(), *treatment));
            }
            name.strip_prefix(&inside).map(|rest| (rest.to_owned(), *treatment))
        };
        let renamed = |(field, column): (&String, &String)| {
            field.strip_prefix(&inside).map(|rest| (rest.to_owned(), column.clone()))
        };
        Self {
            rename: self.rename.iter().filter_map(renamed).collect(),
            hidden: self.hidden.iter().filter_map(below).collect(),
            wanted: None,
            naming: self.naming,
            key: self.key,
        }
    }

    /// The same without hashing and masking, for records that went through it before.
    #[must_use]
    pub fn of_treated(&self) -> Self {
        Self { hidden: Vec::new(), ..self.clone() }
    }

    /// The fields of a table, for those of a stream. System columns are not among them, but for the deletion mark.
    pub fn table(&self, source: &StreamSchema) -> StreamSchema {
        let column = |field: &Field| Field { name: self.column(&field.name), ..self.treated(field) };
        StreamSchema::new(source.fields.iter().map(column).collect())
    }

    /// The stream's fields under their own names, with the types that hidden values have.
    pub fn treated_source(&self, source: &StreamSchema) -> StreamSchema {
        let children = source.children.iter();
        StreamSchema {
            fields: source.fields.iter().map(|field| self.treated(field)).collect(),
            children: children.map(|(path, child)| (path.clone(), self.child(path).treated_source(child))).collect(),
        }
    }

    /// Undoes [`treated_source`](Self::treated_source) for a schema that has grown since: fields that `original` had get
    /// their type back.
    pub fn untreated_source(&self, grown: &StreamSchema, original: &StreamSchema) -> StreamSchema {
        let field = |field: &Field| match original.field(&field.name) {
            Some(known) if self.treatment(&field.name).is_some() => known.clone(),
            _ => field.clone(),
        };
        let none = StreamSchema::default();
        let child = |(path, grown): (&String, &StreamSchema)| {
            let original = original.children.get(path).unwrap_or(&none);
            (path.clone(), self.child(path).untreated_source(grown, original))
        };
        StreamSchema {
            fields: grown.fields.iter().map(field).collect(),
            children: grown.children.iter().map(child).collect(),
        }
    }

    fn treated(&self, field: &Field) -> Field {
        match self.treatment(&field.name) {
            None => field.clone(),
            Some(_) => Field { data_type: DataType::Text, ..field.clone() },
        }
    }

    fn treatment(&self, field: &str) -> Option<Treatment> {
        let covers = |name: &str| {
            name.is_empty() || field.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with(INSIDE))
        };
        self.hidden.iter().find(|(name, _)| covers(name)).map(|(_, treatment)| *treatment)
    }

    /// Rows of the stream as rows of its table.
    pub fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.rename.is_empty() && self.hidden.is_empty() && rows.column_by_name(DELETED_FIELD).is_none() {
            return Ok(rows.clone());
        }
        let mut fields = Vec::with_capacity(rows.num_columns());
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(rows.num_columns());
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let name = self.column(field.name());
            match self.treatment(field.name()) {
                None => {
                    fields.push(field.as_ref().clone().with_name(name));
                    columns.push(Arc::clone(column));
                }
                Some(treatment) => {
                    fields.push(Field { name, data_type: DataType::Text, nullable: true }.to_arrow());
                    columns.push(self.hide(treatment, column)?);
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(arrow_schema::Schema::new(fields)), columns, &options)
    }

    fn hide(&self, treatment: Treatment, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        if treatment == Treatment::Mask {
            let masked = (0..column.len()).map(|row| column.is_valid(row).then_some(MASKED));
            return Ok(Arc::new(masked.collect::<StringArray>()));
        }
        let hashed: StringArray = if let Some(bytes) = column.as_binary_opt::<i32>() {
            bytes.iter().map(|value| value.map(|value| self.digest(value))).collect()
        } else {
            let text = arrow_cast::cast(column, &ArrowType::Utf8)?;
            text.as_string::<i32>().iter().map(|value| value.map(|value| self.digest(value.as_bytes()))).collect()
        };
        Ok(Arc::new(hashed))
    }

    /// HMAC-SHA256 (RFC 2104) in hexadecimal digits.
    fn digest(&self, value: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(value);
        hex::encode(mac.finalize().into_bytes())
    }

    /// Whether raw records may hold what must not be kept.
    fn redacts(&self) -> bool {
        !self.hidden.is_empty() || self.wanted.is_some()
    }

    /// A raw record without what the operator hid; `None` where it cannot be read, so that nothing of it may stay.
    pub fn redact(&self, raw: &str) -> Option<String> {
        if !self.redacts() {
            return Some(raw.to_owned());
        }
        let mut kept = String::with_capacity(raw.len());
        self.redact_object(raw, "", &mut kept)?;
        Some(kept)
    }

    fn redact_object(&self, raw: &str, prefix: &str, kept: &mut String) -> Option<()> {
        let members = serde_json::Deserializer::from_str(raw).deserialize_map(Members).ok()?;
        kept.push('{');
        let mut first = true;
        for (key, value) in members {
            let field = format!("{prefix}{key}");
            if prefix.is_empty() && self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&key)) {
                continue;
            }
            if !std::mem::take(&mut first) {
                kept.push(',');
            }
            kept.push_str(&serde_json::to_string(&key).expect("text always serializes"));
            kept.push(':');
            self.redact_value(&field, value.get(), kept)?;
        }
        kept.push('}');
        Some(())
    }

    fn redact_value(&self, field: &str, raw: &str, kept: &mut String) -> Option<()> {
        let inside = format!("{field}{INSIDE}");
        let treatment = self.treatment(field).filter(|_| raw != "null");
        match treatment {
            Some(Treatment::Mask) => kept.push_str(&format!("\"{MASKED}\"")),
            Some(Treatment::Hash) => {
                let text = serde_json::from_str::<String>(raw).unwrap_or_else(|_| raw.to_owned());
                kept.push_str(&format!("\"{}\"", self.digest(text.as_bytes())));
            }
            None if !self.hidden.iter().any(|(name, _)| name.starts_with(&inside)) => kept.push_str(raw),
            None if raw.starts_with('{') => self.redact_object(raw, &inside, kept)?,
            // Something below is hidden, and an array cannot be walked by names: it goes as a whole.
            None if raw.starts_with('[') => kept.push_str(&format!("\"{MASKED}\"")),
            None => kept.push_str(raw),
        }
        Some(())
    }
}

/// The rows whose key has a null, with the name of the column; every row where a key column is missing.
pub fn incomplete_keys(rows: &RecordBatch, key: &[String]) -> Vec<(usize, String)> {
    let mut found = BTreeMap::new();
    for name in key {
        match rows.column_by_name(name) {
            None => found.extend((0..rows.num_rows()).map(|row| (row, name.clone()))),
            Some(column) if column.null_count() == 0 => {}
            Some(column) => {
                found.extend((0..rows.num_rows()).filter(|row| column.is_null(*row)).map(|row| (row, name.clone())));
            }
        }
    }
    found.into_iter().collect()
}

/// The members of an object, repeated ones included, in order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_array::Int64Array;

    use super::*;

    fn shape(selection: StreamSelection) -> Shape {
        Shape::new(&selection, None, [7; 32]).unwrap()
    }

    fn rows() -> RecordBatch {
        let field = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
        let schema = StreamSchema::new(vec![
            field("id", DataType::Int64),
            field("email", DataType::Text),
            field("email__integer", DataType::Int64),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("a@b"), None])),
            Arc::new(Int64Array::from(vec![None, Some(42)])),
        ];
        RecordBatch::try_new(schema.to_arrow(), columns).unwrap()
    }

    #[test]
    fn columns_are_renamed_and_hidden_with_all_that_derives_from_them() {
        let hash = vec!["email".to_owned()];
        let rename = BTreeMap::from([("email".to_owned(), "mail".to_owned())]);
        let shape = shape(StreamSelection { hash, rename, ..StreamSelection::of("s") });
        let shaped = shape.rows(&rows()).unwrap();
        let text = |name: &str| shaped.column_by_name(name).unwrap().as_string::<i32>().clone();
        assert_eq!(text("mail").value(0), shape.digest(b"a@b"));
        assert!(text("mail").is_null(1));
        assert_eq!(text("email__integer").value(1), shape.digest(b"42"));
        assert_eq!(shaped.column_by_name("id").unwrap().len(), 2);
        let table = shape.table(&StreamSchema::new(
            rows().schema().fields().iter().map(|field| Field::from_arrow(field).unwrap()).collect(),
        ));
        assert_eq!(table.to_arrow().fields(), shaped.schema().fields());
    }

    #[test]
    fn equal_values_stay_equal_and_another_key_gives_another_digest() {
        let hash = vec!["email".to_owned()];
        let selection = StreamSelection { hash, ..StreamSelection::of("s") };
        let (one, other) =
            (Shape::new(&selection, None, [1; 32]).unwrap(), Shape::new(&selection, None, [2; 32]).unwrap());
        assert_eq!(one.digest(b"x"), one.digest(b"x"));
        assert_ne!(one.digest(b"x"), other.digest(b"x"));
    }

    #[test]
    fn raw_records_lose_what_is_hidden_or_was_not_asked_for() {
        let selection = StreamSelection {
            hash: vec!["email".into()],
            mask: vec!["user__ssn".into(), "pins".into()],
            ..StreamSelection::of("s")
        };
        let wanted = ["email", "user", "pins", "big"].map(String::from).into();
        let shape = Shape::new(&selection, Some(wanted), [7; 32]).unwrap();
        let raw = r#"{"email":"a@b","user":{"ssn":"1-2","name":"n"},"pins":[1],"big":1e400,"other":"x","email":null}"#;
        let digest = shape.digest(b"a@b");
        let expected = format!(
            r#"{{"email":"{digest}","user":{{"ssn":"***","name":"n"}},"pins":"***","big":1e400,"email":null}}"#
        );
        assert_eq!(shape.redact(raw).unwrap(), expected);
        assert_eq!(shape.redact("{\"email\":\"a@b\""), None);
        assert_eq!(shape.child("user").redact(r#"{"ssn":"1"}"#).unwrap(), r#"{"ssn":"***"}"#);
        assert_eq!(shape.child("pins").redact(r#"{"value":1}"#).unwrap(), r#"{"value":"***"}"#);
    }

    #[test]
    fn two_fields_never_share_a_name() {
        let rename = |pairs: &[(&str, &str)]| StreamSelection {
            rename: pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            ..StreamSelection::of("s")
        };
        assert!(Shape::new(&rename(&[("a", "c"), ("b", "c")]), None, [0; 32]).unwrap_err().contains("`b`"));
        assert!(Shape::new(&rename(&[("a", "_thimble_batch")]), None, [0; 32]).is_err());
        let swapped = shape(rename(&[("a", "b"), ("b", "a")]));
        assert!(swapped.taken().is_empty());
        assert_eq!(shape(rename(&[("a", "b")])).taken(), BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn rows_without_a_whole_key_are_found() {
        let key = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(incomplete_keys(&rows(), &key(&["id"])), []);
        assert_eq!(incomplete_keys(&rows(), &key(&["id", "email"])), [(1, "email".to_owned())]);
        assert_eq!(incomplete_keys(&rows(), &key(&["absent"])).len(), 2);
    }
}
