//! One exchange over `wasi:http`. Maps errors to kinds; no policy.

use std::io::Read;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, StreamError};

use super::{Answer, Exchange, Verb};
use crate::{Error, Result};

/// The most bytes that `blocking-write-and-flush` takes at once (WASI 0.2).
const WRITE_BYTES: usize = 4096;
/// How many bytes to ask for at once.
const READ_BYTES: usize = 256 * 1024;

pub(super) fn exchange(exchange: &Exchange) -> Result<Answer> {
    let mut sent = Sent::send(exchange)?;
    loop {
        match sent.answer() {
            Some(answer) => return answer,
            None => sent.future.subscribe().block(),
        }
    }
}

/// A request that was sent and is not answered yet.
pub(super) struct Sent {
    future: FutureIncomingResponse,
    at: String,
}

impl Sent {
    pub(super) fn send(exchange: &Exchange) -> Result<Self> {
        let at = super::response::shown(&exchange.url);
        let (request, body) =
            outgoing(exchange).map_err(|()| Error::system(format!("{at}: the request cannot be made")))?;
        let nanos = u64::try_from(exchange.timeout.as_nanos()).unwrap_or(u64::MAX);
        let options = RequestOptions::new();
        // A host may not support one of them; its own limits hold in any case.
        let _ = options.set_connect_timeout(Some(nanos));
        let _ = options.set_first_byte_timeout(Some(nanos));
        let _ = options.set_between_bytes_timeout(Some(nanos));
        let future = handle(request, Some(options)).map_err(|code| error_of(&at, &code))?;
        send_body(body, &exchange.body).map_err(|error| error.context(&at))?;
        Ok(Self { future, at })
    }

    /// The answer's status and headers, once they are there.
    pub(super) fn answer(&mut self) -> Option<Result<Answer>> {
        let at = &self.at;
        let response = match self.future.get()? {
            Ok(result) => result.map_err(|code| error_of(at, &code)),
            Err(()) => Err(Error::system(format!("{at}: the answer was taken already"))),
        };
        Some(response.and_then(|response| answer_of(response, at.clone())))
    }
}

/// Waits until one of the requests may be answered, or the time is over.
pub(super) fn wait(sent: &[&Sent], at_most: Option<std::time::Duration>) {
    let timer = at_most.map(|time| {
        wasip2::clocks::monotonic_clock::subscribe_duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    });
    let pollables: Vec<_> = sent.iter().map(|sent| sent.future.subscribe()).chain(timer).collect();
    if !pollables.is_empty() {
        wasip2::io::poll::poll(&pollables.iter().collect::<Vec<_>>());
    }
}

fn answer_of(response: IncomingResponse, at: String) -> Result<Answer> {
    let status = response.status();
    let headers = response.headers().entries();
    let headers =
        headers.into_iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase(), text(value)?))).collect();
    let body = response.consume().map_err(|()| Error::system(format!("{at}: the answer has no body")))?;
    let stream = body.stream().map_err(|()| Error::system(format!("{at}: the answer's body cannot be read")))?;
    let body = Box::new(Stream { stream, _body: body, _response: response, at, buffer: Vec::new(), taken: 0 });
    Ok(Answer { status, headers, body })
}

fn text(value: Vec<u8>) -> Option<String> {
    String::from_utf8(value).ok()
}

fn outgoing(exchange: &Exchange) -> Result<(OutgoingRequest, OutgoingBody), ()> {
    let headers = Fields::new();
    for (name, value) in &exchange.headers {
        headers.append(name, value.as_bytes()).map_err(drop)?;
    }
    if !exchange.body.is_empty() {
        headers.append("content-length", exchange.body.len().to_string().as_bytes()).map_err(drop)?;
    }
    let request = OutgoingRequest::new(headers);
    request.set_method(&match exchange.verb {
        Verb::Get => Method::Get,
        Verb::Head => Method::Head,
        Verb::Post => Method::Post,
        Verb::Put => Method::Put,
        Verb::Patch => Method::Patch,
        Verb::Delete => Method::Delete,
    })?;
    let url = &exchange.url;
    request.set_scheme(Some(if url.scheme() == "https" { &Scheme::Https } else { &Scheme::Http }))?;
    request.set_authority(Some(&url[url::Position::BeforeHost..url::Position::AfterPort]))?;
    request.set_path_with_query(Some(&url[url::Position::BeforePath..url::Position::AfterQuery]))?;
    let body = request.body()?;
    Ok((request, body))
}

