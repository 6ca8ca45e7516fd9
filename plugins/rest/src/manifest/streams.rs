//! What a manifest declares at its top: streams, what a check reads, rates and concurrency.

use super::Manifest;
use crate::{
    error::Result,
    interpolation::{Scope, Template},
    node::Node,
    value::{Map, Value},
};

/// Where the reference begins when a manifest says nothing, and below which it does not go.
const LEAST_CONCURRENCY: i64 = 2;

/// Streams that are there where a condition over the configuration holds.
const CONDITIONAL: &str = "ConditionalStreams";

impl Manifest {
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.resolved)
    }

    /// Every declared stream, those inside conditions too.
    pub fn streams<'a>(&'a self) -> Vec<Node<'a>> {
        let inside = |node: Node<'a>| if node.kind() == CONDITIONAL { node.items("streams") } else { vec![node] };
        self.root().items("streams").into_iter().flat_map(inside).collect()
    }

    /// The declared streams whose conditions hold; `scope` knows the configuration.
    ///
    /// # Errors
    /// Kind config where a condition cannot be evaluated.
    pub fn streams_for(&self, scope: &Scope) -> Result<Vec<Node<'_>>> {
        let mut streams = Vec::new();
        for node in self.root().items("streams") {
            if node.kind() != CONDITIONAL {
                streams.push(node);
                continue;
            }
            let condition = node.need("condition")?;
            // The reference gives a condition no parameters.
            if Template::new(&condition, &condition)?.boolean(scope)? {
                streams.extend(node.items("streams"));
            }
        }
        Ok(streams)
    }

    pub fn stream(&self, name: &str) -> Option<Node<'_>> {
        self.streams().into_iter().find(|node| node.value.get("name").and_then(Value::as_str) == Some(name))
    }

    pub fn dynamic_streams(&self) -> Vec<Node<'_>> {
        self.root().items("dynamic_streams")
    }

    /// The component of the check: `CheckStream` or `CheckDynamicStream`.
    pub fn check(&self) -> Option<Node<'_>> {
        self.root().get("check")
    }

    /// Names of the streams that a check reads; none where it only counts dynamic ones.
    pub fn check_streams(&self) -> Vec<&str> {
        let Some(check) = self.check() else { return Vec::new() };
        check.items("stream_names").iter().filter_map(|name| name.value.as_str()).collect()
    }

    /// Settings that hold while a check runs (`config_overrides`), put over the configuration one level deep.
    pub fn check_config(&self, config: &Value) -> Value {
        let mut config = config.clone();
        if let Some(overrides) = self.check().and_then(|check| check.value.get("config_overrides")?.as_map()) {
            config.map_mut().extend(overrides.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        config
    }

    pub fn api_budget(&self) -> Option<Node<'_>> {
        self.root().get("api_budget")
    }

    /// How many partitions the reference would read at once.
    ///
    /// # Errors
    /// Kind config where it is no whole number.
    pub fn concurrency(&self, scope: &Scope) -> Result<i64> {
        let Some(level) = self.root().get("concurrency_level") else { return Ok(LEAST_CONCURRENCY) };
        let node = level.need("default_concurrency")?;
        let wrong = || node.wrong("this has to be a whole number");
        let asked = match Template::new(&node, &level)?.value(scope)? {
            Value::Int(asked) => asked,
            Value::Str(text) => text.trim().parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        Ok(asked.min(level.int("max_concurrency")?.unwrap_or(i64::MAX)).max(1))
    }
}

/// Sets `use_cache` on the requesters of every stream that is a parent of another, unless the manifest says false: its
/// pages are asked for by each of its children.
pub fn cache_parents(streams: &mut [Value]) {
    let mut parents = Vec::new();
    for stream in streams.iter() {
        let inside = if kind(stream) == CONDITIONAL { stream.get("streams").and_then(Value::as_list) } else { None };
        inside.unwrap_or(std::slice::from_ref(stream)).iter().for_each(|stream| parent_names(stream, &mut parents));
    }
    for stream in streams {
        if kind(stream) == CONDITIONAL {
            at(stream, &["streams"], &mut |inside| each(inside, &mut |stream| cache_around(stream, &parents)));
        } else {
            cache_around(stream, &parents);
        }
    }
}

fn kind(stream: &Value) -> &str {
    stream.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// A stream that is itself a parent, and the copies of its parents inside it.
fn cache_around(stream: &mut Value, parents: &[String]) {
    at(stream, &["retriever", "partition_router"], &mut cache_in_routers);
    at(stream, &["incremental_sync", "parent_stream", "retriever", "requester"], &mut use_cache);
    let name = stream.get("name").and_then(Value::as_str).unwrap_or_default();
    if parents.iter().any(|parent| parent == name) {
        cache_stream(stream);
    }
}

fn routers<'a>(router: &'a Value, found: &mut Vec<&'a Value>) {
    match router {
        Value::List(items) => items.iter().for_each(|item| routers(item, found)),
        Value::Map(map) => {
            found.push(router);
            ["partition_routers", "underlying_partition_router"]
                .iter()
                .filter_map(|key| map.get(*key))
                .for_each(|inner| routers(inner, found));
        }
        _ => {}
    }
}

fn parent_names(stream: &Value, names: &mut Vec<String>) {
    let mut name = |stream: Option<&Value>| {
        names.extend(stream.and_then(|stream| stream.get("name")?.as_str()).map(str::to_owned));
    };
    if let Some(parent) = stream.get("incremental_sync").and_then(|sync| sync.get("parent_stream")) {
        return name(Some(parent));
    }
    let Some(router) = stream.get("retriever").and_then(|retriever| retriever.get("partition_router")) else { return };
    let mut found = Vec::new();
    routers(router, &mut found);
    for router in found {
        for config in router.get("parent_stream_configs").and_then(Value::as_list).unwrap_or_default() {
            name(config.get("stream"));
        }
    }
}

/// Goes down to a member and changes it, where it is there.
fn at(value: &mut Value, path: &[&str], change: &mut dyn FnMut(&mut Value)) {
    let Some((key, rest)) = path.split_first() else { return change(value) };
    if value.get(key).is_some_and(|member| !member.is_null())
        && let Some(member) = value.map_mut().get_mut(*key)
    {
        at(member, rest, change);
    }
}

fn each(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::List(items) => std::sync::Arc::make_mut(items).iter_mut().for_each(change),
        other => change(other),
    }
}

