//! Finds a Rust toolchain that can build for `wasm32-wasip1`: the installed one, one that rustup can
//! add, or Debian's packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::debian;

/// The target of connectors.
pub const TARGET: &str = "wasm32-wasip1";
/// How long rustup may try to fetch the target: without a network it would try for minutes.
pub const RUSTUP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    #[error(
        "rust cannot build for {TARGET}: {why}; run `rustup target add {TARGET}` where there is a network, or as root \
         `apt-get install {packages}`",
        packages = debian::PACKAGES.join(" ")
    )]
    Missing { why: String },
    #[error("{what} failed: {why}")]
    Failed { what: String, why: String },
    #[error("{path} cannot be written: make the folder writable", path = path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Which toolchain to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The installed target, else rustup, else Debian.
    #[default]
    Any,
    /// Debian's packages even where the target is installed.
    Debian,
}

/// A toolchain that can build for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// `cargo` on the path has the target.
    Installed,
    /// Debian's compiler with a sysroot of our own that holds the target's standard library.
    Debian { sysroot: PathBuf },
}

impl Toolchain {
    /// Finds one, and builds what is missing below `work`. `say` gets a line where that takes long.
    ///
    /// # Errors
    /// One sentence that says what to install.
    pub fn find(work: &Path, preference: Preference, say: &dyn Fn(&str)) -> Result<Self, ToolchainError> {
        if preference == Preference::Any {
            if installed() {
                return Ok(Self::Installed);
            }
            say("adding the rust target wasm32-wasip1 with rustup");
            if rustup_add() && installed() {
                return Ok(Self::Installed);
            }
            say("rustup cannot add it, falling back to Debian's packages");
        }
        debian::sysroot(work, say).map(|sysroot| Self::Debian { sysroot })
    }

    /// `cargo` for this toolchain, to be given `build --target wasm32-wasip1 …`.
    pub fn cargo(&self) -> Command {
        match self {
            Self::Installed => {
                let mut command = Command::new("cargo");
                // `cargo run` tells its child which cargo it was; a child of another folder may need another.
                command.env_remove("CARGO");
                command
            }
            Self::Debian { sysroot } => debian::cargo_with(sysroot),
        }
    }
}

/// Asks the compiler itself, which answers for rustup and for distributions alike.
fn installed() -> bool {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).stderr(Stdio::null()).output();
    let Ok(output) = output else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && has_std(&folder)
}

pub(crate) fn has_std(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

fn rustup_add() -> bool {
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    within(command, RUSTUP_TIMEOUT)
}

/// Runs a command; whether it succeeded within the time. It is killed when the time is over.
fn within(mut command: Command, time: Duration) -> bool {
    let Ok(mut child) = command.spawn() else { return false };
    let end = Instant::now() + time;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        assert!(!within(command, Duration::from_millis(200)));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(within(Command::new("true"), Duration::from_secs(10)));
        assert!(!within(Command::new("false"), Duration::from_secs(10)));
        assert!(!within(Command::new("/nonexistent/rustup"), Duration::from_secs(10)));
    }

    #[test]
    fn a_folder_without_std_is_no_target() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_std(folder.path()) && !has_std(&folder.path().join("none")));
        std::fs::write(folder.path().join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(folder.path()));
    }
}
