//! Runs that move no rows: check, discover, install.

use std::sync::Arc;

use serde_json::json;
use thimble_plugin::Installed;
use thimble_record::{Catalog, Failure};
use thimble_store::{PluginRow, RunRow};

use crate::{
    collect::now_ms,
    events::EventSink,
    report::RunReport,
    worker::{Loaded, Worker, failed},
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
        let row = self.install(&wasm).await?;
        Ok(RunReport { answer: Some(json!(row)), ..RunReport::default() })
    }

    /// Installs a component and stores what it says of itself. Grants nothing.
    pub async fn install(&self, wasm: &[u8]) -> Result<PluginRow, Failure> {
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
        self.store.upsert_plugin(&row).await.map_err(|e| failed(&e))?;
        Ok(row)
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
