//! Signatures against AWS's published examples, and through a whole request.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;

use super::{
    super::sigv4::{Keys, Signable, authorization, canonical_path, sent_query, sha256_hex},
    *,
};
use crate::secrets::random_bytes;

#[derive(Deserialize)]
struct Suite {
    access_key: String,
    secret_key: String,
    region: String,
    service: String,
    at: DateTime<Utc>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    token: Option<String>,
    omit_token: bool,
    normalize: bool,
    sign_body: bool,
    request: String,
    canonical: String,
    signature: String,
}

/// First line, headers with continuation lines joined, body.
fn parse(request: &str) -> (String, Vec<(String, String)>, String) {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap().to_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with(' ') {
            let last = headers.last_mut().unwrap();
            last.1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    (first, headers, body.to_owned())
}

#[test]
fn the_published_suite_is_met() {
    let suite: Suite = serde_json::from_str(include_str!("sigv4_vectors.json")).unwrap();
    let keys = Keys {
        region: &suite.region,
        service: &suite.service,
        access_key: &suite.access_key,
        secret_key: &suite.secret_key,
    };
    let mut checked = 0;
    for case in &suite.cases {
        let (first, mut headers, body) = parse(&case.request);
        let (method, rest) = first.split_once(' ').unwrap();
        let url = rest.rsplit_once(' ').unwrap().0;
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        if !case.normalize {
            // These are the rules of S3.
            assert_eq!(canonical_path("s3", path), case.canonical.lines().nth(1).unwrap(), "{}", case.name);
            continue;
        }
        headers.push(("x-amz-date".into(), "20150830T123600Z".into()));
        if let Some(token) = case.token.as_ref().filter(|_| !case.omit_token) {
            headers.push(("x-amz-security-token".into(), token.clone()));
        }
        let payload = sha256_hex(body.as_bytes());
        if case.sign_body {
            headers.push(("x-amz-content-sha256".into(), payload.clone()));
        }
        let request = Signable { method, path, query, headers, payload: &payload };
        assert_eq!(super::super::sigv4::canonical_request(&suite.service, &request), case.canonical, "{}", case.name);
        let signed = authorization(&keys, &request, suite.at);
        assert!(signed.ends_with(&format!("Signature={}", case.signature)), "{}: {signed}", case.name);
        checked += 1;
    }
    assert!(checked >= 30, "{checked}");
}

/// "Examples: Signature Calculations" of the Amazon S3 API Reference.
#[test]
fn the_examples_of_s3_are_met() {
    let keys = Keys {
        region: "us-east-1",
        service: "s3",
        access_key: "AKIAIOSFODNN7EXAMPLE",
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    };
    let at: DateTime<Utc> = "2013-05-24T00:00:00Z".parse().unwrap();
    let empty = sha256_hex(b"");
    let text = sha256_hex(b"Welcome to Amazon S3.");
    let cases = [
        (
            "GET",
            "/test.txt",
            "",
            &empty,
            vec![("range", "bytes=0-9")],
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            "",
            &text,
            vec![("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("GET", "/", "lifecycle", &empty, vec![], "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "GET",
            "/",
            "max-keys=2&prefix=J",
            &empty,
            vec![],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (method, path, query, payload, extra, signature) in cases {
        let mut headers: Vec<(String, String)> =
            extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.push(("host".into(), "examplebucket.s3.amazonaws.com".into()));
        headers.push(("x-amz-content-sha256".into(), payload.clone()));
        headers.push(("x-amz-date".into(), "20130524T000000Z".into()));
        let signed = authorization(&keys, &Signable { method, path, query, headers, payload }, at);
        assert!(signed.ends_with(signature), "{method} {path}?{query}: {signed}");
    }
}

#[test]
fn spellings_are_made_one() {
    for (path, expected) in [
        ("/a%20b/c+d/%7Ee/ü", "/a%20b/c%2Bd/~e/%C3%BC"),
        ("/a//b/../c", "/a//b/../c"),
        ("/100%", "/100%25"),
        ("/%zz%4", "/%25zz%254"),
        ("/%FF", "/%FF"),
        ("", "/"),
    ] {
        assert_eq!(canonical_path("s3", path), expected, "{path}");
    }
    // Every other service signs the path as it is sent, encoded once more.
    assert_eq!(canonical_path("execute-api", "/a%20b/./c/../d/"), "/a%2520b/d/");
    assert_eq!(sent_query("b=1&a=x+y&c&d=%2b%20"), "b=1&a=x%20y&c=&d=%2B%20");
}

/// What reached the server.
type Seen = Arc<Mutex<Vec<Request<Bytes>>>>;

async fn recorder() -> (u16, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let (port, _) = serve(move |request| {
        let kept = kept.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            kept.lock().unwrap().push(Request::from_parts(parts, body));
            text("ok")
        }
    })
    .await;
    (port, seen)
}

fn at_fixed_time(port: u16, secrets: Secrets) -> Egress {
    let mut setup =
        Setup::open(&[&format!("s3.test:{port}")]).secrets(secrets).limits(|limits| limits.held_body_bytes = 100);
    setup.parts.clock = Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160));
    setup.egress()
}

fn order(config: &serde_json::Value, service: &str) -> String {
    format!(
        "aws-sigv4; region=us-east-1; service={service}; access-key=AKIDEXAMPLE; secret-key={}; session-token={}",
        config["secret"].as_str().unwrap(),
        config["session"].as_str().unwrap()
    )
}

/// The signature that AWS would compute from what arrived.
fn expected(request: &Request<Bytes>, service: &str) -> String {
    let names = ["content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];
    let headers = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), request.headers().get(*name)?.to_str().unwrap().to_owned())))
        .collect();
    let keys = Keys { region: "us-east-1", service, access_key: "AKIDEXAMPLE", secret_key: "the real/secret+key" };
    let payload = request.headers()["x-amz-content-sha256"].to_str().unwrap();
    let signable = Signable {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers,
        payload,
    };
    authorization(&keys, &signable, "2015-08-30T12:36:00Z".parse().unwrap())
}