fn cache_in_routers(router: &mut Value) {
    each(router, &mut |router| {
        at(router, &["parent_stream_configs"], &mut |configs| {
            each(configs, &mut |config| at(config, &["stream"], &mut cache_stream));
        });
        for key in ["partition_routers", "underlying_partition_router"] {
            at(router, &[key], &mut cache_in_routers);
        }
    });
}

fn cache_stream(stream: &mut Value) {
    if kind(stream) == "StateDelegatingStream" {
        for side in ["full_refresh_stream", "incremental_stream"] {
            at(stream, &[side, "retriever", "requester"], &mut use_cache);
        }
    } else {
        at(stream, &["retriever", "requester"], &mut use_cache);
    }
}

fn use_cache(requester: &mut Value) {
    if requester.as_map().is_some_and(|map: &Map| map.get("use_cache") != Some(&Value::Bool(false))) {
        requester.map_mut().insert("use_cache".into(), true.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{manifest, value::Value};

    const MANIFEST: &str = r##"
version: 6.0.0
check: {stream_names: [child], config_overrides: {days: 1}}
concurrency_level: {type: ConcurrencyLevel, default_concurrency: 4, max_concurrency: 3}
definitions:
  base: {requester: {url_base: "https://a.example", path: /x}, record_selector: {extractor: {field_path: []}}}
  parent: {name: parent, retriever: {$ref: "#/definitions/base"}}
streams:
  - "#/definitions/parent"
  - type: ConditionalStreams
    condition: "{{ config['more'] }}"
    streams:
      - type: DeclarativeStream
        name: child
        retriever:
          $ref: "#/definitions/base"
          partition_router:
            type: SubstreamPartitionRouter
            parent_stream_configs: [{stream: "#/definitions/parent", parent_key: id, partition_field: id}]
"##;

    #[test]
    fn what_is_asked_for_once_by_each_child_is_kept_for_the_run() {
        let manifest = manifest::load(MANIFEST.as_bytes()).unwrap();
        let cached = |stream: &str, path: &[&str]| {
            let mut node = manifest.stream(stream).unwrap();
            for step in path {
                node = node.items(step)[0].clone();
            }
            node.value.get("use_cache").cloned()
        };
        assert_eq!(cached("parent", &["retriever", "requester"]), Some(Value::Bool(true)));
        assert_eq!(cached("child", &["retriever", "requester"]), None);
        let inside = ["retriever", "partition_router", "parent_stream_configs", "stream", "retriever", "requester"];
        assert_eq!(cached("child", &inside), Some(Value::Bool(true)));
    }

    #[test]
    fn streams_are_found_inside_conditions_and_keep_their_paths() {
        let manifest = manifest::load(MANIFEST.as_bytes()).unwrap();
        let paths: Vec<_> = manifest.streams().into_iter().map(|node| node.path).collect();
        assert_eq!(paths, ["streams[0]", "streams[1].streams[0]"]);
        assert_eq!(manifest.check_streams(), ["child"]);
        let config = Value::from_json(br#"{"days":9,"key":"k"}"#).unwrap();
        assert_eq!(manifest.check_config(&config).to_json(), r#"{"days":1,"key":"k"}"#);
    }
}
