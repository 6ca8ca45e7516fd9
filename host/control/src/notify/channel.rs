//! The kinds of receivers: their settings, and a notice in the form that each wants.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_record::{ErrorKind, Failure};
use zeroize::Zeroizing;

use super::{
    email::{Letter, message},
    notice::Notice,
    outbound::{Mail, MailServer, MailTls, Post},
    pagerduty,
    signature::SigningKey,
    slack, webhook,
};
use crate::limits::{MAX_HOOK_HEADERS, MAX_RECIPIENTS, MAX_URL_BYTES};

/// User agent of notifications.
const USER_AGENT: &str = "Thimble";

/// Kind of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    Slack,
    Pagerduty,
    Email,
    Webhook,
}

/// A receiver with its secrets. Shows nothing of itself.
pub enum Channel {
    Slack { url: Zeroizing<String> },
    Pagerduty { url: Zeroizing<String>, routing_key: Zeroizing<String> },
    Email(EmailSettings),
    Webhook(WebhookSettings),
}

/// Settings of e-mail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    host: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    tls: MailTls,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    password: Option<Zeroizing<String>>,
    from: String,
    to: Vec<String>,
}

/// Settings of a webhook or a hook.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    url: Zeroizing<String>,
    /// Sent along, for receivers that want to be told who it is.
    #[serde(default)]
    headers: BTreeMap<String, Zeroizing<String>>,
    /// `whsec_…`; without it nothing is signed.
    #[serde(default)]
    secret: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlackSettings {
    url: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PagerdutySettings {
    #[serde(default)]
    url: Option<Zeroizing<String>>,
    routing_key: Zeroizing<String>,
}

/// What is to be sent.
pub enum Outgoing {
    Post(Post),
    Mail(Mail),
}

fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Config, message)
}

fn read<'v, T: Deserialize<'v>>(config: &'v Value) -> Result<T, Failure> {
    // The error names the field; a value of the wrong type may be a secret, so only its type is told.
    T::deserialize(config).map_err(|error| wrong(format!("config: {}", without_values(&error.to_string()))))
}

/// serde puts strings of the wrong type into its sentences; what stands between quotes after a colon goes.
fn without_values(message: &str) -> String {
    match message.split_once("invalid type: string \"") {
        Some((before, after)) => {
            let expected = after.rsplit_once("\", ").map_or("", |(_, expected)| expected);
            format!("{before}invalid type: a string, {expected}")
        }
        None => message.to_owned(),
    }
}

impl ChannelKind {
    /// JSON Schema of the settings, `x-secret` where a secret stands.
    pub fn config_schema(self) -> Value {
        let secret = json!({"type": "string", "x-secret": true});
        let headers = json!({"type": "object", "additionalProperties": {"type": "string", "x-secret": true}});
        let (required, properties) = match self {
            Self::Slack => (json!(["url"]), json!({"url": secret})),
            Self::Pagerduty => (json!(["routing_key"]), json!({"routing_key": secret, "url": {"type": "string"}})),
            Self::Email => (
                json!(["host", "from", "to"]),
                json!({
                    "host": {"type": "string"}, "port": {"type": "integer"},
                    "tls": {"enum": ["starttls", "implicit", "none"]},
                    "user": {"type": "string"}, "password": secret, "from": {"type": "string"},
                    "to": {"type": "array", "items": {"type": "string"}},
                }),
            ),
            Self::Webhook => (json!(["url"]), json!({"url": {"type": "string"}, "headers": headers, "secret": secret})),
        };
        json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
    }
}

impl Channel {
    /// Reads and checks settings with their secrets. Errors name the setting and hold no value of it.
    pub fn parse(kind: ChannelKind, config: &Value) -> Result<Self, Failure> {
        Ok(match kind {
            ChannelKind::Slack => {
                let SlackSettings { url } = read(config)?;
                check_url(&url)?;
                Self::Slack { url }
            }
            ChannelKind::Pagerduty => {
                let PagerdutySettings { url, routing_key } = read(config)?;
                let url = url.unwrap_or_else(|| Zeroizing::new(pagerduty::ENDPOINT.to_owned()));
                check_url(&url)?;
                Self::Pagerduty { url, routing_key }
            }
            ChannelKind::Email => Self::Email(EmailSettings::parse(config)?),
            ChannelKind::Webhook => Self::Webhook(WebhookSettings::parse(config)?),
        })
    }

