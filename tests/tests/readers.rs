//! The lake is plain Parquet: programs that know nothing of us read it.

use std::process::Command;

use serde_json::json;
use thimble_fixtures::files::{FileServer, set_modified};

use crate::harness::{Installation, root, text};

/// Runs a program with DuckDB and PyArrow, which `make test` installs into a folder of its own.
fn python(program: &str) -> String {
    let python = root().join(".scratch/readers/bin/python");
    assert!(python.exists(), "{} is missing: run `make readers`", python.display());
    let output = Command::new(python).args(["-c", program]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_and_pyarrow_read_the_lake_across_grown_columns() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, "{\"id\":1,\"v\":1}\n{\"id\":2,\"v\":2}\n").unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let thimble = Installation::files(json!([{"name": "s", "urls": [server.url("a.jsonl")]}]));
    thimble.json(&["sync", "c"]);
    std::fs::write(&file, "{\"id\":3,\"v\":0.5,\"new\":\"x\"}\n").unwrap();
    set_modified(&file, 1_900_000_000).unwrap();
    thimble.json(&["sync", "c"]);

    let current = thimble.data().join("lake/c/s/current");
    let glob = current.join("*.parquet");
    let query = format!(
        "import duckdb; print(duckdb.sql(\"select count(*), sum(v), count(new), min(_thimble_extracted_at) is not null \
         from read_parquet('{}', union_by_name=true)\").fetchone())",
        glob.display()
    );
    assert_eq!(python(&query), "(3, 3.5, 1, True)");
    let views = thimble.data().join("lake/c/views.sql");
    let query = format!(
        "import duckdb; duckdb.sql(open('{}').read()); print(duckdb.sql('select count(*) from s').fetchone())",
        views.display()
    );
    assert_eq!(python(&query), "(3,)");
    let count = format!(
        "import pyarrow.dataset as d; print(d.dataset('{}', format='parquet').count_rows())",
        current.display()
    );
    assert_eq!(python(&count), "3");
}
