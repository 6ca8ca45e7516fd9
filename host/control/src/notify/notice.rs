//! One notice: what happened, where, and what it belongs to. The payloads of all receivers are made of it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thimble_record::Failure;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it today.
    Warning,
    /// Data is not moving.
    Critical,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Whether a condition begins, ends, or was never one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A condition began that lasts until it is resolved.
    Open,
    /// The condition of the same key ended.
    Resolve,
    /// Something happened; there is nothing to resolve.
    Tell,
}

/// Where more is to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub title: String,
    pub url: String,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Stays the same however often it is sent, so that a receiver can tell a repetition.
    pub id: String,
    /// The kind in kebab-case, such as `run-failed`.
    pub kind: String,
    pub action: Action,
    pub severity: Severity,
    pub workspace: String,
    pub connection: Option<String>,
    pub stream: Option<String>,
    pub run: Option<String>,
    /// One sentence.
    pub summary: String,
    pub failure: Option<Failure>,
    /// Figures of the kind, free of secrets.
    pub detail: Value,
    pub links: Vec<Link>,
    /// Names the condition: an opening and its resolution have the same, two conditions never.
    pub dedup_key: String,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// When the condition began, milliseconds since the epoch; of a resolution.
    pub opened_at: Option<i64>,
}

impl Notice {
    /// The key of a condition.
    pub fn key(workspace: &str, connection: Option<&str>, stream: Option<&str>, kind: &str) -> String {
        format!("thimble/{workspace}/{}/{}/{kind}", connection.unwrap_or("-"), stream.unwrap_or("-"))
    }

    /// `connection`, or `connection/stream`, or the workspace.
    pub(super) fn subject(&self) -> String {
        match (&self.connection, &self.stream) {
            (Some(connection), Some(stream)) => format!("{connection}/{stream}"),
            (Some(connection), None) => connection.clone(),
            (None, _) => format!("workspace {}", self.workspace),
        }
    }

    /// The kind as words.
    pub(super) fn title(&self) -> String {
        let words = self.kind.replace('-', " ");
        let state = match self.action {
            Action::Open | Action::Tell => "",
            Action::Resolve => "Resolved: ",
        };
        let mut letters = words.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
        format!("{state}{first}{} — {}", letters.as_str(), self.subject())
    }

    /// What receivers show beside the sentence, in order: name and value.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("Workspace", self.workspace.clone())];
        let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        add("Connection", self.connection.clone());
        add("Stream", self.stream.clone());
        add("Run", self.run.clone());
        add("Kind of error", self.failure.as_ref().map(kind_word));
        add("Since", self.opened_at.map(rfc3339));
        facts
    }
}

fn kind_word(failure: &Failure) -> String {
    serde_json::to_value(failure.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

/// RFC 3339 with milliseconds, UTC.
pub(super) fn rfc3339(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// At most `max` bytes of `text`, cut at a character, with an ellipsis where something is missing.
pub(super) fn cut(text: &str, max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
pub(super) mod samples {
    use serde_json::json;
    use thimble_record::ErrorKind;

    use super::*;

    pub fn failed() -> Notice {
        Notice {
            id: "01JDELIVERY".into(),
            kind: "run-failed".into(),
            action: Action::Open,
            severity: Severity::Critical,
            workspace: "default".into(),
            connection: Some("orders".into()),
            stream: None,
            run: Some("01JRUN".into()),
            summary: "orders failed: the password of user <app> & co was refused".into(),
            failure: Some(Failure::new(ErrorKind::Config, "the password of user <app> & co was refused")),
            detail: json!({"attempts": 3}),
            links: vec![Link { title: "Run".into(), url: "https://thimble.example/runs/01JRUN".into() }],
            dedup_key: Notice::key("default", Some("orders"), None, "run-failed"),
            at: 1_764_000_000_123,
            opened_at: None,
        }
    }

    pub fn resolved() -> Notice {
        Notice {
            action: Action::Resolve,
            severity: Severity::Info,
            summary: "orders works again".into(),
            failure: None,
            at: 1_764_000_600_000,
            opened_at: Some(1_764_000_000_123),
            ..failed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    #[test]
    fn an_opening_and_its_end_have_one_key_and_streams_have_their_own() {
        assert_eq!(failed().dedup_key, resolved().dedup_key);
        let of = |stream| Notice::key("w", Some("c"), stream, "freshness-breached");
        assert_ne!(of(None), of(Some("s")));
        assert_eq!(of(Some("s")), "thimble/w/c/s/freshness-breached");
    }

    #[test]
    fn titles_name_what_and_where() {
        assert_eq!(failed().title(), "Run failed — orders");
        assert_eq!(resolved().title(), "Resolved: Run failed — orders");
        let stream = Notice { stream: Some("lines".into()), kind: "schema-changed".into(), ..failed() };
        assert_eq!(stream.title(), "Schema changed — orders/lines");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöüß", 7), "äö…");
        assert!(cut(&"ä".repeat(500), 150).len() <= 150);
    }
}
