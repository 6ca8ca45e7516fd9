//! What plugins used, counted over the life of the process: for metrics.
//!
//! Must never grow without bound, whatever plugins call themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::error::PluginError;

/// Most plugins that are counted each by itself; the calls of further ones are counted together.
const MAX_PLUGINS: usize = 256;
/// The name under which further ones are counted.
const OTHERS: &str = "others";

/// What one plugin used since the process began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginStats {
    /// Calls that ended.
    pub calls: u64,
    /// Instances that run now.
    pub running: u64,
    /// Time spent computing, waiting left out.
    pub cpu: Duration,
    /// Most linear memory of one instance, in bytes.
    pub peak_memory_bytes: u64,
    /// Calls that the host had to end, by why: `trap`, `exit`, `deadline`, `cpu`, `memory`, `denied`.
    pub ended: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<BTreeMap<String, PluginStats>>);

impl Stats {
    /// Counts an instance until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, plugin: &str) -> Counted {
        let mut known = self.lock();
        let name = if known.contains_key(plugin) || known.len() < MAX_PLUGINS { plugin } else { OTHERS };
        known.entry(name.to_owned()).or_default().running += 1;
        Counted { stats: self.clone(), plugin: name.to_owned() }
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<String, PluginStats> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PluginStats>> {
        // Plain counters that no panic leaves half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running instance.
pub(crate) struct Counted {
    stats: Arc<Stats>,
    plugin: String,
}

impl Counted {
    /// Adds what a call used, and why it was ended where it did not end by itself.
    pub(crate) fn ended(&self, cpu: Duration, memory_bytes: usize, error: Option<&PluginError>) {
        let mut known = self.stats.lock();
        let stats = known.entry(self.plugin.clone()).or_default();
        stats.calls += 1;
        stats.cpu += cpu;
        stats.peak_memory_bytes = stats.peak_memory_bytes.max(memory_bytes as u64);
        if let Some(why) = error.and_then(why) {
            *stats.ended.entry(why).or_default() += 1;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(stats) = self.stats.lock().get_mut(&self.plugin) {
            stats.running = stats.running.saturating_sub(1);
        }
    }
}

fn why(error: &PluginError) -> Option<&'static str> {
    match error {
        PluginError::Trap { .. } => Some("trap"),
        PluginError::Exit { .. } => Some("exit"),
        PluginError::Deadline { .. } => Some("deadline"),
        PluginError::CpuBudget { .. } => Some("cpu"),
        PluginError::Memory { .. } => Some("memory"),
        PluginError::NotGranted { .. } | PluginError::Denied(_) => Some("denied"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up_and_names_are_bounded() {
        let stats = Arc::new(Stats::default());
        let first = stats.begin("p");
        let second = stats.begin("p");
        first.ended(Duration::from_millis(3), 100, None);
        second.ended(
            Duration::from_millis(4),
            50,
            Some(&PluginError::Exit { plugin: "p".into(), call: crate::Call::Read, code: 1 }),
        );
        drop(first);
        let seen = stats.snapshot()["p"].clone();
        assert_eq!((seen.calls, seen.running, seen.cpu), (2, 1, Duration::from_millis(7)));
        assert_eq!((seen.peak_memory_bytes, seen.ended["exit"]), (100, 1));
        let guards: Vec<_> = (0..MAX_PLUGINS + 5).map(|n| stats.begin(&format!("q{n}"))).collect();
        assert_eq!(stats.snapshot().len(), MAX_PLUGINS + 1);
        assert_eq!(stats.snapshot()[OTHERS].running, 6);
        drop(guards);
        assert_eq!(stats.snapshot()[OTHERS].running, 0);
    }
}
