//! Whether a host can run a package. Pure.

use thimble_record::{ErrorKind, Failure};

/// Why it cannot, in one sentence that names both versions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connector speaks API {package}, this Thimble speaks {host}: {advice}")]
pub struct Incompatible {
    pub package: String,
    pub host: String,
    advice: &'static str,
}

impl Incompatible {
    /// As it is stored and shown.
    pub fn failure(&self) -> Failure {
        Failure::new(ErrorKind::Config, self.to_string())
    }
}

/// Whether one of the host's APIs serves the package's: the same line (major version, and minor one below
/// 1.0) and at least as new, because a release only adds within its line.
///
/// # Errors
/// One sentence naming both sides and which of them to update.
pub fn compatible(package_api: &semver::Version, host_apis: &[semver::Version]) -> Result<(), Incompatible> {
    if host_apis.iter().any(|host| serves(host, package_api)) {
        return Ok(());
    }
    let newer = host_apis.iter().all(|host| host < package_api);
    let advice = if newer { "update Thimble" } else { "get a newer version of the connector" };
    let host = host_apis.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let host = if host.is_empty() { "none".to_owned() } else { host };
    Err(Incompatible { package: package_api.to_string(), host, advice })
}

fn serves(host: &semver::Version, package: &semver::Version) -> bool {
    let same_line = host.major == package.major && (host.major > 0 || host.minor == package.minor);
    // A pre-release promises nothing to anyone but itself.
    let firm = host.pre.is_empty() && package.pre.is_empty();
    host == package || (firm && same_line && host >= package)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(package: &str, hosts: &[&str]) -> Result<(), String> {
        let hosts: Vec<_> = hosts.iter().map(|text| text.parse().unwrap()).collect();
        compatible(&package.parse().unwrap(), &hosts).map_err(|error| error.to_string())
    }

    #[test]
    fn within_a_line_the_newer_host_serves() {
        for (package, hosts, fine) in [
            ("0.1.0", &["0.1.0"][..], true),
            ("0.1.0", &["0.1.3"], true),
            ("0.1.4", &["0.1.3"], false),
            ("0.2.0", &["0.1.0"], false),
            ("0.1.0", &["0.2.0"], false),
            ("0.1.0", &["0.3.0", "0.1.1"], true),
            ("1.2.0", &["1.4.0"], true),
            ("1.5.0", &["1.4.9"], false),
            ("1.0.0", &["2.0.0"], false),
            ("0.2.0-rc.1", &["0.2.0"], false),
            ("0.2.0-rc.1", &["0.2.0-rc.1"], true),
            ("0.2.0", &["0.2.1-rc.1"], false),
            ("0.1.0", &[], false),
        ] {
            assert_eq!(check(package, hosts).is_ok(), fine, "{package} on {hosts:?}");
        }
    }

    #[test]
    fn the_sentence_names_both_and_says_what_to_do() {
        assert_eq!(
            check("0.3.0", &["0.2.0", "0.1.0"]).unwrap_err(),
            "the connector speaks API 0.3.0, this Thimble speaks 0.2.0, 0.1.0: update Thimble"
        );
        assert_eq!(
            check("0.1.0", &["0.2.0"]).unwrap_err(),
            "the connector speaks API 0.1.0, this Thimble speaks 0.2.0: get a newer version of the connector"
        );
    }
}
