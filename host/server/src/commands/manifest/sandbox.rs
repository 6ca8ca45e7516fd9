//! A plugin runtime for a manifest that is not installed.
//!
//! Owns its folder, which keeps the compiled code of the component between calls. Must never touch a data folder, but
//! to read the component of the installed plugin.

use std::{
    fs::{self, DirBuilder},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use thimble_plugin::{Installed, Limits, PluginHost, PluginSettings, egress::PrivateNetworks, secrets::random_bytes};
use thimble_registry::{Limits as PackageLimits, is_manifest, pack};
use thimble_store::Store;

use crate::{
    config::Config,
    context::read_input,
    data_folder::DataFolder,
    exit::{CliError, Exit},
    rest_component::{self, RestComponent},
    wiring,
};

/// Length of the answer to a lint, which says all about a manifest.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
const KEY_BYTES: usize = 32;

/// The runtime and the component that runs manifests.
pub(super) struct Sandbox {
    pub(super) plugins: PluginHost,
    pub(super) limits: Limits,
    component: Bytes,
}

impl Sandbox {
    pub(super) async fn open(
        config: &Config,
        data: &Path,
        component: Option<PathBuf>,
        private: bool,
    ) -> Result<Self, CliError> {
        let component = find(&RestComponent::new(config).or_file(component), config, data).await?;
        let folder = folder();
        let limits = Limits { message_bytes: MAX_ANSWER_BYTES, ..config.limits.plugin.clone() };
        let allowed = &config.network.allow_private_networks;
        let plugins = PluginHost::new(PluginSettings {
            limits: limits.clone(),
            allow_private_networks: if private { PrivateNetworks::Any(true) } else { allowed.clone() },
            tls_roots: wiring::tls_roots(config)?,
            cache_key: key(&folder)?,
            folder,
            compiler: wiring::compiler(),
        })
        .map_err(|error| error.failure())?;
        Ok(Self { plugins, limits, component })
    }

    /// Installs the component as it is, which runs any manifest.
    pub(super) async fn generic(&self) -> Result<Installed, CliError> {
        Ok(self.plugins.install(&self.component).await.map_err(|error| error.failure())?)
    }

    /// The component with a manifest in it.
    pub(super) fn packed(&self, manifest: &[u8]) -> Result<Vec<u8>, CliError> {
        Ok(pack(&self.component, manifest).map_err(|error| error.failure())?)
    }
}

/// Reads a manifest, and makes sure that it is one.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    let text = read_input(file, PackageLimits::default().preset_bytes as u64)?;
    if is_manifest(&text) {
        return Ok(text);
    }
    let message = format!(
        "{} is no declarative manifest: a mapping with `type: DeclarativeSource`, or with `version` and `streams`",
        file.display()
    );
    Err(CliError::new(Exit::Usage, message))
}

async fn find(component: &RestComponent, config: &Config, data: &Path) -> Result<Bytes, CliError> {
    if let Some(component) = component.from_setting()? {
        return Ok(component);
    }
    if config.store.url.is_none() && data.is_dir() {
        let data = DataFolder::open(data)?;
        if data.database().is_file() {
            let store = Store::open(&data.database()).await?;
            if let Some(digest) = rest_component::installed_digest(&store).await? {
                return Ok(rest_component::read(&data.plugins().join(format!("{digest}.wasm")))?);
            }
        }
    }
    Ok(component.from_program()?)
}

/// A folder of the user's for what can be made again.
fn folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("thimble-manifests")
}

/// The key that authenticates the compiled code of the folder, which only this user can read; made at the first use.
fn key(folder: &Path) -> Result<[u8; KEY_BYTES], CliError> {
    let failed =
        |error| CliError::io(format_args!("cannot use the folder {} for compiled code", folder.display()), &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let file = folder.join("key");
    let stored = |file: &Path| fs::read(file).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    if let Some(key) = stored(&file) {
        return Ok(key);
    }
    let key: Vec<u8> = [random_bytes(), random_bytes()].concat();
    let draft = folder.join(format!("key.{}", std::process::id()));
    let mut opened = fs::OpenOptions::new();
    let mut opened = opened.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    opened.write_all(&key).map_err(failed)?;
    // Whoever made one at the same time may have been first: a link never replaces.
    let linked = fs::hard_link(&draft, &file);
    fs::remove_file(&draft).map_err(failed)?;
    match stored(&file) {
        Some(key) => Ok(key),
        None => Err(failed(linked.err().unwrap_or_else(|| std::io::Error::other("its file `key` is broken")))),
    }
}
