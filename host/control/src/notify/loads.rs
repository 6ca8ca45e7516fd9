//! What a run's report says of its loads, for hooks.

use std::collections::BTreeMap;

use serde::Deserialize;
use thimble_store::RunRow;

use super::hooks::{Bookmark, LoadedTable, RunLoads};

/// The parts of a run's report that are read here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    streams: BTreeMap<String, Figures>,
    tables: BTreeMap<String, Table>,
    bookmarks: BTreeMap<String, Bookmark>,
    recovered_batches: u64,
    extracted_until: Option<i64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct Figures {
    loaded: u64,
    merged: u64,
    rejected: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Table {
    root: Option<String>,
    key: Vec<String>,
    generation: u64,
    swapped: bool,
}

/// What a run loaded; `None` where it says nothing of it.
pub(crate) fn loads(run: &RunRow) -> Option<RunLoads> {
    let connection = run.connection.as_ref()?.to_string();
    let Report { streams, tables, bookmarks, recovered_batches, extracted_until } =
        serde_json::from_value(run.report.clone()).ok()?;
    let until = extracted_until.or(run.finished_at).unwrap_or(run.queued_at);
    let tables = tables.into_iter().map(|(source, Table { root, key, generation, swapped })| {
        let Figures { loaded, merged, rejected } = streams.get(&source).copied().unwrap_or_default();
        LoadedTable {
            // Names that a destination cannot hold as they are it keeps in its own table of names.
            destination: source.clone(),
            bookmark: bookmarks.get(&source).cloned(),
            source,
            root,
            rows: loaded + merged,
            rejected,
            key,
            generation,
            swapped,
            extracted_until: until,
        }
    });
    // Recovered batches were extracted by an earlier run, whose start is not known here.
    let since = run.started_at.filter(|_| recovered_batches == 0);
    Some(RunLoads { connection, since, tables: tables.collect() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use thimble_record::{ConnectionId, RunId};
    use thimble_store::{RunKind, RunStatus, Trigger};

    use super::*;

    #[test]
    fn a_report_becomes_loads() {
        let report = json!({
            "streams": {"s": {"loaded": 3, "merged": 1, "rejected": 2, "emitted": 6, "filtered": 0, "bytes": 9}},
            "tables": {"s": {"key": ["id"], "generation": 1, "swapped": true}, "s__l": {"root": "s", "key": [], "generation": 1, "swapped": false}},
            "bookmarks": {"s": {"key": "at", "min": null, "max": "7"}},
            "batches": 1, "recovered_batches": 0, "extracted_until": 90,
        });
        let mut run = serde_json::from_value::<RunRow>(json!({
            "id": RunId("01R".into()), "kind": RunKind::Sync, "trigger": Trigger::Api, "connection": ConnectionId::new("c").unwrap(),
            "subject": null, "request": null, "status": RunStatus::Succeeded, "holder": null, "expires_at": null, "epoch": 1,
            "cancel_requested": false, "queued_at": 10, "started_at": 20, "finished_at": 100, "report": report, "failure": null,
            "workspace": "default", "slot": null, "attempt": 1, "retry_of": null, "not_before": null,
        }))
        .unwrap();
        let found = loads(&run).unwrap();
        assert_eq!((found.since, found.tables.len()), (Some(20), 2));
        let table = &found.tables[0];
        assert_eq!((table.rows, table.rejected, table.swapped, table.extracted_until), (4, 2, true, 90));
        assert_eq!(
            (table.key.as_slice(), table.bookmark.as_ref().unwrap().max.as_deref()),
            (&["id".to_owned()][..], Some("7"))
        );
        assert_eq!(found.tables[1].root.as_deref(), Some("s"));
        run.report["recovered_batches"] = json!(1);
        assert_eq!(loads(&run).unwrap().since, None);
    }
}
