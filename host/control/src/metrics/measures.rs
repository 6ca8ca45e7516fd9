//! What this process measures of runs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use thimble_store::{RunRow, RunStatus};

use super::exposition::{Exposition, Kind};

const DURATIONS: [f64; 11] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
const DELAYS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0];

/// Counts values by upper bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Of each bound by itself, and of what is beyond them.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one; bounds go up.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// One that was counted elsewhere: of each bound by itself, and of what is beyond them.
    pub fn of(bounds: &'static [f64], counts: &[u64], sum: f64) -> Self {
        let mut counts = counts.to_vec();
        counts.resize(bounds.len() + 1, 0);
        Self { bounds, counts, sum }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place] += 1;
        self.sum += value;
    }

    /// Adds its samples to the family `name`, which was begun as a histogram.
    pub fn write(&self, to: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (place, count) in self.counts.iter().enumerate() {
            sum += count;
            let bound = self.bounds.get(place).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            to.sample(&bucket, &labels, sum as f64);
        }
        to.sample(&format!("{name}_sum"), labels, self.sum);
        to.sample(&format!("{name}_count"), labels, sum as f64);
    }
}

/// Times of the runs that this process executed.
#[derive(Debug)]
pub struct Measures(Mutex<Times>);

#[derive(Debug)]
struct Times {
    durations: BTreeMap<(String, &'static str), Histogram>,
    delays: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Self(Mutex::new(Times { durations: BTreeMap::new(), delays: Histogram::new(&DELAYS) }))
    }
}

impl Measures {
    fn lock(&self) -> std::sync::MutexGuard<'_, Times> {
        // Plain counters that no panic leaves half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run began.
    pub(crate) fn started(&self, run: &RunRow) {
        let could = run.slot.or(run.not_before).unwrap_or(run.queued_at);
        let Some(started_at) = run.started_at else { return };
        self.lock().delays.observe((started_at - could).max(0) as f64 / 1_000.0);
    }

    /// A run ended.
    pub(crate) fn ended(&self, run: &RunRow) {
        let (Some(started_at), Some(finished_at)) = (run.started_at, run.finished_at) else { return };
        let status = match run.status {
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::Interrupted => "interrupted",
            RunStatus::Queued | RunStatus::Running => return,
        };
        let kind = serde_json::to_value(run.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
        let mut times = self.lock();
        let durations = times.durations.entry((kind.unwrap_or_default(), status));
        let durations = durations.or_insert_with(|| Histogram::new(&DURATIONS));
        durations.observe((finished_at - started_at).max(0) as f64 / 1_000.0);
    }

    pub(super) fn write(&self, to: &mut Exposition) {
        let times = self.lock();
        let name = "thimble_run_duration_seconds";
        to.family(name, Kind::Histogram, "How long runs of this process took.");
        for ((kind, status), histogram) in &times.durations {
            histogram.write(to, name, &[("kind", kind), ("status", status)]);
        }
        let name = "thimble_run_start_delay_seconds";
        to.family(name, Kind::Histogram, "How long after its time a run of this process began.");
        times.delays.write(to, name, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_to_the_count() {
        static BOUNDS: [f64; 2] = [1.0, 2.0];
        let mut histogram = Histogram::new(&BOUNDS);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let mut text = Exposition::default();
        histogram.write(&mut text, "h", &[("k", "v")]);
        let text = text.finish();
        let expected = "h_bucket{k=\"v\",le=\"1\"} 2\nh_bucket{k=\"v\",le=\"2\"} 3\nh_bucket{k=\"v\",le=\"+Inf\"} 4\nh_sum{k=\"v\"} 12\nh_count{k=\"v\"} 4\n";
        assert!(text.starts_with(expected), "{text}");
    }
}
