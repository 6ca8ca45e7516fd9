//! The one trait that a connector implements.

use serde::de::DeserializeOwned;

use crate::{Catalog, Method, Plan, ReadRequest, Result, Sink, Spec, Stream, StreamState};

/// A source of records. The host makes a new instance for each call, so nothing in memory survives
/// from one call to the next: what must survive goes into a plan, a descriptor or a checkpoint.
pub trait Source {
    /// The configuration, checked against [`Spec::config_schema`] before the call. Use
    /// `#[serde(deny_unknown_fields)]` only if the schema forbids additional properties too.
    type Config: DeserializeOwned;

    /// Describes the connector. Pure, no network.
    fn spec() -> Spec;

    /// Proves that the configuration works by the cheapest real request; returns a sentence saying what
    /// was reached. By default: [`Source::discover`] works.
    ///
    /// # Errors
    /// Whatever the source answers.
    fn check(config: &Self::Config) -> Result<String> {
        let streams = Self::discover(config)?.streams.len();
        Ok(format!("The source offers {streams} stream{}.", if streams == 1 { "" } else { "s" }))
    }

    /// Lists the streams. Equal sources give equal catalogs.
    ///
    /// # Errors
    /// Whatever the source answers.
    fn discover(config: &Self::Config) -> Result<Catalog>;

    /// Divides what is new since `state` into partitions. By default one partition for the whole stream:
    /// see [`Plan::single`] and [`ReadRequest::cursor`].
    ///
    /// # Errors
    /// Whatever the source answers.
    fn plan(config: &Self::Config, stream: &Stream, method: Method, state: &StreamState) -> Result<Plan> {
        let _ = (config, stream);
        Plan::single(method, state)
    }

    /// Reads one partition to its end by a straight loop over the sink. `Ok` states that every record of
    /// the partition was emitted.
    ///
    /// # Errors
    /// Whatever the source answers; an error of the sink is returned as it is.
    fn read(config: &Self::Config, request: &ReadRequest, sink: &mut Sink) -> Result<()>;
}
