//! The secret settings of one row of the control database: each sealed by itself under the row's own key.
//!
//! The row's key is wrapped by the host key; what is sealed is bound to workspace, kind and name of the row and to the
//! place of the setting, so that no value opens anywhere else. Changing the host key wraps the row's key anew and
//! touches no value.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{DataKey, EnvelopeError, KeyId, Keys, OVERHEAD, wrapped_under};

/// Most secret settings of one row.
pub const MAX_SEALED_FIELDS: usize = 1_000;
/// Longest sealed form of one row, in bytes.
pub const MAX_SEALED_ROW_BYTES: usize = 8 * 1024 * 1024;

const VERSION: u8 = 2;
/// Rows of this kind may still be sealed as one piece under the host key, as the first version did.
const CONNECTION: &str = "connection";

/// Secret settings by JSON pointer (`/auth/token`).
pub type SecretFields = BTreeMap<String, Value>;

/// The row that secrets belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    pub workspace: String,
    /// `connection`, `source`, `destination` or `notifier`.
    pub kind: &'static str,
    pub name: String,
}

impl SecretRow {
    /// A row by its workspace, its kind and its name.
    pub fn new(workspace: impl Into<String>, kind: &'static str, name: impl Into<String>) -> Self {
        Self { workspace: workspace.into(), kind, name: name.into() }
    }

    /// A connection's.
    pub fn connection(workspace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(workspace, CONNECTION, name)
    }

