//! A TCP proxy that misbehaves on request, at bytes that the client sends.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What happens to a connection when its client sends the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is cut, and the server never gets what was sent.
    CutBefore,
    /// The server gets what was sent, and the connection is cut when it answers.
    CutAnswer,
    /// The server gets what was sent after [`Scripted::release`], be the client still there or not.
    Hold,
}

struct Rule {
    pattern: Vec<u8>,
    /// Times that the pattern passes before the fault.
    left: u32,
    fault: Fault,
    met: watch::Sender<bool>,
    released: watch::Receiver<bool>,
}

struct Shared {
    upstream: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    refusing: AtomicBool,
    /// Counts the times that all connections were cut.
    cut: watch::Sender<u64>,
}

/// A running proxy; it ends with its runtime.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A fault to come, or one that came.
pub struct Scripted {
    met: watch::Receiver<bool>,
    release: watch::Sender<bool>,
}

impl Scripted {
    /// Waits until it has happened.
    pub async fn met(&mut self) {
        // The sender goes with the proxy, whose tests are over then.
        let _ = self.met.wait_for(|met| *met).await;
    }

    /// Whether it has happened.
    pub fn is_met(&self) -> bool {
        *self.met.borrow()
    }

    /// Lets a held connection go on.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on.
    pub async fn start(upstream: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cut, _) = watch::channel(0);
        let shared = Shared { upstream, rules: Mutex::default(), refusing: AtomicBool::new(false), cut };
        let shared = Arc::new(shared);
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, the `nth` time (from 1) that any client sends the pattern, in whatever case, this happens; once.
    pub fn script(&self, pattern: &[u8], nth: u32, fault: Fault) -> Scripted {
        let (met_sender, met) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let rule = Rule { pattern: pattern.to_vec(), left: nth.saturating_sub(1), fault, met: met_sender, released };
        self.shared.rules().push(rule);
        Scripted { met, release }
    }

    /// Whether new connections are closed at once, and those that there are.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.shared.cut.send_modify(|times| *times += 1);
        }
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().expect("no holder of this lock panics")
    }

    /// The fault that these bytes run into. `seen` is the end of what came before, `new` where the new ones begin.
    fn meet(&self, sent: &[u8], new: usize) -> Option<Rule> {
        let mut rules = self.rules();
        for index in 0..rules.len() {
            let rule = &mut rules[index];
            // An occurrence that ended within the old bytes was counted then.
            let from = new.saturating_sub(rule.pattern.len().saturating_sub(1));
            let times = sent[from..].windows(rule.pattern.len());
            let times = times.filter(|bytes| bytes.eq_ignore_ascii_case(&rule.pattern)).count();
            let times = u32::try_from(times).unwrap_or(u32::MAX);
            if times > rule.left {
                return Some(rules.remove(index));
            }
            rule.left -= times;
        }
        None
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut cut = shared.cut.subscribe();
            // A peer that closes or breaks off ends both sides, which is all that there is to do.
            tokio::select! {
                _ = pass(client, &shared) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Longest pattern that is found where it falls into two reads.
const TAIL: usize = 64;

async fn pass(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut tail: Vec<u8> = Vec::new();
    let mut cut_at_answer = None;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let new = tail.len();
                tail.extend_from_slice(&up[..read]);
                if let Some(Rule { fault, met, mut released, pattern: _, left: _ }) = shared.meet(&tail, new) {
                    match fault {
                        Fault::CutBefore => {
                            met.send_replace(true);
                            return Ok(());
                        }
                        Fault::CutAnswer => cut_at_answer = Some(met),
                        Fault::Hold => {
                            met.send_replace(true);
                            let _ = released.wait_for(|released| *released).await;
                        }
                    }
                }
                tail.drain(..tail.len().saturating_sub(TAIL));
                server.write_all(&up[..read]).await?;
            }
            read = server.read(&mut down) => {
                let read = read?;
                if let Some(met) = cut_at_answer {
                    met.send_replace(true);
                    return Ok(());
                }
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&down[..read]).await?;
            }
        }
    }
}
