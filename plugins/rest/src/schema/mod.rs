//! What a stream's records look like: JSON Schemas of a manifest, and the host's fields from them.
//!
//! A schema is a hope, not a promise: the host decodes records against the fields and puts aside what does not fit, so
//! that nothing here can lose data. Must never do I/O but through what it is given.

mod dynamic;
mod fields;
mod infer;

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

pub use self::{fields::fields, infer::infer};
use crate::{
    error::Result,
    limits::MAX_SCHEMA_LOADERS,
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// Gives the first record of a retriever that stands inside a schema loader.
pub trait FirstRecord {
    /// # Errors
    /// As reading records.
    fn first(&self) -> LocalBoxFuture<'_, Result<Option<Value>>>;
}

/// Builds such a retriever from its place in the manifest.
pub type Retrievers<'a> = &'a dyn Fn(&Node<'_>) -> Result<Rc<dyn FirstRecord>>;

/// `schema_loader` of a stream.
pub enum Loader {
    Fixed(Value),
    Composite(Vec<Loader>),
    Dynamic(Box<dynamic::Dynamic>),
}

impl Loader {
    /// Of `DeclarativeStream.schema_loader`, which may be an array of loaders. Without one there is no schema, and the
    /// host finds the fields by itself.
    ///
    /// # Errors
    /// Kind config: a loader that is not known or incomplete.
    pub fn build(stream: &Node<'_>, env: &Env, retrievers: Retrievers<'_>) -> Result<Self> {
        let Some(node) = stream.get("schema_loader") else { return Ok(Self::none()) };
        match node.value {
            Value::List(_) => Self::composite(node.list(), env, retrievers),
            _ => Self::one(&node, env, retrievers),
        }
    }

    fn none() -> Self {
        Self::Fixed(Value::map(Map::new()))
    }

    fn one(node: &Node<'_>, env: &Env, retrievers: Retrievers<'_>) -> Result<Self> {
        match node.kind() {
            "InlineSchemaLoader" => {
                Ok(node.get("schema").map_or_else(Self::none, |node| Self::Fixed(node.value.clone())))
            }
            "CompositeSchemaLoader" => Self::composite(node.items("schema_loaders"), env, retrievers),
            "DynamicSchemaLoader" => Ok(Self::Dynamic(Box::new(dynamic::Dynamic::build(node, env, retrievers)?))),
            "JsonFileSchemaLoader" | "DefaultSchemaLoader" => {
                env.wire
                    .info("the schema of this stream is a file beside the manifest; its fields come from its records");
                Ok(Self::none())
            }
            _ => Err(node.unknown()),
        }
    }

    fn composite(nodes: Vec<Node<'_>>, env: &Env, retrievers: Retrievers<'_>) -> Result<Self> {
        if nodes.len() > MAX_SCHEMA_LOADERS {
            let message = format!("a stream has more than {MAX_SCHEMA_LOADERS} schema loaders");
            return Err(crate::error::RestError::config(message).at(nodes.first().map_or("", |node| &node.path)));
        }
        Ok(Self::Composite(nodes.iter().map(|node| Self::one(node, env, retrievers)).collect::<Result<_>>()?))
    }

    /// Whether requests are made to load it.
    pub fn is_dynamic(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Composite(loaders) => loaders.iter().any(Self::is_dynamic),
            Self::Dynamic(_) => true,
        }
    }

    /// The JSON Schema; an empty object where there is none.
    ///
    /// # Errors
    /// Of a dynamic loader: as reading records, or kind system where its record does not describe a schema.
    pub fn load(&self) -> LocalBoxFuture<'_, Result<Value>> {
        Box::pin(async move {
            match self {
                Self::Fixed(schema) => Ok(schema.clone()),
                Self::Dynamic(dynamic) => dynamic.load().await,
                Self::Composite(loaders) => {
                    let mut properties = Map::new();
                    for loader in loaders {
                        let schema = loader.load().await?;
                        let mut merged = schema.get("properties").and_then(Value::as_map).cloned().unwrap_or_default();
                        // Where two loaders know a property, the first counts.
                        merged.extend(properties);
                        properties = merged;
                    }
                    Ok(Value::map(Map::from_iter([
                        ("$schema".into(), Value::str("http://json-schema.org/draft-07/schema#")),
                        ("type".into(), Value::list(vec![Value::str("null"), Value::str("object")])),
                        ("properties".into(), Value::map(properties)),
                    ])))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;
    use crate::extract::stage::{env, json};

    struct Fixed(Option<Value>);

    impl FirstRecord for Fixed {
        fn first(&self) -> LocalBoxFuture<'_, Result<Option<Value>>> {
            Box::pin(std::future::ready(Ok(self.0.clone())))
        }
    }

    fn loaded(stream: &str, record: Option<&str>) -> Result<String> {
        let node = json(stream);
        let retrievers = |_: &Node<'_>| Ok(Rc::new(Fixed(record.map(json))) as Rc<dyn FirstRecord>);
        let loader = Loader::build(&Node::root(&node), &env(), &retrievers)?;
        loader.load().now_or_never().unwrap().map(|schema| schema.to_json())
    }

    #[test]
    fn the_first_of_several_loaders_counts() {
        let stream = r#"{"schema_loader":[
            {"type":"InlineSchemaLoader","schema":{"properties":{"a":{"type":"integer"}}}},
            {"type":"JsonFileSchemaLoader"},
            {"type":"InlineSchemaLoader","schema":{"properties":{"a":{"type":"string"},"b":{"type":"string"}}}}]}"#;
        assert_eq!(
            loaded(stream, None).unwrap(),
            concat!(
                r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":["null","object"],"#,
                r#""properties":{"a":{"type":"integer"},"b":{"type":"string"}}}"#
            )
        );
        assert_eq!(loaded("{}", None).unwrap(), "{}");
        let many = vec![r#"{"type":"InlineSchemaLoader"}"#; MAX_SCHEMA_LOADERS + 1].join(",");
        assert!(loaded(&format!(r#"{{"schema_loader":[{many}]}}"#), None).is_err());
    }

    fn dynamic(rest: &str) -> String {
        format!(
            r#"{{"schema_loader":{{"type":"DynamicSchemaLoader","retriever":{{"type":"SimpleRetriever"}},{rest}
            "schema_type_identifier":{{"schema_pointer":["fields"],"key_pointer":["name"],"type_pointer":["kind","of"],
            "types_mapping":[{{"current_type":"text","target_type":"string"}},
            {{"current_type":"list","target_type":{{"field_type":"array","items":"integer"}}}},
            {{"current_type":["a","b"],"target_type":["string","number"]}}]}}}}}}"#
        )
    }

    #[test]
    fn a_source_describes_its_own_fields() {
        let record = r#"{"fields":[{"name":"A","kind":{"of":"text"}},{"name":"b","kind":{"of":"list"}},
            {"name":"c","kind":{"of":["a","b"]}},{"name":"d"},{"name":"e","kind":{"of":"timestamp_with_timezone"}}]}"#;
        let schema = loaded(&dynamic(r#""schema_transformations":[{"type":"KeysToLower"}],"#), Some(record)).unwrap();
        assert_eq!(
            json(&schema).get("properties").unwrap().to_json(),
            concat!(
                r#"{"a":{"type":["null","string"]},"b":{"type":["null","array"],"items":{"type":["null","integer"]}},"#,
                r#""c":{"oneOf":[{"type":["null","string"]},{"type":["null","number"]}]},"d":{"type":["null","string"]},"#,
                r#""e":{"type":["null","string"],"format":"date-time"}}"#
            )
        );
        assert!(loaded(&dynamic(""), None).unwrap().contains(r#""properties":{}"#));
    }

    #[test]
    fn a_description_that_does_not_fit_is_an_error() {
        let error = |record: &str| loaded(&dynamic(""), Some(record)).unwrap_err().to_string();
        let at = "schema_loader: ";
        assert_eq!(error(r#"{"x":1}"#), format!("{at}the description of the schema has no array at `fields`"));
        assert_eq!(
            error(r#"{"fields":[{"name":1}]}"#),
            format!("{at}a field of the described schema has no name at `name`")
        );
        assert!(error(r#"{"fields":[{"name":"a","kind":{"of":"odd"}}]}"#).contains("`odd` is no type of a field"));
    }
}
