//! Any REST API by a declarative manifest: the low-code language of Airbyte, as published manifests use it.
//!
//! A manifest's way: [`manifest`] reads, resolves and checks it; [`stream`] builds what a stream is made of and reads it;
//! a request is put together by [`http`], [`auth`] and [`pagination`], an answer becomes records in [`extract`]; what is
//! asked for is divided by [`partition`] and [`cursor`]; [`interpolation`] and [`datetime`] are Python's, as far as
//! manifests can see. [`wire`] is the only module that does I/O, [`limits`] names every limit.

pub mod auth;
pub mod catalog;
pub mod connector;
pub mod cursor;
pub mod datetime;
pub mod description;
pub mod error;
pub mod extract;
pub mod http;
pub mod interpolation;
pub mod limits;
pub mod manifest;
pub mod node;
pub mod pagination;
pub mod partition;
pub mod probe;
pub mod schema;
pub mod setting;
pub mod stream;
pub mod value;
pub mod wire;

thimble_sdk::register_source!(connector::Rest);
