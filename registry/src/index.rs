//! Which packages there are: name → versions → digest, permissions, streams, docs. A plain value.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};
use thimble_record::{ErrorKind, Failure};

use crate::compatible::compatible;
use crate::limits::Limits;

/// The form of the JSON. A reader refuses a newer one.
pub const FORMAT: u32 = 1;
/// The most bytes of a package's name (`wit/v0.1`, `spec.name`).
const MAX_NAME_BYTES: usize = 64;

/// All packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    format: u32,
    packages: BTreeMap<String, Entry>,
}

impl Default for Index {
    fn default() -> Self {
        Self { format: FORMAT, packages: BTreeMap::new() }
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub versions: BTreeMap<Version, Release>,
}

impl Entry {
    /// The newest release; a pre-release only where there is nothing else.
    pub fn latest(&self) -> Option<(&Version, &Release)> {
        let firm = self.versions.iter().rev().find(|(version, _)| version.pre.is_empty());
        firm.or_else(|| self.versions.last_key_value())
    }

    /// The newest release that a host can run.
    pub fn latest_for(&self, host_apis: &[Version]) -> Option<(&Version, &Release)> {
        let fits = |release: &Release| compatible(&release.api_version, host_apis).is_ok();
        let mut fitting = self.versions.iter().rev().filter(|(_, release)| fits(release));
        let newest = fitting.next()?;
        if newest.0.pre.is_empty() {
            Some(newest)
        } else {
            fitting.find(|(version, _)| version.pre.is_empty()).or(Some(newest))
        }
    }
}

/// One version of a package. Never changes once it is in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// SHA-256 of the component file, in hex.
    pub digest: String,
    /// Bytes of the file.
    pub size: u64,
    pub api_version: Version,
    pub title: String,
    /// Markdown.
    #[serde(default)]
    pub docs: String,
    #[serde(default)]
    pub permissions: Permissions,
    /// Names of its streams, where they are the same for everyone.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Who published it, as whoever keeps the registry says.
    #[serde(default)]
    pub publisher: String,
    /// What was checked before it was taken in, in words such as `component` and `spec`.
    #[serde(default)]
    pub verified: Vec<String>,
}

/// What a connector asks for. Mirrors `permissions` of the WIT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// Host patterns or templates over the configuration.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Settings whose secret value it must see.
    #[serde(default)]
    pub reads_secrets: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index has {bytes} bytes, at most {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the index is not JSON of the form expected: {0}")]
    Malformed(#[source] serde_json::Error),
    #[error("the index has format {found}, this Thimble reads format {FORMAT}: update Thimble")]
    Format { found: u32 },
    #[error("package name `{0}` is not allowed: lower case letters, digits and `-`, at most 64 bytes")]
    BadName(String),
    #[error("package {name} {version}: {what}")]
    BadRelease { name: String, version: Version, what: String },
    #[error("package {name} {version} is in the index with another content: raise the version")]
    Taken { name: String, version: Version },
    #[error("the index has {limit} {what} already, which is the limit")]
    Full { what: String, limit: usize },
}

impl IndexError {
    /// As it is stored and shown.
    pub fn failure(&self) -> Failure {
        let over = matches!(self, Self::TooLarge { .. } | Self::Full { .. });
        Failure::new(if over { ErrorKind::Refused } else { ErrorKind::Config }, self.to_string())
    }
}

impl Index {
    /// Reads what [`Index::to_json`] wrote; every entry is checked.
    ///
    /// # Errors
    /// What is wrong, naming the package and version.
    pub fn from_json(bytes: &[u8], limits: &Limits) -> Result<Self, IndexError> {
        if bytes.len() > limits.index_bytes {
            return Err(IndexError::TooLarge { bytes: bytes.len(), limit: limits.index_bytes });
        }
        // The format is looked at first: a newer one may have other fields.
        let Head { format } = serde_json::from_slice(bytes).map_err(IndexError::Malformed)?;
        if format != FORMAT {
            return Err(IndexError::Format { found: format });
        }
        let read: Self = serde_json::from_slice(bytes).map_err(IndexError::Malformed)?;
        let mut index = Self::default();
        for (name, entry) in read.packages {
            for (version, release) in entry.versions {
                index.add(&name, version, release, limits)?;
            }
        }
        Ok(index)
    }

    /// JSON, equal for equal indexes.
    ///
    /// # Errors
    /// Where it grew over the limit.
    pub fn to_json(&self, limits: &Limits) -> Result<Vec<u8>, IndexError> {
        let bytes = serde_json::to_vec(self).map_err(IndexError::Malformed)?;
        if bytes.len() > limits.index_bytes {
            return Err(IndexError::TooLarge { bytes: bytes.len(), limit: limits.index_bytes });
        }
        Ok(bytes)
    }

    /// Adds a release. Adding the same again changes nothing.
    ///
    /// # Errors
    /// Where the version is taken by another content, something is not allowed, or a limit is reached.
    pub fn add(&mut self, name: &str, version: Version, release: Release, limits: &Limits) -> Result<(), IndexError> {
        check_name(name)?;
        if let Some(known) = self.get(name, &version) {
            return if *known == release { Ok(()) } else { Err(IndexError::Taken { name: name.to_owned(), version }) };
        }
        check_release(&release, limits).map_err(|what| IndexError::BadRelease {
            name: name.to_owned(),
            version: version.clone(),
            what,
        })?;
        if !self.packages.contains_key(name) && self.packages.len() >= limits.packages {
            return Err(IndexError::Full { what: "packages".into(), limit: limits.packages });
        }
        let entry = self.packages.entry(name.to_owned()).or_default();
        if entry.versions.len() >= limits.versions {
            return Err(IndexError::Full { what: format!("versions of {name}"), limit: limits.versions });
        }
        entry.versions.insert(version, release);
        Ok(())
    }

    /// One package.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.packages.get(name)
    }

    /// One release.
    pub fn get(&self, name: &str, version: &Version) -> Option<&Release> {
        self.packages.get(name)?.versions.get(version)
    }

    /// All packages by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.packages.iter().map(|(name, entry)| (name.as_str(), entry))
    }
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

