//! Streams as the host lists them.

use thimble_sdk::{Catalog, Method, Stream as Listed};

use crate::{
    error::{RestError, Result},
    interpolation::Template,
    node::Node,
    schema,
    stream::{Env, retriever},
    value::Value,
};

/// The stream of this name.
///
/// # Errors
/// Kind config where there is none.
pub fn find<'a>(streams: &'a Value, name: &str) -> Result<Node<'a>> {
    let items = streams.as_list().unwrap_or_default().iter().enumerate();
    let mut named = items.filter(|(_, stream)| stream.get("name").and_then(Value::as_str) == Some(name));
    let (at, value) = named.next().ok_or_else(|| {
        RestError::config(format!("the manifest has no stream {name}: run discovery and choose among what it finds"))
    })?;
    Ok(Node { value, path: format!("streams[{at}]") })
}

/// Every stream with its fields, key and methods.
///
/// # Errors
/// Kind config, naming the place in the manifest; those of the source where it is asked for fields.
pub async fn of(streams: &Value, env: &Env) -> Result<Catalog> {
    let mut listed = Vec::new();
    for (at, value) in streams.as_list().unwrap_or_default().iter().enumerate() {
        let node = Node { value, path: format!("streams[{at}]") };
        listed.push(one(&node, env).await?);
    }
    Ok(Catalog::new(listed))
}

async fn one(node: &Node<'_>, env: &Env) -> Result<Listed> {
    let name = node.need("name")?.text()?.to_owned();
    // Of a stream that chooses between two, the one that reads everything tells the fields.
    let node = &if node.kind() == "StateDelegatingStream" { node.need("full_refresh_stream")? } else { node.clone() };
    let fields = schema::fields(&retriever::json_schema(node, env).await?);
    let mut stream = Listed::new(&name).fields(fields).key(key(node, env)?);
    let sync = node.get("incremental_sync");
    if let Some(sync) = sync {
        let cursor = Template::new(&sync.need("cursor_field")?, &sync)?.text(&env.scope())?;
        stream = stream.incremental(cursor).methods(vec![Method::Incremental, Method::FullTable]);
    } else {
        stream = stream.methods(vec![Method::FullTable]);
    }
    Ok(stream)
}

/// The names of the key's fields; a key inside an object is none for the host.
fn key(node: &Node<'_>, env: &Env) -> Result<Vec<String>> {
    let Some(key) = node.get("primary_key") else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    let parts = if key.value.as_list().is_some() { key.list() } else { vec![key.clone()] };
    for part in parts {
        let path = if part.value.as_list().is_some() { part.list() } else { vec![part] };
        let [name] = path.as_slice() else { return Ok(Vec::new()) };
        names.push(Template::new(name, node)?.text(&env.scope())?);
    }
    Ok(names)
}
