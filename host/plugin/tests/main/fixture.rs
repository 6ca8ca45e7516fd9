//! Makes components of `tests/hostile/*.wat`, and hosts to run them in.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use tempfile::TempDir;
use thimble_plugin::{
    CompilerCommand, Connector, HostPattern, Limits, LogLevel, LogSink, Partition, PluginError, PluginHost,
    PluginSettings, RawBatch, ReadRequest, RecordSink, Secrets, Session,
    egress::{PrivateNetworks, Rehearsal, TlsRoots},
};
use thimble_record::{Failure, Rejected, ReplicationMethod, Stream, StreamSchema};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const FUNCTIONS: [&str; 5] = ["spec", "check", "discover", "plan", "read"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(file: &str) -> String {
    let path = root().join("tests/hostile").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The component of one attack, with `{{NAME}}` replaced as `with` says.
pub fn component(file: &str, with: &[(&str, &str)]) -> Vec<u8> {
    let mut attack = text(file);
    for (name, value) in with {
        attack = attack.replace(&format!("{{{{{name}}}}}"), value);
    }
    assert!(!attack.contains("{{"), "{file} has a placeholder left");
    if file.starts_with("component_") {
        return wat::parse_str(&attack).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    from_core(&core_module(file, &attack))
}

/// The attack with everything around it, as `tests/hostile/README.md` says.
fn core_module(file: &str, attack: &str) -> Vec<u8> {
    let first = attack
        .match_indices("\n(")
        .map(|(at, _)| at + 1)
        .chain(attack.starts_with('(').then_some(0))
        .filter(|at| !attack[*at..].starts_with("(import"))
        .min()
        .unwrap_or(attack.len());
    let (imports, rest) = attack.split_at(first);
    let mut module = format!("(module\n{}{imports}{}{rest}", text("imports.wat"), text("base.wat"));
    for function in FUNCTIONS {
        if !attack.contains(&format!("source@0.1.0#{function}\"")) {
            module.push_str(&text(&format!("defaults/{function}.wat")));
        }
    }
    module.push(')');
    wat::parse_str(&module).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A component of a core module that speaks the canonical ABI of our world.
pub fn from_core(module: &[u8]) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_path(root().join("wit/v0.1")).unwrap();
    let worlds = "package thimble:hostile;\nworld attack {
        include thimble:connector/source-connector@0.1.0;
        import wasi:clocks/monotonic-clock@0.2.6;
        import wasi:random/random@0.2.6;
        import wasi:cli/exit@0.2.6;
        import wasi:cli/environment@0.2.6;
        import wasi:cli/stdin@0.2.6;
        import wasi:cli/stdout@0.2.6;
        import wasi:http/outgoing-handler@0.2.6;
    }\n";
    let wasi = text("wasi.wit");
    let package = resolve.push_source("attack.wit", &format!("{worlds}{wasi}")).unwrap();
    let world = resolve.select_world(&[package], Some("attack")).unwrap();
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().module(&module).unwrap();
    let mut component = encoder.validate(true).encode().unwrap();
    add_section(&mut component, "thimble:api-version", b"0.1.0");
    component
}

/// Appends a custom section. Its length is written with five bytes, which is more than it needs.
pub fn add_section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    let length = 1 + name.len() + data.len();
    component.push(0);
    component.extend((0..5).map(|at| (length >> (7 * at) & 0x7f) as u8 | if at < 4 { 0x80 } else { 0 }));
    component.push(name.len() as u8);
    component.extend(name.as_bytes());
    component.extend(data);
}

/// A host in a folder of its own.
pub struct TestHost {
    pub host: PluginHost,
    pub folder: TempDir,
}

pub fn compiler() -> CompilerCommand {
    CompilerCommand { program: env!("CARGO_BIN_EXE_thimble-compile").into(), args: vec![] }
}

pub fn settings(folder: &Path, limits: Limits) -> PluginSettings {
    PluginSettings {
        limits,
        allow_private_networks: PrivateNetworks::default(),
        tls_roots: TlsRoots::default(),
        folder: folder.to_owned(),
        cache_key: [7; 32],
        compiler: compiler(),
    }
}

impl TestHost {
    pub fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = PluginHost::new(settings(folder.path(), limits)).unwrap();
        Self { host, folder }
    }

    pub async fn connector(&self, file: &str, with: &[(&str, &str)]) -> Arc<dyn Connector> {
        let installed = self.host.install(&component(file, with)).await.unwrap();
        self.host.load(&installed.digest).await.unwrap()
    }

    /// Proves that the host still works: a good connector runs to its end.
    pub async fn works(&self) {
        let steady = self.connector("steady.wat", &[("BATCHES", "3")]).await;
        let sink = Arc::new(Kept::default());
        read(&*steady, sink.clone()).await.unwrap();
        assert_eq!(sink.batches().len(), 3);
    }
}

