#![allow(clippy::unwrap_used)]

use super::*;
use crate::{error::Kind, value::Map};

/// 2023-11-14T22:13:20.123456Z.
const NOW_US: i64 = 1_700_000_000_123_456;

fn scope() -> Scope {
    let value = |json: &str| Value::from_json(json.as_bytes()).unwrap();
    Scope::new(NOW_US)
        .with(
            "config",
            value(
                r#"{"n": 3, "s": "Hello World", "t": true, "z": null, "l": [3, 1, 2], "d": {"a": 1, "b": {"c": [1, 2]}},
                "date": "2024-01-31", "dt": "2024-01-31T10:20:30.123Z", "neg": -7, "url": "https://a.b/c d?e=f&g=h",
                "rows": [{"id": 1, "name": "x", "on": true}, {"id": 2, "on": false}], "text": "1,2,3"}"#,
            ),
        )
        .with("stream_slice", value(r#"{"start_time": "2024-01-01", "parent_id": 12}"#))
        .with("headers", value(r#"{"x-next": "abc", "link": {"next": {"url": "http://n"}}}"#))
        .with("response", value(r#"{"data": [{"id": 1}, {"id": 9}], "next": "http://x/y?cursor=abc%3D&z=1"}"#))
}

fn build(text: &str) -> Result<Template> {
    let value = Value::str(text);
    let node = Node { value: &value, path: "streams[0].path".into() };
    let component = Value::from_json(br#"{"$parameters": {"x": "px"}}"#).unwrap();
    Template::new(&node, &Node::root(&component))
}

fn template(text: &str) -> Template {
    build(text).unwrap()
}

fn value(text: &str) -> String {
    template(text).value(&scope()).unwrap().to_json()
}

fn failure(text: &str) -> String {
    template(text).value(&scope()).unwrap_err().to_string()
}

/// What the reference gives for the same templates over the same scope.
#[test]
fn templates_come_to_what_the_reference_makes_of_them() {
    let cases = [
        ("{{ config.n }}", "3"),
        ("{{ config.n }}{{ config.n }}", "33"),
        ("/a/{{ config.n }}/b", r#""/a/3/b""#),
        ("{{ config.missing }}", r#""""#),
        ("{{ config.z }}", "null"),
        ("{{ config.z.foo }}", r#""""#),
        ("{{ config.l }}", "[3,1,2]"),
        ("{{ config.l }} and {{ config.t }}", r#""[3, 1, 2] and True""#),
        (r#"{"a": {{ config.t }}, "b": {{ config.z }} }"#, r#"{"a":true,"b":null}"#),
        (r#"{"a": {{ config.t | tojson }} }"#, r#""{\"a\": true }""#),
        ("{{ config.n / 2 }}", "1.5"),
        ("{{ config.neg // 2 }}", "-4"),
        ("{{ config.neg % 3 }}", "2"),
        ("{{ 'a' * 3 ~ 1 ~ None ~ True ~ 1.0 }}", r#""aaa1NoneTrue1.0""#),
        ("{{ '%s-%05d-%.2f' % ('a', 42, 3.14159) }}", r#""a-00042-3.14""#),
        ("{{ '{0:>5}|{1:,}|{2:.1%}'.format('a', 1234567, 0.256) }}", r#""    a|1,234,567|25.6%""#),
        ("{{ 1 < 2 < 3 }}", "true"),
        ("{{ true == 1 }}", "true"),
        ("{{ config.l | sort | first }}", "1"),
        ("{{ config.rows | map(attribute='name', default='-') | join(',') }}", r#""x,-""#),
        ("{{ config.rows | selectattr('on') | map(attribute='id') | list }}", "[1]"),
        ("{{ config.z | map(attribute='id') | list }}", "[]"),
        ("{{ config.s | hash('sha1') }}", r#""0a4d55a8d778e5022fab701977c5d840bbc486d0""#),
        ("{{ config.s | base64encode }}", r#""SGVsbG8gV29ybGQ=""#),
        ("{{ config.n | string }}", r#""3""#),
        ("{{ config.d | string }}", r#""{\"a\": 1, \"b\": {\"c\": [1, 2]}}""#),
        ("{{ sanitize_url(config.url) }}", r#""https%3A%2F%2Fa.b%2Fc+d%3Fe%3Df%26g%3Dh""#),
        ("{{ config.url | urlencode }}", r#""https%3A//a.b/c%20d%3Fe%3Df%26g%3Dh""#),
        ("{{ camel_case_to_snake_case('CamelCaseHTTP') }}", r#""camel_case_h_t_t_p""#),
        ("{{ response.next | regex_search('cursor=([^&]+)') }}", r#""abc%3D""#),
        ("{{ config.s | regex_replace('(l+)', '<\\\\1>') }}", r#""He<ll>o Wor<l>d""#),
        ("{{ config.get('d', {}).get('b', {}).get('c') | join('-') }}", r#""1-2""#),
        ("{{ config.date.split('-')[0] | int + 1 }}", "2025"),
        ("{{ response.data[-1].id }}", "9"),
        ("{{ stream_interval.start_time }}/{{ stream_partition['parent_id'] }}", r#""2024-01-01/12""#),
        ("{{ stream_slice.extra_fields.get('x') }}", "null"),
        ("{{ headers['X-Next'] }} {{ headers.link.next.url }}", r#""abc http://n""#),
        ("{{ parameters.x }}", r#""px""#),
        ("{% for k, v in config.d.items() %}{{ loop.index }}{{ k }};{% endfor %}", r#""1a;2b;""#),
        ("{% set x = [] %}{% for i in config.l: %}{% set _ = x.append(i * 2) %}{% endfor %}{{ x }}", "[6,2,4]"),
        ("{%- if config.n == 3 -%} three {%- else -%} other {%- endif -%}", r#""three""#),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn dates_in_templates_are_objects_of_python() {
    let cases = [
        ("{{ now_utc() }}", "2023-11-14 22:13:20.123456+00:00"),
        ("{{ (now_utc() - duration('P1M')).strftime('%Y-%m-%dT%H:%M:%SZ') }}", "2023-10-14T22:13:20Z"),
        ("{{ today_utc() - duration('PT36H') }}", "2023-11-13"),
        ("{{ today_with_timezone('Pacific/Tarawa') }}", "2023-11-15"),
        ("{{ day_delta(-30, format='%Y-%m-%d') }}", "2023-10-15"),
        ("{{ timestamp('2022-07-28') }}", "1658966400.0"),
        ("{{ format_datetime(config.dt, '%ms') }}", "1706696430123"),
        ("{{ format_datetime(1700000000, '%Y-%m-%d') }}", "2023-11-14"),
        ("{{ format_datetime('31.01.2024', '%s', '%d.%m.%Y') }}", "1706659200"),
        ("{{ (str_to_datetime('2024-03-01') - str_to_datetime('2024-02-01')).days }}", "29"),
        ("{{ str_to_datetime('2024-01-01T10:00:00+02:00').replace(day=15).isoformat() }}", "2024-01-15T08:00:00+00:00"),
        ("{{ now_utc() > str_to_datetime(config.date) }}", "False"),
        ("{{ duration('P1DT1S') * 2 }}", "2 days, 0:00:02"),
    ];
    for (text, expected) in cases {
        assert_eq!(template(text).text(&scope()).unwrap(), expected, "{text}");
    }
}

#[test]
fn text_is_read_as_a_literal_and_written_again() {
    let cases = [
        ("1.10", "1.1"),
        ("+15551234", "15551234"),
        ("1e5", "100000.0"),
        ("1,2", "(1, 2)"),
        ("{'a': [1, True, None]}", "{'a': [1, True, None]}"),
        ("'quoted'", "quoted"),
        ("01", "01"),
        ("true", "true"),
        ("2024-01-31", "2024-01-31"),
        ("--1", "--1"),
        ("1j", "1j"),
        ("['a' 'b', \"it's\"]", "['ab', \"it's\"]"),
    ];
    for (text, expected) in cases {
        assert_eq!(template(text).text(&scope()).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_counts_as_false_is_false() {
    for text in ["", "False", "false", "0", "0.0", "[]", "{}", "()", "None", "{{ config.missing }}", "{{ config.x.y }}"]
    {
        assert!(!template(text).boolean(&scope()).unwrap(), "{text}");
    }
    for text in ["x", "1", "no", "{{ config.l }}", "{{ 'a' + 1 }}", "{{ response.next is defined }}"] {
        assert!(template(text).boolean(&scope()).unwrap(), "{text}");
    }
}

#[test]
fn a_type_error_leaves_the_template_as_it_stands() {
    assert_eq!(value("{{ 'a' + 1 }}"), r#""{{ 'a' + 1 }}""#);
    assert_eq!(value("{{ timestamp(now_utc()) }}"), r#""{{ timestamp(now_utc()) }}""#);
}

#[test]
fn a_variable_that_is_not_there_is_named_with_the_template_and_its_place() {
    let said = failure("{% if false %}{{ recrod.id }}{% endif %}");
    assert_eq!(
        said,
        "streams[0].path: the template `{% if false %}{{ recrod.id }}{% endif %}` cannot be evaluated: there is no variable \
         `recrod` here"
    );
    assert!(failure("{% if config.t %}{% set y = 1 %}{% else %}{% set y = 2 %}{% endif %}{{ y }}").contains("`y`"));
    assert!(failure("{{ config.missing.more }}").contains("is undefined"));
    assert!(failure("stream_state").contains("stream_interval"));
}

#[test]
fn what_is_no_template_is_refused_when_it_is_compiled() {
    for text in
        ["{{ now_utc", "{{ }}", "{% if %}", "{% foo %}", "{{ 'a' | nofilter }}", "{{ 1 is notest }}", "{{ (1] }}"]
    {
        let error = build(text).unwrap_err();
        assert_eq!((error.kind, &*error.at), (Kind::Config, "streams[0].path"), "{text}");
    }
}

#[test]
fn a_tree_evaluates_keys_and_texts_and_leaves_out_nothing_but_null() {
    let value = Value::from_json(
        br#"{"{{ config.s }}": "{{ config.n }}", "none": "{{ config.missing }}", "in": {"l": ["{{ config.l }}", 5]}}"#,
    )
    .unwrap();
    let tree = TemplateTree::new(&Node::root(&value), &Node::root(&Value::Null)).unwrap();
    let map = Value::map(tree.mapping(&scope()).unwrap());
    assert_eq!(map.to_json(), r#"{"Hello World":3,"none":null,"in":{"l":["{{ config.l }}",5]}}"#);
    assert_eq!(tree.nested(&scope()).unwrap().to_json(), r#"{"Hello World":3,"in":{"l":[[3,1,2],5]}}"#);
    let only = Value::map(Map::from([("a".to_owned(), Value::str("{{ config.text }}"))]));
    let tree = TemplateTree::new(&Node::root(&only), &Node::root(&Value::Null)).unwrap();
    let map = tree.mapping_as(&scope(), Allowed::TextOrList).unwrap();
    assert_eq!(map["a"], Value::str("1,2,3"));
}

#[test]
fn an_allowed_type_keeps_other_literals_as_text() {
    assert_eq!(template("{{ config.n }}").value_as(&scope(), Allowed::Text).unwrap(), Value::str("3"));
    assert_eq!(template("{{ config.n }}").value_as(&scope(), Allowed::Integer).unwrap(), Value::Int(3));
}

#[test]
fn a_change_is_seen_in_the_template_and_nowhere_else() {
    let scope = scope();
    let text = "{% set _ = config.d.b.update({'z': 1}) %}{{ config.d }}";
    assert_eq!(template(text).text(&scope).unwrap(), "{'a': 1, 'b': {'c': [1, 2], 'z': 1}}");
    assert_eq!(template("{{ config.d }}").text(&scope).unwrap(), "{'a': 1, 'b': {'c': [1, 2]}}");
}

#[test]
fn an_evaluation_ends_at_its_limits() {
    let long = "x".repeat(limits::MAX_TEMPLATE_BYTES + 1);
    assert!(build(&long).unwrap_err().message.contains("longer than"));
    let deep = "(".repeat(limits::MAX_TEMPLATE_DEPTH + 1);
    assert!(build(&format!("{{{{ {deep} }}}}")).is_err());
    let nested = "{% if 1 %}".repeat(limits::MAX_TEMPLATE_DEPTH + 1);
    assert!(build(&nested).unwrap_err().message.contains("nested deeper"));
    assert!(failure("{{ 'x' * 100000000 }}").contains("larger than"));
    assert!(failure("{{ [1] * 1000001 }}").contains("longer than"));
    assert!(failure("{{ 10 ** 200 }}").contains("too large"));
    assert_eq!(template("{{ '%.70000d' % 1 }}").text(&scope()).unwrap().len(), 70_000);
    let doubled = "{% set a = [a, a] %}".repeat(40);
    assert!(failure(&format!("{{% set a = [1] %}}{doubled}{{{{ a }}}}")).contains("renders to more"));
    assert!(failure(&format!("{{% set a = [1] %}}{doubled}{{{{ a | tojson }}}}")).contains("as JSON"));
    let other = "{% set b = [b, b] %}".repeat(40);
    assert_eq!(value(&format!("{{% set a = [1] %}}{doubled}{{% set b = [1] %}}{other}{{{{ a == b }}}}")), "false");
    let runs = "{% for a in l %}{% for b in l %}{% for c in l %}{% endfor %}{% endfor %}{% endfor %}";
    let hundreds = format!("{{% set l = '{}' | list %}}{runs}", "x".repeat(200));
    assert!(failure(&hundreds).contains("steps"));
    let wide = format!("{{% set l = 'x' * 1000000 %}}{}", "{{ l }}".repeat(20));
    assert!(failure(&wide).contains("renders to more"));
    assert!(failure("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").contains("too deeply"));
    let rooted = "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}";
    assert!(template(rooted).text(&scope()).unwrap().ends_with("]]]"));
    assert!(literal::evaluate(&"[".repeat(limits::MAX_LITERAL_DEPTH + 1)).is_none());
    assert!(literal::evaluate(&"9".repeat(limits::MAX_INTEGER_DIGITS + 1)).is_none());
}

#[test]
fn a_regular_expression_that_python_alone_can_read_is_refused_with_a_reason() {
    assert!(failure("{{ config.s | regex_search('(?=x)') }}").contains("look-ahead"));
    assert!(failure("{{ config.s | regex_search('(?<!x)y') }}").contains("look-behind"));
    assert!(failure("{{ config.s | regex_search('(a)\\\\1') }}").contains("reference to a group"));
    assert_eq!(value("{{ 'a{b}[c' | regex_search('{(b)}[[]c$') }}"), r#""b""#);
    let long = format!("{{{{ config.s | regex_search('{}') }}}}", "x".repeat(limits::MAX_PATTERN_BYTES + 1));
    assert!(failure(&long).contains("longer than"));
    assert!(failure("{{ config.s | regex_search('(\\\\w{1000}){1000}') }}").contains("cannot be used"));
    for number in 0..=limits::MAX_PATTERNS {
        pattern::compiled(&format!("x{number}")).unwrap();
    }
}

#[test]
fn identifiers_are_of_version_four_and_differ() {
    let uuid = || template("{{ generate_uuid() }}").text(&scope()).unwrap();
    let (a, b) = (uuid(), uuid());
    assert_ne!(a, b);
    assert_eq!((a.len(), &a[14..15]), (36, "4"));
}
