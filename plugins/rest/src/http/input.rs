//! What a requester itself puts into its requests: parameters, headers and a body, all of them templates.

use super::{options::RequestParts, text};
use crate::{
    error::Result,
    interpolation::{Allowed, Scope, Template, TemplateTree},
    node::Node,
    value::{Map, Value},
};

/// `request_parameters`, `request_headers`, `request_body_data`: an object of templates, or one template.
#[derive(Debug, Clone)]
enum Flat {
    Text(Template),
    Members(TemplateTree),
}

impl Flat {
    fn build(node: Option<&Node<'_>>, component: &Node<'_>) -> Result<Option<Self>> {
        let Some(node) = node else { return Ok(None) };
        match node.value {
            Value::Map(map) if map.is_empty() => Ok(None),
            Value::Str(text) if text.is_empty() => Ok(None),
            Value::Map(_) => Ok(Some(Self::Members(TemplateTree::new(node, component)?))),
            Value::Str(_) => Ok(Some(Self::Text(Template::new(node, component)?))),
            _ => Err(node.wrong("this has to be an object or text")),
        }
    }

    /// Members that become null are left out.
    fn evaluate(&self, scope: &Scope, allowed: Allowed) -> Result<Value> {
        match self {
            Self::Text(template) => template.value(scope),
            Self::Members(tree) => {
                let members = tree.mapping_as(scope, allowed)?.into_iter().filter(|(_, value)| !value.is_null());
                Ok(Value::map(members.collect()))
            }
        }
    }

    fn members(&self, scope: &Scope, allowed: Allowed) -> Result<Map> {
        Ok(self.evaluate(scope, allowed)?.as_map().cloned().unwrap_or_default())
    }
}

#[derive(Debug, Clone)]
enum Json {
    Text(Template),
    Tree(TemplateTree),
}

/// All of them, built once.
#[derive(Debug, Clone)]
pub struct Inputs {
    params: Option<Flat>,
    headers: Option<Flat>,
    data: Option<Flat>,
    json: Option<Json>,
    /// The parameter that a chunk of properties fills (`QueryProperties`).
    properties: Option<String>,
}

impl Inputs {
    /// # Errors
    /// Kind config: two bodies, an unknown kind of body, a template that is none.
    pub fn build(node: &Node<'_>) -> Result<Self> {
        let (mut data, mut json) = (node.get("request_body_data"), node.get("request_body_json"));
        if let Some(body) = node.get("request_body") {
            let value = body.need("value")?;
            match body.kind() {
                "RequestBodyUrlEncodedForm" | "RequestBodyPlainText" => data = Some(value),
                "RequestBodyJsonObject" | "RequestBodyGraphQL" => json = Some(value),
                _ => return Err(body.unknown()),
            }
        }
        let params = node.get("request_parameters");
        let properties = params.as_ref().and_then(properties_name);
        let mut kept = params.as_ref().map(|params| params.value.clone());
        if let (Some(kept), Some(name)) = (&mut kept, &properties) {
            kept.map_mut().shift_remove(name);
        }
        let params = match (&kept, params) {
            (Some(value), Some(node)) => Some(Node { value, path: node.path }),
            _ => None,
        };
        let inputs = Self {
            params: Flat::build(params.as_ref(), node)?,
            headers: Flat::build(node.get("request_headers").as_ref(), node)?,
            data: Flat::build(data.as_ref(), node)?,
            json: json.map(|json| json_input(&json, node)).transpose()?.flatten(),
            properties,
        };
        if inputs.data.is_some() && inputs.json.is_some() {
            return Err(node.wrong("a request has either a form or text, or a JSON body, not both"));
        }
        Ok(inputs)
    }

    /// # Errors
    /// Kind config where a template fails or gives what the place cannot hold.
    pub fn evaluate(&self, scope: &Scope) -> Result<RequestParts> {
        let members =
            |flat: &Option<Flat>, allowed| flat.as_ref().map_or(Ok(Map::new()), |flat| flat.members(scope, allowed));
        let mut parts = RequestParts { params: members(&self.params, Allowed::TextOrList)?, ..RequestParts::default() };
        for (name, value) in members(&self.headers, Allowed::Any)? {
            parts.headers.insert(name, Value::str(text::text(&value)));
        }
        if let Some(name) = &self.properties {
            let chunk = scope.get("query_properties").and_then(Value::as_list).unwrap_or_default();
            let names: Vec<String> = chunk.iter().map(text::text).collect();
            parts.params.insert(name.clone(), Value::str(names.join(",")));
        }
        parts.body_data =
            self.data.as_ref().map_or(Ok(Value::Null), |data| data.evaluate(scope, Allowed::TextOrList))?;
        parts.body_json = match &self.json {
            None => Value::Null,
            Some(Json::Text(template)) => template.value(scope)?,
            Some(Json::Tree(tree)) => tree.nested(scope)?,
        };
        Ok(parts)
    }
}

fn json_input(node: &Node<'_>, component: &Node<'_>) -> Result<Option<Json>> {
    match node.value {
        Value::Map(map) if map.is_empty() => Ok(None),
        Value::Str(text) if text.is_empty() => Ok(None),
        Value::Str(_) => Ok(Some(Json::Text(Template::new(node, component)?))),
        _ => Ok(Some(Json::Tree(TemplateTree::new(node, component)?))),
    }
}

fn properties_name(params: &Node<'_>) -> Option<String> {
    let members = params.members().into_iter();
    members.filter(|(_, node)| node.kind() == "QueryProperties").map(|(name, _)| name.to_owned()).next()
}
