//! Secret settings: what stands in for them inside a guest, and where their values are hidden again.
//!
//! Owns the values for the time of a run. Must never print, log or serialize one: there is no Debug, no Display and
//! no Serialize here, and the values leave only through [`Secrets::reveal`] into a request to a granted host.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

pub use crate::secret_fields::secret_fields;

/// What every placeholder starts with; 32 hexadecimal digits follow.
pub const PLACEHOLDER_PREFIX: &str = "thimble-secret-";
const PLACEHOLDER_DIGITS: usize = 32;
const PLACEHOLDER_BYTES: usize = PLACEHOLDER_PREFIX.len() + PLACEHOLDER_DIGITS;

/// What stands in logs where a secret stood.
const MASK: &str = "***";
/// Shorter values are not looked for in logs: they would blot out ordinary words.
const SCRUBBED_BYTES: usize = 4;
/// Shorter pieces of a value (a line, its base64) are not looked for either.
const SCRUBBED_PIECE_BYTES: usize = 10;
/// Values learned while the run goes on (tokens) that are scrubbed; the oldest ones, long run out, make room.
const MAX_LEARNED: usize = 256;

/// The secrets of one run. Cheap to clone; clones see what the others learn.
#[derive(Clone, Default)]
pub struct Secrets {
    inner: Arc<Inner>,
    /// Holds for this clone alone.
    lent: Option<Arc<Lent>>,
}

#[derive(Default)]
struct Inner {
    /// By placeholder.
    entries: HashMap<String, Entry>,
    /// Every spelling to hide.
    needles: Vec<SecretString>,
    longest: usize,
    learned: RwLock<VecDeque<Learned>>,
}

struct Entry {
    setting: String,
    value: RwLock<SecretString>,
}

/// A value that no setting holds, with every spelling to hide.
struct Learned {
    value: SecretString,
    needles: Vec<SecretString>,
}

/// A value that stands behind a placeholder for the time of one request.
struct Lent {
    placeholder: String,
    entry: Entry,
    before: Option<Arc<Lent>>,
}

impl Entry {
    fn new(setting: String, value: SecretString) -> Self {
        Self { setting, value: RwLock::new(value) }
    }

    fn value(&self) -> SecretString {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a value is spelt where it is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Raw,
    /// Everything but unreserved characters percent-encoded: URLs and forms.
    Percent,
    /// Inside a JSON string.
    Json,
}

impl Secrets {
    /// Replaces secret settings in `config` by placeholders and keeps their values.
    ///
    /// `secret_fields` and `reads` hold JSON pointers (`/auth/token`) or dotted names (`auth.token`); `*` stands for
    /// any item or key; a name of an object or array means everything in it. What `reads` names keeps its value in
    /// the configuration, because the connector must see it, and is still scrubbed from logs. `rng` gives 16 random
    /// bytes a call. Null and empty settings stay as they are.
    pub fn conceal(
        config: &Value,
        secret_fields: &[String],
        reads: &[String],
        rng: &mut dyn FnMut() -> [u8; 16],
    ) -> (Value, Self) {
        let mut concealer = Concealer {
            secret: secret_fields.iter().map(|name| segments(name)).collect(),
            reads: reads.iter().map(|name| segments(name)).collect(),
            rng,
            inner: Inner::default(),
        };
        let mut concealed = config.clone();
        concealer.walk(&mut concealed, &mut Vec::new());
        let mut inner = concealer.inner;
        inner.needles.sort_by_key(|needle| std::cmp::Reverse(needle.expose_secret().len()));
        inner.needles.dedup_by(|a, b| a.expose_secret() == b.expose_secret());
        inner.longest = inner.needles.first().map_or(0, |needle| needle.expose_secret().len());
        (concealed, Self { inner: Arc::new(inner), lent: None })
    }

    /// Whether nothing would ever be put in.
    pub fn is_empty(&self) -> bool {
        self.inner.entries.is_empty() && self.lent.is_none()
    }

