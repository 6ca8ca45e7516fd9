//! Files over HTTP and S3 as streams of records: CSV, JSON, JSON lines and Parquet.
//!
//! A file's way: [`location`] and [`listing`] find it, [`planning`] decides whether it is new, [`reading`] picks its
//! reader ([`csv_read`], [`json_read`], [`json_lines`], [`parquet_read`]), which takes bytes through [`decompress`]
//! and [`window`] and hands records to [`progress`]. [`remote`] is the only module that does I/O, [`connector`] puts
//! the steps of each call in order, and [`limits`] names every limit.

pub mod config;
pub mod connector;
pub mod csv_columns;
pub mod csv_read;
pub mod csv_split;
pub mod decompress;
pub mod error;
pub mod fetch;
pub mod json_lines;
pub mod json_read;
pub mod json_split;
pub mod kind;
pub mod limits;
pub mod listing;
pub mod location;
pub mod moment;
pub mod nested;
pub mod parquet_read;
pub mod parquet_source;
pub mod planning;
pub mod progress;
pub mod reading;
pub mod remote;
pub mod sampling;
pub mod scalar;
mod sdk;
pub mod window;

thimble_sdk::register_source!(connector::Files);
