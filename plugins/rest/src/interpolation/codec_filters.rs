//! Filters that encode, hash and quote.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{KeyInit as _, Mac as _};
use md5::Digest as _;

use super::{
    fault::{Fault, Outcome},
    machine::Arguments,
    object::Object,
    show,
};

pub const NAMES: [&str; 8] =
    ["base64binascii_decode", "base64decode", "base64encode", "hash", "hmac", "string", "tojson", "urlencode"];

/// # Errors
/// What Python would raise.
pub fn apply(name: &str, value: &Object, args: Arguments) -> Outcome<Object> {
    if matches!(name, "base64encode" | "base64decode" | "base64binascii_decode" | "string" | "urlencode") {
        args.exactly::<0>(name, [])?;
        return plain(name, value);
    }
    Ok(Object::str(match name {
        "hash" => {
            let bound = args.bind(name, &["hash_type", "salt"])?;
            let kind = bound[0].as_ref().map_or_else(|| "md5".into(), show::text);
            let salt = bound[1].as_ref().filter(|salt| salt.truthy()).map(show::text).unwrap_or_default();
            hash(&kind, (show::text(value) + &salt).as_bytes())?
        }
        "hmac" => {
            let bound = args.bind(name, &["key", "hash_type"])?;
            let key = bound[0].as_ref().map(show::text).ok_or_else(|| Fault::type_error("hmac needs a key"))?;
            if bound[1].as_ref().is_some_and(|kind| show::text(kind) != "sha256") {
                return Err(Fault::other("hmac works with sha256 only"));
            }
            let mut mac =
                hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length is good");
            mac.update(show::text(value).as_bytes());
            hex::encode(mac.finalize().into_bytes())
        }
        _ => {
            args.exactly::<0>(name, [])?;
            let json = show::json(value, true)?;
            // As HTML wants it: Jinja makes no difference.
            json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027")
        }
    }))
}

/// Filters without arguments.
fn plain(name: &str, value: &Object) -> Outcome<Object> {
    if name == "string" {
        return Ok(match value {
            Object::Str(_) => value.clone(),
            other => Object::str(format!("\"\"\"{}\"\"\"", show::json(other, false)?)),
        });
    }
    if name == "urlencode" {
        return urlencode(value);
    }
    let text = match value {
        Object::Str(text) => text,
        Object::Undefined(what) => return Err(Object::missing(what)),
        other => return Err(Fault::other(format!("'{}' object has no attribute 'encode'", other.type_name()))),
    };
    Ok(Object::str(match name {
        "base64encode" => STANDARD.encode(text.as_bytes()),
        // The reference encodes here as well, whatever the name says.
        "base64binascii_decode" if text.is_ascii() => STANDARD.encode(text.as_bytes()),
        "base64binascii_decode" => return Err(Fault::other("'ascii' codec can't encode a character")),
        _ => decode(text)?,
    }))
}

/// Python drops what is not of the alphabet, and asks for the padding.
fn decode(text: &str) -> Outcome<String> {
    let kept: Vec<u8> = text.bytes().filter(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)).collect();
    let data = kept.iter().position(|byte| *byte == b'=').map_or(&kept[..], |at| &kept[..at]);
    let padding = kept.len() - data.len();
    if data.len() % 4 == 1 || padding < (4 - data.len() % 4) % 4 {
        return Err(Fault::other("incorrect base64 padding"));
    }
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
            .with_decode_allow_trailing_bits(true),
    );
    let bytes = engine.decode(data).map_err(|_| Fault::other("this is no base64"))?;
    String::from_utf8(bytes).map_err(|_| Fault::other("what base64 holds is not UTF-8"))
}

fn hash(kind: &str, bytes: &[u8]) -> Outcome<String> {
    Ok(match kind {
        "md5" => hex::encode(md5::Md5::digest(bytes)),
        "sha1" => hex::encode(sha1::Sha1::digest(bytes)),
        "sha224" => hex::encode(sha2::Sha224::digest(bytes)),
        "sha256" => hex::encode(sha2::Sha256::digest(bytes)),
        "sha384" => hex::encode(sha2::Sha384::digest(bytes)),
        "sha512" => hex::encode(sha2::Sha512::digest(bytes)),
        _ => return Err(Fault::other(format!("there is no hash function `{kind}`; use md5, sha1, sha256 or sha512"))),
    })
}

/// `urllib.parse.quote`: letters, digits, `_.-~` and what is `safe` stay; with `plus` a space becomes `+`.
pub fn quote(text: &str, safe: &[u8], plus: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.contains(&byte) {
            out.push(char::from(byte));
        } else if byte == b' ' && plus {
            out.push('+');
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn urlencode(value: &Object) -> Outcome<Object> {
    let pairs = match value {
        Object::Dict(dict) => dict.pairs(),
        Object::List(_) | Object::Tuple(_) | Object::Set(_) | Object::Undefined(_) => {
            let mut pairs = Vec::new();
            for pair in value.items()? {
                let [key, value]: [Object; 2] =
                    pair.items()?.try_into().map_err(|_| Fault::other("urlencode takes pairs"))?;
                pairs.push((key, value));
            }
            pairs
        }
        other => return Ok(Object::str(quote(&show::text(other), b"/", false))),
    };
    let part = |object: &Object| quote(&show::text(object), b"", true);
    let parts: Vec<String> = pairs.iter().map(|(key, value)| format!("{}={}", part(key), part(value))).collect();
    Ok(Object::str(parts.join("&")))
}
