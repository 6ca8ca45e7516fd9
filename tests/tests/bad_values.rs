//! Values that break loaders, among 100,000 good records, into a real PostgreSQL: each is accounted for, none fails the rest.

use std::io::Write;

use serde_json::{Value, json};
use thimble_fixtures::files::FileServer;

use crate::{crash::bed::Database, harness::Installation};

const GOOD: u64 = 100_000;

enum Fate {
    /// A row; the second is a column expression, the third its text.
    Row(&'static str, &'static str),
    /// In the rejected-records table, for this reason.
    Rejected(&'static str),
}

/// Records by what is wrong with them. Ids are counted from `GOOD`.
fn cases() -> Vec<(String, Fate)> {
    use Fate::{Rejected, Row};
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let wide = |columns: usize| (0..columns).map(|at| format!(",\"w{at}\":1")).collect::<String>();
    let long = "n".repeat(70);
    let simple = |rest: &str| rest.to_owned();
    vec![
        (simple(r#","t":"a\u0000b""#), Rejected("nul-in-text")),
        (simple(r#","j":{"a":"\u0000"}"#), Rejected("nul-in-json")),
        (simple(r#","t":"\ud800""#), Rejected("invalid-text")),
        (simple(r#","j":{"a":"\ud800"}"#), Rejected("surrogate-in-json")),
        (format!(",\"j\":{deep}"), Rejected("too-deep")),
        (simple(r#","n":9223372036854775808"#), Row("n", "9223372036854775808")),
        (simple(r#","n":1e400"#), Row("n__text", "1e400")),
        (simple(r#","d":0.1"#), Row("d", "0.1")),
        (simple(r#","t":"NaN""#), Row("t", "NaN")),
        (simple(r#","at":"0000-01-01T00:00:00Z""#), Row("at", "0001-01-01 00:00:00+00 BC")),
        (simple(r#","at":"294277-01-01T00:00:00Z""#), Row("at__text", "294277-01-01T00:00:00Z")),
        (simple(r#","t":"a","t":"b""#), Rejected("duplicate-field")),
        (simple(r#","ID":7"#), Row("\"ID\"", "7")),
        (format!(",\"{long}a\":1,\"{long}b\":2"), Row("1", "1")),
        (simple(r#","select":1,"a \"quoted\"\nname":2,"%s":3"#), Row("\"select\"", "1")),
        (simple(r#","xmin":5,"ctid":"x""#), Row("1", "1")),
        (wide(1_601), Rejected("too-many-columns")),
        (format!(",\"t\":\"{}\"", "x".repeat(100_000)), Row("length(t)", "100000")),
        (simple(r#","t":null"#), Row("t", "-")),
        (simple(""), Row("t", "-")),
        (simple(r#","n":"text""#), Row("n__text", "text")),
        (simple(r#","n":true"#), Row("n__boolean", "true")),
        (simple(r#","b":"twice""#), Row("b", "twice")),
    ]
}

/// Good records, with the bad ones spread among them, and the same key twice.
fn write(path: &std::path::Path, cases: &[(String, Fate)]) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let every = GOOD / cases.len() as u64;
    for id in 0..GOOD {
        writeln!(
            file,
            r#"{{"id":{id},"t":"text {id}","n":{id},"d":0.5,"at":"2024-01-02T03:04:05Z","j":{{"x":{id}}}}}"#
        )
        .unwrap();
        if id % every == 0
            && let Some((rest, _)) = cases.get((id / every) as usize)
        {
            writeln!(file, "{{\"id\":{}{rest}}}", GOOD + id / every).unwrap();
        }
    }
    let again = GOOD + cases.len() as u64 - 1;
    writeln!(file, "{{\"id\":{again},\"b\":\"twice\"}}\nno json at all\n{{\"id\":null,\"t\":\"no key\"}}").unwrap();
    writeln!(file, "{{\"id\":{},\"t\":\"{}\"}}", GOOD * 2, "x".repeat(20_000_000)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_value_is_accounted_for_and_fails_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = FileServer::start(folder.path(), 0).await.unwrap();
    let database = Database::shared("bad_values").await;
    let cases = cases();
    write(&folder.path().join("1.jsonl"), &cases);
    let connection = json!({
        "plugin": "files",
        "config": {"streams": [{"name": "s", "urls": [server.url("*.jsonl")]}]},
        "streams": [{"stream": "s", "mode": "upsert", "key": ["id"]}],
    });
    let destination = database.destination(database.server.address());
    let thimble = Installation::new(json!({"c": connection}), json!({"destination": destination}));
    thimble.install("files");
    let summary = thimble.json(&["sync", "c"]);
    let figures = &summary["streams"]["s"];
    let figure = |name: &str| figures[name].as_u64().unwrap();
    // The line that is no JSON, the one without a key, and the one of 20 MB.
    let rejected = cases.iter().filter(|(_, fate)| matches!(fate, Fate::Rejected(_))).count() as u64 + 3;
    let rows = GOOD + cases.len() as u64 + 3 - rejected;
    assert_eq!((figure("rejected"), figure("loaded"), figure("merged")), (rejected, rows, 1), "{figures}");
    assert_eq!(figure("emitted"), rows + 1 + rejected);
    let query = async |sql: &str| database.server.query(&database.name, sql).await.unwrap();
    let count = query("select count(*), count(distinct id) from c.s").await;
    assert_eq!(count, [[Some(rows.to_string()), Some(rows.to_string())]]);
    let mut wrong = Vec::new();
    for (at, (rest, fate)) in cases.iter().enumerate() {
        let id = GOOD + at as u64;
        let (sql, expected) = match fate {
            Fate::Row(column, expected) => (format!("select ({column})::text from c.s where id = {id}"), expected),
            Fate::Rejected(reason) => {
                (format!("select reason from c._thimble_rejected where raw like '%\"id\":{id},%'"), reason)
            }
        };
        let found = match database.server.query(&database.name, &sql).await {
            Ok(rows) => rows.first().map(|row| row[0].clone().unwrap_or_else(|| "-".into())),
            Err(error) => Some(error.to_string()),
        };
        if found.as_deref() != Some(*expected) {
            wrong.push(format!("{}: {found:?} instead of {expected}", &rest[..rest.len().min(60)]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let names = query("select count(*) from information_schema.columns where table_schema = 'c' and table_name = 's' and length(column_name) > 63").await;
    assert_eq!(names, [[Some("0".to_owned())]]);
    let listed: Value = thimble.json(&["rejects", "c", "--limit", "1000"]);
    assert_eq!(listed.as_array().unwrap().len() as u64, rejected);
}
