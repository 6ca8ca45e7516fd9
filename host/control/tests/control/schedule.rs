//! Schedules, with a clock that the tests set.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use thimble_control::{ReconcileSettings, reconcile};
use thimble_record::ConnectionId;
use thimble_store::{EventKind, EventRow, RunPage, RunRow, RunStatus, Store, Trigger};
use tokio_util::sync::CancellationToken;

use crate::{Recorder, Server};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-01-01T00:00:00Z, a multiple of every interval used here.
const START: i64 = 1_767_225_600_000;

/// A server with one connection whose clock stands still until it is moved.
struct World {
    server: Server,
    time: Arc<AtomicI64>,
}

impl World {
    async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(change: impl FnOnce(ReconcileSettings) -> ReconcileSettings) -> Self {
        let time = Arc::new(AtomicI64::new(START));
        let server = Server::with(change(settings(&time, "here"))).await.plugin().await;
        Self { server, time }
    }

    fn store(&self) -> &Store {
        &self.server.store
    }

    /// Creates the connection `flights` with these settings, and waits until its slots are known.
    async fn connection(&self, settings: Value) -> Value {
        let mut body = json!({"plugin": "files", "config": {"url": "https://example.org"}});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let answer = self.server.put("/connections/flights", body).await;
        assert!(answer.status.is_success(), "{}", answer.json);
        self.scheduled().await;
        answer.json
    }

    async fn scheduled(&self) {
        self.until("the slots are known", async || self.store().unscheduled(1).await.unwrap().is_empty()).await;
    }

    /// Moves the clock and lets the reconciler see it.
    fn go(&self, by: i64) -> i64 {
        let now = self.time.fetch_add(by, Ordering::SeqCst) + by;
        self.server.signals.wake();
        now
    }

