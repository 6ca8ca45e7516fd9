//! What the host is told of a manifest: the spec of a component that carries one, and the report of a look at one.

use std::sync::OnceLock;

use thimble_sdk::Spec;

use crate::{
    error::{RestError, Result},
    manifest::{self, Level, Manifest},
    value::{Map, Value},
};

/// The manifest inside the component, if it carries one.
pub fn preset() -> Option<Result<Manifest>> {
    static PRESET: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    PRESET.get_or_init(thimble_sdk::preset).as_deref().map(manifest::load)
}

/// The spec of a component that carries this manifest, whose configuration is the manifest's own.
pub fn spec(manifest: &Manifest) -> Spec {
    let told = manifest::spec::spec(manifest, "");
    let mut spec = Spec::new(&told.name, version(manifest))
        .title(&told.title)
        .docs(&told.docs)
        .config_schema(told.config_schema.to_json());
    for host in &told.hosts {
        spec = spec.host(host);
    }
    for secret in &told.reads_secrets {
        spec = spec.reads_secret(secret);
    }
    match told.memory_mib {
        Some(memory) => spec.memory_mib(memory),
        None => spec,
    }
}

/// A manifest's own version (`metadata.version`), or the connector's.
fn version(manifest: &Manifest) -> String {
    let own = manifest.resolved.get("metadata").and_then(|metadata| metadata.get("version")).and_then(Value::as_str);
    own.unwrap_or(env!("CARGO_PKG_VERSION")).to_owned()
}

/// What is to be said of a manifest's text, for `thimble manifest lint`: nothing is asked of the source.
///
/// # Errors
/// Kind config where it is no manifest at all.
pub fn report(text: &Value) -> Result<Value> {
    let manifest = match text {
        Value::Str(text) => manifest::load(text.as_bytes())?,
        other => Manifest::new(other)?,
    };
    let told = manifest::spec::spec(&manifest, "");
    let mut findings = manifest.findings();
    findings.extend(told.findings.iter().cloned());
    let texts = |list: &[String]| Value::list(list.iter().map(Value::str).collect());
    let finding = |finding: &manifest::Finding| {
        let members = [("level", finding.level.name()), ("path", &finding.path), ("message", &finding.message)];
        Value::map(members.map(|(key, text)| (key.to_owned(), Value::str(text))).into())
    };
    let names = manifest.streams().into_iter().filter_map(|stream| stream.value.get("name").cloned()).collect();
    let members: Map = [
        ("name".to_owned(), Value::str(&told.name)),
        ("title".to_owned(), Value::str(&told.title)),
        ("docs".to_owned(), Value::str(&told.docs)),
        ("streams".to_owned(), Value::list(names)),
        ("hosts".to_owned(), texts(&told.hosts)),
        ("config_schema".to_owned(), told.config_schema.clone()),
        ("reads_secrets".to_owned(), texts(&told.reads_secrets)),
        ("findings".to_owned(), Value::list(findings.iter().map(finding).collect())),
    ]
    .into();
    Ok(Value::map(members))
}

/// A manifest that cannot be read is not used.
///
/// # Errors
/// Kind config: the first error that is found in it.
pub fn refuse_errors(manifest: &Manifest) -> Result<()> {
    match manifest.findings().into_iter().find(|finding| finding.level == Level::Error) {
        Some(finding) => Err(RestError::config(finding.message).at(finding.path)),
        None => Ok(()),
    }
}
