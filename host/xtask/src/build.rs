//! Builds connector crates to components: cargo for the module, [`crate::component`] for the rest.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::component::{ComponentError, componentize};
use crate::toolchain::{TARGET, Toolchain};

/// The cargo profile of connectors.
pub const PROFILE: &str = "plugin";
/// The profile for a crate whose workspace does not define it.
const PROFILE_SETTINGS: [&str; 6] = [
    "profile.plugin.inherits=\"release\"",
    "profile.plugin.opt-level=3",
    "profile.plugin.lto=true",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic=\"abort\"",
    "profile.plugin.strip=true",
];
/// What first-party connector crates are called before their name.
const PREFIX: &str = "thimble-plugin-";

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cargo cannot be started: install Rust from https://rustup.rs")]
    Cargo(#[source] std::io::Error),
    #[error("cargo could not build {what}: see its messages above")]
    Failed { what: String },
    #[error("{what} built no module: its Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`")]
    NoModule { what: String },
    #[error("{name}: {source}")]
    Component { name: String, source: ComponentError },
    #[error("{path} cannot be read", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} cannot be written: make the folder writable", path = path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The crate's name without `thimble-plugin-`.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    /// Whether the file differs from what was there.
    pub changed: bool,
}

/// Every folder below `plugins/` that holds a crate, in order.
///
/// # Errors
/// Where the folder cannot be read.
pub fn plugin_folders(workspace: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let plugins = workspace.join("plugins");
    let entries = std::fs::read_dir(&plugins).map_err(|source| BuildError::Read { path: plugins, source })?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|folder| folder.join("Cargo.toml").exists()).collect();
    folders.sort();
    Ok(folders)
}

/// Builds the crate in each folder and writes `<out>/<name>.wasm`. Cargo's messages go to stderr.
///
/// # Errors
/// The first crate that does not build, and why.
pub fn build(toolchain: &Toolchain, folders: &[PathBuf], out: &Path) -> Result<Vec<Built>, BuildError> {
    folders.iter().map(|folder| build_one(toolchain, folder, out)).collect()
}

fn build_one(toolchain: &Toolchain, folder: &Path, out: &Path) -> Result<Built, BuildError> {
    let what = folder.display().to_string();
    let mut command = toolchain.cargo();
    command.args(["build", "--profile", PROFILE, "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    if !defines_profile(toolchain, folder) {
        for setting in PROFILE_SETTINGS {
            command.args(["--config", setting]);
        }
    }
    command.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    let messages = output(command, &what)?;
    let manifest = std::fs::canonicalize(folder.join("Cargo.toml"))
        .map_err(|source| BuildError::Read { path: folder.join("Cargo.toml"), source })?;
    let module = module_of(&messages, &manifest).ok_or(BuildError::NoModule { what })?;
    let wasm = std::fs::read(&module.path).map_err(|source| BuildError::Read { path: module.path, source })?;
    let component =
        componentize(&wasm).map_err(|source| BuildError::Component { name: module.name.clone(), source })?;
    let path = out.join(format!("{}.wasm", module.name));
    let changed = write_if_changed(&path, &component)?;
    Ok(Built { name: module.name, path, bytes: component.len() as u64, changed })
}

/// Whether the workspace of a crate has the profile; its own settings outrank ours.
fn defines_profile(toolchain: &Toolchain, folder: &Path) -> bool {
    let mut command = toolchain.cargo();
    command.args(["locate-project", "--workspace", "--message-format", "plain", "--manifest-path"]);
    let root = command.arg(folder.join("Cargo.toml")).stderr(Stdio::null()).output();
    let root = root.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    std::fs::read_to_string(root).is_ok_and(|manifest| has_profile(&manifest))
}

fn has_profile(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim() == format!("[profile.{PROFILE}]"))
}