    async fn runs(&self) -> Vec<RunRow> {
        let page = RunPage { limit: 1_000, ..RunPage::default() };
        let mut runs = self.store().runs(&page).await.unwrap();
        runs.sort_by_key(|run| (run.queued_at, run.attempt, run.id.clone()));
        runs
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !condition().await {
            assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}; runs: {:#?}", self.runs().await);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Waits until so many runs have ended, and answers them.
    async fn ended(&self, count: usize) -> Vec<RunRow> {
        let finished = async || self.runs().await.iter().filter(|run| run.status.finished()).count() >= count;
        self.until(&format!("{count} runs ended"), finished).await;
        self.runs().await
    }

    /// Gives the reconciler time to do what it must not do.
    async fn settle(&self) {
        self.server.signals.wake();
        tokio::time::sleep(Duration::from_millis(80)).await;
    }

    async fn events(&self, kind: EventKind) -> Vec<EventRow> {
        let mut events = Vec::new();
        let mut before = None;
        loop {
            let page = self.store().events(None, None, 1_000, before).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            events.extend(page);
        }
        events.retain(|event| event.kind == kind);
        events.reverse();
        events
    }

    async fn next_at(&self) -> Option<i64> {
        self.server.get("/connections/flights/schedule").await.expect(200)["next_at"].as_i64()
    }
}

fn settings(time: &Arc<AtomicI64>, holder: &str) -> ReconcileSettings {
    let time = Arc::clone(time);
    ReconcileSettings {
        tick: Duration::from_millis(20),
        heartbeat: Duration::from_millis(20),
        // The clock jumps by days; what runs must not be taken for dead.
        ttl: Duration::from_secs(365 * 86_400),
        clock: Arc::new(move || time.load(Ordering::SeqCst)),
        ..ReconcileSettings::new(holder)
    }
}

fn hourly() -> Value {
    json!({"schedule": {"every": "1h", "anchor": "2026-01-01T00:00:00Z"}})
}

fn slots(runs: &[RunRow]) -> Vec<i64> {
    runs.iter().filter_map(|run| run.slot).map(|slot| (slot - START) / MINUTE).collect()
}

#[tokio::test]
async fn a_slot_starts_one_run_and_says_when_the_next_comes() {
    let world = World::new().await;
    world.connection(hourly()).await;
    assert_eq!(world.next_at().await, Some(START + HOUR));
    world.go(HOUR - 1);
    world.settle().await;
    assert!(world.runs().await.is_empty(), "not before its time");
    world.go(1);
    let runs = world.ended(1).await;
    let run = &runs[0];
    assert_eq!((run.trigger, run.slot, run.attempt), (Trigger::Schedule, Some(START + HOUR), 1));
    assert_eq!((run.status, &run.request), (RunStatus::Succeeded, &Value::Null));
    let state = world.server.get("/connections/flights/schedule").await.expect(200);
    assert_eq!(state["next_at"], START + 2 * HOUR);
    assert_eq!(state["schedules"][0]["last_slot"], START + HOUR);
    assert_eq!((&state["paused"], &state["schedules"][0]["stream"]), (&json!(false), &Value::Null));
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1, "once");
}

#[tokio::test]
async fn a_clock_that_jumps_forward_names_what_was_missed_and_back_repeats_nothing() {
    let world = World::new().await;
    world.connection(hourly()).await;
    world.go(HOUR);
    world.ended(1).await;
    world.go(24 * HOUR + 5 * MINUTE);
    let runs = world.ended(2).await;
    assert_eq!(slots(&runs), [60, 25 * 60], "the latest slot of the day");
    let skipped = world.events(EventKind::SlotSkipped).await;
    let missed: BTreeSet<i64> = skipped.iter().map(|event| event.detail["slot"].as_i64().unwrap()).collect();
    let expected: BTreeSet<i64> = (2..25).map(|hour| START + hour * HOUR).collect();
    assert_eq!((skipped.len(), missed), (23, expected), "one event for each slot that nobody started");
    assert!(
        skipped
            .iter()
            .all(|event| event.detail["reason"] == "missed" && event.connection.as_deref() == Some("flights"))
    );
    let jumps = world.events(EventKind::ClockJumped).await;
    let by = jumps.last().unwrap().detail["by_ms"].as_i64().unwrap();
    assert!((by - (24 * HOUR + 5 * MINUTE)).abs() < MINUTE, "{jumps:?}");

    for back in [HOUR, 10 * HOUR, 30 * MINUTE] {
        for by in [-back, back] {
            world.go(by);
            let told = async || {
                let jumps = world.events(EventKind::ClockJumped).await;
                jumps.last().is_some_and(|jump| (jump.detail["by_ms"].as_i64().unwrap() - by).abs() < MINUTE)
            };
            world.until("the jump is told", told).await;
            world.settle().await;
        }
    }
    assert_eq!(world.runs().await.len(), 2, "no slot twice");
    assert_eq!(world.events(EventKind::SlotSkipped).await.len(), 23);
    world.go(55 * MINUTE);
    assert_eq!(slots(&world.ended(3).await), [60, 25 * 60, 26 * 60]);
}

#[tokio::test]
async fn without_catching_up_a_late_slot_is_an_event_only() {
    let world = World::new().await;
    let schedule = json!({"every": "1h", "anchor": "2026-01-01T00:00:00Z", "catch_up": "none"});
    world.connection(json!({"schedule": schedule})).await;
    world.go(2 * HOUR + 2 * MINUTE);
    world.until("both are named", async || world.events(EventKind::SlotSkipped).await.len() == 2).await;
    world.settle().await;
    assert!(world.runs().await.is_empty());
    assert_eq!(world.next_at().await, Some(START + 3 * HOUR));
}

#[tokio::test]
async fn a_slot_that_comes_while_the_connection_runs_is_skipped_with_an_event() {
    let world = World::new().await;
    world.connection(hourly()).await;
    *world.server.recorder.usual.lock().unwrap() = "hold";
    world.go(HOUR);
    world.until("it runs", async || world.runs().await.iter().any(|run| run.status == RunStatus::Running)).await;
    for skipped in 1..=2 {
        world.go(HOUR);
        world.until("it is named", async || world.events(EventKind::SlotSkipped).await.len() == skipped).await;
    }
    let skipped = world.events(EventKind::SlotSkipped).await;
    let running = world.runs().await[0].id.clone();
    assert_eq!(
        skipped.iter().map(|event| event.detail["slot"].as_i64()).collect::<Vec<_>>(),
        [Some(START + 2 * HOUR), Some(START + 3 * HOUR)]
    );
    assert!(skipped.iter().all(|event| event.detail["reason"] == "running" && event.detail["run"] == running.0));
    world.server.recorder.release.add_permits(1);
    world.ended(1).await;
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1, "what was skipped stays skipped");
    *world.server.recorder.usual.lock().unwrap() = "";
    world.go(HOUR);
    assert_eq!(slots(&world.ended(2).await), [60, 240]);
}

