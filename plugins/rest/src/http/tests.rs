//! Requesters against scripted sources. What is expected was seen in the reference.

#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    Budget, Outcome, RequestContext, RequestParts, Requester,
    script::{START_S, Script, answer, now, value},
};
use crate::{
    error::{Kind, RestError, Result},
    limits,
    node::Node,
    partition::Slice,
    stream::Env,
    wire::Answer,
};

fn requester(json: &str, env: &Env) -> Result<Requester> {
    Requester::build(&Node { value: &value(json), path: "streams[0].retriever.requester".into() }, env)
}

/// What came of one request, with this error handler.
fn handled(script: &Rc<Script>, handler: &str) -> Result<Outcome> {
    let json = format!(
        r#"{{"type":"HttpRequester","url_base":"https://a.com/v1","path":"/things","error_handler":{handler}}}"#
    );
    let env = script.env("{}");
    now(requester(&json, &env).unwrap().send(&RequestContext::default()))
}

const DEFAULT: &str = r#"{"type":"DefaultErrorHandler"}"#;

fn ok(body: &str) -> Result<Answer> {
    Ok(answer(200, &[], body))
}

fn status(status: u16) -> Result<Answer> {
    Ok(answer(status, &[], ""))
}

fn filters(filters: &str) -> String {
    format!(r#"{{"type":"DefaultErrorHandler","max_retries":1,"response_filters":[{filters}]}}"#)
}

#[test]
fn a_request_is_made_of_what_all_parts_ask_for() {
    let script = Script::new([ok("{}")]);
    let env = script.env(r#"{"key":"k 1","region":"eu"}"#);
    let json = r#"{
        "type": "HttpRequester", "http_method": "POST",
        "url_base": "https://{{ config['region'] }}.a.com/api/", "path": "/items/{{ stream_partition.id }}/",
        "request_parameters": {"from": "{{ stream_interval['start'] }}", "page": "{{ next_page_token['next_page_token'] }}", "none": "{{ config.get('absent') or '' }}"},
        "request_headers": {"X-Count": "{{ 1 + 1 }}", "Accept": "application/json"},
        "request_body": {"type": "RequestBodyJsonObject", "value": {"filter": {"id": "{{ stream_slice['id'] }}", "deep": ["{{ 'a' }}"]}, "gone": "{{ none }}"}},
        "authenticator": {"type": "ApiKeyAuthenticator", "api_token": "{{ config['key'] }}", "inject_into": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "api_key"}}
    }"#;
    let slice = Slice {
        partition: value(r#"{"id":7}"#).as_map().unwrap().clone(),
        cursor: value(r#"{"start":"2024-01-01"}"#).as_map().unwrap().clone(),
        ..Slice::default()
    };
    let pages = RequestParts { body_json: value(r#"{"filter":{"limit":5}}"#), ..RequestParts::default() };
    let token = value("2");
    let context =
        RequestContext { slice: Some(&slice), next_page_token: Some(&token), parts: &[pages], ..Default::default() };
    let outcome = now(requester(json, &env).unwrap().send(&context)).unwrap();
    assert!(matches!(outcome, Outcome::Answer(_)));
    let sent = script.sent.borrow();
    assert_eq!(sent[0].url, "https://eu.a.com/api/items/7/?from=2024-01-01&page=2&api_key=k+1");
    assert_eq!(String::from_utf8_lossy(&sent[0].body), r#"{"filter": {"id": 7, "deep": ["a"], "limit": 5}}"#);
    let headers: Vec<String> = sent[0].headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(headers, ["X-Count: 2", "Accept: application/json", "Content-Type: application/json"]);
}

#[test]
fn parts_that_ask_for_the_same_are_an_error_that_names_it() {
    let script = Script::new([]);
    let env = script.env("{}");
    let json = r#"{"type":"HttpRequester","url":"https://a.com","request_headers":{"Authorization":"x"},
        "authenticator":{"type":"BearerAuthenticator","api_token":"t"}}"#;
    let error = now(requester(json, &env).unwrap().send(&RequestContext::default())).unwrap_err();
    assert_eq!((error.kind, error.at.as_str()), (Kind::Config, "streams[0].retriever.requester"));
    assert!(error.message.contains("stream `things`") && error.message.contains("`Authorization`"), "{error}");
}

#[test]
fn the_address_of_the_next_page_replaces_the_path() {
    let script = Script::new([ok("{}"), ok("{}")]);
    let env = script.env("{}");
    let json =
        r#"{"type":"HttpRequester","url_base":"https://a.com/v1","path":"things","request_parameters":{"limit":"10"}}"#;
    let requester = requester(json, &env).unwrap();
    for path in ["https://b.com/next?limit=10&page=2", ""] {
        let part = RequestParts { path: Some(path.into()), ..RequestParts::default() };
        now(requester.send(&RequestContext { parts: &[part], ..Default::default() })).unwrap();
    }
    let urls: Vec<String> = script.sent.borrow().iter().map(|sent| sent.url.clone()).collect();
    assert_eq!(urls, ["https://b.com/next?limit=10&page=2", "https://a.com/v1/things?limit=10"]);
}

#[test]
fn failures_say_stream_address_status_and_what_the_source_said() {
    let script = Script::new([Ok(answer(403, &[], r#"{"errors":[{"message":"no scope"}]}"#))]);
    let error = handled(&script, DEFAULT).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(
        error.message.starts_with("stream `things`: GET https://a.com/v1/things answered 403: no scope"),
        "{error}"
    );
    let script = Script::new([Ok(answer(404, &[], &"x".repeat(limits::MAX_ERROR_LETTERS + 1)))]);
    let error = handled(&script, DEFAULT).unwrap_err();
    assert_eq!(error.kind, Kind::System);
    assert!(error.message.contains("xxx… — there is nothing at this address"), "{error}");
}

#[test]
fn errors_of_the_source_are_retried_with_growing_waits() {
    let script = Script::new([status(500), Err(RestError::transient("reset")), status(418), ok("{}")]);
    assert!(matches!(handled(&script, DEFAULT), Ok(Outcome::Answer(_))));
    assert_eq!(*script.slept_ms.borrow(), [1000, 2000, 4000]);
    let script = Script::new((0..6).map(|_| status(503)));
    assert_eq!(handled(&script, DEFAULT).unwrap_err().kind, Kind::Transient);
    assert_eq!(*script.slept_ms.borrow(), [1000, 2000, 4000, 8000, 16000]);
}

#[test]
fn a_refusal_of_the_host_is_not_retried() {
    let script = Script::new([Err(RestError::refused("a.com is not granted"))]);
    assert_eq!(handled(&script, DEFAULT).unwrap_err().kind, Kind::Refused);
}

#[test]
fn rate_limits_wait_as_headers_say_and_a_second_more() {
    let limited = |wait: &str| Ok(answer(429, &[("retry-after", wait)], ""));
    let header = r#"{"type":"DefaultErrorHandler","max_retries":2,"backoff_strategies":[
        {"type":"WaitTimeFromHeader","header":"Retry-After","regex":"[0-9]+"},
        {"type":"ConstantBackoffStrategy","backoff_time_in_seconds":"{{ 2 * 3 }}"}]}"#;
    let script = Script::new([limited("3 seconds"), limited("soon"), ok("{}")]);
    assert!(handled(&script, header).is_ok());
    assert_eq!(*script.slept_ms.borrow(), [4000, 7000]);
    let script = Script::new([limited(&(limits::MAX_WAIT_US / 1_000_000).to_string())]);
    let error = handled(&script, header).unwrap_err();
    assert_eq!(
        (error.kind, error.retry_after_ms),
        (Kind::Transient, Some(3_600_000)),
        "a second longer than the limit"
    );
}

#[test]
fn backoff_strategies_wait_as_in_the_reference() {
    let until = (START_S + 9).to_string();
    for (strategy, waits) in [
        (r#"{"type":"ExponentialBackoffStrategy","factor":3}"#, [7000, 13000]),
        (r#"{"type":"ExponentialBackoffStrategy"}"#, [11000, 21000]),
        (
            r#"{"type":"ConstantBackoffStrategy","backoff_time_in_seconds":1.5,"jitter_range_in_seconds":2}"#,
            [4500, 4500],
        ),
        (r#"{"type":"WaitUntilTimeFromHeader","header":"X-Reset"}"#, [10000, 1000]),
        (r#"{"type":"WaitUntilTimeFromHeader","header":"X-Reset","min_wait":20}"#, [21000, 21000]),
        (r#"{"type":"WaitUntilTimeFromHeader","header":"X-None","min_wait":"{{ 5 }}"}"#, [6000, 6000]),
        (r#"{"type":"WaitTimeFromResponse","wait_time_in_seconds":"{{ response['wait'] }}"}"#, [3000, 3000]),
    ] {
        let limited = || Ok(answer(429, &[("x-reset", &until)], r#"{"wait":2}"#));
        let script = Script::new([limited(), limited(), ok("{}")]);
        let handler = format!(r#"{{"type":"DefaultErrorHandler","backoff_strategies":[{strategy}]}}"#);
        assert!(handled(&script, &handler).is_ok(), "{strategy}");
        assert_eq!(*script.slept_ms.borrow(), waits, "{strategy}");
    }
    let capped = r#"{"type":"DefaultErrorHandler","backoff_strategies":[
        {"type":"WaitTimeFromHeader","header":"retry-after","max_waiting_time_in_seconds":10}]}"#;
    let script = Script::new([Ok(answer(429, &[("retry-after", "10")], ""))]);
    assert_eq!(handled(&script, capped).unwrap_err().retry_after_ms, Some(10_000));
}

#[test]
fn filters_are_asked_in_order_and_decide() {
    let not_found = || Script::new([Ok(answer(404, &[("x-why", "late")], r#"{"code":7,"error":"no such thing"}"#))]);
    let outcome = |filter: &str| handled(&not_found(), &filters(filter));
    assert_eq!(outcome(r#"{"action":"IGNORE","http_codes":[404]}"#), Ok(Outcome::Ignored));
    assert_eq!(outcome(r#"{"action":"SUCCESS","predicate":"{{ response.code == 7 }}"}"#), Ok(Outcome::Ignored));
    assert_eq!(
        outcome(r#"{"action":"RESET_PAGINATION","error_message_contains":"such"}"#),
        Ok(Outcome::ResetPagination)
    );
    assert_eq!(outcome(r#"{"action":"IGNORE","predicate":"{{ headers['X-Why'] == 'late' }}"}"#), Ok(Outcome::Ignored));
    assert_eq!(
        outcome(r#"{"action":"REDUCE_PAGE_SIZE","http_codes":[404],"error_message":"code {{ response['code'] }}"}"#),
        Ok(Outcome::ReducePageSize("code 7".into()))
    );
    let failed = outcome(
        r#"{"action":"IGNORE","http_codes":[400]},{"action":"FAIL","http_codes":["404"],"failure_type":"config_error","error_message":"Grant `things`."}"#,
    );
    let error = failed.unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.ends_with("answered 404: no such thing — Grant `things`."), "{error}");
    assert_eq!(outcome(r#"{"http_codes":[404]}"#).unwrap_err().kind, Kind::System, "no action, no filter");
}

#[test]
fn an_ignored_answer_that_is_one_is_read() {
    let script = Script::new([ok(r#"{"data":[1]}"#)]);
    let outcome = handled(&script, &filters(r#"{"action":"IGNORE","predicate":"{{ 'data' in response }}"}"#));
    assert!(matches!(outcome, Ok(Outcome::Answer(_))));
}

#[test]
fn the_first_handler_of_a_composite_with_a_final_word_wins() {
    let composite = |first: &str, second: &str| {
        let handlers = format!("{},{}", filters(first), filters(second));
        format!(r#"{{"type":"CompositeErrorHandler","error_handlers":[{handlers}]}}"#)
    };
    let script = Script::new([status(403)]);
    let handler = composite(r#"{"action":"FAIL","http_codes":[403]}"#, r#"{"action":"IGNORE","http_codes":[403]}"#);
    assert_eq!(handled(&script, &handler), Ok(Outcome::Ignored));
    let script = Script::new([status(500), status(500)]);
    let handler = composite(r#"{"action":"IGNORE","http_codes":[404]}"#, r#"{"action":"IGNORE","http_codes":[500]}"#);
    assert!(handled(&script, &handler).is_err(), "the first one retries, by the table");
}

#[test]
fn attempts_are_limited_whatever_a_manifest_says() {
    let handler = r#"{"type":"DefaultErrorHandler","max_retries":1000000}"#;
    let env = Script::new([]).env("{}");
    let json = format!(r#"{{"url":"https://a.com","error_handler":{handler}}}"#);
    assert_eq!(requester(&json, &env).unwrap().handler.max_retries, limits::MAX_RETRIES);
    let instant = r#"{"type":"DefaultErrorHandler","max_retries":99,"backoff_strategies":[
        {"type":"WaitTimeFromHeader","header":"wait"}]}"#;
    let asked = || Ok(answer(500, &[("wait", "0.000001")], ""));
    // A loop that repeats begins the one inside of it anew.
    let answers = (0..limits::MAX_ATTEMPTS).map(|at| if at % 99 == 98 { status(500) } else { asked() });
    let script = Script::new(answers);
    assert!(handled(&script, instant).is_err());
    assert_eq!(script.sent.borrow().len(), limits::MAX_ATTEMPTS as usize);
}

#[test]
fn the_host_says_when_to_try_again() {
    let paced = |wait_ms| Err(RestError { retry_after_ms: Some(wait_ms), ..RestError::transient("paced") });
    let script = Script::new([paced(2500), ok("{}")]);
    assert!(handled(&script, DEFAULT).is_ok());
    assert_eq!(*script.slept_ms.borrow(), [3500]);
    assert_eq!(handled(&Script::new([paced(86_400_000)]), DEFAULT).unwrap_err().retry_after_ms, Some(86_400_000));
}

#[test]
fn a_budget_makes_requests_wait() {
    let budget = r#"{"type":"HTTPAPIBudget","policies":[
        {"type":"UnlimitedCallRatePolicy","matchers":[{"method":"GET","url_path_pattern":"/free$"}]},
        {"type":"MovingWindowCallRatePolicy","rates":[{"limit":"{{ config['n'] }}","interval":"PT10S"}],"matchers":[{"url_base":"https://a.com/"}]}]}"#;
    let script = Script::new((0..5).map(|_| ok("{}")));
    let mut env = script.env(r#"{"n":2}"#);
    env.budget = Some(Rc::new(Budget::build(&Node::root(&value(budget)), &env).unwrap()));
    let paid = requester(r#"{"url":"https://a.com/paid"}"#, &env).unwrap();
    let free = requester(r#"{"url":"https://a.com/free"}"#, &env).unwrap();
    for requester in [&paid, &paid, &free, &free, &paid] {
        now(requester.send(&RequestContext::default())).unwrap();
    }
    assert_eq!(*script.slept_ms.borrow(), [10_001]);
}

#[test]
fn a_budget_that_is_spent_for_long_ends_the_run() {
    let budget = r#"{"policies":[{"type":"FixedWindowCallRatePolicy","call_limit":1,"period":"P1D","matchers":[]}]}"#;
    let script = Script::new([ok("{}")]);
    let mut env = script.env("{}");
    env.budget = Some(Rc::new(Budget::build(&Node::root(&value(budget)), &env).unwrap()));
    let requester = requester(r#"{"url":"https://a.com"}"#, &env).unwrap();
    now(requester.send(&RequestContext::default())).unwrap();
    let error = now(requester.send(&RequestContext::default())).unwrap_err();
    assert_eq!((error.kind, error.retry_after_ms), (Kind::Transient, Some(86_400_000)));
}

#[test]
fn the_host_is_ordered_to_keep_to_rates_and_to_cache() {
    let budget =
        r#"{"policies":[{"type":"MovingWindowCallRatePolicy","rates":[{"limit":1,"interval":"PT1M"}],"matchers":[]}]}"#;
    let script = Script::new([ok("{}"), ok("{}")]);
    let mut env = script.env("{}");
    env.orders = true;
    env.budget = Some(Rc::new(Budget::build(&Node::root(&value(budget)), &env).unwrap()));
    let requester = requester(r#"{"url":"https://a.com","use_cache":true}"#, &env).unwrap();
    for _ in 0..2 {
        now(requester.send(&RequestContext::default())).unwrap();
    }
    assert!(script.slept_ms.borrow().is_empty(), "the host waits");
    let order = BASE64_URL_SAFE_NO_PAD.decode(&script.headers(1, "thimble-pace")[0]).unwrap();
    let expected = r#"{"policies":[{"key":"policies[0].rates[0]","limit":1,"window_ms":60000}]}"#;
    assert_eq!(String::from_utf8(order).unwrap(), expected);
    assert_eq!(script.headers(1, "thimble-cache"), ["run"]);
}
