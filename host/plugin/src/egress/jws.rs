//! Signatures of JSON Web Tokens: from an algorithm's name and a key's text to the bytes of a signature.
//!
//! Owns which algorithms and spellings of keys there are. Must never quote a key in an error.

use hmac::{Hmac, KeyInit, Mac};
use ring::{rand::SystemRandom, signature};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    pem::{self, PemObject},
};
use sha2::{Sha256, Sha384, Sha512};

/// Object identifiers of `id-ecPublicKey` with P-256 and with P-384, as an AlgorithmIdentifier holds them.
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
const P384: &[u8] =
    &[0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// The signature of `input`, or why there is none, as the end of a sentence.
pub(super) fn sign(algorithm: &str, key: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    match algorithm {
        "HS256" => hmac_of::<Hmac<Sha256>>(key, input),
        "HS384" => hmac_of::<Hmac<Sha384>>(key, input),
        "HS512" => hmac_of::<Hmac<Sha512>>(key, input),
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256, key, input),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384, key, input),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512, key, input),
        "PS256" => rsa(&signature::RSA_PSS_SHA256, key, input),
        "PS384" => rsa(&signature::RSA_PSS_SHA384, key, input),
        "PS512" => rsa(&signature::RSA_PSS_SHA512, key, input),
        "ES256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, P256, key, input),
        "ES384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, P384, key, input),
        "EdDSA" => eddsa(key, input),
        _ => Err("its algorithm is not one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
                  ES384 and EdDSA"
            .to_owned()),
    }
}

/// Whether the algorithm shares one secret between both sides.
pub(super) fn is_symmetric(algorithm: &str) -> bool {
    algorithm.starts_with("HS")
}

fn hmac_of<M: Mac + KeyInit>(key: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    // A public key taken for a secret would let anybody sign.
    if key.contains("-----BEGIN ") {
        return Err("its key is a PEM, which an HS algorithm does not take: choose RS256 or another one".to_owned());
    }
    if key.is_empty() {
        return Err("its key is empty".to_owned());
    }
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes()).map_err(|_| "its key is too long".to_owned())?;
    mac.update(input);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn rsa(padding: &'static dyn signature::RsaEncoding, key: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    let pair = match private_key(key)? {
        PrivateKeyDer::Pkcs8(der) => signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => signature::RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err("its key is no RSA key".to_owned()),
    };
    let pair = pair.map_err(|error| format!("its key is no RSA key of 2048 to 4096 bits ({error})"))?;
    let mut signed = vec![0; pair.public().modulus_len()];
    let done = pair.sign(padding, &SystemRandom::new(), input, &mut signed);
    done.map_err(|_| "the signature failed".to_owned())?;
    Ok(signed)
}

fn ecdsa(
    curve: &'static signature::EcdsaSigningAlgorithm,
    identifier: &[u8],
    key: &str,
    input: &[u8],
) -> Result<Vec<u8>, String> {
    let random = SystemRandom::new();
    let pair = match private_key(key)? {
        PrivateKeyDer::Pkcs8(der) => signature::EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der(), &random),
        PrivateKeyDer::Sec1(der) => {
            signature::EcdsaKeyPair::from_pkcs8(curve, &wrapped(der.secret_sec1_der(), identifier), &random)
        }
        _ => return Err("its key is no key of an elliptic curve".to_owned()),
    };
    let pair = pair.map_err(|error| format!("its key is not one of the algorithm's curve ({error})"))?;
    let signed = pair.sign(&random, input).map_err(|_| "the signature failed".to_owned())?;
    Ok(signed.as_ref().to_vec())
}

fn eddsa(key: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    let PrivateKeyDer::Pkcs8(der) = private_key(key)? else {
        return Err("its key is no Ed25519 key".to_owned());
    };
    let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
    let pair = pair.map_err(|error| format!("its key is no Ed25519 key ({error})"))?;
    Ok(pair.sign(input).as_ref().to_vec())
}

/// The key of a PEM, also where its line feeds were written as `\n`, as settings of one line hold them.
fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    let text = if text.contains("\\n") { text.replace("\\r", "").replace("\\n", "\n") } else { text.to_owned() };
    if text.contains("ENCRYPTED") {
        return Err("its key is encrypted by a passphrase: give it without, as \
                    `openssl pkey -in encrypted.pem -out plain.pem` writes it"
            .to_owned());
    }
    for section in <(pem::SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|_| "its key is a broken PEM".to_owned())?;
        match kind {
            pem::SectionKind::PrivateKey => return Ok(PrivatePkcs8KeyDer::from(der).into()),
            pem::SectionKind::RsaPrivateKey => return Ok(PrivatePkcs1KeyDer::from(der).into()),
            pem::SectionKind::EcPrivateKey => return Ok(PrivateSec1KeyDer::from(der).into()),
            _ => {}
        }
    }
    Err("its key is no private key in PEM (`-----BEGIN PRIVATE KEY-----`)".to_owned())
}

/// A SEC 1 key inside of the PKCS#8 that our library reads.
fn wrapped(sec1: &[u8], identifier: &[u8]) -> Vec<u8> {
    let mut inner = vec![0x02, 0x01, 0x00];
    inner.extend_from_slice(identifier);
    inner.extend(element(0x04, sec1));
    element(0x30, &inner)
}

/// One DER element; lengths as far as keys go.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    if content.len() >= 0x80 {
        out.push(0x80 | u8::try_from(digits.len()).expect("a length has few bytes"));
    }
    out.extend_from_slice(digits);
    out.extend_from_slice(content);
    out
}
