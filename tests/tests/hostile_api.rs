//! Ten thousand hostile requests, made from the API's own description by a grammar of ours, on raw sockets against the
//! real server: none may answer 5xx, none may panic, and the server is well afterwards. Then Schemathesis does the same by
//! rules that we did not write.
//!
//! The seed is printed and can be chosen with `THIMBLE_TEST_SEED`; a failure shows the request.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    harness::{Installation, root, text as printed},
    served::Served,
};

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 4;
const SEED: u64 = 20_261_123;

/// SplitMix64: the same numbers everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const TEXTS: [&str; 42] = [
    "",
    " ",
    "a",
    "c",
    "default",
    "files",
    "x",
    "null",
    "true",
    "-1",
    "0",
    "NaN",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "....//....//",
    "/",
    "\\",
    "'; drop table connections; --",
    "\" or \"\"=\"",
    "$1",
    "%s%n",
    "${jndi:ldap://x}",
    "{{ url }}",
    "<script>alert(1)</script>",
    "\u{0}",
    "a\u{0}b",
    "\u{feff}",
    "\u{202e}txt.exe",
    "\u{1f600}\u{1f468}\u{200d}\u{1f469}",
    "Ａ",
    "ß",
    "İ",
    "\r\nset-cookie: a=b",
    "\t",
    "\u{7f}",
    "\u{fffd}",
    "\u{d7ff}\u{e000}\u{10ffff}",
    "*",
    "*.com",
    "http://169.254.169.254/",
    "2026-11-23T19:00:00Z",
    "9223372036854775808",
];

fn text(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => "x".repeat([64, 65, 255, 256, 5_000, 70_000][rng.below(6)]),
        1 => (0..rng.below(40)).filter_map(|_| char::from_u32((rng.next() % 0x11_0000) as u32)).collect(),
        2 => "\u{300}".repeat(200),
        _ => (*rng.pick(&TEXTS)).to_owned(),
    }
}

/// A JSON text that is a number, some of which no type of ours holds.
fn number(rng: &mut Rng) -> String {
    let numbers = [
        "0",
        "-0",
        "1",
        "-1",
        "0.1",
        "1e2",
        "1e400",
        "-1e400",
        "1e-400",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "4294967296",
        "1e18",
        "253402300800000",
        "99999999999999999999999999999999999999",
    ];
    if rng.one_in(20) { "9".repeat(5_000) } else { (*rng.pick(&numbers)).to_owned() }
}

fn leaf(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => "null".into(),
        1 => "true".into(),
        2 | 3 => number(rng),
        4 => "[]".into(),
        5 => "{}".into(),
        _ => Value::from(text(rng)).to_string(),
    }
}

fn deep(rng: &mut Rng) -> String {
    let levels = *rng.pick(&[10, 63, 64, 65, 127, 128, 129, 5_000, 100_000]);
    match rng.below(3) {
        0 => format!("{}{}", "[".repeat(levels), "]".repeat(levels)),
        1 => format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels)),
        _ => "[".repeat(levels),
    }
}

/// A JSON text by a schema, wrong here and there: one part in `wrong`.
fn by_schema(rng: &mut Rng, document: &Value, schema: &Value, depth: usize, wrong: usize) -> String {
    if depth > 12 || rng.one_in(wrong) {
        return if rng.one_in(10) { deep(rng) } else { leaf(rng) };
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return by_schema(rng, document, target, depth + 1, wrong);
    }
    for combined in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema.get(combined).and_then(Value::as_array).filter(|choices| !choices.is_empty()) {
            let choice = rng.pick(choices).clone();
            return by_schema(rng, document, &choice, depth + 1, wrong);
        }
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        return rng.pick(choices).to_string();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => rng.pick(kinds).clone(),
        Some(kind) => kind.clone(),
        None => Value::Null,
    };
    match kind.as_str() {
        Some("object") => object(rng, document, schema, depth, wrong),
        Some("array") => {
            let items = schema.get("items").cloned().unwrap_or_default();
            let items: Vec<_> = (0..rng.below(3)).map(|_| by_schema(rng, document, &items, depth + 1, wrong)).collect();
            format!("[{}]", items.join(","))
        }
        Some("integer" | "number") if !rng.one_in(4) => rng.below(100).to_string(),
        Some("integer" | "number") => number(rng),
        Some("boolean") => {
            if rng.one_in(2) {
                "true".into()
            } else {
                "false".into()
            }
        }
        Some("string") if rng.one_in(2) => Value::from(*rng.pick(&["c", "files", "default", "a", "sync"])).to_string(),
        Some("string") => Value::from(text(rng)).to_string(),
        _ => leaf(rng),
    }
}