    /// The notice as this receiver wants it.
    pub fn outgoing(&self, notice: &Notice, now_ms: i64) -> Outgoing {
        let post = |url: &Zeroizing<String>, body: Value| {
            let body = body.to_string().into_bytes();
            Outgoing::Post(Post { url: url.clone(), headers: Vec::new(), user_agent: USER_AGENT, body })
        };
        match self {
            Self::Slack { url } => post(url, slack::body(notice)),
            Self::Pagerduty { url, routing_key } => post(url, pagerduty::body(notice, routing_key)),
            Self::Webhook(settings) => {
                Outgoing::Post(settings.signed(&notice.id, &webhook::body(notice), USER_AGENT, now_ms))
            }
            Self::Email(settings) => Outgoing::Mail(settings.mail(notice, now_ms)),
        }
    }
}

impl EmailSettings {
    fn parse(config: &Value) -> Result<Self, Failure> {
        let settings: Self = read(config)?;
        let Self { host, port: _, tls, user, password, from, to } = &settings;
        if host.is_empty() || host.len() > 253 {
            return Err(wrong("config.host: name the mail server"));
        }
        if to.is_empty() || to.len() > MAX_RECIPIENTS {
            return Err(wrong(format!("config.to: name 1 to {MAX_RECIPIENTS} addresses")));
        }
        if let Some(bad) = to.iter().chain([from]).find(|address| !is_address(address)) {
            return Err(wrong(format!("config: {bad:?} is not an e-mail address such as ops@example.org")));
        }
        if user.is_some() != password.is_some() {
            return Err(wrong("config: give user and password, or neither"));
        }
        if password.is_some() && *tls == MailTls::None {
            return Err(wrong("config.tls: a password is not sent without TLS: choose starttls or implicit"));
        }
        Ok(settings)
    }

    fn mail(&self, notice: &Notice, now_ms: i64) -> Mail {
        let port = self.port.unwrap_or(match self.tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        });
        let login = self.user.clone().zip(self.password.clone());
        Mail {
            server: MailServer { host: self.host.clone(), port, tls: self.tls, login },
            from: self.from.clone(),
            to: self.to.clone(),
            message: message(&Letter::of(notice), &self.from, &self.to, &notice.id, now_ms),
        }
    }
}

impl WebhookSettings {
    /// Reads and checks settings.
    pub fn parse(config: &Value) -> Result<Self, Failure> {
        let settings: Self = read(config)?;
        check_url(&settings.url)?;
        if settings.headers.len() > MAX_HOOK_HEADERS {
            return Err(wrong(format!("headers: {} of them; the limit is {MAX_HOOK_HEADERS}", settings.headers.len())));
        }
        for (name, value) in &settings.headers {
            check_header(name, value)?;
        }
        if let Some(secret) = &settings.secret {
            SigningKey::parse(secret).map_err(|error| wrong(format!("secret: {error}")))?;
        }
        Ok(settings)
    }

    /// A document as a POST, signed where there is a secret.
    pub fn signed(&self, id: &str, document: &Value, user_agent: &'static str, now_ms: i64) -> Post {
        let body = document.to_string().into_bytes();
        let mut headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let signed = match self.secret.as_ref().map(|secret| SigningKey::parse(secret)) {
            Some(Ok(key)) => key.headers(id, now_ms / 1_000, &body).to_vec(),
            // Checked when it was stored; the id alone lets a receiver tell repetitions.
            _ => vec![("webhook-id", id.to_owned())],
        };
        headers.extend(signed.into_iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value))));
        Post { url: self.url.clone(), headers, user_agent, body }
    }
}

