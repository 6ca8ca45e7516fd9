use std::collections::BTreeSet;

use serde_json::{Value, json};
use thimble_record::{BatchSeq, DataType, Failure, Field, StreamSchema};
use thimble_store::{
    AlertPage, DeliveryRow, DeliveryStatus, DeliveryTarget, EventKind, EventPage, LogFilter, LogLevel, LogLine,
    MAX_NOTIFIERS, MAX_PENDING_DELIVERIES, NewEvent, NewRun, NotifierRow, Phase, RunKind, RunOutcome, RunRow,
    RunStatus, SealedSecrets, Store, StoreError, Trigger,
};
use tokio::task::JoinSet;

use super::{NOW, ON, TTL, World, batch, flights, schema};

fn notifier(name: &str) -> NotifierRow {
    NotifierRow {
        name: name.into(),
        workspace: "default".into(),
        kind: "webhook".into(),
        config: json!({"url": "https://example.org"}),
        secrets: SealedSecrets(vec![9]),
        events: vec![],
        connections: vec![],
        delay_ms: 0,
        paused: false,
        created_at: 0,
        updated_at: 0,
        version: 0,
    }
}

fn report(loaded: u64, rejected: u64) -> Value {
    let figures = json!({"emitted": loaded + rejected, "loaded": loaded, "merged": 0, "rejected": rejected, "filtered": 0, "bytes": 10});
    json!({"streams": {"flights": figures}, "tables": {"flights": {"key": [], "generation": 0, "swapped": false}}})
}

async fn run(store: &Store, outcome: RunOutcome, request: Value, at: i64) -> RunRow {
    let new = NewRun { request, ..NewRun::on(flights(), RunKind::Sync, Trigger::Manual) };
    let run = store.start(&new, "me", TTL, at).await.unwrap();
    store.finish(&run.id, &outcome, at + 5).await.unwrap()
}

fn failed() -> RunOutcome {
    RunOutcome::failed(Failure::system("it broke"), Value::Null)
}

async fn claim(store: &Store, at: i64) -> Vec<DeliveryRow> {
    store.claim_deliveries("me", 100, 1_000, at).await.unwrap()
}

async fn kinds(store: &Store) -> Vec<EventKind> {
    let events = store.events_page(&EventPage { limit: 100, ..EventPage::default() }).await.unwrap();
    events.into_iter().rev().map(|event| event.kind).collect()
}

async fn open_alerts(store: &Store) -> Vec<(EventKind, i64)> {
    let page = AlertPage { open_only: true, limit: 100, ..AlertPage::default() };
    store.alerts(&page).await.unwrap().into_iter().map(|alert| (alert.kind, alert.times)).collect()
}

