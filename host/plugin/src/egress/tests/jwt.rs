//! JSON Web Tokens against those that another library made, and through a whole request.

use std::time::{Duration, SystemTime};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use thimble_record::ErrorKind;

use super::{super::jws::sign, *};
use crate::secrets::{PLACEHOLDER_PREFIX, random_bytes};

#[derive(Deserialize)]
struct Vectors {
    input: String,
    cases: Vec<Case>,
    curves: Vec<Curve>,
    encrypted: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    algorithm: String,
    key: String,
    signature: String,
}

#[derive(Deserialize)]
struct Curve {
    algorithm: String,
    key: String,
    public: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("jws_vectors.json")).unwrap()
}

#[test]
fn signatures_are_those_of_another_library() {
    let Vectors { input, cases, curves, encrypted } = vectors();
    for Case { algorithm, key, signature } in cases {
        let signed = sign(&algorithm, &key, input.as_bytes()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(signed), signature, "{algorithm}");
    }
    for Curve { algorithm, key, public } in curves {
        let signed = sign(&algorithm, &key, input.as_bytes()).unwrap();
        let scheme = if algorithm == "ES256" { &ECDSA_P256_SHA256_FIXED } else { &ECDSA_P384_SHA384_FIXED };
        UnparsedPublicKey::new(scheme, hex::decode(public).unwrap()).verify(input.as_bytes(), &signed).unwrap();
    }
    for key in encrypted {
        let error = sign("RS256", &key, b"x").unwrap_err();
        assert!(error.starts_with("its key is encrypted by a passphrase: give it without"), "{error}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_without_being_quoted() {
    let rsa = vectors().cases.into_iter().find(|case| case.algorithm == "RS256").unwrap().key;
    for (algorithm, key, expected) in [
        ("HS256", rsa.as_str(), "its key is a PEM, which an HS algorithm does not take"),
        ("HS256", "", "its key is empty"),
        ("RS256", "sesame", "its key is no private key in PEM"),
        ("RS256", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", "its key is a broken PEM"),
        ("ES256", rsa.as_str(), "its key is not one of the algorithm's curve"),
        ("EdDSA", rsa.as_str(), "its key is no Ed25519 key"),
        ("none", "x", "its algorithm is not one of HS256"),
    ] {
        let error = sign(algorithm, key, b"x").unwrap_err();
        assert!(error.starts_with(expected) && !error.contains("MII") && !error.contains("sesame"), "{error}");
    }
}

/// What a header of an order holds.
pub fn order(order: &Value) -> String {
    URL_SAFE_NO_PAD.encode(order.to_string())
}

/// Tells which credentials arrived: the header, the query and the body.
pub async fn credentials(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let told = json!([header("authorization"), header("x-token"), parts.uri.query(), header("thimble-jwt")]);
    let body = body.collect().await.unwrap().to_bytes();
    text(format!("{told}\n{}", String::from_utf8_lossy(&body)))
}

fn claims(token: &str) -> (Value, Value) {
    let part = |index: usize| {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    (part(0), part(1))
}

#[tokio::test]
async fn guests_have_tokens_signed_with_keys_that_they_do_not_see() {
    let (port, _) = serve(credentials).await;
    let config = json!({ "key": "the key of both sides" });
    let (config, secrets) = Secrets::conceal(&config, &["key".to_owned()], &[], &mut random_bytes);
    let mut setup = Setup::open(&[&format!("api.test:{port}")]).secrets(secrets.clone());
    let at = Arc::new(Mutex::new(1_700_000_000));
    let clock = at.clone();
    setup.parts.clock = Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(*clock.lock().unwrap()));
    let egress = setup.egress();
    let own = format!("{PLACEHOLDER_PREFIX}{}", "a5".repeat(16));
    let asked = json!({
        "algorithm": "HS256", "key": config["key"], "key_base64": true, "headers": { "kid": "k" },
        "payload": { "iss": "me" }, "iat_now": true, "nbf_now": true, "exp_in_s": 600,
        "placement": { "header": "Authorization", "prefix": "Bearer ", "placeholder": own },
    });
    let send = async || {
        let request = Request::post(format!("http://api.test:{port}/?jwt={own}"))
            .header("thimble-jwt", order(&asked))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(format!("{{\"jwt\":\"{own}\"}}"))))
            .unwrap();
        let told = body_of(egress.send(request).await.unwrap()).await;
        let (told, body) = told.split_once('\n').unwrap();
        (serde_json::from_str::<Value>(told).unwrap(), body.to_owned())
    };
    let (told, body) = send().await;
    let token = told[0].as_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!((told[2].as_str(), &told[3]), (Some(format!("jwt={token}").as_str()), &Value::Null));
    assert_eq!(body, format!("{{\"jwt\":\"{token}\"}}"));
    let (head, payload) = claims(&token);
    assert_eq!(head, json!({ "alg": "HS256", "typ": "JWT", "kid": "k" }));
    let expected = json!({ "iss": "me", "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_600 });
    assert_eq!(payload, expected);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let key = STANDARD.encode("the key of both sides");
    assert_eq!(signature, URL_SAFE_NO_PAD.encode(sign("HS256", &key, input.as_bytes()).unwrap()));
    // A token is used again until it is about to end.
    *at.lock().unwrap() += 500;
    assert_eq!(send().await.0, told);
    *at.lock().unwrap() += 100;
    assert_ne!(send().await.0, told);
    assert_eq!(secrets.scrub(&token), "***");
}

#[tokio::test]
async fn orders_that_are_wrong_say_where() {
    let (port, accepted) = serve(credentials).await;
    let egress = Setup::open(&[&format!("api.test:{port}")]).egress();
    let good = json!({ "algorithm": "HS256", "key": "k", "placement": { "header": "x-token" } });
    let with = |name: &str, value: Value| {
        let mut order = good.clone();
        order[name] = value;
        order
    };
    for (asked, expected) in [
        (with("more", json!(1)), "the header thimble-jwt is not as it should be: unknown field `more`"),
        (with("placement", json!({})), "has a placement without header and placeholder"),
        (with("placement", json!({ "header": "Host" })), "is to be placed into a header that guests cannot set"),
        (with("placement", json!({ "header": "thimble-token" })), "into a header that guests cannot set"),
        (with("placement", json!({ "placeholder": "x" })), "has a placeholder that is not"),
    ] {
        let request = Request::get(format!("http://api.test:{port}/")).header("thimble-jwt", order(&asked));
        let error = egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::System);
    }
    for (header, expected) in [("?", "is not base64url"), ("e30", "missing field")] {
        let request = Request::get(format!("http://api.test:{port}/")).header("thimble-jwt", header);
        let error = egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let bad = with("algorithm", json!("HS1"));
    let request = Request::get(format!("http://api.test:{port}/")).header("thimble-jwt", order(&bad));
    let error = egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with(&format!("the JSON Web Token for api.test:{port} cannot be made: its alg")));
    // The policy is asked first, whatever the order says.
    let request = Request::get("http://other.test/").header("thimble-jwt", "?");
    let error = egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap_err();
    assert!(matches!(error, EgressError::NotGranted { .. }), "{error}");
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn so_many_tokens_are_kept_and_no_more() {
    let shared = Arc::new(Shared::default());
    let (port, _) = serve(credentials).await;
    let mut setup = Setup::open(&[&format!("api.test:{port}")]).limits(|limits| limits.kept_tokens = 2);
    setup.parts.shared = shared.clone();
    let egress = setup.egress();
    for key in ["a", "b", "c", "d"] {
        let asked = json!({ "algorithm": "HS256", "key": key, "exp_in_s": 600, "placement": { "header": "x-token" } });
        let request = Request::get(format!("http://api.test:{port}/")).header("thimble-jwt", order(&asked));
        egress.send(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    }
    assert_eq!(shared.jwts.len(), 2);
}