fn check_url(url: &str) -> Result<(), Failure> {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plausible = host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if !plausible || url.len() > MAX_URL_BYTES || url.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(wrong(format!(
            "config.url: give a URL such as https://hooks.example.org/path, in at most {MAX_URL_BYTES} bytes"
        )));
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<(), Failure> {
    const OURS: [&str; 7] =
        ["content-type", "content-length", "host", "user-agent", "connection", "transfer-encoding", "te"];
    let lower = name.to_ascii_lowercase();
    let token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !token || lower.starts_with("webhook-") || lower.starts_with("thimble-") || OURS.contains(&lower.as_str()) {
        return Err(wrong(format!("headers: {name:?} is not a header that can be set")));
    }
    if value.bytes().any(|byte| byte.is_ascii_control()) || value.len() > MAX_URL_BYTES {
        return Err(wrong(format!("headers: the value of {name:?} is too long, or has a control character")));
    }
    Ok(())
}

/// One plain address: no name, no comment, nothing that could begin another header.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let fits = |part: &str, extra: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    text.len() <= 254 && fits(local, b".!#$%&'*+-/=?^_`{|}~") && fits(domain, b".-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{notice::samples, signature::verify},
        *,
    };

    fn refused(kind: ChannelKind, config: Value) -> String {
        Channel::parse(kind, &config).err().unwrap().message
    }

    #[test]
    fn settings_are_checked_and_no_value_of_a_secret_is_told() {
        use ChannelKind::{Email, Pagerduty, Slack, Webhook};
        for url in ["", "ftp://x", "https://", "https:///x", "https://a b", "https://a\r\nx"] {
            assert!(refused(Slack, json!({"url": url})).contains("config.url"), "{url}");
        }
        assert!(
            refused(Slack, json!({"url": format!("https://{}", "x".repeat(MAX_URL_BYTES))})).contains("config.url")
        );
        assert!(refused(Slack, json!({})).contains("missing field `url`"));
        assert!(Channel::parse(Pagerduty, &json!({"routing_key": "R"})).is_ok());
        let email = |key: &str, value: Value| {
            let mut config = json!({"host": "mail.example.org", "from": "a@example.org", "to": ["b@example.org"]});
            config[key] = value;
            config
        };
        assert!(Channel::parse(Email, &email("port", json!(2525))).is_ok());
        for bad in ["x", "a@", "@b", "a@b\r\nBcc: c@d", "A <a@b>", "a b@c", "a@b,c@d"] {
            assert!(refused(Email, email("from", json!(bad))).contains("not an e-mail address"), "{bad}");
        }
        assert!(refused(Email, email("to", json!(vec!["a@b"; MAX_RECIPIENTS + 1]))).contains("config.to"));
        assert!(refused(Email, email("user", json!("u"))).contains("user and password"));
        let told = refused(Email, email("to", json!("planted-secret")));
        assert!(told.contains("invalid type: a string") && !told.contains("planted"), "{told}");
        for name in ["Host", "webhook-id", "content-type", "a b", ""] {
            assert!(
                refused(Webhook, json!({"url": "https://a", "headers": {name: "x"}})).contains("headers"),
                "{name}"
            );
        }
        assert!(refused(Webhook, json!({"url": "https://a", "headers": {"a": "x\r\ny: z"}})).contains("control"));
        let many: BTreeMap<_, _> = (0..=MAX_HOOK_HEADERS).map(|n| (format!("h{n}"), "x")).collect();
        assert!(refused(Webhook, json!({"url": "https://a", "headers": many})).contains("the limit is"));
        let told = refused(Webhook, json!({"url": "https://a", "secret": "planted-secret"}));
        assert!(told.contains("whsec_") && !told.contains("planted"), "{told}");
    }

    #[test]
    fn a_webhook_is_signed_over_what_is_sent() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let config = json!({"url": "https://a/b", "secret": secret, "headers": {"authorization": "Bearer x"}});
        let channel = Channel::parse(ChannelKind::Webhook, &config).unwrap();
        let Outgoing::Post(post) = channel.outgoing(&samples::failed(), 1_764_000_000_999) else { panic!("a post") };
        let header = |name: &str| post.headers.iter().find(|(known, _)| known == name).unwrap().1.to_string();
        assert_eq!((header("authorization"), header("webhook-timestamp")), ("Bearer x".into(), "1764000000".into()));
        let key = SigningKey::parse(secret).unwrap();
        let (id, signature) = (header("webhook-id"), header("webhook-signature"));
        assert_eq!(id, samples::failed().id);
        verify(&key, &id, "1764000000", &signature, &post.body, 1_764_000_000).unwrap();
    }

    #[test]
    fn every_setting_of_a_kind_stands_in_its_schema() {
        let schema = ChannelKind::Email.config_schema();
        let config = json!({"host": "h", "port": 1, "tls": "implicit", "user": "u", "password": "p", "from": "a@b", "to": ["a@b"]});
        for name in config.as_object().unwrap().keys() {
            assert!(schema["properties"][name].is_object(), "{name}");
        }
        assert_eq!(schema["properties"]["password"]["x-secret"], true);
        let Channel::Email(settings) = Channel::parse(ChannelKind::Email, &config).unwrap() else { panic!("e-mail") };
        let mail = settings.mail(&samples::failed(), 0);
        assert_eq!((mail.server.port, mail.server.login.unwrap().0.as_str()), (1, "u"));
    }
}