fn check_name(name: &str) -> Result<(), IndexError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fine = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed);
    if fine { Ok(()) } else { Err(IndexError::BadName(name.chars().filter(|c| !c.is_control()).take(80).collect())) }
}

fn check_release(release: &Release, limits: &Limits) -> Result<(), String> {
    let Release { digest, size, api_version: _, title, docs, permissions, streams, publisher, verified } = release;
    let Permissions { hosts, memory_mib: _, reads_secrets } = permissions;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digest.len() != 64 || !digest.bytes().all(hex) {
        return Err("the digest is not a SHA-256 in lower case hex".into());
    }
    if *size == 0 || *size > limits.package_bytes as u64 {
        return Err(format!("the size is {size} bytes, allowed are 1 to {}", limits.package_bytes));
    }
    if docs.len() > limits.docs_bytes {
        return Err(format!("the docs have {} bytes, at most {} are allowed", docs.len(), limits.docs_bytes));
    }
    for (what, list) in [("hosts", hosts), ("secrets", reads_secrets), ("streams", streams), ("checks", verified)] {
        if list.len() > limits.listed {
            return Err(format!("it lists {} {what}, at most {} are allowed", list.len(), limits.listed));
        }
    }
    let mut texts = [title, publisher].into_iter().chain(hosts).chain(reads_secrets).chain(streams).chain(verified);
    match texts.find(|text| text.len() > limits.text_bytes) {
        Some(text) => {
            Err(format!("a name or title has {} bytes, at most {} are allowed", text.len(), limits.text_bytes))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn release(title: &str, hosts: &[&str]) -> Release {
        Release {
            digest: "0123456789abcdef".repeat(4),
            size: 1000,
            api_version: Version::new(0, 1, 0),
            title: title.to_owned(),
            docs: String::new(),
            permissions: Permissions {
                hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
                ..Permissions::default()
            },
            streams: vec!["items".to_owned()],
            publisher: "Example".to_owned(),
            verified: vec!["component".to_owned()],
        }
    }

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn an_index_comes_back_from_json() {
        let limits = Limits::default();
        let mut index = Index::default();
        index.add("files", version("0.10.0"), release("Files", &["{{ urls }}"]), &limits).unwrap();
        index.add("files", version("0.9.0"), release("Files", &[]), &limits).unwrap();
        let json = index.to_json(&limits).unwrap();
        assert_eq!(Index::from_json(&json, &limits).unwrap(), index);
        assert_eq!(index.entry("files").unwrap().latest().unwrap().0, &version("0.10.0"));
    }

    #[test]
    fn a_version_never_changes() {
        let (limits, mut index) = (Limits::default(), Index::default());
        index.add("a", version("1.0.0"), release("A", &[]), &limits).unwrap();
        index.add("a", version("1.0.0"), release("A", &[]), &limits).unwrap();
        let other = Release { digest: "f".repeat(64), ..release("A", &[]) };
        let error = index.add("a", version("1.0.0"), other, &limits).unwrap_err();
        assert_eq!(error.to_string(), "package a 1.0.0 is in the index with another content: raise the version");
    }

    #[test]
    fn the_latest_for_a_host_is_one_that_it_can_run() {
        let (limits, mut index) = (Limits::default(), Index::default());
        for (text, api) in [("1.0.0", "0.1.0"), ("1.1.0", "0.2.0"), ("1.2.0-rc.1", "0.1.0")] {
            let release = Release { api_version: version(api), ..release("A", &[]) };
            index.add("a", version(text), release, &limits).unwrap();
        }
        let entry = index.entry("a").unwrap();
        let latest_for = |api: &str| entry.latest_for(&[version(api)]).map(|(found, _)| found.to_string());
        assert_eq!(entry.latest().unwrap().0.to_string(), "1.1.0");
        assert_eq!(latest_for("0.1.0").as_deref(), Some("1.0.0"));
        assert_eq!(latest_for("0.2.0").as_deref(), Some("1.1.0"));
        assert_eq!(latest_for("0.3.0"), None);
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let (limits, mut index) = (Limits::default(), Index::default());
        for name in ["", "Files", "a/b", "../x", &"a".repeat(65)] {
            assert!(matches!(
                index.add(name, version("1.0.0"), release("A", &[]), &limits),
                Err(IndexError::BadName(_))
            ));
        }
        for bad in [
            Release { digest: "F".repeat(64), ..release("A", &[]) },
            Release { size: 0, ..release("A", &[]) },
            Release { docs: "x".repeat(limits.docs_bytes + 1), ..release("A", &[]) },
            release(&"x".repeat(limits.text_bytes + 1), &[]),
            release("A", &["x"; 10_001]),
        ] {
            let error = index.add("a", version("1.0.0"), bad, &limits).unwrap_err();
            assert!(error.to_string().starts_with("package a 1.0.0: "), "{error}");
        }
        assert_eq!(index, Index::default());
    }

    #[test]
    fn an_index_has_limits() {
        let limits = Limits { packages: 1, versions: 1, ..Limits::default() };
        let mut index = Index::default();
        index.add("a", version("1.0.0"), release("A", &[]), &limits).unwrap();
        let full = index.add("b", version("1.0.0"), release("B", &[]), &limits).unwrap_err();
        assert_eq!(full.to_string(), "the index has 1 packages already, which is the limit");
        assert!(matches!(index.add("a", version("2.0.0"), release("A", &[]), &limits), Err(IndexError::Full { .. })));
        let small = Limits { index_bytes: 10, ..limits };
        assert!(matches!(index.to_json(&small), Err(IndexError::TooLarge { .. })));
        assert!(matches!(Index::from_json(&index.to_json(&limits).unwrap(), &small), Err(IndexError::TooLarge { .. })));
    }

    #[test]
    fn a_foreign_index_is_refused() {
        let limits = Limits::default();
        let newer = Index::from_json(br#"{"format": 2, "catalogue": []}"#, &limits).unwrap_err();
        assert_eq!(newer.to_string(), "the index has format 2, this Thimble reads format 1: update Thimble");
        for bad in [&b"{"[..], b"[]", br#"{"format":1,"packages":{},"more":1}"#] {
            assert!(matches!(Index::from_json(bad, &limits), Err(IndexError::Malformed(_))));
        }
        let smuggled = br#"{"format":1,"packages":{"../x":{"versions":{"1.0.0":{"digest":"","size":1,"api_version":"0.1.0","title":"x"}}}}}"#;
        assert!(matches!(Index::from_json(smuggled, &limits), Err(IndexError::BadName(_))));
    }
}
