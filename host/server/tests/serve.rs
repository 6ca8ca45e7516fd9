//! The server as a process: start, token, address in use, stop.
#![allow(clippy::unwrap_used)]

mod binary;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use binary::Place;

struct Server {
    child: Child,
    /// What it announced.
    told: serde_json::Value,
}

impl Server {
    fn start(place: &Place) -> Self {
        let mut child = place
            .command(&["serve", "--listen", "127.0.0.1:0", "--output", "json", "--data", "data"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { told: serde_json::from_str(&line).unwrap(), child }
    }

    fn address(&self) -> &str {
        self.told["url"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// Status line of a GET.
    fn get(&self, path: &str, token: Option<&str>) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\n{token}connection: close\r\n\r\n", self.address()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn end(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

#[test]
fn it_starts_guards_and_stops() {
    let place = Place::new();
    let server = Server::start(&place);
    let token_file = place.path().join("data/api-token");
    let token = std::fs::read_to_string(&token_file).unwrap();
    assert_eq!(std::fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(place.path().join("data")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(server.get("/livez", None).contains(" 200 "));
    assert!(server.get("/api/v1/runs", None).contains(" 401 "));
    assert!(server.get("/api/v1/runs", Some("wrong")).contains(" 401 "));
    assert!(server.get("/api/v1/runs", Some(token.trim())).contains(" 200 "));

    let taken = place.run(&["serve", "--listen", server.address(), "--data", "other"]).expect(5);
    assert!(taken.stderr.contains("cannot listen on"), "{}", taken.stderr);
    assert!(!place.path().join("other/thimble.db").exists());

    // The command line works on the same data beside the server.
    place.run(&["plugin", "list", "--data", "data"]).expect(0);

    server.signal("TERM");
    assert_eq!(server.end(), 0);

    let again = Server::start(&place);
    assert_eq!(std::fs::read_to_string(&token_file).unwrap(), token);
    again.signal("INT");
    assert_eq!(again.end(), 0);
}

#[test]
fn the_token_is_shown_to_people_once() {
    let place = Place::new();
    let text = |place: &Place| {
        let mut child = place
            .command(&["serve", "--listen", "127.0.0.1:0", "--data", "data"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut told = String::new();
        while !told.contains("token") {
            assert!(reader.read_line(&mut told).unwrap() > 0);
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        reader.read_to_string(&mut told).unwrap();
        assert!(child.wait().unwrap().success());
        told
    };
    let first = text(&place);
    let token = std::fs::read_to_string(place.path().join("data/api-token")).unwrap();
    assert!(first.contains(token.trim()), "{first}");
    assert!(!text(&place).contains(token.trim()));
}
