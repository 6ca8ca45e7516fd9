//! One connector per version of the WIT.
//!
//! Each version's module only converts; limits, egress, log and sink are behind it, so that no version can miss them.

mod v0_1;

use std::sync::Arc;

use wasmtime::component::Component;

use crate::{call::Plugin, connector::Connector, error::PluginError};

/// The connector of a component that was built for `version`, one of [`crate::inspect::API_VERSIONS`].
pub(crate) fn connector(
    version: &str,
    component: &Component,
    plugin: Plugin,
) -> Result<Arc<dyn Connector>, PluginError> {
    match version {
        "0.1.0" => Ok(Arc::new(v0_1::Source::new(component, plugin)?)),
        _ => Err(PluginError::VersionMismatch {
            plugin: version.to_owned(),
            host: crate::inspect::API_VERSIONS.join(", "),
        }),
    }
}
