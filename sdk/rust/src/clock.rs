//! Time and chance, the only place of the SDK that asks for them.

use std::time::{Duration, SystemTime};

/// The wall clock.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Waits. Inside a component the host wakes the instance; no CPU is used.
pub fn sleep(duration: Duration) {
    #[cfg(target_arch = "wasm32")]
    {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        wasip2::clocks::monotonic_clock::subscribe_duration(nanos).block();
    }
    #[cfg(not(target_arch = "wasm32"))]
    std::thread::sleep(duration);
}

/// A random fraction in `[0, 1)`, for jitter; not for cryptography.
pub fn chance() -> f64 {
    #[cfg(target_arch = "wasm32")]
    let random = wasip2::random::insecure::get_insecure_random_u64();
    #[cfg(not(target_arch = "wasm32"))]
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
    // 53 bits are what a double holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
