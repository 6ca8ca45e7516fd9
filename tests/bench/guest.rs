//! A connector in the sandbox, with nothing around it: what it reads goes straight to a measurement.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use thimble_plugin::{
    CompilerCommand, Connector, HostPattern, Limits, LogLevel, LogSink, PluginHost, PluginSettings, Session,
    egress::{Rehearsal, RunServices},
    secrets::Secrets,
};

use crate::process::{Fallible, binaries};

struct Silent;

impl LogSink for Silent {
    fn line(&self, _level: LogLevel, _message: &str) {}
}

/// A connector and what it may do.
pub struct Guest {
    pub connector: Arc<dyn Connector>,
    pub session: Session,
}

impl Guest {
    /// The built component of this name, compiled into `folder`, with a configuration without secrets. Private
    /// addresses can be reached where they are granted.
    pub async fn open(component: &str, config: &Value, grants: Vec<HostPattern>, folder: &Path) -> Fallible<Self> {
        let host = PluginHost::new(PluginSettings {
            limits: Limits::default(),
            folder: folder.to_owned(),
            cache_key: [7; 32],
            compiler: CompilerCommand { program: binaries()?.join("thimble"), args: vec!["compile-plugin".into()] },
            allow_private_networks: serde_json::from_value(json!(true))?,
            tls_roots: Default::default(),
        })?;
        let wasm = std::fs::read(binaries()?.join("../plugins").join(component))?;
        let installed = host.install(&wasm).await?;
        let connector = host.load(&installed.digest).await?;
        let (config, secrets) = Secrets::conceal(config, &[], &[], &mut || [0; 16]);
        let (services, rehearsal) = (RunServices::default(), Rehearsal::default());
        let session = Session { config, secrets, grants, log: Arc::new(Silent), services, rehearsal };
        Ok(Self { connector, session })
    }
}
