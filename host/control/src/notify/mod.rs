//! What the platform tells people and other programs, in the words of each receiver.
//!
//! Owns the payloads (Slack, PagerDuty, e-mail, webhooks, post-load hooks), their signature, and when a delivery is
//! tried again. Pure: sending is [`Outbound`]'s. Must never hold a secret in what it shows, and never put a secret
//! into a payload other than the receiver's own.

mod backoff;
mod channel;
mod compose;
mod deliver;
mod email;
mod hooks;
mod loads;
mod notice;
mod outbound;
mod pagerduty;
mod secrets;
mod signature;
mod slack;
mod webhook;

pub use backoff::wait_before;
pub use channel::{Channel, ChannelKind, EmailSettings, Outgoing, WebhookSettings};
pub(crate) use compose::word;
pub(crate) use deliver::try_out;
pub use deliver::{NotifySettings, notify};
pub use email::{Letter, message};
pub use hooks::{Bookmark, HOOK_USER_AGENT, LoadedTable, RunLoads, payloads};
pub use notice::{Action, Link, Notice, Severity};
pub use outbound::{Mail, MailServer, MailTls, Outbound, OutboundError, Post};
pub(crate) use secrets::{hooks as hook_secrets, hooks_schema, notifier as notifier_secrets};
pub use signature::{SignatureError, SigningKey, TOLERANCE, verify};
