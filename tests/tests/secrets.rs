//! Fifty planted secrets in every flow, failing and echoing servers and logs at their loudest included: none of them is
//! found in any answer of the API, any log, any output of a command, the metrics, the control database or the rest of
//! the data folder. A planted text that is no secret is found in all of these, so the search would find one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{Installation, text},
    served::Served,
};

/// Secrets by where they were planted.
#[derive(Default)]
struct Planted(BTreeMap<String, String>);

impl Planted {
    /// A text that stands nowhere else.
    fn plant(&mut self, place: &str) -> String {
        let mut state = 0x6a09_e667_f3bc_c908_u64 ^ place.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
        let letters = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let mut digits = String::new();
        for _ in 0..34 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            digits.push(char::from(letters[(state >> 33) as usize % letters.len()]));
        }
        let secret = format!("pL{digits}");
        assert!(self.0.insert(place.to_owned(), secret.clone()).is_none(), "{place} twice");
        secret
    }
}

/// What a secret looks like in a text: as it is, in lower case, in hexadecimal digits, and the middle of its base64 at
/// each of the three offsets.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut all = vec![secret.as_bytes().to_vec(), secret.to_ascii_lowercase().into_bytes()];
    all.push(secret.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    for offset in 0..3 {
        // Whole groups of three bytes from the offset on stand for themselves.
        let middle = &secret.as_bytes()[offset..];
        let whole = &middle[..middle.len() / 3 * 3];
        let digits = whole.chunks(3).flat_map(|group| {
            let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
            [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift & 63) as usize])
        });
        all.push(digits.collect());
    }
    all
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    // The first bytes are searched for on their own, which is fast enough for some megabytes.
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return true;
        }
        from += at + 1;
    }
    false
}

/// Everything that was seen, by where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    fn add_folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.add_folder(&path);
            } else if !["wasm", "code"].iter().any(|ending| path.extension().is_some_and(|found| found == *ending)) {
                self.add(format!("file {}", path.display()), std::fs::read(&path).unwrap());
            }
        }
    }

    fn places_of(&self, secret: &str) -> Vec<&str> {
        let spellings = spellings(secret);
        let found = |bytes: &[u8]| spellings.iter().any(|spelling| holds(bytes, spelling));
        self.0.iter().filter(|(_, bytes)| found(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

/// A server whose every connection is handled by `handler` in a thread of its own.
fn serve(handler: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, handler) = (stream.unwrap(), handler.clone());
            std::thread::spawn(move || handler(stream));
        }
    });
    port
}

/// Refuses every request and says it all back, as careless servers do: path, headers and body, as the reason of the
/// status, in headers, and in the body.
fn parrot() -> u16 {
    serve(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
        let mut asked = Vec::new();
        let _ = std::io::copy(&mut (&mut stream).take(60_000), &mut asked);
        let said = String::from_utf8_lossy(&asked).replace(['\r', '\n'], " ");
        let short: String = said.chars().filter(char::is_ascii).take(4_000).collect();
        let answer = format!(
            "HTTP/1.1 403 refused {short}\r\nx-echo: {short}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{said}",
            said.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// A PostgreSQL server that asks for the password in the clear and says it back in its refusal.
fn talkative_postgres() -> u16 {
    serve(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let message = |stream: &mut TcpStream, tagged: bool| -> Option<Vec<u8>> {
            let mut head = vec![0; if tagged { 5 } else { 4 }];
            stream.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
            let mut body = vec![0; (length as usize).checked_sub(4)?.min(10_000)];
            stream.read_exact(&mut body).ok()?;
            Some(body)
        };
        let Some(mut started) = message(&mut stream, false) else { return };
        if started == 80_877_103_u32.to_be_bytes() {
            let _ = stream.write_all(b"N");
            let Some(again) = message(&mut stream, false) else { return };
            started = again;
        }
        let _ = stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]);
        let Some(password) = message(&mut stream, true) else { return };
        let said = format!(
            "password {} is wrong for {}",
            String::from_utf8_lossy(&password).trim_end_matches('\0'),
            String::from_utf8_lossy(&started).replace('\0', " ")
        );
        let fields = format!("SFATAL\0VFATAL\0C28P01\0M{said}\0D{said}\0\0");
        let mut answer = vec![b'E'];
        answer.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
        answer.extend_from_slice(fields.as_bytes());
        let _ = stream.write_all(&answer);
        std::thread::sleep(Duration::from_millis(100));
    })
}

