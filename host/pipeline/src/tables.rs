//! The schemas of a stream's tables: its own and those of its arrays, with the columns that the host adds.

use std::collections::BTreeMap;

use thimble_engine::shape::Shape;
use thimble_record::{DataType, Field, StreamSchema, SystemColumn, SystemNaming, decode::Decoder};

use crate::batch::Target;

/// Most columns that the host adds to one table, the destination's own included.
pub const SYSTEM_COLUMNS: usize = 12;

/// What a stream's records become, as its schema stands now.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The stream's own schema, as it is stored for the next run.
    pub source: StreamSchema,
    /// Its table, without system columns.
    pub table: StreamSchema,
    /// Its arrays' tables, by path.
    pub children: BTreeMap<String, ChildTable>,
}

/// The table of an array.
#[derive(Debug, Clone)]
pub struct ChildTable {
    pub stream: String,
    /// Without system columns.
    pub table: StreamSchema,
}

impl Tables {
    /// The tables of a decoder's schema.
    pub fn of(decoder: &Decoder, shape: &Shape) -> Self {
        let source = decoder.schema().clone();
        let children = source.children.iter().map(|(path, schema)| {
            let child = ChildTable { stream: decoder.child_stream(path), table: shape.child(path).table(schema) };
            (path.clone(), child)
        });
        Self { table: shape.table(&source), children: children.collect(), source }
    }
}

fn system(naming: SystemNaming, column: SystemColumn, data_type: DataType) -> Field {
    Field { name: naming.name(column).into(), data_type, nullable: true }
}

/// A table's schema with the columns that staged rows have behind it.
pub fn with_system_columns(table: &StreamSchema, naming: SystemNaming) -> StreamSchema {
    let mut fields = table.fields.clone();
    fields.push(system(naming, SystemColumn::ExtractedAt, DataType::TimestampTz));
    if naming == SystemNaming::Sdc {
        fields.push(system(naming, SystemColumn::ReceivedAt, DataType::TimestampTz));
    }
    fields.push(system(naming, SystemColumn::Batch, DataType::Int64));
    fields.push(system(naming, SystemColumn::Sequence, DataType::Int64));
    StreamSchema::new(fields)
}

/// The columns by which the rows of an array name their record: its sequence and its key.
pub fn root_columns(root: &Target, table: &StreamSchema) -> Vec<Field> {
    let mut fields = vec![system(root.system, SystemColumn::RootSequence, DataType::Int64)];
    fields.extend(root.key.iter().filter_map(|key| {
        let data_type = table.field(key)?.data_type;
        Some(Field { name: root.system.root_key(key), data_type, nullable: true })
    }));
    fields
}

/// The columns that say where in its arrays a row stood.
pub fn level_columns(naming: SystemNaming, levels: usize) -> impl Iterator<Item = Field> {
    (0..levels).map(move |level| Field { name: naming.level(level), data_type: DataType::Int64, nullable: true })
}
