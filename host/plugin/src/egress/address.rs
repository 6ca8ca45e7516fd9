//! What kind of network an address belongs to.
//!
//! Owns the table of special ranges (IANA's special-purpose registries, plus the addresses at which clouds serve
//! credentials). Must never decide whether a range is allowed: that is the policy's.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The kind of network behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// The internet.
    Public,
    /// This machine.
    Loopback,
    /// Private use: RFC 1918, unique local IPv6, benchmarking.
    Private,
    /// Behind a carrier's NAT: 100.64.0.0/10.
    SharedNat,
    /// This link only.
    LinkLocal,
    /// Where clouds hand credentials to machines.
    Metadata,
    /// Many receivers, broadcast among them.
    Multicast,
    /// No address: 0.0.0.0/8 and ::, which reach this machine on many systems.
    Unspecified,
    /// Documentation, future use.
    Reserved,
    /// Tunnels that carry another address inside: 6to4, Teredo.
    Transition,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "this machine itself",
            Self::Private => "a private network",
            Self::SharedNat => "a network behind a carrier's NAT",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata service",
            Self::Multicast => "a multicast or broadcast address",
            Self::Unspecified => "no address at all",
            Self::Reserved => "a reserved address",
            Self::Transition => "an IPv6 transition tunnel",
        })
    }
}

const METADATA_V4: [Ipv4Addr; 7] = [
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Google, Azure, and most others
    Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
    Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identities
    Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
    Ipv4Addr::new(168, 63, 129, 16),   // Azure wire server: a public range, served from the host
];

const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),        // Scaleway
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),       // Google
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle
];

impl Range {
    /// The range of `address`; an IPv4 address inside an IPv6 one counts as itself.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        if METADATA_V4.contains(&address) {
            return Self::Metadata;
        }
        match address.octets() {
            [0, ..] => Self::Unspecified,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [198, 18 | 19, ..] => Self::Private,
            [100, 64..=127, ..] => Self::SharedNat,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Reserved,
            [192, 88, 99, _] => Self::Transition,
            [255, 255, 255, 255] | [224..=239, ..] => Self::Multicast,
            [240..=255, ..] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_unspecified() {
            return Self::Unspecified;
        }
        if address.is_loopback() {
            return Self::Loopback;
        }
        if METADATA_V6.contains(&address) {
            return Self::Metadata;
        }
        if let Some(embedded) = embedded_v4(address) {
            return Self::of_v4(embedded);
        }
        let [first, second, third, ..] = address.segments();
        match (first, second) {
            // All of AWS's link services: instance metadata, pod identities, name server and clock.
            (0xfd00, 0xec2) => Self::Metadata,
            (0xff00.., _) => Self::Multicast,
            (0xfe80..=0xfebf, _) => Self::LinkLocal,
            // fec0::/10 is the old site-local range.
            (0xfc00..=0xfdff | 0xfec0..=0xfeff, _) => Self::Private,
            // NAT64 with a prefix of the network's own: the inner address cannot be told.
            (0x64, 0xff9b) if third == 1 => Self::Private,
            // 6to4 and Teredo.
            (0x2002, _) | (0x2001, 0) => Self::Transition,
            // IETF protocol assignments, documentation.
            (0x2001, 0x0001..=0x01ff | 0xdb8) | (0x3fff, 0..=0x0fff) => Self::Reserved,
            (0x2000..=0x3fff, _) => match isatap(address) {
                Some(inner) if Self::of_v4(inner) != Self::Public => Self::Transition,
                _ => Self::Public,
            },
            // Nothing outside of 2000::/3 is routed on the internet.
            _ => Self::Reserved,
        }
    }
}

/// The IPv4 address that a mapped, compatible, translated or well-known NAT64 address stands for.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let last = Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    match segments {
        // ::a.b.c.d, ::ffff:a.b.c.d, ::ffff:0:a.b.c.d, 64:ff9b::a.b.c.d
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last),
        _ => None,
    }
}

/// The IPv4 address in an ISATAP interface identifier (`…:0:5efe:a.b.c.d`).
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let found = segments[4] & 0xfdff == 0 && segments[5] == 0x5efe;
    found.then(|| Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7])))
}
