//! Tokens of the API as texts: how they are made, recognised and hashed.
//!
//! A token is `thm_`, 43 characters of base64url (256 random bits) and 6 that check them, so that scanners of leaked
//! secrets find it and a mistyped one is told from a wrong one. Must never log or keep a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thimble_record::envelope::{Keys, Purpose};
use zeroize::Zeroizing;

use crate::limits::MAX_TOKEN_NAME_BYTES;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "thm_";
/// Characters of the random part.
const RANDOM_CHARS: usize = 43;
/// Characters of the check.
const CHECK_CHARS: usize = 6;
/// Longest text that is taken for a token; a token file of the operator's own may hold other texts.
const MAX_CHARS: usize = 512;

/// A new token. It has no `Debug` or `Display`, on purpose.
pub struct SecretToken(Zeroizing<String>);

impl SecretToken {
    /// From 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let body = URL_SAFE_NO_PAD.encode(random);
        Self(Zeroizing::new(format!("{TOKEN_PREFIX}{body}{}", check(&body))))
    }

    /// From the system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self::new(random))
    }

    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn check(body: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(format!("thimble token v1\0{body}"))[..5])[..CHECK_CHARS].to_owned()
}

/// Whether `text` may be a token at all: one of ours whose check is right, or a text of the operator's own.
pub(crate) fn is_plausible(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_CHARS || !text.is_ascii() {
        return false;
    }
    match text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_at_checked(RANDOM_CHARS)) {
        Some((body, given)) => check(body) == given,
        None => !text.starts_with(TOKEN_PREFIX),
    }
}

/// What is kept of a token: HMAC-SHA256 under a key of the installation, in hexadecimal digits. Tokens have 256 random
/// bits, so that a slow hash would add nothing; and a database without the host key cannot even test a guess.
pub fn token_digest(keys: &Keys, token: &str) -> String {
    let key = Zeroizing::new(keys.stable(Purpose::ApiTokens));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
    mac.update(token.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// Names of tokens stand in the audit log, so they are plain. Says what is wrong with this one.
pub fn check_token_name(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if (1..=MAX_TOKEN_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err("the name of a token must have 1 to 64 letters, digits, '-', '_', '.' or '@'")
}

/// A name for a token that tells nothing of it.
pub fn token_id(keys: &Keys, token: &str) -> String {
    hex::encode(&Sha256::digest(token_digest(keys, token))[..8])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::envelope::HostKey;

    use super::*;

    #[test]
    fn a_token_has_its_form_and_its_check() {
        let token = SecretToken::new([7; 32]);
        let text = token.expose().to_owned();
        assert_eq!(text.len(), TOKEN_PREFIX.len() + RANDOM_CHARS + CHECK_CHARS);
        assert!(text.starts_with("thm_BwcHBwcH"), "{text}");
        assert!(is_plausible(&text));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(!changed.starts_with(TOKEN_PREFIX) || !is_plausible(&changed), "{changed}");
        }
        assert!(!is_plausible(&text[..text.len() - 1]) && !is_plausible(&format!("{text}x")));
        assert!(is_plausible("correct-horse-battery-staple"), "texts of the operator's own");
        for wrong in [String::new(), "thm_".into(), "é".repeat(20), "x".repeat(MAX_CHARS + 1)] {
            assert!(!is_plausible(&wrong), "{wrong}");
        }
        assert_ne!(SecretToken::generate().unwrap().expose(), SecretToken::generate().unwrap().expose());
    }

    #[test]
    fn the_digest_hangs_on_the_installation_and_survives_a_rotation() {
        let ring = thimble_record::envelope::KeyRing::from(HostKey::from_bytes(&[1; 32]).unwrap());
        let digest = token_digest(&ring.clone().into(), "a token");
        let rotated = ring.rotated(HostKey::from_bytes(&[2; 32]).unwrap(), Default::default()).unwrap().retired();
        assert_eq!(token_digest(&rotated.into(), "a token"), digest);
        assert_ne!(token_digest(&HostKey::from_bytes(&[3; 32]).unwrap().into(), "a token"), digest);
    }
}
