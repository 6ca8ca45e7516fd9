use serde_json::json;
use thimble_record::{Catalog, ConnectionId, ErrorKind};
use thimble_store::{NewRun, RunKind, RunOutcome, StoreError, Trigger};

use super::{NOW, ON, TTL, World, connection, flights, plugin};

#[tokio::test]
async fn a_plugin_comes_back_as_it_was_and_keeps_its_grants_through_an_upgrade() {
    let World { store, .. } = &World::empty(ON).await;
    store.upsert_plugin(&plugin("files")).await.unwrap();
    assert_eq!(store.plugin("files").await.unwrap(), plugin("files"));
    store.grant("files", "example.org", NOW).await.unwrap();
    store.grant("files", "*.example.net:443", NOW).await.unwrap();
    store.grant("files", "example.org", NOW).await.unwrap();
    let newer = thimble_store::PluginRow { version: "2.0.0".into(), ..plugin("files") };
    store.upsert_plugin(&newer).await.unwrap();
    assert_eq!(store.plugins().await.unwrap(), [newer]);
    assert_eq!(store.grants("files").await.unwrap(), ["*.example.net:443", "example.org"]);
    store.revoke("files", "example.org").await.unwrap();
    assert!(matches!(store.revoke("files", "example.org").await, Err(StoreError::NotFound { what: "grant", .. })));
    assert!(matches!(store.grant("other", "x", NOW).await, Err(StoreError::NotFound { what: "plugin", .. })));
}

#[tokio::test]
async fn the_grants_of_a_plugin_are_replaced_as_a_whole() {
    let World { store, .. } = &World::new(ON).await;
    store.grant("files", "a.example", NOW).await.unwrap();
    store.grant("files", "b.example", NOW).await.unwrap();
    let wanted: Vec<String> = ["c.example", "b.example", "c.example"].map(String::from).into();
    store.set_grants("files", &wanted, NOW).await.unwrap();
    assert_eq!(store.grants("files").await.unwrap(), ["b.example", "c.example"]);
    store.set_grants("files", &[], NOW).await.unwrap();
    assert!(store.grants("files").await.unwrap().is_empty());
    assert!(matches!(store.set_grants("none", &wanted, NOW).await, Err(StoreError::NotFound { what: "plugin", .. })));
}

#[tokio::test]
async fn a_plugin_in_use_is_not_removed_and_the_user_is_named() {
    let World { store, .. } = &World::new(ON).await;
    store.grant("files", "example.org", NOW).await.unwrap();
    let error = store.remove_plugin("files").await.unwrap_err();
    assert_eq!(error.to_string(), "plugin \"files\" is in use by connection flights");
    store.delete_connection(&flights()).await.unwrap();
    assert_eq!(store.remove_plugin("files").await.unwrap().name, "files");
    assert!(store.grants("files").await.unwrap().is_empty());
    let error = store.remove_plugin("files").await.unwrap_err();
    assert_eq!(error.failure().kind, ErrorKind::Config);
}

#[tokio::test]
async fn a_connection_comes_back_as_it_was_and_hides_its_secrets() {
    let World { store, .. } = &World::new(ON).await;
    let stored = store.connection(&flights()).await.unwrap();
    let expected =
        thimble_store::ConnectionRow { created_at: NOW, updated_at: NOW, version: 1, ..connection("flights") };
    assert_eq!(stored, expected);
    assert!(format!("{stored:?}").contains("SealedSecrets(3 bytes)"));
    assert!(serde_json::to_value(&stored).unwrap().get("secrets").is_none());

    let changed = thimble_store::ConnectionRow { destination: Some(json!({"lake": "x"})), ..expected };
    assert!(!store.put_connection(&changed, None, NOW + 5).await.unwrap());
    assert!(store.put_connection(&connection("zebra"), None, NOW).await.unwrap());
    store.put_catalog(&flights(), &Catalog::default()).await.unwrap();
    let stored = store.connection(&flights()).await.unwrap();
    assert_eq!((stored.created_at, stored.updated_at), (NOW, NOW + 5));
    assert_eq!((stored.destination, stored.catalog), (changed.destination, Some(Catalog::default())));
    let names: Vec<_> = store.connections().await.unwrap().into_iter().map(|row| row.id.to_string()).collect();
    assert_eq!(names, ["flights", "zebra"]);
}

