//! Sends notifications and hooks: HTTP POST and e-mail, by the same guarded way out as connectors' traffic.
//!
//! Where a message goes was written by somebody who may not be the operator of this machine: names are resolved once,
//! every address is checked, private networks are closed unless the setting `network.allow_private_networks` opens
//! them, and redirects are not followed. Must never put a URL, a header or a body into an error.

mod smtp;

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Full;
use thimble_control::notify::{Mail, Outbound, OutboundError, Post};
use thimble_plugin::{
    LogLevel, LogSink, Secrets,
    egress::{
        Egress, EgressError, EgressLimits, EgressParts, HostName, HostPattern, Policy, PrivateNetworks, Target,
        TlsRoots,
    },
};

/// Largest message: what a receiver may have to take.
const MAX_MESSAGE_BYTES: u64 = 4 * 1024 * 1024;
/// What is read of a receiver's answer, over one connection.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// The way out.
pub struct Sender {
    private: PrivateNetworks,
    roots: TlsRoots,
}

struct Denials;

impl LogSink for Denials {
    fn line(&self, _: LogLevel, message: &str) {
        tracing::warn!(message, "a notification was not let out");
    }
}

impl Sender {
    /// With the operator's networks and certificates.
    pub fn new(private: PrivateNetworks, roots: TlsRoots) -> Self {
        Self { private, roots }
    }

    fn policy(&self, grants: Vec<HostPattern>) -> Policy {
        Policy { plugin: "notifications".into(), grants, private: self.private.clone() }
    }

    /// A network of its own for one message, which leads to `target` alone.
    fn egress(&self, target: &Target, deadline: Duration) -> Result<Egress, OutboundError> {
        // To name an address is no grant of it here, unlike in a connector's grants.
        let address = match &target.host {
            HostName::Name(name) if name == "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.address(),
        };
        if let Some(address) = address {
            self.policy(Vec::new()).admit(target, address).map_err(told)?;
        }
        let grant: HostPattern = target.to_string().parse().map_err(told)?;
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let limits = EgressLimits {
            header_timeout_ms: millis,
            idle_timeout_ms: millis,
            net_idle_timeout_ms: millis,
            request_bytes: MAX_MESSAGE_BYTES,
            response_bytes: MAX_ANSWER_BYTES,
            net_read_bytes: MAX_ANSWER_BYTES,
            net_write_bytes: 2 * MAX_MESSAGE_BYTES,
            ..EgressLimits::default()
        };
        let mut parts = EgressParts::new(self.policy(vec![grant]), Secrets::default(), limits, Arc::new(Denials));
        parts.roots = self.roots.clone();
        Ok(parts.into())
    }
}

#[async_trait]
impl Outbound for Sender {
    async fn post(&self, post: Post, deadline: Duration) -> Result<u16, OutboundError> {
        let Post { url, headers, user_agent, body } = post;
        let uri: Uri = url.parse().map_err(|_| refused("the URL cannot be read"))?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let authority = uri.authority().ok_or_else(|| refused("the URL names no host"))?;
        let target = Target::of_authority(authority.as_str(), default_port).map_err(told)?;
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, user_agent)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| refused("the URL cannot be asked"))?;
        for (name, value) in headers {
            let bad = |_| refused(&format!("the header {name:?} cannot be sent"));
            let mut value = HeaderValue::from_str(&value).map_err(|_| bad(()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?, value);
        }
        let egress = self.egress(&target, deadline)?;
        match tokio::time::timeout(deadline, egress.send(request)).await {
            Ok(answer) => Ok(answer.map_err(told)?.status().as_u16()),
            Err(_) => Err(late(&target, deadline)),
        }
    }

    async fn mail(&self, mail: Mail, deadline: Duration) -> Result<(), OutboundError> {
        let target = Target::new(&mail.server.host, mail.server.port).map_err(told)?;
        let egress = self.egress(&target, deadline)?;
        let handing = async {
            let stream = egress.connect(&mail.server.host, mail.server.port).await.map_err(told)?;
            smtp::hand_over(stream, &mail).await
        };
        tokio::time::timeout(deadline, handing).await.unwrap_or_else(|_| Err(late(&target, deadline)))
    }
}

fn refused(message: &str) -> OutboundError {
    OutboundError::Refused(message.to_owned())
}

fn late(target: &Target, deadline: Duration) -> OutboundError {
    OutboundError::Failed(format!("{target} did not answer within {} s", deadline.as_secs()))
}

/// The sentence of an error without its advice to connectors.
fn told(error: EgressError) -> OutboundError {
    match &error {
        EgressError::AddressDenied { host, port, range, .. } => OutboundError::Refused(format!(
            "{host}:{port} leads to {range}, which is closed to notifications; \
             open it with the setting network.allow_private_networks"
        )),
        _ if error.is_denial() => OutboundError::Refused(error.to_string()),
        _ => OutboundError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::{Router, http::HeaderMap, http::StatusCode, response::Redirect, routing::post};
    use zeroize::Zeroizing;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn to(url: String) -> Post {
        let headers = vec![("x-key".to_owned(), Zeroizing::new("planted-secret".to_owned()))];
        Post { url: Zeroizing::new(url), headers, user_agent: "Thimble", body: b"{\"a\":1}".to_vec() }
    }

    async fn receiver() -> String {
        let echo = |headers: HeaderMap, body: String| async move {
            let genuine = headers["x-key"] == "planted-secret"
                && headers["user-agent"] == "Thimble"
                && headers["content-type"] == "application/json"
                && body == "{\"a\":1}";
            if genuine { StatusCode::NO_CONTENT } else { StatusCode::IM_A_TEAPOT }
        };
        let router = Router::new()
            .route("/", post(echo))
            .route("/away", post(|| async { Redirect::temporary("/") }))
            .route("/never", post(std::future::pending::<()>));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_post_arrives_whole_and_redirects_are_not_followed() {
        let url = receiver().await;
        let sender = Sender::new(PrivateNetworks::Any(true), TlsRoots::default());
        assert_eq!(sender.post(to(url.clone()), SOON).await, Ok(204));
        assert_eq!(sender.post(to(format!("{url}/away")), SOON).await, Ok(307));
        let late = sender.post(to(format!("{url}/never")), Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(&late, OutboundError::Failed(_)), "{late:?}");
        let gone = sender.post(to("http://127.0.0.1:1/planted-secret".into()), SOON).await.unwrap_err();
        assert!(matches!(&gone, OutboundError::Failed(_)) && !gone.to_string().contains("planted"), "{gone}");
    }

    /// The receiver is there and answers; only the address keeps the message from it.
    #[tokio::test]
    async fn private_networks_are_closed_however_they_are_spelled() {
        let url = receiver().await;
        let port = url.rsplit_once(':').unwrap().1;
        let sender = Sender::new(PrivateNetworks::default(), TlsRoots::default());
        let spellings = [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "127.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "0.0.0.0",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "100.64.0.1",
            "[64:ff9b::7f00:1]",
            "224.0.0.1",
        ];
        for host in spellings {
            let answer = sender.post(to(format!("http://{host}:{port}/")), SOON).await;
            let Err(OutboundError::Refused(told)) = answer else { panic!("{host}: {answer:?}") };
            assert!(!told.contains("planted"), "{told}");
        }
        for odd in ["http://user:pass@127.0.0.1/", "file:///etc/passwd", "http:///x", "https://"] {
            assert!(sender.post(to(odd.into()), SOON).await.is_err(), "{odd}");
        }
    }
}