    /// Length in bytes of the longest spelling that [`Self::scrub`] looks for.
    pub fn longest(&self) -> usize {
        let learned = self.inner.learned.read().unwrap_or_else(PoisonError::into_inner);
        let needles = learned.iter().flat_map(|learned| &learned.needles);
        needles.map(|needle| needle.expose_secret().len()).fold(self.inner.longest, usize::max)
    }

    /// Has a value scrubbed from now on that no setting holds, such as a token.
    pub fn hide(&self, value: &str) {
        let mut learned = self.inner.learned.write().unwrap_or_else(PoisonError::into_inner);
        if learned.iter().any(|known| known.value.expose_secret() == value) {
            return;
        }
        while learned.len() >= MAX_LEARNED {
            learned.pop_front();
        }
        let needles = spellings(value).into_iter().map(SecretString::from).collect();
        learned.push_back(Learned { value: value.into(), needles });
    }

    /// Gives a setting another value from now on. False where the setting has no placeholder.
    pub fn renew(&self, setting: &str, value: &SecretString) -> bool {
        let Some(entry) = self.entry_of(setting) else { return false };
        self.hide(value.expose_secret());
        *entry.value.write().unwrap_or_else(PoisonError::into_inner) = value.clone();
        true
    }

    /// The present value of a setting that has a placeholder.
    pub(crate) fn value_of(&self, setting: &str) -> Option<SecretString> {
        self.entry_of(setting).map(Entry::value)
    }

    fn entry_of(&self, setting: &str) -> Option<&Entry> {
        self.inner.entries.values().find(|entry| entry.setting == setting)
    }

    /// The same secrets and one more, behind a placeholder of the guest's choice.
    pub(crate) fn lend(&self, placeholder: &str, what: &str, value: SecretString) -> Self {
        let entry = Entry::new(what.to_owned(), value);
        let lent = Lent { placeholder: placeholder.to_owned(), entry, before: self.lent.clone() };
        Self { inner: self.inner.clone(), lent: Some(Arc::new(lent)) }
    }

    /// `text` with every known secret value, also percent-encoded, JSON-escaped or inside base64, as `***`.
    pub fn scrub(&self, text: &str) -> String {
        let mut found: Vec<(usize, usize)> = Vec::new();
        let learned = self.inner.learned.read().unwrap_or_else(PoisonError::into_inner);
        for needle in self.inner.needles.iter().chain(learned.iter().flat_map(|learned| &learned.needles)) {
            let needle = needle.expose_secret();
            let mut from = 0;
            while let Some(at) = text[from..].find(needle) {
                let start = from + at;
                found.push((start, start + needle.len()));
                // By one character, so that occurrences that overlap are all seen.
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            }
        }
        if found.is_empty() {
            return text.to_owned();
        }
        found.sort_unstable();
        let mut scrubbed = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in found {
            if start >= done {
                scrubbed.push_str(&text[done..start]);
                scrubbed.push_str(MASK);
            }
            done = done.max(end);
        }
        scrubbed.push_str(&text[done..]);
        scrubbed
    }

    /// `text` for others to see: placeholders and known values as `***`.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut done = 0;
        for (start, _) in self.placeholders(text.as_bytes()) {
            masked.push_str(&text[done..start]);
            masked.push_str(MASK);
            done = start + PLACEHOLDER_BYTES;
        }
        masked.push_str(&text[done..]);
        self.scrub(&masked)
    }

    /// `text` with placeholders replaced by their values; `None` where it holds none. One pass: a value that looks
    /// like a placeholder is not replaced again.
    pub(crate) fn reveal(&self, text: &[u8], form: Form) -> Option<Vec<u8>> {
        self.replace(text, |entry, revealed| spell(entry.value().expose_secret(), form, revealed))
    }

