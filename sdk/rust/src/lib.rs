//! What a connector's author depends on: one trait with defaults and one macro.
//!
//! ```no_run
//! use thimble_sdk::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     url: String,
//! }
//!
//! struct Tickets;
//!
//! impl Source for Tickets {
//!     type Config = Config;
//!
//!     fn spec() -> Spec {
//!         Spec::new("tickets", "0.1.0")
//!             .config_schema(r#"{"type":"object","required":["url"],"properties":{"url":{"type":"string"}}}"#)
//!             .host("{{ url }}")
//!     }
//!
//!     fn discover(_config: &Config) -> Result<Catalog> {
//!         Ok(Catalog::new([Stream::new("tickets").key(["id"]).incremental("updated_at")]))
//!     }
//!
//!     fn read(config: &Config, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
//!         let since: u64 = request.cursor()?.unwrap_or(0);
//!         let page = http::get(format!("{}/tickets", config.url)).query("since", since).send()?;
//!         sink.json_page(&page.bytes()?)?;
//!         sink.checkpoint(&(since + 1))
//!     }
//! }
//!
//! thimble_sdk::register_source!(Tickets);
//! ```
//!
//! Owns the author's view of the boundary in `wit/v0.1` and nothing else: no policy, no schema rules.
//! It compiles for the host too, so that the pure parts of a connector can be tested natively; calls
//! that need the host of a connector (`http`, `net`) work only inside a component.

#[doc(hidden)]
pub mod bindings;
mod catalog;
pub mod clock;
mod component;
pub mod cursor;
mod error;
pub mod http;
pub mod log;
pub mod net;
mod plan;
mod preset;
mod sink;
mod source;
mod spec;
mod split;

pub use catalog::{Catalog, DataType, Field, Method, Stream};
pub use error::{Error, ErrorKind, Result};
pub use plan::{Partition, PartitionState, Plan, ReadRequest, StreamState};
pub use preset::preset;
pub use sink::{Emitted, Sink};
pub use source::Source;
pub use spec::Spec;

/// The API version that this SDK speaks, as in the component's section `thimble:api-version`.
pub const API_VERSION: &str = "0.1.0";

/// Everything a connector usually names.
pub mod prelude {
    pub use crate::{
        Catalog, DataType, Error, Field, Method, Partition, Plan, ReadRequest, Result, Sink, Source, Spec, Stream,
        StreamState, http,
    };
}

#[doc(hidden)]
pub mod private {
    pub use crate::component::Component;
}

/// Exports a type that implements [`Source`] as the component. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! register_source {
    ($source:ty) => {
        #[doc(hidden)]
        type ThimbleSourceComponent = $crate::private::Component<$source>;

        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_source!(ThimbleSourceComponent with_types_in $crate::bindings);

        /// Read by the host before it compiles anything.
        #[cfg(target_arch = "wasm32")]
        #[used]
        #[unsafe(link_section = "thimble:api-version")]
        static THIMBLE_API_VERSION: [u8; 5] = *b"0.1.0";

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Spec = <ThimbleSourceComponent>::spec;
    };
}