#[tokio::test]
async fn a_slot_that_queues_starts_when_the_connection_is_free() {
    let world = World::new().await;
    let schedule = json!({"every": "1h", "anchor": "2026-01-01T00:00:00Z", "overlap": "queue"});
    world.connection(json!({"schedule": schedule})).await;
    *world.server.recorder.usual.lock().unwrap() = "hold";
    world.go(HOUR);
    world.until("it runs", async || world.runs().await.iter().any(|run| run.status == RunStatus::Running)).await;
    world.go(2 * HOUR);
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1);
    assert!(world.events(EventKind::SlotSkipped).await.is_empty(), "nothing is decided while it waits");
    *world.server.recorder.usual.lock().unwrap() = "";
    world.server.recorder.release.add_permits(1);
    assert_eq!(slots(&world.ended(2).await), [60, 180], "the latest, as soon as it could");
    let skipped = world.events(EventKind::SlotSkipped).await;
    assert_eq!(skipped.iter().map(|event| event.detail["slot"].as_i64()).collect::<Vec<_>>(), [Some(START + 2 * HOUR)]);
}

#[tokio::test]
async fn streams_have_schedules_of_their_own_and_share_a_run_at_the_same_moment() {
    let world = World::new().await;
    let often = json!({"every": "30m", "anchor": "2026-01-01T00:00:00Z"});
    let never = json!({"manual": true});
    let mut settings = hourly();
    settings["stream_schedules"] = json!({"orders": often, "lines": often, "archive": never});
    world.connection(settings).await;
    world.go(30 * MINUTE);
    let runs = world.ended(1).await;
    assert_eq!(runs[0].request, json!({"streams": ["lines", "orders"]}));
    world.go(30 * MINUTE);
    let runs = world.ended(2).await;
    assert_eq!(runs[1].request, json!({"except": ["archive"]}), "all that is due in one run, and not what is manual");
    assert_eq!(slots(&runs), [30, 60]);
    assert!(world.events(EventKind::SlotSkipped).await.is_empty());
    let state = world.server.get("/connections/flights/schedule").await.expect(200);
    let streams: Vec<_> = state["schedules"].as_array().unwrap().iter().map(|one| one["stream"].clone()).collect();
    assert_eq!(streams, [Value::Null, json!("archive"), json!("lines"), json!("orders")]);
    assert_eq!(state["schedules"][1]["next_at"], Value::Null);
}

#[tokio::test]
async fn continuous_starts_again_a_pause_after_the_end() {
    let world = World::new().await;
    world.connection(json!({"schedule": {"continuous": true, "pause": "10s"}})).await;
    world.ended(1).await;
    // The executor's own clock is the machine's: what counts is when the run ended by it.
    let ended = world.runs().await[0].finished_at.unwrap();
    world.time.store(ended + 9_999, Ordering::SeqCst);
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1);
    world.go(1);
    assert_eq!(world.ended(2).await[1].slot, Some(ended + 10_000));
}

#[tokio::test]
async fn transient_failures_are_retried_with_growing_waits_and_then_left_to_the_next_slot() {
    let world = World::new().await;
    let mut settings = hourly();
    settings["retry"] = json!({"retries": 2, "wait": "1m", "max_wait": "10m"});
    world.connection(settings).await;
    *world.server.recorder.usual.lock().unwrap() = "transient";
    world.go(HOUR);
    for (attempt, longest) in [(2, MINUTE), (3, 2 * MINUTE)] {
        let waiting = async || world.runs().await.last().is_some_and(|run| run.attempt == attempt);
        world.until("a retry waits", waiting).await;
        let retry = world.runs().await.pop().unwrap();
        let wait = retry.not_before.unwrap() - world.time.load(Ordering::SeqCst);
        assert!(wait >= longest / 2 && wait <= longest, "{wait} of {longest}");
        assert_eq!((retry.trigger, retry.status, retry.slot), (Trigger::Retry, RunStatus::Queued, Some(START + HOUR)));
        assert_eq!(retry.retry_of, Some(world.runs().await[usize::try_from(attempt).unwrap() - 2].id.clone()));
        world.go(wait - 1);
        world.settle().await;
        assert_eq!(world.runs().await.last().unwrap().status, RunStatus::Queued, "not before its time");
        world.go(1);
        world.ended(usize::try_from(attempt).unwrap()).await;
    }
    world.settle().await;
    assert_eq!(world.runs().await.len(), 3, "given up");
    *world.server.recorder.usual.lock().unwrap() = "";
    world.time.store(START + 2 * HOUR, Ordering::SeqCst);
    let runs = world.ended(4).await;
    assert_eq!((runs[3].trigger, runs[3].attempt, runs[3].status), (Trigger::Schedule, 1, RunStatus::Succeeded));
}

