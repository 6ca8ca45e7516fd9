//! Sources that give records piece by piece: the names of fields go into requests in chunks, and what comes back is put
//! together by key (`QueryProperties`).

use futures_util::future::LocalBoxFuture;
use indexmap::IndexMap;

use crate::{
    error::Result,
    extract::{Record, transform::Transformation},
    interpolation::Template,
    node::Node,
    stream::{Env, Stream},
    value::{Map, Value},
};

/// What is asked for of each record.
pub struct Properties {
    listed: Listed,
    always: Vec<String>,
    chunking: Option<Chunking>,
    /// Only names of fields that are wanted, after these changes to the fields' names (`property_selector`).
    selects: Option<Vec<Transformation>>,
    env: Env,
}

enum Listed {
    Fixed(Vec<String>),
    /// The source lists them: a stream, and the path to a name in its records.
    Asked {
        stream: Value,
        path: Vec<String>,
        at: String,
    },
}

struct Chunking {
    limit: Option<usize>,
    by_characters: bool,
    /// Whether records are put together, and by which keys.
    key: Vec<String>,
}

impl Properties {
    /// Of a requester: `query_properties`, `fetch_properties_from_endpoint`, or one of its parameters.
    ///
    /// # Errors
    /// Kind config, naming the place.
    pub fn build(requester: &Node<'_>, env: &Env) -> Result<Option<Self>> {
        let of_kind = |node: &Node<'_>| node.kind() == "QueryProperties";
        let parameters = requester.get("request_parameters").map(|node| node.members()).unwrap_or_default();
        let mut among: Vec<_> = parameters.into_iter().map(|(_, node)| node).filter(of_kind).collect();
        if among.len() > 1 {
            return Err(requester.wrong("`request_parameters` has more than one QueryProperties"));
        }
        let none = Value::map(Map::new());
        if let Some(node) = among.pop().or_else(|| requester.get("query_properties")) {
            return Self::of(&node, node.get("property_list"), env).map(Some);
        }
        let Some(endpoint) = requester.get("fetch_properties_from_endpoint") else { return Ok(None) };
        let bare = Node { value: &none, path: endpoint.path.clone() };
        Self::of(&bare, Some(endpoint), env).map(Some)
    }

    fn of(node: &Node<'_>, list: Option<Node<'_>>, env: &Env) -> Result<Self> {
        let texts =
            |node: &Node<'_>| node.list().iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_>>();
        let listed = match list {
            None => Listed::Fixed(Vec::new()),
            Some(list) if list.value.as_list().is_some() => Listed::Fixed(texts(&list)?),
            Some(endpoint) => asked(&endpoint, env)?,
        };
        let always = node.get("always_include_properties").map(|node| texts(&node)).transpose()?;
        let chunking = node.get("property_chunking").map(|node| Chunking::build(&node)).transpose()?;
        let selector = node.get("property_selector").map(|selector| {
            let transformations = selector.items("transformations");
            transformations.iter().map(|one| Transformation::build(one, env)).collect::<Result<Vec<_>>>()
        });
        let selects = selector.transpose()?;
        Ok(Self { listed, always: always.unwrap_or_default(), chunking, selects, env: env.clone() })
    }

    /// The chunks of names, in order; at least one.
    ///
    /// # Errors
    /// Those of the source where it lists them.
    pub async fn chunks(&self) -> Result<Vec<Vec<String>>> {
        let names = match &self.listed {
            Listed::Fixed(names) => names.clone(),
            Listed::Asked { stream, path, at } => self.ask(stream, path, at).await?,
        };
        let mut names = names;
        if let Some(wanted) = self.wanted()? {
            names.retain(|name| wanted.contains(name));
        }
        Ok(match &self.chunking {
            Some(chunking) => chunking.divide(names, &self.always),
            None => vec![self.always.iter().cloned().chain(names).collect()],
        })
    }

    /// The names of properties that the wanted fields stand for.
    fn wanted(&self) -> Result<Option<Vec<String>>> {
        let (Some(changes), Some(selected)) = (&self.selects, &self.env.selected) else { return Ok(None) };
        let mut fields = Value::map(selected.iter().map(|name| (name.clone(), Value::map(Map::new()))).collect());
        let mut scope = self.env.scope();
        for change in changes {
            change.apply(&mut fields, &mut scope)?;
        }
        Ok(fields.as_map().map(|fields| fields.keys().cloned().collect()))
    }

