//! Upstreams for tests of the forwarder: real sockets, with misbehaviour that no real server shows
//! on command.
//!
//! Each runs in its own thread and records its queries. A well-behaved upstream answers with one A
//! record whose TTL identifies the upstream.
#![allow(dead_code, unreachable_pub, unused_imports)] // Each test binary uses a part of its copy.

mod identity;
mod manner;
#[path = "../rig/port.rs"]
mod port;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::base::iana::Rcode;
use domain::base::{Message, Name};
use engine::client::Transport;
use engine::config;
use engine::corefile::Surroundings;
use engine::corefile::value::target::Target;
use engine::forward::options::ForwardOptions;
use engine::forward::{ForwardFailure, ForwardSettings, UpstreamQuestion, Upstreams};
use engine::limits::FORWARD_TIMEOUT;
use engine::metrics::{Build, Metrics, UpstreamEvent};
use engine::question::OwnedQuestion;
use rustix::process::{Resource, Rlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::TlsAcceptor;

use wire::response::Response;

pub use identity::{Identity, Trust};
pub use manner::{Manner, ToOpt};
use manner::{answer, forgeries};

/// The deadline of everything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A query as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub from: SocketAddr,
    pub is_tcp: bool,
    pub message: Vec<u8>,
}

impl Seen {
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    pub fn has_opt(&self) -> bool {
        has_opt(&self.message)
    }

    pub fn qtype(&self) -> u16 {
        let message = Message::from_octets(&self.message[..]).unwrap();
        message.sole_question().unwrap().qtype().to_int()
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    ttl_secs: u32,
    manner: Mutex<Manner>,
    seen: Mutex<Vec<Seen>>,
    connection_count: AtomicUsize,
    tls: Option<TlsAcceptor>,
}

impl Upstream {
    pub fn start(ttl_secs: u32, manner: Manner) -> Self {
        let (udp, tcp) = free_sockets();
        Self::start_with(ttl_secs, manner, (udp, Some(tcp)), None)
    }

    /// TCP connections are refused.
    pub fn start_without_tcp(ttl_secs: u32, manner: Manner) -> Self {
        let (udp, _) = free_sockets();
        Self::start_with(ttl_secs, manner, (udp, None), None)
    }

    pub fn start_tls(ttl_secs: u32, manner: Manner, identity: &Identity) -> Self {
        let (udp, tcp) = free_sockets();
        Self::start_with(ttl_secs, manner, (udp, Some(tcp)), Some(identity.acceptor()))
    }

    fn start_with(
        ttl_secs: u32,
        manner: Manner,
        (udp, tcp): (UdpSocket, Option<TcpListener>),
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            ttl_secs,
            manner: Mutex::new(manner),
            seen: Mutex::default(),
            connection_count: AtomicUsize::new(0),
            tls,
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let udp = Arc::new(tokio::net::UdpSocket::from_std(udp).unwrap());
                let over_udp = serve_udp(udp, Arc::clone(&of_thread));
                match tcp {
                    None => over_udp.await,
                    Some(tcp) => {
                        let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
                        tokio::join!(over_udp, serve_tcp(tcp, of_thread));
                    }
                }
            });
        });
        Self { address, shared }
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// The queries so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn seen_count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// The health checks so far: NS queries.
    pub fn check_count(&self) -> usize {
        self.seen().iter().filter(|seen| seen.qtype() == 2).count()
    }

    /// TCP connections so far.
    pub fn connection_count(&self) -> usize {
        self.shared.connection_count.load(Ordering::Relaxed)
    }
}

/// An address that nothing listens on: all upstreams of these tests are at 127.0.0.1. ICMP or a RST
/// refuses queries.
pub fn unused_address() -> SocketAddr {
    SocketAddr::from(([127, 9, 9, 9], 53))
}

/// The same port for UDP and TCP.
fn free_sockets() -> (UdpSocket, TcpListener) {
    let address = (Ipv4Addr::LOCALHOST, port::free());
    let (udp, tcp) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    (udp, tcp)
}

async fn serve_udp(socket: Arc<tokio::net::UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 65535];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        let message = buffer[..len].to_vec();
        let manner = shared.note(from, false, &message);
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        tokio::spawn(async move {
            let send = async |packet: &[u8]| drop(socket.send_to(packet, from).await);
            match manner {
                Manner::Silent => return,
                Manner::ToOpt(ToOpt::Drops) if has_opt(&message) => return,
                Manner::Loses(count) if shared.seen.lock().unwrap().len() <= count => return,
                Manner::Slow(time) => tokio::time::sleep(time).await,
                Manner::ToOpt(ToOpt::Late(time)) if has_opt(&message) => {
                    tokio::time::sleep(time).await;
                }
                Manner::ForgeriesFirst(count) => {
                    let forgeries = forgeries(&shared.answer_to(&message, Manner::Answers));
                    for forgery in forgeries.iter().cycle().take(count) {
                        send(forgery).await;
                    }
                }
                Manner::OtherPortFirst => {
                    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    let forgery = shared.answer_to(&message, Manner::Says(Rcode::REFUSED));
                    other.send_to(&forgery, from).unwrap();
                }
                Manner::Cuts | Manner::CutsAndCloses => {
                    let mut cut = shared.answer_to(&message, Manner::Says(Rcode::NOERROR));
                    cut[2] |= 0x02;
                    return send(&cut).await;
                }
                Manner::Answers
                | Manner::Says(_)
                | Manner::Malformed
                | Manner::ClosesAfterAnswer
                | Manner::ToOpt(_)
                | Manner::SaysWithOpt(_)
                | Manner::Loses(_)
                | Manner::ClosesTcp
                | Manner::Lowers
                | Manner::Leads(..)
                | Manner::LeadsOn(_) => {}
            }
            send(&shared.answer_to(&message, manner)).await;
        });
    }
}

