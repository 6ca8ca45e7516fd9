//! A paged JSON API: `GET /issues?page=N` answers an array of records shaped like a code host's issues, about
//! 1.4 KB each; the page after the last one is empty. Pages are made once, so that the server costs little.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Query, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;

/// A running server; it ends with its runtime.
#[derive(Clone)]
pub struct PageServer {
    address: SocketAddr,
}

#[derive(Clone)]
struct Pages(Arc<Vec<Bytes>>);

impl PageServer {
    /// Serves `records` in pages of `per_page` on 127.0.0.1; port 0 takes a free one.
    pub async fn start(records: u64, per_page: u64, port: u16) -> std::io::Result<Self> {
        let pages = (0..records.div_ceil(per_page.max(1)))
            .map(|page| page_of(page * per_page..((page + 1) * per_page).min(records)))
            .collect();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/issues", get(page)).with_state(Pages(Arc::new(pages)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address })
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[derive(serde::Deserialize)]
struct PageQuery {
    #[serde(default = "first")]
    page: usize,
}

fn first() -> usize {
    1
}

async fn page(State(Pages(pages)): State<Pages>, Query(PageQuery { page }): Query<PageQuery>) -> impl IntoResponse {
    let body = pages.get(page.wrapping_sub(1)).cloned().unwrap_or_else(|| Bytes::from_static(b"[]"));
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// One page as a JSON array.
pub fn page_of(ids: std::ops::Range<u64>) -> Bytes {
    let mut page = String::from("[");
    for (index, id) in ids.enumerate() {
        if index > 0 {
            page.push(',');
        }
        record(&mut page, id);
    }
    page.push(']');
    page.into()
}

/// Appends one record of about 1.4 KB; its values depend on the id alone.
fn record(out: &mut String, id: u64) {
    let user = id % 977;
    let state = if id.is_multiple_of(3) { "closed" } else { "open" };
    let closed = if id.is_multiple_of(3) {
        format!("\"2024-03-{:02}T11:{:02}:00Z\"", id % 28 + 1, id % 60)
    } else {
        "null".into()
    };
    let words =
        ["pipeline", "stalls", "when", "the", "cursor", "moves", "past", "midnight", "and", "retries", "pile", "up"];
    let mut body = String::with_capacity(520);
    while body.len() < 500 {
        let word = words[(id as usize * 7 + body.len() * 13) % words.len()];
        let _ = write!(body, "{word} {} ", (id * 31 + body.len() as u64) % 10_007);
    }
    let _ = write!(
        out,
        r#"{{"id":{id},"node_id":"I_kwDO{id:012x}","number":{number},"title":"{state}: record {id} of the sample with a title","state":"{state}","locked":false,"comments":{comments},"score":{score}.25,"created_at":"2024-01-{day:02}T08:{minute:02}:{second:02}Z","updated_at":"2024-02-{day:02}T09:{minute:02}:{second:02}Z","closed_at":{closed},"author_association":"CONTRIBUTOR","user":{{"login":"user{user}","id":{user},"node_id":"U_{user:08x}","avatar_url":"https://avatars.example.com/u/{user}?v=4","url":"https://api.example.com/users/user{user}","type":"User","site_admin":false}},"labels":[{{"id":{label},"name":"area/{label}","color":"d73a4a","default":true}},{{"id":{label2},"name":"kind/{label2}","color":"0075ca","default":false}}],"reactions":{{"total_count":{comments},"+1":{r1},"-1":0,"laugh":0,"hooray":{r2},"confused":0,"heart":1,"rocket":0,"eyes":2}},"url":"https://api.example.com/repos/acme/widgets/issues/{id}","html_url":"https://example.com/acme/widgets/issues/{id}","body":"{body}"}}"#,
        number = id + 1,
        comments = id % 41,
        score = id % 89,
        day = id % 28 + 1,
        minute = id % 60,
        second = (id / 60) % 60,
        label = id % 17,
        label2 = id % 23,
        r1 = id % 5,
        r2 = id % 3,
    );
}
