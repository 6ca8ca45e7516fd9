//! Opens object stores from a URL and options. The only place of this crate that knows which kinds there are.
//!
//! Must never put a setting's value into a message: values may be secrets.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc};

use object_store::{
    ObjectStore,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};
use url::Url;

use crate::error::StageError;

/// Options that would take away create-only writes, on which the commit protocol rests.
const FORBIDDEN: [&str; 2] = ["conditional_put", "aws_conditional_put"];

/// Opens the store behind `url`.
pub(crate) fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, StageError> {
    let parsed = Url::parse(url)
        .map_err(|_| config("the staging URL cannot be read: write file:///folder or s3://bucket/prefix"))?;
    match parsed.scheme() {
        "file" => open_folder(&parsed, options),
        "s3" => open_s3(&parsed, options),
        other => Err(config(format!("the staging URL begins with {other}://: use file:// or s3://"))),
    }
}

fn open_folder(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, StageError> {
    let folder = folder(url)?;
    let mut fsync = true;
    for (name, value) in options {
        match (name.as_str(), value.as_str()) {
            ("fsync", "true") => fsync = true,
            ("fsync", "false") => fsync = false,
            ("fsync", _) => return Err(config("the staging option \"fsync\" must be true or false")),
            _ => return Err(config(format!("a file:// staging area has no option {name:?}: it knows \"fsync\""))),
        }
    }
    let store = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|error| config(format!("the staging folder {} cannot be used: {error}", folder.display())))?;
    Ok(Arc::new(store.with_fsync(fsync).with_automatic_cleanup(true)))
}

fn folder(url: &Url) -> Result<PathBuf, StageError> {
    let path = url.to_file_path().map_err(|()| {
        config("the staging URL names no folder of this machine: write file:/// and then the absolute path")
    })?;
    std::fs::create_dir_all(&path)
        .map_err(|error| config(format!("the staging folder {} cannot be made: {error}", path.display())))?;
    Ok(path)
}

fn open_s3(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, StageError> {
    install_tls_provider();
    let bucket = url.host_str().ok_or_else(|| config("the staging URL names no bucket: write s3://bucket/prefix"))?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let mut plain_endpoint = false;
    let mut allow_http = false;
    for (name, value) in options {
        let key = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase())
            .ok()
            .filter(|_| !FORBIDDEN.contains(&name.as_str()))
            .ok_or_else(|| config(format!("an s3:// staging area has no option {name:?}")))?;
        plain_endpoint |= key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://");
        allow_http |= name.ends_with("allow_http") && value == "true";
        builder = builder.with_config(key, value);
    }
    if plain_endpoint && !allow_http {
        return Err(config(
            "the staging endpoint is http://, without encryption: set allow_http to true, or use https://",
        ));
    }
    let store = builder
        .build()
        .map_err(|error| config(format!("the staging store s3://{bucket} cannot be opened: {error}")))?;
    let prefix = Path::from_url_path(url.path())
        .map_err(|_| config("the staging URL's path has empty or forbidden parts: write s3://bucket/prefix"))?;
    Ok(if prefix.as_ref().is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// The HTTP client has no TLS provider compiled in; ring becomes the process's default unless one is set.
fn install_tls_provider() {
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn config(message: impl Into<String>) -> StageError {
    StageError::Config(message.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(url: &str, options: &[(&str, &str)]) -> String {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        open(url, &options).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn bad_settings_are_named_and_values_are_not_shown() {
        assert!(message("nonsense", &[]).contains("file:///folder"));
        assert!(message("ftp://host/x", &[]).contains("ftp://"));
        assert!(message("s3://b", &[("sekret_key", "hunter2")]).contains("sekret_key"));
        assert!(!message("s3://b", &[("sekret_key", "hunter2")]).contains("hunter2"));
        assert!(message("s3://b", &[("endpoint", "http://h:1")]).contains("allow_http"));
        assert!(message("s3://b", &[("conditional_put", "disabled")]).contains("conditional_put"));
    }

    #[test]
    fn s3_over_tls_and_plain_http_can_be_opened() {
        assert_eq!(message("s3://b/some/prefix", &[("region", "eu-central-1")]), "");
        assert_eq!(message("s3://b", &[("endpoint", "http://127.0.0.1:1"), ("allow_http", "true")]), "");
    }

    #[test]
    fn folder_is_made_and_its_options_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let url = Url::from_file_path(dir.path().join("a/b c")).unwrap();
        assert_eq!(message(url.as_str(), &[("fsync", "false")]), "");
        assert!(dir.path().join("a/b c").is_dir());
        assert!(message(url.as_str(), &[("fsync", "maybe")]).contains("true or false"));
        assert!(message(url.as_str(), &[("region", "x")]).contains("region"));
    }
}
