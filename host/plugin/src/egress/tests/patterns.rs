//! Patterns: what is read, shown and matched.

use super::*;

#[test]
fn patterns_are_read_and_shown() {
    for (text, shown) in [
        ("example.com", "example.com"),
        (" Example.COM ", "example.com"),
        ("example.com:8443", "example.com:8443"),
        ("*.example.com", "*.example.com"),
        ("*.Example.com:443", "*.example.com:443"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("0x7f.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[0:0::1]:5432", "[::1]:5432"),
        ("localhost:1", "localhost:1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ] {
        let pattern = HostPattern::parse(text).unwrap();
        assert_eq!(pattern.to_string(), shown, "{text}");
        assert_eq!(HostPattern::parse(shown).unwrap(), pattern);
    }
    for text in [
        "",
        "*",
        "*.",
        "*.com",
        "*:443",
        "**.example.com",
        "a*.example.com",
        "*.127.0.0.1",
        "*.1.2",
        "*.[::1]",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:+80",
        "example.com:80:80",
        "::1",
        "[::1]x",
        "[::1]:",
        "https://example.com",
        "example.com/path",
        "user@example.com",
        "example.com.",
        "bücher.example",
        "a b",
        "exa\nmple.com",
        "*.example.com.",
        "example.com:8o",
    ] {
        let error = HostPattern::parse(text).unwrap_err();
        assert!(matches!(error, EgressError::BadPattern { .. }), "{text}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn patterns_match_by_label_and_port() {
    for (pattern, host, port, expected) in [
        ("example.com", "example.com", 443, true),
        ("example.com", "example.com", 80, true),
        ("example.com", "example.com", 8080, false),
        ("example.com:8080", "example.com", 8080, true),
        ("example.com:8080", "example.com", 443, false),
        ("example.com", "www.example.com", 443, false),
        ("example.com", "example.com.evil.org", 443, false),
        ("example.com", "notexample.com", 443, false),
        ("*.example.com", "www.example.com", 443, true),
        ("*.example.com", "a.b.example.com", 443, true),
        ("*.example.com", "example.com", 443, false),
        ("*.example.com", "evilexample.com", 443, false),
        ("*.example.com", "example.com.evil.org", 443, false),
        ("*.example.com", "www.example.com", 444, false),
        ("[::1]", "[::1]", 443, true),
        // The net interface hands IPv6 over without brackets.
        ("[::1]", "::1", 443, true),
        ("[::1]", "[::ffff:0:1]", 443, false),
        ("127.0.0.1", "[::ffff:127.0.0.1]", 443, false),
    ] {
        let pattern = HostPattern::parse(pattern).unwrap();
        assert_eq!(pattern.matches(&Target::new(host, port).unwrap()), expected, "{pattern} and {host}:{port}");
    }
}

#[test]
fn a_refusal_names_the_command() {
    let policy = Policy { plugin: "files".into(), grants: Vec::new(), private: PrivateNetworks::Any(true) };
    let error = policy.check("Example.com", 443).unwrap_err();
    assert_eq!(
        error.to_string(),
        "host example.com:443 is not granted to plugin files; grant it with: thimble plugin grant files example.com:443"
    );
    assert_eq!(error.failure().kind, thimble_record::ErrorKind::Refused);
    let error = policy.check("::1", 5432).unwrap_err().to_string();
    assert!(error.ends_with("thimble plugin grant files [::1]:5432"), "{error}");
    assert!(matches!(policy.check("example.com", 0), Err(EgressError::BadHost { .. })));
}

#[test]
fn authorities_of_urls() {
    for (authority, expected) in [
        ("example.com", Some("example.com:443")),
        ("example.com:8443", Some("example.com:8443")),
        ("[::1]:80", Some("[::1]:80")),
        ("[::1]", Some("[::1]:443")),
        ("example.com:", None),
        ("example.com:0", None),
        ("example.com:99999", None),
        ("user@example.com", None),
        ("user:pass@example.com", None),
        ("example.com@evil.org", None),
        ("", None),
        (":80", None),
    ] {
        let target = Target::of_authority(authority, 443);
        assert_eq!(target.as_ref().ok().map(Target::to_string).as_deref(), expected, "{authority}");
        if let Err(error) = target {
            assert!(!error.to_string().contains("pass"), "{error}");
        }
    }
}