    async fn ask(&self, stream: &Value, path: &[String], at: &str) -> Result<Vec<String>> {
        let node = Node { value: stream, path: at.to_owned() };
        let stream = Stream::build(&node, &self.env, &Value::map(Map::new()))?;
        // These records are read by what this is a part of.
        let records: LocalBoxFuture<'_, Result<Vec<Record>>> = Box::pin(stream.all_records());
        let records = records.await?;
        let name = |record: &Record| record.at(path).map(|name| crate::http::text::text(&name)).unwrap_or_default();
        Ok(records.iter().map(name).collect())
    }

    /// Whether the records of the chunks are put together.
    pub fn merges(&self) -> bool {
        self.chunking.is_some()
    }

    /// Puts a record to those with the same key; gives it back where it has none.
    pub fn merge(&self, merged: &mut IndexMap<String, Value>, record: Record) -> Option<Record> {
        let Some(chunking) = &self.chunking else { return Some(record) };
        let value = record.value();
        let Some(key) = chunking.key_of(&value) else { return Some(record) };
        merge(merged.entry(key).or_insert_with(|| Value::map(Map::new())), value);
        None
    }
}

/// `PropertiesFromEndpoint`.
fn asked(endpoint: &Node<'_>, env: &Env) -> Result<Listed> {
    let mut retriever = endpoint.need("retriever")?.value.clone();
    if let Some(requester) = retriever.map_mut().get_mut("requester") {
        requester.map_mut().insert("use_cache".into(), true.into());
    }
    let stream: Map = [
        ("type".into(), "DeclarativeStream".into()),
        ("name".into(), "dynamic_properties".into()),
        ("retriever".into(), retriever),
    ]
    .into();
    let scope = env.scope();
    let path = endpoint.items("property_field_path");
    let path = path.iter().map(|key| Template::new(key, endpoint)?.text(&scope)).collect::<Result<_>>()?;
    Ok(Listed::Asked { stream: Value::map(stream), path, at: endpoint.path.clone() })
}

impl Chunking {
    fn build(node: &Node<'_>) -> Result<Self> {
        let strategy = node.get("record_merge_strategy");
        let key = strategy.as_ref().and_then(|strategy| strategy.get("key"));
        let key = match &key {
            None => vec!["id".to_owned()],
            Some(key) if key.value.as_list().is_some() => {
                key.list().iter().map(|part| part.text().map(str::to_owned)).collect::<Result<_>>()?
            }
            Some(key) => vec![key.text()?.to_owned()],
        };
        Ok(Self {
            limit: node.int("property_limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            by_characters: node.value.get("property_limit_type").and_then(Value::as_str) == Some("characters"),
            key,
        })
    }

    fn divide(&self, names: Vec<String>, always: &[String]) -> Vec<Vec<String>> {
        let Some(limit) = self.limit else {
            return vec![names.into_iter().chain(always.iter().cloned()).collect()];
        };
        let mut chunks = Vec::new();
        let (mut chunk, mut size) = (always.to_vec(), 0);
        for name in names {
            // Three characters for the encoded sign between two names.
            let more = if self.by_characters { name.chars().count() + 3 } else { 1 };
            if size + more > limit {
                chunks.push(std::mem::replace(&mut chunk, always.to_vec()));
                size = 0;
            }
            chunk.push(name);
            size += more;
        }
        chunks.push(chunk);
        chunks
    }

    fn key_of(&self, record: &Value) -> Option<String> {
        let parts: Option<Vec<String>> = self
            .key
            .iter()
            .map(|key| record.get(key).filter(|part| part.truthy()).map(crate::http::text::text))
            .collect();
        parts.map(|parts| parts.join(","))
    }
}

/// Objects are put together, everything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Map(into), Value::Map(from)) => {
            let into = std::sync::Arc::make_mut(into);
            for (key, value) in from.iter() {
                merge(into.entry(key.clone()).or_default(), value.clone());
            }
        }
        (into, from) => *into = from,
    }
}