#[tokio::test]
async fn a_failure_opens_one_alert_and_a_success_ends_it() {
    let world = World::new(ON).await;
    let store = &world.store;
    for row in [
        notifier("all"),
        NotifierRow { events: vec![EventKind::SlotSkipped], ..notifier("else") },
        NotifierRow { connections: vec!["another".into()], ..notifier("elsewhere") },
        NotifierRow { paused: true, ..notifier("resting") },
        NotifierRow { delay_ms: 60_000, ..notifier("patient") },
    ] {
        store.put_notifier(&row, None, NOW).await.unwrap();
    }
    let first = run(store, failed(), Value::Null, NOW).await;
    run(store, failed(), Value::Null, NOW + 10).await;
    assert_eq!(open_alerts(store).await, [(EventKind::RunFailed, 2)]);
    let due = claim(store, NOW + 20).await;
    assert_eq!(due.len(), 1, "{due:?}");
    let open = &due[0];
    assert_eq!((open.notifier.as_deref(), open.phase, open.attempts), (Some("all"), Phase::Open, 1));
    assert_eq!(
        (open.body["run"].as_str(), &open.body["detail"]["failure"]["message"]),
        (Some(first.id.0.as_str()), &json!("it broke"))
    );
    store.undelivered(&open.id, "me", "no answer", Some(NOW + 500), NOW + 20).await.unwrap();

    run(store, RunOutcome::succeeded(report(3, 1)), Value::Null, NOW + 30).await;
    assert_eq!(open_alerts(store).await, []);
    assert_eq!(kinds(store).await, [EventKind::RunFailed, EventKind::RunFailed, EventKind::RunRecovered]);
    // The end waits for its beginning, and whoever was told of neither stays in peace.
    assert!(claim(store, NOW + 40).await.is_empty());
    let again = claim(store, NOW + 500).await;
    assert_eq!(again.iter().map(|row| (row.id.as_str(), row.attempts)).collect::<Vec<_>>(), [(open.id.as_str(), 2)]);
    store.delivered(&open.id, "me", NOW + 501).await.unwrap();
    let end = claim(store, NOW + 502).await;
    assert_eq!((end.len(), end[0].phase, end[0].alert), (1, Phase::Resolve, open.alert));
    assert_eq!((&end[0].body["kind"], &end[0].body["opened_at"]), (&json!("run-failed"), &json!(NOW + 5)));
    let patient = store.deliveries("patient", 10, None).await.unwrap();
    assert_eq!(patient.iter().map(|row| row.status).collect::<Vec<_>>(), [DeliveryStatus::Healed]);
    assert!(claim(store, NOW + 100_000).await.iter().all(|row| row.id == end[0].id));
    // Many rejected records are news, a few are not.
    run(store, RunOutcome::succeeded(report(990, 9)), Value::Null, NOW + 550).await;
    run(store, RunOutcome::succeeded(report(991, 10)), Value::Null, NOW + 560).await;
    assert_eq!(kinds(store).await.len(), 3);
    run(store, RunOutcome::succeeded(report(990, 10)), Value::Null, NOW + 570).await;
    assert_eq!(kinds(store).await[3..], [EventKind::RejectsOverThreshold]);
    // A success after a success is no news.
    run(store, RunOutcome::succeeded(report(0, 0)), Value::Null, NOW + 600).await;
    assert_eq!(kinds(store).await.len(), 4);
}

