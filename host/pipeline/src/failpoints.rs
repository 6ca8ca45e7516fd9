//! Named places where a test may kill the process: one constant each, one list, one function.
//!
//! `THIMBLE_FAILPOINT=name` aborts at the first hit, `name:3` at the third. Not set, a hit costs one load of a static.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

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

static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
static HITS: AtomicU64 = AtomicU64::new(0);

fn chosen() -> Option<&'static (String, u64)> {
    let parse = || {
        let value = std::env::var(VARIABLE).ok()?;
        let (name, hit) = value.split_once(':').unwrap_or((&value, "1"));
        Some((name.to_owned(), hit.parse().unwrap_or(1)))
    };
    CHOSEN.get_or_init(parse).as_ref()
}

/// Ends the process without unwinding, destructors or flushes if this place was chosen.
pub fn hit(name: &'static str) {
    if let Some((wanted, nth)) = chosen()
        && wanted == name
        && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        std::process::abort();
    }
}
