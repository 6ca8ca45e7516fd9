//! Compiles components in a child process.
//!
//! Compiling is outside of wasmtime's safety promise: a file of 1 MiB can take a gigabyte and many seconds. So a
//! process of its own does it, with limits that the kernel keeps, and is killed when its time is up. Must never
//! compile in the host's process.
//!
//! The child reads one line of JSON (its [`Order`]) and then the component on standard input, and writes the code to
//! standard output. It exits with 0, or with [`EXIT_INVALID`] and a sentence on standard error.

use std::{
    io::{BufRead, Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{engine::EngineSettings, error::PluginError, limits::Limits};

/// Exit code for a component that does not compile.
const EXIT_INVALID: u8 = 2;
/// Longest order line.
const MAX_ORDER_BYTES: u64 = 4096;
/// What is kept of the child's standard error.
const MAX_STDERR_BYTES: u64 = 4096;
/// Threads and allocator arenas of the child: what it may reserve must not depend on the machine.
const THREADS: &str = "4";

/// The program that compiles, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// What the child is to do, and within which limits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    engine: EngineSettings,
    memory_bytes: u64,
    cpu_seconds: u64,
    component_bytes: u64,
}

/// Compiles `wasm` in a child; the code, or why not.
pub(crate) async fn compile(
    command: &CompilerCommand,
    limits: &Limits,
    engine: &EngineSettings,
    wasm: &[u8],
) -> Result<Vec<u8>, PluginError> {
    let failed = |reason: String| PluginError::Compiler { program: command.program.clone(), reason };
    let order = Order {
        engine: engine.clone(),
        memory_bytes: limits.compile_memory_mib.saturating_mul(1024 * 1024),
        cpu_seconds: limits.compile_cpu_seconds,
        component_bytes: limits.component_bytes as u64,
    };
    let mut order = serde_json::to_vec(&order).map_err(|error| failed(error.to_string()))?;
    order.push(b'\n');
    let timeout = Duration::from_millis(limits.compile_timeout_ms);
    let Output { status, code, stderr } = match tokio::time::timeout(timeout, run(command, limits, &order, wasm)).await
    {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        // Dropping the child killed it.
        Err(_) => {
            return Err(PluginError::CompileLimit {
                limit: format!("compile_timeout_ms = {}", limits.compile_timeout_ms),
            });
        }
    };
    if code.len() > limits.code_bytes {
        return Err(PluginError::CompileLimit { limit: format!("code_bytes = {}", limits.code_bytes) });
    }
    verdict(status, &stderr, limits, failed)?;
    Ok(code)
}

struct Output {
    status: ExitStatus,
    code: Vec<u8>,
    stderr: String,
}

async fn run(command: &CompilerCommand, limits: &Limits, order: &[u8], wasm: &[u8]) -> std::io::Result<Output> {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .env("RAYON_NUM_THREADS", THREADS)
        .env("MALLOC_ARENA_MAX", THREADS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        process.env("LD_LIBRARY_PATH", path);
    }
    let mut child = process.spawn()?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("its pipes are missing"));
    };
    let write = async move {
        // A child that died early closes its end; its exit status tells why.
        if stdin.write_all(order).await.is_ok() {
            let _ = stdin.write_all(wasm).await;
        }
    };
    let mut code = Vec::new();
    let mut message = Vec::new();
    let mut stdout = stdout.take(limits.code_bytes as u64 + 1);
    let read_code = async {
        let read = stdout.read_to_end(&mut code).await;
        // Closes the pipe, so that a child with more to say ends.
        drop(stdout);
        read
    };
    let mut stderr = stderr.take(MAX_STDERR_BYTES);
    let read_message = stderr.read_to_end(&mut message);
    let ((), code_read, message_read) = tokio::join!(write, read_code, read_message);
    code_read?;
    message_read?;
    drop(stderr);
    let status = child.wait().await?;
    Ok(Output { status, code, stderr: String::from_utf8_lossy(&message).trim().to_owned() })
}