fn object(rng: &mut Rng, document: &Value, schema: &Value, depth: usize, wrong: usize) -> String {
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut parts = Vec::new();
    for (name, field) in known {
        let keep = if required.contains(&name.as_str()) { !rng.one_in(wrong * 2) } else { rng.one_in(2) };
        if keep {
            parts.push(format!("{}:{}", Value::from(name.as_str()), by_schema(rng, document, field, depth + 1, wrong)));
        }
    }
    if rng.one_in(wrong) {
        parts.push(format!("{}:{}", Value::from(text(rng)), leaf(rng)));
    }
    if rng.one_in(wrong * 2) && !parts.is_empty() {
        // The same name twice.
        parts.push(rng.pick(&parts).clone());
    }
    format!("{{{}}}", parts.join(","))
}

fn percent(text: &str, rng: &mut Rng) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (rng.one_in(30) && byte.is_ascii_graphic()) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

struct Route {
    method: String,
    path: String,
    operation: Value,
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.is_object() {
                let (method, path) = (method.to_uppercase(), path.clone());
                routes.push(Route { method, path, operation: operation.clone() });
            }
        }
    }
    routes
}

/// The path with its parts filled in, and a query.
fn target(rng: &mut Rng, route: &Route) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in route.path.split('/') {
        parts.push(match part {
            part if !part.starts_with('{') => part.to_owned(),
            _ if rng.one_in(3) => (*rng.pick(&["c", "files", "default", "d", "s", "1"])).to_owned(),
            _ => {
                let text = text(rng);
                percent(&text[..text.floor_char_boundary(2_000)], rng)
            }
        });
    }
    let mut target = parts.join("/");
    if rng.one_in(40) {
        target.push_str(rng.pick::<&str>(&["/", "//", "/..", "/.", "/%2e%2e/x", ";a=b", "%ff", "%", "%zz"]));
    }
    let mut query = Vec::new();
    for parameter in route.operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        // A wait is answered late, which is right and takes the test's time.
        if parameter["in"] != "query" || name == "wait" || rng.one_in(2) {
            continue;
        }
        let value = if rng.one_in(2) { rng.below(200).to_string() } else { text(rng) };
        query.push(format!("{name}={}", percent(&value[..value.floor_char_boundary(3_000)], rng)));
        if rng.one_in(20) {
            query.push(format!("{name}=again"));
        }
    }
    if rng.one_in(20) {
        query.push(rng.pick(&["&&&", "=", "a[]=1", "%00", "%ff=%fe", "limit=-1", "cursor=%F0%9F%98%80"]).to_string());
    }
    if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
}

fn body(rng: &mut Rng, document: &Value, route: &Route) -> Vec<u8> {
    let schema = &route.operation["requestBody"]["content"]["application/json"]["schema"];
    match rng.below(20) {
        0 => (0..rng.below(300)).map(|_| rng.next() as u8).collect(),
        1 => deep(rng).into_bytes(),
        2 => leaf(rng).into_bytes(),
        3 => Vec::new(),
        4 => b"{\"a\": \xff\xfe}".to_vec(),
        5 => vec![b' '; 3 * 1024 * 1024],
        // Mostly right, so that handlers are reached.
        6..=14 if schema.is_object() => by_schema(rng, document, schema, 0, 400).into_bytes(),
        _ if schema.is_object() => by_schema(rng, document, schema, 0, 12).into_bytes(),
        _ => leaf(rng).into_bytes(),
    }
}

