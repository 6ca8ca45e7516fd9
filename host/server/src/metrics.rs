//! Figures for `/metrics` that only the whole program knows: its plugins, its process, its disk.

use std::{path::PathBuf, sync::Arc};

use thimble_control::{Exposition, MetricKind, MetricsSource};
use thimble_plugin::PluginHost;

/// What plugins used.
pub struct PluginMetrics(pub Arc<PluginHost>);

impl MetricsSource for PluginMetrics {
    fn write(&self, to: &mut Exposition) {
        let stats = self.0.stats();
        let mut family = |name: &str, kind, help: &str, value: &dyn Fn(&thimble_plugin::PluginStats) -> f64| {
            to.family(name, kind, help);
            for (plugin, stats) in &stats {
                to.sample(name, &[("plugin", plugin)], value(stats));
            }
        };
        let counter = MetricKind::Counter;
        family("thimble_plugin_calls_total", counter, "Calls that ended.", &|stats| stats.calls as f64);
        family("thimble_plugin_cpu_seconds_total", counter, "Time that its code computed.", &|stats| {
            stats.cpu.as_secs_f64()
        });
        let gauge = MetricKind::Gauge;
        family("thimble_plugin_instances", gauge, "Instances under way.", &|stats| stats.running as f64);
        family("thimble_plugin_memory_peak_bytes", gauge, "Most linear memory of one instance.", &|stats| {
            stats.peak_memory_bytes as f64
        });
        let name = "thimble_plugin_ended_total";
        to.family(name, counter, "Calls that the host ended, by why.");
        for (plugin, stats) in &stats {
            for (reason, count) in &stats.ended {
                to.sample(name, &[("plugin", plugin), ("reason", reason)], *count as f64);
            }
        }
    }
}

/// What this process uses. Names without our prefix are the ones that every Prometheus client library has.
pub struct ProcessMetrics {
    /// The folder whose disk is watched.
    pub data: PathBuf,
}

impl MetricsSource for ProcessMetrics {
    fn write(&self, to: &mut Exposition) {
        let name = "thimble_build_info";
        to.family(name, MetricKind::Gauge, "The version of the program.");
        to.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let mut one = |name: &str, kind, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                to.family(name, kind, help);
                to.sample(name, &[], value);
            }
        };
        let stat = Stat::read();
        let field = |place: fn(&Stat) -> f64| stat.as_ref().map(place);
        one("process_cpu_seconds_total", MetricKind::Counter, "CPU time, user and system.", field(|stat| stat.cpu));
        one("process_resident_memory_bytes", MetricKind::Gauge, "Memory in RAM.", field(|stat| stat.resident));
        one("process_virtual_memory_bytes", MetricKind::Gauge, "Memory mapped.", field(|stat| stat.mapped));
        one("process_threads", MetricKind::Gauge, "Threads.", field(|stat| stat.threads));
        let fds = std::fs::read_dir("/proc/self/fd").ok().map(|folder| folder.count() as f64);
        one("process_open_fds", MetricKind::Gauge, "Open files and sockets.", fds);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        one("process_max_fds", MetricKind::Gauge, "Open files and sockets at most.", limit.map(|limit| limit as f64));
        if let Ok(disk) = rustix::fs::statvfs(&self.data) {
            let bytes = |blocks: u64| Some(blocks as f64 * disk.f_frsize as f64);
            let gauge = MetricKind::Gauge;
            one("thimble_disk_size_bytes", gauge, "Size of the data folder's disk.", bytes(disk.f_blocks));
            one("thimble_disk_free_bytes", gauge, "What is free there for this process.", bytes(disk.f_bavail));
        }
    }
}

/// What the kernel says of the process.
struct Stat {
    cpu: f64,
    threads: f64,
    mapped: f64,
    resident: f64,
}

impl Stat {
    /// `None` where there is no `/proc`.
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in parentheses, which may hold spaces; proc(5) counts from 1.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |place: usize| fields.get(place - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu: (number(14)? + number(15)?) / ticks,
            threads: number(20)?,
            mapped: number(23)?,
            resident: number(24)? * rustix::param::page_size() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let spent: u64 = (0..50_000_000u64).fold(0, |sum, n| sum ^ n.wrapping_mul(31));
        assert_ne!(spent, 1);
        let stat = Stat::read().unwrap();
        assert!(stat.cpu > 0.0 && stat.threads >= 1.0 && stat.mapped > stat.resident && stat.resident > 1e6);
        let mut text = Exposition::default();
        ProcessMetrics { data: std::env::temp_dir() }.write(&mut text);
        let text = text.finish();
        for name in ["thimble_build_info{", "process_open_fds ", "process_max_fds ", "thimble_disk_free_bytes "] {
            assert!(text.contains(&format!("\n{name}")), "{name} is not in {text}");
        }
    }
}
