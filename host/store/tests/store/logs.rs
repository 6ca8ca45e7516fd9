use serde_json::json;
use thimble_record::RunId;
use thimble_store::{
    LogLevel, LogLine, MAX_LOG_LINES_PER_RUN, MAX_LOG_MESSAGE_BYTES, MAX_PAGE, NewRun, RunOutcome, Store, StoreError,
    Trigger,
};

use super::{NOW, ON, TTL, World};

fn line(message: impl Into<String>) -> LogLine {
    LogLine { at: NOW, level: LogLevel::Info, source: "files".into(), message: message.into() }
}

async fn run(store: &Store) -> RunId {
    store.start(&NewRun::install("files.wasm", Trigger::Manual), "w", TTL, NOW).await.unwrap().id
}

#[tokio::test]
async fn lines_come_back_in_order_page_by_page() {
    let World { store, .. } = &World::empty(ON).await;
    let run = run(store).await;
    assert_eq!(store.append_logs(&run, &[line("one"), line("two")]).await.unwrap(), 0);
    assert_eq!(store.append_logs(&run, &[line("three")]).await.unwrap(), 0);
    let all = store.logs(&run, 0, 10).await.unwrap();
    assert_eq!(all.iter().map(|row| row.line.message.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(all[1].line, line("two"));
    assert_eq!(store.logs(&run, all[0].seq, 1).await.unwrap(), all[1..2]);
    let missing = store.append_logs(&RunId("none".into()), &[line("x")]).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "run", .. })), "{missing:?}");
}

#[tokio::test]
async fn a_flood_is_cut_and_counted() {
    let World { store, .. } = &World::empty(ON).await;
    let run = run(store).await;
    let flood = vec![line("x"); usize::try_from(MAX_LOG_LINES_PER_RUN).unwrap() + 5];
    assert_eq!(store.append_logs(&run, &flood).await.unwrap(), 6);
    assert_eq!(store.append_logs(&run, &flood[..2]).await.unwrap(), 2);
    let last = store.logs(&run, MAX_LOG_LINES_PER_RUN - 2, 10).await.unwrap();
    assert_eq!(last.len(), 2);
    assert_eq!((last[0].line.message.as_str(), last[1].line.level), ("x", LogLevel::Warn));
    assert!(last[1].line.message.contains("full"));
    assert_eq!(store.logs(&run, 0, u32::MAX).await.unwrap().len(), MAX_PAGE as usize);
}

#[tokio::test]
async fn a_long_message_is_cut_at_a_character() {
    let World { store, .. } = &World::empty(ON).await;
    let run = run(store).await;
    store.append_logs(&run, &[line("é".repeat(MAX_LOG_MESSAGE_BYTES))]).await.unwrap();
    let stored = &store.logs(&run, 0, 1).await.unwrap()[0].line.message;
    assert_eq!(stored.len(), MAX_LOG_MESSAGE_BYTES);
}

#[tokio::test]
async fn logs_of_old_runs_are_pruned() {
    let World { store, .. } = &World::empty(ON).await;
    let (old, new) = (run(store).await, run(store).await);
    for run in [&old, &new] {
        store.append_logs(run, &[line("x"), line("y")]).await.unwrap();
    }
    store.finish(&old, &RunOutcome::succeeded(json!(null)), NOW).await.unwrap();
    assert_eq!(store.prune_logs(NOW + 1).await.unwrap(), 2);
    assert!(store.logs(&old, 0, 9).await.unwrap().is_empty());
    assert_eq!(store.logs(&new, 0, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_audit_is_listed_newest_first() {
    let World { store, .. } = &World::empty(ON).await;
    for n in 0..3 {
        store.append_audit("cli", "plugin.grant", "files", &json!({"n": n}), NOW + n).await.unwrap();
    }
    let newest = store.audit(2, None).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.at).collect::<Vec<_>>(), [NOW + 2, NOW + 1]);
    assert_eq!(newest[0].detail, json!({"n": 2}));
    let rest = store.audit(9, Some(newest[1].id)).await.unwrap();
    assert_eq!((rest.len(), rest[0].actor.as_str()), (1, "cli"));
}