/// One request as bytes, and whether the connection is cut before its end.
fn request(rng: &mut Rng, document: &Value, route: &Route, token: &str) -> (Vec<u8>, bool) {
    let strange =
        ["PATCH", "TRACE", "OPTIONS", "HEAD", "CONNECT", "PROPFIND", "get", "G\u{0}T", "DELETE", "POST", "PUT", ""];
    let method = if rng.one_in(12) { (*rng.pick(&strange)).to_owned() } else { route.method.clone() };
    let target = target(rng, route);
    let body = body(rng, document, route);
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    match rng.below(30) {
        0 => {}
        1 => head.push_str("authorization: Bearer \r\n"),
        2 => head.push_str(&format!("authorization: Basic {token}\r\n")),
        3 => head.push_str(&format!("authorization: Bearer {token}x\r\n")),
        _ => head.push_str(&format!("authorization: Bearer {token}\r\n")),
    }
    let kinds = ["text/plain", "application/xml", "application/json; charset=utf-16", "application/wasm", "", "a/b/c"];
    let kind = if rng.one_in(12) { *rng.pick(&kinds) } else { "application/json" };
    head.push_str(&format!("content-type: {kind}\r\n"));
    let junk = [
        "x-junk: \u{1}\r\n",
        "if-match: \"999999999999999999999\"\r\n",
        "if-match: *\r\n",
        "if-match: W/\"1\"\r\n",
        "if-none-match: *\r\n",
        "accept: nonsense/\r\n",
        "idempotency-key: \r\n",
        "idempotency-key: a\r\n",
        "content-encoding: gzip\r\n",
        "transfer-encoding: chunked\r\n",
        "expect: 100-continue\r\n",
        "range: bytes=0-1\r\n",
        "x-forwarded-for: 1.2.3.4\r\n",
        "host: y\r\n",
        "last-event-id: \u{ff}\r\n",
        "last-event-id: -1\r\n",
        "upgrade: websocket\r\n",
        "cookie: a=b\r\n",
        "no colon\r\n",
        " folded: 1\r\n",
        "x:\r\n",
    ];
    for _ in 0..rng.below(3) {
        head.push_str(rng.pick::<&str>(&junk));
    }
    let cut = rng.one_in(25);
    let length = match rng.below(40) {
        0 => "-1".to_owned(),
        1 => "99999999999999999999".to_owned(),
        2 => format!("{}\r\ncontent-length: 3", body.len()),
        _ if cut => (body.len() + 1 + rng.below(100)).to_string(),
        _ => body.len().to_string(),
    };
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    (bytes, cut)
}

/// The status of the answer; `None` where the connection was closed without one.
fn send(address: &str, bytes: &[u8], cut: bool) -> Option<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(40))).unwrap();
    // The server may refuse before it has read all.
    let _ = stream.write_all(bytes);
    if cut {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut told = [0; 12];
    stream.read_exact(&mut told).ok()?;
    let text = std::str::from_utf8(&told).unwrap();
    assert!(text.starts_with("HTTP/1.1 "), "{text}");
    Some(text[9..].parse().unwrap())
}

/// With limits that no flood of requests meets.
fn installation() -> Installation {
    let installation = Installation::new(
        json!({}),
        json!({
            "limits": {"api": {"requests_per_second": 1_000_000, "request_burst": 1_000_000,
                "failed_logins_per_minute": 1_000_000}},
            "log": {"level": "info"},
        }),
    );
    installation.install("files");
    installation
}