struct World {
    planted: Planted,
    seen: Seen,
    parrot: u16,
    postgres: u16,
}

impl World {
    fn files(&mut self, name: &str) -> Value {
        let url = format!("s3://bucket/{name}.csv");
        json!({
            "streams": [{"name": "s", "urls": [url]}],
            "s3": {
                "endpoint": format!("http://127.0.0.1:{}", self.parrot), "region": "us-east-1",
                "access_key_id": "AKIAEXAMPLE",
                "secret_access_key": self.planted.plant(&format!("{name}: secret access key")),
                "session_token": self.planted.plant(&format!("{name}: session token")),
            },
        })
    }

    fn postgres(&mut self, name: &str) -> Value {
        json!({
            "url": format!("postgres://me@127.0.0.1:{}/db?sslmode=disable", self.postgres),
            "password": self.planted.plant(&format!("{name}: password")),
        })
    }

    /// Asks and keeps the answer.
    fn ask(&mut self, server: &Served, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, told) = server.json(method, path, body);
        self.seen.add(format!("{method} {path}: {status}"), told.to_string());
        (status, told)
    }

    fn put(&mut self, server: &Served, path: &str, body: &Value) {
        let (status, told) = self.ask(server, "PUT", &format!("/api/v1{path}"), body);
        assert!(status == 200 || status == 201, "{path}: {status} {told}");
    }

    /// Expects a refusal, and keeps what it says.
    fn refused(&mut self, server: &Served, method: &str, path: &str, body: &Value) {
        let (status, told) = self.ask(server, method, &format!("/api/v1{path}"), body);
        assert!((400..500).contains(&status), "{method} {path}: {status} {told}");
    }

    fn run(&mut self, server: &Served, connection: &str, kind: &str) -> Value {
        let run = server.run(connection, kind);
        self.seen.add(format!("run {kind} of {connection}"), run.to_string());
        run
    }

    fn command(&mut self, installation: &Installation, args: &[&str], secret: &str) {
        let output = installation.command(args).env("THIMBLE_LOG", "trace").env("PLANTED", secret).output().unwrap();
        self.seen.add(format!("thimble {}", args.join(" ")), text(&output));
    }
}

/// The configuration file: destinations with passwords, a collector with headers, a connection with a variable.
fn installation(world: &mut World, in_environment: &str) -> Installation {
    let url_password = world.planted.plant("file: password in the URL of a destination");
    let in_file = world.files("filed");
    let mut by_variable = world.files("variable");
    by_variable["s3"]["secret_access_key"] = json!("${PLANTED}");
    world.planted.0.remove("variable: secret access key");
    world.planted.0.insert("environment variable".into(), in_environment.to_owned());
    let connections = json!({
        "filed": {"plugin": "files", "config": in_file, "destination": "talkative"},
        "variable": {"plugin": "files", "config": by_variable},
    });
    let header = world.planted.plant("file: header of the collector");
    let s3 = world.planted.plant("file: secret of a lake");
    let extra = json!({
        "destinations": {
            "talkative": {"postgres": world.postgres("file")},
            "in-url": {"postgres": {"url": format!("postgres://me:{url_password}@127.0.0.1:{}/db?sslmode=disable", world.postgres)}},
            "s3": {"lake": {"url": "s3://bucket/lake", "options": {
                "endpoint": format!("http://127.0.0.1:{}", world.parrot), "allow_http": "true", "region": "us-east-1",
                "access_key_id": "AKIAEXAMPLE", "secret_access_key": s3}}},
        },
        "telemetry": {"otlp": {"endpoint": format!("http://127.0.0.1:{}", world.parrot),
            "headers": {"authorization": format!("Bearer {header}")}}},
        "limits": {"retry": {"max_attempts": 2, "base": "10ms"}},
    });
    let installation = Installation::new(json!({}), json!({}));
    installation.install("files");
    installation.configure(connections, extra);
    installation
}

