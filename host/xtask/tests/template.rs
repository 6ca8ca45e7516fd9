//! The template becomes a component, unedited: rendered, built with a real toolchain, and looked into.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thimble_xtask::template::{Sdk, render};
use thimble_xtask::toolchain::{Preference, Toolchain};
use thimble_xtask::{build, component};
use wasmparser::{ComponentExternName, Parser, Payload};

/// What `wit/v0.1/world.wit` allows a component to import.
const ALLOWED: [&str; 22] = [
    "thimble:connector/types@0.1.0",
    "thimble:connector/sink@0.1.0",
    "thimble:connector/log@0.1.0",
    "thimble:connector/net@0.1.0",
    "wasi:http/outgoing-handler@0.2",
    "wasi:http/types@0.2",
    "wasi:io/error@0.2",
    "wasi:io/poll@0.2",
    "wasi:io/streams@0.2",
    "wasi:clocks/monotonic-clock@0.2",
    "wasi:clocks/wall-clock@0.2",
    "wasi:random/random@0.2",
    "wasi:random/insecure@0.2",
    "wasi:random/insecure-seed@0.2",
    "wasi:cli/stdin@0.2",
    "wasi:cli/stdout@0.2",
    "wasi:cli/stderr@0.2",
    "wasi:cli/environment@0.2",
    "wasi:cli/exit@0.2",
    "wasi:filesystem/preopens@0.2",
    "wasi:filesystem/types@0.2",
    "wasi:cli/terminal-output@0.2",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn write_template(name: &str) -> PathBuf {
    let folder = folder(name);
    for (path, text) in render(name, &Sdk::nearest()) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // An unchanged file keeps its time, so that a second run of the test builds nothing.
        build::write_if_changed(&path, text.as_bytes()).unwrap();
    }
    // The versions of this workspace, so that nothing else is downloaded.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    std::fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    folder
}

fn imports_and_exports(wasm: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports, mut depth) = (BTreeSet::new(), BTreeSet::new(), 0);
    let named = |name: ComponentExternName<'_>| name.name.to_owned();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|import| named(import.unwrap().name)));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(section.into_iter().map(|export| named(export.unwrap().name)));
            }
            _ => {}
        }
    }
    (imports, exports)
}

#[test]
fn the_template_builds_to_a_component_of_the_world() {
    let crate_folder = write_template("sample-api");
    let toolchain = Toolchain::find(&folder("toolchain"), Preference::Any, &|line| eprintln!("{line}")).unwrap();
    let built = build::build(&toolchain, &[crate_folder], &folder("out")).unwrap();
    assert_eq!(built[0].name, "sample-api");
    let wasm = std::fs::read(&built[0].path).unwrap();
    assert_eq!(wasm.len() as u64, built[0].bytes);
    wasmparser::Validator::new().validate_all(&wasm).unwrap();
    assert_eq!(component::componentize(&wasm).unwrap(), wasm, "the version section is there already");

    let (imports, exports) = imports_and_exports(&wasm);
    for import in &imports {
        let allowed = ALLOWED.iter().any(|known| import == known || import.starts_with(&format!("{known}.")));
        assert!(allowed, "{import} is not in the world");
    }
    for needed in ["thimble:connector/sink@0.1.0", "wasi:http/outgoing-handler@0.2.12"] {
        assert!(imports.contains(needed), "{needed} is missing: {imports:?}");
    }
    assert_eq!(exports, BTreeSet::from(["thimble:connector/source@0.1.0".to_owned()]));
    assert!(wasm.len() < 1024 * 1024, "a small connector has {} bytes", wasm.len());
}
