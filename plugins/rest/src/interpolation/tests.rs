#![allow(clippy::unwrap_used)]

use super::*;

fn template(text: &str) -> Template {
    let value = Value::str(text);
    let node = Node { value: &value, path: "streams[0].path".into() };
    Template::new(&node, &Node::root(&Value::Null)).unwrap()
}

#[test]
fn what_is_rendered_is_read_as_a_literal() {
    let scope = Scope::new(1_700_000_000_000_000).with("config", Value::from_json(br#"{"n": 3}"#).unwrap());
    assert_eq!(template("{{ config.n }}{{ config.n }}").value(&scope).unwrap(), Value::Int(33));
    assert_eq!(
        template("{{ (now_utc() - duration('P1D')).strftime('%Y-%m-%d') }}").text(&scope).unwrap(),
        "2023-11-13"
    );
}