fn connections(world: &mut World, server: &Served) {
    for (name, destination) in [
        ("api", Value::Null),
        ("to-talkative", json!("talkative")),
        ("to-url", json!("in-url")),
        ("to-s3", json!("s3")),
    ] {
        let mut spec = json!({"plugin": "files", "config": world.files(name)});
        if !destination.is_null() {
            spec["destination"] = json!({ "name": destination });
        }
        world.put(server, &format!("/connections/{name}"), &spec);
    }
    let source = world.files("source");
    world.put(server, "/sources/src", &json!({"plugin": "files", "config": source}));
    world.put(server, "/connections/by-source", &json!({"source": "src"}));
    let config = world.postgres("stored destination");
    world.put(server, "/destinations/stored", &json!({"kind": "postgres", "config": config}));
    let spec = json!({"plugin": "files", "config": world.files("to-stored"), "destination": {"name": "stored"}});
    world.put(server, "/connections/to-stored", &spec);
    // What was replaced or removed is no less secret.
    let spec = json!({"plugin": "files", "config": world.files("replaced")});
    world.put(server, "/connections/api", &spec);
    let spec = json!({"plugin": "files", "config": world.files("removed")});
    world.put(server, "/connections/removed", &spec);
    let (status, told) = world.ask(server, "DELETE", "/api/v1/connections/removed", &Value::Null);
    assert_eq!(status, 204, "{told}");
}

/// What is wrong is told without the value.
fn mistakes(world: &mut World, server: &Served) {
    let secret = |world: &mut World, place: &str| world.planted.plant(place);
    let spec = |config: Value| json!({"plugin": "files", "config": config});
    let streams = json!([{"name": "s", "urls": ["s3://b/a.csv"]}]);
    let misspelt = json!({"streams": streams, "s3": {"secret_acess_key": secret(world, "misspelt setting")}});
    world.refused(server, "PUT", "/connections/wrong", &spec(misspelt));
    let number = json!({"streams": streams, "s3": {"secret_access_key": [secret(world, "setting of a wrong type")]}});
    world.refused(server, "PUT", "/connections/wrong", &spec(number));
    let in_url = format!("https://me:{}@127.0.0.1/a.csv", secret(world, "password in the URL of a stream"));
    world.refused(server, "PUT", "/connections/wrong", &spec(json!({"streams": [{"name": "s", "urls": [in_url]}]})));
    let beside = json!({"plugin": 5, "pass": secret(world, "beside a wrong type")});
    world.refused(server, "PUT", "/connections/wrong", &beside);
    let whole = json!({"plugin": "files", "config": secret(world, "instead of a configuration")});
    world.refused(server, "PUT", "/connections/wrong", &whole);
    world.refused(server, "PUT", "/sources/wrong", &whole);
    let role = json!({"name": "wrong", "role": secret(world, "instead of a role")});
    world.refused(server, "POST", "/tokens", &role);
    let key = json!({"kind": "pagerduty", "config": {"routing_key": [secret(world, "routing key of a wrong type")]}});
    world.refused(server, "PUT", "/notifiers/wrong", &key);
    let header = json!({"kind": "webhook", "config": {"url": "x", "header": secret(world, "misspelt header")}});
    world.refused(server, "PUT", "/notifiers/wrong", &header);
    let signing = json!({"kind": "webhook", "config": {"url": "http://127.0.0.1:9/", "secret": secret(world, "bad signing key")}});
    world.refused(server, "PUT", "/notifiers/wrong", &signing);
    let url = format!("postgres://me:{}@127.0.0.1/db", secret(world, "password in the URL of a stored destination"));
    world.refused(server, "PUT", "/destinations/wrong", &json!({"kind": "postgres", "config": {"url": url}}));
    let password = json!({"url": 5, "password": secret(world, "password beside a wrong URL")});
    world.refused(server, "PUT", "/destinations/wrong", &json!({"kind": "postgres", "config": password}));
    let broken = format!("{{\"plugin\": \"files\", \"config\": {{\"s3\": {}", secret(world, "broken JSON"));
    let (status, told) =
        server.ask("PUT", "/api/v1/connections/wrong", &server.token, "application/json", broken.as_bytes());
    assert_eq!(status, 400);
    world.seen.add("broken JSON", told);
    let bearer = secret(world, "a wrong token");
    for (token, kind) in [(bearer.clone(), "wrong"), (format!("thm_{bearer}"), "mistyped")] {
        let (status, told) = server.ask("GET", "/api/v1/runs", &token, "application/json", b"");
        assert_eq!(status, 401, "{kind}");
        world.seen.add(format!("{kind} token"), told);
    }
}

