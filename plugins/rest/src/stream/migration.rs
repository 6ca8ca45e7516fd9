//! States of older forms, as manifests say how to read them.

use crate::{
    error::Result,
    interpolation::Template,
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// Applies a stream's `state_migrations`.
///
/// # Errors
/// Kind config: a migration that is not known.
pub fn migrate(stream: &Node<'_>, env: &Env, mut state: Value) -> Result<Value> {
    for migration in stream.items("state_migrations") {
        match migration.kind() {
            "LegacyToPerPartitionStateMigration" => {
                if let Some(migrated) = per_partition(stream, env, &state)? {
                    state = migrated;
                }
            }
            _ => return Err(migration.unknown()),
        }
    }
    Ok(state)
}

/// `{"13": {"updated": "…"}}` becomes a state per partition; `None` where the state has another form.
fn per_partition(stream: &Node<'_>, env: &Env, state: &Value) -> Result<Option<Value>> {
    let Some(old) = state.as_map().filter(|old| !old.is_empty()) else { return Ok(None) };
    if old.contains_key("states") || old.contains_key("state") {
        return Ok(None);
    }
    let scope = env.scope();
    let router = stream.need("retriever")?.need("partition_router")?;
    let field = if router.kind() == "UnionPartitionRouter" {
        Template::new(&router.need("partition_field")?, &router)?.text(&scope)?
    } else {
        let parents = router.items("parent_stream_configs");
        let [parent] = parents.as_slice() else { return Ok(None) };
        Template::new(&parent.need("partition_field")?, parent)?.text(&scope)?
    };
    let sync = stream.need("incremental_sync")?;
    let cursor = Template::new(&sync.need("cursor_field")?, &sync)?.text(&scope)?;
    let mut states = Vec::with_capacity(old.len());
    for (key, of_partition) in old {
        // Anything else is no state of a partition.
        let Some(value) = of_partition.get(&cursor).filter(|_| of_partition.as_map().is_some_and(|of| of.len() == 1))
        else {
            return Ok(None);
        };
        let partition: Map = [(field.clone(), key.as_str().into())].into();
        let position: Map = [(cursor.clone(), value.clone())].into();
        let one: Map =
            [("partition".to_owned(), Value::map(partition)), ("cursor".to_owned(), Value::map(position))].into();
        states.push(Value::map(one));
    }
    Ok(Some(Value::map([("states".to_owned(), Value::list(states))].into())))
}
