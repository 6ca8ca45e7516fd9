//! Builds connectors to components and checks the house rules of the tree.
//!
//! Owns the way from a crate to a `.wasm` component: the toolchain, the build, the encoding, and the
//! template of a new connector. The `thimble` binary uses it for author folders. Must never load or run
//! a component.

pub mod build;
pub mod component;
mod debian;
pub mod order;
pub mod template;
pub mod tidy;
pub mod toolchain;
