//! Components that carry a preset: data, such as a declarative manifest, that every instance reads as standard input.
//!
//! Owns how a preset is put into a component file and found there, and which files are manifests. Must never read what
//! a manifest says: that is for the component that gets it.

use wasmparser::{Parser, Payload};

use crate::{
    limits::Limits,
    package::{Package, PackageError},
};

/// The custom section, at the outermost level of a component, that holds its preset.
pub const PRESET_SECTION: &str = "thimble:preset";

/// A component with a preset, made from one without. Equal inputs give equal files, and the code is untouched.
///
/// # Errors
/// What is wrong with the component, or which rule the preset breaks.
pub fn pack(component: &[u8], preset: &[u8]) -> Result<Vec<u8>, PackageError> {
    let limits = Limits::default();
    if Package::inspect(component)?.sections.iter().any(|section| section.name == PRESET_SECTION) {
        return Err(PackageError::HasPreset);
    }
    check(preset, &limits)?;
    let mut content = Vec::with_capacity(preset.len() + 32);
    leb128(PRESET_SECTION.len(), &mut content);
    content.extend_from_slice(PRESET_SECTION.as_bytes());
    content.extend_from_slice(preset);
    let mut packed = Vec::with_capacity(component.len() + content.len() + 8);
    packed.extend_from_slice(component);
    packed.push(CUSTOM_SECTION_ID);
    leb128(content.len(), &mut packed);
    packed.extend_from_slice(&content);
    if packed.len() > limits.package_bytes {
        return Err(PackageError::TooLarge { bytes: packed.len(), limit: limits.package_bytes });
    }
    Ok(packed)
}

/// The preset of a component; `None` where it carries none or is no component.
pub fn preset(component: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.ok()? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == PRESET_SECTION => {
                return Some(section.data());
            }
            _ => {}
        }
    }
    None
}

/// Whether a file is a declarative manifest in YAML or JSON rather than a component: a mapping with `type:
/// DeclarativeSource`, or with `streams` and `version`. Of YAML only the outermost keys are looked at, as they are
/// commonly written, so that nothing has to be parsed here.
pub fn is_manifest(file: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(file) else { return false };
    if file.len() > Limits::default().preset_bytes {
        return false;
    }
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('{') {
        let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text) else { return false };
        let declarative = fields.get("type").is_some_and(|kind| kind == DECLARATIVE_SOURCE);
        return declarative || (fields.contains_key("streams") && fields.contains_key("version"));
    }
    let (mut streams, mut version) = (false, false);
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default();
        // A key after spaces is not an outermost one.
        match unquoted(key.trim_end()) {
            "type" if unquoted(value.trim()) == DECLARATIVE_SOURCE => return true,
            "streams" => streams = true,
            "version" => version = true,
            _ => {}
        }
    }
    streams && version
}

const DECLARATIVE_SOURCE: &str = "DeclarativeSource";
/// Of a custom section, in the binary format.
const CUSTOM_SECTION_ID: u8 = 0;

/// What holds for every preset.
pub(crate) fn check(preset: &[u8], limits: &Limits) -> Result<(), PackageError> {
    if preset.len() > limits.preset_bytes {
        return Err(PackageError::PresetTooLarge { bytes: preset.len(), limit: limits.preset_bytes });
    }
    if std::str::from_utf8(preset).is_err() {
        return Err(PackageError::PresetNotText);
    }
    Ok(())
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// An unsigned number as WebAssembly writes it.
fn leb128(mut number: usize, out: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn component() -> Vec<u8> {
        let text = "(component (instance $i) (export \"thimble:connector/source@0.1.0\" (instance $i))
            (core module (@custom \"thimble:preset\" \"inside\"))
            (@custom \"thimble:api-version\" \"0.1.0\"))";
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_was_packed_is_found_and_leaves_the_rest_as_it_was() {
        let plain = component();
        assert_eq!(preset(&plain), None, "one inside a module is not meant");
        for data in ["", "streams: []", &"ä".repeat(100_000)] {
            let packed = pack(&plain, data.as_bytes()).unwrap();
            assert_eq!(preset(&packed), Some(data.as_bytes()));
            assert_eq!(packed[..plain.len()], plain);
            assert_eq!(packed, pack(&plain, data.as_bytes()).unwrap());
            assert_eq!(Package::inspect(&packed).unwrap().api_version.to_string(), "0.1.0");
        }
    }

    #[test]
    fn what_cannot_be_packed_is_said() {
        let limit = Limits::default().preset_bytes;
        assert_eq!(
            pack(&component(), &vec![b'x'; limit + 1]),
            Err(PackageError::PresetTooLarge { bytes: limit + 1, limit })
        );
        assert!(pack(&component(), &vec![b'x'; limit]).is_ok());
        assert_eq!(pack(&component(), b"\xff"), Err(PackageError::PresetNotText));
        assert_eq!(pack(b"streams: []", b""), Err(PackageError::NotWasm));
        let packed = pack(&component(), b"one").unwrap();
        assert_eq!(pack(&packed, b"two"), Err(PackageError::HasPreset));
        let mut twice = packed.clone();
        twice.extend_from_slice(&packed[component().len()..]);
        assert_eq!(Package::inspect(&twice), Err(PackageError::HasPreset));
    }

    #[test]
    fn manifests_are_told_from_other_files() {
        for manifest in [
            "version: 6.48.0\n\ntype: DeclarativeSource\n",
            "# a comment\nversion: \"1\"\ndefinitions:\n  x: 1\nstreams:\n  - a\n",
            "\u{feff}\"type\": 'DeclarativeSource' # the kind\r\n",
            r#" {"type": "DeclarativeSource"}"#,
            r#"{"version": "1", "streams": []}"#,
        ] {
            assert!(is_manifest(manifest.as_bytes()), "{manifest}");
        }
        for other in [
            "",
            "hello, world",
            "streams: []",
            "connections:\n  version: 1\n  streams: []\n",
            "x:\n  type: DeclarativeSource\n",
            r#"{"type": "x", "streams": []}"#,
            "{broken",
            "[]",
        ] {
            assert!(!is_manifest(other.as_bytes()), "{other}");
        }
        assert!(!is_manifest(b"\0asm\x0d\0\x01\0"));
        let mut long = b"type: DeclarativeSource\n".to_vec();
        long.resize(Limits::default().preset_bytes + 1, b'#');
        assert!(!is_manifest(&long));
    }
}
