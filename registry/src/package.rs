//! A component file, described from its bytes alone.

use sha2::{Digest, Sha256};
use thimble_record::{ErrorKind, Failure};
use wasmparser::{Encoding, Parser, Payload};

use crate::{
    limits::Limits,
    preset::{self, PRESET_SECTION},
};

/// The custom section in which a component names its API.
pub const VERSION_SECTION: &str = "thimble:api-version";
/// What every source exports, before its version.
const SOURCE_EXPORT: &str = "thimble:connector/source@";

/// What a component file says of itself. Nothing of it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// SHA-256 of the file, in hex: its identity.
    pub digest: String,
    /// Bytes of the file.
    pub size: u64,
    /// As in the section `thimble:api-version`.
    pub api_version: semver::Version,
    /// Names of its imports with their versions, sorted.
    pub imports: Vec<String>,
    /// Names of its exports, sorted.
    pub exports: Vec<String>,
    /// Custom sections at the top, in order.
    pub sections: Vec<Section>,
}

/// A custom section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackageError {
    #[error("the file has {bytes} bytes, at most {limit} are allowed: build it with `thimble build`, which strips it")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the file is not WebAssembly: give the .wasm that `thimble build` wrote")]
    NotWasm,
    #[error("the file is a core WebAssembly module, not a component: build it with `thimble build`")]
    CoreModule,
    #[error("the file is a component that is damaged at byte {offset} ({what}): build or fetch it again")]
    Damaged { offset: u64, what: String },
    #[error("the component has more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the component has a name of {bytes} bytes among its {what}, at most {limit} are allowed")]
    NameTooLong { what: &'static str, bytes: usize, limit: usize },
    #[error("the component does not say its API version in `{VERSION_SECTION}`: build it with a Thimble SDK")]
    NoApiVersion,
    #[error("the component says its API version twice, and differently: build it again")]
    TwoApiVersions,
    #[error("the component's API version `{text}` is not a version such as 0.1.0: build it with a Thimble SDK")]
    BadApiVersion { text: String },
    #[error("the component exports no `thimble:connector/source`: it is not a connector")]
    NotAConnector,
    #[error("the preset has {bytes} bytes, at most {limit} are allowed: make the manifest smaller")]
    PresetTooLarge { bytes: usize, limit: usize },
    #[error("the preset is not UTF-8: save the manifest as UTF-8")]
    PresetNotText,
    #[error("the component carries a preset, and can carry one only: pack the component that it was made from")]
    HasPreset,
}

impl PackageError {
    /// As it is stored and shown: the operator has to bring another file.
    pub fn failure(&self) -> Failure {
        let over = matches!(
            self,
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::NameTooLong { .. } | Self::PresetTooLarge { .. }
        );
        Failure::new(if over { ErrorKind::Refused } else { ErrorKind::Config }, self.to_string())
    }
}

impl Package {
    /// Describes a component file.
    ///
    /// # Errors
    /// What the file is instead, or which limit it is over.
    pub fn inspect(bytes: &[u8]) -> Result<Self, PackageError> {
        Self::inspect_within(bytes, &Limits::default())
    }

    /// As [`Package::inspect`], with limits of the caller's.
    ///
    /// # Errors
    /// As [`Package::inspect`].
    pub fn inspect_within(bytes: &[u8], limits: &Limits) -> Result<Self, PackageError> {
        if bytes.len() > limits.package_bytes {
            return Err(PackageError::TooLarge { bytes: bytes.len(), limit: limits.package_bytes });
        }
        let outline = Outline::read(bytes, limits)?;
        if !outline.exports.iter().any(|name| name.starts_with(SOURCE_EXPORT)) {
            return Err(PackageError::NotAConnector);
        }
        let api_version = outline.api_version()?;
        let Outline { mut imports, mut exports, sections, top_version: _, nested_version: _ } = outline;
        imports.sort();
        exports.sort();
        let digest = hex::encode(Sha256::digest(bytes));
        Ok(Self { digest, size: bytes.len() as u64, api_version, imports, exports, sections })
    }
}

