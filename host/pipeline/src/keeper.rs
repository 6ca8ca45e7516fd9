//! Keeps refresh tokens that every use replaces in the sealed secrets of their source or connection.
//!
//! Owns the claim that keeps two processes from spending one token. Must never write over a value that somebody else
//! gave meanwhile.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use thimble_plugin::egress::TokenKeeper;
use thimble_record::{
    ErrorKind, Failure,
    envelope::{Keys, SecretFields, SecretRow, open_fields, seal_fields},
};
use thimble_store::{SealedRow, SealedSecrets, Store};

use crate::{collect::now_ms, worker::failed};

/// Sealed beside the settings, at a place that no configuration has, while somebody renews one.
const CLAIM: &str = "/$renewing";
/// Between two looks at a row that somebody else has claimed.
const LOOK: Duration = Duration::from_millis(250);
/// Looks before a run gives up; claims run out long before.
const MAX_LOOKS: u32 = 1_200;
/// Attempts to write a row that others change at the same time.
const MAX_WRITES: u32 = 20;

/// What is changed in a row.
enum Change {
    None,
    /// Nothing that its settings say.
    Claim,
    Settings,
}

/// The keeper of one run.
pub(crate) struct Keeper {
    store: Store,
    keys: Keys,
    row: SecretRow,
    /// What tells its claims from those of others.
    id: String,
}

