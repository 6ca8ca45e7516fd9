//! The toolchain for machines that rustup cannot serve: Debian's compiler, whose packages bring the
//! sources of the standard library, wasi-libc and lld, but no built library for the target.
//!
//! Builds that library once into a sysroot of our own, so that nothing of the system is changed except
//! the packages installed. Must never touch a rustup toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::toolchain::{TARGET, ToolchainError, has_std};

/// What has to be installed.
pub(crate) const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld"];
/// Where Debian puts its tools; rustup's proxies come earlier on the path.
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
const LINKER: &str = "-Clinker=wasm-ld";
/// Where wasi-libc puts its objects.
const LIBC: &str = "/usr/lib/wasm32-wasi";
/// What the linker takes from there.
const LIBC_FILES: [&str; 3] = ["crt1-command.o", "crt1-reactor.o", "libc.a"];
/// Variables by which rustup and cargo steer their children towards another toolchain.
const FOREIGN: [&str; 6] =
    ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC"];

/// The sysroot, made below `work` unless it is there.
pub(crate) fn sysroot(work: &Path, say: &dyn Fn(&str)) -> Result<PathBuf, ToolchainError> {
    install_packages(say)?;
    let sysroot = work.join(format!("guest-sysroot-{}", version()?));
    if has_std(&libraries(&sysroot)) {
        return Ok(sysroot);
    }
    say("building the standard library for wasm32-wasip1 once (about a minute)");
    let scratch = work.join("guest-std");
    write_probe(&scratch)?;
    build_std(&scratch)?;
    assemble(&scratch, &sysroot)?;
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(sysroot)
}

/// `cargo` that builds guests with the sysroot. The flags hold for the target only: build scripts and
/// macros use Debian's own standard library.
pub(crate) fn cargo_with(sysroot: &Path) -> Command {
    let mut command = cargo();
    let flags = ["--sysroot", &sysroot.to_string_lossy(), LINKER].join("\u{1f}");
    // The encoded form allows spaces in the path.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags);
    command
}

fn cargo() -> Command {
    let mut command = Command::new(CARGO);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command.env("RUSTC", RUSTC);
    command
}

fn libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

fn install_packages(say: &dyn Fn(&str)) -> Result<(), ToolchainError> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lacking = |why: &str| ToolchainError::Missing { why: format!("{why} (missing: {})", missing.join(", ")) };
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(lacking("rustup has no such target here and this is not Debian"));
    }
    if !is_root() {
        return Err(lacking("rustup has no such target here and installing packages needs root"));
    }
    say(&format!("installing {}", missing.join(" ")));
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "-y", "--no-install-recommends"]).args(&missing);
    run(command, "apt-get install").map_err(|error| lacking(&error.to_string()))
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn version() -> Result<String, ToolchainError> {
    let failed = |why: String| ToolchainError::Failed { what: format!("{RUSTC} --version"), why };
    let output = Command::new(RUSTC).arg("--version").output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split(' ').nth(1).map(str::to_owned).ok_or_else(|| failed(format!("it says `{}`", text.trim())))
}

/// A crate without content: what counts is the standard library that is built along with it.
fn write_probe(folder: &Path) -> Result<(), ToolchainError> {
    let manifest = "[package]\nname = \"guest-std\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n";
    let write = |path: PathBuf, text: &str| {
        let folder = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|source| ToolchainError::Write { path: path.clone(), source })
    };
    write(folder.join("Cargo.toml"), manifest)?;
    write(folder.join("src/lib.rs"), "")
}

fn build_std(folder: &Path) -> Result<(), ToolchainError> {
    let mut command = cargo();
    command.current_dir(folder).args(["build", "--release", "--quiet", "--target", TARGET]);
    command.args(["-Z", "build-std=std,panic_abort", "--target-dir", "target"]);
    // Build-std is an unstable option; the bitcode is what lets guests use link-time optimization.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cembed-bitcode=yes");
    run(command, "building the standard library")
}

/// Puts the libraries and wasi-libc together. The folder appears whole or not at all.
fn assemble(scratch: &Path, sysroot: &Path) -> Result<(), ToolchainError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| ToolchainError::Write { path, source }
    };
    let half = sysroot.with_extension("part");
    let _ = std::fs::remove_dir_all(&half);
    let _ = std::fs::remove_dir_all(sysroot);
    let into = libraries(&half);
    let of_libc = into.join("self-contained");
    std::fs::create_dir_all(&of_libc).map_err(write(&of_libc))?;
    let built = scratch.join("target").join(TARGET).join("release/deps");
    for entry in std::fs::read_dir(&built).map_err(write(&built))?.flatten() {
        let path = entry.path();
        let of_probe = entry.file_name().to_string_lossy().starts_with("libguest_std");
        if path.extension().is_some_and(|extension| extension == "rlib") && !of_probe {
            let to = into.join(entry.file_name());
            std::fs::copy(&path, &to).map_err(write(&to))?;
        }
    }
    for name in LIBC_FILES {
        let to = of_libc.join(name);
        std::fs::copy(Path::new(LIBC).join(name), &to).map_err(write(&to))?;
    }
    std::fs::rename(&half, sysroot).map_err(write(sysroot))
}

fn run(mut command: Command, what: &str) -> Result<(), ToolchainError> {
    let failed = |why: String| ToolchainError::Failed { what: what.to_owned(), why };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    Err(failed(last.into_iter().rev().collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failing_step_says_why_in_few_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; echo two >&2; exit 3"]);
        assert_eq!(run(command, "a step").unwrap_err().to_string(), "a step failed: one two");
    }

    #[test]
    fn the_sysroot_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (scratch, sysroot) = (folder.path().join("std"), folder.path().join("sys-1.2.3"));
        assert!(assemble(&scratch, &sysroot).is_err());
        assert!(!sysroot.exists());
    }
}