    /// `text` with placeholders replaced by their values, but by their names where the setting is one of `named`. What
    /// is made of it stays the same while those settings change.
    pub(crate) fn reveal_but(&self, text: &[u8], named: &[&str]) -> Vec<u8> {
        let revealed = self.replace(text, |entry, revealed| match named.contains(&entry.setting.as_str()) {
            true => revealed.extend_from_slice(entry.setting.as_bytes()),
            false => revealed.extend_from_slice(entry.value().expose_secret().as_bytes()),
        });
        revealed.unwrap_or_else(|| text.to_vec())
    }

    fn replace(&self, text: &[u8], put: impl Fn(&Entry, &mut Vec<u8>)) -> Option<Vec<u8>> {
        let mut revealed = Vec::new();
        let mut done = 0;
        for (start, entry) in self.placeholders(text) {
            revealed.extend_from_slice(&text[done..start]);
            put(entry, &mut revealed);
            done = start + PLACEHOLDER_BYTES;
        }
        if done == 0 {
            return None;
        }
        revealed.extend_from_slice(&text[done..]);
        Some(revealed)
    }

    /// Name of the first setting whose placeholder stands in `text`.
    pub(crate) fn setting_in<'a>(&'a self, text: &'a [u8]) -> Option<&'a str> {
        self.placeholders(text).next().map(|(_, entry)| entry.setting.as_str())
    }

    fn entry(&self, placeholder: &str) -> Option<&Entry> {
        let mut lent = self.lent.as_deref();
        while let Some(one) = lent {
            if one.placeholder == placeholder {
                return Some(&one.entry);
            }
            lent = one.before.as_deref();
        }
        self.inner.entries.get(placeholder)
    }

    fn placeholders<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, &'a Entry)> {
        let mut from = 0;
        let known = !self.is_empty();
        std::iter::from_fn(move || {
            while known && text.len() - from >= PLACEHOLDER_BYTES {
                let at = from + find(&text[from..], PLACEHOLDER_PREFIX.as_bytes())?;
                let entry = text
                    .get(at..at + PLACEHOLDER_BYTES)
                    .and_then(|found| std::str::from_utf8(found).ok())
                    .and_then(|found| self.entry(found));
                match entry {
                    Some(entry) => {
                        from = at + PLACEHOLDER_BYTES;
                        return Some((at, entry));
                    }
                    None => from = at + PLACEHOLDER_PREFIX.len(),
                }
            }
            None
        })
    }
}

/// Whether `text` is spelt as placeholders are.
pub(crate) fn is_placeholder(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = text.strip_prefix(PLACEHOLDER_PREFIX);
    digits.is_some_and(|digits| digits.len() == PLACEHOLDER_DIGITS && digits.bytes().all(digit))
}

/// Random bytes of the operating system, for [`Secrets::conceal`].
pub fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system has random bytes");
    bytes
}

/// Where `needle` starts. The first byte is searched for on its own, which is what makes it fast.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, _) = needle.split_first()?;
    let mut from = 0;
    while from + needle.len() <= text.len() {
        from += text[from..].iter().position(|byte| byte == first)?;
        if text[from..].starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
    None
}

fn spell(value: &str, form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Raw => out.extend_from_slice(value.as_bytes()),
        Form::Percent => out.extend_from_slice(percent(value).as_bytes()),
        Form::Json => out.extend_from_slice(json(value).as_bytes()),
    }
}

