//! `PageSizeReduction`: smaller pages where a source cannot answer larger ones. Pure.

use crate::{
    error::{RestError, Result},
    http::text,
    node::Node,
    value::Value,
};

#[derive(Debug, Clone, PartialEq)]
pub struct PageSizeReduction {
    factor: f64,
    minimum: i64,
    max_attempts: u32,
    backoff_s: f64,
    retries_at_minimum: u32,
    restores: bool,
    message: String,
}

impl PageSizeReduction {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let number = |name: &str, default: f64| {
            let Some(member) = node.get(name) else { return Ok(default) };
            text::number(&text::text(member.value)).ok_or_else(|| member.wrong("this has to be a number"))
        };
        let count = |name: &str, default: i64, least: i64| {
            let count = node.int(name)?.unwrap_or(default);
            if count >= least { Ok(count) } else { Err(node.wrong(format!("`{name}` has to be {least} or more"))) }
        };
        let factor = number("reduction_factor", 2.0)?;
        let backoff_s = number("backoff_seconds", 0.5)?;
        if factor <= 1.0 || backoff_s < 0.0 {
            return Err(node.wrong("`reduction_factor` has to be more than 1 and `backoff_seconds` not negative"));
        }
        Ok(Self {
            factor,
            minimum: count("minimum_page_size", 1, 1)?,
            max_attempts: u32::try_from(count("max_attempts", 5, 1)?).unwrap_or(u32::MAX),
            backoff_s,
            retries_at_minimum: u32::try_from(count("retries_at_minimum_page_size", 0, 0)?).unwrap_or(u32::MAX),
            restores: node.get("reset_policy").and_then(|policy| policy.value.as_str())
                == Some("AFTER_SUCCESSFUL_PAGE"),
            message: node.get("failure_message").map(|message| text::text(message.value)).unwrap_or_default(),
        })
    }
}

/// The page size while one slice is read.
#[derive(Debug)]
pub struct PageSizeReducer {
    config: PageSizeReduction,
    configured: Option<i64>,
    current: Option<i64>,
    attempts: u32,
    retries: u32,
}

impl PageSizeReducer {
    /// `configured` is the paginator's page size.
    pub fn new(config: PageSizeReduction, configured: Option<i64>) -> Self {
        Self { config, configured, current: None, attempts: 0, retries: 0 }
    }

    /// What to ask for instead of the paginator's page size.
    pub fn size_override(&self) -> Option<i64> {
        self.current
    }

    /// The source wants a smaller page: how many microseconds to wait before the same page is asked for again.
    ///
    /// # Errors
    /// Kind transient where it refuses every size, config where there is no size to make smaller.
    pub fn reduce(&mut self, stream: &str) -> Result<u64> {
        let Some(size) = self.current.or(self.configured) else {
            return Err(RestError::config(format!(
                "stream `{stream}`: the source wants smaller pages, and the paginator asks for none; set \
                 `page_size` and `page_size_option`"
            )));
        };
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a page size is small")]
        let smaller = ((size as f64 / self.config.factor).floor() as i64).max(self.config.minimum);
        if smaller >= size {
            return self.retry_unchanged(size, stream);
        }
        self.attempts += 1;
        if self.attempts > self.config.max_attempts {
            return Err(self.refused(size, stream));
        }
        self.current = Some(smaller);
        Ok(self.wait_us(self.attempts))
    }

    fn retry_unchanged(&mut self, size: i64, stream: &str) -> Result<u64> {
        if self.retries < self.config.retries_at_minimum {
            self.retries += 1;
            return Ok(self.wait_us(self.retries));
        }
        if self.current.is_none() && self.config.minimum > 1 {
            return Err(RestError::config(format!(
                "stream `{stream}`: the page size {size} is not above `minimum_page_size`, so that it cannot be reduced"
            )));
        }
        Err(self.refused(size, stream))
    }

    fn refused(&self, size: i64, stream: &str) -> RestError {
        let told = format!("stream `{stream}`: the source refuses pages of every size down to {size} records");
        let more = self.config.message.trim();
        RestError::transient(if more.is_empty() { told } else { format!("{told}. {more}") })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
    fn wait_us(&self, times: u32) -> u64 {
        (self.config.backoff_s * f64::from(times) * 1e6) as u64
    }

    /// A page was answered.
    pub fn succeeded(&mut self) {
        (self.attempts, self.retries) = (0, 0);
        if self.config.restores {
            self.current = None;
        }
    }
}

/// Only for tests and defaults: what an empty component says.
impl Default for PageSizeReduction {
    fn default() -> Self {
        Self::build(&Node::root(&Value::Null)).expect("the defaults are right")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_get_smaller_until_there_is_no_smaller_one() {
        let mut reducer = PageSizeReducer::new(PageSizeReduction::default(), Some(10));
        let waits: Vec<u64> = (0..3).map(|_| reducer.reduce("s").unwrap()).collect();
        assert_eq!((waits, reducer.size_override()), (vec![500_000, 1_000_000, 1_500_000], Some(1)));
        assert!(reducer.reduce("s").unwrap_err().message.contains("down to 1 records"));
        reducer.succeeded();
        assert_eq!(reducer.size_override(), Some(1));
        assert!(PageSizeReducer::new(PageSizeReduction::default(), None).reduce("s").is_err());
    }

    #[test]
    fn so_many_reductions_in_a_row_are_enough() {
        let config = PageSizeReduction { max_attempts: 1, restores: true, ..PageSizeReduction::default() };
        let mut reducer = PageSizeReducer::new(config, Some(100));
        reducer.reduce("s").unwrap();
        reducer.succeeded();
        assert_eq!(reducer.size_override(), None);
        reducer.reduce("s").unwrap();
        assert!(reducer.reduce("s").is_err());
    }
}
