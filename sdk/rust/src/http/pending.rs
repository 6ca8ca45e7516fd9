//! Requests that were sent and are not waited for, so that several can be under way.

use std::time::Duration;

use super::redirect::{MAX_REDIRECTS, redirect};
use super::{Exchange, Response, wire};
use crate::{Error, Result};

/// A request under way. Ask [`Pending::answer`] until it answers, and [`wait`] in between.
pub struct Pending {
    exchange: Exchange,
    sent: wire::Sent,
    follow: bool,
    redirects: usize,
}

impl Pending {
    pub(super) fn new(exchange: Exchange, follow: bool) -> Result<Self> {
        let sent = wire::Sent::send(&exchange)?;
        Ok(Self { exchange, sent, follow, redirects: 0 })
    }

    /// The answer, of any status, once it is there. To be asked once more only after `None`.
    pub fn answer(&mut self) -> Option<Result<Response>> {
        loop {
            let answer = match self.sent.answer()? {
                Ok(answer) => answer,
                Err(error) => return Some(Err(error)),
            };
            if !self.follow {
                return Some(Ok(Response::new(self.exchange.verb, &self.exchange.url, answer)));
            }
            match redirect(self.exchange.clone(), answer.status, answer.header("location")) {
                Err(error) => return Some(Err(error)),
                Ok(Err(unchanged)) => return Some(Ok(Response::new(unchanged.verb, &unchanged.url, answer))),
                Ok(Ok(next)) => {
                    self.redirects += 1;
                    if self.redirects > MAX_REDIRECTS {
                        let host = self.exchange.url.host_str().unwrap_or_default();
                        let message = format!("{host} redirects more than {MAX_REDIRECTS} times: check the URL");
                        return Some(Err(Error::system(message)));
                    }
                    match wire::Sent::send(&next) {
                        Ok(sent) => (self.exchange, self.sent) = (next, sent),
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("url", &super::response::shown(&self.exchange.url)).finish_non_exhaustive()
    }
}

/// Waits until one of the requests may be answered, or until `at_most` is over.
pub fn wait(pending: &[&Pending], at_most: Option<Duration>) {
    let sent: Vec<&wire::Sent> = pending.iter().map(|pending| &pending.sent).collect();
    wire::wait(&sent, at_most);
}