fn notifiers(world: &mut World, server: &Served) {
    let at = |world: &World, path: &str| format!("http://127.0.0.1:{}/{path}", world.parrot);
    let slack = world.planted.plant("notifier: path of Slack's URL");
    let slack = json!({"kind": "slack", "config": {"url": at(world, &slack)}});
    let pagerduty = json!({"kind": "pagerduty",
        "config": {"url": at(world, "pd"), "routing_key": world.planted.plant("notifier: routing key")}});
    let webhook = json!({"kind": "webhook", "config": {"url": at(world, "hook"),
        "secret": format!("whsec_{}", world.planted.plant("notifier: signing key")),
        "headers": {"x-key": world.planted.plant("notifier: header")}}});
    let email = json!({"kind": "email", "config": {"host": "127.0.0.1", "port": world.parrot, "tls": "implicit", "user": "u",
        "password": world.planted.plant("notifier: password of the mail server"), "from": "a@example.org",
        "to": ["b@example.org"]}});
    for (name, spec) in [("slack", slack), ("pagerduty", pagerduty), ("webhook", webhook), ("email", email)] {
        world.put(server, &format!("/notifiers/{name}"), &spec);
        world.ask(server, "POST", &format!("/api/v1/notifiers/{name}/test"), &json!({}));
    }
    let hook = json!({"url": at(world, "load"),
        "secret": format!("whsec_{}", world.planted.plant("hook: signing key")),
        "headers": {"x-key": world.planted.plant("hook: header")}});
    world.put(server, "/connections/api/hooks", &json!({"hooks": {"warehouse": hook}}));
}

fn tokens(world: &mut World, server: &Served, installation: &Installation) {
    for (name, role) in [("one", "viewer"), ("two", "operator"), ("three", "author"), ("four", "admin")] {
        let body = json!({"name": name, "role": role}).to_string();
        let (status, told) = server.ask("POST", "/api/v1/tokens", &server.token, "application/json", body.as_bytes());
        assert_eq!(status, 201, "{told}");
        // This answer is the one that shows it; whatever uses it must not.
        let secret = serde_json::from_str::<Value>(&told).unwrap()["secret"].as_str().unwrap().to_owned();
        let (status, shown) = server.ask("GET", "/api/v1/connections", &secret, "application/json", b"");
        assert_eq!(status, 200);
        world.seen.add(format!("connections as {name}"), shown);
        world.planted.0.insert(format!("token {name}"), secret);
    }
    let arguments = ["token", "create", "five", "--role", "viewer", "--expires", "1h", "--output", "json"];
    // The configuration names the variable; the command has no use for its value.
    let output = installation.command(&arguments).env("PLANTED", "none").output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    world.planted.0.insert("token five".into(), made["secret"].as_str().unwrap().to_owned());
}

/// Every GET of the description, with the names of what there is.
fn look_everywhere(world: &mut World, server: &Served) {
    let (_, document) = server.json("GET", "/api/v1/openapi.json", &Value::Null);
    let names = |path: &str| -> Vec<String> {
        let (_, list) = server.json("GET", path, &Value::Null);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name = |item: &Value| ["id", "name"].iter().find_map(|key| item[key].as_str().map(str::to_owned));
        items.iter().filter_map(name).collect()
    };
    let mut asked = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("get").is_none() || path.ends_with("/follow") || path.ends_with("/events/stream") {
            continue;
        }
        let Some((list, rest)) = path.split_once("/{") else {
            asked.insert(path.clone());
            continue;
        };
        let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
        asked.extend(
            names(list).into_iter().map(|name| format!("{list}/{name}{rest}")).filter(|path| !path.contains('{')),
        );
    }
    assert!(asked.len() > 60, "{asked:?}");
    for path in asked.iter().map(String::as_str).chain(["/metrics", "/livez", "/readyz"]) {
        let (_, told) = server.json("GET", path, &Value::Null);
        world.seen.add(format!("GET {path}"), told.to_string());
    }
    let runs = names("/api/v1/runs");
    assert!(runs.len() >= 15, "{runs:?}");
    for run in runs {
        let (status, logs) = server.json("GET", &format!("/api/v1/runs/{run}/logs"), &Value::Null);
        assert_eq!(status, 200);
        world.seen.add(format!("log of run {run}"), logs.to_string());
    }
}

