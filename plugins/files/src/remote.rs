//! Files over HTTP and S3: the only place of the connector that does I/O.
//!
//! Owns requests: what is asked for, and whether the answer is the version that was planned. Signing is the host's:
//! keys are placeholders here.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use thimble_sdk::http::{Request, Response, Verb};
use url::Url;

use crate::{
    config::S3Config,
    error::{FilesError, into_io},
    fetch::{Fetch, FileVersion, Place, shown},
    limits::{MAX_LISTED, MAX_LISTING_BYTES, MAX_LISTING_FOLDERS, MAX_LISTING_PAGES, MAX_WHOLE_FILE},
    listing::{self, Entry},
    location::{Glob, Location, unescape},
    moment,
    sdk::from_sdk,
};

/// Everything that can be reached with a configuration.
pub struct Remote {
    s3: S3Config,
}

impl Remote {
    pub fn new(s3: &S3Config) -> Self {
        Self { s3: s3.clone() }
    }

    /// Lists a folder over HTTP and what matches below it.
    fn list_http(&self, base: &Url, glob: &Glob, stream: &str, versions: bool) -> Result<Vec<FileVersion>, FilesError> {
        let (mut folders, mut seen, mut found) = (vec![base.clone()], BTreeSet::from([base.to_string()]), Vec::new());
        let mut listed = 0;
        while let Some(folder) = folders.pop() {
            let answer = request(Verb::Get, &folder, None).send().map_err(|error| missing(error, &folder, stream))?;
            let body = answer.bytes_up_to(MAX_LISTING_BYTES as u64).map_err(from_sdk)?;
            let entries = listing::directory(&folder, &body)
                .map_err(|problem| FilesError::Answer { url: crate::location::shown(&folder), problem })?;
            listed += entries.len();
            over(listed, MAX_LISTED, "entries were listed", stream)?;
            for entry in entries {
                if entry.folder {
                    if glob.deep() && seen.insert(entry.url.to_string()) {
                        over(seen.len(), MAX_LISTING_FOLDERS, "folders were listed", stream)?;
                        folders.push(entry.url);
                    }
                } else if matches_url(glob, &entry.url) {
                    found.push(self.version_of(entry, stream, versions)?);
                }
            }
        }
        Ok(found)
    }

    fn version_of(&self, entry: Entry, stream: &str, versions: bool) -> Result<FileVersion, FilesError> {
        if entry.modified.is_none() && versions {
            return self.head(entry.url.as_str(), stream);
        }
        Ok(FileVersion { url: entry.url.into(), modified: entry.modified, size: entry.size, etag: None })
    }