/// RFC 3986: everything but unreserved characters as `%XX`.
pub(crate) fn percent(value: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// `value` as it stands between the quotes of a JSON string.
fn json(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// `/a/b`, `a.b` and `a` as segments.
fn segments(name: &str) -> Vec<String> {
    match name.strip_prefix('/') {
        Some(pointer) => pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect(),
        None => name.split('.').map(str::to_owned).collect(),
    }
}

struct Concealer<'a> {
    secret: Vec<Vec<String>>,
    reads: Vec<Vec<String>>,
    rng: &'a mut dyn FnMut() -> [u8; 16],
    inner: Inner,
}

impl Concealer<'_> {
    fn walk(&mut self, value: &mut Value, path: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    path.push(name.clone());
                    self.walk(value, path);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter_mut().enumerate() {
                    path.push(index.to_string());
                    self.walk(value, path);
                    path.pop();
                }
            }
            Value::Null => {}
            leaf if named(&self.secret, path) => self.leaf(leaf, path),
            _ => {}
        }
    }

    fn leaf(&mut self, leaf: &mut Value, path: &[String]) {
        let value = match &*leaf {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if value.is_empty() {
            return;
        }
        self.inner.needles.extend(spellings(&value).into_iter().map(SecretString::from));
        if named(&self.reads, path) {
            return;
        }
        let placeholder = format!("{PLACEHOLDER_PREFIX}{}", hex::encode((self.rng)()));
        *leaf = Value::from(placeholder.clone());
        let entry = Entry::new(path.join("."), SecretString::from(value));
        self.inner.entries.insert(placeholder, entry);
    }
}

/// Whether `path` is one of `names` or lies below one.
fn named(names: &[Vec<String>], path: &[String]) -> bool {
    names
        .iter()
        .any(|name| name.len() <= path.len() && name.iter().zip(path).all(|(name, part)| name == "*" || name == part))
}

