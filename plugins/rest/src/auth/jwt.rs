//! `JwtAuthenticator`: a signed token. Signed by the host; without it here, where the algorithm is an HMAC.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use futures_util::future::LocalBoxFuture;
use hmac::Hmac;
use sha2::{Sha256, Sha384, Sha512};

use super::{
    Authenticator,
    order::{self, JwtOrder, Placement},
    token::template,
};
use crate::{
    error::{RestError, Result},
    http::{RequestOption, RequestParts},
    interpolation::{Scope, Template, TemplateTree},
    node::Node,
    stream::Env,
    value::{Map, Value},
};

/// In seconds, where a manifest does not say.
const DEFAULT_DURATION: i64 = 1200;
const ALGORITHMS: [&str; 14] = [
    "HS256", "HS384", "HS512", "ES256", "ES256K", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384",
    "PS512", "EdDSA",
];

pub struct Jwt {
    env: Env,
    /// Path inside the manifest.
    pub at: String,
    algorithm: String,
    key: Template,
    key_base64: bool,
    passphrase: Option<Template>,
    prefix: Option<Template>,
    headers: Claims,
    payload: Claims,
    duration: i64,
    /// `None` stands for the header `Authorization`.
    option: Option<RequestOption>,
}

/// Members that have a name of their own, and further ones.
struct Claims {
    named: Vec<(&'static str, Template)>,
    further: Option<TemplateTree>,
    reserved: &'static [&'static str],
    at: String,
}

impl Claims {
    fn build(
        node: &Node<'_>,
        (own, further): (&str, &str),
        names: &[&'static str],
        reserved: &'static [&'static str],
    ) -> Result<Self> {
        let own = node.get(own);
        let mut named = Vec::new();
        for name in names {
            if let Some(template) = own.as_ref().map(|own| template(own, name)).transpose()?.flatten() {
                named.push((*name, template));
            }
        }
        let more = node.get(further);
        let at = more.as_ref().map_or_else(|| node.path.clone(), |more| more.path.clone());
        let further = more.map(|more| TemplateTree::new(&more, node)).transpose()?;
        Ok(Self { named, further, reserved, at })
    }

    fn evaluate(&self, scope: &Scope) -> Result<Map> {
        let mut map = self.further.as_ref().map_or(Ok(Map::new()), |tree| tree.mapping(scope))?;
        if let Some(name) = self.reserved.iter().find(|name| map.contains_key(**name)) {
            return Err(RestError::config(format!("`{name}` cannot be set here")).at(&self.at));
        }
        for (name, template) in &self.named {
            map.insert((*name).to_owned(), template.value(scope)?);
        }
        Ok(map)
    }
}

impl Jwt {
    /// # Errors
    /// Kind config, naming what is wrong.
    pub fn build(node: &Node<'_>, env: &Env) -> Result<Self> {
        let algorithm = node.need("algorithm")?;
        let name = algorithm.text()?;
        if !ALGORITHMS.contains(&name) {
            return Err(algorithm.wrong(format!("`{name}` is no algorithm for signed tokens")));
        }
        Ok(Self {
            env: env.clone(),
            at: node.path.clone(),
            algorithm: name.to_owned(),
            key: Template::new(&node.need("secret_key")?, node)?,
            key_base64: flag(node, "base64_encode_secret_key", env)?,
            passphrase: template(node, "passphrase")?,
            prefix: template(node, "header_prefix")?,
            headers: Claims::build(
                node,
                ("jwt_headers", "additional_jwt_headers"),
                &["kid", "typ", "cty"],
                &["kid", "alg", "typ", "cty"],
            )?,
            payload: Claims::build(
                node,
                ("jwt_payload", "additional_jwt_payload"),
                &["iss", "sub", "aud"],
                &["iss", "sub", "aud", "iat", "exp", "nbf"],
            )?,
            duration: node.int("token_duration")?.unwrap_or(DEFAULT_DURATION),
            option: node.get("request_option").map(|option| RequestOption::build(&option)).transpose()?,
        })
    }

