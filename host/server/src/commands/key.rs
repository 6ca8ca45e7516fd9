//! `thimble key`.

use std::sync::Arc;

use chrono::Utc;
use serde_json::json;
use thimble_control::{Rewrapped, is_unfinished, needs_old_keys, rewrap_all};
use thimble_record::envelope::{KeyRing, Keys};
use thimble_store::Store;

use crate::{
    cli::Global,
    context::{Context, now_ms, small_runtime},
    exit::{CliError, Exit},
    key_file::{self, KeyFile},
    output::Output,
};

/// List, change and retire the host keys, which everything encrypted hangs on.
#[derive(Debug, clap::Subcommand)]
pub enum Key {
    /// Print a new host key, to begin a key file that several hosts share
    Generate,
    /// List the host keys by their ids, and what still needs the older ones
    List,
    /// Add a new host key and wrap all stored secrets by it, while the server works
    ///
    /// Safe to interrupt: the next call brings an interrupted rotation to its end. Older keys stay in the file, as staged
    /// records may need them, until `--retire` removes them. Hosts with copies of the key file need the new one before
    /// they meet what it wrapped.
    Rotate {
        /// Remove the older keys instead, if nothing needs them any more.
        #[arg(long)]
        retire: bool,
    },
}

/// Runs the subcommand.
pub fn run(command: &Key, global: &Global, output: Output) -> Result<(), CliError> {
    if let Key::Generate = command {
        let text = KeyRing::from(key_file::generate()?).expose_text();
        return output.show(&json!({ "key_file": text }), |out| out.write_all(text.as_bytes()));
    }
    let context = Context::existing(global, output)?;
    let file = Arc::new(context.key_file()?);
    let keys = Keys::new(Arc::clone(&file) as _);
    small_runtime()?.block_on(async {
        let store = context.store().await?;
        match command {
            Key::Generate => Ok(()),
            Key::List => list(&store, &keys, &file, output).await,
            Key::Rotate { retire: false } => rotate(&store, &keys, &file, output).await,
            Key::Rotate { retire: true } => retire(&store, &keys, &file, output).await,
        }
    })
}

async fn list(store: &Store, keys: &Keys, file: &KeyFile, output: Output) -> Result<(), CliError> {
    let ids: Vec<String> = keys.ring().ids().iter().map(ToString::to_string).collect();
    let needed = needs_old_keys(store, keys, now_ms()).await?;
    let document = json!({ "file": file.path(), "current": ids[0], "older": ids[1..], "needed_because": needed });
    output.show(&document, |out| {
        writeln!(out, "file     {}", file.path().display())?;
        writeln!(out, "current  {}", ids[0])?;
        ids[1..].iter().try_for_each(|id| writeln!(out, "older    {id}"))?;
        needed.iter().try_for_each(|reason| writeln!(out, "         {reason}"))
    })
}

async fn rotate(store: &Store, keys: &Keys, file: &KeyFile, output: Output) -> Result<(), CliError> {
    let added = !is_unfinished(store, keys).await?;
    if added {
        file.rotate(Utc::now())?;
    }
    let Rewrapped { rows, rewrapped, unopenable } = rewrap_all(store, keys).await?;
    let current = keys.ring().current().id().to_string();
    let detail = json!({ "added": added, "rows": rows, "rewrapped": rewrapped });
    store.append_audit("cli", "key.rotate", &current, &detail, now_ms()).await?;
    let document = json!({ "current": current, "added": added, "rows": rows, "rewrapped": rewrapped,
        "unopenable": unopenable });
    output.show(&document, |out| {
        match added {
            true => writeln!(out, "the host key is {current} now")?,
            false => writeln!(
                out,
                "an interrupted rotation to {current} was brought to its end; rotate again for a new key"
            )?,
        }
        writeln!(out, "{rewrapped} of {rows} rows of secrets were wrapped anew")?;
        for row in &unopenable {
            writeln!(out, "the secrets of {row} cannot be opened by any key: set them again")?;
        }
        writeln!(out, "remove the older keys, once nothing needs them, with: thimble key rotate --retire")
    })
}

async fn retire(store: &Store, keys: &Keys, file: &KeyFile, output: Output) -> Result<(), CliError> {
    let current = keys.ring().current().id();
    let reasons = needs_old_keys(store, keys, now_ms()).await?;
    if !reasons.is_empty() {
        let message = format!("the older keys are still needed: {}", reasons.join("; "));
        return Err(CliError::new(Exit::Conflict, message).hint("thimble key list"));
    }
    file.retire(current)?;
    store.append_audit("cli", "key.retire", &current.to_string(), &json!({}), now_ms()).await?;
    output.show(&json!({ "current": current.to_string(), "older": [] }), |out| {
        writeln!(out, "the only host key is {current} now; backups made under older keys need those to be read")
    })
}
