//! Every limit of network traffic, by name, with its default.
//!
//! Must never hold a limit that nothing enforces: each is crossed by a test.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Limits of the traffic of one instance, and of what instances share. Absent fields take their defaults; unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressLimits {
    /// Milliseconds to resolve a name and open a TCP connection. Default 10,000.
    pub connect_timeout_ms: u64,
    /// Milliseconds of a TLS handshake. Default 10,000.
    pub tls_timeout_ms: u64,
    /// Milliseconds without progress, from the last byte sent until the headers of the answer. Default 60,000.
    pub header_timeout_ms: u64,
    /// Milliseconds without a byte while the body of an answer is read. Default 60,000.
    pub idle_timeout_ms: u64,
    /// Milliseconds without a byte while a raw connection is read or written. Default 300,000.
    pub net_idle_timeout_ms: u64,
    /// Milliseconds that an idle connection is kept for the next request. Default 30,000.
    pub keep_alive_ms: u64,
    /// Body of one request. Default 64 MiB.
    pub request_bytes: u64,
    /// Body of one answer as it arrives, not decompressed; it streams. Default 64 GiB.
    pub response_bytes: u64,
    /// Headers of one request or one answer, with the URL. Default 64 KiB.
    pub header_bytes: usize,
    /// Headers of one answer, by number. Default 256.
    pub headers: usize,
    /// Requests whose answers were not read to their end. Default 32.
    pub requests: usize,
    /// Open HTTP connections, idle ones too; at least as many as `requests` are used. Default 64.
    pub connections: usize,
    /// Names being resolved at once. Default 8.
    pub lookups: usize,
    /// Open raw connections. Default 16.
    pub net_connections: usize,
    /// Bytes read from one raw connection. Default 64 GiB.
    pub net_read_bytes: u64,
    /// Bytes written to one raw connection. Default 1 GiB.
    pub net_write_bytes: u64,
    /// Request bodies up to this size are held to put secrets in and to sign; longer ones stream as they are.
    /// Default 1 MiB.
    pub held_body_bytes: usize,
    /// Milliseconds that a request for an access token may take, with its answer. Default 30,000.
    pub token_timeout_ms: u64,
    /// Answer to a request for an access token. Default 256 KiB.
    pub token_answer_bytes: usize,
    /// One access token. Default 16 KiB.
    pub token_bytes: usize,
    /// Access tokens and JSON Web Tokens kept by the process, of each kind. Default 10,000.
    pub kept_tokens: usize,
    /// Pacing policies of one request. Default 16.
    pub pace_policies: usize,
    /// Milliseconds that a request waits for its turn at most, whatever the source asked for. Default 3,600,000.
    pub pace_wait_ms: u64,
    /// Hosts and pacing policies whose turns the process remembers, of each kind. Default 10,000.
    pub paces: usize,
    /// Body of a request that is answered from the cache of its run. Default 64 KiB.
    pub cached_request_bytes: usize,
    /// One answer in the cache of a run. Default 8 MiB.
    pub cached_answer_bytes: usize,
    /// All answers in the cache of a run. Default 64 MiB.
    pub cached_bytes: usize,
    /// Answers in the cache of a run, by number. Default 10,000.
    pub cached_answers: usize,
    /// Body of a request or an answer in a recording; a request over it is refused while somebody records. Default
    /// 16 MiB.
    pub recorded_body_bytes: usize,
    /// A recording. Default 1 GiB.
    pub recording_bytes: u64,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 10_000,
            tls_timeout_ms: 10_000,
            header_timeout_ms: 60_000,
            idle_timeout_ms: 60_000,
            net_idle_timeout_ms: 300_000,
            keep_alive_ms: 30_000,
            request_bytes: 64 * MIB,
            response_bytes: 64 * GIB,
            header_bytes: 64 * 1024,
            headers: 256,
            requests: 32,
            connections: 64,
            lookups: 8,
            net_connections: 16,
            net_read_bytes: 64 * GIB,
            net_write_bytes: GIB,
            held_body_bytes: 1024 * 1024,
            token_timeout_ms: 30_000,
            token_answer_bytes: 256 * 1024,
            token_bytes: 16 * 1024,
            kept_tokens: 10_000,
            pace_policies: 16,
            pace_wait_ms: 3_600_000,
            paces: 10_000,
            cached_request_bytes: 64 * 1024,
            cached_answer_bytes: 8 * 1024 * 1024,
            cached_bytes: 64 * 1024 * 1024,
            cached_answers: 10_000,
            recorded_body_bytes: 16 * 1024 * 1024,
            recording_bytes: GIB,
        }
    }
}

impl EgressLimits {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn tls_timeout(&self) -> Duration {
        Duration::from_millis(self.tls_timeout_ms)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn token_timeout(&self) -> Duration {
        Duration::from_millis(self.token_timeout_ms)
    }

    pub(crate) fn net_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.net_idle_timeout_ms)
    }
}