#[tokio::test]
async fn guests_have_their_requests_signed() {
    let (port, seen) = recorder().await;
    let config = json!({ "secret": "the real/secret+key", "session": "session/token==" });
    let fields = ["secret".to_owned(), "session".to_owned()];
    let (config, secrets) = Secrets::conceal(&config, &fields, &[], &mut random_bytes);
    let egress = at_fixed_time(port, secrets);
    let url = format!("http://s3.test:{port}/bucket/a%20b+c?list-type=2&prefix=x+y");
    let send = |method: &str, body: Vec<u8>, service: &str| {
        let frames: Vec<_> =
            body.chunks(40).map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header("thimble-sign", order(&config, service))
            .header("authorization", "what the guest made up")
            .header("x-amz-date", "yesterday")
            .header("x-amz-content-sha256", "made up too")
            .header("content-type", "text/csv")
            .body(StreamBody::new(futures::stream::iter(frames)))
            .unwrap();
        egress.send(request)
    };
    send("GET", Vec::new(), "s3").await.unwrap();
    send("PUT", b"small body".to_vec(), "s3").await.unwrap();
    send("PUT", vec![b'x'; 1_000], "s3").await.unwrap();
    send("POST", b"small body".to_vec(), "execute-api").await.unwrap();
    let error = send("POST", vec![b'x'; 1_000], "execute-api").await.unwrap_err();
    assert!(error.to_string().contains("held_body_bytes"), "{error}");

    let seen = seen.lock().unwrap();
    let payloads = [sha256_hex(b""), sha256_hex(b"small body"), "UNSIGNED-PAYLOAD".into(), sha256_hex(b"small body")];
    assert_eq!(seen.len(), payloads.len());
    for (request, (payload, service)) in seen.iter().zip(payloads.iter().zip(["s3", "s3", "s3", "execute-api"])) {
        let headers = request.headers();
        assert_eq!(headers["authorization"].to_str().unwrap(), expected(request, service));
        assert_eq!(headers["x-amz-content-sha256"], payload.as_str());
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(headers["x-amz-security-token"], "session/token==");
        assert!(headers.keys().all(|name| !name.as_str().starts_with("thimble-")), "{headers:?}");
        assert_eq!(headers.get_all("authorization").iter().count(), 1);
        assert_eq!(request.uri().query().unwrap(), "list-type=2&prefix=x%20y");
    }
    assert_eq!(seen[0].uri().path(), "/bucket/a%20b%2Bc");
    assert_eq!(seen[3].uri().path(), "/bucket/a%20b+c");
    assert_eq!(seen[2].body().len(), 1_000);
}

