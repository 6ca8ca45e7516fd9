//! House rules on the text of the sources: sizes and names. Reads files; judges them line by line,
//! which is enough because rustfmt lays them out.

use std::path::{Path, PathBuf};

/// The most lines of a function, its signature and closing brace included.
pub const MAX_FUNCTION_LINES: usize = 70;
/// The most lines of a file before its tests.
pub const MAX_FILE_LINES: usize = 500;
/// Names that say nothing about what a module owns.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "types", "helpers", "manager"];
/// The most files that are read.
const MAX_FILES: usize = 20_000;

/// Every violation in the `.rs` files below the folders, as one sentence each with file and line.
///
/// # Errors
/// Where a folder or file cannot be read.
pub fn violations(root: &Path, folders: &[PathBuf]) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in folders {
        collect(folder, &mut files)?;
    }
    files.sort();
    files.dedup();
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path);
        found.extend(judge(shown, &text));
    }
    Ok(found)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            let foreign = name == "target" || name == "node_modules" || name.starts_with('.');
            if !foreign {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") && files.len() < MAX_FILES {
            files.push(path);
        }
    }
    Ok(())
}

/// The violations of one file.
fn judge(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let owned = lines.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(lines.len());
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    if owned > MAX_FILE_LINES && !in_tests {
        found.push(format!("{shown}: {owned} lines before its tests, at most {MAX_FILE_LINES}: split it by concern"));
    }
    for (start, name, length) in functions(&lines) {
        if length > MAX_FUNCTION_LINES {
            found.push(format!("{shown}:{start}: function {name} has {length} lines, at most {MAX_FUNCTION_LINES}"));
        }
    }
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned());
    for name in parts.filter(|name| EMPTY_NAMES.contains(&name.as_str())) {
        found.push(format!("{shown}: `{name}` says nothing about what the module owns: name it by its concern"));
    }
    for (number, line) in lines.iter().enumerate() {
        let module = line.trim().strip_prefix("pub ").unwrap_or(line.trim()).strip_prefix("mod ");
        let inline = module.and_then(|rest| rest.strip_suffix(" {"));
        if let Some(name) = inline.filter(|name| EMPTY_NAMES.contains(name)) {
            let number = number + 1;
            found.push(format!(
                "{shown}:{number}: `{name}` says nothing about what the module owns: name it by its concern"
            ));
        }
    }
    found
}

/// Line (from 1), name and length of each function with a body.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        if line.ends_with('}') {
            continue;
        }
        let same_indent = |candidate: &&str| candidate.len() - candidate.trim_start().len() == indent;
        let end = lines[start + 1..]
            .iter()
            .position(|candidate| same_indent(candidate) && (candidate.trim() == "}" || candidate.ends_with(';')));
        if let Some(end) = end.filter(|end| lines[start + 1 + end].trim() == "}") {
            found.push((start + 1, name, end + 2));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    if let Some(rest) = words.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")) {
        words = rest.1;
    }
    for word in ["pub ", "const ", "async ", "unsafe ", "extern \"C\" "] {
        words = words.strip_prefix(word).unwrap_or(words);
    }
    let name = words.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    if line.ends_with(';') { None } else { Some(&name[..end]) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn function(signature: &str, body: usize, indent: &str) -> String {
        format!("{indent}{signature} {{\n{}{indent}}}\n", format!("{indent}    let _ = 1;\n").repeat(body))
    }

    #[test]
    fn long_functions_are_named_with_their_line() {
        let text = [
            function("fn short()", 68, ""),
            function("pub(crate) async fn long<T>(a: T)", 69, ""),
            "impl A {\n".to_owned(),
            function("pub const fn inner(&self) -> u8", 90, "    "),
            "}\ntrait T {\n    fn without_body(\n        &self,\n    ) -> u8;\n}\n".to_owned(),
            "fn one_line() {}\n".to_owned(),
        ]
        .concat();
        let found = judge(Path::new("a/src/x.rs"), &text);
        assert_eq!(
            found,
            [
                "a/src/x.rs:71: function long has 71 lines, at most 70",
                "a/src/x.rs:143: function inner has 92 lines, at most 70",
            ]
        );
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let lines = "//\n".repeat(500);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n");
        assert_eq!(judge(Path::new("a.rs"), &format!("{lines}{tests}")), Vec::<String>::new());
        assert_eq!(judge(Path::new("a.rs"), &format!("//\n{lines}")).len(), 1);
        assert_eq!(judge(Path::new("a/tests/b.rs"), &format!("//\n{lines}")).len(), 0);
    }

    #[test]
    fn empty_names_are_found_as_file_folder_and_inline() {
        for path in ["a/src/utils.rs", "a/src/common/x.rs", "a/src/manager.rs"] {
            assert_eq!(judge(Path::new(path), "").len(), 1, "{path}");
        }
        assert_eq!(judge(Path::new("a.rs"), "pub mod helpers {\n}\n").len(), 1);
        assert_eq!(judge(Path::new("a/type_map.rs"), "mod typesetting;\n").len(), 0);
    }

    #[test]
    fn folders_are_walked_without_build_output() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["src/deep", "target/x", ".git"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("utils.rs"), "").unwrap();
        }
        let found = violations(folder.path(), &[folder.path().to_owned()]).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("src/deep/utils.rs: `utils`"), "{found:?}");
    }
}
