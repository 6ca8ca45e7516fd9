use std::time::{Duration, Instant};

use thimble_store::{ServerSettings, Store, StoreError};

use crate::{Kind, World, database, settings};

#[tokio::test]
async fn opening_an_existing_file_is_fast() {
    let world = World::new(Kind::Sqlite).await;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let store = Store::open(&world.file()).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_may_create_the_same_layout_at_once() {
    let name = database().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let settings = settings(&name).await;
        tasks.spawn(async move { Store::connect(&settings).await.unwrap().plugins().await.unwrap().len() });
    }
    assert_eq!(tasks.join_all().await, vec![0; 8]);
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_told_without_the_password() {
    let name = database().await;
    let wrong = ServerSettings { password: Some("no%20such&secret".into()), ..settings(&name).await };
    let error = Store::connect(&wrong).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Layout { .. }), "{error:?}");
    let told = format!("{error:?} {error} {:?}", error.failure());
    assert!(!told.contains("such&secret") && !told.contains("such%26secret"), "{told}");
    let store = Store::connect(&settings(&name).await).await.unwrap();
    assert!(!format!("{store:?} {}", store.place()).contains("password"), "{store:?}");
}

#[tokio::test]
async fn a_url_that_is_none_of_postgres_is_refused() {
    for url in ["mysql://host/db", "not a url", "/tmp/thimble.db"] {
        let error = Store::connect(&ServerSettings::new(url)).await.unwrap_err();
        assert!(error.to_string().starts_with("the control database's URL"), "{error}");
    }
}
