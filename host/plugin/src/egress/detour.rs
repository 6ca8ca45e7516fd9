//! Connections that lead elsewhere than their URL says: to a server that stands in for the source in a test.
//!
//! Must never be made of anything but what the operator asked for: a detour is not checked against the policy.

use http::Uri;

use super::{error::EgressError, pattern::Target, prepare};

/// Where connections of one origin lead. The request itself, with its `host`, stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    from: (Target, bool),
    to: (Target, bool),
}

impl Detour {
    /// Reads `https://api.example.com=http://127.0.0.1:8080`: an origin and the one to connect to instead.
    ///
    /// # Errors
    /// Which of the two is no origin.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        let bad = |reason| EgressError::BadDetour { text: text.chars().take(200).collect(), reason };
        let (from, to) = text.split_once('=').ok_or_else(|| bad("it has no ="))?;
        let origin = |text: &str| {
            let uri: Uri = text.parse().ok()?;
            let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
            prepare::target(&uri).ok().filter(|_| bare)
        };
        let from = origin(from).ok_or_else(|| bad("what stands before = is no origin such as https://host:port"))?;
        let to = origin(to).ok_or_else(|| bad("what stands after = is no origin such as http://127.0.0.1:8080"))?;
        Ok(Self { from, to })
    }

    /// Where a connection for `target` leads, and whether by TLS; `None` where this is another's.
    pub(super) fn of(&self, target: &Target, secure: bool) -> Option<&(Target, bool)> {
        (self.from.0 == *target && self.from.1 == secure).then_some(&self.to)
    }
}
