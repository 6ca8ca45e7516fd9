//! `views.sql`: DuckDB statements that make each stream a view of its committed files.
//!
//! The view of an upserted table shows what [`Lake::scan`] shows; the module's own words for it are in [`super`].

use arrow_array::{TimestampMillisecondArray, cast::AsArray};
use thimble_record::{BatchSeq, ConnectionId, DataType, DeleteMode, StreamSchema, SystemColumn, WriteMode};

use super::{
    Lake,
    commit::{GenerationState, LakeState, TableState},
    names,
};
use crate::limits::EAGER_FILES;

/// Columns of the views' own, left out of what they show; fields of streams cannot have these names.
const LAST_DELETED: &str = "\"_thimble_last_deleted_at\"";
const LAST_BATCH: &str = "\"_thimble_last_batch\"";

impl Lake {
    /// The whole file.
    pub(super) fn views(&self, connection: &ConnectionId, state: &LakeState) -> String {
        let mut sql = heading(state.seq);
        let root = |table: &TableState| table.current().and_then(|(_, visible)| visible.reading.root.clone());
        // The view of a subtable reads that of its root, so roots come first.
        let (roots, children): (Vec<_>, Vec<_>) = state.tables.iter().partition(|(_, table)| root(table).is_none());
        for (stream, table) in roots.into_iter().chain(children) {
            let Some((generation, visible)) = table.current() else { continue };
            let folder = self.location(names::generation(connection, &table.table, generation).as_ref());
            let locations: Vec<_> = visible.files.iter().map(|file| self.location(&file.path)).collect();
            sql.push_str(&view(stream, visible, folded_root(state, visible), &folder, &locations));
        }
        sql
    }
}

/// The stream whose rows decide which rows of a subtable are shown, where there is one.
pub(super) fn folded_root<'s>(
    state: &'s LakeState,
    visible: &'s GenerationState,
) -> Option<(&'s str, &'s GenerationState)> {
    let root = visible.reading.root.as_ref().filter(|_| visible.reading.mode == WriteMode::Upsert)?;
    let (_, table) = state.tables.get(root)?.current()?;
    table.reading.folds().then_some((root, table))
}

/// The first lines, which name the batch.
pub(super) fn heading(seq: BatchSeq) -> String {
    format!(
        "-- Views of the lake for DuckDB, after batch {seq}. Rewritten after each commit.\n\
         -- Files of upserted tables (also in `current`) hold every version of a row; only these views fold them.\n"
    )
}

/// One view. Beyond [`EAGER_FILES`] it reads the generation's folder, which may show a batch just before its commit.
fn view(
    stream: &str,
    visible: &GenerationState,
    root: Option<(&str, &GenerationState)>,
    folder: &str,
    locations: &[String],
) -> String {
    let name = identifier(stream);
    let empty = empty_select(&visible.visible_schema());
    let files = match locations.len() {
        0 => return format!("CREATE OR REPLACE VIEW {name} AS {empty};\n"),
        1..=EAGER_FILES => locations.iter().map(|file| literal(file)).collect::<Vec<_>>().join(",\n  "),
        _ => literal(&format!("{folder}/*.parquet")),
    };
    let files = format!("SELECT * FROM read_parquet([\n  {files}\n], union_by_name = true)");
    let select = if visible.reading.folds() {
        folded(visible, &format!("{files} UNION ALL BY NAME {empty}"))
    } else if let Some((root, table)) = root {
        let root_sequence = identifier(visible.reading.system.name(SystemColumn::RootSequence));
        let sequence = identifier(table.reading.system.name(SystemColumn::Sequence));
        format!(
            "SELECT * FROM ({files} UNION ALL BY NAME {empty}) WHERE {root_sequence} IN (SELECT {sequence} FROM {})",
            identifier(root)
        )
    } else {
        files
    };
    format!("CREATE OR REPLACE VIEW {name} AS {select};\n")
}

