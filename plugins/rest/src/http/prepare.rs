//! One request as it is sent: the reference's `requests` puts it together the same way. Pure.

use super::{options::RequestParts, text, url};
use crate::{value::Value, wire::Exchange};

/// Methods whose requests carry a body.
const WITH_BODY: [&str; 4] = ["GET", "POST", "PUT", "PATCH"];

/// # Errors
/// One sentence: parameters or bodies that cannot be sent, an address that is none.
pub fn prepare(method: &str, address: &str, parts: &RequestParts) -> Result<Exchange, String> {
    if let Some((name, _)) = parts.params.iter().find(|(_, value)| matches!(value, Value::Map(_))) {
        return Err(format!(
            "the request parameter `{name}` became an object; only text, numbers and lists can be sent"
        ));
    }
    let params = url::without_repeated(address, parts.params.clone());
    let Some(url) = url::prepare(address, &params) else {
        let shown = url::plain(address);
        return Err(format!(
            "the address `{shown}` is no http:// or https:// URL; look at `url`, `url_base` and `path`"
        ));
    };
    let mut exchange = Exchange { method: method.to_owned(), url, ..Exchange::default() };
    for (name, value) in &parts.headers {
        set_header(&mut exchange.headers, name, text::text(value));
    }
    if WITH_BODY.contains(&method) {
        let kind = body(&mut exchange, parts)?;
        let known = exchange.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if let Some(kind) = kind.filter(|_| !known) {
            exchange.headers.push(("Content-Type".into(), kind.into()));
        }
    }
    if exchange.headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("accept")) {
        exchange.headers.push(("Accept".into(), "*/*".into()));
    }
    Ok(exchange)
}

/// Replaces a header of this name in whatever case.
pub fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: String) {
    match headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some(header) => *header = (name.to_owned(), value),
        None => headers.push((name.to_owned(), value)),
    }
}

/// Fills in the body; what kind it is, where that has to be said.
fn body(exchange: &mut Exchange, parts: &RequestParts) -> Result<Option<&'static str>, String> {
    let (json, data) = (&parts.body_json, &parts.body_data);
    match (json.truthy(), data.truthy()) {
        (true, true) => Err("a request has either a form or text, or a JSON body, not both".into()),
        (true, false) if json.as_str().is_some() => {
            Err("the JSON body became text; write it as an object, or use a body of plain text".into())
        }
        (true, false) => {
            exchange.body = text::json(json).into_bytes();
            Ok(Some("application/json"))
        }
        (false, true) => match data {
            Value::Map(map) => {
                exchange.body = text::form(map.iter()).into_bytes();
                Ok(Some("application/x-www-form-urlencoded"))
            }
            data => {
                exchange.body = text::text(data).into_bytes();
                Ok(None)
            }
        },
        (false, false) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_form_and_a_json_body_say_what_they_are_and_text_does_not() {
        let sent = |parts: RequestParts| {
            let exchange = prepare("POST", "https://a.com/x", &parts).unwrap();
            let kind = exchange.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            (String::from_utf8(exchange.body).unwrap(), kind.map(|(_, kind)| kind.clone()))
        };
        let json = RequestParts { body_json: value(r#"{"a":{"b":1}}"#), ..RequestParts::default() };
        assert_eq!(sent(json.clone()), (r#"{"a": {"b": 1}}"#.into(), Some("application/json".into())));
        let headers = value(r#"{"content-type":"application/vnd+json"}"#).as_map().unwrap().clone();
        assert_eq!(sent(RequestParts { headers, ..json }).1.unwrap(), "application/vnd+json");
        let form = RequestParts { body_data: value(r#"{"a":"b c"}"#), ..RequestParts::default() };
        assert_eq!(sent(form), ("a=b+c".into(), Some("application/x-www-form-urlencoded".into())));
        let plain = RequestParts { body_data: value(r#""<x/>""#), ..RequestParts::default() };
        assert_eq!(sent(plain), ("<x/>".into(), None));
    }

    #[test]
    fn what_cannot_be_sent_is_said_in_a_sentence() {
        let both =
            RequestParts { body_data: value(r#"{"a":1}"#), body_json: value(r#"{"a":1}"#), ..Default::default() };
        assert!(prepare("POST", "https://a.com", &both).unwrap_err().contains("not both"));
        let object = RequestParts { params: value(r#"{"p":{"x":1}}"#).as_map().unwrap().clone(), ..Default::default() };
        assert!(prepare("GET", "https://a.com", &object).unwrap_err().contains("`p`"));
        assert!(prepare("GET", "a.com/x?key=1", &RequestParts::default()).unwrap_err().contains("`a.com/x`"));
    }
}
