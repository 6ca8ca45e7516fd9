//! Runs one call of a plugin: makes the store, holds the call to its deadline and its CPU time, and turns every way
//! that it can end into one typed result.
//!
//! Independent of the API version. Must never let an instance serve two calls.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use thimble_record::Failure;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use crate::{
    connector::{Session, Spec},
    egress::{EgressError, EgressParts, Policy, PrivateNetworks, Shared, TlsRoots},
    engine::Runtime,
    error::{Call, PluginError},
    guest::{Guest, GuestParts},
    host::Code,
    limits::Limits,
    log::{LimitedLog, LogLevel, LogSink, clean},
    reading::Reading,
    secrets::Secrets,
};

/// Digits of a digest that stand for a plugin whose name is not known.
const DIGEST_DIGITS: usize = 12;

/// What the callback of the clock ends a guest with.
#[derive(Debug, thiserror::Error)]
#[error("the CPU time of the call is used up")]
struct CpuTimeUp;

/// What the operator set about the network for all plugins.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) private: PrivateNetworks,
    pub(crate) roots: TlsRoots,
    pub(crate) shared: Arc<Shared>,
}

/// A loaded plugin, as far as it does not depend on the API version.
pub(crate) struct Plugin {
    runtime: Arc<Runtime>,
    limits: Arc<Limits>,
    network: Network,
    digest: String,
    /// What every instance reads on standard input.
    preset: Bytes,
    /// Held so that plugins that are opened later share it.
    _code: Arc<Code>,
    /// Known after the first `spec`.
    spec: OnceLock<Spec>,
}

/// How a guest's function ended: its value or its own error.
pub(crate) type Returned<R> = wasmtime::Result<Result<R, Failure>>;

