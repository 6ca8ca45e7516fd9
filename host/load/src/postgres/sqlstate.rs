//! Sorts the server's errors by what can be done about them. Must never show a row's values, nor the password.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use super::settings::Password;
use crate::error::LoadError;

/// What the server said, without the values that it may have said it about.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct Said {
    message: String,
    code: String,
}

/// What the driver said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(String);

/// Sorts an error by what can be done about it. What the server said is told without the password.
pub(super) fn failed(
    action: &'static str,
    object: impl Into<String>,
    error: &tokio_postgres::Error,
    password: Option<&Password>,
) -> LoadError {
    let object = object.into();
    let hide = |text: String| match password {
        Some(password) => password.hide_in(&text),
        None => text,
    };
    let Some(said) = error.as_db_error() else { return broken(action, object, error, hide) };
    let source = Box::new(Said { message: hide(message(said)), code: said.code().code().to_owned() });
    let (class, _) = said.code().code().split_at_checked(2).unwrap_or_default();
    match class {
        "28" => LoadError::Denied { action, object, source },
        _ if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => LoadError::Denied { action, object, source },
        "3D" => LoadError::Config(format!("the destination could not {action} {object}: {source}")),
        _ if *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION => {
            LoadError::Config(format!("the destination could not {action} {object}: it only reads ({source})"))
        }
        // Connection, rollback, resources, prerequisite state such as a lock, operator intervention, system.
        "08" | "40" | "53" | "55" | "57" | "58" => LoadError::Transient { action, object, source },
        _ => LoadError::Failed { action, object, source },
    }
}

/// An error of a connection that is not the server's answer.
fn broken(
    action: &'static str,
    object: String,
    error: &tokio_postgres::Error,
    hide: impl Fn(String) -> String,
) -> LoadError {
    let said = error.to_string();
    let message = error.source().map_or_else(|| said.clone(), |source| format!("{said}: {source}"));
    let source = Box::new(Broken(hide(message)));
    // The driver tells these kinds apart in their text only.
    if said.contains("TLS handshake") || said.contains("invalid configuration") {
        LoadError::Config(format!("the destination could not {action} {object}: {source}"))
    } else if said.contains("authentication error") {
        LoadError::Denied { action, object, source }
    } else if said.contains("serializing") || said.contains("unexpected") {
        LoadError::Failed { action, object, source }
    } else {
        LoadError::Transient { action, object, source }
    }
}

/// Whether a failed commit certainly did nothing: the server itself refused it.
pub(super) fn rolled_back(error: &tokio_postgres::Error) -> bool {
    let class = error.code().map_or("", |code| code.code().get(..2).unwrap_or_default());
    matches!(class, "23" | "25" | "40" | "55")
}

/// Whether a lock was not given in time.
pub(super) fn locked(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// The first line of what the server said. Where that may hold a value, what it is about instead.
fn message(said: &DbError) -> String {
    let class = said.code().code().get(..2).unwrap_or_default();
    if !matches!(class, "22" | "23") {
        return said.message().to_owned();
    }
    let mut message = String::from("a value does not fit");
    let places = [("table", said.table()), ("column", said.column()), ("constraint", said.constraint())];
    for (what, name) in places.into_iter().filter_map(|(what, name)| name.map(|name| (what, name))) {
        message.push_str(&format!(", {what} {name:?}"));
    }
    message
}