#[tokio::test]
async fn orders_that_cannot_be_followed_are_told_without_keys() {
    let (port, seen) = recorder().await;
    let egress = at_fixed_time(port, Secrets::default());
    for order in [
        "",
        "hmac; key=hunter2",
        "aws-sigv4",
        "aws-sigv4; region=r; service=s3; access-key=a",
        "aws-sigv4; region=r; service=s3; access-key=; secret-key=hunter2",
        "aws-sigv4; region=r; access-key=a; secret-key=hunter2",
        "aws-sigv4; region=a/b; service=s3; access-key=a; secret-key=hunter2",
        "aws-sigv4; region=r; service=s3; access-key=a; secret-key=hunter2; more=hunter2",
        "aws-sigv4; hunter2",
    ] {
        let request = Request::get(format!("http://s3.test:{port}/"))
            .header("thimble-sign", order)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let error = egress.send(request).await.unwrap_err();
        assert!(matches!(error, EgressError::Signing { .. }), "{order}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

/// Run by hand against an S3 server that checks signatures (`weed server -s3 -s3.config=…` of SeaweedFS, MinIO):
/// `THIMBLE_TEST_S3=host:port,access,secret,bucket cargo test --release -p thimble-plugin --lib real_s3 -- --ignored`
#[tokio::test]
#[ignore = "needs an S3 server"]
async fn real_s3_servers_accept_signatures() {
    let server = std::env::var("THIMBLE_TEST_S3").expect("THIMBLE_TEST_S3 names a server");
    let [host, access, secret, bucket] = server.split(',').collect::<Vec<_>>().try_into().unwrap();
    let config = json!({ "secret": secret });
    let (config, secrets) = Secrets::conceal(&config, &["secret".to_owned()], &[], &mut random_bytes);
    let mut setup = Setup::open(&[host]).secrets(secrets).limits(|limits| limits.held_body_bytes = 1_000);
    setup.parts.resolver = Arc::new(SystemResolver);
    let egress = setup.egress();
    let send = async |method: &str, path: &str, secret: &str, body: Vec<u8>| {
        let order = format!("aws-sigv4; region=us-east-1; service=s3; access-key={access}; secret-key={secret}");
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{host}/{bucket}{path}"))
            .header("thimble-sign", order)
            .header("content-length", body.len())
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = egress.send(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
    };
    let secret = config["secret"].as_str().unwrap();
    assert!(matches!(send("PUT", "", secret, Vec::new()).await.0, 200 | 409), "the bucket");
    for (path, size) in [("/plain.txt", 10), ("/a%20b/c+d%26e=%C3%BC(1).csv", 500), ("/long", 100_000)] {
        let body = vec![b'x'; size];
        let (status, said) = send("PUT", path, secret, body.clone()).await;
        assert_eq!(status, 200, "{path}: {said:?}");
        let (status, got) = send("GET", path, secret, Vec::new()).await;
        assert_eq!((status, got.len()), (200, size), "{path}");
        assert_eq!(send("GET", path, "a wrong key", Vec::new()).await.0, 403, "{path}");
    }
    for query in ["?list-type=2&prefix=a%20b%2F", "?list-type=2&prefix=a+b/", "?prefix=a%20b/&list-type=2"] {
        let (status, said) = send("GET", query, secret, Vec::new()).await;
        assert_eq!(status, 200, "{query}: {said:?}");
        assert!(String::from_utf8_lossy(&said).contains("(1).csv"), "{query}: {said:?}");
    }
}