    /// Unambiguous bytes of the row and, for a value, its place.
    fn associated_data(&self, pointer: Option<&str>) -> Vec<u8> {
        let mut data = b"thimble secret v2\0".to_vec();
        for part in [self.workspace.as_str(), self.kind, self.name.as_str()].into_iter().chain(pointer) {
            data.extend_from_slice(&(part.len() as u64).to_le_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

impl fmt::Display for SecretRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    v: u8,
    /// The row's key, wrapped, in hexadecimal digits.
    key: String,
    /// Sealed JSON by pointer, in hexadecimal digits.
    fields: BTreeMap<String, String>,
}

impl Sealed {
    fn read(sealed: &[u8]) -> Result<Self, EnvelopeError> {
        if sealed.len() > MAX_SEALED_ROW_BYTES {
            return Err(EnvelopeError::TooLarge(sealed.len()));
        }
        let read: Self = serde_json::from_slice(sealed).map_err(|_| EnvelopeError::Unopenable)?;
        if read.v == VERSION { Ok(read) } else { Err(EnvelopeError::Unopenable) }
    }

    fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts by name always serialize")
    }

    fn wrapped(&self) -> Result<Vec<u8>, EnvelopeError> {
        hex::decode(&self.key).map_err(|_| EnvelopeError::Unopenable)
    }
}

/// Whether the bytes are one piece under the host key, as the first version sealed connections.
fn is_single_piece(sealed: &[u8]) -> bool {
    sealed.first() == Some(&super::FORMAT)
}

/// Seals the secret settings of a row under a new key of its own. No settings give no bytes.
pub fn seal_fields(keys: &Keys, row: &SecretRow, fields: &SecretFields) -> Result<Vec<u8>, EnvelopeError> {
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    if fields.len() > MAX_SEALED_FIELDS {
        return Err(EnvelopeError::TooMany(row.to_string()));
    }
    let key = DataKey::generate()?;
    let mut sealed = BTreeMap::new();
    for (pointer, value) in fields {
        let plain = Zeroizing::new(serde_json::to_vec(value).expect("a JSON value always serializes"));
        sealed.insert(pointer.clone(), hex::encode(key.seal(&row.associated_data(Some(pointer)), &plain)?));
    }
    let wrapped = keys.wrap(&key, &row.associated_data(None))?;
    let bytes = Sealed { v: VERSION, key: hex::encode(wrapped), fields: sealed }.write();
    if bytes.len() > MAX_SEALED_ROW_BYTES {
        return Err(EnvelopeError::TooMany(row.to_string()));
    }
    Ok(bytes)
}

/// Opens what [`seal_fields`] made for the same row.
pub fn open_fields(keys: &Keys, row: &SecretRow, sealed: &[u8]) -> Result<SecretFields, EnvelopeError> {
    if sealed.is_empty() {
        return Ok(SecretFields::new());
    }
    if is_single_piece(sealed) {
        return open_single_piece(keys, row, sealed);
    }
    let sealed = Sealed::read(sealed)?;
    let key = keys.unwrap_key(&sealed.wrapped()?, &row.associated_data(None))?;
    let mut fields = SecretFields::new();
    for (pointer, value) in sealed.fields {
        let value = hex::decode(value).map_err(|_| EnvelopeError::Unopenable)?;
        let plain = Zeroizing::new(key.open(&row.associated_data(Some(&pointer)), &value)?);
        let value = serde_json::from_slice(&plain).map_err(|_| EnvelopeError::Unopenable)?;
        fields.insert(pointer, value);
    }
    Ok(fields)
}

fn open_single_piece(keys: &Keys, row: &SecretRow, sealed: &[u8]) -> Result<SecretFields, EnvelopeError> {
    if row.kind != CONNECTION || sealed.len() > super::MAX_SEALED_BYTES + OVERHEAD {
        return Err(EnvelopeError::Unopenable);
    }
    let associated = format!("connection-secrets/{}", row.name).into_bytes();
    let plain = Zeroizing::new(keys.ring().try_each(|key| key.open(&associated, sealed))?);
    serde_json::from_slice(&plain).map_err(|_| EnvelopeError::Unopenable)
}

/// The same secrets with the row's key wrapped by the current host key; `None` where it is already.
pub fn rewrap_fields(keys: &Keys, row: &SecretRow, sealed: &[u8]) -> Result<Option<Vec<u8>>, EnvelopeError> {
    let ring = keys.ring();
    if sealed.is_empty() || sealed_under(sealed) == Some(ring.current().id()) {
        return Ok(None);
    }
    if is_single_piece(sealed) {
        let fields = open_single_piece(keys, row, sealed)?;
        return seal_fields(keys, row, &fields).map(Some);
    }
    let mut read = Sealed::read(sealed)?;
    let associated = row.associated_data(None);
    let key = ring.unwrap_key(&read.wrapped()?, &associated)?;
    read.key = hex::encode(ring.wrap(&key, &associated)?);
    Ok(Some(read.write()))
}

/// The host key that the row's key is wrapped under; `None` where that cannot be told without opening it.
pub fn sealed_under(sealed: &[u8]) -> Option<KeyId> {
    if is_single_piece(sealed) {
        return None;
    }
    wrapped_under(&Sealed::read(sealed).ok()?.wrapped().ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::envelope::{HostKey, KEY_BYTES, KeyRing};

    fn key(byte: u8) -> HostKey {
        HostKey::from_bytes(&[byte; KEY_BYTES]).unwrap()
    }

    fn row() -> SecretRow {
        SecretRow::connection("default", "orders")
    }

    fn fields() -> SecretFields {
        SecretFields::from([("/password".into(), json!("hunter2")), ("/auth/token".into(), json!("s3same"))])
    }

    #[test]
    fn fields_open_in_their_row_only() {
        let keys = Keys::from(key(1));
        let sealed = seal_fields(&keys, &row(), &fields()).unwrap();
        assert_eq!(open_fields(&keys, &row(), &sealed).unwrap(), fields());
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("s3same"));
        // The lengths of the parts are bound too: a name cannot borrow from its neighbour.
        let others = [
            SecretRow::connection("default", "orders2"),
            SecretRow::connection("defaul", "torders"),
            SecretRow::connection("other", "orders"),
            SecretRow::new("default", "source", "orders"),
        ];
        for other in others {
            assert_eq!(open_fields(&keys, &other, &sealed), Err(EnvelopeError::Unopenable), "{other:?}");
        }
        assert!(matches!(open_fields(&Keys::from(key(2)), &row(), &sealed), Err(EnvelopeError::UnknownKey(_))));
    }

    #[test]
    fn a_value_moved_to_another_place_or_row_does_not_open() {
        let keys = Keys::from(key(1));
        let sealed: Sealed = serde_json::from_slice(&seal_fields(&keys, &row(), &fields()).unwrap()).unwrap();
        let mut swapped = Sealed { v: sealed.v, key: sealed.key.clone(), fields: sealed.fields.clone() };
        swapped.fields.insert("/password".into(), sealed.fields["/auth/token"].clone());
        assert_eq!(open_fields(&keys, &row(), &swapped.write()), Err(EnvelopeError::Unopenable));
        let mut moved = Sealed { v: sealed.v, key: sealed.key.clone(), fields: BTreeMap::new() };
        moved.fields.insert("/url".into(), sealed.fields["/password"].clone());
        assert_eq!(open_fields(&keys, &row(), &moved.write()), Err(EnvelopeError::Unopenable));
        // Of the same row, sealed at another time.
        let again: Sealed = serde_json::from_slice(&seal_fields(&keys, &row(), &fields()).unwrap()).unwrap();
        let mixed = Sealed { v: again.v, key: again.key, fields: sealed.fields };
        assert_eq!(open_fields(&keys, &row(), &mixed.write()), Err(EnvelopeError::Unopenable));
    }

    #[test]
    fn rewrapping_keeps_the_values_and_can_be_repeated() {
        let old = KeyRing::from(key(1));
        let sealed = seal_fields(&old.clone().into(), &row(), &fields()).unwrap();
        let ring = old.rotated(key(2), chrono::DateTime::UNIX_EPOCH).unwrap();
        let keys = Keys::from(ring.clone());
        assert_eq!(open_fields(&keys, &row(), &sealed).unwrap(), fields(), "before it is rewrapped");
        let rewrapped = rewrap_fields(&keys, &row(), &sealed).unwrap().unwrap();
        assert_eq!(sealed_under(&rewrapped), Some(key(2).id()));
        assert_eq!(rewrap_fields(&keys, &row(), &rewrapped).unwrap(), None);
        let retired = Keys::from(ring.retired());
        assert_eq!(open_fields(&retired, &row(), &rewrapped).unwrap(), fields());
        assert_eq!(open_fields(&retired, &row(), &sealed), Err(EnvelopeError::UnknownKey(key(1).id())));
        assert!(rewrap_fields(&keys, &SecretRow::connection("other", "orders"), &sealed).is_err());
    }

    #[test]
    fn secrets_of_the_first_version_open_and_move_on() {
        let plain = serde_json::to_vec(&fields()).unwrap();
        let old = key(1).seal(b"connection-secrets/orders", &plain).unwrap();
        let keys = Keys::from(KeyRing::from(key(1)).rotated(key(2), chrono::DateTime::UNIX_EPOCH).unwrap());
        assert_eq!(open_fields(&keys, &row(), &old).unwrap(), fields());
        assert_eq!(sealed_under(&old), None);
        let new = rewrap_fields(&keys, &row(), &old).unwrap().unwrap();
        assert_eq!(sealed_under(&new), Some(key(2).id()));
        assert_eq!(open_fields(&keys, &row(), &new).unwrap(), fields());
        assert_eq!(
            open_fields(&keys, &SecretRow::connection("default", "other"), &old),
            Err(EnvelopeError::Unopenable)
        );
        let source = SecretRow::new("default", "source", "orders");
        assert_eq!(open_fields(&keys, &source, &old), Err(EnvelopeError::Unopenable));
    }

    #[test]
    fn nothing_is_sealed_as_nothing_and_limits_hold() {
        let keys = Keys::from(key(1));
        assert!(seal_fields(&keys, &row(), &SecretFields::new()).unwrap().is_empty());
        assert!(open_fields(&keys, &row(), b"").unwrap().is_empty());
        assert_eq!(rewrap_fields(&keys, &row(), b"").unwrap(), None);
        let many: SecretFields = (0..=MAX_SEALED_FIELDS).map(|n| (format!("/{n}"), json!("x"))).collect();
        assert!(matches!(seal_fields(&keys, &row(), &many), Err(EnvelopeError::TooMany(_))));
        let long: SecretFields = (0..10).map(|n| (format!("/{n}"), json!("x".repeat(500_000)))).collect();
        assert!(matches!(seal_fields(&keys, &row(), &long), Err(EnvelopeError::TooMany(_))));
        let one = SecretFields::from([("/a".into(), json!("x".repeat(super::super::MAX_SEALED_BYTES)))]);
        assert!(matches!(seal_fields(&keys, &row(), &one), Err(EnvelopeError::TooLarge(_))));
        assert!(open_fields(&keys, &row(), &vec![b'{'; MAX_SEALED_ROW_BYTES + 1]).is_err());
        for bytes in [&b"{}"[..], b"x", b"\x02", b"\x01", b"null", br#"{"v":3,"key":"","fields":{}}"#] {
            assert!(open_fields(&keys, &row(), bytes).is_err(), "{bytes:?}");
        }
    }
}