#[tokio::test]
async fn a_connection_needs_its_plugin_and_cannot_go_while_it_works() {
    let World { store, .. } = &World::new(ON).await;
    let orphan = thimble_store::ConnectionRow { plugin: "none".into(), ..connection("orphan") };
    assert!(matches!(store.put_connection(&orphan, None, NOW).await, Err(StoreError::NotFound { what: "plugin", .. })));
    let missing = ConnectionId::new("missing").unwrap();
    assert!(matches!(store.delete_connection(&missing).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.put_catalog(&missing, &Catalog::default()).await, Err(StoreError::NotFound { .. })));

    let run = store.start(&NewRun::on(flights(), RunKind::Check, Trigger::Api), "w", TTL, NOW).await.unwrap();
    let error = store.delete_connection(&flights()).await.unwrap_err();
    assert!(error.to_string().contains(&run.id.0), "{error}");
    store.finish(&run.id, &RunOutcome::cancelled(json!(null)), NOW).await.unwrap();
    store.delete_connection(&flights()).await.unwrap();
    assert_eq!(store.run(&run.id).await.unwrap().connection, Some(flights()), "runs are history");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_not_skipped() {
    let world = World::new(ON).await;
    world.sql("update connections set streams = '[{\"strea'").await;
    let error = world.store.connections().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { what: "connection's stream selection", .. }), "{error:?}");
    assert_eq!(error.failure().kind, ErrorKind::System);
}

#[tokio::test]
async fn so_many_versions_of_a_plugin_are_kept_and_no_more() {
    let World { store, .. } = &World::new(ON).await;
    let version = |number: i64| thimble_store::PluginRow { digest: format!("{number:064x}"), ..plugin("files") };
    // The one that the world begins with counts.
    for number in 1..thimble_store::MAX_PLUGIN_VERSIONS {
        store.install_version(&version(number), false).await.unwrap();
    }
    let over = store.install_version(&version(0xffff), false).await.unwrap_err();
    assert!(matches!(&over, StoreError::Conflict { .. }), "{over}");
    assert!(over.to_string().contains("100 versions already"), "{over}");
    store.install_version(&version(1), false).await.unwrap();
    store.remove_version("files", &version(1).digest).await.unwrap();
    store.install_version(&version(0xffff), false).await.unwrap();
    let named = store.named_components().await.unwrap();
    assert!(named.contains(&version(0xffff).digest) && !named.contains(&version(1).digest));
    let install = NewRun::install("sha256:abcd", Trigger::Api);
    let run = store.start(&install, "w", TTL, NOW).await.unwrap();
    assert!(store.named_components().await.unwrap().contains("abcd"), "it is about to be one");
    store.finish(&run.id, &RunOutcome::succeeded(json!(null)), NOW).await.unwrap();
    assert!(!store.named_components().await.unwrap().contains("abcd"));
}

#[tokio::test]
async fn what_was_committed_before_a_time_is_found() {
    let World { store, .. } = &World::new(ON).await;
    assert_eq!(store.checkpoint_before(&flights(), NOW).await.unwrap(), None);
    let epoch = store.acquire(&flights(), "w", TTL, NOW).await.unwrap();
    for (seq, at) in [(1, NOW), (2, NOW + 10)] {
        store.mirror(&flights(), epoch, thimble_record::BatchSeq(seq), &crate::position("p"), at).await.unwrap();
    }
    let before = async |at| store.checkpoint_before(&flights(), at).await.unwrap().map(|seq| seq.0);
    assert_eq!([before(NOW).await, before(NOW + 10).await, before(NOW + 11).await], [None, Some(1), Some(2)]);
}

#[tokio::test]
async fn writing_is_timed_by_what_its_commit_waits_for() {
    let World { store, .. } = &World::new(ON).await;
    let total = |times: &thimble_store::Times| times.counts.iter().sum::<u64>();
    let [before, soon] = store.write_times().try_into().unwrap();
    store.grant("files", "example.org", NOW).await.unwrap();
    let refused = store.grant("other", "example.org", NOW).await;
    assert!(refused.is_err());
    let [after, soon_after] = store.write_times().try_into().unwrap();
    assert_eq!(total(&after.wait), total(&before.wait) + 2);
    assert_eq!(total(&after.work), total(&before.work) + 1, "only what was committed");
    assert!(after.work.sum_seconds > before.work.sum_seconds);
    assert_eq!(soon, soon_after);
}
