//! What holds for every thing of a workspace: whom it exists for, that it stays where it was made, and who changed it.

use axum::http::StatusCode;
use serde_json::Value;
use thimble_store::{AlertRow, Change, ConnectionRow, DestinationRow, NotifierRow, SourceRow, StoreError};

use crate::{Caller, ControlSettings, Problem};

/// A stored thing of a workspace.
pub(crate) trait Workspaced {
    /// The word for it in messages.
    const KIND: &'static str;

    fn workspace(&self) -> &str;

    /// Unique among its kind in the whole installation.
    fn name(&self) -> String;
}

macro_rules! workspaced {
    ($row:ty, $kind:literal, $name:ident) => {
        impl Workspaced for $row {
            const KIND: &'static str = $kind;

            fn workspace(&self) -> &str {
                &self.workspace
            }

            fn name(&self) -> String {
                self.$name.to_string()
            }
        }
    };
}

workspaced!(ConnectionRow, "connection", id);
workspaced!(SourceRow, "source", name);
workspaced!(DestinationRow, "destination", name);
workspaced!(NotifierRow, "notifier", name);
workspaced!(AlertRow, "alert", id);

/// The thing, where it exists for the caller: in a workspace that it does not see nothing does.
pub(crate) fn seen<T: Workspaced>(caller: &Caller, found: Result<T, StoreError>) -> Result<T, Problem> {
    let row = found?;
    if caller.sees(row.workspace()) { Ok(row) } else { Err(Problem::not_found(T::KIND, &row.name())) }
}

/// What a PUT under a name replaces; nothing where the name is free.
pub(crate) fn replaced<T: Workspaced>(caller: &Caller, found: Result<T, StoreError>) -> Result<Option<T>, Problem> {
    match found {
        Ok(stored) if caller.sees(stored.workspace()) => Ok(Some(stored)),
        Ok(stored) => Err(Problem::invalid(format!("the name {} is taken in another workspace", stored.name()))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// The workspace of a thing that is put: its own, for it never changes; of a new one the wanted, or the caller's.
pub(crate) fn home<T: Workspaced>(
    caller: &Caller,
    stored: Option<&T>,
    wanted: Option<String>,
) -> Result<String, Problem> {
    match (stored, wanted) {
        (Some(stored), Some(wanted)) if stored.workspace() != wanted => Err(Problem::invalid(format!(
            "{} {} stays in the workspace {:?}",
            T::KIND,
            stored.name(),
            stored.workspace()
        ))),
        (Some(stored), _) => Ok(stored.workspace().to_owned()),
        (None, wanted) => caller.place(wanted.as_deref()),
    }
}

/// Notes a change of a thing.
pub(crate) async fn note<T: Workspaced>(
    settings: &ControlSettings,
    caller: &Caller,
    action: &str,
    row: &T,
    detail: &Value,
) -> Result<(), Problem> {
    let (subject, workspace) = (&row.name(), Some(row.workspace()));
    let change = Change { actor: caller.actor(), action, subject, detail, workspace };
    Ok(settings.store.note(change, settings.now_ms()).await?)
}

/// The status of an answer to a PUT.
pub(crate) fn put_status(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
