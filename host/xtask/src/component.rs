//! A core module becomes a component: bytes to bytes, no I/O.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

/// The custom section that tells the host which API a component speaks.
pub const VERSION_SECTION: &str = "thimble:api-version";
/// The version written where a module does not say.
pub const API_VERSION: &str = "0.1.0";
/// The most bytes of a module that is taken: the host's own limit for components is below it.
pub const MAX_MODULE_BYTES: usize = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("the file is not a WebAssembly module: give the .wasm that cargo built for wasm32-wasip1")]
    NotWasm(#[source] wasmparser::BinaryReaderError),
    #[error("the module has {0} bytes, at most {MAX_MODULE_BYTES} are taken: build it with `opt-level` and `strip`")]
    TooLarge(usize),
    #[error("the module says no API version that is text in `{VERSION_SECTION}`")]
    BadVersion,
    #[error(
        "the module does not become a component ({0}): its crate needs `crate-type = [\"cdylib\"]` and \
         `thimble_sdk::register_source!`"
    )]
    Encoding(String),
}

/// Turns a module built for `wasm32-wasip1` into a component with the version section. A component is
/// returned as it is, but for the section where it was missing.
///
/// # Errors
/// What the file is instead, and what to do about it.
pub fn componentize(wasm: &[u8]) -> Result<Vec<u8>, ComponentError> {
    if wasm.len() > MAX_MODULE_BYTES {
        return Err(ComponentError::TooLarge(wasm.len()));
    }
    let found = inspect(wasm)?;
    let mut component = if found.is_component { wasm.to_vec() } else { encode(wasm)? };
    if !found.version_on_top || !found.is_component {
        let version = found.version.unwrap_or_else(|| API_VERSION.to_owned());
        append_section(&mut component, VERSION_SECTION, version.as_bytes());
    }
    Ok(component)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| ComponentError::Encoding(one_line(&format!("{error:#}"))))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Found {
    is_component: bool,
    version: Option<String>,
    version_on_top: bool,
}

/// Looks for the version section at the top and inside nested modules, where cargo-component leaves it.
fn inspect(wasm: &[u8]) -> Result<Found, ComponentError> {
    let mut found = Found { is_component: false, version: None, version_on_top: false };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(ComponentError::NotWasm)? {
            Payload::Version { encoding, .. } if depth == 0 => found.is_component = encoding == Encoding::Component,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if section.name() == VERSION_SECTION => {
                let text = std::str::from_utf8(section.data()).map_err(|_| ComponentError::BadVersion)?;
                if depth == 0 || found.version.is_none() {
                    found.version = Some(text.to_owned());
                }
                found.version_on_top |= depth == 0;
            }
            _ => {}
        }
    }
    Ok(found)
}

fn append_section(wasm: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = Vec::with_capacity(name.len() + data.len() + 2);
    leb128(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    wasm.push(0);
    leb128(wasm, content.len());
    wasm.extend_from_slice(&content);
}

fn leb128(into: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY_COMPONENT: &str = "(component)";

    fn version_of(wasm: &[u8]) -> (Option<String>, bool) {
        let found = inspect(wasm).unwrap();
        (found.version, found.version_on_top)
    }

    #[test]
    fn a_component_gets_the_section_once() {
        let bare = wat::parse_str(EMPTY_COMPONENT).unwrap();
        let once = componentize(&bare).unwrap();
        assert_eq!(version_of(&once), (Some("0.1.0".to_owned()), true));
        assert_eq!(componentize(&once).unwrap(), once);
        wasmparser::Validator::new().validate_all(&once).unwrap();
    }

    #[test]
    fn a_version_inside_comes_to_the_top() {
        let text = format!("(component (core module (@custom \"{VERSION_SECTION}\" \"0.9.1\")))");
        let nested = wat::parse_str(text).unwrap();
        assert_eq!(version_of(&nested), (Some("0.9.1".to_owned()), false));
        assert_eq!(version_of(&componentize(&nested).unwrap()), (Some("0.9.1".to_owned()), true));
    }

    #[test]
    fn a_long_section_has_a_long_length() {
        let mut wasm = wat::parse_str(EMPTY_COMPONENT).unwrap();
        append_section(&mut wasm, "long", &vec![7; 70_000]);
        wasmparser::Validator::new().validate_all(&wasm).unwrap();
    }

    #[test]
    fn what_is_no_connector_is_refused_in_one_sentence() {
        for junk in [&b""[..], b"#!/bin/sh", b"\0asm", b"\0asm\x01\0\0\0\xff"] {
            assert!(matches!(componentize(junk), Err(ComponentError::NotWasm(_))), "{junk:?}");
        }
        let importing = wat::parse_str("(module (import \"env\" \"magic\" (func)))").unwrap();
        let error = componentize(&importing).unwrap_err().to_string();
        assert!(error.contains("env") && !error.contains('\n'), "{error}");
    }
}
