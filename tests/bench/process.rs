//! Processes under measurement: where binaries lie, wall time, peak and current memory.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The folder of the bench's own binary, which holds `thimble` too.
pub fn binaries() -> Fallible<PathBuf> {
    Ok(std::env::current_exe()?.parent().ok_or("the bench lies in no folder")?.to_owned())
}

/// A scratch installation.
pub struct Installation {
    pub folder: tempfile::TempDir,
}

impl Installation {
    pub fn new(connections: Value) -> Fallible<Self> {
        Self::with_destination(connections, Value::Object(serde_json::Map::new()))
    }

    /// One that loads into this destination, as the configuration names it.
    pub fn with_destination(connections: Value, destination: Value) -> Fallible<Self> {
        Self::with_component(&binaries()?.join("../plugins/bench.wasm"), connections, destination)
    }

    /// One with another connector than the bench's own.
    pub fn with_component(component: &Path, connections: Value, destination: Value) -> Fallible<Self> {
        let installation = Self { folder: tempfile::tempdir()? };
        let config = serde_json::json!({
            "data": installation.folder.path().join("data"),
            "listen": "127.0.0.1:0",
            "network": {"allow_private_networks": true},
            "destination": destination,
            "connections": connections,
        });
        std::fs::write(installation.folder.path().join("thimble.yaml"), config.to_string())?;
        let path = component.to_str().ok_or("the path of the component is no text")?;
        installation.run(&["plugin", "install", path, "--grant"])?;
        Ok(installation)
    }

    pub fn command(&self, args: &[&str]) -> Fallible<Command> {
        let mut command = Command::new(binaries()?.join("thimble"));
        command.args(args).env("THIMBLE_CONFIG", self.folder.path().join("thimble.yaml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Ok(command)
    }

    pub fn run(&self, args: &[&str]) -> Fallible<Run> {
        let started = Instant::now();
        let mut child = self.command(args)?.spawn()?;
        let (status, peak) = wait(&mut child)?;
        if !status.success() {
            return Err(format!("thimble {args:?} ended with {status}").into());
        }
        Ok(Run { elapsed: started.elapsed(), peak_mib: peak })
    }

    /// Removes the data, but not the installed plugin, so that the next sync starts over.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// A finished process.
pub struct Run {
    pub elapsed: Duration,
    pub peak_mib: f64,
}

/// Waits, and samples the peak of the resident set (`VmHWM`, proc(5)) until the end.
pub fn wait(child: &mut Child) -> Fallible<(ExitStatus, f64)> {
    let mut peak: f64 = 0.0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        peak = peak.max(memory_mib(child.id(), "VmHWM").unwrap_or(0.0));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A memory figure of a living process, in MiB.
pub fn memory_mib(pid: u32, name: &str) -> Option<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
