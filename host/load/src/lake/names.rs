//! Names of the lake's folders and files. Pure.
//!
//! ```text
//! <connection>/<table>/g<generation>/<seq>-<segment>.parquet   data
//! <connection>/<table>/manifest.json, current → g<generation>  derived, for plain readers
//! <connection>/views.sql                                       derived, for DuckDB
//! <connection>/_thimble/commits/<seq>.json                     the truth
//! <connection>/_thimble/fences/<epoch>                         who may write
//! <connection>/_thimble/incoming/…                             files being written to a local folder
//! ```
//! Numbers in names have 20 digits, so that names sort as numbers do.

use object_store::path::Path;
use sha2::{Digest, Sha256};
use thimble_record::{BatchSeq, ConnectionId, Epoch, Generation};

use crate::limits::TABLE_NAME_BYTES;

/// The folder of the lake's own files, in each connection's folder. No table has this name.
pub(crate) const OWN_FOLDER: &str = "_thimble";

/// The file of DuckDB views, in each connection's folder. No table has this name either.
pub(crate) const VIEWS_FILE: &str = "views.sql";

/// Names that some file systems keep for devices.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// The folder name of a stream: injective, also where case is ignored; letters, digits, `_`, `-` and inner dots only.
///
/// Lower-case letters, digits and `_` stand for themselves, and so do dots that are neither first nor last. `-` becomes
/// `--`, an upper-case letter `-` and its lower-case form, any other byte `-0` and two hexadecimal digits. A name that
/// grows beyond [`TABLE_NAME_BYTES`] is cut and ends in `-1` and its SHA-256. A name that would begin with `-` (after any
/// number of `_`) gets a `_` in front, so that no tool takes it for an option. The first byte of a reserved name is
/// written in hexadecimal.
pub fn table_name(stream: &str) -> String {
    let reserved =
        stream == OWN_FOLDER || stream == VIEWS_FILE || DEVICES.contains(&stream.split('.').next().unwrap_or_default());
    let last = stream.len().saturating_sub(1);
    let mut name = String::with_capacity(stream.len() + 8);
    let mut cut = 0;
    for (at, byte) in stream.bytes().enumerate() {
        match byte {
            _ if at == 0 && reserved => push_hex(&mut name, byte),
            b'a'..=b'z' | b'0'..=b'9' | b'_' => name.push(char::from(byte)),
            b'.' if at != 0 && at != last => name.push('.'),
            b'-' => name.push_str("--"),
            b'A'..=b'Z' => name.extend(['-', char::from(byte.to_ascii_lowercase())]),
            _ => push_hex(&mut name, byte),
        }
        if name.len() <= TABLE_NAME_BYTES - HASH_BYTES {
            cut = name.len();
        }
    }
    if name.is_empty() || name.len() >= TABLE_NAME_BYTES {
        name.truncate(cut);
        name.push_str("-1");
        name.push_str(&hex::encode(Sha256::digest(stream)));
    }
    if name.trim_start_matches('_').starts_with('-') { format!("_{name}") } else { name }
}

/// Length of `-1`, a SHA-256 in hex, and the `_` that may come in front.
const HASH_BYTES: usize = 2 + 64 + 1;

fn push_hex(name: &mut String, byte: u8) {
    name.push_str("-0");
    name.push_str(&hex::encode([byte]));
}

/// Folder of one generation of a table.
pub(crate) fn generation(connection: &ConnectionId, table: &str, generation: Generation) -> Path {
    Path::from(format!("{connection}/{table}/g{generation}"))
}

/// Folder of a table.
pub(crate) fn table(connection: &ConnectionId, table: &str) -> Path {
    Path::from(format!("{connection}/{table}"))
}

/// A data file.
pub(crate) fn data(connection: &ConnectionId, table: &str, g: Generation, seq: BatchSeq, segment: u32) -> Path {
    generation(connection, table, g).join(format!("{:020}-{segment}.parquet", seq.0))
}

/// The generation that a folder of a table is named for.
pub(crate) fn generation_of(folder: &str) -> Option<Generation> {
    let digits = folder.strip_prefix('g')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    if canonical && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok().map(Generation) } else { None }
}

fn own(connection: &ConnectionId, name: &str) -> Path {
    Path::from(format!("{connection}/{OWN_FOLDER}/{name}"))
}

pub(crate) fn commits(connection: &ConnectionId) -> Path {
    own(connection, "commits")
}

