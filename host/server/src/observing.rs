//! Puts together what watches the installation: the way out, the figures, the courier of notices.

use std::{net::SocketAddr, sync::Arc};

use thimble_control::{ControlSettings, MetricsSource, Observe, notify::NotifySettings};
use tokio::task::JoinHandle;

use crate::{
    context::Context,
    exit::CliError,
    metrics::{PluginMetrics, ProcessMetrics},
    outbound::Sender,
    wiring::{self, Wired},
};

/// The parts that the API needs.
pub fn observe(context: &Context, wired: &Wired, bound: SocketAddr) -> Result<Observe, CliError> {
    let private = context.config.network.allow_private_networks.clone();
    let sender = Sender::new(private, wiring::tls_roots(&context.config)?);
    let sources: Vec<Box<dyn MetricsSource>> = vec![
        Box::new(PluginMetrics(Arc::clone(&wired.worker.plugins))),
        Box::new(ProcessMetrics { data: context.data.root().to_owned() }),
    ];
    let mut observe = Observe::new(Arc::new(sender));
    observe.metrics = sources.into();
    observe.open_metrics = context.config.api.open_metrics.unwrap_or(bound.ip().is_loopback());
    Ok(observe)
}

/// Delivers notices until the process ends.
pub fn courier(context: &Context, wired: &Wired, control: &ControlSettings) -> JoinHandle<()> {
    let mut settings = NotifySettings::new(wired.worker.holder());
    settings.base_url = context.config.api.public_url.clone();
    settings.clock = Arc::clone(&control.clock);
    let (store, outbound) = (control.store.clone(), Arc::clone(&control.observe.outbound));
    let (sealer, shutdown) = (Arc::clone(&control.sealer), control.shutdown.clone());
    tokio::spawn(thimble_control::notify::notify(store, outbound, sealer, settings, shutdown))
}
