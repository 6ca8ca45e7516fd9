//! Tokens, workspaces, and the sealed secrets of all tables.

use thimble_record::envelope::SecretRow;
use thimble_store::{
    DestinationRow, MAX_TOKENS, SealedRow, SealedSecrets, SourceRow, Store, StoreError, TokenRow, WorkspaceRow,
};

use super::{NOW, ON, World, connection, flights};

fn token(id: &str, name: &str, workspace: Option<&str>) -> TokenRow {
    TokenRow {
        id: id.into(),
        name: name.into(),
        workspace: workspace.map(str::to_owned),
        role: "admin".into(),
        created_at: NOW,
        created_by: "test".into(),
        expires_at: Some(NOW + 100),
        last_used_at: None,
        revoked_at: None,
    }
}

#[tokio::test]
async fn tokens_are_found_by_digest_and_live_until_they_end() {
    let World { store, .. } = &World::empty(ON).await;
    store.add_token(&token("a", "ci", None), "digest-a").await.unwrap();
    let found = store.token_by_digest("digest-a").await.unwrap().unwrap();
    assert_eq!(found, token("a", "ci", None));
    assert!(found.is_live(NOW + 99) && !found.is_live(NOW + 100));
    assert_eq!(store.token_by_digest("digest-b").await.unwrap(), None);
    for (id, name, digest) in [("b", "ci", "digest-b"), ("b", "other", "digest-a"), ("a", "third", "digest-c")] {
        let error = store.add_token(&token(id, name, None), digest).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{id} {name} {digest}: {error}");
    }
    let error = store.add_token(&token("b", "b", Some("none")), "digest-b").await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "workspace", .. }), "{error}");
    store.touch_token("a", NOW + 5).await.unwrap();
    store.touch_token("a", NOW + 3).await.unwrap();
    assert_eq!(store.token("a").await.unwrap().last_used_at, Some(NOW + 5), "never back");
    assert!(store.has_live_admin("admin", NOW).await.unwrap());
    assert!(!store.has_live_admin("admin", NOW + 100).await.unwrap());
    assert_eq!(store.revoke_token("a", NOW + 7).await.unwrap().revoked_at, Some(NOW + 7));
    assert_eq!(store.revoke_token("a", NOW + 9).await.unwrap().revoked_at, Some(NOW + 7), "once and for ever");
    assert!(!store.has_live_admin("admin", NOW).await.unwrap());
    assert_eq!(store.token_named("ci").await.unwrap(), None);
    store.add_token(&token("b", "ci", Some("default")), "digest-b").await.unwrap();
    assert_eq!(store.token_named("ci").await.unwrap().unwrap().id, "b");
    assert!(!store.has_live_admin("admin", NOW).await.unwrap(), "of one workspace only");
    let ids = |rows: Vec<TokenRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(store.tokens(None, "", 10).await.unwrap()), ["a", "b"]);
    assert_eq!(ids(store.tokens(None, "a", 10).await.unwrap()), ["b"]);
    assert_eq!(ids(store.tokens(Some("default"), "", 10).await.unwrap()), ["b"]);
    assert_eq!(ids(store.tokens(None, "", 1).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn tokens_are_limited_in_number() {
    let World { store, .. } = &World::empty(ON).await;
    for number in 0..MAX_TOKENS {
        store.add_token(&token(&number.to_string(), &format!("t{number}"), None), &number.to_string()).await.unwrap();
    }
    let error = store.add_token(&token("x", "x", None), "x").await.unwrap_err();
    assert!(error.to_string().contains("revoke some"), "{error}");
    store.revoke_token("0", NOW).await.unwrap();
    store.add_token(&token("x", "x", None), "x").await.unwrap();
}

#[tokio::test]
async fn a_workspace_goes_when_nothing_is_in_it() {
    let World { store, .. } = &World::new(ON).await;
    let in_use = |error: StoreError| matches!(error, StoreError::InUse { what: "workspace", .. });
    store.add_workspace(&WorkspaceRow { id: "w".into(), title: "W".into(), created_at: NOW }).await.unwrap();
    store.add_token(&token("a", "a", Some("w")), "a").await.unwrap();
    assert!(in_use(store.remove_workspace("w").await.unwrap_err()));
    store.revoke_token("a", NOW).await.unwrap();
    let mut row = connection("w-flights");
    row.workspace = "w".into();
    store.put_connection(&row, None, NOW).await.unwrap();
    assert!(in_use(store.remove_workspace("w").await.unwrap_err()));
    store.delete_connection(&row.id).await.unwrap();
    store.remove_workspace("w").await.unwrap();
    assert!(matches!(store.remove_workspace("w").await.unwrap_err(), StoreError::NotFound { .. }));
    assert!(matches!(store.remove_workspace("default").await.unwrap_err(), StoreError::Conflict { .. }));
    assert!(matches!(store.token("a").await.unwrap_err(), StoreError::NotFound { .. }));
}

async fn all(store: &Store) -> Vec<SealedRow> {
    let mut rows = Vec::new();
    for kind in Store::secret_kinds() {
        let mut after = String::new();
        loop {
            let page = store.sealed_rows(kind, &after).await.unwrap();
            let Some(last) = page.last() else { break };
            after.clone_from(&last.row.name);
            rows.extend(page);
        }
    }
    rows
}

#[tokio::test]
async fn sealed_secrets_of_all_tables_are_listed_and_replaced_unless_changed() {
    let World { store, .. } = &World::new(ON).await;
    let sealed = |text: &str| SealedSecrets(text.as_bytes().to_vec());
    let mut row = store.connection(&flights()).await.unwrap();
    row.secrets = sealed("of a connection");
    store.put_connection(&row, None, NOW).await.unwrap();
    for number in 0..450 {
        let mut more = connection(&format!("more-{number:03}"));
        more.secrets = sealed(&number.to_string());
        store.put_connection(&more, None, NOW).await.unwrap();
    }
    let source = SourceRow {
        name: "s".into(),
        workspace: "default".into(),
        plugin: "files".into(),
        config: serde_json::json!({}),
        secrets: sealed("of a source"),
        catalog: None,
        created_at: 0,
        updated_at: 0,
        version: 0,
    };
    store.put_source(&source, None, NOW).await.unwrap();
    let destination = DestinationRow {
        name: "d".into(),
        workspace: "default".into(),
        kind: "postgres".into(),
        config: serde_json::json!({}),
        secrets: sealed("of a destination"),
        created_at: 0,
        updated_at: 0,
        version: 0,
    };
    store.put_destination(&destination, None, NOW).await.unwrap();
    let rows = all(store).await;
    assert_eq!(rows.len(), 453);
    let of = |kind: &'static str, name: &str| {
        let wanted = SecretRow::new("default", kind, name);
        rows.iter().find(|row| row.row == wanted).unwrap().clone()
    };
    assert_eq!(of("source", "s").sealed, sealed("of a source"));
    assert_eq!(of("destination", "d").sealed, sealed("of a destination"));
    let old = of("connection", "flights");
    let version = store.connection(&flights()).await.unwrap().version;
    assert!(store.replace_sealed(&old, &sealed("anew")).await.unwrap());
    assert!(!store.replace_sealed(&old, &sealed("again")).await.unwrap(), "it was changed meanwhile");
    let stored = store.connection(&flights()).await.unwrap();
    assert_eq!((stored.secrets, stored.version), (sealed("anew"), version));
    let read = store.sealed_row(&old.row).await.unwrap().unwrap();
    assert!(store.renew_sealed(&read, &sealed("renewed")).await.unwrap());
    assert!(!store.renew_sealed(&read, &sealed("again")).await.unwrap(), "it was changed meanwhile");
    let stored = store.connection(&flights()).await.unwrap();
    assert_eq!((stored.secrets, stored.version), (sealed("renewed"), version + 1), "a change that counts");
    assert_eq!(store.sealed_row(&SecretRow::new("default", "connection", "gone")).await.unwrap(), None);
    assert!(store.replace_sealed(&of("source", "s"), &sealed("anew")).await.unwrap());
    assert!(store.replace_sealed(&of("destination", "d"), &sealed("anew")).await.unwrap());
    assert!(store.staged_keys().await.unwrap().is_empty());
    assert_eq!(store.oldest_running_sync().await.unwrap(), None);
}
