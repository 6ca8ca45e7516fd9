//! The way out: what sends a message, as the control plane sees it.

use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

/// An HTTP POST. URL, headers and body may hold secrets: it shows nothing of itself.
pub struct Post {
    pub url: Zeroizing<String>,
    /// Besides `content-type: application/json` and the user agent.
    pub headers: Vec<(String, Zeroizing<String>)>,
    pub user_agent: &'static str,
    pub body: Vec<u8>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// Plain at first, then STARTTLS, which the server must offer.
    #[default]
    Starttls,
    /// TLS from the first byte, usually on port 465.
    Implicit,
    /// None. A password is never sent this way.
    None,
}

/// A mail server.
pub struct MailServer {
    pub host: String,
    pub port: u16,
    pub tls: MailTls,
    /// User and password.
    pub login: Option<(String, Zeroizing<String>)>,
}

/// An e-mail, ready to be handed over.
pub struct Mail {
    pub server: MailServer,
    pub from: String,
    pub to: Vec<String>,
    /// As of RFC 5322, with CRLF line ends.
    pub message: String,
}

/// Why something was not sent. Free of secrets: no URL, no header, no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Policy or the notifier's settings: trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// The receiver or the way to it: may pass.
    #[error("{0}")]
    Failed(String),
}

/// Sends messages. Private networks are closed unless the operator opened them, and redirects are never followed.
#[async_trait]
pub trait Outbound: Send + Sync + 'static {
    /// Answers the status of the answer.
    async fn post(&self, post: Post, deadline: Duration) -> Result<u16, OutboundError>;

    /// Hands an e-mail to its server.
    async fn mail(&self, mail: Mail, deadline: Duration) -> Result<(), OutboundError>;
}