fn send_body(body: OutgoingBody, bytes: &[u8]) -> Result<()> {
    if !bytes.is_empty() {
        let stream = body.write().map_err(|()| Error::system("the request's body cannot be written"))?;
        for piece in bytes.chunks(WRITE_BYTES) {
            // A server may answer before it has read everything: then the answer says more than this would.
            if stream.blocking_write_and_flush(piece).is_err() {
                drop(stream);
                return Ok(());
            }
        }
    }
    // The stream is a child of the body and has to be gone by now.
    OutgoingBody::finish(body, None).map_err(|code| error_of("", &code))
}

/// The body's stream. Resources are dropped in the order of the fields, children first.
struct Stream {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
    at: String,
    buffer: Vec<u8>,
    taken: usize,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while self.taken == self.buffer.len() {
            match self.stream.blocking_read(READ_BYTES as u64) {
                Ok(bytes) => (self.buffer, self.taken) = (bytes, 0),
                Err(StreamError::Closed) => return Ok(0),
                Err(StreamError::LastOperationFailed(error)) => {
                    let error = match http_error_code(&error) {
                        Some(code) => error_of(&self.at, &code),
                        None => Error::transient(format!("{}: the answer broke off", self.at)),
                    };
                    return Err(error.into());
                }
            }
        }
        let left = &self.buffer[self.taken..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

fn error_of(at: &str, code: &ErrorCode) -> Error {
    use ErrorCode as C;
    let with = |error: Error| if at.is_empty() { error } else { error.context(at) };
    with(match code {
        C::HttpRequestDenied => {
            Error::refused("the request was denied by the host's policy: grant the host to the connector")
        }
        C::DestinationIpProhibited => Error::refused("the host's address is not allowed by policy"),
        C::DestinationNotFound => Error::config("the host does not exist: check the URL"),
        C::DnsError(payload) if payload.info_code == Some(3) || says_unknown(payload.rcode.as_deref()) => {
            Error::config("the host does not exist: check the URL")
        }
        C::HttpRequestUriInvalid | C::HttpRequestUriTooLong => Error::config("the URL is not valid: check it"),
        C::TlsCertificateError => Error::config("the host's TLS certificate is not valid"),
        C::HttpResponseBodySize(_) | C::HttpResponseHeaderSectionSize(_) | C::HttpResponseHeaderSize(_) => {
            Error::refused("the answer is larger than the host allows")
        }
        C::HttpRequestBodySize(_) | C::HttpRequestHeaderSectionSize(_) | C::HttpRequestHeaderSize(_) => {
            Error::refused("the request is larger than the host allows")
        }
        C::ConnectionLimitReached => Error::transient("too many connections are open"),
        C::DnsTimeout | C::DnsError(_) => Error::transient("the host's name could not be resolved"),
        C::ConnectionRefused => Error::transient("the connection was refused"),
        C::ConnectionTimeout => Error::transient("connecting took too long"),
        C::HttpResponseTimeout | C::ConnectionReadTimeout => Error::transient("the answer took too long"),
        C::ConnectionTerminated | C::HttpResponseIncomplete => Error::transient("the connection broke off"),
        C::DestinationUnavailable | C::DestinationIpUnroutable => Error::transient("the host cannot be reached"),
        C::TlsProtocolError | C::TlsAlertReceived(_) => Error::transient("the TLS connection failed"),
        C::HttpProtocolError => Error::transient("the answer is not HTTP"),
        C::InternalError(Some(text)) => said_by_host(text),
        other => Error::transient(format!("the request failed ({other:?})")),
    })
}

/// The host puts what WASI has no code for into a sentence of the form `kind: what happened`.
fn said_by_host(text: &str) -> Error {
    match text.split_once(": ") {
        Some(("refused", what)) => Error::refused(what),
        Some(("config", what)) => Error::config(what),
        Some(("system", what)) => Error::system(what),
        Some(("transient", what)) => Error::transient(what),
        _ => Error::transient(text),
    }
}

fn says_unknown(rcode: Option<&str>) -> bool {
    rcode.is_some_and(|rcode| rcode.eq_ignore_ascii_case("NXDOMAIN") || rcode.contains("not known"))
}
