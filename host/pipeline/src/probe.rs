//! Runs that move no rows: check, discover, install.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use thimble_engine::upgrade::{Upgrade, Version, upgrade};
use thimble_plugin::Installed;
use thimble_record::{Catalog, Failure};
use thimble_store::{Activated, PluginRow, RunRow, StoreError};

use crate::{
    collect::now_ms,
    events::EventSink,
    report::RunReport,
    session::Loaded,
    worker::{Worker, failed},
};

impl Worker {
    pub(crate) async fn check(&self, run: &RunRow, events: Arc<dyn EventSink>) -> Result<RunReport, Failure> {
        let loaded = self.open_of(run, events).await?;
        let answer = loaded.connector.check(&loaded.session).await.map_err(|error| error.failure())?;
        Ok(RunReport { answer: Some(json!({ "message": answer })), ..RunReport::default() })
    }

    pub(crate) async fn discover(&self, run: &RunRow, events: Arc<dyn EventSink>) -> Result<RunReport, Failure> {
        let loaded = self.open_of(run, events).await?;
        let catalog = self.discovered(&loaded).await?;
        Ok(RunReport { answer: Some(json!(catalog)), ..RunReport::default() })
    }

    /// Installs the component file that the run's subject names.
    pub(crate) async fn install_run(&self, run: &RunRow) -> Result<RunReport, Failure> {
        let path = run.subject.as_deref().ok_or_else(|| Failure::system(format!("run {} names no file", run.id)))?;
        let wasm = tokio::fs::read(path).await.map_err(|error| Failure::system(format!("{path}: {error}")))?;
        let when = match run.request.get("activate").and_then(Value::as_str) {
            Some("never") => Activate::Never,
            Some("safe") => Activate::WhereSafe,
            _ => Activate::Always,
        };
        let installed = self.install(&wasm, when).await?;
        Ok(RunReport { answer: Some(json!(installed)), ..RunReport::default() })
    }

    /// Installs a component and stores what it says of itself. Grants nothing.
    pub async fn install(&self, wasm: &[u8], when: Activate) -> Result<InstalledVersion, Failure> {
        let Installed { digest, api_version, spec } =
            self.plugins.install(wasm).await.map_err(|error| error.failure())?;
        let row = PluginRow {
            name: spec.name,
            version: spec.version,
            digest,
            api_version,
            title: spec.title,
            docs: spec.docs,
            config_schema: spec.config_schema,
            permissions: json!(spec.permissions),
            installed_at: now_ms(),
        };
        let change = self.change(&row).await?;
        let consent_needed = change.as_ref().is_some_and(|change| change.asks_for_more || change.breaking);
        let activate = match when {
            Activate::Always => true,
            Activate::Never => false,
            Activate::WhereSafe => !consent_needed,
        };
        let activated = self.store.install_version(&row, activate).await.map_err(|e| failed(&e))?;
        Ok(InstalledVersion { plugin: row, activated, upgrade: change })
    }

    /// What a version changes beside the active one; `None` where the plugin is new.
    async fn change(&self, row: &PluginRow) -> Result<Option<Upgrade>, Failure> {
        let active = match self.store.plugin(&row.name).await {
            Ok(active) => active,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        Ok(Some(upgrade(version(&active), version(row))))
    }

    async fn open_of(&self, run: &RunRow, events: Arc<dyn EventSink>) -> Result<Loaded, Failure> {
        let id =
            run.connection.as_ref().ok_or_else(|| Failure::system(format!("run {} names no connection", run.id)))?;
        self.open(id, events, None).await
    }

    async fn discovered(&self, loaded: &Loaded) -> Result<Catalog, Failure> {
        let catalog = loaded.connector.discover(&loaded.session).await.map_err(|error| error.failure())?;
        self.store.put_catalog(&loaded.connection.id, &catalog).await.map_err(|e| failed(&e))?;
        Ok(catalog)
    }

    /// The catalog that was discovered last, or that of now where there is none.
    pub(crate) async fn catalog(&self, loaded: &Loaded) -> Result<Catalog, Failure> {
        match &loaded.connection.catalog {
            Some(catalog) => Ok(catalog.clone()),
            None => self.discovered(loaded).await,
        }
    }
}

/// Whether runs use a version from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activate {
    /// Unless the plugin is pinned.
    Always,
    /// Unless it asks for more than the active version, or may refuse configurations of its connections.
    WhereSafe,
    Never,
}

/// What an installation came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstalledVersion {
    #[serde(flatten)]
    pub plugin: PluginRow,
    /// Whether runs use it, or why not.
    pub activated: Activated,
    /// Compared with the version that was active before; absent where the plugin is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
}

fn version(row: &PluginRow) -> Version<'_> {
    Version { permissions: &row.permissions, config_schema: &row.config_schema, api_version: &row.api_version }
}
