//! Authenticators against scripted sources. What is expected was seen in the reference.

#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Authenticator, asking::parts, build};
use crate::{
    error::{Kind, Result},
    http::{
        RequestContext, RequestParts, Requester,
        script::{START_S, Script, answer, now, value},
    },
    limits,
    node::Node,
    stream::Env,
    value::Value,
    wire::Answer,
};

fn authenticator(json: &str, env: &Env) -> Result<Rc<dyn Authenticator>> {
    let (auth, base) = (value(json), value(r#""https://a.com/api""#));
    build(Some(&Node::root(&auth)), Some(&Node::root(&base)), env)
}

fn added(json: &str, config: &str) -> RequestParts {
    parts(&*authenticator(json, &Script::new([]).env(config)).unwrap()).unwrap()
}

fn header(parts: &RequestParts, name: &str) -> String {
    parts.headers[name].as_str().unwrap().to_owned()
}

/// What an order says.
fn order(parts: &RequestParts, name: &str) -> Value {
    Value::from_json(&BASE64_URL_SAFE_NO_PAD.decode(header(parts, name)).unwrap()).unwrap()
}

#[test]
fn tokens_of_the_configuration_go_where_the_manifest_says() {
    let config = r#"{"key":"s3cret","user":"me"}"#;
    let bearer = added(r#"{"type":"BearerAuthenticator","api_token":"{{ config['key'] }}"}"#, config);
    assert_eq!(header(&bearer, "Authorization"), "Bearer s3cret");
    let basic =
        r#"{"type":"BasicHttpAuthenticator","username":"{{ config['user'] }}","password":"{{ config['key'] }}"}"#;
    assert_eq!(header(&added(basic, config), "Authorization"), "Basic bWU6czNjcmV0");
    let basic = r#"{"type":"BasicHttpAuthenticator","username":"{{ config['user'] }}"}"#;
    assert_eq!(header(&added(basic, config), "Authorization"), "Basic bWU6");
    let key = r#"{"type":"ApiKeyAuthenticator","api_token":"Token {{ config['key'] }}","header":"X-Key"}"#;
    assert_eq!(header(&added(key, config), "X-Key"), "Token s3cret");
    for (place, field) in [("body_json", "body_json"), ("body_data", "body_data"), ("request_parameter", "params")] {
        let key = format!(
            r#"{{"type":"ApiKeyAuthenticator","api_token":"{{{{ config['key'] }}}}","inject_into":{{"type":"RequestOption","inject_into":"{place}","field_name":"k"}}}}"#
        );
        let parts = added(&key, config);
        let map = match field {
            "params" => Value::map(parts.params),
            "body_data" => parts.body_data,
            _ => parts.body_json,
        };
        assert_eq!(map.to_json(), r#"{"k":"s3cret"}"#, "{place}");
    }
    assert_eq!(added(r#"{"type":"NoAuth"}"#, "{}"), RequestParts::default());
}

#[test]
fn the_configuration_selects_an_authenticator() {
    let json = r#"{"type":"SelectiveAuthenticator","authenticator_selection_path":["auth","kind"],"authenticators":{
        "key":{"type":"BearerAuthenticator","api_token":"k"},"none":{"type":"NoAuth"}}}"#;
    assert_eq!(header(&added(json, r#"{"auth":{"kind":"key"}}"#), "Authorization"), "Bearer k");
    let env = Script::new([]).env(r#"{"auth":{"kind":"other"}}"#);
    let error = authenticator(json, &env).err().unwrap();
    assert!(error.message.contains("`auth.kind` is `other`") && error.message.contains("`key`, `none`"), "{error}");
    assert!(authenticator(json, &Script::new([]).env("{}")).is_err());
    assert!(authenticator(r#"{"type":"CustomAuthenticator"}"#, &env).is_err());
}

const OAUTH: &str = r#"{"type":"OAuthAuthenticator","token_refresh_endpoint":"https://login.a.com/token",
    "client_id":"{{ config['id'] }}","client_secret":"{{ config['secret'] }}","refresh_token":"{{ config['refresh'] }}",
    "scopes":["a","b"],"refresh_request_body":{"audience":"x y","client_id":"unused"}}"#;
const OAUTH_CONFIG: &str = r#"{"id":"me","secret":"thimble-secret-0","refresh":"r1"}"#;
const OAUTH_BODY: &str = "grant_type=refresh_token&client_id=me&client_secret=thimble-secret-0&refresh_token=r1&scopes=a&scopes=b&audience=x+y";

#[test]
fn the_host_is_ordered_to_get_a_token() {
    let mut env = Script::new([]).env(OAUTH_CONFIG);
    env.orders = true;
    let order = order(&parts(&*authenticator(OAUTH, &env).unwrap()).unwrap(), "thimble-token");
    let expected = format!(
        r#"{{"request":{{"method":"POST","url":"https://login.a.com/token","headers":{{}},"body":"{OAUTH_BODY}","content_type":"application/x-www-form-urlencoded"}},"token_path":["access_token"],"expires_path":["expires_in"],"expires_format":"seconds","lifetime_s":3600,"refresh":null,"initial":{{"token":null,"expires_at":null}},"placement":{{"header":"Authorization","prefix":"Bearer "}}}}"#
    );
    assert_eq!(order.to_json(), expected);
}

#[test]
fn an_order_says_where_a_new_refresh_token_is_kept() {
    let json = r#"{"type":"OAuthAuthenticator","token_refresh_endpoint":"https://login.a.com/token","client_id":"x",
        "client_secret":"y","refresh_request_headers":{"Authorization":"Basic abc","Content-Type":"application/json"},
        "token_expiry_date_format":"%Y-%m-%d","refresh_token_updater":{"refresh_token_name":"new"}}"#;
    let mut env = Script::new([]).env(
        r#"{"credentials":{"client_id":"me","refresh_token":"r","access_token":"t","token_expiry_date":"2020-01-01"}}"#,
    );
    env.orders = true;
    let order = order(&parts(&*authenticator(json, &env).unwrap()).unwrap(), "thimble-token");
    assert_eq!(order.get("request").unwrap().get("body").unwrap().as_str(), Some("grant_type=refresh_token&new=r"));
    assert_eq!(
        order.get("refresh").unwrap().to_json(),
        r#"{"path":["new"],"setting":"credentials.refresh_token","access_setting":"credentials.access_token","expiry_setting":"credentials.token_expiry_date"}"#
    );
    assert_eq!(order.get("initial").unwrap().to_json(), r#"{"token":"t","expires_at":"2020-01-01"}"#);
    assert_eq!(order.get("expires_format").unwrap().as_str(), Some("%Y-%m-%d"));
}

fn gives(body: &str) -> Result<Answer> {
    Ok(answer(200, &[], body))
}

#[test]
fn without_a_host_a_token_is_got_here_and_kept_until_it_expires() {
    let script = Script::new([
        gives(r#"{"data":{"access_token":"t1","expires_in":"60"}}"#),
        gives(r#"{"access_token":"t2"}"#),
        gives(r#"{"access_token":"t3"}"#),
    ]);
    let env = script.env(OAUTH_CONFIG);
    let first = authenticator(OAUTH, &env).unwrap();
    let second = authenticator(OAUTH, &env.of_stream("others")).unwrap();
    assert_eq!(header(&parts(&*first).unwrap(), "Authorization"), "Bearer t1");
    assert_eq!(header(&parts(&*second).unwrap(), "Authorization"), "Bearer t1");
    assert_eq!(String::from_utf8_lossy(&script.sent.borrow()[0].body), OAUTH_BODY);
    *script.now_us.borrow_mut() += 61_000_000;
    assert_eq!(header(&parts(&*first).unwrap(), "Authorization"), "Bearer t2");
    *script.now_us.borrow_mut() += 3_599_000_000;
    assert_eq!(header(&parts(&*first).unwrap(), "Authorization"), "Bearer t2");
    first.invalidate();
    assert_eq!(header(&parts(&*second).unwrap(), "Authorization"), "Bearer t3");
}

#[test]
fn a_new_refresh_token_is_used_next() {
    let script = Script::new([
        gives(r#"{"access_token":"t1","refresh_token":"r 2","expires_in":0}"#),
        gives(r#"{"access_token":"t2"}"#),
    ]);
    let json = r#"{"type":"OAuthAuthenticator","token_refresh_endpoint":"https://login.a.com/token","refresh_token_updater":{}}"#;
    let env = script.env(r#"{"credentials":{"client_id":"me","client_secret":"s","refresh_token":"r1"}}"#);
    let authenticator = authenticator(json, &env).unwrap();
    parts(&*authenticator).unwrap();
    *script.now_us.borrow_mut() += 1_000_000;
    assert_eq!(header(&parts(&*authenticator).unwrap(), "Authorization"), "Bearer t2");
    let bodies: Vec<String> =
        script.sent.borrow().iter().map(|sent| String::from_utf8_lossy(&sent.body).into_owned()).collect();
    let body = "grant_type=refresh_token&client_id=me&client_secret=s&refresh_token=";
    assert_eq!(bodies, [format!("{body}r1"), format!("{body}r+2")]);
}

#[test]
fn a_token_endpoint_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let busy = || Ok(answer(503, &[], ""));
    let script = Script::new([busy(), busy(), gives(r#"{"access_token":"t"}"#)]);
    assert!(parts(&*authenticator(OAUTH, &script.env(OAUTH_CONFIG)).unwrap()).is_ok());
    assert_eq!(*script.slept_ms.borrow(), [500, 1000]);
    let script = Script::new((0..limits::MAX_TOKEN_ATTEMPTS).map(|_| busy()));
    let error = parts(&*authenticator(OAUTH, &script.env(OAUTH_CONFIG)).unwrap()).unwrap_err();
    assert_eq!(error.kind, Kind::Transient);
    let script = Script::new([Ok(answer(400, &[], r#"{"error":"invalid_grant"}"#))]);
    let error = parts(&*authenticator(OAUTH, &script.env(OAUTH_CONFIG)).unwrap()).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.message.ends_with("POST https://login.a.com/token gave no token but 400: invalid_grant"), "{error}");
    let deep =
        format!("{}1{}", r#"{"a":"#.repeat(limits::MAX_TOKEN_DEPTH + 2), "}".repeat(limits::MAX_TOKEN_DEPTH + 2));
    let script = Script::new([gives(&deep.replace('1', r#"{"access_token":"deep"}"#))]);
    assert!(parts(&*authenticator(OAUTH, &script.env(OAUTH_CONFIG)).unwrap()).is_err());
}

#[test]
fn a_refused_token_is_got_anew_once() {
    let refused = || Ok(answer(401, &[], ""));
    let handler = r#"{"type":"DefaultErrorHandler","response_filters":[{"action":"REFRESH_TOKEN_THEN_RETRY","http_codes":[401]}]}"#;
    let json = format!(r#"{{"url":"https://a.com","authenticator":{OAUTH},"error_handler":{handler}}}"#);
    let (t1, t2) = (gives(r#"{"access_token":"t1"}"#), gives(r#"{"access_token":"t2"}"#));
    let script = Script::new([t1.clone(), refused(), t2.clone(), gives("{}")]);
    let env = script.env(OAUTH_CONFIG);
    let requester = Requester::build(&Node::root(&value(&json)), &env).unwrap();
    assert!(now(requester.send(&RequestContext::default())).is_ok());
    assert_eq!(script.headers(3, "authorization"), ["Bearer t2"]);
    let script = Script::new([t1, refused(), t2, refused()]);
    let requester = Requester::build(&Node::root(&value(&json)), &script.env(OAUTH_CONFIG)).unwrap();
    assert_eq!(now(requester.send(&RequestContext::default())).unwrap_err().kind, Kind::Config);
}

#[test]
fn a_token_that_is_there_is_used_as_long_as_it_is_valid() {
    let json = r#"{"type":"OAuthAuthenticator","access_token_value":"{{ config['t'] }}"}"#;
    assert_eq!(header(&added(json, r#"{"t":"given"}"#), "Authorization"), "Bearer given");
    let json = OAUTH
        .replace(r#""scopes""#, r#""access_token_value":"given","token_expiry_date":"2020-09-13T12:27:00Z","scopes""#);
    let script = Script::new([gives(r#"{"access_token":"t"}"#)]);
    let authenticator = authenticator(&json, &script.env(OAUTH_CONFIG)).unwrap();
    assert_eq!(header(&parts(&*authenticator).unwrap(), "Authorization"), "Bearer given");
    *script.now_us.borrow_mut() += 60_000_000;
    assert_eq!(header(&parts(&*authenticator).unwrap(), "Authorization"), "Bearer t");
}

const JWT: &str = r#"{"type":"JwtAuthenticator","algorithm":"HS256","secret_key":"{{ config['key'] }}","header_prefix":"Bearer",
    "token_duration":60,"jwt_headers":{"kid":"k{{ 1 }}"},"jwt_payload":{"iss":"{{ config['iss'] }}"},
    "additional_jwt_payload":{"scope":"a b"}}"#;

#[test]
fn a_token_is_signed_as_the_reference_signs_it() {
    let token = header(&added(JWT, r#"{"key":"secret","iss":"me"}"#), "Authorization");
    let signed = token.strip_prefix("Bearer ").unwrap().split('.').collect::<Vec<_>>();
    let part = |at: usize| String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(signed[at]).unwrap()).unwrap();
    assert_eq!(part(0), r#"{"alg":"HS256","kid":"k1","typ":"JWT"}"#);
    assert_eq!(
        part(1),
        format!(r#"{{"scope":"a b","iss":"me","iat":{START_S},"exp":{},"nbf":{START_S}}}"#, START_S + 60)
    );
    assert_eq!(signed[2], "HaYLp9IPw-QLiQJYyDDCyqL2ldM086JoQiU-05Y1kdY");
}

#[test]
fn the_host_is_ordered_to_sign() {
    let mut env = Script::new([]).env(r#"{"key":"thimble-secret-0","iss":"me"}"#);
    env.orders = true;
    let json = JWT.replace("HS256", "RS256");
    let parts = parts(&*authenticator(&json, &env).unwrap()).unwrap();
    assert_eq!(
        order(&parts, "thimble-jwt").to_json(),
        r#"{"algorithm":"RS256","key":"thimble-secret-0","key_base64":false,"passphrase":null,"headers":{"kid":"k1","typ":"JWT"},"payload":{"scope":"a b","iss":"me"},"iat_now":true,"nbf_now":true,"exp_in_s":60,"placement":{"header":"Authorization","prefix":"Bearer "}}"#
    );
    env.orders = false;
    let error = super::asking::parts(&*authenticator(&json, &env).unwrap()).unwrap_err();
    assert!(error.message.contains("signed by the host only"), "{error}");
}

#[test]
fn the_host_puts_a_signed_token_wherever_the_manifest_says() {
    let option = r#""request_option":{"type":"RequestOption","inject_into":"request_parameter","field_name":"jwt"},"#;
    let mut env = Script::new([]).env(r#"{"key":"k","iss":"me"}"#);
    env.orders = true;
    let json = JWT.replace(r#""token_duration""#, &format!(r#"{option}"token_duration""#));
    let parts = parts(&*authenticator(&json, &env).unwrap()).unwrap();
    let placed = parts.params["jwt"].as_str().unwrap().to_owned();
    let placement = order(&parts, "thimble-jwt").get("placement").unwrap().clone();
    assert_eq!(placed, format!("Bearer {}", placement.get("placeholder").unwrap().as_str().unwrap()));
    assert_eq!(placed.len(), "Bearer thimble-secret-".len() + 32);
}

#[test]
fn a_signed_token_is_given_for_an_access_token() {
    let json = format!(
        r#"{{"type":"OAuthAuthenticator","token_refresh_endpoint":"https://login.a.com/token","use_profile_assertion":true,"profile_assertion":{}}}"#,
        JWT.replace(r#""header_prefix":"Bearer","#, "")
    );
    let script = Script::new([gives(r#"{"access_token":"t"}"#)]);
    let mut env = script.env(r#"{"key":"secret","iss":"me"}"#);
    assert_eq!(header(&parts(&*authenticator(&json, &env).unwrap()).unwrap(), "Authorization"), "Bearer t");
    let body = String::from_utf8_lossy(&script.sent.borrow()[0].body).into_owned();
    assert!(
        body.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey"),
        "{body}"
    );
    env.orders = true;
    let order = order(&parts(&*authenticator(&json, &env).unwrap()).unwrap(), "thimble-token");
    let request = order.get("request").unwrap();
    let placeholder =
        request.get("jwt").unwrap().get("placement").unwrap().get("placeholder").unwrap().as_str().unwrap();
    assert!(request.get("body").unwrap().as_str().unwrap().ends_with(&format!("&assertion={placeholder}")));
}

fn session(more: &str) -> String {
    format!(
        r#"{{"type":"SessionTokenAuthenticator","login_requester":{{"type":"HttpRequester","url":"https://a.com/login","http_method":"POST","request_body_json":{{"password":"{{{{ config['p'] }}}}"}}}},"session_token_path":["data","id"]{more}}}"#
    )
}

#[test]
fn a_session_begins_with_a_login() {
    let logins = || Script::new([gives(r#"{"data":{"id":"s1"}}"#), gives(r#"{"data":{"id":2}}"#)]);
    let script = logins();
    let json = session(r#","expiration_duration":"PT1H","request_authentication":{"type":"Bearer"}"#);
    let env = script.env(r#"{"p":"word"}"#);
    let (one, two) = (authenticator(&json, &env).unwrap(), authenticator(&json, &env.of_stream("others")).unwrap());
    assert_eq!(header(&parts(&*one).unwrap(), "Authorization"), "Bearer s1");
    assert_eq!(header(&parts(&*two).unwrap(), "Authorization"), "Bearer s1");
    assert_eq!(script.sent.borrow()[0].body, br#"{"password": "word"}"#);
    *script.now_us.borrow_mut() += 3_600_000_001;
    assert_eq!(header(&parts(&*one).unwrap(), "Authorization"), "Bearer 2");
    let script = logins();
    let json = session(
        r#","request_authentication":{"type":"ApiKey","api_token":"Token {{ session_token }}","inject_into":{"type":"RequestOption","inject_into":"header","field_name":"X-S"}}"#,
    );
    let every_time = authenticator(&json, &script.env(r#"{"p":"word"}"#)).unwrap();
    assert_eq!(header(&parts(&*every_time).unwrap(), "X-S"), "Token s1");
    assert_eq!(header(&parts(&*every_time).unwrap(), "X-S"), "Token 2");
}

#[test]
fn a_login_without_a_token_is_an_error_that_says_so() {
    let json = session(r#","request_authentication":{"type":"Bearer"}"#);
    for body in ["{}", "no json"] {
        let script = Script::new([gives(body)]);
        let error = parts(&*authenticator(&json, &script.env(r#"{"p":"word"}"#)).unwrap()).unwrap_err();
        assert_eq!(error.kind, Kind::Config, "{body}");
    }
}

#[test]
fn an_old_session_is_used_while_the_source_takes_it() {
    let json = r#"{"type":"LegacySessionTokenAuthenticator","header":"X-Session","login_url":"/login","validate_session_url":"/me",
        "session_token":"{{ config['s'] }}","session_token_response_key":"id","username":"{{ config['u'] }}","password":"{{ config['p'] }}"}"#;
    let config = r#"{"s":"old","u":"me","p":"word"}"#;
    let script = Script::new([gives("{}")]);
    let authenticator_of = |script: &Rc<Script>| authenticator(json, &script.env(config)).unwrap();
    let valid = authenticator_of(&script);
    assert_eq!(header(&parts(&*valid).unwrap(), "X-Session"), "old");
    assert_eq!(header(&parts(&*valid).unwrap(), "X-Session"), "old");
    assert_eq!(script.sent.borrow()[0].url, "https://a.com/api/me");
    let script = Script::new([Ok(answer(401, &[], "")), gives(r#"{"id":"new"}"#)]);
    let refused = authenticator_of(&script);
    assert_eq!(header(&parts(&*refused).unwrap(), "X-Session"), "new");
    assert_eq!(header(&parts(&*refused).unwrap(), "X-Session"), "new");
    assert_eq!(script.sent.borrow()[1].body, br#"{"username": "me", "password": "word"}"#);
}
