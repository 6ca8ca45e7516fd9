//! Plugins, grants, connections, state.

use serde_json::{Value, json};
use thimble_control::MAX_PENDING_INSTALLS;
use thimble_record::{
    ConnectionId,
    envelope::{HostKey, SecretRow, open_fields},
};
use thimble_store::{NewRun, RunKind, Trigger};

use crate::Server;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0and the rest";

#[tokio::test]
async fn plugins_are_listed_shown_and_removed() {
    let server = Server::without_reconciler().await.plugin().await;
    server.put("/plugins/files/grants", json!({"grants": ["{{ url }}"]})).await.expect(200);
    let page = server.get("/plugins").await.expect(200);
    let plugin = server.get("/plugins/files").await.expect(200);
    assert_eq!(page, json!({"items": [plugin.clone()], "next": null}));
    assert_eq!((&plugin["name"], &plugin["version"]), (&json!("files"), &json!("1.2.3")));
    assert_eq!((&plugin["grants"], &plugin["permissions"]), (&json!(["{{ url }}"]), &json!({"hosts": ["{{ url }}"]})));

    assert_eq!(server.delete("/plugins/files").await.expect(204), "");
    let detail = server.get("/plugins/files").await.problem(404, "not-found");
    assert_eq!(detail, "there is no plugin named \"files\"");
    server.delete("/plugins/files").await.problem(404, "not-found");
    let actions: Vec<_> = server.store.audit(10, None).await.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["plugin.remove", "plugin.grant"]);
}

#[tokio::test]
async fn a_plugin_in_use_is_not_removed() {
    let server = Server::without_reconciler().await.plugin().await.connection("flights").await;
    let detail = server.delete("/plugins/files").await.problem(409, "in-use");
    assert!(detail.contains("connection flights"), "{detail}");
}

#[tokio::test]
async fn an_uploaded_component_is_kept_and_its_installation_queued() {
    let server = Server::new().await;
    let answer = server.ask("POST", "/plugins", COMPONENT).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let run = answer.expect(202);
    assert_eq!(location, format!("/api/v1/runs/{}", run["id"].as_str().unwrap()));
    assert_eq!((&run["kind"], &run["status"]), (&json!("install"), &json!("queued")));

    let blobs = server.blobs();
    assert_eq!(std::fs::read(&blobs[0]).unwrap(), COMPONENT);
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(COMPONENT));
    assert_eq!(blobs[0].file_name().unwrap().to_str().unwrap(), format!("{digest}.wasm"));
    assert_eq!(run["request"], json!({"blob": format!("{digest}.wasm"), "digest": digest, "activate": "safe"}));

    let ended = server.get(&format!("{}?wait=20", location.strip_prefix("/api/v1").unwrap())).await.expect(200);
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(server.recorder.seen.lock().unwrap()[0].kind, RunKind::Install);
}

