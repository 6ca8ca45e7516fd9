//! What one instance holds on the host's side: its handles, its clocks, its log, its network, its sink.
//!
//! Independent of the API version. Must never outlive one call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use thimble_record::{ErrorKind, Failure};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2::pipe::MemoryInputPipe};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    egress::{Egress, EgressError},
    error::Call,
    limits::Limits,
    log::{LimitedLog, LogLevel},
    memory::MemoryLimiter,
    meter::Meter,
    reading::Reading,
    wasi::{HttpHooks, LineStream},
};

/// The last refusal of egress that nothing successful followed: it explains a failure of the guest better than the
/// guest can, because WASI's HTTP errors hardly carry text.
#[derive(Clone, Default)]
pub(crate) struct Denial(Arc<Mutex<Option<EgressError>>>);

impl Denial {
    /// Notes how the last attempt ended.
    pub(crate) fn note(&self, error: Option<&EgressError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error.filter(|error| error.is_denial()).cloned();
    }

    pub(crate) fn take(&self) -> Option<EgressError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The data of one store.
pub(crate) struct Guest {
    pub(crate) plugin: String,
    pub(crate) call: Call,
    pub(crate) limits: Arc<Limits>,
    pub(crate) memory: MemoryLimiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: Arc<LimitedLog>,
    pub(crate) egress: Egress,
    pub(crate) denial: Denial,
    /// Only inside `read`.
    pub(crate) reading: Option<Reading>,
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: HttpHooks,
}

/// What a guest is made of.
pub(crate) struct GuestParts {
    pub(crate) plugin: String,
    pub(crate) call: Call,
    pub(crate) limits: Arc<Limits>,
    pub(crate) memory_mib: u32,
    /// What the guest reads on standard input.
    pub(crate) preset: Bytes,
    /// The time of day that the guest sees, where it is not the real one.
    pub(crate) now: Option<SystemTime>,
    /// Bytes; standard output is kept that much longer than the log needs, so that no secret is cut in halves.
    pub(crate) longest_secret: usize,
    pub(crate) log: Arc<LimitedLog>,
    pub(crate) egress: Egress,
    pub(crate) reading: Option<Reading>,
}

/// A clock that always shows the same time.
struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl Guest {
    pub(crate) fn new(parts: GuestParts) -> Self {
        let GuestParts { plugin, call, limits, memory_mib, preset, now, longest_secret, log, egress, reading } = parts;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let line_bytes = limits.log.line_bytes.saturating_add(longest_secret);
        // Everything that is not set stays empty: no environment, arguments, files or sockets.
        let mut wasi = WasiCtxBuilder::new();
        if let Some(now) = now {
            wasi.wall_clock(Stopped(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()));
        }
        let wasi = wasi
            .stdin(MemoryInputPipe::new(preset))
            .stdout(LineStream::new(LogLevel::Info, log.clone(), line_bytes))
            .stderr(LineStream::new(LogLevel::Warn, log.clone(), line_bytes))
            .max_random_size(limits.random_bytes)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.header_bytes);
        let denial = Denial::default();
        let hooks = HttpHooks::new(egress.clone(), denial.clone());
        Self {
            plugin,
            call,
            memory: MemoryLimiter::new(&limits, memory_mib),
            meter: Arc::new(Meter::new()),
            limits,
            log,
            egress,
            denial,
            reading,
            table,
            wasi,
            http,
            hooks,
        }
    }

    /// The sink, inside `read`.
    pub(crate) fn reading(&mut self) -> Result<&mut Reading, Failure> {
        let call = self.call;
        self.reading.as_mut().ok_or_else(|| {
            Failure::new(ErrorKind::Refused, format!("the sink takes records in read only, not in {call}"))
        })
    }
}

impl Guest {
    /// Why one write to a connection was refused.
    pub(crate) fn over_net_bytes(&self, found: usize) -> Failure {
        let allowed = self.limits.net_bytes;
        Failure::new(ErrorKind::Refused, format!("a write of {found} bytes is over the limit net_bytes = {allowed}"))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}
