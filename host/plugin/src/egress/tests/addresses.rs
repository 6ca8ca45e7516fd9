//! Every spelling of an address ends in the same decision.

use super::*;

/// What a spelling must come to.
pub(super) enum Comes {
    To(Range),
    ToName,
    ToNothing,
}
use Comes::{To, ToName, ToNothing};

use Range::{LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved, SharedNat, Transition, Unspecified};

pub(super) const SPELLINGS: &[(&str, Comes)] = &[
    // 127.0.0.1 in every base, with every number of parts.
    ("127.0.0.1", To(Loopback)),
    ("127.1", To(Loopback)),
    ("127.0.1", To(Loopback)),
    ("2130706433", To(Loopback)),
    ("0x7f000001", To(Loopback)),
    ("0x7F.0x0.0x0.0x1", To(Loopback)),
    ("0X7f.1", To(Loopback)),
    ("017700000001", To(Loopback)),
    ("0177.0.0.1", To(Loopback)),
    ("0177.0.0.01", To(Loopback)),
    ("00000177.1", To(Loopback)),
    ("127.0.0.0x1", To(Loopback)),
    ("0x7f.0.0.1", To(Loopback)),
    ("127.255.255.254", To(Loopback)),
    ("127.65535", To(Loopback)),
    ("[::1]", To(Loopback)),
    ("[0:0:0:0:0:0:0:1]", To(Loopback)),
    ("[0000:0000:0000:0000:0000:0000:0000:0001]", To(Loopback)),
    ("[::ffff:127.0.0.1]", To(Loopback)),
    ("[::ffff:7f00:1]", To(Loopback)),
    ("[::FFFF:7F00:0001]", To(Loopback)),
    ("[0:0:0:0:0:ffff:7f00:1]", To(Loopback)),
    ("[::127.0.0.1]", To(Loopback)),
    ("[::7f00:1]", To(Loopback)),
    ("[::ffff:0:127.0.0.1]", To(Loopback)),
    ("[64:ff9b::127.0.0.1]", To(Loopback)),
    ("[64:ff9b::7f00:1]", To(Loopback)),
    // No address.
    ("0.0.0.0", To(Unspecified)),
    ("0", To(Unspecified)),
    ("0x0", To(Unspecified)),
    ("00", To(Unspecified)),
    ("0.1.2.3", To(Unspecified)),
    ("[::]", To(Unspecified)),
    ("[::ffff:0.0.0.0]", To(Unspecified)),
    // Metadata services.
    ("169.254.169.254", To(Metadata)),
    ("2852039166", To(Metadata)),
    ("0xa9fea9fe", To(Metadata)),
    ("0xA9.0xFE.0xA9.0xFE", To(Metadata)),
    ("0251.0376.0251.0376", To(Metadata)),
    ("169.254.43518", To(Metadata)),
    ("169.16689662", To(Metadata)),
    ("[::ffff:169.254.169.254]", To(Metadata)),
    ("[::ffff:a9fe:a9fe]", To(Metadata)),
    ("[::a9fe:a9fe]", To(Metadata)),
    ("[64:ff9b::a9fe:a9fe]", To(Metadata)),
    ("[fd00:ec2::254]", To(Metadata)),
    ("[fd20:ce::254]", To(Metadata)),
    ("169.254.170.2", To(Metadata)),
    ("169.254.170.23", To(Metadata)),
    ("169.254.42.42", To(Metadata)),
    ("[fd00:ec2::23]", To(Metadata)),
    ("[fd00:42::42]", To(Metadata)),
    ("[0:0:0:0:0:ffff:a9fe:a9fe]", To(Metadata)),
    ("100.100.100.200", To(Metadata)),
    ("168.63.129.16", To(Metadata)),
    ("192.0.0.192", To(Metadata)),
    // Link-local.
    ("169.254.0.1", To(LinkLocal)),
    ("[fe80::1]", To(LinkLocal)),
    ("[febf::1]", To(LinkLocal)),
    // Private.
    ("10.0.0.1", To(Private)),
    ("10.1", To(Private)),
    ("167772161", To(Private)),
    ("012.0.0.1", To(Private)),
    ("172.16.0.1", To(Private)),
    ("172.31.255.255", To(Private)),
    ("192.168.1.1", To(Private)),
    ("192.168.257", To(Private)),
    ("0xc0a80101", To(Private)),
    ("198.18.0.1", To(Private)),
    ("[::ffff:10.0.0.1]", To(Private)),
    ("[64:ff9b::10.0.0.1]", To(Private)),
    ("[64:ff9b:1::1]", To(Private)),
    ("[fc00::1]", To(Private)),
    ("[fd12:3456:789a::1]", To(Private)),
    ("[fec0::1]", To(Private)),
    // Carrier NAT.
    ("100.64.0.1", To(SharedNat)),
    ("100.127.255.255", To(SharedNat)),
    ("1681915905", To(SharedNat)),
    // Multicast, broadcast, reserved.
    ("224.0.0.1", To(Multicast)),
    ("239.255.255.255", To(Multicast)),
    ("255.255.255.255", To(Multicast)),
    ("4294967295", To(Multicast)),
    ("0xffffffff", To(Multicast)),
    ("[ff02::1]", To(Multicast)),
    ("240.0.0.1", To(Reserved)),
    ("192.0.2.1", To(Reserved)),
    ("198.51.100.1", To(Reserved)),
    ("203.0.113.1", To(Reserved)),
    ("[2001:db8::1]", To(Reserved)),
    ("[100::1]", To(Reserved)),
    ("[3fff::1]", To(Reserved)),
    ("[4000::1]", To(Reserved)),
    // Tunnels.
    ("[2002:7f00:1::]", To(Transition)),
    ("[2002:a00:1::1]", To(Transition)),
    ("[2001:0:7f00:1::]", To(Transition)),
    ("[2a00:1450::5efe:127.0.0.1]", To(Transition)),
    ("[2a00:1450::200:5efe:10.0.0.1]", To(Transition)),
    ("192.88.99.1", To(Transition)),
    // The internet, next to the edges of the special ranges.
    ("1.1.1.1", To(Public)),
    ("16843009", To(Public)),
    ("9.255.255.255", To(Public)),
    ("11.0.0.0", To(Public)),
    ("100.63.255.255", To(Public)),
    ("100.128.0.0", To(Public)),
    ("126.255.255.255", To(Public)),
    ("128.0.0.0", To(Public)),
    ("169.253.255.255", To(Public)),
    ("172.15.255.255", To(Public)),
    ("172.32.0.0", To(Public)),
    ("192.167.255.255", To(Public)),
    ("223.255.255.255", To(Public)),
    ("[2606:4700::1111]", To(Public)),
    ("[::ffff:1.1.1.1]", To(Public)),
    ("[64:ff9b::1.1.1.1]", To(Public)),
    // Names.
    ("example.com", ToName),
    ("EXAMPLE.com", ToName),
    ("localhost", ToName),
    ("127.0.0.1.example.com", ToName),
    ("xn--bcher-kva.example", ToName),
    ("my_host.internal", ToName),
    // Nothing at all.
    ("", ToNothing),
    (".", ToNothing),
    ("example.com.", ToNothing),
    ("127.0.0.1.", ToNothing),
    ("2130706433.", ToNothing),
    ("localhost.", ToNothing),
    ("a..b", ToNothing),
    (".example.com", ToNothing),
    ("256.0.0.1", ToNothing),
    ("127.0.0.256", ToNothing),
    ("1.2.3.4.5", ToNothing),
    ("4294967296", ToNothing),
    ("08.0.0.1", ToNothing),
    ("0x7g.1", ToNothing),
    ("example.0x7f", ToNothing),
    ("%31%32%37.0.0.1", ToNothing),
    ("127.0.0.1%00.example.com", ToNothing),
    ("１２７.0.0.1", ToNothing),
    ("bücher.example", ToNothing),
    ("①②⑦.0.0.1", ToNothing),
    ("example。com", ToNothing),
    ("user@example.com", ToNothing),
    ("example.com\\@127.0.0.1", ToNothing),
    ("example.com/127.0.0.1", ToNothing),
    ("example.com#127.0.0.1", ToNothing),
    ("example.com?127.0.0.1", ToNothing),
    ("exa mple.com", ToNothing),
    ("example.com\t", ToNothing),
    ("example\n.com", ToNothing),
    ("exam\0ple.com", ToNothing),
    ("[::1", ToNothing),
    ("::1]", ToNothing),
    ("[::1%25lo]", ToNothing),
    ("[fe80::1%eth0]", ToNothing),
    ("[::g]", ToNothing),
    ("[1:2:3]", ToNothing),
    ("[127.0.0.1]", ToNothing),
    ("*.example.com", ToNothing),
    ("a,b.example", ToNothing),
    ("a:b", ToNothing),
    ("$(id).example", ToNothing),
];

