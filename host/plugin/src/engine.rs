//! The one wasmtime engine of a process, and the clock that interrupts its guests.
//!
//! Must give the compiling child exactly the settings of the running host, else compiled code does not fit.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, Strategy, WasmFeatures};

use crate::{error::PluginError, limits::Limits, stats::Stats};

/// Time between two looks at whether a computing guest should yield or stop.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Stack that host functions get beyond the guest's own: TLS and decoding run on it.
const HOST_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(16).expect("16 is not zero");

/// What the code depends on besides wasmtime's version. Travels to the compiling child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EngineSettings {
    pub stack_bytes: usize,
}

impl EngineSettings {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { stack_bytes: limits.stack_kib.saturating_mul(1024) }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .strategy(Strategy::Cranelift)
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            .max_wasm_stack(self.stack_bytes)
            .async_stack_size(self.stack_bytes.saturating_add(HOST_STACK_BYTES))
            .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
            .shared_memory(false)
            .concurrency_support(false)
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .memory_init_cow(true);
        for feature in [
            WasmFeatures::THREADS,
            WasmFeatures::SHARED_EVERYTHING_THREADS,
            WasmFeatures::MEMORY64,
            WasmFeatures::GC,
            WasmFeatures::FUNCTION_REFERENCES,
            WasmFeatures::STACK_SWITCHING,
            WasmFeatures::EXCEPTIONS,
            WasmFeatures::RELAXED_SIMD,
            WasmFeatures::CUSTOM_PAGE_SIZES,
        ] {
            config.wasm_features(feature, false);
        }
        config
    }

    /// An engine with these settings.
    pub(crate) fn engine(&self) -> Result<Engine, PluginError> {
        Engine::new(&self.config()).map_err(|error| PluginError::runtime("start", format!("{error:#}")))
    }
}

/// Hex digest of everything that compiled code depends on: wasmtime's version, the target, the settings.
pub(crate) fn code_digest(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex::encode(hasher.0.finalize())
}

/// The engine and its clock, shared by everything that runs plugins.
pub(crate) struct Runtime {
    engine: Engine,
    clock: Arc<Clock>,
    stats: Arc<Stats>,
}

/// The clock rests while no guest runs, so that an idle host does not wake 200 times a second.
#[derive(Default)]
struct Clock {
    state: Mutex<ClockState>,
    changed: Condvar,
}

#[derive(Default)]
struct ClockState {
    running: usize,
    closed: bool,
}

impl Runtime {
    /// Starts the engine and the thread of its clock.
    pub(crate) fn new(settings: &EngineSettings) -> Result<Self, PluginError> {
        let engine = settings.engine()?;
        let clock = Arc::new(Clock::default());
        let (for_thread, weak) = (clock.clone(), engine.weak());
        std::thread::Builder::new()
            .name("thimble-epoch".into())
            .spawn(move || tick(&for_thread, &weak))
            .map_err(|error| PluginError::runtime("start its clock", error))?;
        Ok(Self { engine, clock, stats: Arc::default() })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What plugins used.
    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Keeps the clock going until the guard is dropped.
    pub(crate) fn enter(&self) -> Running {
        self.clock.state.lock().unwrap_or_else(PoisonError::into_inner).running += 1;
        self.clock.changed.notify_all();
        Running { clock: self.clock.clone() }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.clock.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.clock.changed.notify_all();
    }
}

/// Held while a guest may run.
pub(crate) struct Running {
    clock: Arc<Clock>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clock.state.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
    }
}

fn tick(clock: &Clock, engine: &EngineWeak) {
    loop {
        {
            let mut state = clock.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.running == 0 && !state.closed {
                state = clock.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Guests that outlive the runtime keep their clock.
            if state.running == 0 && state.closed {
                return;
            }
        }
        std::thread::sleep(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn code_of_one_engine_fits_another_of_the_same_settings() {
        let settings = EngineSettings::new(&Limits::default());
        let digest = code_digest(&settings.engine().unwrap());
        assert_eq!(digest, code_digest(&settings.engine().unwrap()));
        assert_eq!(digest.len(), 64);
        let mut other = settings.config();
        other.epoch_interruption(false);
        assert_ne!(digest, code_digest(&Engine::new(&other).unwrap()));
    }

    #[test]
    fn what_plugins_cannot_have_does_not_compile() {
        let engine = EngineSettings::new(&Limits::default()).engine().unwrap();
        for module in [
            "(module (memory 1 1 shared))",
            "(module (memory i64 1))",
            "(module (type (struct)))",
            "(module (tag))",
            "(module (memory 1 (pagesize 1)))",
        ] {
            let wasm = wat::parse_str(module).unwrap();
            assert!(engine.precompile_module(&wasm).is_err(), "{module}");
        }
        engine.precompile_module(&wat::parse_str("(module (memory 1))").unwrap()).unwrap();
    }
}
