//! The configuration: the manifest's own, with its secrets in place.

use crate::{
    error::{RestError, Result},
    manifest::{self, Manifest},
    value::{Map, Value},
};

/// A manifest and its own configuration.
#[derive(Debug)]
pub struct Setting {
    pub manifest: Manifest,
    pub config: Value,
    /// Where the clock stands, for comparisons.
    pub now_us: Option<i64>,
}

impl Setting {
    /// With a manifest inside the component (`preset`) the configuration is the manifest's own; else it is
    /// `{manifest, config, secrets}`, where `secrets` holds values by dotted path so that they can be kept apart.
    ///
    /// # Errors
    /// Kind config: no manifest, one that cannot be read, a secret whose path leads through text.
    pub fn read(given: &Value, preset: Option<Result<Manifest>>) -> Result<Self> {
        if let Some(manifest) = preset {
            return Ok(Self { manifest: manifest?, config: given.clone(), now_us: None });
        }
        let manifest = match given.get("manifest") {
            Some(Value::Str(text)) => manifest::load(text.as_bytes())?,
            Some(object @ Value::Map(_)) => Manifest::new(object)?,
            _ => return Err(RestError::config("the setting `manifest` is missing: give the manifest's text")),
        };
        let mut config = given.get("config").cloned().unwrap_or_else(|| Value::map(Map::new()));
        for (path, secret) in given.get("secrets").and_then(Value::as_map).into_iter().flatten() {
            put(&mut config, path, secret)?;
        }
        Ok(Self { manifest, config, now_us: given.get("now_us").and_then(Value::as_int) })
    }
}

fn put(config: &mut Value, path: &str, secret: &Value) -> Result<()> {
    let mut at = config;
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        if !matches!(at, Value::Map(_)) {
            return Err(RestError::config(format!("secrets: `{path}` leads through a setting that is no object")));
        }
        let map = at.map_mut();
        if keys.peek().is_none() {
            map.insert(key.to_owned(), secret.clone());
            return Ok(());
        }
        at = map.entry(key.to_owned()).or_insert_with(|| Value::map(Map::new()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_find_their_places() {
        let mut config = Value::from_json(br#"{"a":{"b":1},"c":"text"}"#).unwrap();
        put(&mut config, "a.key", &"k".into()).unwrap();
        put(&mut config, "new.deep", &"d".into()).unwrap();
        assert_eq!(config.to_json(), r#"{"a":{"b":1,"key":"k"},"c":"text","new":{"deep":"d"}}"#);
        assert!(put(&mut config, "c.d", &"x".into()).is_err());
    }
}
