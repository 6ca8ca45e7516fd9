//! The part of WASI 0.2 that plugins get, and where its ends lead: standard output to the log, HTTP to egress.
//!
//! Must never link sockets, and never give a file, an argument or a variable of the host.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::{
    WasiView,
    cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2::{OutputStream, Pollable, StreamResult, bindings},
    random::WasiRandom,
};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use crate::{
    egress::Egress,
    guest::{Denial, Guest},
    log::{LimitedLog, LogLevel, LogSink},
};

/// What one write to standard output may hold.
const WRITE_BYTES: usize = 64 * 1024;

/// Adds what [`crate::inspect`] lists, and nothing else.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use bindings::{cli, filesystem, random};
    // wasi:io, clocks, random/random, standard streams.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    random::insecure::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::environment::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    filesystem::preopens::add_to_linker::<Guest, WasiFilesystem>(linker, Guest::filesystem)?;
    filesystem::types::add_to_linker::<Guest, WasiFilesystem>(linker, Guest::filesystem)
}

/// Standard output or error of a guest, cut into log lines.
#[derive(Clone)]
pub(crate) struct LineStream {
    lines: Arc<Mutex<Lines>>,
}

struct Lines {
    level: LogLevel,
    log: Arc<LimitedLog>,
    /// Bytes of a line that has not ended, at most `max`.
    rest: Vec<u8>,
    max: usize,
}

impl LineStream {
    /// Lines longer than `max` bytes are cut by the log; what is over is not kept.
    pub(crate) fn new(level: LogLevel, log: Arc<LimitedLog>, max: usize) -> Self {
        // Four more than the log keeps, so that it sees that there was more.
        Self { lines: Arc::new(Mutex::new(Lines { level, log, rest: Vec::new(), max: max.saturating_add(4) })) }
    }

    fn push(&self, bytes: &[u8]) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = self.max.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.rest);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\r');
        if !text.is_empty() {
            self.log.line(self.level, text);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Leads every request of `wasi:http` to the egress of the instance.
pub(crate) struct HttpHooks {
    egress: Egress,
    denial: Denial,
}

impl HttpHooks {
    pub(crate) fn new(egress: Egress, denial: Denial) -> Self {
        Self { egress, denial }
    }
}

/// What a request ends with: the answer, and a future for what happens after it (nothing here).
type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>), HttpError>;

impl WasiHttpHooks for HttpHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _read_to_end: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (egress, denial) = (self.egress.clone(), self.denial.clone());
        Box::new(async move {
            // The guest may ask for less patience than the host has, never for more.
            let patience = options.and_then(|options| options.first_byte_timeout);
            let sent = egress.send_within(request, patience).await;
            denial.note(sent.as_ref().err());
            let answer = sent.map_err(HttpError::from)?.map(|body| body.map_err(HttpError::from).boxed_unsync());
            let after: Box<dyn Future<Output = Result<(), HttpError>> + Send> = Box::new(async { Ok(()) });
            Ok((answer, after))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;
    use crate::{log::LogLimits, secrets::Secrets};

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, level: LogLevel, message: &str) {
            self.0.lock().unwrap().push(format!("{level}: {message}"));
        }
    }

    #[test]
    fn output_becomes_lines() {
        let kept = Arc::new(Kept::default());
        let log = LimitedLog::new(kept.clone(), Secrets::default(), LogLimits::default(), Instant::now);
        let stream = LineStream::new(LogLevel::Info, Arc::new(log), 8);
        for piece in ["on", "e\r\ntwo\n\nth", "ree is far too long\nlast"] {
            stream.push(piece.as_bytes());
        }
        drop(stream);
        let lines = kept.0.lock().unwrap().clone();
        assert_eq!(lines, ["info: one", "info: two", "info: three is far", "info: last"]);
    }
}
