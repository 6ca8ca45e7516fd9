//! Which files are new, and what to remember of those that were read.
//!
//! Owns the state of a stream between runs. Pure: takes the files that were listed and the state, returns the files
//! to read and the next state. Must never forget a file for sharing its time with another.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::FilesError,
    fetch::{FileVersion, shown},
    limits::{MAX_PARTITION_ID, MAX_PARTITIONS, MAX_STATE_BYTES},
};

/// What was read before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanState {
    /// Greatest modification time that was read, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// Marks of the files of exactly that time that were read.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub at: BTreeSet<String>,
    /// Marks of files without a time that were read.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub timeless: BTreeSet<String>,
    /// By digest: contents that were read.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub digests: BTreeSet<String>,
    /// By digest: mark of a file that is there → digest, so that unchanged files are not digested again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, String>,
}

/// The files to read, in order, and what to remember once all were read.
#[derive(Debug, PartialEq, Eq)]
pub struct Planned {
    pub files: Vec<(String, FileVersion)>,
    pub next: PlanState,
    /// Files that have to wait for the next plan.
    pub waiting: usize,
}

/// A short mark of a file's name and version: 72 bits of a hash.
pub fn mark(file: &FileVersion) -> String {
    let version = match (&file.etag, file.modified, file.size) {
        (Some(etag), _, _) => format!("etag {etag}"),
        (None, modified, size) => format!("modified {modified:?} size {size:?}"),
    };
    short_hash(format!("{}\n{version}", file.url).as_bytes())
}

/// 12 characters of a SHA-256.
pub fn short_hash(bytes: &[u8]) -> String {
    shorten(&Sha256::digest(bytes))
}

/// 12 characters for a finished hash.
pub fn shorten(hash: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&hash[..hash.len().min(9)])
}

/// The partition of a file: its name for the operator, and a mark of its version.
pub fn partition_id(file: &FileVersion, version: &str) -> String {
    let name = shown(&file.url);
    let room = MAX_PARTITION_ID - version.len() - 1;
    let start = name.ceil_char_boundary(name.len().saturating_sub(room));
    format!("{}@{version}", &name[start..])
}

fn with_ids(files: Vec<FileVersion>) -> Vec<(String, FileVersion)> {
    files.into_iter().map(|file| (partition_id(&file, &mark(&file)), file)).collect()
}

/// All files, whatever was read before.
pub fn everything(mut files: Vec<FileVersion>, stream: &str) -> Result<Planned, FilesError> {
    sort(&mut files);
    if files.len() > MAX_PARTITIONS {
        return Err(FilesError::Limit {
            what: format!("the number of files of the stream \"{stream}\", {},", files.len()),
            limit: MAX_PARTITIONS.to_string(),
            advice: "divide it into streams by narrower globs, or read it incrementally".into(),
        });
    }
    Ok(Planned { files: with_ids(files), next: PlanState::default(), waiting: 0 })
}

fn sort(files: &mut Vec<FileVersion>) {
    files.sort_by(|a, b| (a.modified, &a.url).cmp(&(b.modified, &b.url)));
    files.dedup_by(|a, b| a.url == b.url);
}

/// Files modified after the last ones that were read, oldest first.
pub fn by_modified(mut files: Vec<FileVersion>, state: &PlanState, stream: &str) -> Result<Planned, FilesError> {
    sort(&mut files);
    // What is gone need not be remembered.
    let here: BTreeSet<String> = files.iter().filter(|file| file.modified.is_none()).map(mark).collect();
    let is_new = |file: &FileVersion| match file.modified {
        None => !state.timeless.contains(&mark(file)),
        Some(_) if file.modified == state.modified => !state.at.contains(&mark(file)),
        Some(_) => file.modified > state.modified,
    };
    files.retain(is_new);
    let waiting = files.len().saturating_sub(MAX_PARTITIONS);
    files.truncate(MAX_PARTITIONS);
    let mut next = PlanState { modified: state.modified, ..PlanState::default() };
    next.modified = next.modified.max(files.iter().filter_map(|file| file.modified).max());
    if next.modified == state.modified {
        next.at = state.at.clone();
    }
    next.at.extend(files.iter().filter(|file| file.modified.is_some() && file.modified == next.modified).map(mark));
    next.timeless = state.timeless.intersection(&here).cloned().collect();
    next.timeless.extend(files.iter().filter(|file| file.modified.is_none()).map(mark));
    check_size(&next, stream, "files of one modification time, or without one,")?;
    Ok(Planned { files: with_ids(files), next, waiting })
}

