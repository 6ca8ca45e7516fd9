//! Every forbidden target by every way to it: spelt directly, by the answer of a name, by a name that changes its mind,
//! and by a redirect. All are denied although the name is granted; and the same ways are shown to work where the
//! operator allows them, so that a harness that reaches nothing cannot pass.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use url::Url;

use super::{
    addresses::{Comes, SPELLINGS},
    *,
};

/// A name that the operator granted.
const NAME: &str = "api.test";
/// What stands for a public address in these tests, as nothing outside of this machine may be asked: allowed by the
/// setting, and a different one from any of the table.
const PUBLIC: &str = "127.77.77.77";
/// Milliseconds for a connection in the control, where the address leads to nobody.
const PATIENCE_MS: u64 = 300;

/// A server on every address of this machine, and the connections that it took on others than [`PUBLIC`].
struct Inside {
    port: u16,
    reached: Arc<AtomicUsize>,
}

async fn inside(location: Arc<Mutex<String>>, status: Arc<Mutex<u16>>) -> Inside {
    // One listener for all addresses of both families; where there is no IPv6, those of IPv4.
    let listener = match TcpListener::bind("[::]:0").await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).await.unwrap(),
    };
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ours = stream.local_addr().unwrap().ip().to_canonical();
            if ours != PUBLIC.parse::<IpAddr>().unwrap() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let (location, status) = (location.clone(), status.clone());
            tokio::spawn(serve_stream(stream, move |_| {
                let mut answer = text("moved");
                *answer.status_mut() = status.lock().unwrap().to_owned().try_into().unwrap();
                // Not all spellings can stand in a header; such an answer redirects nowhere.
                if let Ok(value) = ::http::HeaderValue::from_bytes(location.lock().unwrap().as_bytes()) {
                    answer.headers_mut().insert("location", value);
                }
                async { answer }
            }));
        }
    });
    Inside { port, reached }
}

async fn plain_inside() -> Inside {
    inside(Arc::default(), Arc::new(Mutex::new(200))).await
}

/// The spellings that must never be reached.
fn forbidden() -> Vec<&'static str> {
    let is = |comes: &Comes| match comes {
        Comes::To(range) => *range != Range::Public,
        Comes::ToName => false,
        Comes::ToNothing => true,
    };
    SPELLINGS.iter().filter(|(_, comes)| is(comes)).map(|(spelling, _)| *spelling).collect()
}

/// The addresses behind the forbidden spellings, and more that only a resolver can say.
fn forbidden_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = forbidden()
        .into_iter()
        .filter_map(|spelling| HostName::parse(spelling).ok()?.address())
        .chain(["::ffff:127.0.0.1", "::ffff:169.254.169.254", "fe80::1", "::"].map(|text| text.parse().unwrap()))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// An egress to which `spelling` is granted by the configuration of a connection (where it is a host at all), and
/// [`NAME`] by the operator.
fn setup(spelling: &str, port: u16, private: PrivateNetworks) -> Setup {
    let mut setup = Setup::new(&[&format!("{NAME}:{port}"), NAME]);
    for grant in [format!("{spelling}:{port}"), spelling.to_owned()] {
        setup.parts.policy.grants.extend(HostPattern::read(&grant, Origin::Configuration));
    }
    setup.parts.policy.private = private;
    setup.limits(|limits| limits.connect_timeout_ms = PATIENCE_MS)
}

fn request(url: &str) -> Option<Request<Empty<Bytes>>> {
    Request::get(url).body(Empty::new()).ok()
}

fn denied(error: &EgressError) -> bool {
    error.is_denial()
}

#[test]
fn the_table_is_long_enough() {
    assert!(forbidden().len() >= 120, "{}", forbidden().len());
    assert!(forbidden_addresses().len() >= 60, "{}", forbidden_addresses().len());
    for address in forbidden_addresses() {
        assert_ne!(Range::of(address), Range::Public, "{address}");
    }
}

