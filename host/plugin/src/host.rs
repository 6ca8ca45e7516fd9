//! Installs, loads and removes plugins.
//!
//! Owns the folder of plugins. Must never run a component that was not inspected and compiled by this host.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::Component;

use crate::{
    api,
    cache::{self, CodeCache},
    call::{Network, Plugin},
    compile::{self, CompilerCommand},
    connector::{Connector, Spec},
    egress::{PrivateNetworks, TlsRoots},
    engine::{EngineSettings, Runtime, code_digest},
    error::PluginError,
    files,
    inspect::{self, Inspected, Preset},
    limits::Limits,
    shelf::Shelf,
    stats::PluginStats,
};

/// How the host runs plugins.
pub struct PluginSettings {
    /// Limits of the runtime.
    pub limits: Limits,
    /// Which private networks plugins may reach where a grant names a host in them.
    pub allow_private_networks: PrivateNetworks,
    /// Certificate authorities that plugins' TLS trusts.
    pub tls_roots: TlsRoots,
    /// Where components and their compiled code lie: `<folder>/<digest>.wasm`, `<folder>/cache/`.
    pub folder: PathBuf,
    /// Authenticates compiled code in the cache. Keep it as safe as the host key.
    pub cache_key: [u8; 32],
    /// The program that compiles; its body is [`crate::compile_child_main`].
    pub compiler: CompilerCommand,
}

/// What an installed plugin is.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// The API that it was built for.
    pub api_version: String,
    pub spec: Spec,
}

/// The plugin runtime of a process. Make one: it holds the engine.
pub struct PluginHost {
    runtime: Arc<Runtime>,
    engine_settings: EngineSettings,
    limits: Arc<Limits>,
    network: Network,
    folder: PathBuf,
    cache: Arc<CodeCache>,
    compiler: CompilerCommand,
    compiling: Semaphore,
    loaded: Mutex<HashMap<String, Loading>>,
    /// Code of plugins in use, by the digest of the component without its preset.
    codes: Mutex<HashMap<String, Weak<Code>>>,
    shelf: Option<Arc<dyn Shelf>>,
}

type Loading = Arc<OnceCell<Arc<dyn Connector>>>;

impl PluginHost {
    /// Starts the engine and makes the folders. Call it within a tokio runtime or outside of one.
    pub fn new(settings: PluginSettings) -> Result<Self, PluginError> {
        let PluginSettings { limits, allow_private_networks, tls_roots, folder, cache_key, compiler } = settings;
        let cache_folder = cache::folder(&folder);
        std::fs::create_dir_all(&cache_folder).map_err(|source| PluginError::Io {
            doing: "making",
            path: cache_folder.clone(),
            source,
        })?;
        let engine_settings = EngineSettings::new(&limits);
        let runtime = Runtime::new(&engine_settings)?;
        let cache = CodeCache::new(cache_folder, cache_key, code_digest(runtime.engine()), limits.code_bytes);
        Ok(Self {
            runtime: Arc::new(runtime),
            engine_settings,
            network: Network { private: allow_private_networks, roots: tls_roots, shared: Arc::default() },
            folder,
            cache: Arc::new(cache),
            compiler,
            compiling: Semaphore::new(limits.parallel_compiles.clamp(1, Semaphore::MAX_PERMITS)),
            limits: Arc::new(limits),
            loaded: Mutex::default(),
            codes: Mutex::default(),
            shelf: None,
        })
    }

    /// Keeps components on a shelf for other hosts too, and looks there for those that this host does not have.
    pub fn with_shelf(self, shelf: Arc<dyn Shelf>) -> Self {
        Self { shelf: Some(shelf), ..self }
    }

    /// Puts an installed component on the shelf, where there is one.
    pub async fn share(&self, digest: &str) -> Result<(), PluginError> {
        check_digest(digest)?;
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let Some(wasm) = files::read(&self.wasm_path(digest), self.limits.component_bytes).await? else {
            return Ok(());
        };
        shelf.put(digest, wasm.into()).await.map_err(|error| PluginError::runtime("share a component", error))
    }

