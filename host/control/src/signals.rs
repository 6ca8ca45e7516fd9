//! How the parts of one process tell each other that something changed, so that nobody has to poll.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// Signals between handlers, reconciler and executor. Cheap to clone; clones are the same signals.
#[derive(Debug, Clone)]
pub struct Signals {
    wake: Arc<Notify>,
    changed: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { wake: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Signals {
    /// Wakes the reconciler: there is new intent. Kept where it is not waiting just now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tells waiting clients that some run changed.
    pub fn changed(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