#[tokio::test]
async fn who_asks_for_a_sync_does_not_wait_for_a_retry() {
    let world = World::new().await;
    world.connection(hourly()).await;
    *world.server.recorder.usual.lock().unwrap() = "transient";
    world.go(HOUR);
    world.until("a retry waits", async || world.runs().await.len() == 2).await;
    world.time.store(START + HOUR + 1_000, Ordering::SeqCst);
    *world.server.recorder.usual.lock().unwrap() = "";
    let asked = world.server.start("flights", "sync", "").await;
    world.server.until(&asked, "succeeded").await;
    let runs = world.runs().await;
    assert_eq!(
        runs.iter().map(|run| run.status).collect::<Vec<_>>(),
        [RunStatus::Failed, RunStatus::Cancelled, RunStatus::Succeeded]
    );
}

#[tokio::test]
async fn a_failure_of_the_configuration_pauses_the_schedule_until_something_changes() {
    let world = World::new().await;
    let before = world.connection(hourly()).await;
    *world.server.recorder.usual.lock().unwrap() = "config";
    world.go(HOUR);
    world.until("it is paused", async || !world.events(EventKind::ConnectionPaused).await.is_empty()).await;
    let event = world.events(EventKind::ConnectionPaused).await.remove(0);
    assert_eq!((&event.detail["kind"], &event.detail["message"]), (&json!("config"), &json!("the source said no")));
    assert_eq!(event.run, Some(world.runs().await[0].id.clone()));
    world.go(3 * HOUR);
    world.scheduled().await;
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1, "it rests");
    let state = world.server.get("/connections/flights/schedule").await.expect(200);
    assert_eq!(
        (&state["paused"], &state["paused_why"], &state["next_at"]),
        (&json!(true), &json!("the source said no"), &Value::Null)
    );

    *world.server.recorder.usual.lock().unwrap() = "";
    let asked = world.server.start("flights", "sync", "").await;
    world.server.until(&asked, "succeeded").await;
    // What it failed for is granted now.
    world.server.put("/plugins/files/grants", json!({"grants": ["example.org"]})).await.expect(200);
    let runs = world.ended(3).await;
    assert!(runs.iter().any(|run| run.slot == Some(START + 4 * HOUR)), "{runs:#?}");
    let skipped = world.events(EventKind::SlotSkipped).await;
    assert_eq!(skipped.len(), 1, "what passed meanwhile is one event: {skipped:?}");
    assert_eq!((&skipped[0].detail["reason"], &skipped[0].detail["count"]), (&json!("paused"), &json!(2)));
    let after = world.server.get("/connections/flights").await.expect(200);
    assert_eq!(after["paused"], false);
    assert!(after["version"].as_i64() > before["version"].as_i64());
}