    fn list_s3(&self, bucket: &str, glob: &Glob, stream: &str) -> Result<Vec<FileVersion>, FilesError> {
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MAX_LISTING_PAGES {
            let (mut url, sign) = self.bucket(bucket)?;
            url.query_pairs_mut()
                .append_pair("list-type", "2")
                .append_pair("encoding-type", "url")
                .append_pair("prefix", glob.literal_prefix());
            if let Some(token) = &token {
                url.query_pairs_mut().append_pair("continuation-token", token);
            }
            let sent = request(Verb::Get, &url, Some(&sign)).send();
            let answer = sent.map_err(|error| missing(error, &url, stream))?;
            let body = answer.bytes_up_to(MAX_LISTING_BYTES as u64).map_err(from_sdk)?;
            let page = listing::objects(&body)
                .map_err(|problem| FilesError::Answer { url: crate::location::shown(&url), problem })?;
            let matching =
                page.objects.into_iter().filter(|object| !object.key.ends_with('/') && glob.matches(&object.key));
            found.extend(matching.map(|object| FileVersion {
                url: format!("s3://{bucket}/{}", object.key),
                modified: object.modified,
                size: object.size,
                etag: object.etag,
            }));
            over(found.len(), MAX_LISTED, "objects were listed", stream)?;
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(found),
            }
        }
        over(MAX_LISTING_PAGES + 1, MAX_LISTING_PAGES, "answers of ListObjectsV2 were read", stream).map(|()| found)
    }

    /// One file's version by a HEAD request, or by a GET whose body is not read where HEAD is not allowed.
    fn head(&self, url: &str, stream: &str) -> Result<FileVersion, FilesError> {
        let (at, sign) = self.resolve(url)?;
        let mut head = request(Verb::Head, &at, sign.as_ref());
        // 403: a URL that is signed for GET.
        for status in [400, 403, 405, 501] {
            head = head.accept_status(status);
        }
        let mut answer = head.send().map_err(|error| missing(error, &at, stream))?;
        if answer.status() >= 400 {
            let get = request(Verb::Get, &at, sign.as_ref()).header("range", "bytes=0-0").accept_status(416);
            answer = get.send().map_err(|error| missing(error, &at, stream))?;
        }
        Ok(version(url, &answer))
    }

    /// Where a file is got from, and how its requests are signed.
    fn resolve(&self, url: &str) -> Result<(Url, Option<Signing>), FilesError> {
        let Some((bucket, key)) = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) else {
            let parsed =
                Url::parse(url).map_err(|error| FilesError::setting("urls", format!("holds no URL: {error}")))?;
            return Ok((parsed, None));
        };
        let (mut at, sign) = self.bucket(bucket)?;
        let key: Vec<String> = key.split('/').map(listing::escape).collect();
        // Not `Url::join`, and not `path_segments_mut`: keys may hold `..`, `//` and `:`.
        let path = format!("{}{}", at.path(), key.join("/"));
        at.set_path(&path);
        Ok((at, Some(sign)))
    }

    /// The address of a bucket, ending in `/`.
    fn bucket(&self, bucket: &str) -> Result<(Url, Signing), FilesError> {
        let region = self.s3.region.clone().unwrap_or_else(|| "us-east-1".into());
        let path_style = self.s3.path_style.unwrap_or(self.s3.endpoint.is_some() || bucket.contains('.'));
        let endpoint = self.s3.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let wrong = |what: String| FilesError::setting("s3.endpoint", what);
        let mut url = Url::parse(&endpoint).map_err(|error| wrong(format!("is not a URL: {error}")))?;
        let root = url.path().trim_end_matches('/').to_owned();
        if path_style {
            url.set_path(&format!("{root}/{bucket}/"));
        } else {
            let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|error| wrong(format!("takes no bucket before its name: {error}")))?;
            url.set_path(&format!("{root}/"));
        }
        let s3 = self.s3.clone();
        let keys = s3.access_key_id.zip(s3.secret_access_key).map(|(id, secret)| (id, secret, s3.session_token));
        Ok((url, Signing { region, keys }))
    }
}

impl Place for Remote {
    fn list(&self, location: &Location, stream: &str, versions: bool) -> Result<Vec<FileVersion>, FilesError> {
        match location {
            Location::Http(url) => Ok(vec![self.head(url.as_str(), stream)?]),
            Location::HttpGlob { base, glob } => self.list_http(base, glob, stream, versions),
            Location::S3 { bucket, key } => Ok(vec![self.head(&format!("s3://{bucket}/{key}"), stream)?]),
            Location::S3Glob { bucket, glob } => self.list_s3(bucket, glob, stream),
        }
    }

    fn file(&self, version: &FileVersion, stream: &str) -> Result<Arc<dyn Fetch>, FilesError> {
        let version = match version.size {
            Some(_) => version.clone(),
            // Parquet needs the size; where there is none, the first request says so.
            None => FileVersion { url: version.url.clone(), ..self.head(&version.url, stream)? },
        };
        let (url, sign) = self.resolve(&version.url)?;
        Ok(Arc::new(RemoteFile { name: shown(&version.url), version, url, sign, whole: Mutex::new(None) }))
    }
}

