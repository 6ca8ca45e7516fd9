//! Named places where a test may kill or stop the process: one constant each, one list, one function.
//!
//! `THIMBLE_FAILPOINT=name` aborts at the first hit, `name:3` at the third; `name:3:stop` stops there (SIGSTOP), until the
//! test lets the process go on. Not set, a hit costs one load of a static.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

/// Environment variable that names the place.
pub const VARIABLE: &str = "THIMBLE_FAILPOINT";

pub const AFTER_LEASE: &str = "after-lease";
pub const AFTER_FENCE: &str = "after-fence";
pub const BEFORE_STAGE: &str = "before-stage";
pub const AFTER_STAGE: &str = "after-stage";
pub const BEFORE_SEAL: &str = "before-seal";
pub const AFTER_SEAL: &str = "after-seal";
pub const BEFORE_LOAD: &str = "before-load";
pub const AFTER_LOAD: &str = "after-load";
pub const BEFORE_MIRROR: &str = "before-mirror";
pub const AFTER_MIRROR: &str = "after-mirror";
pub const AFTER_COLLECT: &str = "after-collect";
pub const BEFORE_FINISH: &str = "before-finish";

/// Every name, in the order of the protocol; tests walk through it.
pub const ALL: [&str; 12] = [
    AFTER_LEASE,
    AFTER_FENCE,
    BEFORE_STAGE,
    AFTER_STAGE,
    BEFORE_SEAL,
    AFTER_SEAL,
    BEFORE_LOAD,
    AFTER_LOAD,
    BEFORE_MIRROR,
    AFTER_MIRROR,
    AFTER_COLLECT,
    BEFORE_FINISH,
];

/// What the variable says.
struct Chosen {
    name: String,
    nth: u64,
    stop: bool,
}

static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
static HITS: AtomicU64 = AtomicU64::new(0);

fn chosen() -> Option<&'static Chosen> {
    CHOSEN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()
}

fn parse(value: &str) -> Option<Chosen> {
    let mut parts = value.split(':');
    let name = parts.next()?.to_owned();
    let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
    Some(Chosen { name, nth, stop: parts.next() == Some("stop") })
}

/// If this place was chosen: ends the process without unwinding, destructors or flushes, or stops it.
pub fn hit(name: &'static str) {
    if let Some(chosen) = chosen()
        && chosen.name == name
        && HITS.fetch_add(1, Ordering::Relaxed) + 1 == chosen.nth
    {
        if !chosen.stop {
            std::process::abort();
        }
        kill_process(getpid(), Signal::STOP).expect("a process may stop itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_a_number_and_what_to_do() {
        let parsed = |value| parse(value).map(|Chosen { name, nth, stop }| (name, nth, stop));
        assert_eq!(parsed("after-load"), Some(("after-load".into(), 1, false)));
        assert_eq!(parsed("after-load:3"), Some(("after-load".into(), 3, false)));
        assert_eq!(parsed("before-seal:2:stop"), Some(("before-seal".into(), 2, true)));
    }
}