#[test]
fn every_spelling_is_seen_through() {
    assert!(SPELLINGS.len() >= 150, "{}", SPELLINGS.len());
    for (spelling, comes) in SPELLINGS {
        let host = HostName::parse(spelling);
        match comes {
            To(range) => {
                let address = host.unwrap_or_else(|reason| panic!("{spelling}: {reason}")).address();
                let address = address.unwrap_or_else(|| panic!("{spelling} is a name"));
                assert_eq!(Range::of(address), *range, "{spelling} = {address}");
            }
            ToName => assert!(matches!(host, Ok(HostName::Name(_))), "{spelling}: {host:?}"),
            ToNothing => assert!(host.is_err(), "{spelling}: {host:?}"),
        }
    }
    let long = format!("{}.com", "a".repeat(64));
    assert!(HostName::parse(&long).is_err());
    assert!(HostName::parse(&["abc"; 64].join(".")).is_err());
    assert!(HostName::parse(&"1".repeat(600)).is_err());
}

#[test]
fn the_canonical_spelling_is_the_one_that_is_compared() {
    let policy = Policy {
        plugin: "files".into(),
        grants: vec![HostPattern::parse("Example.COM:443").unwrap(), HostPattern::parse("0x7f.1").unwrap()],
        private: PrivateNetworks::default(),
    };
    assert_eq!(policy.check("eXample.com", 443).unwrap().to_string(), "example.com:443");
    assert_eq!(policy.check("2130706433", 80).unwrap().to_string(), "127.0.0.1:80");
    assert!(policy.check("127.0.0.2", 80).is_err());
}

