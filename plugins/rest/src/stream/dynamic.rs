//! Which streams a manifest has: those that it lists, those that hang on a condition, and those that a template makes of
//! records or settings (`dynamic_streams`).

use std::collections::BTreeSet;

use crate::{
    error::{RestError, Result},
    extract::{dpath, within},
    interpolation::{Scope, Template},
    limits::MAX_STREAMS,
    manifest::{
        self, Manifest,
        parameters::{self, Winner},
    },
    node::Node,
    stream::{Env, Stream},
    value::{Map, Value},
};

/// The member of a stream that says which of `dynamic_streams` made it, as in the reference.
pub const MADE_BY: &str = "dynamic_stream_name";

/// The name of the dynamic stream that stands at this place of its list.
pub fn name_of(node: &Node<'_>, at: usize) -> String {
    let name = node.value.get("name").and_then(Value::as_str);
    name.map_or_else(|| format!("dynamic_stream_{at}"), str::to_owned)
}

/// The streams as a list of nodes, each with a name of its own.
///
/// # Errors
/// Kind config, naming the place in the manifest; those of the source where streams are made of its records.
pub async fn streams(manifest: &Manifest, env: &Env) -> Result<Value> {
    let listed = manifest.streams_for(&env.scope())?;
    let mut streams: Vec<Value> = listed.into_iter().map(|node| node.value.clone()).collect();
    let mut names = BTreeSet::new();
    for (at, node) in manifest.dynamic_streams().into_iter().enumerate() {
        for mut stream in made(&node, env).await? {
            stream.map_mut().insert(MADE_BY.into(), name_of(&node, at).into());
            let name = stream.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if name.is_empty() {
                return Err(node.wrong("a stream was made whose name is no text"));
            }
            if !names.insert(name.clone()) {
                return Err(node.wrong(format!("two streams were made with the name {name}: check the configuration")));
            }
            streams.push(stream);
            if streams.len() > MAX_STREAMS {
                return Err(node.wrong(format!("the manifest makes more than {MAX_STREAMS} streams")));
            }
        }
    }
    manifest::streams::cache_parents(&mut streams);
    Ok(Value::list(streams))
}

/// The streams that one template makes.
async fn made(node: &Node<'_>, env: &Env) -> Result<Vec<Value>> {
    let resolver = node.need("components_resolver")?;
    let template = node.need("stream_template")?;
    let mappings = resolver.items("components_mapping");
    let mut made = Vec::new();
    let values = match resolver.kind() {
        "HttpComponentsResolver" => by_records(node, &resolver, env).await?,
        "ConfigComponentsResolver" => by_settings(&resolver, env)?,
        "ParametrizedComponentsResolver" => {
            let list = resolver.need("stream_parameters")?.items("list_of_parameters_for_stream");
            list.into_iter().map(|item| (item.value.clone(), Value::Null)).collect()
        }
        _ => return Err(resolver.unknown()),
    };
    for (values, slice) in values {
        let mut scope = env.scope().with("components_values", values);
        scope.set("stream_template_config", template.value.clone());
        if !slice.is_null() {
            scope.set("stream_slice", slice);
        }
        let mut stream = template.value.clone();
        for mapping in &mappings {
            map(&mut stream, mapping, resolver.kind(), &scope)?;
        }
        let winner = if node.flag("use_parent_parameters", true)? { Winner::Parent } else { Winner::Nearer };
        made.push(parameters::propagate(&stream, winner)?);
        if made.len() > MAX_STREAMS {
            return Err(node.wrong(format!("the manifest makes more than {MAX_STREAMS} streams")));
        }
    }
    Ok(made)
}