#[tokio::test]
async fn spelt_directly() {
    let inside = plain_inside().await;
    let port = inside.port;
    let mut ways = 0;
    for spelling in forbidden() {
        let egress = setup(spelling, port, PrivateNetworks::default()).egress();
        let refused = egress.connect(spelling, port).await.map(drop).unwrap_err();
        assert!(denied(&refused), "{spelling}: {refused}");
        let urls = [
            format!("http://{spelling}:{port}/"),
            format!("https://{spelling}:{port}/"),
            format!("http://{spelling}/"),
            format!("http://{NAME}@{spelling}:{port}/"),
            format!("http://{NAME}:{port}@{spelling}:{port}/"),
            format!("http://{NAME}%40{spelling}:{port}/"),
            format!("http://{spelling}.:{port}/"),
        ];
        for url in urls {
            // What the client of a guest cannot even say reaches nothing.
            let Some(request) = request(&url) else { continue };
            let refused = egress.send(request).await.unwrap_err();
            assert!(denied(&refused), "{url}: {refused}");
            ways += 1;
        }
    }
    assert!(ways > 500, "{ways}");
    assert_eq!(inside.reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn by_the_answer_of_a_granted_name() {
    let inside = plain_inside().await;
    let port = inside.port;
    let allowed = || PrivateNetworks::Only(vec![PUBLIC.parse().unwrap()]);
    for address in forbidden_addresses() {
        let public: IpAddr = PUBLIC.parse().unwrap();
        for answer in [vec![address], vec![public, address], vec![address, public], vec![public, public, address]] {
            let resolver = Arc::new(Scripted { answers: Mutex::new(vec![answer]), asked: AtomicUsize::new(0) });
            let egress = setup("other.test", port, allowed()).resolver(resolver).egress();
            let refused = egress.send(get(&format!("http://{NAME}:{port}/"))).await.unwrap_err();
            assert!(matches!(refused, EgressError::AddressDenied { .. }), "{address}: {refused}");
            let refused = egress.connect(NAME, port).await.map(drop).unwrap_err();
            assert!(matches!(refused, EgressError::AddressDenied { .. }), "{address}: {refused}");
        }
    }
    // Names of this machine are names like others.
    for name in ["localhost", "LOCALHOST", "api.localhost", "localhost.localdomain", "ip6-localhost"] {
        let egress = setup(name, port, allowed()).egress();
        let refused = egress.send(get(&format!("http://{name}:{port}/"))).await.unwrap_err();
        assert!(denied(&refused), "{name}: {refused}");
    }
    assert_eq!(inside.reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn by_a_name_that_changes_its_mind() {
    let inside = plain_inside().await;
    let port = inside.port;
    for address in forbidden_addresses() {
        let public: IpAddr = PUBLIC.parse().unwrap();
        let answers = Mutex::new(vec![vec![public], vec![address]]);
        let resolver = Arc::new(Scripted { answers, asked: AtomicUsize::new(0) });
        let allowed = PrivateNetworks::Only(vec![PUBLIC.parse().unwrap()]);
        let setup = setup("other.test", port, allowed).resolver(resolver.clone());
        let egress = setup.limits(|limits| limits.keep_alive_ms = 1).egress();
        let url = format!("http://{NAME}:{port}/");
        // The first answer is good, and the connection goes to it and to nothing else.
        let answer = egress.send(get(&url)).await.unwrap();
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "the name was resolved again after the check");
        let refused = egress.connect(NAME, port).await.map(drop).unwrap_err();
        assert!(matches!(refused, EgressError::AddressDenied { .. }), "{address}: {refused}");
        // Once the first connection is closed, HTTP needs a second one, too.
        body_of(answer).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let refused = egress.send(get(&url)).await.unwrap_err();
        assert!(matches!(refused, EgressError::AddressDenied { .. }), "{address}: {refused}");
    }
    assert_eq!(inside.reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn by_a_redirect_of_a_granted_server() {
    let (location, status) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(302)));
    let inside = inside(location.clone(), status.clone()).await;
    let port = inside.port;
    let mut followed = 0;
    for (index, spelling) in forbidden().into_iter().enumerate() {
        let allowed = PrivateNetworks::Only(vec![PUBLIC.parse().unwrap()]);
        let egress = setup(spelling, port, allowed).resolver(Scripted::new(&[&[PUBLIC]])).egress();
        let start = format!("http://{NAME}:{port}/");
        let targets = [
            format!("http://{spelling}:{port}/"),
            format!("//{spelling}:{port}/"),
            format!("//{NAME}@{spelling}:{port}/"),
            format!("http://{NAME}:{port}@{spelling}:{port}/"),
            format!("\\\\{spelling}:{port}/"),
            format!("/\\{spelling}:{port}/"),
            format!("https:{spelling}:{port}/"),
        ];
        for (form, target) in targets.into_iter().enumerate() {
            *location.lock().unwrap() = target;
            *status.lock().unwrap() = [301, 302, 303, 307, 308][(index + form) % 5];
            let answer = egress.send(get(&start)).await.unwrap();
            assert!(answer.status().is_redirection(), "the host followed a redirect");
            let Some(told) = answer.headers().get("location").map(|value| value.as_bytes().to_vec()) else { continue };
            body_of(answer).await;
            // As clients of guests follow it: by the rules of browsers, and as it is.
            let told = String::from_utf8_lossy(&told).into_owned();
            let joined = Url::parse(&start).unwrap().join(&told).ok().map(String::from);
            for next in joined.into_iter().chain([told]) {
                // By the rules of browsers some forms stay on the granted host, which is no way inside.
                let own = Url::parse(&next).is_ok_and(|url| url.host_str() == Some(NAME) && url.username().is_empty());
                let Some(request) = request(&next).filter(|_| !own) else { continue };
                let refused = egress.send(request).await.unwrap_err();
                assert!(denied(&refused), "{next}: {refused}");
                followed += 1;
            }
        }
    }
    assert!(followed > 500, "{followed}");
    assert_eq!(inside.reached.load(Ordering::SeqCst), 0);
}

/// Whether the ways above work where they are allowed: by the same table, the same grants and the same server.
#[tokio::test]
async fn the_same_ways_reach_a_server_where_the_operator_allows_them() {
    let (location, status) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(307)));
    let inside = inside(location.clone(), status).await;
    let port = inside.port;
    let open = |spelling: &str| setup(spelling, port, PrivateNetworks::Any(true));
    let local = |spelling: &&str| {
        let address = HostName::parse(spelling).ok().and_then(|host| host.address());
        // The loopback address of IPv6 may be missing, and its spellings that hold one of IPv4 are not routed.
        address.is_some_and(|address| matches!(address, IpAddr::V4(address) if address.is_loopback()))
    };
    let spellings: Vec<_> = forbidden().into_iter().filter(local).collect();
    assert!(spellings.len() >= 12, "{spellings:?}");
    for spelling in spellings {
        let address = HostName::parse(spelling).unwrap().address().unwrap();
        let resolver = Arc::new(Scripted { answers: Mutex::new(vec![vec![address]]), asked: AtomicUsize::new(0) });
        let egress = open(spelling).resolver(resolver).egress();
        let before = inside.reached.load(Ordering::SeqCst);
        egress.connect(spelling, port).await.map(drop).unwrap();
        body_of(egress.send(get(&format!("http://{spelling}:{port}/"))).await.unwrap()).await;
        egress.connect(NAME, port).await.map(drop).unwrap();
        *location.lock().unwrap() = format!("//{spelling}:{port}/");
        let answer = egress.send(get(&format!("http://{NAME}:{port}/"))).await.unwrap();
        let told = answer.headers()["location"].to_str().unwrap().to_owned();
        let next = Url::parse(&format!("http://{NAME}:{port}/")).unwrap().join(&told).unwrap();
        body_of(egress.send(get(next.as_str())).await.unwrap()).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while inside.reached.load(Ordering::SeqCst) < before + 4 {
            assert!(std::time::Instant::now() < deadline, "{spelling} was not reached");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    // Where nobody can be reached, the decision alone: what the setting opens is admitted, the rest stays closed.
    let (mut admitted, mut closed) = (0, 0);
    for address in forbidden_addresses() {
        let policy = open("other.test").parts.policy;
        let target = policy.check(NAME, port).unwrap();
        let opened = matches!(Range::of(address), Range::Loopback | Range::Private | Range::SharedNat);
        assert_eq!(policy.admit(&target, address).is_ok(), opened, "{address}");
        if opened { admitted += 1 } else { closed += 1 }
    }
    assert!(admitted > 15 && closed > 20, "{admitted} {closed}");
}