#[tokio::test]
async fn schedules_rest_and_go_on_as_told_and_runs_that_are_asked_for_start_all_the_same() {
    let world = World::new().await;
    world.connection(hourly()).await;
    let state = world.server.post("/connections/flights/pause", json!({})).await.expect(200);
    assert_eq!((&state["paused"], &state["paused_why"]), (&json!(true), &Value::Null));
    let again = world.server.post("/connections/flights/pause", json!({})).await;
    assert_eq!(again.headers["etag"], "\"2\"", "pausing twice changes nothing");
    world.go(5 * HOUR);
    world.settle().await;
    assert!(world.runs().await.is_empty());
    let asked = world.server.start("flights", "sync", "").await;
    world.server.until(&asked, "succeeded").await;
    // A grant is no reason to start what somebody stopped.
    world.server.put("/plugins/files/grants", json!({"grants": ["example.org"]})).await.expect(200);
    world.settle().await;
    assert_eq!(world.runs().await.len(), 1);
    world.server.post("/connections/flights/resume", json!({})).await.expect(200);
    assert!(world.ended(2).await.iter().any(|run| run.slot == Some(START + 5 * HOUR)));
    world.server.post("/connections/nobody/pause", json!({})).await.problem(404, "not-found");
    let rows = world.store().audit(100, None).await.unwrap();
    assert_eq!(
        rows.iter().filter(|row| row.action == "connection.pause" || row.action == "connection.resume").count(),
        2
    );
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped_and_has_failed() {
    let world = World::new().await;
    let mut settings = hourly();
    settings["max_duration"] = json!("10s");
    world.connection(settings).await;
    // Ten real seconds would be long: the limit is shortened where the API does not allow it.
    let mut row = world.store().connection(&ConnectionId::new("flights").unwrap()).await.unwrap();
    row.max_duration_ms = Some(50);
    world.store().put_connection(&row, None, START).await.unwrap();
    world.scheduled().await;
    *world.server.recorder.usual.lock().unwrap() = "hold";
    world.go(HOUR);
    world.until("it failed", async || world.runs().await.first().is_some_and(|run| run.status.finished())).await;
    let run = world.runs().await.remove(0);
    let failure = run.failure.unwrap();
    assert_eq!((run.status, failure.kind), (RunStatus::Failed, thimble_record::ErrorKind::Transient));
    assert!(failure.message.contains("max_duration"), "{}", failure.message);
    assert_eq!(run.report, json!({"records": 3}), "what it did is kept");
}

#[tokio::test]
async fn mistakes_in_a_schedule_are_refused_with_the_setting_named() {
    let world = World::new().await;
    let cases = [
        (
            json!({"schedule": {"every": "1s"}}),
            "connection flights: `schedule`: `every` of a schedule must be between 10s",
        ),
        (json!({"schedule": {"cron": "0 6 * *"}}), "`schedule`: `cron` of a schedule must have five fields"),
        (json!({"stream_schedules": {"a": {}}}), "`stream_schedules.a`: a schedule needs exactly one of"),
        (
            json!({"streams": [{"stream": "b"}], "stream_schedules": {"a": {"manual": true}}}),
            "`stream_schedules.a`: the connection reads no stream of that name",
        ),
        (json!({"retry": {"retries": 21}}), "`retries` of `retry` must be at most 20"),
        (json!({"max_duration": "9s"}), "`max_duration` must be between 10s and 31d, but is 9s"),
        (json!({"max_duration": "32d"}), "`max_duration` must be between 10s and 31d"),
        (json!({"schedule": {"evry": "1h"}}), "evry"),
    ];
    for (settings, expected) in cases {
        let mut body = json!({"plugin": "files", "config": {}});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let told = world.server.put("/connections/flights", body).await;
        assert_eq!(told.status, 422, "{settings}");
        assert!(told.json["detail"].as_str().unwrap().contains(expected), "{settings}: {}", told.json);
    }
    let many: serde_json::Map<String, Value> =
        (0..=thimble_control::MAX_STREAM_SCHEDULES).map(|n| (format!("s{n}"), json!({"manual": true}))).collect();
    let body = json!({"plugin": "files", "config": {}, "stream_schedules": many});
    assert_eq!(world.server.put("/connections/flights", body).await.status, 422);
}

#[tokio::test]
async fn a_changed_schedule_begins_anew_and_an_unchanged_one_goes_on() {
    let world = World::new().await;
    world.connection(hourly()).await;
    world.go(90 * MINUTE);
    world.ended(1).await;
    let mut same = hourly();
    same["max_duration"] = json!("1h");
    world.connection(same).await;
    assert_eq!(world.next_at().await, Some(START + 2 * HOUR));
    world.connection(json!({"schedule": {"cron": "45 * * * *"}})).await;
    assert_eq!(world.next_at().await, Some(START + 105 * MINUTE));
    world.go(15 * MINUTE);
    assert_eq!(slots(&world.ended(2).await), [60, 105]);
    world.connection(json!({})).await;
    assert_eq!(world.next_at().await, None);
    world.go(24 * HOUR);
    world.settle().await;
    assert_eq!(world.runs().await.len(), 2);
}

#[tokio::test]
async fn memory_is_what_admits_runs() {
    let world = World::with(|settings| ReconcileSettings {
        concurrency: 100,
        memory_bytes: 200 << 20,
        run_memory_mib: 90,
        ..settings
    })
    .await;
    *world.server.recorder.usual.lock().unwrap() = "hold";
    for name in ["a", "b", "c", "d"] {
        let body =
            json!({"plugin": "files", "config": {}, "schedule": {"every": "1h", "anchor": "2026-01-01T00:00:00Z"}});
        world.server.put(&format!("/connections/{name}"), body).await.expect(201);
    }
    world.scheduled().await;
    world.go(HOUR);
    world.until("four are queued", async || world.runs().await.len() == 4).await;
    world.until("two run", async || world.server.recorder.at_once.load(Ordering::SeqCst) == 2).await;
    world.settle().await;
    assert_eq!(world.server.recorder.at_once.load(Ordering::SeqCst), 2);
    world.server.recorder.release.add_permits(4);
    world.ended(4).await;
    assert_eq!(world.server.recorder.most_at_once.load(Ordering::SeqCst), 2);
}

/// Two hosts on one database, their reconcilers, and everybody asking at once: of each slot and of all who ask, one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hosts_and_fifty_triggers_start_one_run() {
    let world = World::new().await;
    let other = Store::open(std::path::Path::new(world.store().place())).await.unwrap();
    let recorder = Arc::new(Recorder::new(other.clone()));
    let stop = CancellationToken::new();
    let signals = thimble_control::Signals::default();
    let second =
        tokio::spawn(reconcile(other, recorder.clone(), signals.clone(), settings(&world.time, "there"), stop.clone()));
    world.connection(json!({"schedule": {"every": "10m", "anchor": "2026-01-01T00:00:00Z"}})).await;
    for hold in [&world.server.recorder, &recorder] {
        *hold.usual.lock().unwrap() = "hold";
    }
    for round in 1..=6 {
        world.time.store(START + round * 10 * MINUTE, Ordering::SeqCst);
        signals.wake();
        world.server.signals.wake();
        let asks = (0..50).map(|_| {
            let body = json!({"kind": "sync", "request": {"do": "hold"}});
            world.server.post("/connections/flights/runs", body)
        });
        let answers = futures::future::join_all(asks).await;
        let accepted = answers.iter().filter(|answer| answer.status == 202).count();
        assert!(answers.iter().all(|answer| answer.status == 202 || answer.status == 409));
        let slot = START + round * 10 * MINUTE;
        let decided = async || {
            let skipped = world.events(EventKind::SlotSkipped).await;
            world.runs().await.iter().any(|run| run.slot == Some(slot))
                || skipped.iter().any(|event| event.detail["slot"] == slot)
        };
        world.until("the slot is decided upon", decided).await;
        let unfinished = world.store().unfinished_runs().await.unwrap();
        assert_eq!(unfinished.len(), 1, "{unfinished:#?}");
        assert!(accepted <= 1, "{accepted} accepted");
        assert_eq!(accepted == 1, unfinished[0].trigger == Trigger::Api);
        world
            .until("it runs", async || world.store().unfinished_runs().await.unwrap()[0].status == RunStatus::Running)
            .await;
        world.server.recorder.release.add_permits(1);
        recorder.release.add_permits(1);
        world.until("it ended", async || world.store().unfinished_runs().await.unwrap().is_empty()).await;
        // The permit of the host that did not execute it.
        for host in [&world.server.recorder, &recorder] {
            host.release.forget_permits(1);
        }
    }
    stop.cancel();
    second.await.unwrap();
    let runs = world.runs().await;
    let mut started: Vec<i64> = runs.iter().filter_map(|run| run.slot).collect();
    let mut skipped: Vec<i64> =
        world.events(EventKind::SlotSkipped).await.iter().map(|event| event.detail["slot"].as_i64().unwrap()).collect();
    started.append(&mut skipped);
    started.sort_unstable();
    assert_eq!(
        started,
        (1..=6).map(|round| START + round * 10 * MINUTE).collect::<Vec<_>>(),
        "each slot once, none lost"
    );
}