async fn serve_tcp(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, from) = listener.accept().await.unwrap();
        shared.connection_count.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            match &shared.tls {
                None => shared.serve_stream(stream, from).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        shared.serve_stream(stream, from).await;
                    }
                }
            }
        });
    }
}

impl Shared {
    /// Records a query; returns the current manner.
    fn note(&self, from: SocketAddr, is_tcp: bool, message: &[u8]) -> Manner {
        self.seen.lock().unwrap().push(Seen { from, is_tcp, message: message.to_vec() });
        *self.manner.lock().unwrap()
    }

    fn answer_to(&self, query: &[u8], manner: Manner) -> Vec<u8> {
        answer(query, manner, self.ttl_secs)
    }

    async fn serve_stream<S>(self: &Arc<Self>, stream: S, from: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (sender, mut answers) = unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            while let Some(answer) = answers.recv().await {
                let mut stream = (answer.len() as u16).to_be_bytes().to_vec();
                stream.extend(answer);
                if writer.write_all(&stream).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
        while let Ok(len) = reader.read_u16().await {
            let mut message = vec![0; usize::from(len)];
            if reader.read_exact(&mut message).await.is_err() {
                return;
            }
            let manner = self.note(from, true, &message);
            let answer = self.answer_to(&message, manner);
            match manner {
                Manner::CutsAndCloses | Manner::ClosesTcp => return,
                Manner::Silent => {}
                Manner::ToOpt(ToOpt::Drops) if has_opt(&message) => {}
                Manner::ClosesAfterAnswer => {
                    let _ = sender.send(answer);
                    return;
                }
                Manner::Slow(time) => {
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        let _ = sender.send(answer);
                    });
                }
                Manner::Answers
                | Manner::Says(_)
                | Manner::ForgeriesFirst(_)
                | Manner::OtherPortFirst
                | Manner::Malformed
                | Manner::Cuts
                | Manner::ToOpt(_)
                | Manner::SaysWithOpt(_)
                | Manner::Loses(_)
                | Manner::Lowers
                | Manner::Leads(..)
                | Manner::LeadsOn(_) => {
                    let _ = sender.send(answer);
                }
            }
        }
    }
}

fn has_opt(query: &[u8]) -> bool {
    Message::from_octets(query).unwrap().opt().is_some()
}

/// A `forward` line with the Corefile's defaults, except that it is sequential, does not hedge, and
/// has a shorter deadline.
pub fn forward(to: &[SocketAddr]) -> ForwardOptions {
    let text = ".:53 {\nforward . 127.0.0.1 {\npolicy sequential\nhedge off\n}\n}\n";
    let surroundings = Surroundings::empty();
    let config = config::parse("Corefile", text, &surroundings).expect("no mistake");
    let mut forward = config.blocks[0].line::<ForwardOptions>().unwrap().clone();
    forward.to = to.iter().copied().map(Target::Dns).collect();
    forward.health_check.every = Duration::from_millis(50);
    forward.read_timeout = Duration::from_millis(300);
    forward
}

/// The upstreams of a `forward` line, in a shard.
pub struct Rig {
    pub settings: Arc<ForwardSettings>,
    pub upstreams: Rc<Upstreams>,
    pub metrics: Metrics,
}

impl Rig {
    pub async fn start(options: &ForwardOptions) -> Self {
        let build = Build::default();
        let metrics = Metrics::new(build, 1);
        let settings = Arc::new(ForwardSettings::load(options, None, &metrics).await.unwrap());
        let upstreams = Upstreams::new(&settings, 0, &metrics.shard(0));
        Self { settings, upstreams, metrics }
    }

    pub async fn ask(&self) -> Result<Response, ForwardFailure> {
        self.upstreams.ask(&question("www.example.org", Transport::Udp), deadline()).await
    }

    /// The TTL of the answer, which identifies the upstream.
    pub async fn who_answers(&self) -> Option<u32> {
        self.ask().await.ok()?.ttl_secs_min
    }

    pub fn count(&self, of: &Upstream, event: UpstreamEvent) -> u64 {
        self.metrics.upstream(of.address).total(event)
    }
}

/// The deadline of a query that is sent now.
pub fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + FORWARD_TIMEOUT
}

pub fn question(name: &str, transport: Transport) -> UpstreamQuestion {
    let name: Name<Vec<u8>> = name.parse().unwrap();
    UpstreamQuestion {
        question: Arc::new(OwnedQuestion::new(name.as_slice(), 1)),
        recursion_desired: true,
        transport,
        options: None,
    }
}

/// Runs a test in a shard's runtime.
pub fn run(test: impl Future<Output = ()>) {
    // Tests run in parallel, and a thousand queries need a thousand sockets.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Waits until the condition holds; fails after the deadline.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