/// Files whose content was not read yet. `digest` gives the digest of a file that is not known from before.
pub fn by_digest(
    mut files: Vec<FileVersion>,
    state: &PlanState,
    stream: &str,
    mut digest: impl FnMut(&FileVersion) -> Result<String, FilesError>,
) -> Result<Planned, FilesError> {
    sort(&mut files);
    let mut next = PlanState { digests: state.digests.clone(), ..PlanState::default() };
    let (mut chosen, mut waiting) = (Vec::new(), 0);
    for file in files {
        if chosen.len() == MAX_PARTITIONS {
            waiting += 1;
            continue;
        }
        let tag = mark(&file);
        // Without a tag or a time, the same mark says nothing about the content.
        let dated = file.etag.is_some() || file.modified.is_some();
        let known = state.known.get(&tag).filter(|_| dated);
        let content = known.map_or_else(|| digest(&file), |known| Ok(known.clone()))?;
        if next.digests.insert(content.clone()) {
            chosen.push((partition_id(&file, &content), file));
        }
        next.known.insert(tag, content);
    }
    check_size(&next, stream, "files whose digests are remembered")?;
    Ok(Planned { files: chosen, next, waiting })
}

/// The state has to fit the boundary; it is never cut, since what is forgotten would be read again.
fn check_size(state: &PlanState, stream: &str, what: &str) -> Result<(), FilesError> {
    let marks = state.at.len() + state.timeless.len() + state.digests.len();
    // A mark takes 15 bytes in a list and 30 in the map.
    let bytes = 15 * marks + 30 * state.known.len() + 200;
    if bytes <= MAX_STATE_BYTES {
        return Ok(());
    }
    Err(FilesError::Limit {
        what: format!("the state of the stream \"{stream}\" with {marks} {what} has about {bytes} bytes, which"),
        limit: format!("{MAX_STATE_BYTES} bytes"),
        advice: "divide it into streams by narrower globs, or read it as full-table".into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(url: &str, modified: Option<i64>) -> FileVersion {
        FileVersion { url: format!("http://h/{url}"), modified, size: Some(1), etag: None }
    }

    fn urls(planned: &Planned) -> Vec<&str> {
        planned.files.iter().map(|(_, file)| &file.url[9..]).collect()
    }

    #[test]
    fn later_files_are_new_and_ties_are_not_lost() {
        let first = by_modified(vec![file("b", Some(2)), file("a", Some(1))], &PlanState::default(), "s").unwrap();
        assert_eq!(urls(&first), ["a", "b"]);
        let again = by_modified(vec![file("a", Some(1)), file("b", Some(2))], &first.next, "s").unwrap();
        assert_eq!((urls(&again), &again.next), (vec![], &first.next));
        // A file of the same second comes later; one that is older does not come at all.
        let tie =
            by_modified(vec![file("b", Some(2)), file("c", Some(2)), file("old", Some(1))], &first.next, "s").unwrap();
        assert_eq!(urls(&tie), ["c"]);
        assert_eq!(tie.next.at.len(), 2);
        let third =
            by_modified(vec![file("b", Some(2)), file("c", Some(2)), file("d", Some(3))], &tie.next, "s").unwrap();
        assert_eq!((urls(&third), third.next.at.len()), (vec!["d"], 1));
    }

    #[test]
    fn a_new_version_is_a_new_partition() {
        let one = by_modified(vec![file("a", Some(1))], &PlanState::default(), "s").unwrap();
        let two = by_modified(vec![file("a", Some(2))], &one.next, "s").unwrap();
        assert_eq!(urls(&two), ["a"]);
        assert_ne!(one.files[0].0, two.files[0].0);
        assert!(one.files[0].0.starts_with("http://h/a@"));
    }

    #[test]
    fn files_without_a_time_are_read_once_a_version() {
        let tagged = |etag: &str| FileVersion { etag: Some(etag.into()), ..file("a", None) };
        let one = by_modified(vec![tagged("1")], &PlanState::default(), "s").unwrap();
        assert_eq!(urls(&one), ["a"]);
        assert!(by_modified(vec![tagged("1")], &one.next, "s").unwrap().files.is_empty());
        let two = by_modified(vec![tagged("2")], &one.next, "s").unwrap();
        assert_eq!((urls(&two), two.next.timeless.len()), (vec!["a"], 1));
    }

    #[test]
    fn content_decides_by_digest() {
        let mut computed = 0;
        let mut digest = |file: &FileVersion| {
            computed += 1;
            Ok(if file.url.ends_with("copy") {
                "same".into()
            } else {
                format!("of {}", file.url.replace("moved", "a"))
            })
        };
        let files = vec![file("a", Some(1)), file("copy", Some(2)), file("x/copy", Some(3))];
        let one = by_digest(files.clone(), &PlanState::default(), "s", &mut digest).unwrap();
        assert_eq!(urls(&one), ["a", "copy"]);
        assert!(by_digest(files, &one.next, "s", &mut digest).unwrap().files.is_empty());
        let moved = by_digest(vec![file("moved", Some(9)), file("a", Some(5))], &one.next, "s", &mut digest).unwrap();
        assert!(moved.files.is_empty(), "the same content under another name and time");
        assert_eq!(computed, 3 + 2, "unchanged files are not digested again");
    }

    #[test]
    fn plans_are_limited_and_the_rest_waits() {
        let files: Vec<_> = (0..MAX_PARTITIONS as i64 + 5).map(|n| file(&n.to_string(), Some(n / 2))).collect();
        let first = by_modified(files.clone(), &PlanState::default(), "s").unwrap();
        assert_eq!((first.files.len(), first.waiting), (MAX_PARTITIONS, 5));
        let second = by_modified(files.clone(), &first.next, "s").unwrap();
        assert_eq!((second.files.len(), second.waiting), (5, 0));
        assert!(matches!(everything(files, "s").unwrap_err(), FilesError::Limit { .. }));
    }

    #[test]
    fn a_state_over_the_limit_is_refused_and_one_under_it_fits() {
        let files = |count: usize| (0..count).map(|n| file(&n.to_string(), Some(1))).collect::<Vec<_>>();
        let error = by_modified(files(70_000), &PlanState::default(), "many").unwrap_err();
        assert!(error.to_string().contains("\"many\"") && error.to_string().contains("1000000 bytes"), "{error}");
        let planned = by_modified(files(66_000), &PlanState::default(), "s").unwrap();
        assert!(serde_json::to_string(&planned.next).unwrap().len() <= MAX_STATE_BYTES);
        let digest = |file: &FileVersion| Ok(short_hash(file.url.as_bytes()));
        assert!(by_digest(files(30_000), &PlanState::default(), "s", digest).is_err());
        let planned = by_digest(files(22_000), &PlanState::default(), "s", digest).unwrap();
        assert!(serde_json::to_string(&planned.next).unwrap().len() <= MAX_STATE_BYTES);
    }

    #[test]
    fn partition_ids_fit_and_hold_no_query() {
        let long =
            FileVersion { url: format!("https://h/{}é.csv?token=secret", "é".repeat(900)), ..FileVersion::default() };
        let id = partition_id(&long, &mark(&long));
        assert!(id.len() <= MAX_PARTITION_ID && !id.contains("secret"), "{id}");
    }
}
