//! What an answer means where no filter says it: the reference's table of statuses. Pure.

use crate::error::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Success,
    Retry,
    Fail,
    Ignore,
    ResetPagination,
    RateLimited,
    RefreshThenRetry,
    ReducePageSize,
    SplitWindow,
}

impl Action {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "SUCCESS" => Self::Success,
            "RETRY" => Self::Retry,
            "FAIL" => Self::Fail,
            "IGNORE" => Self::Ignore,
            "RESET_PAGINATION" => Self::ResetPagination,
            "RATE_LIMITED" => Self::RateLimited,
            "REFRESH_TOKEN_THEN_RETRY" => Self::RefreshThenRetry,
            "REDUCE_PAGE_SIZE" => Self::ReducePageSize,
            "SPLIT_REQUEST_WINDOW" => Self::SplitWindow,
            _ => return None,
        })
    }
}

/// What to do about one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    pub action: Action,
    pub kind: Kind,
    /// Of the manifest; empty where it says nothing.
    pub message: String,
}

impl Resolution {
    pub fn new(action: Action, kind: Kind) -> Self {
        Self { action, kind, message: String::new() }
    }

    pub fn success() -> Self {
        Self::new(Action::Success, Kind::System)
    }
}

/// For statuses that have a place in the table.
pub fn by_status(status: u16) -> Option<Resolution> {
    let (action, kind) = match status {
        400 | 404 | 405 => (Action::Fail, Kind::System),
        401 | 403 => (Action::Fail, Kind::Config),
        408 | 500 | 502 | 503 | 504 => (Action::Retry, Kind::Transient),
        429 => (Action::RateLimited, Kind::Transient),
        _ => return None,
    };
    Some(Resolution::new(action, kind))
}

/// For any other failure.
pub fn fallback() -> Resolution {
    Resolution::new(Action::Retry, Kind::System)
}

/// What an operator can do about a status, where that is known.
pub fn advice(status: u16) -> &'static str {
    match status {
        400 => "the source does not accept this request",
        401 => "the source does not accept the credentials; check them",
        403 => "the credentials do not allow this; grant them what the stream needs, or leave the stream out",
        404 => "there is nothing at this address; check the settings that are part of it",
        405 => "the source does not take this method here",
        408 => "the source waited too long for the request",
        429 => "the source's rate limit is reached",
        500 => "the source has an error of its own",
        502..=504 => "the source is not reachable at the moment",
        _ => "",
    }
}
