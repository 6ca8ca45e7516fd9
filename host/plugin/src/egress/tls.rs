//! Whom to trust on the other side of TLS.
//!
//! Owns the roots and the client configurations; ring is the only provider. Must never skip a certificate check.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    error::EgressError,
    limits::EgressLimits,
    pattern::{HostName, Target},
};

/// Certificates of authorities: Mozilla's, and the operator's own.
#[derive(Clone)]
pub struct TlsRoots {
    store: Arc<RootCertStore>,
}

impl Default for TlsRoots {
    /// Mozilla's, shared by everyone.
    fn default() -> Self {
        static WEB: OnceLock<Arc<RootCertStore>> = OnceLock::new();
        Self { store: WEB.get_or_init(|| Arc::new(web())).clone() }
    }
}

fn web() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

impl TlsRoots {
    /// Mozilla's and those of `pem` (one certificate or more). Fails where `pem` holds none, or a broken one.
    pub fn with_pem(pem: &[u8]) -> Result<Self, EgressError> {
        let bad = |reason: String| EgressError::BadSetting { setting: "extra_ca_pem", reason };
        let mut store = web();
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| bad(format!("it is not PEM: {error}")))?;
            store.add(certificate).map_err(|error| bad(format!("a certificate cannot be used: {error}")))?;
        }
        if store.len() == before {
            return Err(bad("it holds no certificate".into()));
        }
        Ok(Self { store: Arc::new(store) })
    }

    /// A client configuration with its own session cache: sessions are not shared between instances.
    fn client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(self.store.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// Starts TLS on open connections, verified for the name that was granted.
#[derive(Clone)]
pub(super) struct TlsClient {
    inner: Arc<Inner>,
}

struct Inner {
    roots: TlsRoots,
    limits: Arc<EgressLimits>,
    // Made when first needed: many instances never speak TLS.
    http: OnceLock<Arc<ClientConfig>>,
    raw: OnceLock<Arc<ClientConfig>>,
}

impl TlsClient {
    pub(super) fn new(roots: TlsRoots, limits: Arc<EgressLimits>) -> Self {
        Self { inner: Arc::new(Inner { roots, limits, http: OnceLock::new(), raw: OnceLock::new() }) }
    }

    pub(super) async fn start_http(
        &self,
        target: &Target,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, EgressError> {
        let config = self.inner.http.get_or_init(|| self.inner.roots.client(&[b"http/1.1"])).clone();
        self.start(config, target, tcp).await
    }

    pub(super) async fn start_raw(&self, target: &Target, tcp: TcpStream) -> Result<TlsStream<TcpStream>, EgressError> {
        let config = self.inner.raw.get_or_init(|| self.inner.roots.client(&[])).clone();
        self.start(config, target, tcp).await
    }

    async fn start(
        &self,
        config: Arc<ClientConfig>,
        target: &Target,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, EgressError> {
        let name = match &target.host {
            HostName::Name(name) => ServerName::try_from(name.clone()).map_err(|_| EgressError::Certificate {
                host: name.clone(),
                reason: "the name cannot stand in a certificate".into(),
            })?,
            HostName::V4(address) => ServerName::from(std::net::IpAddr::V4(*address)),
            HostName::V6(address) => ServerName::from(std::net::IpAddr::V6(*address)),
        };
        let handshake = TlsConnector::from(config).connect(name, tcp);
        match tokio::time::timeout(self.inner.limits.tls_timeout(), handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(target, error)),
            Err(_) => Err(EgressError::Timeout {
                host: target.to_string(),
                what: "the TLS handshake",
                limit: "tls_timeout_ms",
                milliseconds: self.inner.limits.tls_timeout_ms,
            }),
        }
    }
}

fn failed(target: &Target, error: std::io::Error) -> EgressError {
    let host = target.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            EgressError::Certificate { host, reason: reason.to_string() }
        }
        Some(rustls::Error::InvalidMessage(_)) => EgressError::Certificate {
            host,
            reason: "the port does not speak TLS; write http:// where it is meant to be plain".into(),
        },
        _ => EgressError::Tls { host, source: Arc::new(error) },
    }
}
