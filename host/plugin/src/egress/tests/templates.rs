//! Grants over configurations.

use serde_json::json;

use super::*;

fn expanded(grant: &str, config: serde_json::Value) -> Result<Vec<String>, EgressError> {
    let grants = [grant.to_owned()];
    Ok(expand(&grants, &grants, &config)?.iter().map(HostPattern::to_string).collect())
}

#[test]
fn values_become_patterns() {
    for (grant, config, expected) in [
        ("api.example.com:444", json!({}), vec!["api.example.com:444"]),
        ("{{ url }}", json!({ "url": "https://Data.Example.com/a?b=c" }), vec!["data.example.com:443"]),
        ("{{url}}", json!({ "url": "http://example.com" }), vec!["example.com:80"]),
        ("{{ url }}", json!({ "url": "http://[::1]:8080/x" }), vec!["[::1]:8080"]),
        ("{{ url }}", json!({ "url": "http://0x7f.1:8080/x" }), vec!["127.0.0.1:8080"]),
        ("{{ url }}", json!({ "url": "postgres://user:pass@DB.example/base" }), vec!["db.example:5432"]),
        ("{{ url }}", json!({ "url": "exotic://db.example:77/base" }), vec!["db.example:77"]),
        ("{{ url }}", json!({ "url": "s3://bucket/key" }), vec![]),
        ("{{ url }}", json!({ "url": "file:///etc/passwd" }), vec![]),
        ("{{ endpoint }}", json!({ "endpoint": "minio.internal:9000" }), vec!["minio.internal:9000"]),
        ("{{ endpoint }}", json!({ "endpoint": "minio.internal" }), vec!["minio.internal"]),
        ("{{ endpoint }}", json!({}), vec![]),
        ("{{ endpoint }}", json!({ "endpoint": null }), vec![]),
        ("{{ endpoint }}", json!({ "endpoint": "" }), vec![]),
        (
            "{{ urls }}",
            json!({ "urls": ["https://a.example", null, "b.example:1"] }),
            vec!["a.example:443", "b.example:1"],
        ),
        ("{{ s3.endpoint }}", json!({ "s3": { "endpoint": "c.example" } }), vec!["c.example"]),
        (
            "{{ files.url }}",
            json!({ "files": [{ "url": "http://a.example" }, { "url": "http://b.example" }] }),
            vec!["a.example:80", "b.example:80"],
        ),
        ("{{ hosts.1 }}", json!({ "hosts": ["a.example", "b.example"] }), vec!["b.example"]),
        ("{{ account }}.example.com", json!({ "account": "ACME-1" }), vec!["acme-1.example.com"]),
        ("*.{{ region }}.example.com", json!({ "region": "eu" }), vec!["*.eu.example.com"]),
        ("{{ host }}:{{ port }}", json!({ "host": "db.example", "port": 5433 }), vec!["db.example:5433"]),
        ("{{ host }}:{{ port }}", json!({ "host": "db.example" }), vec![]),
    ] {
        assert_eq!(expanded(grant, config.clone()).unwrap(), expected, "{grant} over {config}");
    }
}

#[test]
fn values_never_widen_a_grant() {
    for (grant, config) in [
        ("{{ url }}", json!({ "url": "*.example.com" })),
        ("{{ url }}", json!({ "url": "https://*.example.com" })),
        ("{{ url }}", json!({ "url": "https://trusted.example@evil.example/" })),
        ("{{ url }}", json!({ "url": "http://" })),
        ("{{ url }}", json!({ "url": "exotic://db.example" })),
        ("{{ url }}", json!({ "url": "https://example.com./" })),
        ("{{ url }}", json!({ "url": "postgres://ex%61mple.com/" })),
        ("{{ url }}", json!({ "url": 7 })),
        ("{{ url }}", json!({ "url": { "host": "a" } })),
        ("{{ account }}.example.com", json!({ "account": "evil.org/" })),
        ("{{ account }}.example.com", json!({ "account": "evil.org:80#" })),
        ("{{ account }}.example.com", json!({ "account": "*" })),
        ("{{ account }}.example.com", json!({ "account": ["a", "b"] })),
        ("{{ account }}.example.com", json!({ "account": "a..b" })),
        ("{{ account }}.example.com", json!({ "account": "@" })),
        ("{{ host }}:{{ port }}", json!({ "host": "db.example", "port": 99999 })),
        ("{{ url", json!({})),
        ("{{ }}", json!({})),
        ("{{ a b }}", json!({})),
        ("{{ a..b }}", json!({})),
    ] {
        let error = expanded(grant, config.clone()).expect_err(grant);
        assert!(matches!(error, EgressError::BadTemplate { .. }), "{grant} over {config}: {error}");
        assert_eq!(error.failure().kind, thimble_record::ErrorKind::Config);
    }
}

#[test]
fn errors_do_not_quote_values() {
    let error = expanded("{{ url }}", json!({ "url": "https://user:hunter2@example.com" })).unwrap_err().to_string();
    assert!(error.contains("`url`") && !error.contains("hunter2"), "{error}");
    let error = expanded("{{ url }}", json!({ "url": "hunter2 hunter2" })).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn only_templates_that_the_plugin_asks_for() {
    let config = json!({ "url": "https://a.example", "webhook": "https://b.example" });
    let asked = ["{{url}}".to_owned()];
    assert_eq!(expand(&["{{ url }}".to_owned()], &asked, &config).unwrap().len(), 1);
    assert!(expand(&["{{ webhook }}".to_owned()], &asked, &config).is_err());
    let many = json!({ "url": vec!["a.example"; 10_001] });
    assert!(expand(&asked, &asked, &many).unwrap_err().to_string().contains("10000"));
    assert!(check_host("{{ url }}").is_ok() && check_host("*.example.com").is_ok());
    assert!(check_host("{{ url").is_err() && check_host("*").is_err());
    assert!(is_template("{{ url }}") && !is_template("example.com"));
}

#[test]
fn what_no_run_could_use_cannot_be_granted() {
    let asked = ["{{url}}".to_owned()];
    for good in ["{{ url }}", "*.example.com:8443", "[::1]:80"] {
        check_grant(good, &asked).unwrap();
    }
    for bad in ["{{ webhook }}", "{{ url", "*", "https://example.com", "a..b"] {
        assert!(!check_grant(bad, &asked).unwrap_err().to_string().is_empty(), "{bad}");
    }
}