    /// # Errors
    /// Kind config where a template fails.
    pub fn order(&self, placement: Placement) -> Result<JwtOrder> {
        let scope = self.env.scope();
        let mut headers = self.headers.evaluate(&scope)?;
        headers.entry("typ".into()).or_insert_with(|| Value::str("JWT"));
        let passphrase = self.passphrase.as_ref().map(|phrase| phrase.text(&scope)).transpose()?;
        Ok(JwtOrder {
            algorithm: self.algorithm.clone(),
            key: self.key.text(&scope)?,
            key_base64: self.key_base64,
            passphrase: passphrase.filter(|phrase| !phrase.is_empty()),
            headers,
            payload: self.payload.evaluate(&scope)?,
            iat_now: true,
            nbf_now: true,
            exp_in_s: Some(self.duration),
            placement,
        })
    }

    /// What stands before the token, with the space.
    ///
    /// # Errors
    /// Kind config where the template fails.
    pub fn prefix(&self) -> Result<String> {
        let prefix = self.prefix.as_ref().map_or(Ok(String::new()), |prefix| prefix.text(&self.env.scope()))?;
        Ok(if prefix.is_empty() { prefix } else { format!("{prefix} ") })
    }

    /// The token, signed here.
    ///
    /// # Errors
    /// Kind config where the algorithm is none for here.
    pub fn signed(&self) -> Result<String> {
        let order = self.order(Placement::placeholder(&self.at))?;
        sign(&order, self.env.wire.now_us().div_euclid(1_000_000))
            .map_err(|told| RestError::config(format!("stream `{}`: {told}", self.env.stream)).at(&self.at))
    }
}

impl Authenticator for Jwt {
    fn parts(&self) -> LocalBoxFuture<'_, Result<RequestParts>> {
        Box::pin(async {
            let scope = self.env.scope();
            let token = match (&self.option, self.env.orders) {
                (None, true) => {
                    return Ok(self.order(Placement::header("Authorization".into(), self.prefix()?))?.parts());
                }
                (Some(_), true) => format!("{}{}", self.prefix()?, order::placeholder(&self.at)),
                (_, false) => format!("{}{}", self.prefix()?, self.signed()?),
            };
            let mut parts = RequestParts::default();
            match &self.option {
                None => drop(parts.headers.insert("Authorization".into(), Value::str(token))),
                Some(option) => option.inject(&mut parts, Value::str(token), &scope)?,
            }
            if self.env.orders {
                parts.headers.extend(self.order(Placement::placeholder(&self.at))?.parts().headers);
            }
            Ok(parts)
        })
    }
}

/// True, or a template that becomes true.
pub(super) fn flag(node: &Node<'_>, name: &str, env: &Env) -> Result<bool> {
    match node.get(name) {
        None => Ok(false),
        Some(member) => match member.value {
            Value::Bool(flag) => Ok(*flag),
            _ => Template::new(&member, node)?.boolean(&env.scope()),
        },
    }
}

/// A token signed with an HMAC.
fn sign(order: &JwtOrder, now_s: i64) -> Result<String, String> {
    let mut headers = order.headers.clone();
    headers.insert("alg".into(), Value::str(&order.algorithm));
    headers.retain(|name, value| name != "typ" || value.truthy());
    // The reference's library sorts headers, and not the payload.
    headers.sort_keys();
    let mut payload = order.payload.clone();
    payload.insert("iat".into(), Value::Int(now_s));
    payload.insert("exp".into(), Value::Int(now_s.saturating_add(order.exp_in_s.unwrap_or(0))));
    payload.insert("nbf".into(), Value::Int(now_s));
    let part = |map: Map| BASE64_URL_SAFE_NO_PAD.encode(Value::map(map).to_json());
    let signed = format!("{}.{}", part(headers), part(payload));
    let key = if order.key_base64 { BASE64_STANDARD.encode(&order.key) } else { order.key.clone() };
    if order.passphrase.is_some() {
        return Err("a key with a passphrase is signed with by the host only".into());
    }
    let signature = match order.algorithm.as_str() {
        "HS256" => mac::<Hmac<Sha256>>(key.as_bytes(), &signed),
        "HS384" => mac::<Hmac<Sha384>>(key.as_bytes(), &signed),
        "HS512" => mac::<Hmac<Sha512>>(key.as_bytes(), &signed),
        algorithm => {
            return Err(format!("tokens by `{algorithm}` are signed by the host only, and there is none here"));
        }
    };
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

fn mac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <M as hmac::KeyInit>::new_from_slice(key).expect("an HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
