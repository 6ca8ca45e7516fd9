//! Names of schemas, tables, columns and indexes. Pure.
//!
//! A name that the server takes as it is stays itself, quoted, so that case counts. Any other becomes a readable beginning,
//! `_` and a digest of the whole name; a name that merely looks like such a one is digested too, so that the map is
//! injective.

use sha2::{Digest, Sha256};
use thimble_record::{Generation, SystemColumn, SystemNaming, rejected::REJECTED_STREAM, system::SYSTEM_PREFIX};

use crate::limits::IDENTIFIER_BYTES;

/// Hexadecimal digits of a digest in a name.
const DIGEST_DIGITS: usize = 24;

/// Columns that every table of the server has.
const SERVER_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// Columns that are added here and never staged, in both namings: no field may take their names.
const ADDED: [SystemColumn; 4] =
    [SystemColumn::LoadedAt, SystemColumn::ValidFrom, SystemColumn::ValidTo, SystemColumn::Current];

/// Beginning of the names of unique indexes on keys.
pub(super) const KEY_INDEX: &str = "_thimble_key_";

/// Beginning of the names of indexes of subtables on the root's key.
pub(super) const ROOT_INDEX: &str = "_thimble_root_";

/// The table of a stream.
pub fn table_name(stream: &str) -> String {
    let reserved = stream.starts_with(SYSTEM_PREFIX) && stream != REJECTED_STREAM;
    if reserved || !plain(stream) { digested(stream) } else { stream.to_owned() }
}

/// The column of a field.
pub fn column_name(field: &str) -> String {
    let added = |naming: SystemNaming| ADDED.iter().any(|&column| naming.name(column) == field);
    let reserved = SERVER_COLUMNS.contains(&field) || added(SystemNaming::Thimble) || added(SystemNaming::Sdc);
    if reserved || !plain(field) { digested(field) } else { field.to_owned() }
}

/// The schema of a name.
pub fn schema_name(name: &str) -> String {
    // The server keeps this prefix for itself.
    let servers = name.starts_with("pg_");
    if servers || name == "information_schema" || !plain(name) {
        with_digest(&format!("{}{name}", if servers { "_" } else { "" }), &[name])
    } else {
        name.to_owned()
    }
}

/// The table of a stream whose own name is another connection's already.
pub(super) fn own_table_name(connection: &str, table: &str) -> String {
    with_digest(table, &[connection, table])
}

/// The table that a full refresh of a table is written to.
pub(super) fn shadow_name(table: &str, generation: Generation) -> String {
    format!("{}{generation}_{}", SHADOW, digest(&[table]))
}

const SHADOW: &str = "_thimble_g";

/// The generation that a table is the shadow of, of this table.
pub(super) fn shadow_generation(name: &str, table: &str) -> Option<Generation> {
    let (number, of) = name.strip_prefix(SHADOW)?.split_once('_')?;
    if of == digest(&[table]) { number.parse().ok().map(Generation) } else { None }
}

/// An index on these columns of a table.
pub(super) fn index_name(prefix: &str, table: &str, columns: &[&str]) -> String {
    let mut parts = vec![table];
    parts.extend(columns);
    format!("{prefix}{}", digest(&parts))
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as it is kept in the server's tables: text without NUL. Injective.
pub(super) fn kept(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\0', "\\0")
}

/// Undoes [`kept`].
pub(super) fn unkept(kept: &str) -> String {
    let mut name = String::with_capacity(kept.len());
    let mut characters = kept.chars();
    while let Some(character) = characters.next() {
        match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('0')) => name.push('\0'),
            ('\\', _) => name.push('\\'),
            (other, _) => name.push(other),
        }
    }
    name
}

/// Whether the server takes a name as it is, and it does not look like a digested one.
fn plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= IDENTIFIER_BYTES && !name.contains('\0') && !looks_digested(name)
}