fn output(mut command: Command, what: &str) -> Result<String, BuildError> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).map_err(BuildError::Cargo)?;
    if !output.status.success() {
        return Err(BuildError::Failed { what: what.to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    path: PathBuf,
}

/// The module among cargo's messages that the crate of `manifest` built.
fn module_of(messages: &str, manifest: &Path) -> Option<Module> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_crate = messages.filter(|message| {
        let path = message["manifest_path"].as_str().map(Path::new);
        message["reason"] == "compiler-artifact"
            && path
                .is_some_and(|path| path == manifest || std::fs::canonicalize(path).is_ok_and(|path| path == manifest))
    });
    of_crate.into_iter().find_map(|message| {
        let file =
            message["filenames"].as_array()?.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"))?;
        let name = package_name(message["package_id"].as_str()?)?;
        let name = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
        Some(Module { name, path: PathBuf::from(file) })
    })
}

/// The name in a package id: `path+file:///folder/name#0.1.0` or `path+file:///folder#name@0.1.0`.
fn package_name(id: &str) -> Option<String> {
    let (source, fragment) = id.rsplit_once('#')?;
    let name = fragment.split_once('@').map(|(name, _)| name).or_else(|| source.rsplit('/').next())?;
    Some(name.to_owned())
}

/// Writes a file whole or not at all; a file with the same content keeps its time.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool, BuildError> {
    if std::fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(false);
    }
    let failed = |source| BuildError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let half = path.with_extension(format!("part-{}", std::process::id()));
    let written = std::fs::write(&half, bytes).and_then(|()| std::fs::rename(&half, path));
    written.inspect_err(|_| drop(std::fs::remove_file(&half))).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_module_is_that_of_the_crate_itself() {
        let of = |manifest: &str, id: &str, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": manifest, "package_id": id, "filenames": [file],
            })
            .to_string()
        };
        let messages = [
            "not json".to_owned(),
            of("/dep/Cargo.toml", "path+file:///dep#0.1.0", "/t/dep.wasm"),
            of("/p/files/Cargo.toml", "path+file:///p/files#thimble-plugin-files@0.1.0", "/t/libfiles.rlib"),
            of("/p/files/Cargo.toml", "path+file:///p/files#thimble-plugin-files@0.1.0", "/t/files.wasm"),
        ];
        let found = module_of(&messages.join("\n"), Path::new("/p/files/Cargo.toml"));
        assert_eq!(found, Some(Module { name: "files".into(), path: "/t/files.wasm".into() }));
        assert_eq!(module_of(&messages.join("\n"), Path::new("/p/other/Cargo.toml")), None);
        assert_eq!(package_name("path+file:///a/my-source#0.1.0").as_deref(), Some("my-source"));
    }

    #[test]
    fn a_profile_of_the_workspace_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |profile: &str| {
            let text = format!("[package]\nname = \"x\"\nversion = \"0.1.0\"\n[workspace]\n{profile}");
            std::fs::create_dir_all(folder.path().join("src")).unwrap();
            std::fs::write(folder.path().join("src/lib.rs"), "").unwrap();
            std::fs::write(folder.path().join("Cargo.toml"), text).unwrap();
            defines_profile(&Toolchain::Installed, folder.path())
        };
        assert!(!manifest(""));
        assert!(!manifest("[profile.release]\n"));
        assert!(manifest("[profile.plugin]\ninherits = \"release\"\n"));
    }

    #[test]
    fn an_unchanged_file_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.wasm");
        assert!(write_if_changed(&path, b"one").unwrap());
        let time = path.metadata().unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(path.metadata().unwrap().modified().unwrap(), time);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn only_folders_with_a_crate_are_plugins() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "notes"] {
            std::fs::create_dir_all(folder.path().join("plugins").join(name)).unwrap();
        }
        for name in ["b", "a"] {
            std::fs::write(folder.path().join("plugins").join(name).join("Cargo.toml"), "").unwrap();
        }
        let plugins = folder.path().join("plugins");
        assert_eq!(plugin_folders(folder.path()).unwrap(), [plugins.join("a"), plugins.join("b")]);
    }
}
