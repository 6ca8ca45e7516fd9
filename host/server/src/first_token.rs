//! The first token of an installation: the text in the data folder's file, known to the API as an admin of everything.
//!
//! Must never bring back a token that was revoked.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use thimble_control::{Role, token_digest, token_id};
use thimble_record::envelope::Keys;
use thimble_store::{Store, TokenRow};

use crate::{data_folder::DataFolder, exit::CliError};

/// Its name, in the list of tokens and in the audit log.
pub const FIRST_TOKEN: &str = "api-token";

/// What is told about it at the start.
pub struct FirstToken {
    /// The file that holds it; absent where it was removed because there are other tokens.
    pub file: Option<PathBuf>,
    /// Its text, where it was made now: shown this once.
    pub made: Option<SecretString>,
}

/// Makes the token file where nobody could administer the installation, and makes its text known to the API.
pub async fn prepare(
    data: &DataFolder,
    chosen: Option<&Path>,
    store: &Store,
    keys: &Keys,
    now_ms: i64,
) -> Result<FirstToken, CliError> {
    let admin = Role::Admin.word();
    let file = data.token_file(chosen);
    if !file.exists() && store.has_live_admin(admin, now_ms).await? {
        return Ok(FirstToken { file: None, made: None });
    }
    let (text, made) = data.api_token(&file)?;
    let digest = token_digest(keys, text.expose_secret());
    match store.token_by_digest(&digest).await? {
        Some(known) if known.is_live(now_ms) => {}
        Some(known) => {
            let name = known.name;
            tracing::warn!(file = %file.display(), token = name, "the token in this file was revoked; remove the file");
        }
        None => {
            // Another text in the file takes the place of the one before.
            if let Some(old) = store.token_named(FIRST_TOKEN).await? {
                store.revoke_token(&old.id, now_ms).await?;
            }
            let row = TokenRow {
                id: token_id(keys, text.expose_secret()),
                name: FIRST_TOKEN.into(),
                workspace: None,
                role: admin.into(),
                created_at: now_ms,
                created_by: "start".into(),
                expires_at: None,
                last_used_at: None,
                revoked_at: None,
            };
            store.add_token(&row, &digest).await?;
            let detail = json!({ "name": row.name, "role": row.role });
            store.append_audit("start", "token.create", &row.id, &detail, now_ms).await?;
        }
    }
    Ok(FirstToken { file: Some(file), made: made.then_some(text) })
}
