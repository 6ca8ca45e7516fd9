//! The host keys that an installation has at one time, and the text of the file that keeps them.
//!
//! The first key wraps, all unwrap: a new key is put in front, everything is wrapped anew, then the old one is removed.
//! Keys for other purposes than wrapping (digests of columns, of tokens) must not change with it, because what they made
//! cannot be made again: they are derived from the first host key ever and from then on kept beside the ring.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use zeroize::Zeroize;

use super::{DataKey, EnvelopeError, HostKey, KEY_BYTES, wrapped_under};

/// Most keys of one ring. Each rotation adds one, and retiring removes all but the first.
pub const MAX_HOST_KEYS: usize = 8;

const STABLE: &str = "stable";
const ADDED: &str = "added";

/// Names a host key: 8 bytes, shown as 16 hexadecimal digits. Tells nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) [u8; KeyId::BYTES]);

impl KeyId {
    pub(super) const BYTES: usize = 8;

    pub(super) fn of(digest: &[u8; KEY_BYTES]) -> Self {
        let mut id = [0; Self::BYTES];
        id.copy_from_slice(&digest[..Self::BYTES]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What a key is for that outlives the host key it was derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Authenticates compiled plugins on disk.
    PluginCache,
    /// Hashes columns: equal values must stay equal for ever.
    ColumnDigests,
    /// Hashes API tokens.
    ApiTokens,
    /// Proves that two hosts have the same keys.
    Installation,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PluginCache, Self::ColumnDigests, Self::ApiTokens, Self::Installation];

    /// What goes into the derivation. Data on disk hangs on these texts.
    fn text(self) -> &'static str {
        match self {
            Self::PluginCache => "authenticate compiled plugins",
            Self::ColumnDigests => "digests of hashed columns",
            Self::ApiTokens => "digests of API tokens",
            Self::Installation => "identify the installation",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::PluginCache => "plugin-cache",
            Self::ColumnDigests => "column-digests",
            Self::ApiTokens => "api-tokens",
            Self::Installation => "installation",
        }
    }
}

#[derive(Clone)]
struct Entry {
    key: HostKey,
    id: KeyId,
    added: Option<DateTime<Utc>>,
}

/// The host keys of an installation, the current one first. It has no `Debug` or `Serialize`, on purpose.
#[derive(Clone)]
pub struct KeyRing {
    /// Never empty.
    entries: Vec<Entry>,
    /// Filled in at the first rotation; derived from the only key before.
    stable: BTreeMap<Purpose, [u8; KEY_BYTES]>,
}

impl Drop for KeyRing {
    fn drop(&mut self) {
        self.stable.values_mut().for_each(Zeroize::zeroize);
    }
}

impl From<HostKey> for KeyRing {
    fn from(key: HostKey) -> Self {
        Self { entries: vec![Entry { id: key.id(), key, added: None }], stable: BTreeMap::new() }
    }
}