/// A server with one connection.
fn begin(installation: &Installation) -> Served {
    let server = Served::start(installation, "info");
    let config =
        json!({"plugin": "files", "config": {"streams": [{"name": "s", "urls": ["http://127.0.0.1:9/a.csv"]}]}});
    let (status, made) = server.json("PUT", "/api/v1/connections/c", &config);
    assert_eq!(status, 201, "{made}");
    server
}

fn end(server: Served) {
    server.is_well();
    let log = server.stop();
    assert!(!log.contains("panicked"), "{}", log.lines().filter(|line| line.contains("panicked")).collect::<String>());
    assert!(log.contains("stopping"), "this is the log of the server: {log}");
}

#[test]
fn ten_thousand_hostile_requests_neither_break_nor_confuse_the_server() {
    let seed = std::env::var("THIMBLE_TEST_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let installation = installation();
    let server = begin(&installation);
    let (_, document) = server.json("GET", "/api/v1/openapi.json", &Value::Null);
    let routes = routes(&document);
    assert!(routes.len() > 30, "{}", routes.len());
    let (next, told) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<(String, String), BTreeSet<u16>>::new()));
    let failures = Mutex::new(Vec::new());
    let (answered, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= REQUESTS {
                        return;
                    }
                    let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number as u64);
                    let route = &routes[number % routes.len()];
                    let (bytes, cut) = request(&mut rng, &document, route, &server.token);
                    let Some(status) = send(&server.address, &bytes, cut) else { continue };
                    answered.fetch_add(1, Ordering::SeqCst);
                    good.fetch_add(usize::from((200..300).contains(&status)), Ordering::SeqCst);
                    told.lock().unwrap().entry((route.method.clone(), route.path.clone())).or_default().insert(status);
                    if status >= 500 {
                        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]).into_owned();
                        failures.lock().unwrap().push(format!("request {number}: {status}\n{shown}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of them, the first:\n{}", failures.len(), failures[0]);
    let (answered, good) = (answered.into_inner(), good.into_inner());
    println!("{answered} of {REQUESTS} were answered, {good} with success");
    // A grammar whose requests never arrive would prove nothing.
    assert!(answered > REQUESTS * 8 / 10, "{answered} answered");
    assert!(good > REQUESTS / 20, "{good} succeeded");
    let told = told.into_inner().unwrap();
    assert_eq!(told.len(), routes.len(), "routes that never answered");
    for ((method, path), statuses) in &told {
        assert!(statuses.len() > 1, "{method} {path} answers everything with {statuses:?}");
    }
    end(server);
}

/// Its own upload cannot be described to it, and with the first token revoked it would only meet 401.
const NOT_ASKED: [&str; 2] = ["installPlugin", "revokeToken"];

#[test]
fn schemathesis_finds_no_server_error() {
    let program = root().join(".scratch/readers/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run `make readers`", program.display());
    let installation = installation();
    let server = begin(&installation);
    let url = format!("http://{}", server.address);
    let mut command = std::process::Command::new(program);
    // One worker: the tool's own generator is not safe with several.
    command.args(["run", &format!("{url}/api/v1/openapi.json"), "--url", &url, "--checks", "not_a_server_error"]);
    command.args(["--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "20261123", "--workers", "1"]);
    command.args(["--max-time", "50", "--request-timeout", "40", "--no-shrink", "--no-color", "--warnings", "off"]);
    command.args(["--header", &format!("Authorization: Bearer {}", server.token)]);
    for operation in NOT_ASKED {
        command.args(["--exclude-operation-id", operation]);
    }
    let output = command.current_dir(installation.folder.path()).output().unwrap();
    let told = printed(&output);
    assert!(output.status.success(), "{told}");
    let count = |line: &str| -> usize {
        let line = told.lines().find(|found| found.contains(line)).unwrap_or_else(|| panic!("{line} in {told}"));
        line.trim_start_matches(|c: char| !c.is_ascii_digit())
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    println!("{} operations, {} requests", count("Tested:"), count(" generated,"));
    assert!(count("Tested:") > 60 && count(" generated,") > 1_000, "{told}");
    end(server);
}
