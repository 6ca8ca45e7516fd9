//! Packages of connectors: what a component file says of itself, whether this host can run it, and an
//! index to find it in.
//!
//! Owns plain values and decisions over them. Must never run, compile or instantiate a component, and
//! never do I/O: its HTTP routes are mounted by the control plane.

pub mod compatible;
pub mod index;
pub mod limits;
pub mod package;
pub mod preset;
mod search;

pub use compatible::{Incompatible, compatible};
pub use index::{Entry, Index, IndexError, Permissions, Release};
pub use limits::Limits;
pub use package::{Package, PackageError, Section};
pub use preset::{PRESET_SECTION, is_manifest, pack, preset};
pub use search::Found;
