//! Layouts of the database: what an earlier version wrote goes on, what a later one wrote is refused.

use thimble_record::{BatchSeq, ConnectionId, Epoch, RunId};
use thimble_store::{RunStatus, Store, StoreError};

use crate::{Kind, NOW, PASSWORD, TTL, World, database, flights, position, postgres, settings};

const ROWS: &str = include_str!("layouts/0002_rows.sql");

/// The second layout, with rows.
const FIRST_RELEASED: i64 = 2;

async fn made_by_an_earlier_version(kind: Kind, folder: &std::path::Path) -> Store {
    match kind {
        Kind::Sqlite => {
            let file = folder.join("thimble.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            sqlx::migrate!("./migrations/sqlite").run_to(FIRST_RELEASED, &pool).await.unwrap();
            let rows = ROWS.replace("SECRETS, '[]'", "x'010203', '[]'");
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
            pool.close().await;
            Store::open(&file).await.unwrap()
        }
        Kind::Postgres => {
            let name = database().await;
            let mut url: url::Url = postgres().await.url(&name).parse().unwrap();
            url.set_password(Some(PASSWORD)).unwrap();
            let pool = sqlx::PgPool::connect(url.as_str()).await.unwrap();
            sqlx::migrate!("./migrations/postgres").run_to(FIRST_RELEASED, &pool).await.unwrap();
            let rows = ROWS.replace("SECRETS, '[]'", "'\\x010203', '[]'");
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
            pool.close().await;
            Store::connect(&settings(&name).await).await.unwrap()
        }
    }
}

async fn goes_on(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let store = made_by_an_earlier_version(kind, folder.path()).await;
    assert_eq!(store.plugin("files").await.unwrap().version, "1.2.3");
    assert_eq!(store.grants("files").await.unwrap(), ["example.org"]);
    let connection = store.connection(&flights()).await.unwrap();
    assert_eq!((connection.secrets.0, connection.workspace.as_str()), (vec![1, 2, 3], "default"));
    assert_eq!(store.position(&flights()).await.unwrap(), Some((BatchSeq(7), position("seven"))));
    assert_eq!(store.checkpoints(&flights(), 9).await.unwrap()[0].seq, BatchSeq(7));
    let ended = store.run(&RunId("01HF7YAT00".into())).await.unwrap();
    assert_eq!((ended.status, ended.epoch, ended.attempt), (RunStatus::Succeeded, Some(Epoch(4)), 1));
    assert_eq!(store.logs(&ended.id, 0, 9).await.unwrap()[0].line.message, "begun");
    assert_eq!(store.audit(9, None).await.unwrap()[0].action, "plugin.grant");
    // And it is worked on from there.
    assert_eq!(crate::claim_next(&store, "me", TTL, NOW).await.unwrap().unwrap().id.0, "01HF7YAT01");
    assert_eq!(store.acquire(&flights(), "me", TTL, NOW).await.unwrap(), Epoch(5));
    store.put_connection(&crate::connection("another"), None, NOW).await.unwrap();
    store.connection(&ConnectionId::new("another").unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_version_goes_on() {
    goes_on(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_database_of_an_earlier_version_goes_on() {
    goes_on(Kind::Postgres).await;
}

/// The error of opening a database in which somebody did this.
async fn refusal(kind: Kind, sql: &str) -> StoreError {
    let world = World::empty(kind).await;
    world.store.close().await;
    let bytes = if kind == Kind::Sqlite { "x'00'" } else { "'\\x00'" };
    world.sql(&sql.replace("BYTES", bytes)).await;
    world.try_other().await.unwrap_err()
}

#[tokio::test]
async fn a_newer_version_s_database_is_refused() {
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'later', true, BYTES, 1)";
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let error = refusal(kind, newer).await;
        assert!(matches!(error, StoreError::Layout { .. }), "{error:?}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}

#[tokio::test]
async fn a_layout_whose_steps_were_others_is_refused() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let error = refusal(kind, "update _sqlx_migrations set checksum = BYTES where version = 2").await;
        assert!(matches!(error, StoreError::Layout { .. }), "{error:?}");
        assert!(error.failure().message.contains("migration 2"), "{:?}", error.failure());
    }
}