#[test]
fn fifty_planted_secrets_are_found_nowhere() {
    let mut world =
        World { planted: Planted::default(), seen: Seen::default(), parrot: parrot(), postgres: talkative_postgres() };
    let in_environment = Planted::default().plant("environment variable");
    let installation = installation(&mut world, &in_environment);
    let server = Served::start_with(&installation, "trace", &[("PLANTED", in_environment.as_str())]);
    connections(&mut world, &server);
    mistakes(&mut world, &server);
    notifiers(&mut world, &server);
    tokens(&mut world, &server, &installation);
    // What is no secret is seen everywhere, which shows that the search works.
    let control = Planted::default().plant("no secret at all");
    let url = format!("http://127.0.0.1:{}/{control}.csv", world.parrot);
    let spec = json!({"plugin": "files", "config": {"streams": [{"name": control, "urls": [url]}]}});
    world.put(&server, "/connections/open", &spec);
    let grants = json!({"grants": [format!("127.0.0.1:{}", world.parrot)]});
    world.put(&server, "/plugins/files/grants", &grants);
    let names = ["api", "to-talkative", "to-url", "to-s3", "by-source", "to-stored", "filed", "variable", "open"];
    for name in names {
        for kind in ["check", "discover", "sync"] {
            let run = world.run(&server, name, kind);
            assert!(run["status"] == "failed" || kind != "sync", "{name} {kind}: {run}");
        }
    }
    let (status, told) = world.ask(&server, "POST", "/api/v1/keys/rotate", &json!({}));
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["unopenable"], json!([]), "{told}");
    let run = world.run(&server, "by-source", "check");
    assert!(!run.to_string().contains("cannot be opened"), "{run}");
    // Time for what is told of the failures.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    look_everywhere(&mut world, &server);
    for args in [
        &["connection", "list"][..],
        &["connection", "show", "api"],
        &["connection", "show", "filed"],
        &["connection", "apply"],
        &["check", "filed"],
        &["discover", "variable"],
        &["sync", "filed"],
        &["sync", "variable"],
        &["runs"],
        &["config", "check"],
        &["token", "list"],
        &["key", "list"],
        &["plugin", "list"],
        &["tables", "filed"],
        &["sync", "absent"],
    ] {
        world.command(&installation, args, &in_environment);
    }
    let applied = json!({"connections": {"applied": {"plugin": "files", "config": world.files("applied")}}});
    let file = installation.folder.path().join("more.yaml");
    std::fs::write(&file, applied.to_string()).unwrap();
    world.command(&installation, &["connection", "apply", file.to_str().unwrap()], &in_environment);
    world.command(&installation, &["check", "applied"], &in_environment);
    let first = std::fs::read_to_string(installation.data().join("api-token")).unwrap().trim().to_owned();
    world.planted.0.insert("first token".into(), first);
    let log = server.stop();
    assert!(log.lines().count() > 1_000, "the log is loud: {} lines", log.lines().count());
    world.seen.add("log of the server", log);
    world.seen.add_folder(&installation.data());
    judge(&world, &control);
}

fn judge(world: &World, control: &str) {
    assert!(world.planted.0.len() >= 50, "{} planted", world.planted.0.len());
    let mut leaks = Vec::new();
    for (place, secret) in &world.planted.0 {
        for found in world.seen.places_of(secret) {
            // Where it belongs.
            if !(place == "first token" && found.ends_with("/api-token")) {
                leaks.push(format!("{place}: in {found}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    let found = world.seen.places_of(control);
    for place in
        ["GET /api/v1/connections", "GET /api/v1/runs", "log of the server", "log of run", "file ", "thimble.db"]
    {
        assert!(
            found.iter().any(|found| found.contains(place)),
            "the search does not find what is in {place}: {found:?}"
        );
    }
    let first = world.seen.places_of(&world.planted.0["first token"]);
    assert_eq!(first.len(), 1, "the first token is in its file: {first:?}");
}

#[test]
fn the_search_sees_through_spellings() {
    let secret = Planted::default().plant("x");
    let mut seen = Seen::default();
    seen.add("raw", format!("a{secret}b"));
    seen.add("lower", secret.to_lowercase());
    seen.add("hex", secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    // "user:SECRET" and neighbours, in base64 made by a program that is not ours.
    for before in ["", "u", "us", "usr"] {
        let program = format!("import base64; print(base64.b64encode(b'{before}{secret}:end').decode())");
        let output = std::process::Command::new("python3").args(["-c", &program]).output().unwrap();
        seen.add(format!("base64 after {} bytes", before.len()), output.stdout);
    }
    seen.add("another", Planted::default().plant("y"));
    assert_eq!(seen.places_of(&secret).len(), 7, "{:?}", seen.places_of(&secret));
}
