//! The generic webhook: one JSON document, signed as by Standard Webhooks.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use serde_json::{Value, json};

use super::notice::{Action, Notice, rfc3339};

/// The body of the POST: `{"type", "timestamp", "data"}`; the type is `alert.opened`, `alert.resolved` or `event`.
pub(super) fn body(notice: &Notice) -> Value {
    let kind = match notice.action {
        Action::Open => "alert.opened",
        Action::Resolve => "alert.resolved",
        Action::Tell => "event",
    };
    json!({
        "type": kind,
        "timestamp": rfc3339(notice.at),
        "data": {
            "kind": notice.kind,
            "severity": notice.severity.word(),
            "workspace": notice.workspace,
            "connection": notice.connection,
            "stream": notice.stream,
            "run": notice.run,
            "summary": notice.summary,
            "failure": notice.failure,
            "detail": notice.detail,
            "links": notice.links,
            "dedup_key": notice.dedup_key,
            "opened_at": notice.opened_at.map(rfc3339),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{super::notice::samples, *};

    #[test]
    fn a_failure_and_its_end_as_documents() {
        let expected = json!({
            "type": "alert.opened",
            "timestamp": "2025-11-24T16:00:00.123Z",
            "data": {
                "kind": "run-failed",
                "severity": "critical",
                "workspace": "default",
                "connection": "orders",
                "stream": null,
                "run": "01JRUN",
                "summary": "orders failed: the password of user <app> & co was refused",
                "failure": {"kind": "config", "message": "the password of user <app> & co was refused"},
                "detail": {"attempts": 3},
                "links": [{"title": "Run", "url": "https://thimble.example/runs/01JRUN"}],
                "dedup_key": "thimble/default/orders/-/run-failed",
                "opened_at": null,
            },
        });
        assert_eq!(body(&samples::failed()), expected);
        let end = body(&samples::resolved());
        assert_eq!(
            (&end["type"], &end["data"]["opened_at"]),
            (&json!("alert.resolved"), &json!("2025-11-24T16:00:00.123Z"))
        );
        assert_eq!(body(&Notice { action: Action::Tell, ..samples::failed() })["type"], "event");
    }
}
