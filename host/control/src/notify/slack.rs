//! Slack's incoming webhooks: Block Kit blocks, with a text for notifications.
//!
//! <https://api.slack.com/reference/block-kit/blocks>

use serde_json::{Value, json};

use super::notice::{Action, Link, Notice, Severity, cut, rfc3339};

/// Slack's limits, in characters; cut in bytes, which are at least as many.
const HEADER: usize = 150;
const SECTION: usize = 3_000;
const FIELD: usize = 2_000;
const BUTTON: usize = 75;
const MAX_BUTTONS: usize = 5;

/// The body of the POST.
pub(super) fn body(notice: &Notice) -> Value {
    let sign = match (notice.action, notice.severity) {
        (Action::Resolve, _) => ":white_check_mark:",
        (_, Severity::Info) => ":information_source:",
        (_, Severity::Warning) => ":warning:",
        (_, Severity::Critical) => ":rotating_light:",
    };
    let title = notice.title();
    let header = cut(&format!("{sign} {title}"), HEADER);
    let fields: Vec<_> = notice
        .facts()
        .into_iter()
        .map(|(name, value)| json!({"type": "mrkdwn", "text": cut(&format!("*{name}*\n{}", escape(&value)), FIELD)}))
        .collect();
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": header, "emoji": true}}),
        json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(&escape(&notice.summary), SECTION)}}),
        json!({"type": "section", "fields": fields}),
    ];
    let button = |link: &Link| json!({"type": "button", "text": {"type": "plain_text", "text": cut(&link.title, BUTTON)}, "url": link.url});
    let buttons: Vec<_> = notice.links.iter().take(MAX_BUTTONS).map(button).collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": rfc3339(notice.at)}]}));
    json!({"text": cut(&escape(&format!("{title}: {}", notice.summary)), SECTION), "blocks": blocks})
}

/// Slack's three control characters.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{super::notice::samples, *};

    #[test]
    fn a_failure_in_blocks() {
        let expected = json!({
            "text": "Run failed — orders: orders failed: the password of user &lt;app&gt; &amp; co was refused",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": ":rotating_light: Run failed — orders", "emoji": true}},
                {"type": "section", "text": {"type": "mrkdwn", "text": "orders failed: the password of user &lt;app&gt; &amp; co was refused"}},
                {"type": "section", "fields": [
                    {"type": "mrkdwn", "text": "*Workspace*\ndefault"},
                    {"type": "mrkdwn", "text": "*Connection*\norders"},
                    {"type": "mrkdwn", "text": "*Run*\n01JRUN"},
                    {"type": "mrkdwn", "text": "*Kind of error*\nconfig"},
                ]},
                {"type": "actions", "elements": [
                    {"type": "button", "text": {"type": "plain_text", "text": "Run"}, "url": "https://thimble.example/runs/01JRUN"},
                ]},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": "2025-11-24T16:00:00.123Z"}]},
            ],
        });
        assert_eq!(body(&samples::failed()), expected);
    }

    #[test]
    fn an_end_says_since_when_and_nothing_is_too_long() {
        let resolved = Notice { links: vec![], ..samples::resolved() };
        let told = body(&resolved);
        assert_eq!(told["blocks"][0]["text"]["text"], ":white_check_mark: Resolved: Run failed — orders");
        assert_eq!(told["blocks"][2]["fields"][3]["text"], "*Since*\n2025-11-24T16:00:00.123Z");
        assert_eq!(told["blocks"].as_array().map(Vec::len), Some(4), "no empty row of buttons");
        let long = Notice { summary: "<".repeat(5_000), connection: Some("c".repeat(3_000)), ..resolved };
        let told = body(&long);
        let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
        assert!(length(&told["blocks"][0]["text"]["text"]) <= HEADER);
        assert!(length(&told["blocks"][1]["text"]["text"]) <= SECTION);
        assert!(length(&told["blocks"][2]["fields"][1]["text"]) <= FIELD);
    }
}
