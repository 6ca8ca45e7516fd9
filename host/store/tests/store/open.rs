use std::time::{Duration, Instant};

use thimble_store::{Store, StoreError};

use crate::World;

#[tokio::test]
async fn opening_an_existing_file_is_fast() {
    let world = World::new().await;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let store = Store::open(&world.file).await.unwrap();
        fastest = fastest.min(begun.elapsed());
        store.ping().await.unwrap();
        store.close().await;
    }
    println!("open of an existing file: {fastest:?}");
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_may_create_the_same_file_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("thimble.db");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let file = file.clone();
            tasks.spawn(async move { Store::open(&file).await.unwrap().plugins().await.unwrap().len() });
        }
        assert_eq!(tasks.join_all().await, vec![0; 16]);
    }
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("missing/thimble.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Layout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("thimble.db");
    let text = "these are my notes, not a database; ".repeat(100);
    std::fs::write(&file, &text).unwrap();
    Store::open(&file).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let world = World::empty().await;
    world.store.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&world.file);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'later', true, x'00', 1)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = Store::open(&world.file).await.unwrap_err();
    assert!(matches!(error, StoreError::Layout { .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
}
