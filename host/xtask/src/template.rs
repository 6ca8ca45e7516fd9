//! The crate that a new connector starts from: files of `sdk/template` with their placeholders filled.

use std::path::{Path, PathBuf};

/// Path in the new crate, and content with `{{name}}` and `{{sdk}}` in it.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../../sdk/template/Cargo.toml")),
    ("README.md", include_str!("../../../sdk/template/README.md")),
    ("thimble.yaml", include_str!("../../../sdk/template/thimble.yaml")),
    // Under another name in the tree, where it would hide files of ours.
    (".gitignore", include_str!("../../../sdk/template/gitignore")),
    ("src/lib.rs", include_str!("../../../sdk/template/src/lib.rs")),
    ("src/config.schema.json", include_str!("../../../sdk/template/src/config.schema.json")),
];
/// Where the SDK is published.
const REPOSITORY: &str = "https://github.com/thimble-data/thimble";

/// Where a new crate finds the SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdk {
    /// The folder `sdk/rust` of a checkout.
    Path(PathBuf),
    /// The published repository.
    Repository,
}

impl Sdk {
    /// The checkout that this was built from while it exists, else the repository.
    pub fn nearest() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust");
        std::fs::canonicalize(here).map_or(Self::Repository, Self::Path)
    }

    fn dependency(&self) -> String {
        match self {
            // JSON's quoting of a string is also TOML's.
            Self::Path(path) => format!("path = {}", serde_json::Value::from(path.to_string_lossy())),
            Self::Repository => format!("git = \"{REPOSITORY}\""),
        }
    }
}

/// The files of a new connector: path inside its folder, and content. `name`: lower case letters, digits
/// and `-`; checked by the caller.
pub fn render(name: &str, sdk: &Sdk) -> Vec<(String, String)> {
    let fill = |text: &str| text.replace("{{name}}", name).replace("{{sdk}}", &sdk.dependency());
    FILES
        .iter()
        .map(|(path, text)| {
            // `{{ url }}` in the sources is a permission template of the connector, not a placeholder.
            let text = if path.starts_with("src/") { (*text).to_owned() } else { fill(text) };
            ((*path).to_owned(), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_need_no_placeholder_and_nothing_else_keeps_one() {
        for (path, text) in render("my-api", &Sdk::Path("/a \"b\"/sdk".into())) {
            assert!(!text.contains("{{name}}") && !text.contains("{{sdk}}"), "{path}");
        }
        let files = render("my-api", &Sdk::Path("/a \"b\"/sdk".into()));
        let manifest = &files.iter().find(|(path, _)| path == "Cargo.toml").unwrap().1;
        assert!(manifest.contains("name = \"my-api\""));
        assert!(manifest.contains(r#"thimble-sdk = { path = "/a \"b\"/sdk" }"#));
        assert!(render("x", &Sdk::Repository)[0].1.contains("git = \"https://"));
    }

    #[test]
    fn every_file_of_the_template_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/template");
        let mut on_disk = 0;
        for folder in [folder.clone(), folder.join("src")] {
            on_disk += std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()).count();
        }
        assert_eq!(on_disk, FILES.len());
    }

    #[test]
    fn the_sdk_of_this_checkout_is_found() {
        let Sdk::Path(path) = Sdk::nearest() else { panic!("no checkout") };
        assert!(path.join("Cargo.toml").exists());
    }
}
