//! What the HTTP client opens its connections with: our dialer, then TLS where the URL says so.
//!
//! Must never open a connection by itself: that is the dialer's.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::{dial::Dialer, error::EgressError, prepare, tls::TlsClient};

/// Opens connections for the pool of one instance.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) tls: TlsClient,
    pub(super) open: Arc<Semaphore>,
}

impl Connector {
    async fn open(self, uri: Uri) -> Result<HttpStream, EgressError> {
        let (target, _) = prepare::target(&uri)?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let limits = &self.dialer.limits;
        let permit = match tokio::time::timeout(limits.connect_timeout(), self.open.acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(EgressError::Limit {
                    host: target.to_string(),
                    what: "number of connections to it and others",
                    limit: "connections",
                    allowed: limits.connections.max(limits.requests) as u64,
                });
            }
        };
        let detour = self.dialer.detour(&target, secure);
        let (end, secure) = detour.map_or((&target, secure), |(to, secure)| (to, *secure));
        let tcp = match detour {
            Some(_) => self.dialer.dial_detour(&target, end).await?,
            None => self.dialer.dial(end).await?,
        };
        let stream = match secure {
            true => Stream::Tls(Box::new(TokioIo::new(self.tls.start_http(end, tcp).await?))),
            false => Stream::Plain(TokioIo::new(tcp)),
        };
        Ok(HttpStream { stream, _permit: permit })
    }
}

impl Service<Uri> for Connector {
    type Response = HttpStream;
    type Error = EgressError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpStream, EgressError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().open(uri))
    }
}

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

/// An open connection; it counts as one until it is dropped.
pub(super) struct HttpStream {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

impl Connection for HttpStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for HttpStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for HttpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }
}
