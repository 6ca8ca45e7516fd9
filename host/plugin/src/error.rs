//! What can go wrong with a plugin, named by what the reader can do about it.
//!
//! Must never carry a secret: guest messages are scrubbed before they get here.

use std::{fmt, path::PathBuf};

use thimble_record::{ErrorKind, Failure};

use crate::{egress::EgressError, inspect::WORLD};

/// The call of a connector during which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Spec,
    Check,
    Discover,
    Plan,
    Read,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spec => "spec",
            Self::Check => "check",
            Self::Discover => "discover",
            Self::Plan => "plan",
            Self::Read => "read",
        })
    }
}

/// A failure of installing, loading or running a plugin. `plugin` is the name that the plugin gives itself, or the
/// first 12 digits of its digest where it was not asked yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The connector's own typed error.
    #[error("{0}")]
    Connector(Failure),

    // Refused at install, before anything is compiled.
    #[error("the file is not a WebAssembly component: {found}")]
    NotAComponent { found: String },
    #[error("the file is precompiled code, which is never run: install the component (.wasm) that it was made from")]
    Precompiled,
    #[error("the file is {bytes} bytes long, more than the limit component_bytes = {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the preset of the component is {bytes} bytes long, more than the limit preset_bytes = {limit}")]
    PresetTooLarge { bytes: usize, limit: usize },
    #[error("the file is damaged: {reason}")]
    Malformed { reason: String },
    #[error(
        "the component does not say which API it was built for (no custom section thimble:api-version): build it with the Thimble SDK"
    )]
    NoApiVersion,
    #[error(
        "the plugin was built for API {plugin} and this host speaks {host}: install a build of the plugin for {host}, or a host for {plugin}"
    )]
    VersionMismatch { plugin: String, host: String },
    #[error("the component imports what no plugin may use: {}", names.join(", "))]
    UnknownImport { names: Vec<String> },
    #[error("the component does not export {WORLD}, so it is not a source connector")]
    MissingExport,
    #[error("the component does not fit API {version}: {reason}")]
    Mismatch { version: String, reason: String },
    #[error("compiling the component crossed the limit {limit}: it is too large or built to be slow to compile")]
    CompileLimit { limit: String },
    #[error("the component cannot be compiled: {reason}")]
    Compile { reason: String },
    #[error("the compiler process {program} did not run: {reason}")]
    Compiler { program: PathBuf, reason: String },

    // While a call runs.
    #[error("plugin {plugin} crashed in {call}: {reason}")]
    Trap { plugin: String, call: Call, reason: String },
    #[error("plugin {plugin} ended the program in {call} with code {code} instead of returning")]
    Exit { plugin: String, call: Call, code: i32 },
    #[error("plugin {plugin} took longer in {call} than the limit {limit} = {milliseconds} allows")]
    Deadline { plugin: String, call: Call, limit: &'static str, milliseconds: u64 },
    #[error("plugin {plugin} computed longer in {call} than the limit {limit} = {milliseconds} allows")]
    CpuBudget { plugin: String, call: Call, limit: &'static str, milliseconds: u64 },
    #[error("plugin {plugin} needs more in {call} than the limit {limit} = {allowed} allows")]
    Memory { plugin: String, call: Call, limit: &'static str, allowed: u64 },
    #[error("plugin {plugin} crossed a limit in {call}: {what} is {found}, more than {limit} = {allowed}")]
    Limit { plugin: String, call: Call, what: String, found: u64, limit: &'static str, allowed: u64 },
    #[error("plugin {plugin} gave an answer to {call} that breaks the API: {reason}")]
    Answer { plugin: String, call: Call, reason: String },
    #[error("host {host} is not granted to plugin {plugin}; grant it with: thimble plugin grant {plugin} {host}")]
    NotGranted { plugin: String, host: String },
    #[error("{0}")]
    Denied(#[source] EgressError),

    // The host's own side.
    #[error("plugin {digest} is not installed: run `thimble plugin install FILE`")]
    NotInstalled { digest: String },
    #[error("{path} does not hold the plugin that its name says: install the plugin again")]
    Damaged { path: PathBuf },
    #[error("{doing} {path} failed: {source}")]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the plugin runtime could not {doing}: {reason}")]
    Runtime { doing: &'static str, reason: String },
}

impl PluginError {
    /// The same as it is stored and decided upon.
    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::Connector(failure) => return failure.clone(),
            Self::Denied(denial) => return denial.failure(),
            Self::NotAComponent { .. }
            | Self::Precompiled
            | Self::TooLarge { .. }
            | Self::PresetTooLarge { .. }
            | Self::Malformed { .. }
            | Self::NoApiVersion
            | Self::VersionMismatch { .. }
            | Self::UnknownImport { .. }
            | Self::MissingExport
            | Self::Mismatch { .. }
            | Self::CompileLimit { .. }
            | Self::Compile { .. }
            | Self::CpuBudget { .. }
            | Self::Memory { .. }
            | Self::Limit { .. }
            | Self::NotGranted { .. } => ErrorKind::Refused,
            Self::NotInstalled { .. } | Self::Damaged { .. } => ErrorKind::Config,
            // A source that answers slowly may answer faster next time.
            Self::Deadline { .. } => ErrorKind::Transient,
            Self::Trap { .. }
            | Self::Exit { .. }
            | Self::Answer { .. }
            | Self::Compiler { .. }
            | Self::Io { .. }
            | Self::Runtime { .. } => ErrorKind::System,
        };
        Failure::new(kind, self.to_string())
    }

    pub(crate) fn runtime(doing: &'static str, error: impl fmt::Display) -> Self {
        Self::Runtime { doing, reason: error.to_string() }
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        error.failure()
    }
}
