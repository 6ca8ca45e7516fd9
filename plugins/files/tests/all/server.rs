//! A small file server with the faults that real ones have.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A file as it is served.
#[derive(Clone, Default)]
pub struct Served {
    pub bytes: Arc<Vec<u8>>,
    pub etag: Option<String>,
    pub modified: Option<String>,
    /// The connection breaks after this many bytes of a body.
    pub breaks_after: Option<usize>,
    pub status: Option<u16>,
}

impl Served {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let modified = Some("Sun, 06 Nov 1994 08:49:37 GMT".into());
        Self { bytes: Arc::new(bytes.into()), modified, ..Self::default() }
    }
}

#[derive(Default)]
pub struct Site {
    pub files: BTreeMap<String, Served>,
    pub no_ranges: bool,
    pub no_head: bool,
    /// Bucket whose objects are the files below `/bucket/`, listed two at a time.
    pub bucket: Option<String>,
    /// Listings of the bucket never end.
    pub endless: bool,
    /// Requests as `METHOD path range`.
    pub log: Vec<String>,
}

/// Serves until the test ends.
pub fn serve(files: &[(&str, Served)]) -> (String, Arc<Mutex<Site>>) {
    let site = Arc::new(Mutex::new(Site::default()));
    site.lock().unwrap().files = files.iter().map(|(path, file)| ((*path).to_owned(), file.clone())).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::clone(&site);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || drop(answer(stream, &shared)));
        }
    });
    (address, site)
}

fn answer(stream: TcpStream, site: &Mutex<Site>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(String::from);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let range = headers.get("range").cloned().unwrap_or_default();
    let (head, body, breaks_after) = {
        let mut site = site.lock().unwrap();
        site.log.push(format!("{method} {target} {range}").trim().to_owned());
        respond(&site, &method, &target, &headers)
    };
    let mut stream = reader.into_inner();
    stream.write_all(head.as_bytes())?;
    let sent = breaks_after.unwrap_or(body.len()).min(body.len());
    if method != "HEAD" {
        stream.write_all(&body[..sent])?;
    }
    stream.flush()
}

fn plain(status: &str, extra: &str, body: Vec<u8>) -> (String, Vec<u8>, Option<usize>) {
    (format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}\r\n", body.len()), body, None)
}

fn respond(
    site: &Site,
    method: &str,
    target: &str,
    headers: &BTreeMap<String, String>,
) -> (String, Vec<u8>, Option<usize>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if site.no_head && method == "HEAD" {
        return plain("405 Method Not Allowed", "", Vec::new());
    }
    if query.contains("list-type=2") {
        return plain("200 OK", "", objects(site, query).into_bytes());
    }
    let Some(file) = site.files.get(path) else {
        return if path.ends_with('/') {
            plain("200 OK", "", index(site, path).into_bytes())
        } else {
            plain("404 Not Found", "", Vec::new())
        };
    };
    if let Some(status) = file.status {
        return plain(&format!("{status} Trouble"), "", Vec::new());
    }
    let mut extra = String::new();
    if let Some(etag) = &file.etag {
        if headers.get("if-match").is_some_and(|wanted| wanted != etag) {
            return plain("412 Precondition Failed", "", Vec::new());
        }
        extra.push_str(&format!("etag: {etag}\r\n"));
    }
    if let Some(modified) = &file.modified {
        extra.push_str(&format!("last-modified: {modified}\r\n"));
    }
    let size = file.bytes.len();
    let range = headers.get("range").filter(|_| !site.no_ranges).and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
        let (head, body, _) = plain("200 OK", &extra, file.bytes.to_vec());
        return (head, body, file.breaks_after);
    };
    let from: usize = from.parse().unwrap();
    if from >= size {
        return plain("416 Range Not Satisfiable", &format!("content-range: bytes */{size}\r\n"), Vec::new());
    }
    let to = to.parse().map_or(size, |to: usize| (to + 1).min(size));
    extra.push_str(&format!("content-range: bytes {from}-{}/{size}\r\n", to - 1));
    let (head, body, _) = plain("206 Partial Content", &extra, file.bytes[from..to].to_vec());
    (head, body, file.breaks_after)
}

/// An index as Python's `http.server` writes it, with subfolders.
fn index(site: &Site, folder: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for path in site.files.keys() {
        if let Some(rest) = path.strip_prefix(folder) {
            names.push(rest.find('/').map_or(rest, |end| &rest[..=end]));
        }
    }
    names.dedup();
    let links: String = names.iter().map(|name| format!("<li><a href=\"{name}\">{name}</a></li>\n")).collect();
    format!("<!DOCTYPE HTML><html><body><a href=\"../\">..</a><ul>\n{links}</ul></body></html>")
}

fn objects(site: &Site, query: &str) -> String {
    let bucket = format!("/{}/", site.bucket.as_deref().unwrap_or_default());
    let value = |name: &str| {
        let pair = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        pair.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    if site.endless {
        return "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>".into();
    }
    let (prefix, token) = (value("prefix"), value("continuation-token"));
    let keys = site.files.iter().filter_map(|(path, file)| Some((path.strip_prefix(&bucket)?, file)));
    let mut left = keys.filter(|(key, _)| key.starts_with(&prefix) && *key > token.as_str());
    let page: Vec<_> = left.by_ref().take(2).collect();
    let more = left.next().is_some();
    let contents: String = page
        .iter()
        .map(|(key, file)| {
            let (size, etag) = (file.bytes.len(), file.etag.clone().unwrap_or_default());
            format!("<Contents><Key>{key}</Key><LastModified>1994-11-06T08:49:37.123Z</LastModified><ETag>{}</ETag><Size>{size}</Size></Contents>", etag.replace('"', "&quot;"))
        })
        .collect();
    let next =
        page.last().filter(|_| more).map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
    format!(
        "<ListBucketResult><IsTruncated>{more}</IsTruncated>{}{contents}</ListBucketResult>",
        next.unwrap_or_default()
    )
}
