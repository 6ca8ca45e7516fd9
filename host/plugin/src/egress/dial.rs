//! From a granted name to an open connection.
//!
//! Owns the one place where names are resolved and sockets are opened. Every address is checked, and only checked
//! addresses, and those of an operator's detours, are connected to: a name is resolved once a connection and never again after the check.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};

use super::{
    detour::Detour,
    error::EgressError,
    limits::EgressLimits,
    pattern::{HostName, Target},
    policy::Policy,
};

/// Addresses of one name that are looked at; more are an error, as nobody could check them all.
const MAX_ADDRESSES: usize = 64;
/// Of these so many are tried.
const TRIED_ADDRESSES: usize = 6;

/// Finds the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of `name`, with `port`.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver.
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, port)).await?.take(MAX_ADDRESSES + 1).collect())
    }
}

/// Opens connections to targets that a policy allows.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) policy: Arc<Policy>,
    pub(super) limits: Arc<EgressLimits>,
    resolver: Arc<dyn Resolver>,
    lookups: Arc<Semaphore>,
    detours: Arc<[Detour]>,
}

impl Dialer {
    pub(super) fn new(
        policy: Policy,
        resolver: Arc<dyn Resolver>,
        limits: Arc<EgressLimits>,
        detours: Vec<Detour>,
    ) -> Self {
        let lookups = Arc::new(Semaphore::new(limits.lookups));
        Self { policy: Arc::new(policy), limits, resolver, lookups, detours: detours.into() }
    }

    /// Where the operator wants connections for `target` to lead instead, and whether by TLS.
    pub(super) fn detour(&self, target: &Target, secure: bool) -> Option<&(Target, bool)> {
        self.detours.iter().find_map(|detour| detour.of(target, secure))
    }

    /// An open connection to where a detour of `target` leads, whatever the address is: the operator named it.
    pub(super) async fn dial_detour(&self, target: &Target, to: &Target) -> Result<TcpStream, EgressError> {
        self.policy.check_target(target)?;
        let deadline = Instant::now() + self.limits.connect_timeout();
        match tokio::time::timeout_at(deadline, self.addresses(to)).await {
            Ok(addresses) => self.connect(to, &addresses?, deadline).await,
            Err(_) => Err(self.late(to, "resolving the name")),
        }
    }

    /// An open connection to `target`, which is checked here whatever the caller checked.
    pub(super) async fn dial(&self, target: &Target) -> Result<TcpStream, EgressError> {
        self.policy.check_target(target)?;
        let deadline = Instant::now() + self.limits.connect_timeout();
        let addresses = match tokio::time::timeout_at(deadline, self.addresses(target)).await {
            Ok(addresses) => addresses?,
            Err(_) => return Err(self.late(target, "resolving the name")),
        };
        for address in &addresses {
            self.policy.admit(target, address.ip())?;
        }
        self.connect(target, &addresses, deadline).await
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, EgressError> {
        let name = match &target.host {
            HostName::Name(name) => name,
            HostName::V4(address) => return Ok(vec![SocketAddr::new((*address).into(), target.port)]),
            HostName::V6(address) => return Ok(vec![SocketAddr::new((*address).into(), target.port)]),
        };
        let found = self
            .resolve(name, target.port)
            .await
            .map_err(|error| EgressError::Resolve { host: name.clone(), source: Arc::new(error) })?;
        if found.is_empty() {
            return Err(EgressError::NoAddress { host: name.clone() });
        }
        if found.len() > MAX_ADDRESSES {
            return Err(EgressError::Resolve {
                host: name.clone(),
                source: Arc::new(io::Error::other(format!("it has more than {MAX_ADDRESSES} addresses"))),
            });
        }
        // The port is the target's, whatever the resolver says.
        Ok(found.into_iter().map(|found| SocketAddr::new(found.ip(), target.port)).collect())
    }

    /// A lookup cannot be taken back: where nobody waits any more, the system's thread still does. So it counts until
    /// it ends, in a task of its own.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (resolver, name) = (self.resolver.clone(), name.to_owned());
        let lookup = tokio::spawn(async move {
            let found = resolver.resolve(&name, port).await;
            drop(permit);
            found
        });
        lookup.await.map_err(io::Error::other)?
    }

    /// Tries the checked addresses one after the other, each for its share of the time that is left.
    async fn connect(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, EgressError> {
        let tried = &addresses[..addresses.len().min(TRIED_ADDRESSES)];
        let mut last = None;
        for (index, address) in tried.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(tried.len() - index).unwrap_or(1);
            match tokio::time::timeout(share.max(Duration::from_millis(1)), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A small request must not wait for the acknowledgement of the one before.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        match last {
            Some(error) => {
                Err(EgressError::Connect { host: target.host.to_string(), port: target.port, source: Arc::new(error) })
            }
            None => Err(self.late(target, "connecting")),
        }
    }

    fn late(&self, target: &Target, what: &'static str) -> EgressError {
        EgressError::Timeout {
            host: target.to_string(),
            what,
            limit: "connect_timeout_ms",
            milliseconds: self.limits.connect_timeout_ms,
        }
    }
}
