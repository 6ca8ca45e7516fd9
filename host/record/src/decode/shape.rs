//! The schema of one table as it grows: of the stream itself, or of one of its subtables.

use std::collections::HashMap;

use super::{DecodeOptions, MAX_COLUMNS, MAX_NAME_BYTES, stop::Reject};
use crate::{
    schema::{DataType, Field, StreamSchema},
    system::{DELETED_FIELD, SYSTEM_PREFIX},
};

#[derive(Debug)]
pub struct Shape {
    /// Name of the stream or subtable.
    pub stream: String,
    /// Path of the array; `None` for the stream itself.
    pub path: Option<String>,
    pub schema: StreamSchema,
    index: HashMap<String, usize>,
    /// Whether it changed since that was last asked.
    grown: bool,
}

impl Shape {
    pub fn new(stream: String, path: Option<String>, schema: StreamSchema) -> Self {
        let index = schema.fields.iter().enumerate().map(|(i, field)| (field.name.clone(), i)).collect();
        Self { stream, path, schema, index, grown: true }
    }

    pub fn columns(&self) -> usize {
        self.schema.fields.len()
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub fn type_of(&self, position: usize) -> DataType {
        self.schema.fields[position].data_type
    }

    pub fn add(&mut self, name: String, data_type: DataType) -> usize {
        let position = self.columns();
        self.index.insert(name.clone(), position);
        self.schema.fields.push(Field { name, data_type, nullable: true });
        self.grown = true;
        position
    }

    pub fn widen(&mut self, position: usize, data_type: DataType) {
        self.grown |= self.schema.fields[position].data_type != data_type;
        self.schema.fields[position].data_type = data_type;
    }

    /// Takes back all columns but the first ones.
    pub fn truncate(&mut self, columns: usize) {
        for field in self.schema.fields.drain(columns..) {
            self.index.remove(&field.name);
        }
    }

    pub fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// Whether a field is the mark of a deleted record, which only the stream itself has.
    pub fn is_deletion(&self, name: &str) -> bool {
        name == DELETED_FIELD && self.path.is_none()
    }

    /// Why no field may be called so at all.
    pub fn refuse_reserved(&self, name: &str) -> Option<Reject> {
        if name.starts_with(SYSTEM_PREFIX) && !self.is_deletion(name) {
            let message = format!("the field `{name}` uses the reserved prefix `{SYSTEM_PREFIX}`");
            return Some(Reject { reason: "reserved-name", message });
        }
        None
    }

    /// Why a new field of this name cannot be added.
    pub fn refuse_new(&self, name: &str, options: &DecodeOptions) -> Option<Reject> {
        let limit = options.max_columns.min(MAX_COLUMNS);
        let (reason, message) = if name.len() > MAX_NAME_BYTES {
            let shown = &name[..name.floor_char_boundary(60)];
            ("name-too-long", format!("the field name `{shown}…` is longer than {MAX_NAME_BYTES} bytes"))
        } else if name.is_empty() {
            ("empty-name", "a field has an empty name".to_owned())
        } else if self.is_deletion(name) {
            // One of the host's columns, which the limit leaves room for.
            return None;
        } else if self.path.is_none() && options.taken.contains(name) {
            let message = format!("the field `{name}` has the name that another field was given by `rename`");
            ("name-collision", message)
        } else if self.columns() >= limit {
            let message = format!("the field `{name}` would be column {}, over the limit of {limit}", limit + 1);
            ("too-many-columns", message)
        } else {
            return None;
        };
        Some(Reject { reason, message })
    }
}