/// How the host is to sign requests.
#[derive(Clone)]
struct Signing {
    region: String,
    keys: Option<(String, String, Option<String>)>,
}

fn request(verb: Verb, url: &Url, sign: Option<&Signing>) -> Request {
    // Files come as they are: what a server compresses on the way has other sizes and offsets.
    let request = Request::new(verb, url.as_str()).header("accept-encoding", "identity");
    match sign.and_then(|sign| Some((sign, sign.keys.as_ref()?))) {
        Some((sign, (id, secret, token))) => request.aws_sigv4(&sign.region, "s3", id, secret, token.as_deref()),
        None => request,
    }
}

/// A failed request; a 404 names the stream.
fn missing(error: thimble_sdk::Error, url: &Url, stream: &str) -> FilesError {
    match error.status {
        Some(404) => FilesError::NotFound { url: crate::location::shown(url), stream: stream.to_owned() },
        _ => from_sdk(error),
    }
}

fn over(count: usize, limit: usize, what: &str, stream: &str) -> Result<(), FilesError> {
    if count <= limit {
        return Ok(());
    }
    Err(FilesError::Limit {
        what: format!("a glob of the stream \"{stream}\": more than {limit} {what}, which"),
        limit: limit.to_string(),
        advice: "write a longer literal part before the first *".into(),
    })
}

fn matches_url(glob: &Glob, url: &Url) -> bool {
    glob.matches(url.path()) || glob.matches(&unescape(url.path()))
}

/// The version that an answer belongs to.
fn version(url: &str, answer: &Response) -> FileVersion {
    let total = answer.header("content-range").and_then(|range| range.rsplit_once('/')?.1.trim().parse().ok());
    let encoded = answer.header("content-encoding").is_some_and(|coding| coding != "identity");
    let length = match answer.status() {
        206 | 416 => total,
        _ if encoded => None,
        _ => answer.content_length(),
    };
    FileVersion {
        url: url.to_owned(),
        modified: answer.header("last-modified").and_then(moment::server_date),
        size: length,
        etag: answer.header("etag").map(String::from),
    }
}

struct RemoteFile {
    version: FileVersion,
    url: Url,
    sign: Option<Signing>,
    name: String,
    /// The file itself, where the server knows no ranges and it is small.
    whole: Mutex<Option<Bytes>>,
}

impl RemoteFile {
    /// Asks for a part, and makes sure that it is of the planned version.
    fn get(&self, range: Option<String>) -> Result<Response, FilesError> {
        let mut get = request(Verb::Get, &self.url, self.sign.as_ref());
        if let Some(range) = &range {
            get = get.header("range", range);
        }
        if let Some(etag) = self.version.etag.as_ref().filter(|etag| !etag.starts_with("W/")) {
            get = get.header("if-match", etag);
        }
        for status in [404, 410, 412, 416] {
            get = get.accept_status(status);
        }
        let answer = get.send().map_err(from_sdk)?;
        let changed = |what: String| Err(FilesError::Changed { file: self.name.clone(), what });
        match answer.status() {
            404 | 410 => changed("it is gone".into()),
            412 => changed("its ETag is another".into()),
            _ => match self.version.differs(&version(&self.version.url, &answer)) {
                Some(what) => changed(what),
                None => Ok(answer),
            },
        }
    }

    /// For servers without ranges: the file in memory, if it is small.
    fn whole(&self, answer: Response) -> Result<Bytes, FilesError> {
        if self.version.size.is_none_or(|size| size > MAX_WHOLE_FILE as u64) {
            return Err(FilesError::Limit {
                what: format!("the server of {} does not support range requests, and the file", self.name),
                limit: format!("{MAX_WHOLE_FILE} bytes for files that are read without them"),
                advice: "serve it from a server that supports ranges".into(),
            });
        }
        Ok(Bytes::from(answer.bytes_up_to(MAX_WHOLE_FILE as u64).map_err(from_sdk)?))
    }