/// What the end of the child means.
fn verdict(
    status: ExitStatus,
    stderr: &str,
    limits: &Limits,
    failed: impl FnOnce(String) -> PluginError,
) -> Result<(), PluginError> {
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    let memory = || PluginError::CompileLimit { limit: format!("compile_memory_mib = {}", limits.compile_memory_mib) };
    let cpu = || PluginError::CompileLimit { limit: format!("compile_cpu_seconds = {}", limits.compile_cpu_seconds) };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code == i32::from(EXIT_INVALID) => Err(PluginError::Compile { reason: stderr.to_owned() }),
        (_, Some(SIGXCPU | SIGKILL)) => Err(cpu()),
        // The allocator's and the thread pool's words when the address space is used up.
        _ if ["memory allocation", "Cannot allocate memory", "Resource temporarily unavailable", "out of memory"]
            .iter()
            .any(|words| stderr.contains(words)) =>
        {
            Err(memory())
        }
        (_, Some(_)) if stderr.contains("overflowed its stack") => {
            Err(PluginError::CompileLimit { limit: "of the compiler's stack".into() })
        }
        _ => Err(failed(format!("it ended with {status}: {}", stderr.lines().next().unwrap_or("without a word")))),
    }
}

/// The body of the compiling child. Call it before anything else in the process: it starts no runtime and reads no
/// configuration.
pub fn compile_child_main() -> ExitCode {
    match child() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let end = message.floor_char_boundary(message.len().min(MAX_STDERR_BYTES as usize));
            // Nothing is left to do where even standard error is closed.
            let _ = writeln!(std::io::stderr(), "{}", &message[..end]);
            ExitCode::from(EXIT_INVALID)
        }
    }
}

fn child() -> Result<(), String> {
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    stdin
        .by_ref()
        .take(MAX_ORDER_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("reading the order failed: {error}"))?;
    let order: Order = serde_json::from_slice(&line).map_err(|error| format!("the order cannot be read: {error}"))?;
    for (resource, limit) in [
        (Resource::As, order.memory_bytes),
        (Resource::Cpu, order.cpu_seconds),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| format!("setting a limit failed: {error}"))?;
    }
    let mut wasm = Vec::new();
    stdin
        .take(order.component_bytes + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| format!("reading the component failed: {error}"))?;
    if wasm.len() as u64 > order.component_bytes {
        return Err("the component is over the limit".into());
    }
    let engine = order.engine.engine().map_err(|error| error.to_string())?;
    let code = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}"))?;
    std::io::stdout().lock().write_all(&code).map_err(|error| format!("writing the code failed: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ends_of_the_child() {
        let limits = Limits::default();
        let say = |raw: i32, stderr: &str| {
            verdict(ExitStatus::from_raw(raw), stderr, &limits, |reason| PluginError::Compiler {
                program: "compiler".into(),
                reason,
            })
            .map_err(|error| error.to_string())
        };
        assert_eq!(say(0, ""), Ok(()));
        assert!(say(2 << 8, "bad type").unwrap_err().contains("cannot be compiled: bad type"));
        assert!(say(24, "").unwrap_err().contains("compile_cpu_seconds = 120"));
        assert!(say(9, "").unwrap_err().contains("compile_cpu_seconds = 120"));
        assert!(say(6, "memory allocation of 9 bytes failed").unwrap_err().contains("compile_memory_mib = 2048"));
        assert!(say(6, "thread 'main' has overflowed its stack").unwrap_err().contains("stack"));
        assert!(
            say(101 << 8, "panicked\nat")
                .unwrap_err()
                .contains("did not run: it ended with exit status: 101: panicked")
        );
    }

    #[tokio::test]
    async fn a_compiler_that_is_not_there_is_named() {
        let command = CompilerCommand { program: "/nonexistent/compiler".into(), args: vec![] };
        let limits = Limits::default();
        let error = compile(&command, &limits, &EngineSettings::new(&limits), b"").await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/compiler"), "{error}");
    }
}
