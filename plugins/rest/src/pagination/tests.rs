//! Paginators page by page. What is expected was seen in the reference.

#![allow(clippy::unwrap_used)]

use super::{Page, Paginator, Repeated, ResponseUse};
use crate::{
    error::{Kind, Result},
    http::script::{Script, answer, value},
    limits,
    node::Node,
    value::Value,
    wire::Answer,
};

fn paginator(json: &str) -> Result<Paginator> {
    Paginator::build(Some(&Node::root(&value(json))), &Script::new([]).env(r#"{"size":2,"key":"page"}"#))
}

/// One with a token and a size in the query.
fn with_options(strategy: &str) -> Paginator {
    let option =
        |name: &str| format!(r#"{{"type":"RequestOption","inject_into":"request_parameter","field_name":"{name}"}}"#);
    let (token, size) = (option("{{ config['key'] }}"), option("limit"));
    paginator(&format!(
        r#"{{"type":"DefaultPaginator","pagination_strategy":{strategy},"page_token_option":{token},"page_size_option":{size}}}"#
    ))
    .unwrap()
}

/// The parameters of the requests for pages of so many records.
fn pages(strategy: &str, records: &[usize]) -> Vec<String> {
    let paginator = with_options(strategy);
    let (answer, response) = (Answer::default(), Value::Null);
    let params = |token: &Option<Value>| Value::map(paginator.parts(token.as_ref(), None).unwrap().params).to_json();
    let (mut token, mut repeated) = (paginator.initial_token(), Repeated::default());
    let mut seen = vec![params(&token)];
    for count in records {
        let page = page(&answer, &response, *count, token.as_ref());
        token = paginator.next(&page, &mut repeated).unwrap();
        if token.is_none() {
            seen.push("end".into());
            break;
        }
        seen.push(params(&token));
    }
    seen
}

fn page<'a>(answer: &'a Answer, response: &'a Value, records: usize, last_token: Option<&'a Value>) -> Page<'a> {
    Page {
        answer,
        response,
        extracted: records,
        emitted: records,
        last_record: None,
        last_token,
        size_override: None,
        slice: None,
    }
}

#[test]
fn pages_are_counted_until_one_is_short() {
    assert_eq!(
        pages(r#"{"type":"PageIncrement","page_size":2}"#, &[2, 2, 1]),
        [r#"{"limit":2}"#, r#"{"page":1,"limit":2}"#, r#"{"page":2,"limit":2}"#, "end"]
    );
    assert_eq!(
        pages(
            r#"{"type":"PageIncrement","page_size":"{{ config['size'] }}","start_from_page":1,"inject_on_first_request":true}"#,
            &[2, 0]
        ),
        [r#"{"page":1,"limit":2}"#, r#"{"page":2,"limit":2}"#, "end"]
    );
    assert_eq!(
        pages(r#"{"type":"PageIncrement","page_size":"2","start_from_page":1}"#, &[2])[1],
        r#"{"page":2,"limit":2}"#
    );
}

#[test]
fn offsets_grow_by_the_records_of_a_page() {
    assert_eq!(
        pages(r#"{"type":"OffsetIncrement","page_size":2,"inject_on_first_request":true}"#, &[2, 3, 1]),
        [r#"{"page":0,"limit":2}"#, r#"{"page":2,"limit":2}"#, r#"{"page":5,"limit":2}"#, "end"]
    );
    assert_eq!(
        pages(r#"{"type":"OffsetIncrement","page_size":"{{ config['size'] }}"}"#, &[2, 1]),
        [r#"{"limit":2}"#, r#"{"page":2,"limit":2}"#, "end"]
    );
}

#[test]
fn a_smaller_page_than_the_manifests_is_no_short_page() {
    let paginator = with_options(r#"{"type":"OffsetIncrement","page_size":10}"#);
    assert_eq!(paginator.parts(None, Some(5)).unwrap().params["limit"], Value::Int(5));
    assert_eq!(paginator.page_size(), Ok(Some(10)));
    let (answer, response) = (Answer::default(), Value::Null);
    let page = Page { size_override: Some(5), ..page(&answer, &response, 5, None) };
    assert_eq!(paginator.next(&page, &mut Repeated::default()), Ok(Some(Value::Int(5))));
}

fn cursor(more: &str) -> Paginator {
    paginator(&format!(
        r#"{{"type":"DefaultPaginator","pagination_strategy":{{"type":"CursorPagination",{more}}},"page_token_option":{{"type":"RequestPath"}}}}"#
    ))
    .unwrap()
}

#[test]
fn cursors_come_from_the_body_the_headers_and_the_last_record() {
    let link = r#"<https://a.com/?page=2>; rel="next""#;
    let answer = answer(200, &[("link", link), ("x-next", "n")], "");
    let response = value(r#"{"meta":{"next":"abc"},"empty":"","n":0}"#);
    let record = value(r#"{"id":9}"#);
    for (template, token) in [
        ("{{ response.meta.next }}", Some(r#""abc""#)),
        ("{{ response.get('meta', {}).get('next') }}", Some(r#""abc""#)),
        ("{{ headers['link']['next']['url'] }}", Some(r#""https://a.com/?page=2""#)),
        ("{{ headers['X-Next'] }}", Some(r#""n""#)),
        ("{{ last_record['id'] }}", Some("9")),
        ("{{ last_page_size + 1 }}", Some("4")),
        ("{{ response['empty'] }}", None),
        ("{{ response['n'] }}", None),
    ] {
        let paginator = cursor(&format!(r#""cursor_value":"{template}""#));
        let page = Page { last_record: Some(&record), ..page(&answer, &response, 3, None) };
        let next = paginator.next(&page, &mut Repeated::default()).unwrap();
        assert_eq!(next.map(|token| token.to_json()).as_deref(), token, "{template}");
    }
}

#[test]
fn a_stop_condition_ends_before_the_cursor_is_looked_at() {
    let stops = cursor(
        r#""cursor_value":"{{ response.next }}","stop_condition":"{{ not response.more or last_page_size < page_size }}","page_size":2"#,
    );
    let answer = Answer::default();
    let next = |body: &str, records| {
        stops.next(&page(&answer, &value(body), records, None), &mut Repeated::default()).unwrap()
    };
    assert_eq!(next(r#"{"next":"a","more":true}"#, 2), Some(Value::str("a")));
    assert_eq!(next(r#"{"next":"a","more":true}"#, 1), None);
    assert_eq!(next(r#"{"next":"a","more":false}"#, 2), None);
    let unknown = r#"{"type":"DefaultPaginator","pagination_strategy":{"type":"CursorPagination","cursor_value":"{{ page_size }}"}}"#;
    assert!(paginator(unknown).unwrap_err().message.contains("`page_size` is missing"));
}

#[test]
fn the_token_is_the_address_of_the_next_page() {
    let paginator = cursor(r#""cursor_value":"{{ response.next }}""#);
    let token = Value::str("https://a.com/?page=2");
    assert_eq!(paginator.parts(Some(&token), None).unwrap().path.as_deref(), Some("https://a.com/?page=2"));
    assert_eq!(paginator.parts(None, None).unwrap().path, None);
}

#[test]
fn what_a_token_depends_on_is_known_before() {
    let members = |names: &[&str]| ResponseUse::Members(names.iter().map(|name| (*name).to_owned()).collect());
    let both = cursor(r#""cursor_value":"{{ response.next }}","stop_condition":"{{ 'more' not in response }}""#);
    assert_eq!((both.looks_at_response(), both.looks_at_last_record()), (members(&["next", "more"]), false));
    let record = cursor(r#""cursor_value":"{{ last_record['id'] }}""#);
    assert_eq!((record.looks_at_response(), record.looks_at_last_record()), (ResponseUse::Nothing, true));
    let all = cursor(r#""cursor_value":"{{ response | length }}""#);
    assert_eq!(all.looks_at_response(), ResponseUse::All);
    let none = Paginator::build(None, &Script::new([]).env("{}")).unwrap();
    assert_eq!(none.looks_at_response(), ResponseUse::Nothing);
}

#[test]
fn the_same_page_again_and_again_is_an_error() {
    let paginator = cursor(r#""cursor_value":"t""#);
    let (same, response, token) = (answer(200, &[], "same"), Value::Null, Value::str("t"));
    let mut repeated = Repeated::default();
    let mut next =
        |answer: &Answer, last: Option<&Value>| paginator.next(&page(answer, &response, 1, last), &mut repeated);
    assert!(next(&same, None).is_ok());
    assert!(next(&same, Some(&token)).is_ok());
    let error = next(&same, Some(&token)).unwrap_err();
    assert_eq!(error.kind, Kind::System);
    assert!(error.message.contains("stream `things`") && error.message.contains("`stop_condition`"), "{error}");
    let mut repeated = Repeated::default();
    let mut next =
        |answer: &Answer, last: Option<&Value>| paginator.next(&page(answer, &response, 1, last), &mut repeated);
    let scrolled = (1..limits::MAX_REPEATED_TOKENS).map(|at| answer(200, &[], &at.to_string()));
    for answer in scrolled {
        assert!(next(&answer, Some(&token)).is_ok(), "one token for all pages is no loop");
    }
    assert!(next(&answer(200, &[], "one more"), Some(&token)).is_err());
}

#[test]
fn pieces_that_share_a_paginator_do_not_count_for_each_other() {
    let paginator = cursor(r#""cursor_value":"t""#);
    let (same, response, token) = (answer(200, &[], "same"), Value::Null, Value::str("t"));
    let (mut one, mut other) = (Repeated::default(), Repeated::default());
    let next = |repeated: &mut Repeated| paginator.next(&page(&same, &response, 1, Some(&token)), repeated);
    assert!(next(&mut one).is_ok());
    assert!(next(&mut other).is_ok(), "the first that this piece saw");
    assert!(next(&mut one).is_err());
}

#[test]
fn options_that_do_not_fit_are_errors_of_the_manifest() {
    let option = r#"{"type":"RequestOption","inject_into":"header","field_name":"x"}"#;
    let sized = |strategy: &str| {
        paginator(&format!(
            r#"{{"type":"DefaultPaginator","pagination_strategy":{strategy},"page_size_option":{option},"page_token_option":{option}}}"#
        ))
        .unwrap_err()
        .message
    };
    assert!(sized(r#"{"type":"PageIncrement"}"#).contains("needs a `page_size`"));
    assert!(sized(r#"{"type":"PageIncrement","page_size":1}"#).contains("the same field"));
    assert!(sized(r#"{"type":"CustomPaginationStrategy"}"#).contains("not known"));
    assert!(sized(r#"{"type":"PageIncrement","page_size":"{{ 'many' }}"}"#).contains("no whole number"));
}