impl Plugin {
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        limits: Arc<Limits>,
        network: Network,
        digest: String,
        preset: Bytes,
        code: Arc<Code>,
    ) -> Self {
        Self { runtime, limits, network, digest, preset, _code: code, spec: OnceLock::new() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The spec, where it was asked for already.
    pub(crate) fn known_spec(&self) -> Option<&Spec> {
        self.spec.get()
    }

    pub(crate) fn learn_spec(&self, spec: Spec) -> Spec {
        self.spec.get_or_init(|| spec).clone()
    }

    /// The name for messages.
    pub(crate) fn label(&self) -> String {
        match self.spec.get() {
            Some(spec) => spec.name.clone(),
            None => self.digest[..DIGEST_DIGITS.min(self.digest.len())].to_owned(),
        }
    }

    /// MiB of linear memory over all memories of an instance.
    fn memory_mib(&self) -> u32 {
        let asked = self.spec.get().and_then(|spec| spec.permissions.memory_mib);
        asked.unwrap_or(self.limits.memory_mib).min(self.limits.max_memory_mib)
    }

    /// Runs `work` in a store of its own. Dropping the future ends the guest at its next clock tick or host call.
    pub(crate) async fn run<R, F>(
        &self,
        call: Call,
        session: Option<&Session>,
        reading: Option<Reading>,
        work: F,
    ) -> Result<R, PluginError>
    where
        R: Send,
        F: for<'a> FnOnce(&'a mut Store<Guest>) -> BoxFuture<'a, Returned<R>> + Send,
    {
        let secrets = session.map(|session| session.secrets.clone()).unwrap_or_default();
        let (wall, cpu) = self.limits.budget(call);
        let mut store = self.store(call, session, &secrets, reading, cpu)?;
        let meter = store.data().meter.clone();
        let running = self.runtime.enter();
        let counted = self.runtime.stats().begin(&store.data().plugin);
        // A panic of the host's own functions is a defect of ours, and ends this call only.
        let caught = AssertUnwindSafe(meter.charge(work(&mut store))).catch_unwind();
        let ended = tokio::time::timeout(wall, caught).await;
        drop(running);
        let ended = match ended {
            Ok(Err(_panic)) => return Err(PluginError::runtime("serve a plugin", "a function of the host panicked")),
            Ok(Ok(returned)) => Some(returned),
            Err(_elapsed) => None,
        };
        let guest = store.data();
        let result = match ended {
            Some(Ok(Ok(value))) => match guest.reading.as_ref().and_then(Reading::failed) {
                // The guest returned `ok` over an error of the sink.
                Some(failure) => Err(PluginError::Connector(failure.clone())),
                None => Ok(value),
            },
            Some(Ok(Err(failure))) => Err(guest_failed(guest, failure, &secrets)),
            Some(Err(error)) => Err(trapped(guest, &error, &secrets, cpu)),
            None => Err(PluginError::Deadline {
                plugin: guest.plugin.clone(),
                call,
                limit: deadline_name(call),
                milliseconds: wall.as_millis() as u64,
            }),
        };
        counted.ended(meter.used(), guest.memory.used_bytes(), result.as_ref().err());
        result
    }

    fn store(
        &self,
        call: Call,
        session: Option<&Session>,
        secrets: &Secrets,
        reading: Option<Reading>,
        cpu: Duration,
    ) -> Result<Store<Guest>, PluginError> {
        let plugin = self.label();
        let sink: Arc<dyn LogSink> = match session {
            Some(session) => session.log.clone(),
            None => Arc::new(HostLog { plugin: plugin.clone() }),
        };
        let log = Arc::new(LimitedLog::new(sink, secrets.clone(), self.limits.log.clone(), Instant::now));
        let policy = Policy {
            plugin: plugin.clone(),
            grants: session.map(|session| session.grants.clone()).unwrap_or_default(),
            private: self.network.private.clone(),
        };
        let mut egress = EgressParts::new(policy, secrets.clone(), self.limits.egress.clone(), log.clone());
        egress.roots = self.network.roots.clone();
        egress.shared = self.network.shared.clone();
        egress.run = session.map(|session| session.services.clone()).unwrap_or_default();
        egress.deadline = Some(tokio::time::Instant::now() + self.limits.budget(call).0);
        egress.rehearsal = session.map(|session| session.rehearsal.clone()).unwrap_or_default();
        let now = egress.rehearsal.now;
        if let Some(now) = now {
            egress.clock = Arc::new(move || now);
        }
        let guest = Guest::new(GuestParts {
            plugin,
            call,
            limits: self.limits.clone(),
            memory_mib: self.memory_mib(),
            preset: self.preset.clone(),
            now,
            // A token that is learned later may be spelt with three characters for each of its own.
            longest_secret: secrets.longest().max(self.limits.egress.token_bytes.saturating_mul(3)),
            log,
            egress: egress.into(),
            reading,
        });
        let mut store = Store::new(self.runtime.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(self.limits.hostcall_bytes);
        store.set_max_component_handles(self.limits.handles);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |store| {
            if store.data().meter.used() > cpu {
                return Err(CpuTimeUp.into());
            }
            // Every tick gives the other tasks of this thread their turn. Tokio's own yield lets its timers and
            // sockets go first; wasmtime's plain one would be polled again before them.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        Ok(store)
    }
}

fn deadline_name(call: Call) -> &'static str {
    match call {
        Call::Spec => "spec_deadline_ms",
        Call::Check => "check_deadline_ms",
        Call::Discover => "discover_deadline_ms",
        Call::Plan => "plan_deadline_ms",
        Call::Read => "read_deadline_ms",
    }
}

/// The guest's own error, or the refusal that it stumbled over.
fn guest_failed(guest: &Guest, failure: Failure, secrets: &Secrets) -> PluginError {
    if let Some(failure) = guest.reading.as_ref().and_then(Reading::failed) {
        return PluginError::Connector(failure.clone());
    }
    match guest.denial.take() {
        Some(denial) => refused(denial),
        None => {
            let Failure { kind, message, retry_after_ms } = failure;
            let message = clean(&message, guest.limits.message_bytes, secrets);
            PluginError::Connector(Failure { kind, message, retry_after_ms })
        }
    }
}

fn refused(denial: EgressError) -> PluginError {
    match denial {
        EgressError::NotGranted { plugin, host, port } => {
            PluginError::NotGranted { plugin, host: format!("{host}:{port}") }
        }
        other => PluginError::Denied(other),
    }
}

/// What ended a guest that did not return.
fn trapped(guest: &Guest, error: &wasmtime::Error, secrets: &Secrets, cpu: Duration) -> PluginError {
    // A guest that cannot cope with the sink's error says less than the error itself.
    if let Some(failure) = guest.reading.as_ref().and_then(Reading::failed) {
        return PluginError::Connector(failure.clone());
    }
    let (plugin, call, limits) = (guest.plugin.clone(), guest.call, &guest.limits);
    let cause = error.root_cause().to_string();
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return PluginError::Exit { plugin, call, code: *code };
    }
    if error.is::<CpuTimeUp>() {
        let limit = if call == Call::Read { "read_cpu_ms" } else { "call_cpu_ms" };
        return PluginError::CpuBudget { plugin, call, limit, milliseconds: cpu.as_millis() as u64 };
    }
    let memory = |limit, allowed| PluginError::Memory { plugin: plugin.clone(), call, limit, allowed };
    // wasmtime has no types for these; a test crosses each.
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    if full || cause.contains("handle limit exceeded") {
        memory("handles", limits.handles as u64)
    } else if cause.contains("fuel allocated for hostcalls has been exhausted") {
        memory("hostcall_bytes", limits.hostcall_bytes as u64)
    } else if error.downcast_ref() == Some(&wasmtime::Trap::StackOverflow) {
        memory("stack_kib", limits.stack_kib as u64)
    } else if cause.contains("instance count too high") {
        memory("core_instances", limits.core_instances as u64)
    } else if cause.contains("memory count too high") {
        memory("memories", limits.memories as u64)
    } else if cause.contains("table count too high") {
        memory("tables", limits.tables as u64)
    } else if cause.contains("requested len") {
        memory("random_bytes", limits.random_bytes)
    } else if cause.contains("total size of fields exceeds limit") {
        memory("header_bytes", limits.header_bytes as u64)
    } else if let Some(denied) = guest.memory.denied() {
        // A guest whose allocation failed gives up in its own way.
        memory(denied.limit, denied.allowed)
    } else if let Some(denial) = guest.denial.take() {
        refused(denial)
    } else {
        PluginError::Trap { plugin, call, reason: clean(&cause, limits.message_bytes, secrets) }
    }
}

/// Where the lines of a call without a session go.
struct HostLog {
    plugin: String,
}

impl LogSink for HostLog {
    fn line(&self, level: LogLevel, message: &str) {
        tracing::debug!(plugin = self.plugin, %level, message, "a plugin wrote to its log");
    }
}