    fn slice(&self, whole: &Bytes, start: u64, length: usize) -> Result<Vec<u8>, FilesError> {
        let from = usize::try_from(start).unwrap_or(usize::MAX);
        let part = from.checked_add(length).and_then(|to| whole.get(from..to));
        part.map(<[u8]>::to_vec).ok_or_else(|| self.short(start + length as u64))
    }

    fn short(&self, byte: u64) -> FilesError {
        FilesError::Broken { file: self.name.clone(), byte, what: "the answer was shorter than asked for".into() }
    }
}

impl Fetch for RemoteFile {
    fn open(&self, offset: u64) -> Result<Box<dyn Read>, FilesError> {
        if offset > 0 && self.version.size == Some(offset) {
            return Ok(Box::new(io::empty()));
        }
        let answer = self.get((offset > 0).then(|| format!("bytes={offset}-")))?;
        let (status, total) = (answer.status(), version(&self.version.url, &answer).size);
        match status {
            416 if total.is_none_or(|total| total == offset) => return Ok(Box::new(io::empty())),
            416 => {
                let what = format!("it has fewer than the {offset} bytes that were read before");
                return Err(FilesError::Changed { file: self.name.clone(), what });
            }
            _ => {}
        }
        let mut body = Body(Box::new(answer.reader()));
        if status != 206 && offset > 0 {
            // The server knows no ranges.
            let skipped = io::copy(&mut (&mut body).take(offset), &mut io::sink());
            skipped.map_err(|error| crate::error::from_io(error, &self.name, 0))?;
        }
        Ok(Box::new(body))
    }

    fn bytes(&self, start: u64, length: usize) -> Result<Vec<u8>, FilesError> {
        let mut held = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = held.as_ref() {
            return self.slice(whole, start, length);
        }
        if length == 0 {
            return Ok(Vec::new());
        }
        let answer = self.get(Some(format!("bytes={start}-{}", start + length as u64 - 1)))?;
        match answer.status() {
            206 => {
                let bytes = answer.bytes_up_to(length as u64).map_err(from_sdk)?;
                if bytes.len() == length { Ok(bytes) } else { Err(self.short(start + bytes.len() as u64)) }
            }
            416 => Err(self.short(start)),
            _ => {
                let whole = self.whole(answer)?;
                let part = self.slice(&whole, start, length);
                *held = Some(whole);
                part
            }
        }
    }

    fn size(&self) -> Option<u64> {
        self.version.size
    }
}

/// A body whose errors are ours.
struct Body(Box<dyn Read>);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(into_io(from_sdk(error.into()))),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(s3: S3Config, url: &str) -> String {
        Remote::new(&s3).resolve(url).unwrap().0.to_string()
    }

    #[test]
    fn keys_and_buckets_become_addresses() {
        let own = S3Config { endpoint: Some("http://127.0.0.1:8333/".into()), ..S3Config::default() };
        assert_eq!(address(own.clone(), "s3://b/a/x y?+.csv"), "http://127.0.0.1:8333/b/a/x%20y%3F%2B.csv");
        let hosts = S3Config { path_style: Some(false), endpoint: Some("https://s3.example.com/root".into()), ..own };
        assert_eq!(address(hosts, "s3://b/k"), "https://b.s3.example.com/root/k");
        let aws = S3Config { region: Some("eu-west-1".into()), ..S3Config::default() };
        assert_eq!(address(aws.clone(), "s3://b/k"), "https://b.s3.eu-west-1.amazonaws.com/k");
        assert_eq!(address(aws, "s3://a.b/k"), "https://s3.eu-west-1.amazonaws.com/a.b/k", "no certificate covers it");
    }

    #[test]
    fn listings_are_limited() {
        assert!(over(MAX_LISTED, MAX_LISTED, "entries", "s").is_ok());
        let error = over(MAX_LISTED + 1, MAX_LISTED, "entries were listed", "s").unwrap_err();
        assert!(error.to_string().contains("\"s\""), "{error}");
    }
}