/// Every spelling of a value that a log line may hold.
fn spellings(value: &str) -> Vec<String> {
    if value.len() < SCRUBBED_BYTES {
        return Vec::new();
    }
    // Hosts are brought to lower case before anything is said of them.
    let mut all = vec![value.to_owned(), percent(value), json(value), value.to_ascii_lowercase()];
    // A key of many lines is printed line by line.
    all.extend(value.lines().map(str::trim).filter(|line| line.len() >= SCRUBBED_PIECE_BYTES).map(str::to_owned));
    for engine in [&general_purpose::STANDARD_NO_PAD, &general_purpose::URL_SAFE_NO_PAD] {
        // Where the value stands inside a longer text (`user:value`), its base64 depends on the offset: of each of
        // the three offsets keep the digits that no neighbour touches.
        for offset in 0..3 {
            let mut padded = vec![0; offset];
            padded.extend_from_slice(value.as_bytes());
            let digits = engine.encode(&padded);
            let first = [0, 2, 3][offset];
            let last = padded.len() / 3 * 4;
            if last >= first + SCRUBBED_PIECE_BYTES {
                all.push(digits[first..last].to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn counting() -> impl FnMut() -> [u8; 16] {
        let mut next = 0;
        move || {
            next += 1;
            [next; 16]
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn secrets_are_replaced_where_they_stand() {
        let config = json!({
            "url": "https://example.com",
            "token": "value-1",
            "auth": { "password": "value-2", "user": "me" },
            "key": { "id": "value-3", "parts": ["value-4", 12345] },
            "hosts": [{ "password": "value-5" }, { "password": "value-6" }],
            "a/b": "value-7",
            "empty": "",
            "none": null,
        });
        let fields =
            names(&["token", "auth.password", "/key", "/hosts/*/password", "/a~1b", "empty", "none", "absent"]);
        let (concealed, secrets) = Secrets::conceal(&config, &fields, &[], &mut counting());
        let text = concealed.to_string();
        assert!(!text.contains("value-") && !text.contains("12345"), "{text}");
        assert_eq!(concealed["url"], config["url"]);
        assert_eq!(concealed["auth"]["user"], "me");
        assert_eq!((&concealed["empty"], &concealed["none"]), (&json!(""), &json!(null)));
        assert_eq!(text.matches(PLACEHOLDER_PREFIX).count(), 8);
        let placeholder = concealed["hosts"][1]["password"].as_str().unwrap();
        assert_eq!(placeholder.len(), PLACEHOLDER_BYTES);
        assert_eq!(secrets.reveal(placeholder.as_bytes(), Form::Raw).unwrap(), b"value-6");
        assert_eq!(secrets.setting_in(placeholder.as_bytes()), Some("hosts.1.password"));
        let whole = secrets.reveal(text.as_bytes(), Form::Json).unwrap();
        assert_eq!(String::from_utf8(whole).unwrap(), config.to_string().replace("12345", "\"12345\""));
    }

    #[test]
    fn what_is_read_keeps_its_value_and_is_still_scrubbed() {
        let config = json!({ "password": "hunter2!", "token": "sesame99" });
        let fields = names(&["password", "token"]);
        let (concealed, secrets) = Secrets::conceal(&config, &fields, &names(&["password"]), &mut counting());
        assert_eq!(concealed["password"], "hunter2!");
        assert!(concealed["token"].as_str().unwrap().starts_with(PLACEHOLDER_PREFIX));
        assert_eq!(secrets.scrub("hunter2! sesame99"), "*** ***");
        // Reading does not make a setting secret that is not.
        let (concealed, _) = Secrets::conceal(&config, &[], &names(&["password"]), &mut counting());
        assert_eq!(concealed, config);
    }

    #[test]
    fn placeholders_are_random() {
        let fields = names(&["a"]);
        let config = json!({ "a": "x" });
        let (first, _) = Secrets::conceal(&config, &fields, &[], &mut random_bytes);
        let (second, _) = Secrets::conceal(&config, &fields, &[], &mut random_bytes);
        assert_ne!(first, second);
    }

    #[test]
    fn only_whole_known_placeholders_are_replaced_and_only_once() {
        let inner = format!("{PLACEHOLDER_PREFIX}{}", "02".repeat(16));
        let config = json!({ "a": inner, "b": "bee!" });
        let (concealed, secrets) = Secrets::conceal(&config, &names(&["a", "b"]), &[], &mut counting());
        let (a, b) = (concealed["a"].as_str().unwrap(), concealed["b"].as_str().unwrap());
        assert_eq!(b, inner);
        // The value of `a` is the placeholder of `b`: it stays.
        assert_eq!(secrets.reveal(a.as_bytes(), Form::Raw).unwrap(), inner.as_bytes());
        assert!(secrets.reveal(&b.as_bytes()[..PLACEHOLDER_BYTES - 1], Form::Raw).is_none());
        assert!(secrets.reveal(b"thimble-secret-", Form::Raw).is_none());
        assert!(secrets.reveal(b"", Form::Raw).is_none());
        let twice = format!("thimble-thimble-secret-{b}{b}x");
        assert_eq!(secrets.reveal(twice.as_bytes(), Form::Raw).unwrap(), b"thimble-thimble-secret-bee!bee!x");
        let binary = [b"\xff\xfe".as_slice(), b.as_bytes(), b"\xff"].concat();
        assert_eq!(secrets.reveal(&binary, Form::Raw).unwrap(), b"\xff\xfebee!\xff");
        assert!(Secrets::default().reveal(b.as_bytes(), Form::Raw).is_none());
    }

    #[test]
    fn every_spelling_is_scrubbed() {
        let value = "p@ss/wörd \"quoted\"+1";
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END KEY-----";
        let config = json!({ "a": value, "b": key, "short": "abc", "c": "abcdef", "d": "defghi" });
        let (_, secrets) = Secrets::conceal(&config, &names(&["a", "b", "c", "d", "short"]), &[], &mut counting());
        for text in [
            value.to_owned(),
            percent(value),
            Value::from(value).to_string(),
            "line MIIEvQIBADANBgkqhkiG9w0 of a key".to_owned(),
            key.to_owned(),
        ] {
            let scrubbed = secrets.scrub(&text);
            assert!(
                scrubbed.contains(MASK)
                    && !scrubbed.contains("wörd")
                    && !scrubbed.contains("w%C3")
                    && !scrubbed.contains("MIIE"),
                "{scrubbed}"
            );
        }
        for before in ["", "u", "us", "use", "user:"] {
            for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
                let text = engine.encode(format!("{before}{value}{before}"));
                let scrubbed = secrets.scrub(&text);
                assert!(
                    scrubbed.contains(MASK) && scrubbed.len() < MASK.len() + 4 + 2 * before.len() * 2 + 6,
                    "{text} {scrubbed}"
                );
            }
        }
        // Overlapping secrets leave no end behind; short ones are left alone.
        assert_eq!(secrets.scrub("x abcdefghi y abc"), "x *** y abc");
        assert_eq!(secrets.scrub("nothing here"), "nothing here");
        assert_eq!(Secrets::default().scrub("abcdef"), "abcdef");
    }

    #[test]
    fn what_a_run_learns_is_scrubbed_and_put_in_by_all_clones() {
        let (config, secrets) =
            Secrets::conceal(&json!({ "a": { "b": "first-value" } }), &names(&["a.b"]), &[], &mut counting());
        let placeholder = config["a"]["b"].as_str().unwrap();
        let clone = secrets.clone();
        assert!(secrets.renew("a.b", &"second-value".into()) && !secrets.renew("a.c", &"x".into()));
        assert_eq!(clone.reveal(placeholder.as_bytes(), Form::Raw).unwrap(), b"second-value");
        assert_eq!(clone.scrub("first-value second-value token-1"), "*** *** token-1");
        secrets.hide("token-1");
        assert_eq!(clone.scrub("token-1"), "***");
        let own = format!("{PLACEHOLDER_PREFIX}{}", "ab".repeat(16));
        let lent = secrets.lend(&own, "the token", "token-1".into());
        let text = format!("{own} {placeholder}");
        assert_eq!(lent.reveal(text.as_bytes(), Form::Raw).unwrap(), b"token-1 second-value");
        assert_eq!(lent.reveal_but(text.as_bytes(), &["a.b"]), b"token-1 a.b");
        assert!(clone.reveal(own.as_bytes(), Form::Raw).is_none());
        // The oldest ones make room.
        (0..MAX_LEARNED).for_each(|n| secrets.hide(&format!("other-{n}")));
        assert_eq!(secrets.scrub("token-1 other-0"), "token-1 ***");
    }

    #[test]
    fn schemas_mark_their_secrets() {
        let schema = json!({
            "properties": {
                "token": { "type": "string", "x-secret": true },
                "shown": { "type": "string", "x-secret": false },
                "auth": { "oneOf": [
                    { "properties": { "kind": { "const": "none" } } },
                    { "$ref": "#/$defs/basic" },
                ] },
                "tree": { "$ref": "#/$defs/tree" },
                "headers": { "additionalProperties": { "x-secret": true } },
                "list": { "items": { "allOf": [{ "x-secret": true }] } },
                "a/b": { "x-secret": true },
                "loop": { "$ref": "#/$defs/loop" },
            },
            "$defs": {
                "basic": { "properties": { "password": { "x-secret": true } } },
                "tree": { "properties": { "pin": { "x-secret": true }, "child": { "$ref": "#/$defs/tree" } } },
                "loop": { "anyOf": [{ "$ref": "#/$defs/loop" }] },
            },
        });
        let config = json!({
            "token": "t", "shown": "s", "auth": { "kind": "basic", "password": "p" },
            "tree": { "pin": 1, "child": { "pin": 2, "child": { "pin": 3 } } },
            "headers": { "x-key": "k" }, "list": ["a", "b"], "a/b": "c", "loop": "l", "unknown": "u",
        });
        let mut found = secret_fields(&schema, &config);
        found.sort();
        let expected = [
            "/auth/password",
            "/a~1b",
            "/headers/x-key",
            "/list/0",
            "/list/1",
            "/token",
            "/tree/child/child/pin",
            "/tree/child/pin",
            "/tree/pin",
        ];
        assert_eq!(found, expected);
        let (concealed, _) = Secrets::conceal(&config, &found, &[], &mut counting());
        assert_eq!(concealed.to_string().matches(PLACEHOLDER_PREFIX).count(), 9);
    }
}
