//! Names of hosts: how requests and operators write them, and which match.
//!
//! Owns the one canonical spelling of a host, to which every request and every grant is brought before anything
//! compares them. Must never resolve a name.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use url::Host;

use super::error::EgressError;

/// Longest text that is looked at as a host.
const HOST_BYTES: usize = 512;
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;
/// The ports of a pattern that names none.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// A host in its one canonical spelling: lower case, no trailing dot, addresses parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl HostName {
    /// Reads one host as URLs spell them (brackets around IPv6; `0x7f.1` is 127.0.0.1). Non-ASCII names, percent
    /// signs, trailing dots and empty labels are refused: names beyond ASCII are written as punycode.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > HOST_BYTES {
            return Err("it is too long");
        }
        if !text.is_ascii() {
            return Err("it has letters beyond ASCII; write the name as punycode (xn--…)");
        }
        if text.bytes().any(|byte| byte.is_ascii_control() || b"%@/\\?# ".contains(&byte)) {
            return Err("it has a character that no name has");
        }
        if text.ends_with('.') {
            return Err("it ends with a dot");
        }
        match Host::parse(text).map_err(|_| "it is neither a name nor an address")? {
            Host::Ipv4(address) => Ok(Self::V4(address)),
            Host::Ipv6(address) => Ok(Self::V6(address)),
            Host::Domain(name) => {
                check_name(&name)?;
                Ok(Self::Name(name))
            }
        }
    }

    /// The address, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES {
        return Err("the name is longer than 253 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("it has an empty label");
        }
        if label.len() > LABEL_BYTES {
            return Err("a label is longer than 63 bytes");
        }
        if !label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)) {
            return Err("it has a character that no name has");
        }
    }
    Ok(())
}

/// Where a request goes: a canonical host and a port. Displays as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub host: HostName,
    pub port: u16,
}

impl Target {
    /// Reads a host and a port that a guest asked for.
    pub fn new(host: &str, port: u16) -> Result<Self, EgressError> {
        let bad = |reason| EgressError::BadHost { given: shown(host), reason };
        // The net interface takes IPv6 with and without brackets.
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => HostName::V6(address),
            Err(_) => HostName::parse(host).map_err(bad)?,
        };
        if port == 0 {
            return Err(bad("the port is 0"));
        }
        Ok(Self { host, port })
    }

    /// Reads the authority of a URL.
    pub fn of_authority(authority: &str, default_port: u16) -> Result<Self, EgressError> {
        let bad = |reason| EgressError::BadHost { given: shown(authority), reason };
        if authority.contains('@') {
            return Err(EgressError::BadHost {
                given: shown(authority.rsplit('@').next().unwrap_or_default()),
                reason: "a user name stands before the host; send it as a header",
            });
        }
        let (host, port) = split_port(authority).map_err(bad)?;
        Ok(Self { host: HostName::parse(host).map_err(bad)?, port: port.unwrap_or(default_port) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Text of others, fit for an error: escaped and short.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, rest) = if text.starts_with('[') {
        let end = text.find(']').ok_or("a bracket is not closed")?;
        text.split_at(end + 1)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let Some(port) = rest.strip_prefix(':') else {
        return if rest.is_empty() { Ok((host, None)) } else { Err("something follows the bracket") };
    };
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok((host, Some(port))),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

/// Who wrote a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The operator, in a grant.
    Operator,
    /// Whoever wrote the configuration that a granted template was expanded over.
    Configuration,
}

/// What a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Matcher {
    Exact(HostName),
    /// Every name below this one.
    Below(String),
}

/// A host that may be reached: `name[:port]`, `*.name[:port]` or an address. Without a port it means 443 and 80.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    matcher: Matcher,
    port: Option<u16>,
    origin: Origin,
}

impl HostPattern {
    /// Reads a pattern that the operator granted.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        Self::read(text.trim(), Origin::Operator)
    }

    pub(super) fn read(text: &str, origin: Origin) -> Result<Self, EgressError> {
        let bad = |reason| EgressError::BadPattern { pattern: shown(text), reason };
        let (host, port) = match text.parse::<Ipv6Addr>() {
            Ok(_) => return Err(bad("an IPv6 address stands in brackets")),
            Err(_) => split_port(text).map_err(bad)?,
        };
        let matcher = match host.strip_prefix("*.") {
            None => Matcher::Exact(HostName::parse(host).map_err(bad)?),
            Some(_) if origin == Origin::Configuration => {
                return Err(bad("a wildcard cannot come from the configuration"));
            }
            Some(suffix) => match HostName::parse(suffix).map_err(bad)? {
                HostName::Name(suffix) if suffix.contains('.') => Matcher::Below(suffix),
                HostName::Name(_) => return Err(bad("a wildcard over a whole top-level domain is too wide")),
                HostName::V4(_) | HostName::V6(_) => return Err(bad("a wildcard cannot stand before an address")),
            },
        };
        Ok(Self { matcher, port, origin })
    }

    pub(super) fn exact(host: HostName, port: Option<u16>, origin: Origin) -> Self {
        Self { matcher: Matcher::Exact(host), port, origin }
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Whether `target` is meant.
    pub fn matches(&self, target: &Target) -> bool {
        let port = match self.port {
            Some(port) => port == target.port,
            None => DEFAULT_PORTS.contains(&target.port),
        };
        port && match (&self.matcher, &target.host) {
            (Matcher::Exact(host), asked) => host == asked,
            (Matcher::Below(suffix), HostName::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Matcher::Below(_), HostName::V4(_) | HostName::V6(_)) => false,
        }
    }

    /// Whether the operator wrote this very address, or `localhost`: then private ranges were meant.
    pub(super) fn names_address(&self) -> bool {
        self.origin == Origin::Operator
            && match &self.matcher {
                Matcher::Exact(HostName::Name(name)) => name == "localhost",
                Matcher::Exact(HostName::V4(_) | HostName::V6(_)) => true,
                Matcher::Below(_) => false,
            }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.matcher {
            Matcher::Exact(host) => write!(f, "{host}")?,
            Matcher::Below(suffix) => write!(f, "*.{suffix}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for HostPattern {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
