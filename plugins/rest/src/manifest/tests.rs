#![allow(clippy::unwrap_used)]
use super::*;
use crate::{limits, node::Node};

fn manifest(text: &str) -> Manifest {
    load(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

fn json(text: &str) -> Value {
    Value::from_json(text.as_bytes()).unwrap()
}

/// A manifest of one stream with this requester and these settings.
fn around(requester: &str, properties: &str) -> Manifest {
    manifest(&format!(
        r#"{{"version":"6.0.0","check":{{"type":"CheckStream","stream_names":["s"]}},
        "spec":{{"type":"Spec","connection_specification":{{"title":"Acme Spec","properties":{properties}}}}},
        "streams":[{{"name":"s","retriever":{{"requester":{requester},
        "record_selector":{{"extractor":{{"field_path":[]}}}}}}}}]}}"#
    ))
}

fn told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|one| format!("{} {}: {}", one.level.name(), one.path, one.message)).collect()
}

fn hosts(requester: &str) -> Vec<String> {
    around(requester, "{}").spec("config").hosts
}

#[test]
fn hosts_are_seen_through_the_templates_of_published_manifests() {
    for (url, expected) in [
        ("https://API.Example.com/v1", vec!["api.example.com"]),
        ("https://{{ config['subdomain'] }}.example.com/api", vec!["{{ config.subdomain }}.example.com"]),
        ("{{ config['base_url'] }}oauth/token", vec!["{{ config.base_url }}"]),
        ("https://{{ config.get('api_url', 'example.com') }}/x", vec!["{{ config.api_url }}", "example.com"]),
        ("{{ 'https://a.test' if config.sandbox else 'https://b.test' }}", vec!["a.test", "b.test"]),
        ("https://{% if config.eu %}eu.{% endif %}example.com/", vec!["eu.example.com", "example.com"]),
        (
            "{% set m = {'NA': 'https://na.test', 'EU': 'https://eu.test'} %}{{ m[config.region] }}",
            vec!["na.test", "eu.test"],
        ),
        ("{{ 'https://{}/v1'.format(config['host']) }}", vec!["{{ config.host }}"]),
        ("{{ config['domain_url'].rstrip('/') }}/", vec!["{{ config.domain_url }}"]),
        (
            "https://api{{ '-' + config.region if config.region != 'eu' }}.test",
            vec!["api-{{ config.region }}.test", "api.test"],
        ),
        ("https://api.example.com{{ stream_slice['uri'] }}", vec!["api.example.com"]),
        ("https://localhost:3000/x", vec!["localhost:3000"]),
    ] {
        assert_eq!(hosts(&format!(r#"{{"url_base":{}}}"#, Value::str(url).to_json())), expected, "{url}");
    }
}

#[test]
fn a_host_that_only_an_answer_knows_is_asked_for() {
    let text = r#"{"url":"{{ download_target }}"}"#;
    let spec = around(text, "{}").spec("");
    assert_eq!(spec.hosts, Vec::<String>::new());
    assert_eq!(
        told(&spec.findings),
        [
            "warning streams[0].retriever.requester.url: the host of `{{ download_target }}` is known only while reading; name \
          it in `permissions: {hosts: […]}`"
        ]
    );
    let mut declared = around(text, r#"{"region":{},"key":{"airbyte_secret":true}}"#);
    let block =
        r#"{"hosts":["*.files.test","{{ config['region'] }}.api.test"],"reads_secrets":["key"],"memory_mib":512}"#;
    declared.resolved.map_mut().insert("permissions".into(), json(block));
    let spec = declared.spec("config");
    assert_eq!(spec.hosts, ["*.files.test", "{{ config.region }}.api.test"]);
    assert_eq!((spec.reads_secrets, spec.memory_mib), (vec!["config.key".into()], Some(512)));
    assert_eq!(told(&spec.findings), Vec::<String>::new());
}

#[test]
fn settings_that_a_manifest_makes_itself_are_followed_to_what_they_are_made_of() {
    let mut manifest = around(r#"{"url":"{{ config['endpoint'] }}/v1"}"#, r#"{"region":{"type":"string"}}"#);
    let rules = r#"{"type":"ConfigNormalizationRules","transformations":[
        {"type":"ConfigAddFields","fields":[{"type":"AddedFieldDefinition","path":["endpoint"],"value":"{{ config['region'] }}"}]},
        {"type":"ConfigRemapField","field_path":["endpoint"],"map":{"EU":"https://eu.test","US":"https://us.test"}}]}"#;
    let spec = manifest.resolved.map_mut().get_mut("spec").unwrap();
    spec.map_mut().insert("config_normalization_rules".into(), json(rules));
    assert_eq!(manifest.spec("").hosts, ["eu.test", "us.test"]);
    let config = normalize(&manifest.resolved, json(r#"{"region":"US"}"#), 0).unwrap();
    assert_eq!(config.to_json(), r#"{"region":"US","endpoint":"https://us.test"}"#);
}

#[test]
fn a_secret_that_is_computed_with_is_asked_for_and_one_that_is_only_put_in_is_not() {
    let reads = |header: &str| {
        let requester =
            format!(r#"{{"url":"https://a.test","request_headers":{{"X":{}}}}}"#, Value::str(header).to_json());
        around(
            &requester,
            r#"{"key":{"type":"string","airbyte_secret":true},"auth":{"type":"object","oneOf":[
            {"properties":{"token":{"airbyte_secret":true}}}]}}"#,
        )
        .spec("config")
        .reads_secrets
    };
    for plain in [
        "Bearer {{ config['key'] }}",
        "{{ 'Bearer ' ~ config.key if config.get('key') else config.auth.token }}",
        "Basic {{ (config['key'] ~ ':') | base64encode }}",
        "{{ config['plain'] | hash('md5') }}",
        "{{ config['auth']['token'] | string }}",
    ] {
        assert_eq!(reads(plain), Vec::<String>::new(), "{plain}");
    }
    for computed in [
        "{{ config['key'] | hash('md5') }}",
        "{{ config['key'][:4] }}",
        "{{ 'a' if config['key'] == 'x' else 'b' }}",
        "{{ config['key'].split('-')[0] }}",
        "{% set k = config['key'] %}{{ k | base64encode }}",
    ] {
        assert_eq!(reads(computed), ["config.key"], "{computed}");
    }
    assert_eq!(reads("{{ config['auth']['token'] | upper }}"), ["config.auth.token"]);
}

#[test]
fn the_settings_become_a_schema_that_the_hosts_validator_takes() {
    let properties = r#"{"key":{"type":"string","airbyte_secret":true,"order":0},
        "date":{"type":"string","pattern":"^(?!x)","examples":"2024"},
        "auth":{"oneOf":[{"properties":{"kind":{"const":"a"},"token":{"airbyte_secret":true}},"required":true}]},
        "pair":{"type":"array","items":[{"type":"string"},{"airbyte_secret":true}]}}"#;
    let spec = around(r#"{"url":"https://api.acme.test"}"#, properties).spec("");
    assert_eq!(
        spec.config_schema.to_json(),
        concat!(
            r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"Acme Spec","properties":{"#,
            r#""key":{"type":"string","x-secret":true,"order":0},"date":{"type":"string"},"#,
            r#""auth":{"oneOf":[{"properties":{"kind":{"const":"a"},"token":{"x-secret":true}}}]},"#,
            r#""pair":{"type":"array","items":[{"type":"string"},{"x-secret":true}]}},"type":"object"}"#
        )
        .replace(r#""items":["#, r#""prefixItems":["#)
    );
    assert_eq!(spec.secret_fields, ["auth.token", "key", "pair.*"]);
    assert_eq!(spec.findings.len(), 3);
    assert_eq!((spec.name.as_str(), spec.title.as_str()), ("acme", "Acme"));
    assert!(spec.docs.contains("| s |  |  | everything, every time |"), "{}", spec.docs);
    assert!(spec.docs.contains("- connects to `api.acme.test`"), "{}", spec.docs);
}

#[test]
fn tokens_that_are_written_back_are_secret_whatever_the_manifest_says() {
    let requester = r#"{"url":"https://a.test","authenticator":{"type":"OAuthAuthenticator",
        "token_refresh_endpoint":"https://login.test/token","refresh_token_updater":{"access_token_config_path":["access"]}}}"#;
    let spec = around(requester, r#"{"credentials":{"oneOf":[{"properties":{}}]}}"#).spec("");
    assert_eq!(spec.secret_fields, ["access", "credentials.refresh_token"]);
    assert_eq!(spec.hosts, ["a.test", "login.test"]);
}

#[test]
fn findings_name_the_path_and_what_to_do() {
    let text = r#"
version: "6"
type: DeclarativeSource
check: {type: CheckStream, stream_names: [gone]}
streams:
  - name: one
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequster, url: x}
      paginator:
        type: DefaultPaginator
        page_size_option: {type: RequestOption, inject_into: query, field_name: n}
        pagination_strategy: {type: PageIncrement}
      record_selector: {type: RecordSelector, extractor: {class_name: my.Extractor}}
  - type: DeclarativeStream
    name: two
    primary_key: 5
    retriever: {type: AddFields}
"#;
    assert_eq!(
        told(&manifest(text).findings()),
        [
            "error streams[0].retriever.requester: the component `HttpRequster` is not known here; did you mean \
             `HttpRequester`?",
            "error streams[0].retriever.record_selector.extractor: this is Python code (`my.Extractor`), which is not run \
             here; use DpathExtractor, with `*` in its path or a record_expander, or CombinedExtractor",
            "error streams[0].retriever.paginator.page_size_option.inject_into: this has to be `request_parameter`, \
             `header`, `body_data` or `body_json`",
            "error streams[1].retriever: `AddFields` cannot stand here; it takes `SimpleRetriever` or `AsyncRetriever`",
            "error streams[1].primary_key: this has to be text or an array",
            "error check.stream_names[0]: there is no stream `gone` to check",
            "error streams[0].retriever.paginator: `page_size_option` says where to put a page size, but \
             `pagination_strategy` has no `page_size`",
        ]
    );
}

#[test]
fn a_broken_template_and_a_wrong_version_are_told() {
    let broken = around(r#"{"url":"https://a.test/{{ config['x' }}"}"#, "{}").findings();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].path, "streams[0].retriever.requester.url");
    let versions = |version: &str| {
        let mut manifest = around(r#"{"url":"https://a.test"}"#, "{}");
        manifest.resolved.map_mut().insert("version".into(), version.into());
        told(&manifest.findings())
    };
    assert_eq!(versions("6.1.0"), Vec::<String>::new());
    assert_eq!(versions("newest"), ["error version: `newest` is no version; write one such as 6.0.0"]);
    assert_eq!(
        versions("12.0.0"),
        ["warning version: it is written for version 12.0.0 of the language; known here is 7"]
    );
    let told = load(b"- a").unwrap_err().to_string();
    assert_eq!(told, "the manifest is no mapping; it begins with `version`, `type` and `streams`");
}

#[test]
fn settings_are_migrated_transformed_and_validated_in_this_order() {
    let rules = r#"{"spec":{"type":"Spec","config_normalization_rules":{"type":"ConfigNormalizationRules",
        "config_migrations":[{"type":"ConfigMigration","transformations":[
            {"type":"ConfigAddFields","condition":"{{ config.get('old') }}","fields":[
                {"type":"AddedFieldDefinition","path":["auth","token"],"value":"{{ config['old'] }}"},
                {"type":"AddedFieldDefinition","path":["copy"],"value":"{{ config['auth']['token'] }}","value_type":"string"}]},
            {"type":"ConfigRemoveFields","field_pointers":[["old"],["gone","x"],["list","0"]]}]}],
        "transformations":[{"type":"ConfigRemapField","field_path":["auth","kind"],"map":{"o":"OAuth"}}],
        "validations":[{"type":"DpathValidator","field_path":["auth"],"validation_strategy":{
            "type":"ValidateAdheresToSchema","base_schema":{"required":["token"]}}}]}}}"#;
    let run = |config: &str| normalize(&json(rules), json(config), 0);
    assert_eq!(
        run(r#"{"old":7,"auth":{"kind":"o"},"list":[1,2]}"#).unwrap().to_json(),
        r#"{"auth":{"kind":"OAuth","token":7},"list":[null,2],"copy":"7"}"#
    );
    assert_eq!(run(r#"{"auth":{"token":"t","kind":"z"}}"#).unwrap().to_json(), r#"{"auth":{"token":"t","kind":"z"}}"#);
    assert_eq!(run("{}").unwrap().to_json(), "{}");
    assert_eq!(
        run(r#"{"auth":{"kind":"secret thing"}}"#).unwrap_err().to_string(),
        "spec.config_normalization_rules.validations[0]: the setting `auth` lacks `token`"
    );
}

#[test]
fn what_is_found_and_shown_ends_at_its_limits() {
    let streams: Vec<String> = (0..=limits::MAX_FINDINGS).map(|at| format!(r#"{{"name":"s{at}"}}"#)).collect();
    let text = format!(r#"{{"version":"6.0.0","check":{{"stream_names":["s0"]}},"streams":[{}]}}"#, streams.join(","));
    let many = manifest(&text);
    let findings = many.findings();
    assert_eq!(findings.len(), limits::MAX_FINDINGS + 1);
    assert_eq!(findings.last().unwrap().message, "1 more findings are left out");
    let mut long = around(r#"{"url":"https://a.test"}"#, "{}");
    let title = "ä".repeat(limits::MAX_PAGE_BYTES);
    long.resolved.map_mut().insert("description".into(), title.clone().into());
    long.resolved.map_mut().insert("metadata".into(), json(&format!(r#"{{"name":"{}"}}"#, "n".repeat(100))));
    let spec = long.spec("");
    assert!(spec.docs.len() <= limits::MAX_PAGE_BYTES && spec.docs.ends_with("(cut)\n"));
    assert_eq!(spec.name.len(), limits::MAX_NAME_BYTES);
}

#[test]
fn a_template_with_too_many_outcomes_is_not_followed() {
    let variants = |template: &str| template_values::variants(template, &Value::Null);
    let unknown = vec![vec![template_values::Piece::Unknown]];
    let choice = "{{ 'a' if config.x else 'b' }}";
    assert_eq!(variants(&choice.repeat(6)).len(), limits::MAX_TEMPLATE_VARIANTS);
    assert!(variants(&choice.repeat(7)).iter().all(|one| one.contains(&template_values::Piece::Unknown)));
    let doubled: String = (1..30).map(|at| format!("{{% set a{at} = a{0} ~ a{0} %}}", at - 1)).collect();
    let steps = variants(&format!("{{% set a0 = 'x' %}}{doubled}{{{{ a29 }}}}"));
    assert!(steps.iter().all(|one| one.contains(&template_values::Piece::Unknown)));
    let long = format!("{{% set a = '{}' %}}{}", "x".repeat(1000), "{{ a }}".repeat(300));
    assert!(variants(&long).iter().all(|one| one.contains(&template_values::Piece::Unknown)));
    assert_eq!(variants("{{ nothing("), unknown);
}

#[test]
fn a_schema_that_is_too_deep_or_a_pattern_that_is_too_large_is_left_out() {
    let deep =
        format!("{}{{}}{}", r#"{"items":"#.repeat(limits::MAX_SCHEMA_DEPTH), "}".repeat(limits::MAX_SCHEMA_DEPTH));
    let properties = format!(r#"{{"deep":{deep},"large":{{"pattern":"(a{{1000}}){{1000}}"}}}}"#);
    let spec = around(r#"{"url":"https://a.test"}"#, &properties).spec("");
    assert_eq!(spec.findings.len(), 2);
    assert!(spec.findings[0].message.starts_with("the settings are nested deeper than 64 levels"));
    assert_eq!(Node::root(&spec.config_schema).get("properties").unwrap().get("large").unwrap().value.to_json(), "{}");
}
