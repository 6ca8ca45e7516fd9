//! `lint`, `about`, `hosts` and `pack`: what the component says of a manifest, without any network.

use std::{io::Write, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thimble_plugin::{
    Secrets, Session,
    egress::{Rehearsal, RunServices},
};

use super::{
    printer::Silent,
    sandbox::{self, Sandbox},
};
use crate::{
    commands::permissions,
    exit::{CliError, Exit},
    output::{Output, Table},
};

/// What the component says of a manifest.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    title: String,
    docs: String,
    /// Names, or objects with a `name`.
    streams: Vec<Value>,
    hosts: Vec<String>,
    config_schema: Value,
    reads_secrets: Vec<String>,
    findings: Vec<Finding>,
}

/// Something that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    level: Level,
    #[serde(default)]
    path: String,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warning,
    #[serde(alias = "note")]
    Info,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "note",
        }
    }
}

async fn describe(sandbox: &Sandbox, manifest: &Path) -> Result<Description, CliError> {
    let text = sandbox::read(manifest)?;
    let text = String::from_utf8(text)
        .map_err(|_| CliError::new(Exit::Usage, format!("{} is not UTF-8: save it as UTF-8", manifest.display())))?;
    let installed = sandbox.generic().await?;
    let connector = sandbox.plugins.load(&installed.digest).await.map_err(|error| error.failure())?;
    let session = Session {
        config: json!({ "manifest": text, "only": "lint" }),
        secrets: Secrets::default(),
        // It needs none, and so nobody has to trust the manifest.
        grants: Vec::new(),
        log: Arc::new(Silent),
        services: RunServices::default(),
        rehearsal: Rehearsal::default(),
    };
    let answer = connector.check(&session).await.map_err(|error| error.failure())?;
    serde_json::from_str(&answer).map_err(|error| {
        let message = format!(
            "the component `{}` {} does not describe manifests ({error})",
            installed.spec.name, installed.spec.version
        );
        CliError::new(Exit::Failed, message).hint("name a rest component of this version with --component")
    })
}

pub(super) async fn lint(sandbox: &Sandbox, manifest: &Path, output: Output) -> Result<(), CliError> {
    let description = describe(sandbox, manifest).await?;
    let findings = &description.findings;
    output.show(&json!({ "findings": findings }), |out| write_findings(out, manifest, findings))?;
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        errors => Err(CliError::new(Exit::Failed, format!("{}: {errors} errors", manifest.display()))),
    }
}

fn write_findings(out: &mut dyn Write, manifest: &Path, findings: &[Finding]) -> std::io::Result<()> {
    for Finding { level, path, message } in findings {
        let place = if path.is_empty() { manifest.display().to_string() } else { path.clone() };
        writeln!(out, "{}: {place}: {message}", level.word())?;
    }
    if findings.is_empty() { writeln!(out, "{}: nothing is wrong", manifest.display()) } else { Ok(()) }
}

pub(super) async fn about(sandbox: &Sandbox, manifest: &Path, output: Output) -> Result<(), CliError> {
    let description = describe(sandbox, manifest).await?;
    output.show(&description, |out| {
        let Description { title, docs, streams, hosts, config_schema, findings, reads_secrets, name: _ } = &description;
        writeln!(out, "{title}\n\nStreams ({}):", streams.len())?;
        for stream in streams {
            let name = stream.as_str().or_else(|| stream.get("name")?.as_str()).unwrap_or("?");
            writeln!(out, "  {name}")?;
        }
        writeln!(out, "\nHosts:")?;
        hosts.iter().try_for_each(|host| writeln!(out, "  {host}"))?;
        for setting in reads_secrets {
            writeln!(out, "It sees the value of the secret {setting} itself.")?;
        }
        let settings = permissions::settings(config_schema);
        if !settings.is_empty() {
            writeln!(out, "\nSettings:")?;
            let mut table = Table::new(&["setting", "type", "meaning"]);
            settings.into_iter().for_each(|row| table.row(row));
            table.write(out)?;
        }
        if !docs.trim().is_empty() {
            writeln!(out, "\n{}", docs.trim())?;
        }
        if findings.is_empty() { Ok(()) } else { writeln!(out).and_then(|()| write_findings(out, manifest, findings)) }
    })
}

pub(super) async fn hosts(sandbox: &Sandbox, manifest: &Path, output: Output) -> Result<(), CliError> {
    let Description { hosts, .. } = describe(sandbox, manifest).await?;
    output.show(&json!({ "hosts": hosts }), |out| hosts.iter().try_for_each(|host| writeln!(out, "{host}")))
}

pub(super) async fn pack(sandbox: &Sandbox, manifest: &Path, file: &Path, output: Output) -> Result<(), CliError> {
    let packed = sandbox.packed(&sandbox::read(manifest)?)?;
    // What cannot be installed is not worth writing.
    let installed = sandbox.plugins.install(&packed).await.map_err(|error| error.failure())?;
    sandbox.plugins.remove(&installed.digest).await.map_err(|error| error.failure())?;
    std::fs::write(file, &packed)
        .map_err(|error| CliError::new(Exit::Failed, format!("cannot write {}: {error}", file.display())))?;
    let (name, version, digest) = (installed.spec.name, installed.spec.version, installed.digest);
    let document = json!({ "name": name, "version": version, "digest": digest, "file": file, "bytes": packed.len() });
    output.show(&document, |out| {
        writeln!(out, "packed {name} {version} into {}", file.display())?;
        writeln!(out, "next: thimble plugin install {}", file.display())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn findings_are_lines_that_name_their_place() {
        let description: Description = serde_json::from_str(
            r#"{"title":"X","streams":["a",{"name":"b"}],"findings":[
                {"level":"error","path":"streams.0","message":"it has no retriever"},
                {"level":"note","message":"fine"}],"more":1}"#,
        )
        .unwrap();
        let mut out = Vec::new();
        write_findings(&mut out, Path::new("m.yaml"), &description.findings).unwrap();
        assert_eq!(out, b"error: streams.0: it has no retriever\nnote: m.yaml: fine\n");
    }
}
