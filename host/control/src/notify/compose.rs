//! From what is stored of a happening to the notice that is told of it: the sentence, the severity, the links.

use serde::Deserialize;
use serde_json::Value;
use thimble_record::Failure;
use thimble_store::{DeliveryRow, EventKind, Phase};

use super::notice::{Action, Link, Notice, Severity};

/// What the store keeps of a happening.
#[derive(Deserialize)]
struct Happening {
    kind: EventKind,
    workspace: Option<String>,
    connection: Option<String>,
    stream: Option<String>,
    run: Option<String>,
    #[serde(default)]
    detail: Value,
    at: i64,
    opened_at: Option<i64>,
}

/// The notice of a delivery; `None` where the stored text is of another version and says nothing.
pub(crate) fn notice(delivery: &DeliveryRow, base_url: Option<&str>) -> Option<Notice> {
    let Happening { kind, workspace, connection, stream, run, detail, at, opened_at } =
        serde_json::from_value(delivery.body.clone()).ok()?;
    let workspace = workspace.unwrap_or_else(|| delivery.workspace.clone());
    let action = match delivery.phase {
        Phase::Open => Action::Open,
        Phase::Resolve => Action::Resolve,
        Phase::Tell => Action::Tell,
    };
    let failure: Option<Failure> = detail.get("failure").and_then(|stored| Failure::deserialize(stored).ok());
    let word = word(kind);
    let subject = connection.as_deref().unwrap_or(&workspace);
    let summary = match action {
        Action::Resolve => ended(kind, subject),
        Action::Open | Action::Tell => sentence(kind, subject, stream.as_deref(), failure.as_ref(), &detail),
    };
    let links = base_url.map(|base| links(base, connection.as_deref(), run.as_deref())).unwrap_or_default();
    Some(Notice {
        id: delivery.id.clone(),
        action,
        severity: if action == Action::Resolve { Severity::Info } else { severity(kind) },
        dedup_key: Notice::key(&workspace, connection.as_deref(), stream.as_deref(), &word),
        kind: word,
        workspace,
        connection,
        stream,
        run,
        summary,
        failure,
        detail,
        links,
        at,
        opened_at,
    })
}

/// The kind in kebab-case.
pub(crate) fn word(kind: EventKind) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn severity(kind: EventKind) -> Severity {
    match kind {
        EventKind::RunFailed | EventKind::ConnectionPaused | EventKind::FreshnessBreached => Severity::Critical,
        EventKind::SlotSkipped
        | EventKind::EgressDenied
        | EventKind::RejectsOverThreshold
        | EventKind::HookFailed
        | EventKind::ClockJumped
        | EventKind::WorkerLost => Severity::Warning,
        EventKind::RunRecovered | EventKind::SchemaChanged | EventKind::FreshnessRestored => Severity::Info,
    }
}

fn links(base: &str, connection: Option<&str>, run: Option<&str>) -> Vec<Link> {
    let base = base.trim_end_matches('/');
    let link = |title: &str, place: &str, id: &str| Link { title: title.into(), url: format!("{base}/{place}/{id}") };
    let run = run.map(|run| link("Run", "runs", run));
    run.into_iter().chain(connection.map(|connection| link("Connection", "connections", connection))).collect()
}

fn ended(kind: EventKind, subject: &str) -> String {
    match kind {
        EventKind::RunFailed => format!("{subject} works again"),
        EventKind::FreshnessBreached => format!("the data of {subject} is as fresh as it should be again"),
        EventKind::ConnectionPaused => format!("the schedules of {subject} go on"),
        _ => format!("{} of {subject} ended", word(kind).replace('-', " ")),
    }
}

fn sentence(kind: EventKind, subject: &str, stream: Option<&str>, failure: Option<&Failure>, detail: &Value) -> String {
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| detail.get(name).and_then(Value::as_str));
        found.or(failure.map(|failure| failure.message.as_str())).map(str::to_owned)
    };
    let why = |sentence: String, names: &[&str]| match text(names) {
        Some(reason) => format!("{sentence}: {reason}"),
        None => sentence,
    };
    let figure = |name: &str| detail.get(name).and_then(Value::as_i64).unwrap_or(0);
    match kind {
        EventKind::RunFailed => why(format!("{subject} failed"), &[]),
        EventKind::RunRecovered => format!("{subject} works again"),
        EventKind::FreshnessBreached => format!(
            "the data of {subject} is {} old and should be at most {}",
            span(figure("age_ms")),
            span(figure("objective_ms"))
        ),
        EventKind::FreshnessRestored => format!("the data of {subject} is as fresh as it should be again"),
        EventKind::SchemaChanged => {
            let stream = stream.unwrap_or("a stream");
            format!("{stream} of {subject} changed: {}", changes(detail))
        }
        EventKind::SlotSkipped => {
            let what = match figure("count").max(figure("missed")) {
                0 | 1 => "a scheduled run".to_owned(),
                many => format!("{many} scheduled runs"),
            };
            why(format!("{what} of {subject} did not take place"), &["reason", "why"])
        }
        EventKind::ConnectionPaused => {
            why(format!("the schedules of {subject} rest until it is put right"), &["why", "reason"])
        }
        EventKind::EgressDenied => why(format!("{subject} asked for a host that it may not reach"), &["host"]),
        EventKind::RejectsOverThreshold => why(format!("{subject} has more rejected records than it may"), &["reason"]),
        EventKind::HookFailed => why(format!("a post-load hook of {subject} was given up"), &["error"]),
        EventKind::ClockJumped => why("the clock of the machine jumped".to_owned(), &["reason"]),
        EventKind::WorkerLost => {
            why(format!("the process that ran {subject} went away; another one goes on"), &["holder", "worker"])
        }
    }
}