impl KeyRing {
    /// Reads the key file: one key a line, the current one first, as 64 hexadecimal digits and, where it was added by a
    /// rotation, `added` and the time; lines `stable PURPOSE KEY`; comments after `#`.
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        let bad = |line: usize, what: &str| EnvelopeError::InvalidKey(format!("wrong in line {line}: {what}"));
        let mut entries = Vec::new();
        let mut stable = BTreeMap::new();
        for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line)) {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [STABLE, word, key] => {
                    let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.word() == *word);
                    let purpose = purpose.ok_or_else(|| bad(number, "it names an unknown purpose"))?;
                    let mut bytes = [0; KEY_BYTES];
                    hex::decode_to_slice(key, &mut bytes)
                        .map_err(|_| bad(number, "64 hexadecimal digits belong there"))?;
                    stable.insert(purpose, bytes);
                }
                [key, rest @ ..] => {
                    let added = match rest {
                        [] => None,
                        [ADDED, at] => {
                            let at =
                                DateTime::parse_from_rfc3339(at).map_err(|_| bad(number, "the time is not one"))?;
                            Some(at.with_timezone(&Utc))
                        }
                        _ => return Err(bad(number, "something else follows the key")),
                    };
                    let key = HostKey::from_hex(key)?;
                    entries.push(Entry { id: key.id(), key, added });
                }
            }
        }
        match entries.len() {
            0 => Err(EnvelopeError::InvalidKey("empty".into())),
            1..=MAX_HOST_KEYS => Ok(Self { entries, stable }),
            many => Err(EnvelopeError::InvalidKey(format!("{many} keys long; at most {MAX_HOST_KEYS} are kept"))),
        }
    }

    /// The text that [`parse`](Self::parse) reads; for the key file only.
    pub fn expose_text(&self) -> String {
        let mut text = String::new();
        for Entry { key, id: _, added } in &self.entries {
            text.push_str(&key.expose_hex());
            if let Some(at) = added {
                text.push_str(&format!(" {ADDED} {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)));
            }
            text.push('\n');
        }
        for (purpose, key) in &self.stable {
            text.push_str(&format!("{STABLE} {} {}\n", purpose.word(), hex::encode(key)));
        }
        text
    }

    /// With `key` in front, added at `at`. What must not change is written down now, as long as the first key is known.
    /// `None` where the ring is full.
    pub fn rotated(&self, key: HostKey, at: DateTime<Utc>) -> Option<Self> {
        if self.entries.len() >= MAX_HOST_KEYS {
            return None;
        }
        let mut entries = vec![Entry { id: key.id(), key, added: Some(at) }];
        entries.extend(self.entries.iter().cloned());
        let stable = Purpose::ALL.into_iter().map(|purpose| (purpose, self.stable(purpose))).collect();
        Some(Self { entries, stable })
    }

    /// With the current key alone.
    pub fn retired(&self) -> Self {
        Self { entries: self.entries[..1].to_vec(), stable: self.stable.clone() }
    }

    /// The key that wraps.
    pub fn current(&self) -> &HostKey {
        &self.entries[0].key
    }

    /// Ids of all keys, the current one first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }

    /// When the current key was added by a rotation.
    pub fn added(&self) -> Option<DateTime<Utc>> {
        self.entries[0].added
    }

    /// A key that stays the same when the host key changes.
    pub fn stable(&self, purpose: Purpose) -> [u8; KEY_BYTES] {
        // Where it was never written down, there was no rotation: the last key is the first one ever.
        let first = &self.entries[self.entries.len() - 1].key;
        self.stable.get(&purpose).copied().unwrap_or_else(|| first.derive(purpose.text()))
    }

    /// Wraps under the current key.
    pub fn wrap(&self, key: &DataKey, aad: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.current().wrap(key, aad)
    }

    /// Unwraps under whichever key it was wrapped.
    pub fn unwrap_key(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        match wrapped_under(wrapped) {
            Some(id) => {
                let entry = self.entries.iter().find(|entry| entry.id == id);
                entry.ok_or(EnvelopeError::UnknownKey(id))?.key.unwrap_key(wrapped, aad)
            }
            None => self.try_each(|key| key.unwrap_key(wrapped, aad)),
        }
    }

    /// The first success of the keys; the form is older than ids.
    pub(super) fn try_each<T>(
        &self,
        attempt: impl Fn(&HostKey) -> Result<T, EnvelopeError>,
    ) -> Result<T, EnvelopeError> {
        self.entries.iter().find_map(|entry| attempt(&entry.key).ok()).ok_or(EnvelopeError::Unopenable)
    }
}

/// Where the ring comes from: a file that another process may have changed.
pub trait KeySource: Send + Sync {
    /// The ring as it is now. Called for every use of a key, so it must be cheap.
    fn ring(&self) -> Arc<KeyRing>;
}

struct Fixed(Arc<KeyRing>);

impl KeySource for Fixed {
    fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0)
    }
}

/// The keys of this host as they are now. Cheap to clone; has no `Debug`, on purpose.
#[derive(Clone)]
pub struct Keys(Arc<dyn KeySource>);

impl Keys {
    /// Asks `source` at every use.
    pub fn new(source: Arc<dyn KeySource>) -> Self {
        Self(source)
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.0.ring()
    }

    /// [`KeyRing::wrap`] with the ring as it is now.
    pub fn wrap(&self, key: &DataKey, aad: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.ring().wrap(key, aad)
    }

    /// [`KeyRing::unwrap_key`] with the ring as it is now.
    pub fn unwrap_key(&self, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        self.ring().unwrap_key(wrapped, aad)
    }

