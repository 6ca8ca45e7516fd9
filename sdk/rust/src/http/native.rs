//! One exchange over a plain socket, for native tests of connectors against a local server: clear text
//! HTTP/1.1, a new connection each time. Inside a component the host does this instead.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::{Answer, Exchange};
use crate::{Error, Result};

/// The most bytes of an answer's status line and headers.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

pub(super) fn exchange(exchange: &Exchange) -> Result<Answer> {
    let url = &exchange.url;
    let at = super::response::shown(url);
    let broken = |error: std::io::Error| Error::transient(format!("{at}: {error}"));
    let (Some(host), Some(port), "http") = (url.host_str(), url.port_or_known_default(), url.scheme()) else {
        return Err(Error::refused(format!("{at}: natively only http:// works, for tests against a local server")));
    };
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).map_err(broken)?;
    stream.set_read_timeout(Some(exchange.timeout)).map_err(broken)?;
    stream.set_write_timeout(Some(exchange.timeout)).map_err(broken)?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut head =
        format!("{} {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n", exchange.verb.as_str());
    for (name, value) in &exchange.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", exchange.body.len()));
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&exchange.body)).map_err(broken)?;
    answer(BufReader::new(stream), exchange.verb == super::Verb::Head)
        .map_err(broken)?
        .ok_or_else(|| Error::transient(format!("{at}: the answer is not HTTP")))
}

/// Natively a request is answered when it was sent.
pub(super) struct Sent(Option<Result<Answer>>);

impl Sent {
    pub(super) fn send(request: &Exchange) -> Result<Self> {
        Ok(Self(Some(exchange(request))))
    }

    pub(super) fn answer(&mut self) -> Option<Result<Answer>> {
        let taken = || Err(Error::system("the answer was taken already"));
        Some(self.0.take().unwrap_or_else(taken))
    }
}

/// Every request is answered: only the time may be waited for, where there is nothing else.
pub(super) fn wait(sent: &[&Sent], at_most: Option<std::time::Duration>) {
    if let (true, Some(time)) = (sent.is_empty(), at_most) {
        std::thread::sleep(time);
    }
}

fn answer(mut stream: BufReader<TcpStream>, no_body: bool) -> std::io::Result<Option<Answer>> {
    let mut head = String::new();
    let mut limited = stream.by_ref().take(MAX_HEAD_BYTES);
    while !head.ends_with("\r\n\r\n") {
        if limited.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { return Ok(None) };
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body: Box<dyn Read> = if no_body {
        Box::new(std::io::empty())
    } else if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        Box::new(Chunked { stream, left: 0, ended: false })
    } else if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
        Box::new(Sized { stream, left: length })
    } else {
        Box::new(stream)
    };
    Ok(Some(Answer { status, headers, body }))
}

fn broke_off() -> std::io::Error {
    Error::transient("the answer broke off").into()
}

struct Sized {
    stream: BufReader<TcpStream>,
    left: u64,
}

impl Read for Sized {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut into[..most])?;
        if count == 0 && most > 0 {
            return Err(broke_off());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct Chunked {
    stream: BufReader<TcpStream>,
    left: u64,
    ended: bool,
}

impl Chunked {
    fn next_chunk(&mut self) -> std::io::Result<()> {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            if self.stream.by_ref().take(1024).read_line(&mut line)? == 0 {
                return Err(broke_off());
            }
        }
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(|_| broke_off())?;
        self.ended = self.left == 0;
        Ok(())
    }
}

impl Read for Chunked {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 && !self.ended {
            self.next_chunk()?;
        }
        if self.ended || into.is_empty() {
            return Ok(0);
        }
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut into[..most])?;
        if count == 0 {
            return Err(broke_off());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