pub(crate) fn commit(connection: &ConnectionId, seq: BatchSeq) -> Path {
    commits(connection).join(format!("{:020}.json", seq.0))
}

pub(crate) fn fences(connection: &ConnectionId) -> Path {
    own(connection, "fences")
}

pub(crate) fn fence(connection: &ConnectionId, epoch: Epoch) -> Path {
    fences(connection).join(format!("{:020}", epoch.0))
}

pub(crate) fn incoming(connection: &ConnectionId) -> Path {
    own(connection, "incoming")
}

pub(crate) fn manifest(connection: &ConnectionId, table_name: &str) -> Path {
    table(connection, table_name).join("manifest.json")
}

pub(crate) fn views(connection: &ConnectionId) -> Path {
    Path::from(format!("{connection}/{VIEWS_FILE}"))
}

/// The number in the file name of a commit or a fence; `None` for what is not ours.
pub(crate) fn number_of(path: &Path, extension: &str) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(extension)?;
    if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// Undoes `table_name`, written independently; `None` for hashed names.
    fn decode(name: &str) -> Option<Vec<u8>> {
        let name = if name.trim_start_matches('_').starts_with('-') { &name[1..] } else { name };
        let bytes = name.as_bytes();
        let (mut out, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if bytes[at] != b'-' {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
            match bytes[at + 1] {
                b'-' => out.push(b'-'),
                b'0' => {
                    out.extend(hex::decode(&name[at + 2..at + 4]).unwrap());
                    at += 2;
                }
                b'1' => return None,
                letter => out.push(letter.to_ascii_uppercase()),
            }
            at += 2;
        }
        Some(out)
    }

    fn acceptable(name: &str) -> bool {
        let fine = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
        !name.is_empty()
            && name.len() <= TABLE_NAME_BYTES
            && name.bytes().all(fine)
            && !name.starts_with(['-', '.'])
            && !name.ends_with('.')
            && name != OWN_FOLDER
            && name != VIEWS_FILE
            && Path::from(format!("c/{name}")).as_ref() == format!("c/{name}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn names_are_injective_and_safe(stream in r"[-_.A-Ca-c0-2/ é%]{0,12}|\PC{0,120}") {
            let name = table_name(&stream);
            prop_assert!(acceptable(&name), "{stream:?} became {name:?}");
            if let Some(decoded) = decode(&name) {
                prop_assert_eq!(decoded, stream.as_bytes());
            } else {
                prop_assert!(name.ends_with(&hex::encode(Sha256::digest(&stream))));
            }
        }
    }

    #[test]
    fn all_short_names_of_a_hostile_alphabet_differ() {
        let alphabet = ["", "-", "_", ".", "a", "A", "0", "1", "/", "é"];
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut streams = HashSet::from([String::new()]);
        for _ in 0..4 {
            streams = streams.iter().flat_map(|s| alphabet.iter().map(move |a| format!("{s}{a}"))).collect();
        }
        for stream in streams {
            let name = table_name(&stream);
            assert!(acceptable(&name), "{stream:?} became {name:?}");
            if let Some(other) = seen.insert(name.clone(), stream.clone()) {
                assert_eq!(other, stream, "both became {name:?}");
            }
        }
    }

    #[test]
    fn known_names() {
        for (stream, name) in [
            ("orders", "orders"),
            ("public.users", "public.users"),
            ("orderItems", "order-items"),
            ("order-items", "order--items"),
            ("Users", "_-users"),
            ("_Users", "__-users"),
            ("_thimble_rejected", "_thimble_rejected"),
            ("_thimble", "_-05fthimble"),
            ("views.sql", "_-076iews.sql"),
            ("con", "_-063on"),
            ("nul.txt", "_-06eul.txt"),
            ("a/b", "a-02fb"),
            ("..", "_-02e-02e"),
        ] {
            assert_eq!(table_name(stream), name);
        }
        assert!(table_name(&"x".repeat(10_000)).starts_with("xxx"));
        assert_ne!(table_name(&"x".repeat(10_000)), table_name(&"x".repeat(10_001)));
    }

    #[test]
    fn generation_folders_are_read_back() {
        assert_eq!(generation_of("g0"), Some(Generation(0)));
        assert_eq!(generation_of("g12"), Some(Generation(12)));
        for other in ["g", "g01", "g1x", "current", "g-1", "g99999999999999999999999"] {
            assert_eq!(generation_of(other), None);
        }
    }
}
