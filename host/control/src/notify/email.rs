//! E-mail: subject, text, and the message as it goes to the mail server (RFC 5322, RFC 2047).

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};

use super::notice::{Action, Notice, Severity, cut, rfc3339};

/// Longest subject, in bytes.
const SUBJECT: usize = 200;
/// Text bytes of one encoded word: 45 make 60 of base64, within the 75 of RFC 2047.
const WORD_BYTES: usize = 45;
/// Bytes of one line of the body, before base64.
const LINE_BYTES: usize = 57;

/// A notice as a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub text: String,
}

impl Letter {
    /// What a notice says by e-mail.
    pub fn of(notice: &Notice) -> Self {
        let urgency = match (notice.action, notice.severity) {
            (Action::Resolve, _) => "",
            (_, Severity::Info) => "",
            (_, Severity::Warning) => "[warning] ",
            (_, Severity::Critical) => "[critical] ",
        };
        let mut text = format!("{}\n\n", notice.summary);
        for (name, value) in notice.facts() {
            text.push_str(&format!("{:<15}{value}\n", format!("{name}:")));
        }
        text.push_str(&format!("{:<15}{}\n", "At:", rfc3339(notice.at)));
        for link in &notice.links {
            text.push_str(&format!("\n{}: {}\n", link.title, link.url));
        }
        Self { subject: cut(&format!("{urgency}{}", notice.title()), SUBJECT), text }
    }
}

/// The message. `id` and `domain` make its Message-ID; addresses were checked when they were stored.
pub fn message(letter: &Letter, from: &str, to: &[String], id: &str, now_ms: i64) -> String {
    let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain.trim_end_matches('>'));
    let date = DateTime::<Utc>::from_timestamp_millis(now_ms).unwrap_or_default().to_rfc2822();
    let mut message = format!(
        "From: {from}\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
        to.join(",\r\n "),
        encoded_words(&letter.subject),
    );
    for line in letter.text.replace('\n', "\r\n").as_bytes().chunks(LINE_BYTES) {
        message.push_str(&STANDARD.encode(line));
        message.push_str("\r\n");
    }
    message
}

/// RFC 2047; plain ASCII on one line stays as it is.
fn encoded_words(text: &str) -> String {
    let plain = text.len() <= 60 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains("=?");
    if plain {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(WORD_BYTES);
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(&rest[..end])));
        rest = &rest[end..];
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::notice::samples, *};

    #[test]
    fn a_failure_as_a_letter() {
        let letter = Letter::of(&samples::failed());
        assert_eq!(letter.subject, "[critical] Run failed — orders");
        let expected = "orders failed: the password of user <app> & co was refused\n\n\
            Workspace:     default\nConnection:    orders\nRun:           01JRUN\nKind of error: config\n\
            At:            2025-11-24T16:00:00.123Z\n\nRun: https://thimble.example/runs/01JRUN\n";
        assert_eq!(letter.text, expected);
        assert_eq!(Letter::of(&samples::resolved()).subject, "Resolved: Run failed — orders");
    }

    #[test]
    fn the_message_is_plain_ascii_and_nothing_gets_into_its_headers() {
        let letter = Letter { subject: "päng\r\nBcc: evil@example.org".into(), text: "line\n.\nä".repeat(40) };
        let to = ["a@example.org".to_owned(), "b@example.org".to_owned()];
        let message = message(&letter, "thimble@example.com", &to, "01J", 1_764_000_000_123);
        assert!(message.is_ascii() && message.lines().all(|line| line.len() <= 78));
        let (headers, body) = message.split_once("\r\n\r\n").unwrap();
        assert!(headers.contains("To: a@example.org,\r\n b@example.org\r\n"), "{headers}");
        assert!(
            headers.contains("Message-ID: <01J@example.com>")
                && headers.contains("Date: Mon, 24 Nov 2025 16:00:00 +0000")
        );
        assert!(!headers.contains("Bcc"), "{headers}");
        let decoded = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), letter.text.replace('\n', "\r\n"));
        assert!(encoded_words(&"ä".repeat(200)).split("\r\n ").all(|word| word.len() <= 75));
        assert_eq!(encoded_words("plain"), "plain");
    }
}