#[tokio::test]
async fn totals_add_up_and_only_whole_loads_are_fresh() {
    let world = World::new(ON).await;
    let store = &world.store;
    run(store, RunOutcome::succeeded(report(3, 1)), Value::Null, NOW).await;
    run(store, RunOutcome::succeeded(report(2, 0)), json!({"backfill": {"name": "b"}}), NOW + 100).await;
    run(store, RunOutcome::failed(Failure::system("x"), report(4, 0)), Value::Null, NOW + 86_400_000).await;
    let (totals, streams, days) = store.totals_of(&flights(), 0).await.unwrap();
    assert_eq!((totals.succeeded, totals.failed, totals.complete_at), (2, 1, Some(NOW)));
    assert_eq!((streams[0].records, streams[0].rejected, streams[0].bytes), (9, 1, 30));
    assert_eq!(streams[0].complete_at, Some(NOW), "neither a backfill nor half a load");
    assert_eq!(days.iter().map(|day| day.records).collect::<Vec<_>>(), [4, 5]);
    run(store, RunOutcome::succeeded(report(0, 0)), json!({"streams": ["flights"]}), NOW + 90_000_000).await;
    let (totals, streams, _) = store.totals_of(&flights(), 0).await.unwrap();
    assert_eq!((totals.complete_at, streams[0].complete_at), (Some(NOW), Some(NOW + 90_000_000)));
    assert_eq!(store.connection_totals(Some("other"), 10).await.unwrap().len(), 0);
    assert_eq!(store.stream_totals(Some("default"), 10).await.unwrap().len(), 1);
    let backlog = store.backlog(NOW).await.unwrap();
    assert_eq!((backlog.queued, backlog.running, backlog.open_alerts, backlog.oldest_queued_at), (0, 0, 0, None));
    let check = NewRun::on(flights(), RunKind::Check, Trigger::Manual);
    store.enqueue(&check, NOW + 7).await.unwrap();
    assert_eq!(store.backlog(NOW + 8).await.unwrap().oldest_queued_at, Some(NOW + 7));
    store.prune_notices(NOW + 86_400_000).await.unwrap();
    assert_eq!(store.totals_of(&flights(), 0).await.unwrap().2.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_delivery_is_claimed_once_by_however_many() {
    let world = World::new(ON).await;
    for n in 0..30 {
        world.store.put_notifier(&notifier(&format!("n{n}")), None, NOW).await.unwrap();
    }
    run(&world.store, failed(), Value::Null, NOW).await;
    let handles = [world.store.clone(), world.other().await];
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let store = handles[n % 2].clone();
        tasks.spawn(async move { store.claim_deliveries(&format!("h{n}"), 4, 1_000, NOW + 10).await.unwrap() });
    }
    let claimed: Vec<_> = tasks.join_all().await.into_iter().flatten().map(|row| row.id).collect();
    assert_eq!(claimed.len(), claimed.iter().collect::<BTreeSet<_>>().len(), "none twice");
    assert_eq!(claimed.len(), 30);
    // A holder that is gone loses its claims, and what it says after that counts for nothing.
    let again = claim(&world.store, NOW + 2_000).await;
    assert_eq!(again.len(), 30);
    world.store.delivered(&again[0].id, "h0", NOW + 2_001).await.unwrap();
    world.store.delivered(&again[1].id, "me", NOW + 2_001).await.unwrap();
    assert_eq!(claim(&world.store, NOW + 9_000).await.len(), 29);
}

#[tokio::test]
async fn what_is_no_condition_is_told_once_while_it_waits() {
    let world = World::new(ON).await;
    let store = &world.store;
    store.put_notifier(&notifier("n"), None, NOW).await.unwrap();
    let skipped = NewEvent::of(EventKind::SlotSkipped, "flights", json!({"count": 1}));
    for _ in 0..3 {
        store.append_event(&skipped, NOW).await.unwrap();
    }
    assert_eq!(store.deliveries("n", 10, None).await.unwrap().len(), 1);
    for n in 0..MAX_PENDING_DELIVERIES + 5 {
        let event = NewEvent { stream: Some(format!("s{n}")), ..skipped.clone() };
        store.append_event(&event, NOW).await.unwrap();
    }
    assert_eq!(store.backlog(NOW).await.unwrap().pending_deliveries, u64::from(MAX_PENDING_DELIVERIES));
    // A condition is told all the same.
    run(store, failed(), Value::Null, NOW).await;
    assert_eq!(store.deliveries("n", 1, None).await.unwrap()[0].phase, Phase::Open);
    store.delete_notifier("n").await.unwrap();
    assert_eq!(store.backlog(NOW).await.unwrap().pending_deliveries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn freshness_is_breached_and_restored_once() {
    let world = World::new(ON).await;
    let store = &world.store;
    let mut row = store.connection(&flights()).await.unwrap();
    row.freshness_ms = Some(1_000);
    store.put_connection(&row, None, NOW).await.unwrap();
    let created = store.connection(&flights()).await.unwrap().created_at;
    assert_eq!(store.check_conditions(created + 1_000).await.unwrap(), 0);
    let handles = [world.store.clone(), world.other().await];
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let store = handles[n % 2].clone();
        tasks.spawn(async move { store.check_conditions(created + 1_001).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(kinds(store).await, [EventKind::FreshnessBreached]);
    assert_eq!(open_alerts(store).await, [(EventKind::FreshnessBreached, 1)]);
    run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, created + 2_000).await;
    store.check_conditions(created + 2_100).await.unwrap();
    store.check_conditions(created + 2_200).await.unwrap();
    assert_eq!(kinds(store).await, [EventKind::FreshnessBreached, EventKind::FreshnessRestored]);
    assert_eq!(open_alerts(store).await, []);
    // Freshness is all that it looks at here.
    run(store, failed(), Value::Null, created + 2_250).await;
    assert_eq!(open_alerts(store).await, [(EventKind::RunFailed, 1)]);
    store.check_conditions(created + 2_260).await.unwrap();
    assert_eq!(open_alerts(store).await, [(EventKind::RunFailed, 1)]);
    run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, created + 2_270).await;
    // A pause that was taken back.
    store.append_event(&NewEvent::of(EventKind::ConnectionPaused, "flights", Value::Null), NOW).await.unwrap();
    assert_eq!(open_alerts(store).await, [(EventKind::ConnectionPaused, 1)]);
    run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, created + 2_280).await;
    assert_eq!(open_alerts(store).await, [(EventKind::ConnectionPaused, 1)], "a run by hand resumes nothing");
    store.check_conditions(created + 2_300).await.unwrap();
    assert_eq!(open_alerts(store).await, []);
    run(store, failed(), Value::Null, created + 2_400).await;
    store.delete_connection(&flights()).await.unwrap();
    store.check_conditions(created + 2_500).await.unwrap();
    assert_eq!(open_alerts(store).await, [], "nothing is left of a connection that is gone");
}

#[tokio::test]
async fn a_grown_schema_is_told_with_what_is_new() {
    let world = World::new(ON).await;
    let store = &world.store;
    let epoch = store.acquire(&flights(), "me", TTL, NOW).await.unwrap();
    let field = |name: &str, data_type| Field { name: name.into(), data_type, nullable: true };
    let of = |fields: &[Field]| vec![("flights".to_owned(), StreamSchema::new(fields.to_vec()))];
    store.seal(&batch(1, epoch, "1"), &[("flights".to_owned(), schema())], None, NOW).await.unwrap();
    store.seal(&batch(2, epoch, "2"), &[("flights".to_owned(), schema())], None, NOW).await.unwrap();
    assert_eq!(kinds(store).await, []);
    let grown = of(&[field("id", DataType::Float64), field("new", DataType::Text)]);
    store.seal(&batch(3, epoch, "3"), &grown, None, NOW).await.unwrap();
    let page = EventPage { limit: 9, kind: Some(EventKind::SchemaChanged), ..EventPage::default() };
    let event = store.events_page(&page).await.unwrap().remove(0);
    assert_eq!((event.stream.as_deref(), event.workspace.as_deref()), (Some("flights"), Some("default")));
    let expected = json!({"added": [{"name": "new", "type": "text"}], "changed": [{"name": "id", "from": "integer", "to": "double"}]});
    assert_eq!(event.detail, expected);
    assert_eq!(store.last_seq(&flights()).await.unwrap(), BatchSeq(3));
}

#[tokio::test]
async fn hooks_are_divided_once() {
    let world = World::new(ON).await;
    let store = &world.store;
    run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, NOW).await;
    assert!(claim(store, NOW + 10).await.is_empty(), "no hooks, nothing to tell");
    let hooks = json!({"a": {"url": "https://a"}});
    let version = store.put_hooks(&flights(), &hooks, &SealedSecrets(vec![5]), Some(1), NOW).await.unwrap();
    assert_eq!(version, 2);
    let stale = store.put_hooks(&flights(), &hooks, &SealedSecrets(vec![5]), Some(1), NOW).await;
    assert!(matches!(stale, Err(StoreError::Changed { current: 2, .. })), "{stale:?}");
    assert_eq!(store.hook_secrets(&flights()).await.unwrap(), SealedSecrets(vec![5]));
    let ended = run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, NOW + 20).await;
    let loads = claim(store, NOW + 30).await.remove(0);
    assert_eq!((loads.target, &loads.body), (DeliveryTarget::Loads, &json!({"run": ended.id})));
    let parts = [("a".to_owned(), "flights".to_owned(), json!({"version": "1.0"}))];
    store.divide_loads(&loads, "somebody else", &parts, NOW + 31).await.unwrap();
    store.divide_loads(&loads, "me", &parts, NOW + 31).await.unwrap();
    store.divide_loads(&loads, "me", &parts, NOW + 32).await.unwrap();
    let due = claim(store, NOW + 40).await;
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!((due[0].target, due[0].stream.as_deref()), (DeliveryTarget::Hook, Some("flights")));
    assert_eq!(due[0].body, json!({"hook": "a", "document": {"version": "1.0"}}));
    store.undelivered(&due[0].id, "me", "gone", None, NOW + 41).await.unwrap();
    assert_eq!(store.backlog(NOW).await.unwrap().dead_deliveries, 1);
    store.put_hooks(&flights(), &json!({}), &SealedSecrets::default(), None, NOW).await.unwrap();
    run(store, RunOutcome::succeeded(report(1, 0)), Value::Null, NOW + 50).await;
    assert!(claim(store, NOW + 60).await.is_empty());
    store.delete_connection(&flights()).await.unwrap();
    assert_eq!(store.hook_secrets(&flights()).await.unwrap(), SealedSecrets::default());
}