#[tokio::test]
async fn what_is_no_component_is_refused_at_once() {
    let server = Server::without_reconciler().await;
    for (body, reason) in [
        (&b"\0asm\x01\0\0\0"[..], "core WebAssembly module"),
        (b"\x7fELF native", "native"),
        (b"hello", "neither WebAssembly nor a declarative manifest"),
        (b"\0as", "neither WebAssembly nor a declarative manifest"),
        (b"", "empty"),
    ] {
        let detail = server.ask("POST", "/plugins", body).await.problem(422, "invalid");
        assert!(detail.contains(reason), "{detail}");
    }
    assert!(server.blobs().is_empty());
    assert!(server.store.unfinished_runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn uploads_do_not_pile_up() {
    let server = Server::without_reconciler().await;
    for n in 0..MAX_PENDING_INSTALLS {
        server.store.enqueue(&NewRun::install(format!("{n}"), Trigger::Api), 1).await.unwrap();
    }
    server.ask("POST", "/plugins", COMPONENT).await.problem(429, "busy");
    assert!(server.blobs().is_empty());
}

#[tokio::test]
async fn grants_are_put_shown_and_taken_back() {
    let server = Server::without_reconciler().await.plugin().await;
    let path = "/plugins/files/grants";
    assert_eq!(server.get(path).await.expect(200), json!({"grants": []}));
    let wanted = json!({"grants": ["{{ url }}", "*.example.org:443"]});
    assert_eq!(server.put(path, wanted).await.expect(200), json!({"grants": ["*.example.org:443", "{{ url }}"]}));
    server.delete(&format!("{path}?pattern=%7B%7B%20url%20%7D%7D")).await.expect(204);
    assert_eq!(server.get(path).await.expect(200), json!({"grants": ["*.example.org:443"]}));
    server.delete(&format!("{path}?pattern=other.example")).await.problem(404, "not-found");
    server.delete(path).await.expect(204);
    assert_eq!(server.get(path).await.expect(200), json!({"grants": []}));

    let detail = server.put(path, json!({"grants": ["two words"]})).await.problem(422, "invalid");
    assert!(detail.contains("two words"), "{detail}");
    server.put("/plugins/none/grants", json!({"grants": []})).await.problem(404, "not-found");
    server.get("/plugins/none/grants").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let server = Server::without_reconciler().await.plugin().await;
    let spec = |token: Value| json!({"plugin": "files", "config": {"url": "https://example.org", "token": token}});
    let made = server.put("/connections/flights", spec(json!("hunter2"))).await.expect(201);
    assert_eq!(made["config"], json!({"url": "https://example.org", "token": {"$secret": true}}));
    let id = ConnectionId::new("flights").unwrap();
    let first = server.store.connection(&id).await.unwrap();
    assert!(!first.secrets.0.is_empty());

    // What was read can be written back: the secret stays.
    server.put("/connections/flights", spec(made["config"]["token"].clone())).await.expect(200);
    let sealed = server.store.connection(&id).await.unwrap().secrets;
    let keys = HostKey::from_bytes(&[7; 32]).unwrap().into();
    let row = SecretRow::connection("default", "flights");
    assert_eq!(open_fields(&keys, &row, &sealed.0).unwrap()["/token"], "hunter2");

    for path in ["/connections", "/connections/flights", "/openapi.json", "/runs"] {
        assert!(!server.get(path).await.expect(200).to_string().contains("hunter2"), "{path}");
    }
    let audit = format!("{:?}", server.store.audit(10, None).await.unwrap());
    assert!(audit.contains("connection.put") && !audit.contains("hunter2"), "{audit}");
    let detail = server.put("/connections/other", spec(json!({"$secret": true}))).await.problem(422, "invalid");
    assert!(detail.contains("token has no stored secret"), "{detail}");
}

#[tokio::test]
async fn connections_are_put_listed_page_by_page_and_deleted() {
    let server = Server::without_reconciler().await.plugin().await;
    for id in ["c", "a", "b"] {
        let spec = json!({"plugin": "files", "config": {}, "streams": [{"stream": "s", "method": "full-table"}],
            "destination": {"lake": "elsewhere"}});
        let made = server.put(&format!("/connections/{id}"), spec).await.expect(201);
        assert_eq!(made, server.get(&format!("/connections/{id}")).await.expect(200));
        assert_eq!(made["streams"], json!([{"stream": "s", "method": "full-table"}]));
        assert_eq!(made["destination"], json!({"lake": "elsewhere"}));
    }
    let first = server.get("/connections?limit=2").await.expect(200);
    assert_eq!(
        (&first["items"][0]["id"], &first["items"][1]["id"], &first["next"]),
        (&json!("a"), &json!("b"), &json!("b"))
    );
    let last = server.get("/connections?limit=2&cursor=b").await.expect(200);
    assert_eq!((&last["items"][0]["id"], &last["next"]), (&json!("c"), &json!(null)));

    server.delete("/connections/a").await.expect(204);
    server.get("/connections/a").await.problem(404, "not-found");
    server.delete("/connections/a").await.problem(404, "not-found");
    let detail = server.put("/connections/d", json!({"plugin": "none", "config": {}})).await.problem(422, "invalid");
    assert_eq!(detail, "plugin \"none\" is not installed");
}

#[tokio::test]
async fn a_connection_at_work_is_not_deleted() {
    let server = Server::new().await.plugin().await.connection("flights").await;
    let run = server.start("flights", "sync", "hold").await;
    let detail = server.delete("/connections/flights").await.problem(409, "in-use");
    assert!(detail.contains(&run), "{detail}");
}

#[tokio::test]
async fn state_is_shown_and_corrected_while_nobody_works() {
    let server = Server::without_reconciler().await.plugin().await.connection("flights").await;
    let path = "/connections/flights/state";
    assert_eq!(server.get(path).await.expect(200), json!({"seq": 0, "position": null, "pending": null}));
    let position = json!({"streams": {"s": {"completed": "2026-01-01", "generation": 0, "refreshing": false}}});
    let answer = server.put(path, json!({"position": position})).await.expect(202);
    assert_eq!(answer, json!({"seq": 0, "position": null, "pending": position}));
    assert_eq!(server.get(path).await.expect(200), answer);

    let id = ConnectionId::new("flights").unwrap();
    let now = thimble_control::system_clock()();
    server.store.acquire(&id, "somebody", 60_000, now).await.unwrap();
    server.put(path, json!({"position": position})).await.problem(409, "in-use");
    server.get("/connections/none/state").await.problem(404, "not-found");
    server.put("/connections/none/state", json!({"position": {}})).await.problem(404, "not-found");
}