    /// [`KeyRing::stable`] with the ring as it is now.
    pub fn stable(&self, purpose: Purpose) -> [u8; KEY_BYTES] {
        self.ring().stable(purpose)
    }
}

impl From<KeyRing> for Keys {
    fn from(ring: KeyRing) -> Self {
        Self(Arc::new(Fixed(Arc::new(ring))))
    }
}

impl From<HostKey> for Keys {
    fn from(key: HostKey) -> Self {
        KeyRing::from(key).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(byte: u8) -> HostKey {
        HostKey::from_bytes(&[byte; KEY_BYTES]).unwrap()
    }

    fn at() -> DateTime<Utc> {
        "2026-11-23T19:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_rotated_ring_wraps_under_the_new_key_and_unwraps_under_all() {
        let old = KeyRing::from(key(1));
        let data = DataKey::generate().unwrap();
        let wrapped = old.wrap(&data, b"a").unwrap();
        let ring = old.rotated(key(2), at()).unwrap();
        assert_eq!(ring.ids(), [key(2).id(), key(1).id()]);
        assert_eq!(ring.unwrap_key(&wrapped, b"a").unwrap().expose(), data.expose());
        assert_eq!(wrapped_under(&ring.wrap(&data, b"a").unwrap()), Some(key(2).id()));
        let retired = ring.retired();
        assert_eq!(retired.unwrap_key(&wrapped, b"a").err(), Some(EnvelopeError::UnknownKey(key(1).id())));
    }

    #[test]
    fn stable_keys_survive_any_number_of_rotations_and_retirements() {
        let ring = KeyRing::from(key(1));
        // What was derived before there were rings.
        assert_eq!(ring.stable(Purpose::ColumnDigests), key(1).derive("digests of hashed columns"));
        assert_eq!(ring.stable(Purpose::PluginCache), key(1).derive("authenticate compiled plugins"));
        let mut later = ring.clone();
        for byte in 2..20 {
            later = later.rotated(key(byte), at()).unwrap();
            later = KeyRing::parse(&later.expose_text()).unwrap();
            if byte % 3 == 0 {
                later = later.retired();
            }
        }
        for purpose in Purpose::ALL {
            assert_eq!(later.stable(purpose), ring.stable(purpose), "{purpose:?}");
        }
        assert!(!later.expose_text().contains(&key(1).expose_hex()), "the first key is gone");
    }

    #[test]
    fn the_file_comes_back_as_it_was_and_a_key_alone_is_a_ring() {
        let ring = KeyRing::from(key(1)).rotated(key(2), at()).unwrap();
        let text = format!("# keys\n\n{}", ring.expose_text());
        let read = KeyRing::parse(&text).unwrap();
        assert_eq!((read.ids(), read.added()), (ring.ids(), Some(at())));
        assert_eq!(read.expose_text(), ring.expose_text());
        let alone = KeyRing::parse(&format!("  {}  \n", key(3).expose_hex())).unwrap();
        assert_eq!((alone.ids(), alone.added()), (vec![key(3).id()], None));
    }

    #[test]
    fn a_damaged_file_is_refused_without_showing_a_key() {
        let good = key(7).expose_hex();
        let told = |text: String| {
            let message = KeyRing::parse(&text).err().unwrap().to_string();
            assert!(!message.contains(&good[..16]), "{message}");
            message
        };
        assert!(told(String::new()).contains("empty"));
        assert!(told(format!("{good}\n{good} later\n")).contains("line 2"));
        assert!(told(format!("{good} added yesterday\n")).contains("line 1"));
        assert!(told(format!("{good}\nstable other {good}\n")).contains("unknown purpose"));
        assert!(told(format!("{good}\nstable api-tokens {}\n", &good[..60])).contains("line 2"));
        assert!(told(good[..60].to_owned()).contains("60 characters"));
        assert!(told(format!("{good}\n").repeat(MAX_HOST_KEYS + 1)).contains("9 keys"));
        let full = (1..MAX_HOST_KEYS)
            .fold(KeyRing::from(key(7)), |ring, n| ring.rotated(key(u8::try_from(n).unwrap()), at()).unwrap());
        assert!(full.rotated(key(99), at()).is_none());
    }
}
