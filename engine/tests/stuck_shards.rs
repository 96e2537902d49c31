//! A shard that panics or hangs gets a new thread: it is back within a second, the other shard
//! loses no query, `/health` names the shard meanwhile, and `/metrics` counts it.
//!
//! Each client's address and port lead to one shard, which is found before the trouble begins. How
//! long a shard was away, and whether `/health` was seen to name it, is printed; the assertions are
//! generous, because the machine may be busy.

mod rig;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use engine::admin::{Admin, Endpoint, EndpointKind, Readiness};
use engine::answer::exit::Reports;
use engine::cli::Steer;
use engine::client::ListenerId;
use engine::fleet::{Backend, Fleet, FleetSettings, Supervisor};
use engine::heart::note_panic;
use engine::io::socket::{self, PortClaim};
use engine::limits::{HEARTBEAT_EVERY, STUCK_LOOK_EVERY};
use engine::metrics::{Build, Format, Metrics, ShardRestarts};
use engine::plan::{Plan, TableSlot};
use engine::steering::Company;
use tokio::time::timeout;
use wire::table::Table;

use rig::query::{is_response, query_with_id};
use rig::{BACKENDS, builder, frame, plan, read_frame};

const SHARDS: usize = 2;
/// The shard that has the trouble.
const TROUBLED: usize = 1;
const CLIENTS_PER_SHARD: usize = 2;
const NAME: &str = "web.default.svc.cluster.local";

/// How soon a client of the troubled shard asks again.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// So many responses must come after the old thread has ended.
const RESPONSES_AFTERWARDS: u64 = 100;
/// The deadline of everything else, far above the second that is promised.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Panic,
    Sleep,
    Spin,
}

/// A thread that hangs goes on when this is set.
static IS_RELEASED: AtomicBool = AtomicBool::new(false);

fn panic_now() {
    panic!("this panic is part of the test");
}

fn sleep_on() {
    while !IS_RELEASED.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(1));
    }
}

