//! What files and places of files are to the rest of the crate.
//!
//! Owns the two traits that keep I/O out of it: the component implements them by HTTP, tests by folders and bytes.

use std::{io::Read, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{error::FilesError, location::Location};

/// One version of one file, as a listing or a HEAD request showed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// `http(s)://…` or `s3://bucket/key`.
    pub url: String,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// As the server writes it, quotes included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

impl FileVersion {
    /// What differs where `now` is another version; `None` where nothing that both know differs.
    pub fn differs(&self, now: &Self) -> Option<String> {
        if let (Some(then), Some(now)) = (&self.etag, &now.etag)
            && strong(then) != strong(now)
        {
            return Some(format!("its ETag was {then} and is {now}"));
        }
        if let (Some(then), Some(now)) = (self.size, now.size)
            && then != now
        {
            return Some(format!("its size was {then} and is {now}"));
        }
        // Servers give seconds in one place and milliseconds in another.
        match (self.modified.map(|ms| ms.div_euclid(1_000)), now.modified.map(|ms| ms.div_euclid(1_000))) {
            (Some(then), Some(now)) if then != now => Some("it was modified".into()),
            _ => None,
        }
    }
}

fn strong(etag: &str) -> &str {
    etag.trim_start_matches("W/")
}

/// The bytes of one version of a file.
pub trait Fetch: Send + Sync {
    /// The bytes from `offset` to the end. [`FilesError::Changed`] where another version is there.
    fn open(&self, offset: u64) -> Result<Box<dyn Read>, FilesError>;

    /// Exactly `length` bytes from `start`.
    fn bytes(&self, start: u64, length: usize) -> Result<Vec<u8>, FilesError>;

    /// In bytes, where it is known.
    fn size(&self) -> Option<u64>;
}

/// Where files are listed and opened.
pub trait Place {
    /// The files at a location, in any order. `stream` is for messages. Without `versions` the names are enough.
    fn list(&self, location: &Location, stream: &str, versions: bool) -> Result<Vec<FileVersion>, FilesError>;

    /// Opens a version of a file.
    fn file(&self, version: &FileVersion, stream: &str) -> Result<Arc<dyn Fetch>, FilesError>;
}

/// The name of a file as it may be shown.
pub fn shown(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) if url.scheme() != "s3" => crate::location::shown(&url),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_what_both_know() {
        let then = FileVersion { url: "u".into(), modified: Some(5_400), size: Some(3), etag: Some("\"a\"".into()) };
        assert_eq!(
            then.differs(&FileVersion {
                modified: Some(5_000),
                etag: Some("W/\"a\"".into()),
                ..FileVersion::default()
            }),
            None
        );
        assert!(then.differs(&FileVersion { etag: Some("\"b\"".into()), ..FileVersion::default() }).is_some());
        assert!(then.differs(&FileVersion { size: Some(4), ..FileVersion::default() }).is_some());
        assert!(then.differs(&FileVersion { modified: Some(6_000), ..FileVersion::default() }).is_some());
    }
}
