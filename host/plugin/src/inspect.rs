//! Reads what a file says of itself, before anything of it is compiled or run.
//!
//! Owns the list of imports that a plugin may have, and where a component carries its preset. Must never instantiate,
//! compile or trust what it reads: the linker checks the types again.

use std::ops::Range;

use wasmparser::{Encoding, Parser, Payload};

use crate::{error::PluginError, limits::Limits};

/// The custom section that names the API.
pub(crate) const API_SECTION: &str = "thimble:api-version";
/// The custom section of data that every instance gets as standard input.
pub(crate) const PRESET_SECTION: &str = "thimble:preset";
/// The API versions that this host speaks, newest first.
pub(crate) const API_VERSIONS: &[&str] = &["0.1.0"];
/// What a source connector exports.
pub(crate) const WORLD: &str = "thimble:connector/source@0.1.0";

/// Names of unknown imports that a message lists, and bytes of each.
const MAX_NAMES: usize = 20;
const MAX_NAME_BYTES: usize = 200;

/// Our own interfaces.
const OWN_IMPORTS: &[&str] =
    &["thimble:connector/types", "thimble:connector/sink", "thimble:connector/log", "thimble:connector/net"];

/// The part of WASI 0.2 that is linked.
const WASI_IMPORTS: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// What a component says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// One of [`API_VERSIONS`].
    pub api_version: String,
    pub preset: Option<Preset>,
}

/// Where a preset stands in a component, as bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preset {
    /// The section from its id to its end: without it the file is the component as it was before it was packed.
    pub section: Range<usize>,
    pub data: Range<usize>,
}

/// Whether the linker defines the interface `name` (with its version, as imports have it).
fn is_linked(name: &str) -> bool {
    let Some((interface, version)) = name.split_once('@') else { return false };
    (OWN_IMPORTS.contains(&interface) && API_VERSIONS.contains(&version))
        || (WASI_IMPORTS.contains(&interface) && version.starts_with("0.2."))
}

/// Refuses whatever is not a component of a known API that imports only what is linked.
pub(crate) fn inspect(wasm: &[u8], limits: &Limits) -> Result<Inspected, PluginError> {
    if wasm.len() > limits.component_bytes {
        return Err(PluginError::TooLarge { bytes: wasm.len(), limit: limits.component_bytes });
    }
    check_magic(wasm)?;
    let Outline { versions, imports, exports, presets, section_end: _ } = outline(wasm)?;
    let api_version = check_version(&versions)?;
    let preset = check_preset(wasm, presets, limits.preset_bytes)?;
    let unknown: Vec<String> = imports.iter().filter(|name| !is_linked(name)).map(|name| printable(name)).collect();
    if !unknown.is_empty() {
        let more = unknown.len().saturating_sub(MAX_NAMES);
        let mut names: Vec<String> = unknown.into_iter().take(MAX_NAMES).collect();
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        return Err(PluginError::UnknownImport { names });
    }
    if !exports.iter().any(|name| name == WORLD) {
        return Err(PluginError::MissingExport);
    }
    Ok(Inspected { api_version, preset })
}

fn check_magic(wasm: &[u8]) -> Result<(), PluginError> {
    if wasm.starts_with(b"\x7fELF") {
        return Err(PluginError::Precompiled);
    }
    if wasm.starts_with(b"\0asm") {
        return Ok(());
    }
    let looks_like_text =
        !wasm.is_empty() && wasm[..wasm.len().min(512)].iter().all(|b| *b >= 0x20 || b"\t\r\n".contains(b));
    let found = if wasm.is_empty() {
        "it is empty"
    } else if looks_like_text {
        "it is text; build it to a binary .wasm first"
    } else {
        "it does not begin with the WebAssembly magic number"
    };
    Err(PluginError::NotAComponent { found: found.into() })
}

/// Names at the outermost level of a component.
#[derive(Default)]
struct Outline {
    versions: Vec<String>,
    imports: Vec<String>,
    exports: Vec<String>,
    presets: Vec<Preset>,
    /// Where the last section ended, which is where the next one begins.
    section_end: usize,
}

