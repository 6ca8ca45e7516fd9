//! Keeps the process small when it is idle.
//!
//! glibc's allocator keeps what was freed: after syncs of 200 MB an idle server showed 160 MB. mimalloc was
//! measured in its place and kept 208 MB.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "two calls of the C library without pointers")]
mod system {
    /// Arenas by default: eight a core, each of which keeps memory of its own.
    const MAX_ARENAS_PER_CORE: usize = 1;

    /// Bounds the number of arenas. Call it before the first thread starts.
    pub fn bound_arenas() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(cores * MAX_ARENAS_PER_CORE).unwrap_or(libc::c_int::MAX).max(2);
        // SAFETY: mallopt takes two integers and may be called at any time.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    }

    /// Gives freed memory back. Takes milliseconds: call it when a run has ended.
    pub fn give_back() {
        // SAFETY: malloc_trim takes an integer, locks each arena itself, and may be called by any thread.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    /// Nothing to do here.
    pub fn bound_arenas() {}

    /// Nothing to do here.
    pub fn give_back() {}
}

pub use system::bound_arenas;
use system::give_back;

/// How long after a run memory is given back; the runs that end meanwhile are served together.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);

/// Gives freed memory back a little later, off the async threads; nobody needs to wait for it.
pub fn give_back_soon() {
    static PENDING: AtomicBool = AtomicBool::new(false);
    if PENDING.swap(true, Ordering::Relaxed) {
        return;
    }
    tokio::spawn(async {
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        PENDING.store(false, Ordering::Relaxed);
        drop(tokio::task::spawn_blocking(give_back));
    });
}

/// Of the machine's memory, what runs may take where the operator does not say: the rest is for the host itself, its caches
/// and the file system's.
const SHARE_OF_RUNS: (u64, u64) = (6, 10);

/// Bytes that runs may take together: a share of what the machine or the container has. Everything where that is unknown.
pub fn for_runs() -> u64 {
    let read = |file: &str| std::fs::read_to_string(file).ok();
    // The container's limit by cgroups v2 and v1; `max` and numbers near 2^63 mean none.
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|file| read(file)?.trim().parse().ok());
    let machine = read("/proc/meminfo").and_then(|text| total_bytes(&text));
    let known = [container, machine].into_iter().flatten().min();
    known.map_or(u64::MAX, |bytes| bytes / SHARE_OF_RUNS.1 * SHARE_OF_RUNS.0)
}

/// `MemTotal` of proc_meminfo(5), in kibibytes there.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_get_a_share_of_what_there_is() {
        assert_eq!(total_bytes("MemTotal:       24689912 kB\nMemFree:  1 kB\n"), Some(24_689_912 * 1024));
        assert_eq!(total_bytes("nonsense"), None);
        let share = for_runs();
        assert!(share > 64 << 20 && share < 1 << 50, "{share}");
    }
}
