//! The real `thimble` binary on a scratch data folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of this build's binaries: the tests run the same profile as `make build`.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    })
}

/// The binary under test.
pub fn thimble() -> PathBuf {
    let path = binaries().join("thimble");
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}

/// A connector built by `make plugins`.
pub fn component(name: &str) -> PathBuf {
    let path = binaries().parent().unwrap().join(format!("plugins/{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make plugins`", path.display());
    path
}

/// One installation: a configuration file and a data folder that vanish with it.
pub struct Installation {
    pub folder: TempDir,
}

impl Installation {
    /// An installation with these connections, other settings from `extra`.
    pub fn new(connections: Value, extra: Value) -> Self {
        let installation = Self { folder: TempDir::new().unwrap() };
        installation.configure(connections, extra);
        installation
    }

    /// One connection `c` of the files connector with one stream per (name, url), already installed and granted.
    pub fn files(streams: Value) -> Self {
        let installation = Self::new(json!({"c": {"plugin": "files", "config": {"streams": streams}}}), json!({}));
        installation.install("files");
        installation
    }

    /// Rewrites the configuration.
    pub fn configure(&self, connections: Value, extra: Value) {
        let mut config = json!({
            "data": self.data(),
            "listen": "127.0.0.1:0",
            "network": {"allow_private_networks": true},
            "connections": connections,
        });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        // JSON is YAML.
        std::fs::write(self.folder.path().join("thimble.yaml"), serde_json::to_string_pretty(&config).unwrap())
            .unwrap();
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of the binary on this installation.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(thimble());
        command
            .args(args)
            .env("THIMBLE_CONFIG", self.folder.path().join("thimble.yaml"))
            .env_remove("THIMBLE_FAILPOINT");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs with `--output json`, expects success, and answers the one document on standard output.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        last_json(&output)
    }

    /// Runs and expects this exit code; answers all that it printed.
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// Installs a connector and grants what it asks for. Compiling it takes seconds, so that a fresh installation gets a
    /// copy of one that was made before.
    pub fn install(&self, name: &str) {
        if self.data().exists() {
            return self.install_here(name);
        }
        static MADE: Mutex<BTreeMap<String, Installation>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap();
        let template = made.entry(name.to_owned()).or_insert_with(|| {
            let template = Self::new(json!({}), json!({}));
            template.install_here(name);
            template
        });
        copy_folder(&template.data(), &self.data());
    }

    fn install_here(&self, name: &str) {
        let output = self.run(&["plugin", "install", component(name).to_str().unwrap(), "--grant"]);
        assert!(output.status.success(), "{}", text(&output));
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// All rows of a stream as JSON, in no particular order.
    pub fn rows(&self, stream: &str) -> Vec<Value> {
        let output = self.run(&["read", "c", stream, "--format", "json"]);
        // Not found: a stream that never had a record has no table.
        if output.status.code() == Some(4) {
            return Vec::new();
        }
        assert!(output.status.success(), "{}", text(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The rejected records.
    pub fn rejected(&self) -> Vec<Value> {
        self.rows("_thimble_rejected")
    }
}

/// Copies a folder and all below it to a place where nothing is.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            // Permissions come along: secrets stay unreadable to others.
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// Everything that a command printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The last JSON document on standard output, which may be spread over lines.
pub fn last_json(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let documents = serde_json::Deserializer::from_str(&stdout).into_iter::<Value>();
    documents.last().unwrap_or_else(|| panic!("no JSON: {}", text(output))).unwrap()
}
