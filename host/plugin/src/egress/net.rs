//! Raw byte streams to granted hosts, for protocols other than HTTP.
//!
//! Must never hand out a socket, and never put a secret in: what a guest writes here is sent as it is.

use std::{fmt, future::Future, io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::client::TlsStream;

use super::{error::EgressError, limits::EgressLimits, pattern::Target, tls::TlsClient};

/// What one read takes at most; a caller that wants more reads again.
const READ_BYTES: usize = 256 * 1024;

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// After a failed TLS handshake.
    Closed,
}

/// An open connection. Dropping it closes it.
pub struct NetStream {
    target: Target,
    stream: Stream,
    tls: TlsClient,
    limits: Arc<EgressLimits>,
    read: u64,
    written: u64,
    _permit: OwnedSemaphorePermit,
}

impl NetStream {
    pub(super) fn new(
        target: Target,
        tcp: TcpStream,
        tls: TlsClient,
        limits: Arc<EgressLimits>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { target, stream: Stream::Plain(tcp), tls, limits, read: 0, written: 0, _permit: permit }
    }

    /// Waits for at least one byte and gives at most `max` of them; empty at the end of the stream or for `max` 0.
    pub async fn read(&mut self, max: usize) -> Result<Bytes, EgressError> {
        if max == 0 {
            return Ok(Bytes::new());
        }
        let left = self.limits.net_read_bytes.saturating_sub(self.read);
        if left == 0 {
            return Err(self.over("bytes read", "net_read_bytes", self.limits.net_read_bytes));
        }
        let max = usize::try_from(left).map_or(max, |left| max.min(left));
        let max = max.min(READ_BYTES);
        let mut buffer = BytesMut::with_capacity(max);
        let reading = async {
            let mut limited = (&mut buffer).limit(max);
            match &mut self.stream {
                Stream::Plain(tcp) => tcp.read_buf(&mut limited).await,
                Stream::Tls(tls) => tls.read_buf(&mut limited).await,
                Stream::Closed => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        let count = in_time(&self.limits, &self.target, "reading", reading).await?;
        self.read = self.read.saturating_add(count as u64);
        Ok(buffer.freeze())
    }

    /// Writes all of `bytes`.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), EgressError> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limits.net_write_bytes {
            return Err(self.over("bytes written", "net_write_bytes", self.limits.net_write_bytes));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let writing = async {
                match &mut self.stream {
                    Stream::Plain(tcp) => tcp.write(rest).await,
                    Stream::Tls(tls) => tls.write(rest).await,
                    Stream::Closed => Err(io::ErrorKind::NotConnected.into()),
                }
            };
            match in_time(&self.limits, &self.target, "writing", writing).await? {
                0 => return Err(broke(&self.target, io::ErrorKind::WriteZero.into())),
                count => rest = &rest[count..],
            }
        }
        let flushing = async {
            match &mut self.stream {
                Stream::Plain(_) => Ok(()),
                Stream::Tls(tls) => tls.flush().await,
                Stream::Closed => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        in_time(&self.limits, &self.target, "writing", flushing).await
    }

    /// Turns the connection into TLS, verified for the name that was connected to. A failure closes it.
    pub async fn start_tls(&mut self) -> Result<(), EgressError> {
        match std::mem::replace(&mut self.stream, Stream::Closed) {
            Stream::Plain(tcp) => {
                let tls = self.tls.start_raw(&self.target, tcp).await?;
                self.stream = Stream::Tls(Box::new(tls));
                Ok(())
            }
            tls @ Stream::Tls(_) => {
                self.stream = tls;
                Err(EgressError::BadRequest {
                    host: self.target.to_string(),
                    reason: "the connection speaks TLS already".into(),
                })
            }
            Stream::Closed => Err(broke(&self.target, io::ErrorKind::NotConnected.into())),
        }
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn over(&self, what: &'static str, limit: &'static str, allowed: u64) -> EgressError {
        EgressError::Limit { host: self.target.to_string(), what, limit, allowed }
    }
}

impl fmt::Debug for NetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetStream").field("target", &self.target).finish_non_exhaustive()
    }
}

async fn in_time<T>(
    limits: &EgressLimits,
    target: &Target,
    what: &'static str,
    doing: impl Future<Output = io::Result<T>>,
) -> Result<T, EgressError> {
    match tokio::time::timeout(limits.net_idle_timeout(), doing).await {
        Ok(done) => done.map_err(|error| broke(target, error)),
        Err(_) => Err(EgressError::Timeout {
            host: target.to_string(),
            what,
            limit: "net_idle_timeout_ms",
            milliseconds: limits.net_idle_timeout_ms,
        }),
    }
}

fn broke(target: &Target, error: io::Error) -> EgressError {
    EgressError::Broken { host: target.to_string(), reason: error.to_string(), source: Some(Arc::new(error)) }
}
