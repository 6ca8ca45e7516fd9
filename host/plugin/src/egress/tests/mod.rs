//! Traffic against real servers on loopback.
#![allow(clippy::unwrap_used)]

mod addresses;
mod answers;
mod exchange;
mod hostile;
mod http;
mod jwt;
mod net;
mod pace;
mod patterns;
mod secrets;
mod signing;
mod ssrf;
mod templates;
mod tokens;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Keeps log lines.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<String>>);

impl LogSink for Kept {
    fn line(&self, level: LogLevel, message: &str) {
        self.0.lock().unwrap().push(format!("{level}: {message}"));
    }
}

/// Answers every name with the next of its answers; the last one stays. Counts what it is asked.
pub struct Scripted {
    pub answers: Mutex<Vec<Vec<IpAddr>>>,
    pub asked: AtomicUsize,
}

impl Scripted {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers =
            answers.iter().map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect()).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Ok(answer.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }
}

/// An egress in the making: grants and the rest.
pub struct Setup {
    pub parts: EgressParts,
    pub log: Arc<Kept>,
}

impl Setup {
    /// `grants` are patterns of the operator; names lead to 127.0.0.1, which nothing allows yet.
    pub fn new(grants: &[&str]) -> Self {
        let log = Arc::new(Kept::default());
        let policy = Policy {
            plugin: "files".into(),
            grants: grants.iter().map(|grant| HostPattern::parse(grant).unwrap()).collect(),
            private: PrivateNetworks::Any(false),
        };
        let mut parts = EgressParts::new(policy, Secrets::default(), EgressLimits::default(), log.clone());
        parts.resolver = Scripted::new(&[&["127.0.0.1"]]);
        Self { parts, log }
    }

    /// With loopback allowed.
    pub fn open(grants: &[&str]) -> Self {
        let mut setup = Self::new(grants);
        setup.parts.policy.private = PrivateNetworks::Any(true);
        setup
    }

    pub fn limits(mut self, change: impl FnOnce(&mut EgressLimits)) -> Self {
        change(&mut self.parts.limits);
        self
    }

    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.parts.secrets = secrets;
        self
    }

    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.parts.resolver = resolver;
        self
    }

    pub fn egress(self) -> Egress {
        self.parts.into()
    }
}

pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub fn text(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed_unsync())
}

pub fn get(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).unwrap()
}

pub async fn body_of(response: Response<AnswerBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Serves HTTP/1.1 on one connection.
pub async fn serve_stream<S, F, R>(stream: S, handler: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answering = handler(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    // A client that hangs up is no failure of the test.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A plain server; its port and the number of connections that it accepted.
pub async fn serve<F, R>(handler: F) -> (u16, Arc<AtomicUsize>)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    serve_raw(move |stream| serve_stream(stream, handler.clone())).await
}

/// A server that does what `handler` does with each connection.
pub async fn serve_raw<F, R>(handler: F) -> (u16, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            stream.set_nodelay(true).unwrap();
            tokio::spawn(handler(stream));
        }
    });
    (port, accepted)
}

/// A certificate authority of the tests' own, and a server's configuration for `name` signed by it.
pub fn authority(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    (root.pem(), Arc::new(config))
}