/// Puts one value into the template's copy.
fn map(stream: &mut Value, mapping: &Node<'_>, resolver: &str, scope: &Scope) -> Result<()> {
    if let Some(condition) = mapping.get("condition")
        && !Template::new(&condition, mapping)?.boolean(scope)?
    {
        return Ok(());
    }
    let template = Template::new(&mapping.need("value")?, mapping)?;
    let typed = mapping.get("value_type").and_then(|kind| kind.value.as_str().map(str::to_owned));
    let mut value = match typed.as_deref() {
        Some("string") => Value::from(template.text(scope)?),
        _ => template.value(scope)?,
    };
    if resolver != "HttpComponentsResolver"
        && typed.as_deref() != Some("string")
        && let Some(text) = value.as_str()
        && let Ok(parsed) = manifest::yaml::parse(text.as_bytes())
    {
        value = parsed;
    }
    let path: Vec<String> = mapping
        .items("field_path")
        .iter()
        .map(|key| Template::new(key, mapping)?.text(scope))
        .collect::<Result<_>>()?;
    let pattern = dpath::Path::new(&path).map_err(|reason| mapping.wrong(reason))?;
    let changed = dpath::set(stream, &pattern, &value);
    if changed == 0 && value.truthy() && mapping.flag("create_or_update", false)? {
        dpath::put(stream, &path, value).map_err(|reason| mapping.wrong(reason))?;
    }
    Ok(())
}

/// Values of settings: every combination of the lists that `stream_config` names.
fn by_settings(resolver: &Node<'_>, env: &Env) -> Result<Vec<(Value, Value)>> {
    let mut all = vec![Map::new()];
    for (place, config) in resolver.items("stream_config").iter().enumerate() {
        let scope = env.scope();
        let path: Vec<String> = config
            .items("configs_pointer")
            .iter()
            .map(|key| Template::new(key, config)?.text(&scope))
            .collect::<Result<_>>()?;
        let mut values = match within(&env.config, &path) {
            Some(Value::List(items)) => items.as_ref().clone(),
            Some(other) => vec![other.clone()],
            None => Vec::new(),
        };
        values.extend(config.items("default_values").into_iter().map(|value| value.value.clone()));
        let mut combined = Vec::new();
        for before in &all {
            for (index, value) in values.iter().enumerate() {
                let mut one = before.clone();
                match value {
                    Value::Map(map) => one.extend(map.iter().map(|(key, value)| (key.clone(), value.clone()))),
                    other => {
                        let index = i64::try_from(index).unwrap_or(i64::MAX).into();
                        let named = Value::list(vec![index, other.clone()]);
                        one.entry(format!("source_config_{place}")).or_insert(named);
                    }
                }
                combined.push(one);
                if combined.len() > MAX_STREAMS {
                    return Err(config.wrong(format!("the configuration makes more than {MAX_STREAMS} streams")));
                }
            }
        }
        all = combined;
    }
    Ok(all.into_iter().map(|values| (Value::map(values), Value::Null)).collect())
}

/// Values of records that the source is asked for.
async fn by_records(node: &Node<'_>, resolver: &Node<'_>, env: &Env) -> Result<Vec<(Value, Value)>> {
    let name = node.value.get("name").cloned().unwrap_or_else(|| "__http_components_resolver".into());
    let mut retriever = resolver.need("retriever")?.value.clone();
    if retriever.get("requester").is_some()
        && let Some(requester) = retriever.map_mut().get_mut("requester")
    {
        requester.map_mut().insert("use_cache".into(), true.into());
    }
    let stream: Map =
        [("type".into(), "DeclarativeStream".into()), ("name".into(), name), ("retriever".into(), retriever)].into();
    let stream = Value::map(stream);
    let made = Node { value: &stream, path: resolver.path.clone() };
    let mut stream = Stream::build(&made, env, &Value::map(Map::new()))?;
    let mut found = Vec::new();
    while let Some(piece) = stream.next_piece().await? {
        let mut pages = stream.pages(&piece);
        while let Some(page) = pages.next().await? {
            found.extend(page.records.iter().map(|record| (record.value(), piece.slice.value())));
            if found.len() > MAX_STREAMS {
                return Err(
                    RestError::config(format!("the source makes more than {MAX_STREAMS} streams")).at(&resolver.path)
                );
            }
        }
    }
    Ok(found)
}
