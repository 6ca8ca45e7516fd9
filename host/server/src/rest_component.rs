//! The component that runs declarative manifests: where it comes from, and how a manifest becomes a component of its
//! own.
//!
//! Must never read what a manifest says: the component does that, in the sandbox.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use thimble_plugin::PluginHost;
use thimble_record::{ErrorKind, Failure};
use thimble_registry::{Limits, is_manifest, pack};
use thimble_store::{Store, StoreError};

use crate::config::Config;

/// Name of the plugin, and of its file beside the program.
const NAME: &str = "rest";
const FILE: &str = "rest.wasm";

/// Where to look for the component.
#[derive(Debug, Clone)]
pub struct RestComponent {
    setting: Option<PathBuf>,
}

impl RestComponent {
    pub fn new(config: &Config) -> Self {
        Self { setting: config.rest_component.clone() }
    }

    /// The same with a file that outranks everything.
    #[must_use]
    pub fn or_file(self, file: Option<PathBuf>) -> Self {
        Self { setting: file.or(self.setting) }
    }

    /// What an upload installs: itself, or where it is a manifest, the component that runs it.
    pub async fn installable(&self, upload: Vec<u8>, store: &Store, plugins: &PluginHost) -> Result<Vec<u8>, Failure> {
        if !is_manifest(&upload) {
            return Ok(upload);
        }
        let component = match self.from_setting()? {
            Some(component) => component,
            None => match installed(store, plugins).await? {
                Some(component) => component,
                None => self.from_program()?,
            },
        };
        pack(&component, &upload).map_err(|error| error.failure())
    }

    /// The file that the operator named.
    pub fn from_setting(&self) -> Result<Option<Bytes>, Failure> {
        self.setting.as_deref().map(read).transpose()
    }

    /// The file beside the program: the last place to look.
    pub fn from_program(&self) -> Result<Bytes, Failure> {
        let program = std::env::current_exe().unwrap_or_default();
        let folder = program.parent().unwrap_or(Path::new("/"));
        // The second is where the source tree has what it builds.
        match [folder.join(FILE), folder.join("../plugins").join(FILE)].iter().find(|file| file.is_file()) {
            Some(file) => read(file),
            None => Err(Failure::new(
                ErrorKind::Config,
                "the component that runs manifests is not here: install it (`thimble plugin install rest.wasm`), or \
                 name its file with the setting `rest_component`",
            )),
        }
    }
}

/// The installed plugin of that name.
async fn installed(store: &Store, plugins: &PluginHost) -> Result<Option<Bytes>, Failure> {
    match store.plugin(NAME).await {
        Ok(plugin) => Ok(Some(plugins.component(&plugin.digest).await.map_err(|error| error.failure())?)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.failure()),
    }
}

/// Digest of the installed plugin, for whoever has the folder but no runtime.
pub async fn installed_digest(store: &Store) -> Result<Option<String>, Failure> {
    match store.plugin(NAME).await {
        Ok(plugin) => Ok(Some(plugin.digest)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.failure()),
    }
}

/// Reads a component file.
pub fn read(file: &Path) -> Result<Bytes, Failure> {
    use std::io::Read;
    let limit = Limits::default().package_bytes as u64;
    let failed = |error: std::io::Error| {
        let message = format!("the component that runs manifests, {}, cannot be read: {error}", file.display());
        Failure::new(ErrorKind::Config, message)
    };
    let mut bytes = Vec::new();
    // One more than is allowed, so that a longer file is told from one that just fits.
    std::fs::File::open(file).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_that_was_named_outranks_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let (named, set) = (folder.path().join("named"), folder.path().join("set"));
        std::fs::write(&named, "named").unwrap();
        std::fs::write(&set, "set").unwrap();
        let component = RestComponent { setting: Some(set) };
        assert_eq!(component.clone().or_file(None).from_setting().unwrap().unwrap(), "set");
        assert_eq!(component.or_file(Some(named)).from_setting().unwrap().unwrap(), "named");
        let nowhere = RestComponent { setting: Some(folder.path().join("nowhere")) };
        assert!(nowhere.from_setting().unwrap_err().message.contains("nowhere, cannot be read"));
        let neither = RestComponent { setting: None }.from_program().unwrap_err();
        assert!(neither.message.contains("the setting `rest_component`"), "{neither}");
    }
}