/// Keeps what it gets.
#[derive(Default)]
pub struct Kept {
    pub lines: Mutex<Vec<(LogLevel, String)>>,
    pub emitted: Mutex<Vec<RawBatch>>,
    pub rejected: Mutex<Vec<Rejected>>,
    pub states: Mutex<Vec<String>>,
    /// What every call answers, where set.
    pub failure: Option<Failure>,
}

impl Kept {
    pub fn batches(&self) -> Vec<RawBatch> {
        self.emitted.lock().unwrap().clone()
    }

    pub fn rejected(&self) -> Vec<Rejected> {
        self.rejected.lock().unwrap().clone()
    }

    pub fn states(&self) -> Vec<String> {
        self.states.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<(LogLevel, String)> {
        self.lines.lock().unwrap().clone()
    }

    fn answer(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

impl LogSink for Kept {
    fn line(&self, level: LogLevel, message: &str) {
        self.lines.lock().unwrap().push((level, message.to_owned()));
    }
}

#[async_trait]
impl RecordSink for Kept {
    async fn emit(&self, stream: &str, batch: RawBatch) -> Result<(), Failure> {
        assert_eq!(stream, "records");
        self.answer()?;
        self.emitted.lock().unwrap().push(batch);
        Ok(())
    }

    async fn reject(&self, stream: &str, records: Vec<Rejected>) -> Result<(), Failure> {
        assert_eq!(stream, "records");
        self.answer()?;
        self.rejected.lock().unwrap().extend(records);
        Ok(())
    }

    async fn checkpoint(&self, stream: &str, state: String) -> Result<(), Failure> {
        assert_eq!(stream, "records");
        self.answer()?;
        self.states.lock().unwrap().push(state);
        Ok(())
    }
}

pub fn session(log: Arc<dyn LogSink>, grants: &[&str]) -> Session {
    Session {
        config: serde_json::json!({}),
        secrets: Secrets::default(),
        grants: grants.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
        log,
        services: thimble_plugin::egress::RunServices::default(),
        rehearsal: Rehearsal::default(),
    }
}

pub fn plain_session() -> Session {
    session(Arc::new(Kept::default()), &[])
}

pub fn stream() -> Stream {
    Stream {
        name: "records".into(),
        schema: StreamSchema::default(),
        key: vec![],
        methods: vec![ReplicationMethod::FullTable],
        cursor: None,
    }
}

pub fn request() -> ReadRequest {
    ReadRequest {
        stream: stream(),
        method: ReplicationMethod::FullTable,
        selected: vec![],
        partition: Partition {
            id: "records".into(),
            descriptor: String::new(),
            estimated_records: None,
            estimated_bytes: None,
        },
        state: None,
    }
}

pub async fn read(connector: &dyn Connector, sink: Arc<dyn RecordSink>) -> Result<(), PluginError> {
    connector.read(&plain_session(), request(), sink).await
}

pub async fn read_error(connector: &dyn Connector) -> PluginError {
    read(connector, Arc::new(Kept::default())).await.unwrap_err()
}
