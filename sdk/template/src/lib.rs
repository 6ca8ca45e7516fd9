//! Reads a JSON API page by page. The API answers `GET {url}/items?since=<id>&limit=100` with
//! `{"items": [{"id": 1, …}], "next": <id or null>}`: the items after `since`, in the order of their ids.

use serde::Deserialize;
use serde_json::value::RawValue;
use thimble_sdk::prelude::*;

#[derive(Deserialize)]
struct Config {
    url: String,
}

/// The items stay raw: the host decodes them, and new fields become new columns by themselves.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: &'a RawValue,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Item {
    id: u64,
}

struct Api;

impl Source for Api {
    type Config = Config;

    fn spec() -> Spec {
        Spec::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .docs("Reads `items` from a JSON API, page by page.")
            .config_schema(include_str!("config.schema.json"))
            .host("{{ url }}")
    }

    fn discover(_config: &Config) -> Result<Catalog> {
        let items = Stream::new("items").key(["id"]).field("id", DataType::Int64).field("name", DataType::Text);
        Ok(Catalog::new([items.field("updated_at", DataType::TimestampTz).incremental("id")]))
    }

    fn read(config: &Config, request: &ReadRequest, sink: &mut Sink) -> Result<()> {
        let url = format!("{}/items", config.url.trim_end_matches('/'));
        let mut since: u64 = request.cursor()?.unwrap_or(0);
        loop {
            let body = http::get(&url).query("since", since).query("limit", 100).send()?.bytes()?;
            let page: Page = serde_json::from_slice(&body)?;
            let newest = newest(page.items.get(), since)?;
            sink.json_page(page.items.get().as_bytes())?;
            sink.checkpoint(&newest)?;
            if page.next.is_none() || newest == since {
                return Ok(());
            }
            since = newest;
        }
    }
}

thimble_sdk::register_source!(Api);

/// The greatest id of a page; `since` where the page is empty.
fn newest(items: &str, since: u64) -> Result<u64> {
    let items: Vec<Item> = serde_json::from_str(items)?;
    Ok(items.iter().map(|item| item.id).fold(since, u64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_id_of_a_page() {
        assert_eq!(newest(r#"[{"id": 3, "name": "a"}, {"id": 9}, {"id": 4}]"#, 2), Ok(9));
        assert_eq!(newest("[]", 2), Ok(2));
        assert!(newest(r#"[{"name": "no id"}]"#, 2).is_err());
    }

    #[test]
    fn the_schema_is_json_and_the_config_fits_it() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("config.schema.json")).expect("JSON");
        let config: Config = serde_json::from_value(serde_json::json!({"url": schema["properties"]["url"]["default"]}))
            .expect("a configuration");
        assert!(config.url.starts_with("http"));
    }
}