/// What readers see of all versions: of each key the last row without a mark of deletion, and what became of it.
fn folded(visible: &GenerationState, versions: &str) -> String {
    let reading = &visible.reading;
    let system = |column| identifier(reading.system.name(column));
    let key = reading.key.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
    let order = format!(
        "{} DESC NULLS LAST, coalesce({}, 0) DESC",
        system(SystemColumn::Sequence),
        system(SystemColumn::Batch)
    );
    let deleted_column = visible.visible_schema().field(reading.system.name(SystemColumn::DeletedAt)).is_some();
    let deleted = deleted_column.then(|| system(SystemColumn::DeletedAt));
    let mark = deleted.clone().unwrap_or_else(|| "NULL::TIMESTAMPTZ".into());
    let batch = system(SystemColumn::Batch);
    let last = format!(
        "SELECT *, first_value({mark}) OVER last AS {LAST_DELETED}, first_value(coalesce({batch}, 0)) OVER last AS \
         {LAST_BATCH} FROM ({versions}) WINDOW last AS (PARTITION BY {key} ORDER BY {order} ROWS BETWEEN UNBOUNDED \
         PRECEDING AND UNBOUNDED FOLLOWING) QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY ({mark} IS NOT NULL), \
         {order}) = 1"
    );
    let own = format!("{LAST_DELETED}, {LAST_BATCH}");
    match (reading.deletes, deleted) {
        (DeleteMode::Hard, _) => {
            let gone = visible.sweeps.last().map_or(0, |sweep| sweep.since.0);
            format!("SELECT * EXCLUDE ({own}) FROM ({last}) WHERE {LAST_DELETED} IS NULL AND {LAST_BATCH} >= {gone}")
        }
        (DeleteMode::Soft, Some(deleted)) => {
            let sweeps: String = (visible.sweeps.iter())
                .map(|sweep| format!(" WHEN {LAST_BATCH} < {} THEN {}", sweep.since.0, instant(sweep.at)))
                .collect();
            let at = format!("CASE WHEN {LAST_DELETED} IS NOT NULL THEN {LAST_DELETED}{sweeps} END");
            format!("SELECT * EXCLUDE ({own}) REPLACE ({at} AS {deleted}) FROM ({last})")
        }
        (DeleteMode::Soft, None) => format!("SELECT * EXCLUDE ({own}) FROM ({last})"),
    }
}

/// A literal of milliseconds since the epoch.
fn instant(millis: i64) -> String {
    let array = TimestampMillisecondArray::from(vec![millis]).with_timezone("+00:00");
    let text = arrow_cast::cast(&array, &arrow_schema::DataType::Utf8);
    // A clock that shows no year of our calendar has no text.
    let text = text.ok().map(|text| text.as_string::<i32>().value(0).to_owned());
    text.map_or_else(|| "NULL".into(), |text| format!("TIMESTAMPTZ {}", literal(&text)))
}

/// A select without rows, which gives a view its columns and their types.
fn empty_select(schema: &StreamSchema) -> String {
    let column = |name: &str, data_type| format!("NULL::{} AS {}", duckdb_type(data_type), identifier(name));
    let columns: Vec<_> = schema.fields.iter().map(|field| column(&field.name, field.data_type)).collect();
    let columns = if columns.is_empty() { "NULL AS nothing".to_owned() } else { columns.join(", ") };
    format!("SELECT {columns} WHERE false")
}

fn duckdb_type(data_type: DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Text | DataType::Json => "VARCHAR".into(),
        DataType::Bytes => "BLOB".into(),
        DataType::Date => "DATE".into(),
        DataType::Time => "TIME".into(),
        DataType::Timestamp => "TIMESTAMP".into(),
        DataType::TimestampTz => "TIMESTAMPTZ".into(),
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thimble_record::Field;

    #[test]
    fn names_and_paths_cannot_break_out_of_the_statement() {
        let sql = view("a\"; drop --", &GenerationState::default(), None, "f", &["it's.parquet".into()]);
        assert!(sql.contains("VIEW \"a\"\"; drop --\" AS"));
        assert!(sql.contains("'it''s.parquet'"));
    }

    #[test]
    fn a_table_without_files_is_an_empty_view_with_its_columns() {
        let field = Field { name: "n".into(), data_type: DataType::Decimal(10, 2), nullable: true };
        assert_eq!(empty_select(&StreamSchema::new(vec![field])), "SELECT NULL::DECIMAL(10, 2) AS \"n\" WHERE false");
    }

    #[test]
    fn a_view_of_very_many_files_reads_the_folder() {
        let state = GenerationState::default();
        let files = |count: usize| (0..count).map(|n| format!("g0/{n}.parquet")).collect::<Vec<_>>();
        assert!(view("s", &state, None, "g0", &files(EAGER_FILES)).contains("g0/1999.parquet"));
        assert!(view("s", &state, None, "g0", &files(EAGER_FILES + 1)).contains("'g0/*.parquet'"));
    }

    #[test]
    fn instants_are_written_to_the_millisecond() {
        assert_eq!(instant(1_000_001), "TIMESTAMPTZ '1970-01-01T00:16:40.001Z'");
    }
}
