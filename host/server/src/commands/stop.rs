//! Signals that ask the process to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{CliError, Exit};

/// Cancels at the first SIGINT or SIGTERM; the second one ends the process at once, which recovery makes harmless.
pub fn on_signals(cancel: CancellationToken) -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::io("signals cannot be caught", &error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(Exit::Interrupted as i32);
            }
            cancel.cancel();
        }
    });
    Ok(())
}