impl Keeper {
    pub(crate) fn new(store: Store, keys: Keys, row: SecretRow) -> Self {
        let mut id = [0; 16];
        getrandom::fill(&mut id).expect("the operating system has random numbers once it has started");
        Self { store, keys, row, id: id.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    async fn read(&self) -> Result<(SealedRow, SecretFields), Failure> {
        let sealed = self.store.sealed_row(&self.row).await.map_err(|error| failed(&error))?;
        let Some(sealed) = sealed else {
            let message = format!("{}: it was removed or has no secrets any more", self.row);
            return Err(Failure::new(ErrorKind::Config, message));
        };
        let fields = open_fields(&self.keys, &self.row, &sealed.sealed.0);
        let fields = fields.map_err(|error| Failure::new(ErrorKind::Config, format!("{}: {error}", self.row)))?;
        Ok((sealed, fields))
    }

    /// Whether it was written: nobody changed the row since it was read.
    async fn write(&self, read: &SealedRow, fields: &SecretFields, change: Change) -> Result<bool, Failure> {
        let sealed = seal_fields(&self.keys, &self.row, fields);
        let sealed = SealedSecrets(sealed.map_err(|error| Failure::system(format!("{}: {error}", self.row)))?);
        let written = match change {
            Change::None => return Ok(true),
            Change::Claim => self.store.replace_sealed(read, &sealed).await,
            Change::Settings => self.store.renew_sealed(read, &sealed).await,
        };
        written.map_err(|error| failed(&error))
    }

    /// Changes the row by what `change` makes of it.
    async fn change(&self, change: impl Fn(&mut SecretFields) -> Change + Send + Sync) -> Result<(), Failure> {
        for _ in 0..MAX_WRITES {
            let (read, mut fields) = self.read().await?;
            let changed = change(&mut fields);
            if self.write(&read, &fields, changed).await? {
                return Ok(());
            }
        }
        Err(Failure::new(ErrorKind::Transient, format!("{}: it is changed all the time by others", self.row)))
    }

    fn is_mine(&self, claim: &Value) -> bool {
        claim.get("by").and_then(Value::as_str) == Some(&self.id)
    }
}

#[async_trait]
impl TokenKeeper for Keeper {
    async fn claim(&self, settings: &[&str], lease: Duration) -> Result<BTreeMap<String, SecretString>, Failure> {
        for _ in 0..MAX_LOOKS {
            let (read, mut fields) = self.read().await?;
            let until =
                fields.get(CLAIM).filter(|claim| !self.is_mine(claim)).and_then(|claim| claim["until"].as_i64());
            if until.is_some_and(|until| now_ms() < until) {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let stored = settings.iter().filter_map(|setting| {
                let value = text(fields.get(&pointer(setting))?);
                Some(((*setting).to_owned(), SecretString::from(value)))
            });
            let stored = stored.collect();
            let until = now_ms().saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
            fields.insert(CLAIM.to_owned(), json!({ "by": self.id, "until": until }));
            if self.write(&read, &fields, Change::Claim).await? {
                return Ok(stored);
            }
        }
        Err(Failure::new(ErrorKind::Transient, format!("{}: others renew its tokens all the time", self.row)))
    }

    async fn keep(
        &self,
        setting: &str,
        spent: &SecretString,
        renewed: &BTreeMap<String, SecretString>,
    ) -> Result<(), Failure> {
        self.change(|fields| {
            if fields.get(CLAIM).is_some_and(|claim| self.is_mine(claim)) {
                fields.remove(CLAIM);
            }
            // The operator may have authorized the connection anew.
            if fields.get(&pointer(setting)).is_none_or(|stored| text(stored) != spent.expose_secret()) {
                return Change::Claim;
            }
            for (setting, value) in renewed {
                fields.insert(pointer(setting), value.expose_secret().into());
            }
            Change::Settings
        })
        .await
    }

    async fn release(&self, _setting: &str) {
        let released = self.change(|fields| match fields.get(CLAIM) {
            Some(claim) if self.is_mine(claim) => {
                fields.remove(CLAIM);
                Change::Claim
            }
            _ => Change::None,
        });
        // It runs out by itself.
        if let Err(failure) = released.await {
            tracing::warn!(error = %failure, "the claim of a refresh token could not be taken back");
        }
    }
}

/// A setting's dotted name, or its JSON pointer, as the pointer that sealed secrets are kept by.
fn pointer(setting: &str) -> String {
    if setting.starts_with('/') {
        return setting.to_owned();
    }
    setting.split('.').map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use thimble_record::{ConnectionId, envelope::HostKey};
    use thimble_store::{ConnectionRow, PluginRow};

    use super::*;
    use crate::secrets::join_secrets;

    async fn stored(folder: &std::path::Path) -> (Store, Keys, ConnectionRow) {
        let store = Store::open(&folder.join("control.db")).await.unwrap();
        let keys = Keys::from(HostKey::from_bytes(&[1; 32]).unwrap());
        let plugin = PluginRow {
            name: "crm".into(),
            version: "1.0.0".into(),
            digest: "0".repeat(64),
            api_version: "0.1.0".into(),
            title: "CRM".into(),
            docs: String::new(),
            config_schema: json!({}),
            permissions: json!({}),
            installed_at: 0,
        };
        store.install_version(&plugin, true).await.unwrap();
        let config = json!({ "credentials": { "refresh_token": { "$secret": true }, "access_token": "old" } });
        let mut row = ConnectionRow::new(ConnectionId::new("crm").unwrap(), "crm", config);
        let fields = SecretFields::from([("/credentials/refresh_token".to_owned(), json!("first"))]);
        row.secrets = SealedSecrets(seal_fields(&keys, &row.secret_row(), &fields).unwrap());
        store.put_connection(&row, None, 0).await.unwrap();
        (store, keys, row)
    }

    async fn config(store: &Store, keys: &Keys, row: &ConnectionRow) -> Value {
        let row = store.connection(&row.id).await.unwrap();
        join_secrets(row.config.clone(), &row.secret_row(), keys, &row.secrets).unwrap()
    }

    fn renewed(refresh: &str, access: &str) -> BTreeMap<String, SecretString> {
        [("credentials.refresh_token", refresh), ("credentials.access_token", access)]
            .map(|(setting, value)| (setting.to_owned(), value.into()))
            .into()
    }

    const SETTINGS: [&str; 2] = ["credentials.refresh_token", "credentials.access_token"];
    const LEASE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn of_two_processes_the_second_gets_what_the_first_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keys, row) = stored(folder.path()).await;
        let keeper = || Keeper::new(store.clone(), keys.clone(), row.secret_row());
        let (first, second) = (keeper(), keeper());
        let claimed = first.claim(&SETTINGS, LEASE).await.unwrap();
        assert_eq!(claimed[SETTINGS[0]].expose_secret(), "first");
        let waiting = tokio::spawn(async move { second.claim(&SETTINGS, LEASE).await.map(|stored| (second, stored)) });
        tokio::time::sleep(LOOK * 2).await;
        assert!(!waiting.is_finished());
        first.keep(SETTINGS[0], &"first".into(), &renewed("second", "access")).await.unwrap();
        let (second, claimed) = waiting.await.unwrap().unwrap();
        assert_eq!(claimed[SETTINGS[0]].expose_secret(), "second");
        assert_eq!(claimed[SETTINGS[1]].expose_secret(), "access");
        second.release(SETTINGS[0]).await;
        let joined = config(&store, &keys, &row).await;
        assert_eq!(joined, json!({ "credentials": { "refresh_token": "second", "access_token": "access" } }));
    }

    #[tokio::test]
    async fn a_claim_runs_out_and_the_operators_token_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (store, keys, row) = stored(folder.path()).await;
        let keeper = || Keeper::new(store.clone(), keys.clone(), row.secret_row());
        let (first, second) = (keeper(), keeper());
        first.claim(&SETTINGS, Duration::ZERO).await.unwrap();
        second.claim(&SETTINGS, LEASE).await.unwrap();
        // What was claimed before does not end the claim of another.
        first.release(SETTINGS[0]).await;
        let (_, fields) = second.read().await.unwrap();
        assert!(second.is_mine(&fields[CLAIM]));
        let version = store.connection(&row.id).await.unwrap().version;
        let fields = SecretFields::from([("/credentials/refresh_token".to_owned(), json!("by hand"))]);
        let sealed = SealedSecrets(seal_fields(&keys, &row.secret_row(), &fields).unwrap());
        store.put_connection(&ConnectionRow { secrets: sealed, ..row.clone() }, Some(version), 1).await.unwrap();
        second.keep(SETTINGS[0], &"first".into(), &renewed("second", "access")).await.unwrap();
        let joined = config(&store, &keys, &row).await;
        assert_eq!(joined, json!({ "credentials": { "refresh_token": "by hand", "access_token": "old" } }));
    }
}
