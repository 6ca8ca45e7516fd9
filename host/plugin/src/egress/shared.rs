//! What instances share: of a process, and of one run.
//!
//! Owns no decision. Must never be reached by a guest but through its orders.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use thimble_record::Failure;

use super::{answers::Answers, jwt::KeptJwts, pace::Pace, tokens::Tokens};

/// What all instances of a process share. Make one for each process.
#[derive(Default)]
pub struct Shared {
    pub(super) tokens: Tokens,
    pub(super) jwts: KeptJwts,
    pub(super) pace: Pace,
}

/// What all instances of one run share. Cheap to clone; clones share.
#[derive(Clone, Default)]
pub struct RunServices {
    /// Whose credentials the run uses: tokens and turns are told apart by it.
    pub(super) owner: Arc<str>,
    pub(super) keeper: Option<Arc<dyn TokenKeeper>>,
    pub(super) answers: Arc<Answers>,
}

impl RunServices {
    /// For a run of `owner`, a name that no other's credentials have. Without a keeper, tokens that are spent when they
    /// are used are refused.
    pub fn new(owner: &str, keeper: Option<Arc<dyn TokenKeeper>>) -> Self {
        Self { owner: owner.into(), keeper, answers: Arc::default() }
    }
}

/// Keeps refresh tokens that every use replaces, so that none is lost and none is spent twice.
#[async_trait]
pub trait TokenKeeper: Send + Sync {
    /// Waits until nobody else renews the first of the settings, and claims it for `lease`. Answers what is stored now,
    /// which somebody may have renewed since the run began.
    async fn claim(&self, settings: &[&str], lease: Duration) -> Result<BTreeMap<String, SecretString>, Failure>;

    /// Stores new values and ends the claim of `setting`. Once it returns they are durable. Where the setting was given
    /// another value than `spent` meanwhile, what was given stays.
    async fn keep(
        &self,
        setting: &str,
        spent: &SecretString,
        renewed: &BTreeMap<String, SecretString>,
    ) -> Result<(), Failure>;

    /// Ends a claim that came to nothing.
    async fn release(&self, setting: &str);
}