/// Most fields that a sentence names.
const NAMED_FIELDS: usize = 10;

fn changes(detail: &Value) -> String {
    let names = |key: &str, verb: &str| {
        let fields: Vec<_> = detail.get(key)?.as_array()?.iter().filter_map(field_name).collect();
        let more = fields.len().saturating_sub(NAMED_FIELDS);
        let named = fields[..fields.len() - more].join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty()).then(|| format!("{verb} {named}{more}"))
    };
    let parts: Vec<_> = [names("added", "new"), names("changed", "of another type:"), names("removed", "gone:")]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() { "its fields".into() } else { parts.join("; ") }
}

fn field_name(field: &Value) -> Option<&str> {
    field.as_str().or_else(|| field.get("name")?.as_str())
}

/// A time in its largest unit, and the next one: `1 d 3 h`, `5 min`, `12 s`.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use thimble_store::{DeliveryStatus, DeliveryTarget};

    use super::*;

    fn delivery(phase: Phase, body: Value) -> DeliveryRow {
        DeliveryRow {
            id: "01J".into(),
            workspace: "default".into(),
            target: DeliveryTarget::Notice,
            notifier: Some("n".into()),
            connection: Some("c".into()),
            stream: None,
            kind: String::new(),
            alert: None,
            phase,
            body,
            status: DeliveryStatus::Pending,
            attempts: 1,
            next_at: 0,
            last_error: None,
            created_at: 0,
            ended_at: None,
        }
    }

    fn told(phase: Phase, kind: &str, detail: Value) -> Notice {
        let body = json!({"kind": kind, "workspace": "default", "connection": "c", "stream": null, "run": "01R",
            "detail": detail, "at": 1, "opened_at": null});
        notice(&delivery(phase, body), Some("https://thimble.example/")).unwrap()
    }

    #[test]
    fn every_kind_has_a_sentence_that_names_the_connection() {
        let kinds = [
            "run-failed",
            "run-recovered",
            "slot-skipped",
            "schema-changed",
            "freshness-breached",
            "freshness-restored",
            "connection-paused",
            "egress-denied",
            "rejects-over-threshold",
            "hook-failed",
            "clock-jumped",
            "worker-lost",
        ];
        for kind in kinds {
            for phase in [Phase::Open, Phase::Resolve, Phase::Tell] {
                let notice = told(phase, kind, Value::Null);
                assert_eq!(notice.kind, kind);
                let global = kind == "clock-jumped" && phase != Phase::Resolve;
                assert!(global || notice.summary.contains('c'), "{}", notice.summary);
            }
        }
        assert!(notice(&delivery(Phase::Tell, json!({"kind": "of-tomorrow"})), None).is_none());
    }

    #[test]
    fn sentences_say_why() {
        let failed = told(Phase::Open, "run-failed", json!({"failure": {"kind": "config", "message": "no such host"}}));
        assert_eq!((failed.summary.as_str(), failed.severity), ("c failed: no such host", Severity::Critical));
        assert_eq!(failed.links[0].url, "https://thimble.example/runs/01R");
        assert_eq!(failed.dedup_key, told(Phase::Resolve, "run-failed", Value::Null).dedup_key);
        let stale = told(Phase::Open, "freshness-breached", json!({"age_ms": 7_500_000, "objective_ms": 3_600_000}));
        assert_eq!(stale.summary, "the data of c is 2 h 5 min old and should be at most 1 h");
        let added = json!({"added": [{"name": "a", "type": "integer"}, "b"], "changed": [{"name": "x"}]});
        assert_eq!(
            told(Phase::Tell, "schema-changed", added).summary,
            "a stream of c changed: new a, b; of another type: x"
        );
        let many: Vec<_> = (0..12).map(|n| format!("f{n}")).collect();
        assert!(told(Phase::Tell, "schema-changed", json!({"added": many})).summary.ends_with("f9 and 2 more"));
        let skipped = told(Phase::Tell, "slot-skipped", json!({"count": 3, "reason": "the machine slept"}));
        assert_eq!(skipped.summary, "3 scheduled runs of c did not take place: the machine slept");
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        let all = [0, 59_000, 60_000, 3_600_000, 3_660_000, 86_400_000, 90_000_000].map(span);
        assert_eq!(all, ["0 s", "59 s", "1 min", "1 h", "1 h 1 min", "1 d", "1 d 1 h"]);
    }
}
