//! PagerDuty Events API v2.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2-overview>

use serde_json::{Value, json};

use super::notice::{Action, Notice, Severity, cut, rfc3339};

/// Where events are sent, unless the notifier says otherwise.
pub(crate) const ENDPOINT: &str = "https://events.pagerduty.com/v2/enqueue";

const SUMMARY: usize = 1_024;
const DEDUP_KEY: usize = 255;

/// The body of the POST. A notice that is no condition triggers an incident of its own.
pub(super) fn body(notice: &Notice, routing_key: &str) -> Value {
    let key = match notice.action {
        Action::Open | Action::Resolve => cut(&notice.dedup_key, DEDUP_KEY),
        Action::Tell => cut(&format!("{}/{}", notice.dedup_key, notice.id), DEDUP_KEY),
    };
    if notice.action == Action::Resolve {
        return json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": key});
    }
    let severity = match notice.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let mut details = json!({"workspace": notice.workspace, "detail": notice.detail});
    let facts = [("connection", &notice.connection), ("stream", &notice.stream), ("run", &notice.run)];
    for (name, value) in facts {
        if let Some(value) = value {
            details[name] = json!(value);
        }
    }
    if let Some(failure) = &notice.failure {
        details["failure"] = json!(failure);
    }
    let links: Vec<_> = notice.links.iter().map(|link| json!({"href": link.url, "text": link.title})).collect();
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": key,
        "client": "Thimble",
        "links": links,
        "payload": {
            "summary": cut(&format!("{}: {}", notice.title(), notice.summary), SUMMARY),
            "source": notice.subject(),
            "severity": severity,
            "timestamp": rfc3339(notice.at),
            "component": notice.connection,
            "group": notice.workspace,
            "class": notice.kind,
            "custom_details": details,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{super::notice::samples, *};

    #[test]
    fn a_failure_triggers_and_its_end_resolves_by_the_same_key() {
        let expected = json!({
            "routing_key": "R0",
            "event_action": "trigger",
            "dedup_key": "thimble/default/orders/-/run-failed",
            "client": "Thimble",
            "links": [{"href": "https://thimble.example/runs/01JRUN", "text": "Run"}],
            "payload": {
                "summary": "Run failed — orders: orders failed: the password of user <app> & co was refused",
                "source": "orders",
                "severity": "critical",
                "timestamp": "2025-11-24T16:00:00.123Z",
                "component": "orders",
                "group": "default",
                "class": "run-failed",
                "custom_details": {
                    "workspace": "default", "connection": "orders", "run": "01JRUN", "detail": {"attempts": 3},
                    "failure": {"kind": "config", "message": "the password of user <app> & co was refused"},
                },
            },
        });
        assert_eq!(body(&samples::failed(), "R0"), expected);
        let end =
            json!({"routing_key": "R0", "event_action": "resolve", "dedup_key": "thimble/default/orders/-/run-failed"});
        assert_eq!(body(&samples::resolved(), "R0"), end);
    }

    #[test]
    fn what_cannot_be_resolved_is_an_incident_of_its_own() {
        let of = |id: &str| {
            let notice = Notice { action: Action::Tell, id: id.into(), ..samples::failed() };
            body(&notice, "R0")["dedup_key"].clone()
        };
        assert_ne!(of("1"), of("2"));
        let long = Notice { summary: "x".repeat(5_000), dedup_key: "k".repeat(500), ..samples::failed() };
        let told = body(&long, "R0");
        assert!(told["payload"]["summary"].as_str().is_some_and(|text| text.len() <= SUMMARY));
        assert!(told["dedup_key"].as_str().is_some_and(|text| text.len() <= DEDUP_KEY));
    }
}
