//! How a stream is divided: lists, parents' records, groups of them.

pub mod grouping;
pub mod list;
pub mod product;
pub mod slice;
pub mod substream;

use futures_util::future::LocalBoxFuture;

pub use slice::Slice;

use crate::{
    cursor::build::Divided,
    error::Result,
    http::RequestParts,
    interpolation::Scope,
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// Names the partitions of a stream, one after the other.
pub trait Router {
    /// The next partition; `None` after the last one. May read parents.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>>;

    /// The parents' state by stream; an empty object where they have none, null where there are no parents.
    fn state(&self) -> Value {
        Value::Null
    }

    /// What a partition adds to each of its requests.
    ///
    /// # Errors
    /// Kind config: templates.
    fn parts(&self, slice: &Slice, scope: &Scope) -> Result<RequestParts> {
        let _ = (slice, scope);
        Ok(RequestParts::default())
    }
}

/// A stream that is not divided: one partition without a name.
#[derive(Debug, Default)]
pub struct Single {
    given: bool,
}

impl Router for Single {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        let first = !std::mem::replace(&mut self.given, true);
        Box::pin(std::future::ready(Ok(first.then(Slice::default))))
    }
}

/// The router of a retriever; `node` is its `partition_router`, `state` that of the stream itself.
///
/// # Errors
/// Kind config, naming the place.
pub fn build(node: Option<&Node<'_>>, env: &Env, state: &Value) -> Result<Box<dyn Router>> {
    let Some(node) = node else { return Ok(Box::<Single>::default()) };
    if node.value.as_list().is_some() {
        let routers = node.list().iter().map(|one| build(Some(one), env, state)).collect::<Result<_>>()?;
        return Ok(Box::new(product::Product::new(routers)));
    }
    match node.kind() {
        "ListPartitionRouter" => Ok(Box::new(list::List::build(node, env)?)),
        "SubstreamPartitionRouter" => Ok(Box::new(substream::Substream::build(node, env, state)?)),
        "GroupingPartitionRouter" => Ok(Box::new(grouping::Grouping::build(node, env, state)?)),
        "UnionPartitionRouter" => {
            let routers = node.items("partition_routers");
            let routers = routers.iter().map(|one| build(Some(one), env, state)).collect::<Result<_>>()?;
            let field =
                crate::interpolation::Template::new(&node.need("partition_field")?, node)?.text(&env.scope())?;
            Ok(Box::new(product::Union::new(routers, field, &node.path)))
        }
        _ => Err(node.unknown()),
    }
}

/// What a cursor has to know of a stream's router.
pub fn divided(node: Option<&Node<'_>>) -> Divided {
    match node {
        None => Divided::Not,
        Some(node) if node.kind() == "GroupingPartitionRouter" => Divided::ByGroups,
        Some(_) => Divided::ByRouter,
    }
}

/// A member of what templates see of a slice.
pub fn member(slice: &Slice, key: &str) -> Option<Value> {
    slice.partition.get(key).or_else(|| slice.cursor.get(key)).cloned()
}

/// One member of an object.
pub fn single(key: &str, value: Value) -> Map {
    [(key.to_owned(), value)].into()
}
