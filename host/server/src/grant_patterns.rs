//! What the API may take for a grant: judged by the connectors' own reader of patterns, before anything is stored.

use thimble_control::GrantPatterns;
use thimble_plugin::egress::check_grant;

/// The patterns of connectors' egress.
pub struct EgressPatterns;

impl GrantPatterns for EgressPatterns {
    fn check(&self, grant: &str, asked: &[String]) -> Result<(), String> {
        check_grant(grant, asked).map_err(|error| error.to_string())
    }
}
