//! `thimble demo-api`: a small JSON API with made-up items, for trying a connector on.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    context::runtime,
    exit::{CliError, Exit},
    output::Output,
};

/// Items that it has.
const ITEMS: u64 = 1000;

/// Largest page; a larger `limit` is cut to it, as real APIs do.
const MAX_PAGE: u64 = 500;

const DEFAULT_PAGE: u64 = 100;

/// Serve a small JSON API to try a connector on.
///
/// `GET /items?since=ID&limit=N` answers `{"items": […], "next": ID or null}`: the items after `since`, in order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  thimble demo-api --port 8700 &\n  curl 'http://127.0.0.1:8700/items?since=0&limit=2'"
)]
pub struct DemoApi {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8700)]
    port: u16,
    /// How many items there are.
    #[arg(long, default_value_t = ITEMS)]
    items: u64,
}

#[derive(Debug, Serialize)]
struct Item {
    id: u64,
    name: String,
    category: &'static str,
    price: f64,
    in_stock: bool,
    updated_at: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    since: Option<u64>,
    limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Answer {
    items: Vec<Item>,
    /// The `since` of the next page.
    next: Option<u64>,
}

/// Item number `id`, always the same.
fn item(id: u64) -> Item {
    const CATEGORIES: [&str; 4] = ["thread", "needle", "button", "cloth"];
    // A multiplicative hash: spread out, and the same on every machine.
    let hash = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let category = CATEGORIES[(hash % 4) as usize];
    let second = id % 60;
    let minute = (id / 60) % 60;
    let hour = (id / 3600) % 24;
    let day = 1 + (id / 86_400) % 28;
    Item {
        id,
        name: format!("{category} {id}"),
        category,
        price: (hash % 10_000) as f64 / 100.0,
        in_stock: !hash.is_multiple_of(7),
        updated_at: format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
    }
}

fn page(total: u64, page: &Page) -> Answer {
    let since = page.since.unwrap_or(0);
    let limit = page.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let last = since.saturating_add(limit).min(total);
    let items = (since.saturating_add(1)..=last).map(item).collect();
    Answer { items, next: (last < total).then_some(last) }
}

async fn items(State(total): State<Arc<u64>>, Query(query): Query<Page>) -> Json<Answer> {
    Json(page(*total, &query))
}

/// Serves until Ctrl-C.
pub fn run(arguments: &DemoApi, output: Output) -> Result<(), CliError> {
    let address = SocketAddr::from(([127, 0, 0, 1], arguments.port));
    let router = Router::new().route("/items", get(items)).with_state(Arc::new(arguments.items));
    runtime(1)?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            CliError::new(Exit::Conflict, format!("cannot listen on {address}: {error}")).hint("choose another --port")
        })?;
        let bound = listener.local_addr().map_err(|error| CliError::io("the socket has no address", &error))?;
        let url = format!("http://{bound}");
        output.line(&json!({ "url": url, "items": arguments.items }), &format!("demo API on {url}/items"))?;
        axum::serve(listener, router)
            .with_graceful_shutdown(async {
                // Without a handler the process ends at the signal all the same.
                let _ = tokio::signal::ctrl_c().await;
            })
            .await
            .map_err(|error| CliError::io("the demo API stopped", &error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_every_item_once() {
        let mut since = None;
        let mut ids = Vec::new();
        loop {
            let answer = page(1000, &Page { since, limit: Some(300) });
            ids.extend(answer.items.iter().map(|item| item.id));
            since = answer.next;
            if since.is_none() {
                break;
            }
        }
        assert_eq!(ids, (1..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn pages_are_bounded_and_the_end_is_empty() {
        assert_eq!(page(1000, &Page { since: None, limit: Some(u64::MAX) }).items.len() as u64, MAX_PAGE);
        let end = page(1000, &Page { since: Some(1000), limit: None });
        assert!(end.items.is_empty() && end.next.is_none());
        assert!(page(1000, &Page { since: Some(u64::MAX), limit: Some(10) }).items.is_empty());
    }

    #[test]
    fn items_never_change() {
        let text = serde_json::to_string(&item(1)).expect("an item is JSON");
        assert_eq!(
            text,
            r#"{"id":1,"name":"needle 1","category":"needle","price":88.89,"in_stock":true,"updated_at":"2026-01-01T00:00:01Z"}"#
        );
    }
}