/// What is read off in one pass.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    sections: Vec<Section>,
    top_version: Option<String>,
    /// Inside a nested module, where cargo-component leaves it.
    nested_version: Option<String>,
}

impl Outline {
    fn read(bytes: &[u8], limits: &Limits) -> Result<Self, PackageError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(PackageError::NotWasm);
        }
        let mut outline = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(damaged)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(PackageError::CoreModule);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        push(&mut outline.imports, "imports", import.map_err(damaged)?.name.name, limits)?;
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        push(&mut outline.exports, "exports", export.map_err(damaged)?.name.name, limits)?;
                    }
                }
                Payload::CustomSection(section) => {
                    if depth == 0 && section.name() == PRESET_SECTION {
                        outline.preset(section.data(), limits)?;
                    }
                    outline.custom(section.name(), section.data(), depth, limits)?;
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn preset(&self, data: &[u8], limits: &Limits) -> Result<(), PackageError> {
        if self.sections.iter().any(|section| section.name == PRESET_SECTION) {
            return Err(PackageError::HasPreset);
        }
        preset::check(data, limits)
    }

    fn custom(&mut self, name: &str, data: &[u8], depth: usize, limits: &Limits) -> Result<(), PackageError> {
        if name == VERSION_SECTION {
            // Longer than any version: cut, so that it fails as one and stays short in the message.
            let text = String::from_utf8_lossy(&data[..data.len().min(limits.name_bytes)]).into_owned();
            let place = if depth == 0 { &mut self.top_version } else { &mut self.nested_version };
            if place.as_ref().is_some_and(|known| *known != text) {
                return Err(PackageError::TwoApiVersions);
            }
            *place = Some(text);
        }
        if depth == 0 {
            check_count("custom sections", self.sections.len(), limits.sections)?;
            check_length("custom sections", name, limits)?;
            self.sections.push(Section { name: name.to_owned(), bytes: data.len() as u64 });
        }
        Ok(())
    }

    /// The one at the top counts; one inside must not contradict it.
    fn api_version(&self) -> Result<semver::Version, PackageError> {
        if let (Some(top), Some(nested)) = (&self.top_version, &self.nested_version)
            && top != nested
        {
            return Err(PackageError::TwoApiVersions);
        }
        let text = self.top_version.as_ref().or(self.nested_version.as_ref()).ok_or(PackageError::NoApiVersion)?;
        semver::Version::parse(text).map_err(|_| {
            let text = text.chars().filter(|c| !c.is_control()).take(40).collect();
            PackageError::BadApiVersion { text }
        })
    }
}

fn push(names: &mut Vec<String>, what: &'static str, name: &str, limits: &Limits) -> Result<(), PackageError> {
    check_count(what, names.len(), limits.names)?;
    check_length(what, name, limits)?;
    names.push(name.to_owned());
    Ok(())
}

fn check_count(what: &'static str, count: usize, limit: usize) -> Result<(), PackageError> {
    if count < limit { Ok(()) } else { Err(PackageError::TooMany { what, limit }) }
}

fn check_length(what: &'static str, name: &str, limits: &Limits) -> Result<(), PackageError> {
    let (bytes, limit) = (name.len(), limits.name_bytes);
    if bytes <= limit { Ok(()) } else { Err(PackageError::NameTooLong { what, bytes, limit }) }
}

