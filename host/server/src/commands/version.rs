//! `thimble version`.

use serde_json::json;

use crate::{exit::CliError, output::Output};

/// The version of the connector interface that this host speaks, and older ones that it accepts.
const API_VERSIONS: [&str; 1] = ["0.1.0"];

/// Prints versions.
pub fn run(output: Output) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let document = json!({ "thimble": version, "connector_api": API_VERSIONS, "platform": platform });
    output.show(&document, |out| {
        writeln!(out, "thimble {version} ({platform})")?;
        writeln!(out, "connector API {}", API_VERSIONS.join(", "))
    })
}