fn spin() {
    while !IS_RELEASED.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

struct Server {
    fleet: Fleet,
    address: SocketAddr,
    health: SocketAddr,
    metrics: Arc<Metrics>,
    /// Held here so that no shard is their only owner.
    _plan: Arc<Plan>,
    _table: Arc<Table>,
}

impl Server {
    fn start(backend: Backend) -> Self {
        let (errors, _) = bounded(16);
        let reports = Reports { errors, queries: Arc::default() };
        let metrics = Arc::new(Metrics::new(Build::default(), SHARDS));
        let settings = FleetSettings { backend, busy_poll: Duration::ZERO, steer: Steer::Hash };
        let of_shards: Vec<_> = (0..SHARDS).map(|shard| metrics.shard(shard)).collect();
        let mut fleet = Fleet::start(settings, &[None; SHARDS], &of_shards, &reports).unwrap();
        let table = builder().publish(1);
        for deliver in fleet.deliveries(TableSlot(0)) {
            assert!(deliver(Arc::clone(&table)));
        }
        let plan = Arc::new(plan("", &metrics));
        fleet.set_plan(&plan);
        let sockets =
            socket::bind((Ipv4Addr::LOCALHOST, 0).into(), SHARDS, PortClaim::Alone).unwrap();
        let address = sockets[0].own.tcp.local_addr().unwrap();
        fleet.open(ListenerId(0), sockets, Company::None);
        let health = supervise(fleet.supervisor(), &metrics);
        Self { fleet, address, health, metrics, _plan: plan, _table: table }
    }

    /// Clients of each shard.
    fn clients(&self) -> [Vec<UdpSocket>; SHARDS] {
        let mut clients = [const { Vec::new() }; SHARDS];
        let began = Instant::now();
        while clients.iter().any(|some| some.len() < CLIENTS_PER_SHARD) {
            assert!(began.elapsed() < PATIENCE, "the kernel's hash reaches every shard");
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(self.address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let before = self.answers();
            ask(&socket, 1).expect("a response");
            // The shard counts before it sends.
            let after = self.answers();
            let shard = (0..SHARDS).find(|shard| after[*shard] > before[*shard]).unwrap();
            if clients[shard].len() < CLIENTS_PER_SHARD {
                clients[shard].push(socket);
            }
        }
        clients
    }

    fn answers(&self) -> [f64; SHARDS] {
        let metrics = self.scrape();
        std::array::from_fn(|shard| {
            value(&metrics, &format!("ringdns_answers_total{{shard=\"{shard}\"}}"))
        })
    }

    fn scrape(&self) -> String {
        String::from_utf8(self.metrics.scrape(Format::Prometheus)).unwrap()
    }

    /// The status and the body of `/health`.
    fn health(&self) -> (u16, String) {
        let mut stream = TcpStream::connect(self.health).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn restart_count(&self) -> u64 {
        let facts = self.metrics.facts();
        facts.shard_restarts.iter().map(|one| one.panics + one.ends + one.hangs).sum()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            sleep(Duration::from_millis(2));
        }
    }
}

/// Does what the control loop does, in a thread of its own. Returns where `/health` is.
fn supervise(supervisor: Supervisor, metrics: &Arc<Metrics>) -> SocketAddr {
    let metrics = Arc::clone(metrics);
    let (report, started) = bounded(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let readiness = Arc::new(Readiness::default());
            let (plugin, place) = (EndpointKind::Health, String::new());
            let endpoints = [Endpoint { plugin, address: "127.0.0.1:0".into(), place }];
            let admin = Admin::bind(
                &endpoints,
                Arc::clone(&metrics),
                Arc::clone(&readiness),
                PortClaim::Alone,
            )
            .await;
            let admin = admin.unwrap();
            report.send(admin.listening().next().unwrap().1).unwrap();
            let trouble = supervisor.trouble();
            loop {
                let reports = supervisor.look(Instant::now());
                metrics.facts().shard_restarts = reports.iter().map(|one| one.restarts).collect();
                let is_calm = reports.iter().all(|one| one.is_answering);
                let pause = if is_calm { HEARTBEAT_EVERY } else { STUCK_LOOK_EVERY };
                let problems = reports.into_iter().enumerate();
                let stuck: Vec<_> = problems
                    .filter_map(|(shard, one)| Some(format!("shard {shard}: {}", one.problem?)))
                    .collect();
                readiness.set_stuck(stuck);
                let _ = timeout(pause, trouble.notified()).await;
            }
        });
    });
    started.recv().unwrap()
}

/// One response, or none within the socket's time-out.
fn ask(socket: &UdpSocket, id: u16) -> Option<()> {
    socket.send(&query_with_id(NAME, 1, id)).unwrap();
    let mut buffer = [0; 512];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) if is_response(&buffer[..len], id) => return Some(()),
            // To an earlier query.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// How many threads of this process have the name of the troubled shard's.
fn thread_count() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")));
    let name = format!("shard-{TROUBLED}");
    names.flatten().filter(|comm| comm.trim() == name).count()
}

fn value(metrics: &str, series: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    responses: AtomicU64,
    /// Queries of the troubled shard's clients without a response.
    unanswered: AtomicU64,
    /// The longest time that one of them had to wait, in microseconds.
    longest_us: AtomicU64,
}

/// Asks until it is over. Without `retries`, a lost query fails the test.
fn keep_asking(socket: &UdpSocket, retries: bool, seen: &Seen) {
    socket.set_read_timeout(Some(if retries { RETRY_AFTER } else { PATIENCE })).unwrap();
    let mut id = 1;
    while !seen.is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        id = u16::wrapping_add(id, 1);
        while ask(socket, id).is_none() {
            assert!(retries, "a query of another shard was lost");
            assert!(began.elapsed() < PATIENCE, "the shard does not come back");
            seen.unanswered.fetch_add(1, Ordering::SeqCst);
            id = id.wrapping_add(1);
        }
        let waited_us = began.elapsed().as_micros() as u64;
        if retries {
            seen.longest_us.fetch_max(waited_us, Ordering::SeqCst);
        }
        seen.responses.fetch_add(1, Ordering::SeqCst);
    }
}