fn damaged(error: wasmparser::BinaryReaderError) -> PackageError {
    PackageError::Damaged { offset: error.offset() as u64, what: error.message().to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOURCE: &str = "thimble:connector/source@0.1.0";

    fn component(version: &str, extra: &str) -> Vec<u8> {
        let text = format!(
            "(component (import \"wasi:io/poll@0.2.12\" (instance)) (import \"thimble:connector/log@0.1.0\" (instance $log))
               (instance $i) (export \"{SOURCE}\" (instance $i)) {version} {extra})"
        );
        wat::parse_str(text).unwrap()
    }

    fn version(text: &str) -> String {
        format!("(@custom \"{VERSION_SECTION}\" \"{text}\")")
    }

    #[test]
    fn a_component_is_described_without_running_it() {
        let bytes = component(&version("0.1.0"), "(@custom \"producers-x\" \"abc\")");
        let package = Package::inspect(&bytes).unwrap();
        assert_eq!(package.digest, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(package.size, bytes.len() as u64);
        assert_eq!(package.api_version, semver::Version::new(0, 1, 0));
        assert_eq!(package.imports, ["thimble:connector/log@0.1.0", "wasi:io/poll@0.2.12"]);
        assert_eq!(package.exports, [SOURCE]);
        assert!(package.sections.contains(&Section { name: "producers-x".into(), bytes: 3 }));
    }

    #[test]
    fn the_version_may_stand_inside_but_not_contradict() {
        let inside = |text: &str| format!("(core module {})", version(text));
        assert_eq!(Package::inspect(&component("", &inside("0.1.0"))).unwrap().api_version.to_string(), "0.1.0");
        assert!(Package::inspect(&component(&version("0.1.0"), &inside("0.1.0"))).is_ok());
        for bad in [
            component(&version("0.1.0"), &inside("0.2.0")),
            component(&version("0.1.0"), &version("0.2.0")),
            component("", &(inside("0.1.0") + &inside("0.2.0"))),
        ] {
            assert_eq!(Package::inspect(&bad), Err(PackageError::TwoApiVersions));
        }
        assert_eq!(Package::inspect(&component("", "")), Err(PackageError::NoApiVersion));
        let junk = Package::inspect(&component(&version("banana\\n"), ""));
        assert_eq!(junk, Err(PackageError::BadApiVersion { text: "banana".into() }));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(Package::inspect(b""), Err(PackageError::NotWasm));
        assert_eq!(Package::inspect(b"#!/bin/sh\n"), Err(PackageError::NotWasm));
        assert_eq!(Package::inspect(b"\x7fELF precompiled"), Err(PackageError::NotWasm));
        assert_eq!(Package::inspect(&wat::parse_str("(module)").unwrap()), Err(PackageError::CoreModule));
        let bare = wat::parse_str(format!("(component {})", version("0.1.0"))).unwrap();
        assert_eq!(Package::inspect(&bare), Err(PackageError::NotAConnector));
        let whole = component(&version("0.1.0"), "");
        let cut = Package::inspect(&whole[..whole.len() - 3]).unwrap_err();
        assert!(matches!(cut, PackageError::Damaged { .. }), "{cut}");
    }

    #[test]
    fn every_limit_is_kept() {
        let bytes = component(&version("0.1.0"), &"(@custom \"x\" \"\")".repeat(3));
        let within = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            Package::inspect_within(&bytes, &limits).unwrap_err()
        };
        assert!(matches!(within(|limits| limits.package_bytes = 20), PackageError::TooLarge { limit: 20, .. }));
        assert!(matches!(within(|limits| limits.names = 1), PackageError::TooMany { what: "imports", limit: 1 }));
        assert!(matches!(within(|limits| limits.sections = 2), PackageError::TooMany { what: "custom sections", .. }));
        assert!(matches!(within(|limits| limits.name_bytes = 10), PackageError::NameTooLong { what: "imports", .. }));
        assert_eq!(within(|limits| limits.names = 1).failure().kind, ErrorKind::Refused);
        assert_eq!(PackageError::NotWasm.failure().kind, ErrorKind::Config);
    }

    proptest::proptest! {
        #[test]
        fn damage_never_panics(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut bytes = component(&version("0.1.0"), "(core module (func))");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut % length + 1);
            let _ = Package::inspect(&bytes);
        }
    }
}
