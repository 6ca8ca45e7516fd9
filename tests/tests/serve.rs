//! The server and its API, driven with curl only, as an operator would.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use thimble_fixtures::files::FileServer;

use crate::harness::{Installation, component, text};

pub struct Server<'i> {
    child: Child,
    pub url: String,
    pub token: String,
    _installation: &'i Installation,
}

impl<'i> Server<'i> {
    pub fn start(installation: &'i Installation) -> Self {
        Self::start_with(installation, &[])
    }

    /// With more arguments of `thimble serve`.
    pub fn start_with(installation: &'i Installation, arguments: &[&str]) -> Self {
        let mut child = installation
            .command(&[&["serve", "--output", "json"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        let token = std::fs::read_to_string(installation.data().join("api-token")).unwrap().trim().to_owned();
        Self {
            child,
            url: started["url"].as_str().unwrap().trim_end_matches('/').to_owned(),
            token,
            _installation: installation,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// (status, body)
    pub fn curl(&self, method: &str, path: &str, extra: &[&str]) -> (u16, Value) {
        let output = Command::new("curl")
            .args(["-sS", "-X", method, "-w", "\n%{http_code}", "-H", &format!("Authorization: Bearer {}", self.token)])
            .args(extra)
            .arg(format!("{}{path}", self.url))
            .output()
            .unwrap();
        let said = text(&output);
        let (body, status) = said.trim().rsplit_once('\n').unwrap_or(("", said.trim()));
        (status.parse().unwrap_or_else(|_| panic!("{said}")), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.curl(method, path, &["-H", "Content-Type: application/json", "-d", &body.to_string()])
    }

    pub fn finished(&self, run: &Value) -> Value {
        let (_, run) = self.curl("GET", &format!("/api/v1/runs/{}?wait=60", run["id"].as_str().unwrap()), &[]);
        run
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_installs_grants_connects_and_syncs_with_curl() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "id\n1\n2\n").unwrap();
    let source = FileServer::start(folder.path(), 0).await.unwrap();
    let installation = Installation::new(json!({}), json!({}));
    let server = Server::start(&installation);

    let upload = format!("@{}", component("files").display());
    let (status, run) =
        server.curl("POST", "/api/v1/plugins", &["-H", "Content-Type: application/wasm", "--data-binary", &upload]);
    assert_eq!(status, 202, "{run}");
    let run = server.finished(&run);
    assert_eq!(run["status"], "succeeded", "{run}");
    let (_, plugins) = server.curl("GET", "/api/v1/plugins", &[]);
    assert_eq!(plugins["items"][0]["name"], "files", "{plugins}");

    let config = json!({"streams": [{"name": "s", "urls": [source.url("a.csv")]}], "s3": {"access_key_id": "k", "secret_access_key": "planted-secret"}});
    let (status, connection) =
        server.json("PUT", "/api/v1/connections/c", &json!({"plugin": "files", "config": config}));
    assert!(status == 200 || status == 201, "{status} {connection}");
    assert!(!connection.to_string().contains("planted-secret"), "{connection}");

    let (_, run) = server.json("POST", "/api/v1/connections/c/runs", &json!({"kind": "sync"}));
    let run = server.finished(&run);
    assert_eq!(run["status"], "failed", "nothing is granted yet: {run}");
    assert_eq!(run["failure"]["kind"], "refused", "{run}");

    let (status, grants) = server.json("PUT", "/api/v1/plugins/files/grants", &json!({"grants": [source.host()]}));
    assert!(status < 300, "{status} {grants}");
    let (status, run) = server.json("POST", "/api/v1/connections/c/runs", &json!({"kind": "sync"}));
    assert_eq!(status, 202, "{run}");
    let run = server.finished(&run);
    assert_eq!(run["status"], "succeeded", "{run}");
    assert_eq!(installation.rows("s").len(), 2);

    let (status, problem) = server.curl("GET", "/api/v1/connections/absent", &[]);
    assert_eq!(status, 404);
    assert!(problem["title"].is_string() && problem["detail"].as_str().unwrap().contains("absent"), "{problem}");
}
