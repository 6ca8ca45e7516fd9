//! What may be reached: the decision, over plain values.
//!
//! Must never do I/O, and never say yes to what no grant names.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    address::Range,
    error::EgressError,
    pattern::{HostName, HostPattern, Target, shown},
};

/// Which networks of the operator's own may be reached by granted names. Written as `true`, `false`, or a list of
/// networks (`10.0.0.0/8`) and names (`db.internal`).
///
/// `true` opens loopback, private and carrier-NAT addresses; link-local addresses and metadata services need their
/// network in the list, or a grant of the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PrivateNetworks {
    Any(bool),
    Only(Vec<PrivateNetwork>),
}

impl Default for PrivateNetworks {
    fn default() -> Self {
        Self::Any(false)
    }
}

/// One entry of [`PrivateNetworks`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PrivateNetwork {
    /// Address and prefix length.
    Network(IpAddr, u8),
    /// The name, wherever it leads.
    Name(String),
}

impl PrivateNetwork {
    fn contains(&self, address: IpAddr) -> bool {
        let Self::Network(network, bits) = self else { return false };
        match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                u32::from(*network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                u128::from(*network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for PrivateNetwork {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: String| EgressError::BadSetting { setting: "allow_private_networks", reason };
        if let Some((network, bits)) = text.split_once('/') {
            let network: IpAddr =
                network.parse().map_err(|_| bad(format!("`{}` is not a network such as 10.0.0.0/8", shown(text))))?;
            let most = if network.is_ipv4() { 32 } else { 128 };
            return match bits.parse::<u8>() {
                Ok(bits) if bits <= most => Ok(Self::Network(network, bits)),
                _ => Err(bad(format!("the prefix of `{}` is not a number from 0 to {most}", shown(text)))),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        match HostName::parse(text) {
            Ok(HostName::Name(name)) => Ok(Self::Name(name)),
            _ => Err(bad(format!("`{}` is neither a network such as 10.0.0.0/8 nor a name", shown(text)))),
        }
    }
}

impl TryFrom<String> for PrivateNetwork {
    type Error = EgressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PrivateNetwork> for String {
    fn from(network: PrivateNetwork) -> Self {
        network.to_string()
    }
}

impl fmt::Display for PrivateNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network, bits) => write!(f, "{network}/{bits}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What one plugin may reach. Denies whatever no grant names.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Name of the plugin, for the sentence that refuses.
    pub plugin: String,
    /// Expanded grants.
    pub grants: Vec<HostPattern>,
    /// The operator's setting.
    pub private: PrivateNetworks,
}

impl Policy {
    /// Brings `host` to its canonical spelling and looks for a grant. Names are not resolved.
    pub fn check(&self, host: &str, port: u16) -> Result<Target, EgressError> {
        let target = Target::new(host, port)?;
        self.check_target(&target)?;
        Ok(target)
    }

    /// The same for what is canonical already.
    pub fn check_target(&self, target: &Target) -> Result<(), EgressError> {
        if self.grants.iter().any(|grant| grant.matches(target)) {
            return Ok(());
        }
        Err(EgressError::NotGranted { plugin: self.plugin.clone(), host: target.host.to_string(), port: target.port })
    }

    /// Whether a connection for the granted `target` may be opened to `address`.
    ///
    /// Public: yes. Loopback, private, carrier NAT: where the operator granted this very address (or `localhost` for
    /// loopback), or the setting allows it. Link-local and metadata: the address granted, or its network in the
    /// setting. The rest: never.
    pub fn admit(&self, target: &Target, address: IpAddr) -> Result<(), EgressError> {
        let range = Range::of(address);
        let admitted = match range {
            Range::Public => true,
            Range::Loopback | Range::Private | Range::SharedNat => {
                self.granted_by_address(target, range) || self.private_allows(target, address)
            }
            Range::LinkLocal | Range::Metadata => {
                self.granted_by_address(target, range) || self.network_listed(address)
            }
            Range::Multicast | Range::Unspecified | Range::Reserved | Range::Transition => false,
        };
        if admitted {
            return Ok(());
        }
        Err(EgressError::AddressDenied {
            plugin: self.plugin.clone(),
            host: target.host.to_string(),
            port: target.port,
            address,
            range,
        })
    }

    fn granted_by_address(&self, target: &Target, range: Range) -> bool {
        let fits = match &target.host {
            HostName::Name(_) => range == Range::Loopback,
            HostName::V4(_) | HostName::V6(_) => true,
        };
        fits && self.grants.iter().any(|grant| grant.names_address() && grant.matches(target))
    }

    fn private_allows(&self, target: &Target, address: IpAddr) -> bool {
        match &self.private {
            PrivateNetworks::Any(any) => *any,
            PrivateNetworks::Only(entries) => {
                let named = |entry: &PrivateNetwork| match (entry, &target.host) {
                    (PrivateNetwork::Name(name), HostName::Name(asked)) => name == asked,
                    _ => false,
                };
                self.network_listed(address) || entries.iter().any(named)
            }
        }
    }

    fn network_listed(&self, address: IpAddr) -> bool {
        match &self.private {
            PrivateNetworks::Any(_) => false,
            PrivateNetworks::Only(entries) => entries.iter().any(|entry| entry.contains(address.to_canonical())),
        }
    }
}
