//! `HttpRequestRegexMatcher`: which requests a call rate policy is about.

use regex::Regex;

use super::{text, url};
use crate::{error::Result, interpolation::Template, node::Node, stream::Env, wire::Exchange};

#[derive(Debug, Clone)]
pub struct Matcher {
    method: Option<String>,
    base: Option<String>,
    path: Option<Regex>,
    params: Vec<(String, String)>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// How many calls such a request counts as.
    pub weight: Option<u64>,
}

impl Matcher {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let text = |name: &str| node.get(name).filter(|text| text.value.truthy());
        let members = |name: &str| {
            let map = node.get(name).and_then(|map| map.value.as_map().cloned()).unwrap_or_default();
            map.into_iter().map(|(name, value)| (name, text::text(&value))).collect::<Vec<_>>()
        };
        let path = text("url_path_pattern").map(|pattern| {
            let told = |error| pattern.wrong(format!("this is no regular expression: {error}"));
            Regex::new(pattern.text()?).map_err(told)
        });
        let headers = members("headers").into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let weight = node.get("weight").map(|weight| {
            let value = Template::new(&weight, node)?.value(&env.scope())?;
            let number = text::number(&text::text(&value)).filter(|number| *number >= 1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, and saturates")]
            number.map(|number| number as u64).ok_or_else(|| weight.wrong("this has to be a whole number from 1 on"))
        });
        Ok(Self {
            method: text("method").map(|method| method.text().map(str::to_ascii_uppercase)).transpose()?,
            base: text("url_base")
                .map(|base| base.text().map(|base| base.trim_end_matches('/').to_owned()))
                .transpose()?,
            path: path.transpose()?,
            params: members("params"),
            headers,
            weight: weight.transpose()?,
        })
    }

    pub fn matches(&self, exchange: &Exchange) -> bool {
        let (base, path) = url::base_and_path(&exchange.url);
        self.method.as_ref().is_none_or(|method| *method == exchange.method)
            && self.base.as_ref().is_none_or(|wanted| *wanted == base)
            && self.path.as_ref().is_none_or(|pattern| pattern.is_match(&path))
            && self.has_params(exchange)
            && self.headers.iter().all(|(name, value)| {
                exchange.headers.iter().any(|(there, held)| there.eq_ignore_ascii_case(name) && held == value)
            })
    }

    /// Of a parameter that is there twice, the last one counts.
    fn has_params(&self, exchange: &Exchange) -> bool {
        if self.params.is_empty() {
            return true;
        }
        let there = url::query_members(url::query(&exchange.url));
        let held = |name: &str| there.iter().rev().find(|(there, _)| there == name).map(|(_, value)| value);
        self.params.iter().all(|(name, value)| held(name) == Some(value))
    }
}
