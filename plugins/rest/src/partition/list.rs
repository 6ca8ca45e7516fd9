//! `ListPartitionRouter`: a partition for each value of a list.

use futures_util::future::LocalBoxFuture;

use crate::{
    error::Result,
    http::{RequestOption, RequestParts},
    interpolation::{Scope, Template},
    node::Node,
    partition::{Router, Slice, member, single},
    stream::Env,
    value::Value,
};

#[derive(Debug)]
pub struct List {
    values: std::vec::IntoIter<Value>,
    field: String,
    option: Option<RequestOption>,
}

impl List {
    /// # Errors
    /// Kind config where `values` is no list.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let given = node.need("values")?;
        let scope = env.scope();
        // Text is a template for a list; items of a list stand for themselves.
        let values = match given.value {
            Value::List(values) => values.as_ref().clone(),
            _ => {
                let value = Template::new(&given, node)?.value(&scope)?;
                let list = value.as_list().map(<[Value]>::to_vec);
                list.ok_or_else(|| given.wrong(format!("this has to be a list and is {}", value.to_json())))?
            }
        };
        let field = Template::new(&node.need("cursor_field")?, node)?.text(&scope)?;
        let option = node.get("request_option").map(|option| RequestOption::build(&option)).transpose()?;
        Ok(Self { values: values.into_iter(), field, option })
    }
}

impl Router for List {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Slice>>> {
        let partition = self.values.next().map(|value| single(&self.field, value));
        let slice = partition.map(|partition| Slice { partition, ..Slice::default() });
        Box::pin(std::future::ready(Ok(slice)))
    }

    fn parts(&self, slice: &Slice, scope: &Scope) -> Result<RequestParts> {
        let mut parts = RequestParts::default();
        if let (Some(option), Some(value)) = (&self.option, member(slice, &self.field))
            && value.truthy()
        {
            option.inject(&mut parts, value, scope)?;
        }
        Ok(parts)
    }
}
