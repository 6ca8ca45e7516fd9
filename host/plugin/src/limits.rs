//! Every limit of the plugin runtime (egress has its own set in [`crate::egress::EgressLimits`]), by name, with
//! its default.
//!
//! Must never hold a limit that nothing enforces: each is crossed by a test.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{egress::EgressLimits, log::LogLimits};

/// One mebibyte.
pub(crate) const MIB: usize = 1024 * 1024;

/// Limits of the plugin runtime. Absent fields take their defaults; unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Size of a component file. Default 64 MiB.
    pub component_bytes: usize,
    /// Size of the preset that a component carries. Default 4 MiB.
    pub preset_bytes: usize,
    /// Wall-clock milliseconds that compiling may take. Default 60,000.
    pub compile_timeout_ms: u64,
    /// CPU seconds that compiling may take, over all threads. Default 120.
    pub compile_cpu_seconds: u64,
    /// Address space of the compiling process, in MiB. Default 2,048.
    pub compile_memory_mib: u64,
    /// Size of the compiled code. Default 256 MiB.
    pub code_bytes: usize,
    /// Components compiled at the same time. Default 1.
    pub parallel_compiles: usize,

    /// Linear memory over all memories of one instance, in MiB, where the plugin asks for none. Default 256.
    pub memory_mib: u32,
    /// Most linear memory that a plugin may ask for, in MiB. Default 1,024.
    pub max_memory_mib: u32,
    /// Elements over all tables of one instance. Default 200,000.
    pub table_elements: usize,
    /// Linear memories of one instance. Default 32.
    pub memories: usize,
    /// Tables of one instance. Default 64.
    pub tables: usize,
    /// Core instances of one component. Default 256.
    pub core_instances: usize,
    /// Stack of the guest, in KiB. Default 1,024.
    pub stack_kib: usize,
    /// Bytes that may cross from the guest to the host in one call. Default 8 MiB.
    pub hostcall_bytes: usize,
    /// Resources (streams, requests, connections, pollables…) that an instance may hold. Default 1,024.
    pub handles: usize,
    /// Headers of one HTTP message, in bytes of host memory. Default 128 KiB.
    pub header_bytes: usize,
    /// Random bytes of one call to `wasi:random`. Default 64 KiB.
    pub random_bytes: u64,

    /// Wall-clock milliseconds of one `spec`. Default 10,000.
    pub spec_deadline_ms: u64,
    /// Wall-clock milliseconds of one `check`. Default 60,000.
    pub check_deadline_ms: u64,
    /// Wall-clock milliseconds of one `discover`. Default 600,000.
    pub discover_deadline_ms: u64,
    /// Wall-clock milliseconds of one `plan`. Default 1,800,000.
    pub plan_deadline_ms: u64,
    /// Wall-clock milliseconds of one `read`. Default 24 hours.
    pub read_deadline_ms: u64,
    /// CPU milliseconds of a call other than `read`. Default 60,000.
    pub call_cpu_ms: u64,
    /// CPU milliseconds of one `read`. Default 6 hours.
    pub read_cpu_ms: u64,

    /// One batch of `sink.emit`. Default 4 MiB.
    pub batch_bytes: usize,
    /// Records of one `sink.reject`. Default 10,000.
    pub rejected_records: usize,
    /// One checkpoint, or the next state of a plan. Default 1 MiB.
    pub state_bytes: usize,
    /// One error, answer of `check`, or title of a spec; errors and answers are cut, not refused. Default 4 KiB.
    pub message_bytes: usize,
    /// Markdown of a spec. Default 64 KiB.
    pub docs_bytes: usize,
    /// JSON Schema of a spec. Default 256 KiB.
    pub schema_bytes: usize,
    /// Hosts and secrets that a spec may ask for. Default 1,000.
    pub permissions: usize,
    /// Streams of a catalog. Default 10,000.
    pub streams: usize,
    /// Name of a stream or of a field. Default 255.
    pub name_bytes: usize,
    /// Fields of a stream. Default 10,000.
    pub fields: usize,
    /// Partitions of a plan. Default 100,000.
    pub partitions: usize,
    /// Id of a partition. Default 1 KiB.
    pub partition_id_bytes: usize,
    /// Descriptor of a partition, which may have to hand a state on. Default 1 MiB.
    pub descriptor_bytes: usize,
    /// One call of `net.connection.read` or `write`. Default 1 MiB.
    pub net_bytes: usize,

    /// Rate and length of log lines.
    pub log: LogLimits,
    /// Bytes, headers and times of network traffic.
    pub egress: EgressLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 64 * MIB,
            preset_bytes: 4 * MIB,
            compile_timeout_ms: 60_000,
            compile_cpu_seconds: 120,
            compile_memory_mib: 2048,
            code_bytes: 256 * MIB,
            parallel_compiles: 1,
            memory_mib: 256,
            max_memory_mib: 1024,
            table_elements: 200_000,
            memories: 32,
            tables: 64,
            core_instances: 256,
            stack_kib: 1024,
            hostcall_bytes: 8 * MIB,
            handles: 1024,
            header_bytes: 128 * 1024,
            random_bytes: 64 * 1024,
            spec_deadline_ms: 10_000,
            check_deadline_ms: 60_000,
            discover_deadline_ms: 600_000,
            plan_deadline_ms: 1_800_000,
            read_deadline_ms: 24 * 3_600_000,
            call_cpu_ms: 60_000,
            read_cpu_ms: 6 * 3_600_000,
            batch_bytes: 4 * MIB,
            rejected_records: 10_000,
            state_bytes: MIB,
            message_bytes: 4 * 1024,
            docs_bytes: 64 * 1024,
            schema_bytes: 256 * 1024,
            permissions: 1_000,
            streams: 10_000,
            name_bytes: 255,
            fields: 10_000,
            partitions: 100_000,
            partition_id_bytes: 1024,
            descriptor_bytes: 1024 * 1024,
            net_bytes: MIB,
            log: LogLimits::default(),
            egress: EgressLimits::default(),
        }
    }
}

impl Limits {
    /// How long a call may take by the clock, and on the CPU.
    pub(crate) fn budget(&self, call: crate::error::Call) -> (Duration, Duration) {
        use crate::error::Call;
        let (wall, cpu) = match call {
            Call::Spec => (self.spec_deadline_ms, self.call_cpu_ms),
            Call::Check => (self.check_deadline_ms, self.call_cpu_ms),
            Call::Discover => (self.discover_deadline_ms, self.call_cpu_ms),
            Call::Plan => (self.plan_deadline_ms, self.call_cpu_ms),
            Call::Read => (self.read_deadline_ms, self.read_cpu_ms),
        };
        (Duration::from_millis(wall), Duration::from_millis(cpu))
    }
}