    /// A component of the shelf whose bytes are those of its digest; `None` where there is none.
    pub async fn shelved(&self, digest: &str) -> Result<Option<Bytes>, PluginError> {
        check_digest(digest)?;
        let Some(shelf) = &self.shelf else { return Ok(None) };
        let found = shelf.get(digest, self.limits.component_bytes).await;
        let found = found.map_err(|error| PluginError::runtime("fetch a component", error))?;
        let Some(wasm) = found else { return Ok(None) };
        if hex::encode(Sha256::digest(&wasm)) != digest {
            return Err(PluginError::runtime(
                "fetch a component",
                format!("what is stored as {digest} has another digest"),
            ));
        }
        Ok(Some(wasm))
    }

    /// Checks, compiles and stores a component, and asks it for its spec. Nothing is stored where any of it fails.
    /// The same component can be installed again; components that differ in their preset alone share their code.
    pub async fn install(&self, wasm: &[u8]) -> Result<Installed, PluginError> {
        // Before the copy that the other threads get.
        if wasm.len() > self.limits.component_bytes {
            return Err(PluginError::TooLarge { bytes: wasm.len(), limit: self.limits.component_bytes });
        }
        let wasm = Bytes::copy_from_slice(wasm);
        let described = self.describe(wasm.clone()).await?;
        let (code, fresh) = self.code(&described).await?;
        let connector = self.connector(&described, code).await?;
        let spec = connector.spec().await?;
        if let Some(sealed) = fresh {
            self.cache.store(&described.code_digest, sealed.into()).await?;
        }
        let Described { digest, api_version, .. } = described;
        files::write(&self.wasm_path(&digest), wasm.into()).await?;
        self.share(&digest).await?;
        self.lock().insert(digest.clone(), Arc::new(OnceCell::new_with(Some(connector))));
        Ok(Installed { digest, api_version, spec })
    }

    /// The bytes of an installed component.
    pub async fn component(&self, digest: &str) -> Result<Bytes, PluginError> {
        check_digest(digest)?;
        let path = self.wasm_path(digest);
        let missing = || PluginError::NotInstalled { digest: digest.to_owned() };
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            // Another host installed it. It is compiled here.
            let wasm = self.shelved(digest).await?.ok_or_else(missing)?;
            files::write(&path, wasm.into()).await?;
        }
        Ok(files::read(&path, self.limits.component_bytes).await?.ok_or_else(missing)?.into())
    }

    /// An installed plugin, from memory or from the cache; compiled again where the cache is empty or not ours.
    pub async fn load(&self, digest: &str) -> Result<Arc<dyn Connector>, PluginError> {
        check_digest(digest)?;
        let loading = self.lock().entry(digest.to_owned()).or_default().clone();
        let loaded = loading.get_or_try_init(|| self.load_anew(digest)).await.cloned();
        if loaded.is_err() {
            let mut map = self.lock();
            if map.get(digest).is_some_and(|current| Arc::ptr_eq(current, &loading) && !current.initialized()) {
                map.remove(digest);
            }
        }
        loaded
    }

    /// What plugins used since the process began, by the name that each gives itself.
    pub fn stats(&self) -> std::collections::BTreeMap<String, PluginStats> {
        self.runtime.stats().snapshot()
    }

    /// Removes a plugin. Calls under way go on to their end. Code that components with presets share stays.
    pub async fn remove(&self, digest: &str) -> Result<(), PluginError> {
        check_digest(digest)?;
        self.lock().remove(digest);
        self.cache.remove(digest).await?;
        match files::remove(&self.wasm_path(digest)).await? {
            true => Ok(()),
            false => Err(PluginError::NotInstalled { digest: digest.to_owned() }),
        }
    }

    async fn load_anew(&self, digest: &str) -> Result<Arc<dyn Connector>, PluginError> {
        let described = self.describe(self.component(digest).await?).await?;
        if described.digest != digest {
            return Err(PluginError::Damaged { path: self.wasm_path(digest) });
        }
        let (code, fresh) = self.code(&described).await?;
        let connector = self.connector(&described, code).await?;
        if let Some(sealed) = fresh {
            self.cache.store(&described.code_digest, sealed.into()).await?;
        }
        Ok(connector)
    }

    async fn describe(&self, wasm: Bytes) -> Result<Described, PluginError> {
        let limits = self.limits.clone();
        blocking(move || Described::new(&wasm, &limits)).await
    }

    /// The code of a component: that of a plugin in use, from the cache, or compiled now. What was compiled comes with
    /// its sealed form, which is for the cache once the component has proved to be of use.
    async fn code(&self, described: &Described) -> Result<(Arc<Code>, Option<Bytes>), PluginError> {
        let digest = &described.code_digest;
        if let Some(code) = self.code_in_use(digest) {
            return Ok((code, None));
        }
        if let Some(sealed) = self.cache.fetch(digest).await {
            if let Some(code) = self.open(digest, sealed.into()).await? {
                return Ok((code, None));
            }
            tracing::warn!(digest, "cached code is not of this host, the component is compiled again");
        }
        let _permit =
            self.compiling.acquire().await.map_err(|error| PluginError::runtime("queue a compilation", error))?;
        // Whoever had the turn before may have compiled the same.
        if let Some(code) = self.code_in_use(digest) {
            return Ok((code, None));
        }
        let code = compile::compile(&self.compiler, &self.limits, &self.engine_settings, &described.code).await?;
        let (cache, of, api_version) = (self.cache.clone(), digest.clone(), described.api_version.clone());
        let sealed: Bytes = blocking(move || Ok(cache.seal(&of, &api_version, &code).into())).await?;
        let code = self.open(digest, sealed.clone()).await?.ok_or_else(|| {
            PluginError::runtime("load the code that it compiled", "the compiler is not of the same build as the host")
        })?;
        Ok((code, Some(sealed)))
    }

    fn code_in_use(&self, digest: &str) -> Option<Arc<Code>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).get(digest)?.upgrade()
    }

    /// The code of a sealed file; `None` where the seal is broken.
    async fn open(&self, digest: &str, sealed: Bytes) -> Result<Option<Arc<Code>>, PluginError> {
        let (cache, runtime, of) = (self.cache.clone(), self.runtime.clone(), digest.to_owned());
        let opened = blocking(move || Ok(cache.open(runtime.engine(), &of, &sealed))).await?;
        let Some((api_version, component)) = opened else { return Ok(None) };
        let code = Arc::new(Code { api_version, component });
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, code| code.strong_count() > 0);
        codes.insert(digest.to_owned(), Arc::downgrade(&code));
        Ok(Some(code))
    }

    async fn connector(&self, described: &Described, code: Arc<Code>) -> Result<Arc<dyn Connector>, PluginError> {
        let plugin = Plugin::new(
            self.runtime.clone(),
            self.limits.clone(),
            self.network.clone(),
            described.digest.clone(),
            described.preset.clone(),
            code.clone(),
        );
        blocking(move || api::connector(&code.api_version, &code.component, plugin)).await
    }

    fn wasm_path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Loading>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A component as its bytes describe it.