#[tokio::test]
async fn notifiers_are_kept_with_versions_and_within_their_number() {
    let world = World::new(ON).await;
    let store = &world.store;
    assert!(store.put_notifier(&notifier("a"), Some(0), NOW).await.unwrap());
    assert!(!store.put_notifier(&notifier("a"), Some(1), NOW + 1).await.unwrap());
    let stored = store.notifier("a").await.unwrap();
    assert_eq!((stored.version, stored.created_at, stored.updated_at), (2, NOW, NOW + 1));
    assert_eq!(stored.secrets, SealedSecrets(vec![9]));
    assert!(matches!(store.put_notifier(&notifier("a"), Some(1), NOW).await, Err(StoreError::Changed { .. })));
    let nowhere = NotifierRow { workspace: "nowhere".into(), ..notifier("b") };
    assert!(matches!(store.put_notifier(&nowhere, None, NOW).await, Err(StoreError::NotFound { .. })));
    for n in 1..MAX_NOTIFIERS {
        store.put_notifier(&notifier(&format!("b{n}")), None, NOW).await.unwrap();
    }
    assert!(matches!(store.put_notifier(&notifier("c"), None, NOW).await, Err(StoreError::Conflict { .. })));
    store.put_notifier(&notifier("a"), None, NOW).await.unwrap();
    assert_eq!(store.notifiers(Some("default"), "b98", 10).await.unwrap()[0].name, "b99");
    assert!(store.notifiers(Some("other"), "", 10).await.unwrap().is_empty());
    assert!(matches!(store.delete_notifier("absent").await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn alerts_are_acknowledged_by_the_first() {
    let world = World::new(ON).await;
    let store = &world.store;
    run(store, failed(), Value::Null, NOW).await;
    let id = store.alerts(&AlertPage { limit: 1, ..AlertPage::default() }).await.unwrap()[0].id;
    store.acknowledge_alert(id, "anna", NOW + 1).await.unwrap();
    let alert = store.acknowledge_alert(id, "ben", NOW + 2).await.unwrap();
    assert_eq!((alert.acknowledged_by.as_deref(), alert.acknowledged_at), (Some("anna"), Some(NOW + 1)));
    assert_eq!(store.alert(id).await.unwrap(), alert);
    assert!(matches!(store.acknowledge_alert(id + 1, "x", NOW).await, Err(StoreError::NotFound { .. })));
    let other = AlertPage { workspace: Some("other".into()), limit: 9, ..AlertPage::default() };
    assert!(store.alerts(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_searched_by_level_text_and_source() {
    let world = World::new(ON).await;
    let store = &world.store;
    let run = store.start(&NewRun::on(flights(), RunKind::Check, Trigger::Manual), "me", TTL, NOW).await.unwrap();
    assert_eq!(run.status, RunStatus::Running);
    let line =
        |level, source: &str, message: &str| LogLine { at: NOW, level, source: source.into(), message: message.into() };
    let lines = [
        line(LogLevel::Debug, "plugin", "page 1 of 100%"),
        line(LogLevel::Info, "host", "Committed batch 1"),
        line(LogLevel::Error, "plugin", "a_b failed"),
        line(LogLevel::Warn, "host", "axb is slow"),
    ];
    store.append_logs(&run.id, &lines).await.unwrap();
    let find = async |level: Option<LogLevel>, text: &str, source: &str| {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let filter = LogFilter { level, contains: some(text), source: some(source) };
        store.find_logs(&run.id, &filter, 0, 10).await.unwrap().into_iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!(find(None, "", "").await, [1, 2, 3, 4]);
    assert_eq!(find(Some(LogLevel::Warn), "", "").await, [3, 4]);
    assert_eq!(find(None, "committed", "").await, [2]);
    assert_eq!(find(None, "a_b", "").await, [3], "an underscore is no pattern");
    assert_eq!(find(None, "100%", "").await, [1]);
    assert_eq!(find(None, "\\", "").await, [0i64; 0]);
    assert_eq!(find(Some(LogLevel::Info), "", "host").await, [2, 4]);
}
