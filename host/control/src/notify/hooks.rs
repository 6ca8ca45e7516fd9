//! Post-load hooks: one document for each root table into which a run loaded or rejected rows.
//!
//! The shape is the one that users of Stitch have receivers for, version 1.0.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::notice::rfc3339;

/// User agent of hooks.
pub const HOOK_USER_AGENT: &str = "ThimbleLoadingWebhook";

/// What a run loaded, as hooks tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLoads {
    /// Name of the connection.
    pub connection: String,
    /// No row of the run was taken from the source before; milliseconds since the epoch. `None` where batches of an
    /// earlier run were loaded as well.
    pub since: Option<i64>,
    /// Tables, subtables included.
    pub tables: Vec<LoadedTable>,
}

/// What a run loaded into one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedTable {
    /// Stream of the source, or the name of the subtable.
    pub source: String,
    /// Name of the table in the destination.
    pub destination: String,
    /// In a subtable: the stream it was taken out of.
    #[serde(default)]
    pub root: Option<String>,
    pub rows: u64,
    pub rejected: u64,
    /// Columns that identify a row.
    pub key: Vec<String>,
    /// Goes up with every full refresh.
    pub generation: u64,
    /// Whether readers were switched to a new generation: the old rows are gone.
    pub swapped: bool,
    /// What the stream is read by, and how far, as its connector puts it.
    #[serde(default)]
    pub bookmark: Option<Bookmark>,
    /// The last row was taken from the source no later; milliseconds since the epoch.
    pub extracted_until: i64,
}

/// How far a stream was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The cursor field.
    pub key: String,
    /// Before the run.
    pub min: Option<String>,
    /// After it.
    pub max: Option<String>,
}

/// The documents of a run, by root table: (root table, body).
pub fn payloads(loads: &RunLoads) -> Vec<(String, Value)> {
    let mut documents = Vec::new();
    for root in loads.tables.iter().filter(|table| table.root.is_none()) {
        let family = || {
            let subtables = loads.tables.iter().filter(|table| table.root.as_ref() == Some(&root.source));
            std::iter::once(root).chain(subtables)
        };
        // A truncated table without rows is news as well.
        if family().all(|table| table.rows == 0 && table.rejected == 0 && !table.swapped) {
            continue;
        }
        let tables: Vec<_> = family().map(table).collect();
        let document = json!({
            "version": "1.0",
            "minimum_sdc_batched_at": loads.since.map(rfc3339),
            "integration_name": loads.connection,
            "new_version": root.swapped,
            "source_root_table_name": root.source,
            "destination_root_table_name": root.destination,
            "table_version": root.generation,
            "tables": tables,
        });
        documents.push((root.source.clone(), document));
    }
    documents
}

fn table(table: &LoadedTable) -> Value {
    let bookmarks: Vec<_> = table
        .bookmark
        .iter()
        .map(|Bookmark { key, min, max }| json!({"key": key, "min_value": min, "max_value": max}))
        .collect();
    json!({
        "source_table_name": table.source,
        "destination_table_name": table.destination,
        "num_rows": table.rows,
        "num_rows_rejected": table.rejected,
        "primary_keys": table.key,
        "s3_objects": [],
        "bookmark_metadata": bookmarks,
        "max_time_extracted": rfc3339(table.extracted_until),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(source: &str, root: Option<&str>, rows: u64, rejected: u64) -> LoadedTable {
        LoadedTable {
            source: source.into(),
            destination: source.into(),
            root: root.map(str::to_owned),
            rows,
            rejected,
            key: vec!["id".into()],
            generation: 2,
            swapped: false,
            bookmark: None,
            extracted_until: 1_764_000_060_000,
        }
    }

    #[test]
    fn a_root_table_is_told_with_its_subtables() {
        let bookmark = Bookmark { key: "updated_at".into(), min: None, max: Some("2025-11-24".into()) };
        let orders = LoadedTable { bookmark: Some(bookmark), ..loaded("orders", None, 10, 1) };
        let loads = RunLoads {
            connection: "shop".into(),
            since: Some(1_764_000_000_000),
            tables: vec![orders, loaded("orders__lines", Some("orders"), 30, 0), loaded("idle", None, 0, 0)],
        };
        let expected = json!({
            "version": "1.0",
            "minimum_sdc_batched_at": "2025-11-24T16:00:00.000Z",
            "integration_name": "shop",
            "new_version": false,
            "source_root_table_name": "orders",
            "destination_root_table_name": "orders",
            "table_version": 2,
            "tables": [
                {
                    "source_table_name": "orders", "destination_table_name": "orders", "num_rows": 10, "num_rows_rejected": 1,
                    "primary_keys": ["id"], "s3_objects": [],
                    "bookmark_metadata": [{"key": "updated_at", "min_value": null, "max_value": "2025-11-24"}],
                    "max_time_extracted": "2025-11-24T16:01:00.000Z",
                },
                {
                    "source_table_name": "orders__lines", "destination_table_name": "orders__lines", "num_rows": 30,
                    "num_rows_rejected": 0, "primary_keys": ["id"], "s3_objects": [], "bookmark_metadata": [],
                    "max_time_extracted": "2025-11-24T16:01:00.000Z",
                },
            ],
        });
        assert_eq!(payloads(&loads), [("orders".to_owned(), expected)]);
    }

    #[test]
    fn rejected_rows_alone_and_a_swap_to_nothing_are_told() {
        let of = |table| payloads(&RunLoads { connection: "c".into(), since: None, tables: vec![table] });
        assert_eq!(of(loaded("s", None, 0, 3)).len(), 1);
        let swapped = of(LoadedTable { swapped: true, ..loaded("s", None, 0, 0) });
        assert_eq!(swapped[0].1["new_version"], true);
        assert_eq!(swapped[0].1["minimum_sdc_batched_at"], Value::Null);
        assert!(of(loaded("s", None, 0, 0)).is_empty());
    }
}