fn policy(grants: &[&str], private: PrivateNetworks) -> Policy {
    let grants = grants.iter().map(|grant| HostPattern::parse(grant).unwrap()).collect();
    Policy { plugin: "files".into(), grants, private }
}

fn admits(policy: &Policy, host: &str, address: &str) -> bool {
    let target = policy.check(host, 443).unwrap();
    policy.admit(&target, address.parse().unwrap()).is_ok()
}

#[test]
fn private_addresses_need_more_than_a_name() {
    let names = policy(
        &["db.example", "localhost", "10.1.2.3", "169.254.169.254", "[fe80::1]", "0.0.0.0"],
        PrivateNetworks::default(),
    );
    let cases = [
        ("db.example", "8.8.8.8", true),
        ("db.example", "10.1.2.3", false),
        ("db.example", "127.0.0.1", false),
        ("db.example", "100.64.0.1", false),
        ("db.example", "169.254.169.254", false),
        ("db.example", "::ffff:10.0.0.1", false),
        ("db.example", "fd00::1", false),
        ("localhost", "127.0.0.1", true),
        ("localhost", "::1", true),
        ("localhost", "10.1.2.3", false),
        ("localhost", "169.254.169.254", false),
        ("10.1.2.3", "10.1.2.3", true),
        ("169.254.169.254", "169.254.169.254", true),
        ("[fe80::1]", "fe80::1", true),
        // Granted, and yet never reached.
        ("0.0.0.0", "0.0.0.0", false),
    ];
    for (host, address, expected) in cases {
        assert_eq!(admits(&names, host, address), expected, "{host} at {address}");
    }
}

#[test]
fn the_setting_opens_what_it_says() {
    let any = policy(&["db.example"], PrivateNetworks::Any(true));
    for (address, expected) in [
        ("10.1.2.3", true),
        ("127.0.0.1", true),
        ("100.64.0.1", true),
        ("fd00::1", true),
        ("::ffff:10.1.2.3", true),
        ("169.254.169.254", false),
        ("fd00:ec2::254", false),
        ("169.254.1.1", false),
        ("224.0.0.1", false),
        ("0.0.0.0", false),
        ("2002:a00:1::1", false),
    ] {
        assert_eq!(admits(&any, "db.example", address), expected, "{address}");
    }
    let listed: PrivateNetworks = serde_json::from_str(r#"["10.1.0.0/16", "DB.internal", "169.254.169.254"]"#).unwrap();
    assert_eq!(serde_json::to_string(&listed).unwrap(), r#"["10.1.0.0/16","db.internal","169.254.169.254/32"]"#);
    let listed = policy(&["db.example", "db.internal"], listed);
    for (host, address, expected) in [
        ("db.example", "10.1.255.255", true),
        ("db.example", "::ffff:10.1.2.3", true),
        ("db.example", "10.2.0.0", false),
        ("db.example", "127.0.0.1", false),
        ("db.example", "169.254.169.254", true),
        ("db.internal", "192.168.0.1", true),
        ("db.internal", "127.0.0.1", true),
        // A name does not reach further than private networks.
        ("db.internal", "169.254.169.253", false),
    ] {
        assert_eq!(admits(&listed, host, address), expected, "{host} at {address}");
    }
    for wrong in [r#"["10.0.0.0/33"]"#, r#"["10.0.0/8"]"#, r#"["*"]"#, r#"["::/129"]"#, r#"["a b"]"#, r#"[""]"#, "3"] {
        assert!(serde_json::from_str::<PrivateNetworks>(wrong).is_err(), "{wrong}");
    }
    assert_eq!(serde_json::from_str::<PrivateNetworks>("true").unwrap(), PrivateNetworks::Any(true));
    assert!(matches!("0.0.0.0/0".parse::<PrivateNetwork>().unwrap(), PrivateNetwork::Network(_, 0)));
}

#[test]
fn an_address_from_the_configuration_is_not_the_operators_word() {
    let config = serde_json::json!({ "url": "http://127.0.0.1:8080/x" });
    let template = ["{{ url }}".to_owned()];
    let grants = expand(&template, &template, &config).unwrap();
    let policy = Policy { plugin: "files".into(), grants, private: PrivateNetworks::default() };
    let target = policy.check("127.0.0.1", 8080).unwrap();
    let error = policy.admit(&target, "127.0.0.1".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        error,
        "host 127.0.0.1:8080 leads to 127.0.0.1, this machine itself; allow it with the setting allow_private_networks, \
         or grant the address itself: thimble plugin grant files 127.0.0.1:8080"
    );
}
