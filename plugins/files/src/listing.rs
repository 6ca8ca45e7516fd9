//! What servers say of the files they have: HTML indexes, JSON arrays, answers of ListObjectsV2.
//!
//! Pure: takes the bytes of an answer, returns values. Must never trust a name to lie where it says.

use quick_xml::{Reader, events::Event};
use serde::Deserialize;
use url::Url;

use crate::{location::unescape, moment};

/// An entry of a directory page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub url: Url,
    pub folder: bool,
    /// Milliseconds since the epoch.
    pub modified: Option<i64>,
    pub size: Option<u64>,
}

/// Reads a directory page that was got from `page`: a JSON array of names, or the links of an HTML page. Only what
/// lies directly or deeper below the page is taken.
pub fn directory(page: &Url, body: &[u8]) -> Result<Vec<Entry>, String> {
    let text = String::from_utf8_lossy(body);
    let mut entries = match text.trim_start().as_bytes().first() {
        Some(b'[') => json(page, &text)?,
        _ => links(&text).iter().filter_map(|href| entry(page, href)).collect(),
    };
    entries.sort_by(|a, b| a.url.as_str().cmp(b.url.as_str()));
    entries.dedup_by(|a, b| a.url == b.url);
    Ok(entries)
}

/// The entry of a link, if it leads to something below the page.
fn entry(page: &Url, href: &str) -> Option<Entry> {
    let mut url = page.join(href).ok()?;
    url.set_fragment(None);
    let base = &page.path()[..page.path().rfind('/')? + 1];
    let below = url.path().strip_prefix(base).is_some_and(|rest| !rest.is_empty());
    // Indexes link to themselves with other orders: `?C=M;O=A`.
    let same = url.origin() == page.origin() && url.query().is_none() && below;
    same.then(|| Entry { folder: url.path().ends_with('/'), url, modified: None, size: None })
}

/// One element of a JSON listing, as nginx and others write it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default, alias = "last_modified", alias = "modified")]
    mtime: Option<serde_json::Value>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

fn json(page: &Url, text: &str) -> Result<Vec<Entry>, String> {
    let listed: Vec<Listed> = serde_json::from_str(text)
        .map_err(|error| format!("it is not a JSON array of {{name, mtime, size}}: {error}"))?;
    let build = |listed: &Listed| {
        let folder = listed.kind.as_deref().is_some_and(|kind| kind.starts_with("dir")) || listed.name.ends_with('/');
        let mut path = listed.name.trim_end_matches('/').split('/').map(escape).collect::<Vec<_>>().join("/");
        if folder {
            path.push('/');
        }
        // A name such as `a:b` must not be taken for a scheme.
        let found = entry(page, &format!("./{path}"))?;
        let modified = listed.mtime.as_ref().and_then(|mtime| match mtime {
            serde_json::Value::String(text) => moment::server_date(text),
            // Seconds since the epoch.
            number => number.as_f64().map(|seconds| (seconds * 1_000.0) as i64),
        });
        Some(Entry { folder, modified, size: listed.size, ..found })
    };
    Ok(listed.iter().filter_map(build).collect())
}

/// Escapes what may not stand in a segment of a path; `/` included.
pub fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The values of all `href` attributes.
fn links(html: &str) -> Vec<String> {
    let lower = html.to_ascii_lowercase();
    let mut links = Vec::new();
    let mut at = 0;
    while let Some(found) = lower[at..].find("href") {
        at += found + 4;
        let rest = html[at..].trim_start();
        let Some(rest) = rest.strip_prefix('=').map(str::trim_start) else { continue };
        let value = match rest.as_bytes().first() {
            Some(b'"') => rest[1..].split('"').next(),
            Some(b'\'') => rest[1..].split('\'').next(),
            _ => rest.split(|c: char| c.is_whitespace() || c == '>').next(),
        };
        links.extend(value.map(|value| unentity(value.trim())));
    }
    links
}

/// Replaces the entities that occur in links.
fn unentity(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|end| *end <= 10);
        let character = end.and_then(|end| match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            code => {
                let code = code.strip_prefix('#')?;
                let number = match code.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => code.parse().ok()?,
                };
                char::from_u32(number)
            }
        });
        match (character, end) {
            (Some(character), Some(end)) => {
                plain.push(character);
                rest = &rest[end + 1..];
            }
            _ => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// One answer of ListObjectsV2.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Objects {
    pub objects: Vec<Object>,
    /// Where the next answer starts.
    pub next: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub modified: Option<i64>,
    pub size: Option<u64>,
    pub etag: Option<String>,
}

