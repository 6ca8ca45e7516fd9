//! The HTTP client against a real local server: retries, redirects, bodies that break off. Natively, with
//! the transport for tests; the transport of components is exercised by the host's tests.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use thimble_sdk::{Error, ErrorKind, http};

/// Answers connection after connection with the next text; keeps the heads of the requests.
struct Server {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = heads.clone();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                kept.lock().unwrap().push(head + &String::from_utf8(body).unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[test]
fn what_may_pass_is_tried_again_until_it_passes() {
    let server = Server::new(vec![
        answer("503 Busy", "", "wait"),
        answer("429 Slow", "retry-after: 1\r\n", ""),
        answer("200 OK", "", r#"{"n": 7}"#),
    ]);
    let start = Instant::now();
    let page: serde_json::Value = http::get(&server.url).query("q", "a b&c").send().unwrap().json().unwrap();
    assert_eq!(page["n"], 7);
    assert!(start.elapsed() >= Duration::from_millis(1250), "250 ms of backoff and the second asked for");
    let heads = server.heads();
    assert_eq!(heads.len(), 3);
    assert!(heads[0].starts_with("GET /?q=a+b%26c HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains("user-agent: thimble-sdk/"));
}

#[test]
fn what_does_not_pass_ends_as_an_error_of_its_kind() {
    let server = Server::new(vec![answer("404 None", "", "no such page")]);
    let error = http::get(format!("{}/x?key=hunter2", server.url)).send().unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Config, Some(404)));
    assert_eq!(error.message, format!("GET {}/x answered 404 Not Found, check the URL: no such page", server.url));

    let server = Server::new(vec![answer("503 Busy", "retry-after: 3600\r\n", "")]);
    let error = http::get(&server.url).send().unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Transient, Some(Duration::from_secs(3600))));

    let server = Server::new(vec![answer("500 Oops", "", ""), answer("500 Oops", "", "")]);
    let error = http::get(&server.url).tries(2).send().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(error.message.ends_with("(after 2 tries)"), "{error}");
}

#[test]
fn an_accepted_status_is_an_answer() {
    let server = Server::new(vec![answer("404 None", "", "x"), answer("503 Busy", "", "y")]);
    assert_eq!(http::get(&server.url).accept_status(404).send().unwrap().text().unwrap(), "x");
    assert_eq!(http::get(&server.url).accept_status(503).send().unwrap().status(), 503);
    assert_eq!(server.heads().len(), 2);
}

#[test]
fn nobody_listening_is_transient() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = http::get(format!("http://127.0.0.1:{port}/")).tries(2).send().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(error.message.contains(&port.to_string()), "{error}");
}

#[test]
fn redirects_are_followed_and_credentials_stay() {
    let other = Server::new(vec![answer("200 OK", "", "there")]);
    let first = Server::new(vec![
        answer("302 Found", "location: /again\r\n", ""),
        answer("307 Go", &format!("location: {}/far\r\n", other.url), ""),
    ]);
    let response =
        http::get(&first.url).bearer("secret").header("x-api-key", "k").header("accept", "a").send().unwrap();
    assert_eq!(response.url(), format!("{}/far", other.url));
    assert_eq!(response.text().unwrap(), "there");
    assert!(first.heads().iter().all(|head| head.contains("authorization: Bearer secret")));
    let far = &other.heads()[0];
    assert!(far.starts_with("GET /far ") && far.contains("accept: a"));
    assert!(!far.contains("secret") && !far.contains("x-api-key"), "{far}");
}

#[test]
fn a_circle_of_redirects_ends() {
    let server = Server::new(vec![answer("302 Found", "location: /\r\n", ""); 40]);
    let error = http::get(&server.url).send().unwrap_err();
    assert!(error.message.contains("more than 10 times"), "{error}");
    assert_eq!(server.heads().len(), 11);
    let server = Server::new(vec![answer("302 Found", "location: /\r\n", "")]);
    assert_eq!(http::get(&server.url).no_redirects().send().unwrap().status(), 302);
}

#[test]
fn bodies_go_out_and_come_in_as_streams() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n".to_owned();
    let server = Server::new(vec![chunked]);
    let mut text = String::new();
    let request = http::post(&server.url).json(&serde_json::json!({"a": 1}));
    request.send().unwrap().reader().read_to_string(&mut text).unwrap();
    assert_eq!(text, "abcde");
    let head = &server.heads()[0];
    assert!(
        head.starts_with("POST / ") && head.contains("content-type: application/json") && head.ends_with("{\"a\":1}")
    );
}

#[test]
fn a_body_that_breaks_off_is_transient_however_it_is_read() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let server = Server::new(vec![cut.clone(), cut]);
    let error = http::get(&server.url).send().unwrap().bytes().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    let mut reader = http::get(&server.url).send().unwrap().reader();
    let error: Error = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err().into();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
}