/// The shard has its trouble, gets a new thread, and the old one ends. Returns what `/health` said
/// meanwhile.
fn endure(server: &Server, trouble: Trouble) -> String {
    sleep(Duration::from_millis(100));
    server.fleet.call(
        TROUBLED,
        match trouble {
            Trouble::Panic => panic_now,
            Trouble::Sleep => sleep_on,
            Trouble::Spin => spin,
        },
    );
    let began = Instant::now();
    let text = format!("shard {TROUBLED}: it ");
    let mut told = None;
    // After a panic a new thread may be there before anybody asks. After a hang the 503 lasts some
    // 300 ms, in which a busy machine may not run this thread at all.
    server.until("/health names the shard, or it has a new thread", |server| {
        let (status, body) = server.health();
        assert!(status == 200 || body.starts_with(&text), "{status} {body}");
        told = (status == 503).then(|| began.elapsed());
        told.is_some() || server.restart_count() > 0
    });
    server.until("/health is well again", |server| {
        server.restart_count() > 0 && server.health().0 == 200
    });
    let back = began.elapsed();
    let restarts = server.metrics.facts().shard_restarts.clone();
    let (panics, hangs) = if trouble == Trouble::Panic { (1, 0) } else { (0, 1) };
    let expected = ShardRestarts { panics, ends: 0, hangs };
    assert_eq!(restarts, [ShardRestarts::default(), expected]);
    // The thread that hung goes on, and ends.
    IS_RELEASED.store(true, Ordering::SeqCst);
    server.until("the old thread ends", |_| thread_count() == 1);
    let told = told.map_or_else(|| "503 not seen".into(), |told| format!("503 after {told:.0?}"));
    format!("/health: {told}, 200 after {back:.0?}")
}

fn check(backend: Backend, trouble: Trouble) {
    IS_RELEASED.store(false, Ordering::SeqCst);
    let server = Server::start(backend);
    let clients = server.clients();
    server.until("every shard answers its pings", |server| server.health() == (200, "OK".into()));
    let seen = Seen::default();
    let report = thread::scope(|scope| {
        for (shard, clients) in clients.iter().enumerate() {
            for client in clients {
                let seen = &seen;
                scope.spawn(move || keep_asking(client, shard == TROUBLED, seen));
            }
        }
        let endured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let report = endure(&server, trouble);
            // The clients go on, now that the old thread has left the sockets.
            let before = seen.responses.load(Ordering::SeqCst);
            server.until("clients get responses", |_| {
                seen.responses.load(Ordering::SeqCst) > before + RESPONSES_AFTERWARDS
            });
            report
        }));
        seen.is_over.store(true, Ordering::SeqCst);
        endured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let [responses, unanswered, longest_us] =
        [&seen.responses, &seen.unanswered, &seen.longest_us].map(|one| one.load(Ordering::SeqCst));
    println!(
        "{trouble:?} over {backend:?}: {report}; {responses} responses; of the other shard 0 lost; \
         of this one {unanswered} asked again, the longest wait was {} ms",
        longest_us / 1000
    );
    // Over TCP too, at whichever shard.
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&frame(&query_with_id(NAME, 1, 7))).unwrap();
        assert!(is_response(&read_frame(&mut stream).expect("a response over TCP"), 7));
    }
    let series = |cause: &str| {
        format!("ringdns_shard_restarts_total{{cause=\"{cause}\",shard=\"{TROUBLED}\"}}")
    };
    let cause = if trouble == Trouble::Panic { "panic" } else { "hang" };
    assert_eq!(value(&server.scrape(), &series(cause)), 1.0);
    server.fleet.stop(PATIENCE);
}

/// One test, because the release of a hanging thread is one flag.
#[test]
fn a_stuck_shard_is_replaced_and_the_others_lose_nothing() {
    // As the server does. A backtrace would take longer than all the rest.
    std::panic::set_hook(Box::new(|panic| {
        note_panic();
        eprintln!("{panic}");
    }));
    for backend in BACKENDS {
        for trouble in [Trouble::Panic, Trouble::Sleep, Trouble::Spin] {
            check(backend, trouble);
        }
    }
}
