//! Schemas that the source itself describes: one record lists the fields of others.

use std::rc::Rc;

use super::{FirstRecord, Retrievers};
use crate::{
    error::{RestError, Result},
    extract::{dpath::Path, parts, transform::Transformation},
    interpolation::Template,
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// `DynamicSchemaLoader`.
pub struct Dynamic {
    retriever: Rc<dyn FirstRecord>,
    schema: Path,
    key: Path,
    kind: Option<Path>,
    types: Vec<Mapped>,
    filter: Option<Template>,
    transformations: Vec<Transformation>,
    env: Env,
    at: String,
}

/// One entry of `types_mapping`.
struct Mapped {
    current: Value,
    target: Value,
    condition: Option<Template>,
}

impl Dynamic {
    pub fn build(node: &Node<'_>, env: &Env, retrievers: Retrievers<'_>) -> Result<Self> {
        let identifier = node.need("schema_type_identifier")?;
        let kind = identifier.get("type_pointer").map(|_| parts::path(&identifier, "type_pointer", env)).transpose()?;
        let types = identifier.items("types_mapping").iter().map(mapped).collect::<Result<_>>()?;
        let filter = node.get("schema_filter").map(|filter| Template::new(&filter.need("condition")?, &filter));
        let transformations = node.items("schema_transformations");
        Ok(Self {
            retriever: retrievers(&node.need("retriever")?)?,
            schema: parts::path(&identifier, "schema_pointer", env)?,
            key: parts::path(&identifier, "key_pointer", env)?,
            kind,
            types,
            filter: filter.transpose()?,
            transformations: transformations
                .iter()
                .map(|node| Transformation::build(node, env))
                .collect::<Result<_>>()?,
            env: env.clone(),
            at: node.path.clone(),
        })
    }

    pub async fn load(&self) -> Result<Value> {
        let record = self.retriever.first().await?.filter(Value::truthy);
        self.schema(record.as_ref()).map_err(|error| error.at(&self.at))
    }

    fn schema(&self, record: Option<&Value>) -> Result<Value> {
        let found = record.map(|record| one(&self.schema, record)).transpose()?;
        let definitions = match found {
            None => Vec::new(),
            Some(Some(Value::List(list))) => list.to_vec(),
            Some(_) => {
                let message = format!("the description of the schema has no array at `{}`", self.schema);
                return Err(RestError::system(message));
            }
        };
        let mut properties = Map::new();
        for definition in &definitions {
            let key = one(&self.key, definition)?.and_then(|key| key.as_str().map(str::to_owned));
            let Some(key) = key else {
                let message = format!("a field of the described schema has no name at `{}`", self.key);
                return Err(RestError::system(message));
            };
            properties.insert(key, self.kind_of(definition)?);
        }
        let properties = self.transform(self.kept(properties)?)?;
        Ok(Value::map(Map::from_iter([
            ("$schema".into(), Value::str("https://json-schema.org/draft-07/schema#")),
            ("type".into(), Value::str("object")),
            ("additionalProperties".into(), Value::Bool(true)),
            ("properties".into(), properties),
        ])))
    }

    fn kept(&self, properties: Map) -> Result<Map> {
        let Some(filter) = &self.filter else { return Ok(properties) };
        let mut scope = self.env.scope().with("stream_slice", Value::Null).with("next_page_token", Value::Null);
        let mut kept = Map::new();
        for (name, schema) in properties {
            let record = Map::from_iter([(name.clone(), schema.clone())]);
            scope.set("record", Value::map(record));
            if filter.boolean(&scope)? {
                kept.insert(name, schema);
            }
        }
        Ok(kept)
    }

    fn transform(&self, properties: Map) -> Result<Value> {
        let mut scope = self.env.scope().with("stream_slice", Value::Null);
        let mut properties = Value::map(properties);
        self.transformations.iter().try_for_each(|change| change.apply(&mut properties, &mut scope))?;
        Ok(properties)
    }

    /// The JSON Schema of one field.
    fn kind_of(&self, definition: &Value) -> Result<Value> {
        let found = match &self.kind {
            Some(path) => one(path, definition)?,
            None => None,
        };
        let named = self.target(found.unwrap_or_else(|| Value::str("string")), definition)?;
        match &named {
            Value::Str(name) => known(name),
            Value::List(names) => match &names[..] {
                [Value::Str(one), Value::Str(other)] => {
                    let choices = Value::list(vec![known(one)?, known(other)?]);
                    Ok(Value::map(Map::from_iter([("oneOf".into(), choices)])))
                }
                _ => Err(invalid(&named)),
            },
            Value::Map(_) if named.get("field_type").is_some() => complex(&named, 0),
            _ => Err(invalid(&named)),
        }
    }

    fn target(&self, kind: Value, definition: &Value) -> Result<Value> {
        for mapped in self.types.iter().filter(|mapped| mapped.current == kind) {
            let holds = match &mapped.condition {
                Some(condition) => condition.boolean(&self.env.scope().with("raw_schema", definition.clone()))?,
                None => true,
            };
            if holds {
                return Ok(mapped.target.clone());
            }
        }
        Ok(kind)
    }
}

fn mapped(node: &Node<'_>) -> Result<Mapped> {
    Ok(Mapped {
        current: node.need("current_type")?.value.clone(),
        target: node.need("target_type")?.value.clone(),
        condition: node.get("condition").map(|condition| Template::new(&condition, node)).transpose()?,
    })
}

/// The value at a path; an empty path means the value itself.
fn one(path: &Path, value: &Value) -> Result<Option<Value>> {
    path.get(value).map(|found| found.cloned()).map_err(RestError::config)
}

/// `ComplexFieldType`: an array of something.
fn complex(named: &Value, depth: usize) -> Result<Value> {
    const DEEPEST: usize = 16;
    let field_type = named.get("field_type").and_then(Value::as_str).unwrap_or_default();
    let mut schema = known(field_type)?;
    let items = match named.get("items").filter(|items| items.truthy()) {
        None => return Ok(schema),
        Some(_) if field_type != "array" || depth > DEEPEST => return Err(invalid(named)),
        Some(Value::Str(name)) => known(name)?,
        Some(items) => complex(items, depth + 1)?,
    };
    schema.map_mut().insert("items".into(), items);
    Ok(schema)
}

/// The types that Airbyte has names for.
fn known(name: &str) -> Result<Value> {
    let (kind, format, airbyte) = match name {
        "string" | "boolean" | "integer" | "number" | "array" | "object" => (name, None, None),
        "date" => ("string", Some("date"), None),
        "timestamp_without_timezone" => ("string", Some("date-time"), Some(name)),
        "timestamp_with_timezone" => ("string", Some("date-time"), None),
        "time_without_timezone" | "time_with_timezone" => ("string", Some("time"), Some(name)),
        _ => {
            let message = format!("`{name}` is no type of a field; map it in `types_mapping`");
            return Err(RestError::config(message));
        }
    };
    let mut schema = Map::from_iter([("type".to_owned(), Value::list(vec![Value::str("null"), Value::str(kind)]))]);
    schema.extend(format.map(|format| ("format".to_owned(), Value::str(format))));
    schema.extend(airbyte.map(|name| ("airbyte_type".to_owned(), Value::str(name))));
    Ok(Value::map(schema))
}

fn invalid(named: &Value) -> RestError {
    let named = named.to_json();
    RestError::config(format!("{named} is no type of a field: a name, two names or an array of something is wanted"))
}