fn looks_digested(name: &str) -> bool {
    let bytes = name.as_bytes();
    let Some(at) = bytes.len().checked_sub(DIGEST_DIGITS + 1) else { return false };
    bytes[at] == b'_' && bytes[at + 1..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digested(name: &str) -> String {
    with_digest(name, &[name])
}

fn with_digest(name: &str, parts: &[&str]) -> String {
    let readable = name.replace('\0', "");
    let end = readable.floor_char_boundary(IDENTIFIER_BYTES - DIGEST_DIGITS - 1);
    format!("{}_{}", &readable[..end], digest(parts))
}

fn digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut text = hex::encode(digest.finalize());
    text.truncate(DIGEST_DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What the map must do, written independently: a result is the name itself, or ends in the name's own digest.
    fn check(name: &str, mapped: &str, hashed: &str) -> Result<(), TestCaseError> {
        prop_assert!(!mapped.is_empty() && mapped.len() <= 63 && !mapped.contains('\0'), "{name:?} became {mapped:?}");
        let tail = mapped.get(mapped.len().saturating_sub(24)..).unwrap_or_default();
        let digested = mapped.len() >= 25
            && mapped.as_bytes()[mapped.len() - 25] == b'_'
            && tail.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digested {
            prop_assert_eq!(tail, hashed);
        } else {
            prop_assert_eq!(mapped, name);
        }
        Ok(())
    }

    fn names() -> impl Strategy<Value = String> {
        let digests = prop_oneof!["[0-9a-f]{24}", "[0-9a-f]{23,25}", Just(digest(&["ctid"]))];
        prop_oneof![
            r"[a-cA-C_0 \x00'é]{0,5}",
            r"\PC{0,80}",
            r"[a-b\n]{60,66}",
            ("[a-z]{0,40}", digests).prop_map(|(a, b)| format!("{a}_{b}")),
            prop::sample::select(vec!["ctid", "tableoid", "_thimble_loaded_at", "_sdc_batched_at", "_thimble_x", "id"])
                .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn names_are_injective_and_fit(name in names()) {
            check(&name, &column_name(&name), &digest(&[&name]))?;
            check(&name, &table_name(&name), &digest(&[&name]))?;
            // What was mapped is never mapped to itself.
            for mapped in [column_name(&name), table_name(&name)] {
                if mapped != name {
                    prop_assert_ne!(&column_name(&mapped), &mapped);
                    prop_assert_ne!(&table_name(&mapped), &mapped);
                }
            }
            prop_assert_eq!(unkept(&kept(&name)), name);
        }
    }

    #[test]
    fn all_short_names_differ() {
        let alphabet = ["", "_", "a", "A", "\0", "\"", "\n", "é"];
        let mut names = std::collections::HashSet::from([String::new()]);
        for _ in 0..4 {
            names = names.iter().flat_map(|s| alphabet.iter().map(move |a| format!("{s}{a}"))).collect();
        }
        let mut seen = HashMap::new();
        for name in names {
            let mapped = column_name(&name);
            assert!(mapped.len() <= 63);
            if let Some(other) = seen.insert(mapped.clone(), name.clone()) {
                assert_eq!(other, name, "both became {mapped:?}");
            }
        }
    }

    #[test]
    fn known_names() {
        for name in ["id", "ID", "select", "a\"b", "line\nbreak", "_thimble_sequence", "_sdc_sequence", "é"] {
            assert_eq!(column_name(name), name);
        }
        assert_eq!(column_name("ctid"), format!("ctid_{}", digest(&["ctid"])));
        assert_eq!(table_name("_thimble_rejected"), "_thimble_rejected");
        assert!(table_name("_thimble_commits").starts_with("_thimble_commits_"));
        assert_ne!(column_name(&"x".repeat(64)), column_name(&"x".repeat(65)));
        assert_eq!(schema_name("shop"), "shop");
        assert!(schema_name("pg_shop").starts_with("_pg_shop_") && schema_name("pg_shop").len() <= 63);
        assert_ne!(schema_name("information_schema"), "information_schema");
        assert!(schema_name(&"x".repeat(64)).len() <= 63);
        assert!(schema_name(&format!("pg_{}", "x".repeat(61))).len() <= 63);
    }

    #[test]
    fn shadows_are_found_again() {
        let shadow = shadow_name("orders", Generation(u64::MAX));
        assert!(shadow.len() <= 63);
        assert_eq!(shadow_generation(&shadow, "orders"), Some(Generation(u64::MAX)));
        assert_eq!(shadow_generation(&shadow, "order"), None);
    }
}