struct Described {
    /// Of the whole file.
    digest: String,
    api_version: String,
    /// What is compiled: the file without its preset, so that components with other presets share the code.
    code: Bytes,
    /// Of `code`.
    code_digest: String,
    /// Empty where the component carries none.
    preset: Bytes,
}

impl Described {
    fn new(wasm: &Bytes, limits: &Limits) -> Result<Self, PluginError> {
        let Inspected { api_version, preset } = inspect::inspect(wasm, limits)?;
        let digest = hex::encode(Sha256::digest(wasm));
        let Some(Preset { section, data }) = preset else {
            let (code, code_digest) = (wasm.clone(), digest.clone());
            return Ok(Self { digest, api_version, code, code_digest, preset: Bytes::new() });
        };
        let code: Bytes = [&wasm[..section.start], &wasm[section.end..]].concat().into();
        let code_digest = hex::encode(Sha256::digest(&code));
        Ok(Self { digest, api_version, code, code_digest, preset: wasm.slice(data) })
    }
}

/// Compiled code that several plugins may share.
pub(crate) struct Code {
    api_version: String,
    component: Component,
}

/// Digests become file names, so nothing else may pass.
fn check_digest(digest: &str) -> Result<(), PluginError> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digest.len() == 64 && digest.bytes().all(hex) {
        return Ok(());
    }
    Err(PluginError::NotInstalled { digest: digest.chars().take(64).collect() })
}

/// Runs what computes for long beside the tasks that wait.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, PluginError> + Send + 'static,
) -> Result<R, PluginError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| PluginError::runtime("run its work", error))?
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("folder", &self.folder).finish_non_exhaustive()
    }
}
