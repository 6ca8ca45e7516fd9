//! A file server: ranges, entity tags, modification times, JSON listings, and faults on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;

/// How a path misbehaves.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status so many times, then behaves.
    Status { status: u16, times: u32, retry_after: Option<u32> },
    /// Breaks the connection after so many bytes of the body, so many times.
    CutAfter { bytes: usize, times: u32 },
    /// Sends the body in pieces of 16 KiB with a pause of so many milliseconds before each.
    Slow { pause_ms: u64 },
}

struct Shared {
    root: PathBuf,
    faults: Mutex<HashMap<String, Fault>>,
    requests: Mutex<Vec<String>>,
}

/// A running server; it ends with its runtime.
#[derive(Clone)]
pub struct FileServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

impl FileServer {
    /// Serves a folder on 127.0.0.1; port 0 takes a free one.
    pub async fn start(root: impl Into<PathBuf>, port: u16) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { root: root.into(), faults: Mutex::default(), requests: Mutex::default() });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, shared })
    }

    /// The URL of a path below the root.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Makes a path (with its leading slash) misbehave from now on.
    pub fn fault(&self, path: &str, fault: Fault) {
        locked(&self.shared.faults).insert(path.to_owned(), fault);
    }

    /// Makes every path behave again.
    pub fn heal(&self) {
        locked(&self.shared.faults).clear();
    }

    /// Every request so far, as `GET /path`.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    locked(&shared.requests).push(format!("{method} {}", uri.path()));
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let fault = take_fault(&shared, uri.path());
    if let Some(Fault::Status { status, retry_after, .. }) = fault {
        let mut response = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return response;
    }
    let relative = uri.path().trim_start_matches('/');
    if relative.split('/').any(|part| part == "..") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let path = shared.root.join(relative);
    let result = if path.is_dir() { listing(&path) } else { file(&path, &method, &headers, fault) };
    result.unwrap_or_else(|_| (StatusCode::NOT_FOUND, "not found\n").into_response())
}

fn take_fault(shared: &Shared, path: &str) -> Option<Fault> {
    let mut faults = locked(&shared.faults);
    match faults.get_mut(path)? {
        Fault::Status { times, .. } | Fault::CutAfter { times, .. } if *times == 0 => None,
        fault @ (Fault::Status { .. } | Fault::CutAfter { .. }) => {
            let taken = fault.clone();
            if let Fault::Status { times, .. } | Fault::CutAfter { times, .. } = fault {
                *times -= 1;
            }
            Some(taken)
        }
        fault @ Fault::Slow { .. } => Some(fault.clone()),
    }
}

/// The shape of nginx's `autoindex_format json`.
fn listing(folder: &Path) -> std::io::Result<Response<Body>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let kind = if metadata.is_dir() { "directory" } else { "file" };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(json!({"name": name, "type": kind, "mtime": httpdate::fmt_http_date(metadata.modified()?), "size": metadata.len()}));
    }
    entries.sort_by_key(|entry| entry["name"].to_string());
    Ok(axum::Json(entries).into_response())
}

fn file(path: &Path, method: &Method, headers: &HeaderMap, fault: Option<Fault>) -> std::io::Result<Response<Body>> {
    let metadata = std::fs::metadata(path)?;
    let modified = metadata.modified()?;
    let nanos = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let tag = format!("\"{nanos:x}-{:x}\"", metadata.len());
    if headers.get(header::IF_MATCH).is_some_and(|wanted| wanted.as_bytes() != tag.as_bytes()) {
        return Ok(StatusCode::PRECONDITION_FAILED.into_response());
    }
    let fresh = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes());
    let asked = headers.get(header::RANGE).filter(|_| fresh).and_then(|range| parse_range(range, metadata.len()));
    let (status, start, end) = match asked {
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            return Ok((
                StatusCode::RANGE_NOT_SATISFIABLE,
                [(header::CONTENT_RANGE, format!("bytes */{}", metadata.len()))],
            )
                .into_response());
        }
        None => (StatusCode::OK, 0, metadata.len()),
    };
    let builder = Response::builder()
        .status(status)
        .header(header::ETAG, tag)
        .header(header::LAST_MODIFIED, httpdate::fmt_http_date(modified))
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, end - start);
    let builder = if status == StatusCode::PARTIAL_CONTENT {
        builder.header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end.saturating_sub(1), metadata.len()))
    } else {
        builder
    };
    let body = if method == Method::HEAD { Body::empty() } else { content(path, start, end, fault)? };
    builder.body(body).map_err(std::io::Error::other)
}

/// Outer `None`: no usable range header. Inner `None`: it lies outside of the file.
fn parse_range(range: &HeaderValue, size: u64) -> Option<Option<(u64, u64)>> {
    let (from, to) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        let last: u64 = to.parse().ok()?;
        return Some(Some((size.saturating_sub(last), size)));
    }
    let start: u64 = from.parse().ok()?;
    let end = if to.is_empty() { size } else { to.parse::<u64>().ok()?.saturating_add(1).min(size) };
    Some((start < size && start < end).then_some((start, end)))
}

fn content(path: &Path, start: u64, end: u64, fault: Option<Fault>) -> std::io::Result<Body> {
    use std::io::{Read, Seek, SeekFrom};
    const PIECE: usize = 256 * 1024;
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let (piece, pause, cut) = match fault {
        Some(Fault::Slow { pause_ms }) => (16 * 1024, pause_ms, usize::MAX),
        Some(Fault::CutAfter { bytes, .. }) => (PIECE.min(bytes.max(1)), 0, bytes),
        _ => (PIECE, 0, usize::MAX),
    };
    let left = end - start;
    let pieces = stream::unfold((file, left, 0_usize), move |(mut file, left, sent)| async move {
        if left == 0 {
            return None;
        }
        if sent >= cut {
            return Some((Err(std::io::Error::other("cut by a fault")), (file, 0, sent)));
        }
        if pause > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        let mut buffer = vec![0; usize::try_from(left).unwrap_or(piece).min(piece)];
        match file.read_exact(&mut buffer) {
            Ok(()) => {
                let read = buffer.len();
                Some((Ok(Bytes::from(buffer)), (file, left - read as u64, sent + read)))
            }
            Err(error) => Some((Err(error), (file, 0, sent))),
        }
    });
    Ok(Body::from_stream(pieces.boxed()))
}

/// Sets a file's modification time to so many seconds since the epoch.
pub fn set_modified(path: &Path, seconds: u64) -> std::io::Result<()> {
    std::fs::File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}