fn outline(wasm: &[u8]) -> Result<Outline, PluginError> {
    let malformed = |error: wasmparser::BinaryReaderError| PluginError::Malformed { reason: error.to_string() };
    let mut found = Outline::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        let begin = found.section_end;
        if depth == 0 {
            found.section_end = end_of(&payload).unwrap_or(begin);
        }
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(PluginError::NotAComponent {
                    found: "it is a core module; make a component of it with `wasm-tools component new`".into(),
                });
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == API_SECTION => {
                found.versions.push(String::from_utf8_lossy(section.data()).into_owned());
            }
            Payload::CustomSection(section) if depth == 0 && section.name() == PRESET_SECTION => {
                let data = section.data_offset();
                let (end, data) = (section.range().end, data..data + section.data().len());
                found.presets.push(Preset { section: begin..end, data });
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    found.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Where a section, or the header of the file, ends.
fn end_of(payload: &Payload<'_>) -> Option<usize> {
    match payload {
        Payload::Version { range, .. } => Some(range.end),
        section => section.as_section().map(|(_, range)| range.end),
    }
}

fn check_preset(wasm: &[u8], presets: Vec<Preset>, max_bytes: usize) -> Result<Option<Preset>, PluginError> {
    let mut presets = presets.into_iter();
    let Some(preset) = presets.next() else { return Ok(None) };
    if presets.next().is_some() {
        return Err(PluginError::Malformed { reason: format!("it has more than one section {PRESET_SECTION}") });
    }
    if preset.data.len() > max_bytes {
        return Err(PluginError::PresetTooLarge { bytes: preset.data.len(), limit: max_bytes });
    }
    if std::str::from_utf8(&wasm[preset.data.clone()]).is_err() {
        return Err(PluginError::Malformed { reason: format!("its section {PRESET_SECTION} is not UTF-8") });
    }
    Ok(Some(preset))
}

fn check_version(versions: &[String]) -> Result<String, PluginError> {
    match versions {
        [] => Err(PluginError::NoApiVersion),
        [version] if API_VERSIONS.contains(&version.as_str()) => Ok(version.clone()),
        [version] => Err(PluginError::VersionMismatch { plugin: printable(version), host: API_VERSIONS.join(", ") }),
        _ => Err(PluginError::Malformed { reason: format!("it has more than one section {API_SECTION}") }),
    }
}

/// A foreign name as a message may show it.
fn printable(name: &str) -> String {
    let cut = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    cut.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_linked() {
        for name in ["wasi:http/types@0.2.12", "wasi:io/streams@0.2.0", "thimble:connector/sink@0.1.0"] {
            assert!(is_linked(name), "{name}");
        }
        for name in [
            "wasi:sockets/tcp@0.2.3",
            "wasi:http/types",
            "wasi:http/types@0.3.0",
            "wasi:http/incoming-handler@0.2.3",
            "thimble:connector/sink@0.2.0",
            "env",
        ] {
            assert!(!is_linked(name), "{name}");
        }
    }

    #[test]
    fn files_that_are_no_components() {
        let limits = Limits { component_bytes: 19, ..Limits::default() };
        let refuse = |wasm: &[u8]| inspect(wasm, &Limits::default()).unwrap_err().to_string();
        assert!(refuse(b"").contains("it is empty"));
        assert!(refuse(b"(component)").contains("it is text"));
        assert!(refuse(b"\x00\x01\x02\x03").contains("magic number"));
        assert!(refuse(b"\x7fELF\x02").contains("precompiled code"));
        assert!(refuse(b"\0asm\x01\0\0\0").contains("core module"));
        assert!(refuse(b"\0asm\x0d\0\x01\0").contains("thimble:api-version"));
        assert!(refuse(b"\0asm\x0d\0\x01\0\x09\xff").contains("damaged"));
        assert!(inspect(&[0; 20], &limits).unwrap_err().to_string().contains("component_bytes = 19"));
    }
}
