//! Tokens that this instance got for itself, kept until they expire. Never leave the instance.

use std::{cell::RefCell, collections::HashMap};

/// Shared by all streams of an instance; keyed by what the token was got with.
#[derive(Debug, Default)]
pub struct Tokens(RefCell<HashMap<String, Kept>>);

#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    pub token: String,
    pub expires_us: i64,
    /// The refresh token to use next, where sources give a new one each time.
    pub refresh: Option<String>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("expires_us", &self.expires_us).finish_non_exhaustive()
    }
}

impl Tokens {
    /// A token that has not expired.
    pub fn fresh(&self, key: &str, now_us: i64) -> Option<String> {
        self.0.borrow().get(key).filter(|kept| now_us <= kept.expires_us).map(|kept| kept.token.clone())
    }

    pub fn refresh(&self, key: &str) -> Option<String> {
        self.0.borrow().get(key)?.refresh.clone()
    }

    pub fn keep(&self, key: &str, kept: Kept) {
        self.0.borrow_mut().insert(key.to_owned(), kept);
    }

    /// The token counts as expired; its refresh token stays.
    pub fn expire(&self, key: &str) {
        if let Some(kept) = self.0.borrow_mut().get_mut(key) {
            kept.expires_us = i64::MIN;
        }
    }
}