/// Reads an answer of ListObjectsV2.
pub fn objects(body: &[u8]) -> Result<Objects, String> {
    let mut reader = Reader::from_reader(body);
    let (mut found, mut object, mut path, mut text) = (Objects::default(), None::<Object>, Vec::new(), String::new());
    let (mut truncated, mut escaped, mut root) = (false, false, false);
    loop {
        match reader.read_event().map_err(|error| format!("it is not XML: {error}"))? {
            Event::Start(start) => {
                path.push(start.local_name().as_ref().to_vec());
                root |= path.len() == 1 && path[0] == b"ListBucketResult";
                if path.len() == 2 && path[1] == b"Contents" {
                    object = Some(Object::default());
                }
                text.clear();
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|error| error.to_string())?;
                text.push_str(&unentity(&format!("&{name};")));
            }
            Event::CData(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                match (path.len(), name.as_slice(), &mut object) {
                    (1, b"IsTruncated", _) => truncated = text.trim() == "true",
                    (1, b"EncodingType", _) => escaped = text.trim() == "url",
                    (1, b"NextContinuationToken", _) => found.next = Some(text.clone()),
                    (1, b"Contents", object) => found.objects.extend(object.take()),
                    (2, b"Key", Some(object)) => object.key = text.clone(),
                    (2, b"LastModified", Some(object)) => object.modified = moment::server_date(&text),
                    (2, b"Size", Some(object)) => object.size = text.trim().parse().ok(),
                    (2, b"ETag", Some(object)) => object.etag = Some(text.trim().to_owned()),
                    _ => {}
                }
                text.clear();
            }
            Event::Eof if !path.is_empty() => return Err("the XML is cut off".into()),
            Event::Eof => break,
            _ => {}
        }
    }
    if !root {
        return Err("it is not the answer of an S3 store to ListObjectsV2".into());
    }
    if escaped {
        found.objects.iter_mut().for_each(|object| object.key = unescape(&object.key.replace('+', " ")));
    }
    found.next = found.next.filter(|token| truncated && !token.is_empty());
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(page: &str, body: &str) -> Vec<String> {
        let entries = directory(&Url::parse(page).unwrap(), body.as_bytes()).unwrap();
        entries.iter().map(|entry| entry.url.to_string()).collect()
    }

    #[test]
    fn html_indexes_of_common_servers() {
        let apache = r#"<html><a href="?C=N;O=D">Name</a> <A HREF='/'>Parent</A> <a href="a%20b.csv">a b.csv</a>
            <a href=sub/>sub/</a> <a href="../up.csv">x</a> <a href="http://evil/d/x.csv">x</a> <a href="x&amp;y.csv#f">x</a>
            <a href="/d/abs.csv">y</a> <a href="/other/abs.csv">y</a> <a href="a%20b.csv">again</a>"#;
        let expected = ["http://h/d/a%20b.csv", "http://h/d/abs.csv", "http://h/d/sub/", "http://h/d/x&y.csv"];
        assert_eq!(list("http://h/d/", apache), expected);
        assert!(list("http://h/d/", "").is_empty());
        assert!(list("http://h/d/", "href href=\"").is_empty());
    }

    #[test]
    fn json_listings() {
        let body = r#"[{"name":"a b.csv","type":"file","mtime":"Sun, 06 Nov 1994 08:49:37 GMT","size":3},
            {"name":"sub","type":"directory","mtime":"Sun, 06 Nov 1994 08:49:37 GMT"},
            {"name":"t.csv","last_modified":1700000000}, {"name":"../../etc/passwd"}]"#;
        let entries = directory(&Url::parse("http://h/d/").unwrap(), body.as_bytes()).unwrap();
        assert_eq!(entries[0].url.as_str(), "http://h/d/a%20b.csv");
        assert_eq!((entries[0].modified, entries[0].size), (Some(784_111_777_000), Some(3)));
        assert!(entries[1].folder && entries[1].url.as_str() == "http://h/d/sub/");
        assert_eq!(entries[2].modified, Some(1_700_000_000_000));
        assert_eq!(entries.len(), 3, "nothing outside the folder");
        assert!(directory(&Url::parse("http://h/").unwrap(), b"[1]").is_err());
    }

    #[test]
    fn answers_of_s3() {
        let body =
            br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
            <IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;2</NextContinuationToken>
            <Contents><Key>a/x &lt;1&gt;.csv</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
            <ETag>&quot;fba9&quot;</ETag><Size>434234</Size><Owner><ID>1</ID></Owner></Contents>
            <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"#;
        let found = objects(body).unwrap();
        assert_eq!(found.next.as_deref(), Some("t&2"));
        let object = Object {
            key: "a/x <1>.csv".into(),
            modified: Some(1_255_369_830_000),
            size: Some(434_234),
            etag: Some("\"fba9\"".into()),
        };
        assert_eq!(found.objects, [object]);
        let escaped = b"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%2Fb+c</Key></Contents></ListBucketResult>";
        assert_eq!(objects(escaped).unwrap().objects[0].key, "a/b c");
        assert!(objects(b"<html>not here</html>").is_err());
        assert!(objects(b"<ListBucketResult><Contents>").is_err());
        assert!(objects(b"").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, text: String) {
            let _ = objects(&body);
            let _ = directory(&Url::parse("http://h/d/").unwrap(), &body);
            let _ = directory(&Url::parse("http://h/d/").unwrap(), format!("<a href=\"{text}\">").as_bytes());
            let _ = unentity(&text);
        }

        #[test]
        fn escaped_names_come_back(name: String) {
            proptest::prop_assert_eq!(unescape(&escape(&name)), name);
        }
    }
}
