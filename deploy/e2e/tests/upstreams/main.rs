//! ringdns in front of real upstreams, Knot and Unbound: what a client sees when they are healthy,
//! late, faulty or gone, and how soon; and that answers about the cluster never wait for them.
//!
//! `fault.rs` lists the faults. Each has its own zone, which its own `forward` line sends to its
//! own upstream.

mod fault;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::ask::{Transport, ask_as};
use e2e::corefile::Corefile;
use e2e::crowd::ask_at_once;
use e2e::deadline::poll;
use e2e::delays::Delays;
use e2e::http::metric;
use e2e::knot::Knot;
use e2e::port;
use e2e::pulse::Pulse;
use e2e::query::Query;
use e2e::question::Question;
use e2e::relay::Relay;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Upstreams;
use e2e::unbound::Unbound;
use fault::{FAULTS, Fault, Seen, Upstream};

/// How ringdns moves datagrams: by io_uring if allowed, and without.
const WAYS: [[&str; 2]; 2] = [["--io", "auto"], ["--io", "mmsg"]];

/// The name in the certificate of the upstream over TLS.
const SERVER_NAME: &str = "resolver.example";

/// Queries for each faulty upstream.
const QUESTION_COUNT: usize = 20;

/// How long cluster answers are measured beside each fault, and how often a query is sent.
const PULSE_TIME: Duration = Duration::from_millis(400);
const PULSE_PERIOD: Duration = Duration::from_micros(400);

/// Most queries to an upstream for one client query: two tries, each over UDP and TCP.
const ASKED_MAX: usize = 4;

/// How long a client waits: more than the five seconds that a query may take.
const PATIENCE: Duration = Duration::from_secs(7);

/// Held by tests that measure, and by those that would disturb them.
static QUIET: Mutex<()> = Mutex::new(());

#[test]
fn cluster_answers_do_not_wait_for_upstreams() {
    let test = "upstreams::cluster_answers_do_not_wait_for_upstreams";
    let Some(programs) = Upstreams::find(test) else { return };
    each_way(|way| check_faults(&programs, way));
}

fn check_faults(programs: &Upstreams, way: [&str; 2]) {
    let knot = healthy(programs);
    let mut killed = healthy(programs);
    killed.kill();
    let stopped = healthy(programs);
    stopped.suspend();
    let unbound = Unbound::start(&programs.unbound, SERVER_NAME, "example.", knot.address());
    unbound.suspend();
    let relays = FAULTS.map(|_| Relay::start(knot.address()));
    let mut forwards = String::new();
    for (Fault { zone, upstream, options, .. }, relay) in FAULTS.iter().zip(&relays) {
        let (to, more) = match upstream {
            Upstream::Relayed(behaviour) => {
                relay.behave(".", *behaviour);
                (relay.address().to_string(), String::new())
            }
            Upstream::Killed => (killed.address().to_string(), String::new()),
            Upstream::Stopped => (stopped.address().to_string(), String::new()),
            Upstream::StoppedTls => (
                format!("tls://{}", unbound.tls_address()),
                tls(SERVER_NAME, &unbound.certificate()),
            ),
        };
        forwards += &format!("forward {zone}.example {to} {{\n{options}\n{more}\n}}\n");
    }
    let metrics = loopback(port::free());
    let server = start(&forwards, Some(metrics), way);
    let quiet = quiet();
    let alone = cluster_answers(&server);
    let say_pulse = |pulse: &Delays| {
        format!("p99.9 {:.2} ms, max {:.2} ms", ms(pulse.at_per_mille(999)), ms(pulse.at(100)))
    };
    say(&format!("upstreams, {}: cluster answers alone: {}", way[1], say_pulse(&alone)));
    std::thread::scope(|scope| {
        // Clients of one fault may still wait while the next is tested, and all of them while
        // others measure.
        let _quiet = quiet;
        for fault in &FAULTS {
            let questions = below(fault.zone);
            let address = server.address();
            let clients = scope.spawn(move || ask_at_once(address, &questions, PATIENCE));
            let beside = cluster_answers(&server);
            let say_pulse = say_pulse(&beside);
            scope.spawn(move || {
                let answers = clients.join().expect("clients");
                let delays = fault.check(&answers);
                say(&format!(
                    "upstreams, {}: an upstream {}: {QUESTION_COUNT} × {:?}, {delays}; \
                     cluster answers meanwhile: {say_pulse}",
                    way[1], fault.what, fault.seen,
                ));
            });
        }
    });
    check_counts(&relays, metrics);
    for words in ["i/o timeout", "read: connection refused", "malformed answer"] {
        expect_line(&server, words);
    }
}

/// Checks the queries that the upstreams received, and what ringdns counted of the responses.
fn check_counts(relays: &[Relay], metrics: SocketAddr) {
    for (fault, relay) in FAULTS.iter().zip(relays) {
        for question in below(fault.zone) {
            let count = relay.count(&question.name);
            assert!(count <= ASKED_MAX, "{question} was sent {count} times");
        }
    }
    for (name, zone) in [
        ("ringdns_forward_foreign_answers_total", "noise"),
        ("ringdns_forward_foreign_answers_total", "ids"),
        ("ringdns_forward_foreign_answers_total", "names"),
        ("ringdns_forward_foreign_answers_total", "spoofed"),
        ("ringdns_forward_malformed_answers_total", "clipped"),
        ("ringdns_forward_tcp_retries_total", "cut"),
    ] {
        let index = FAULTS.iter().position(|fault| fault.zone == zone).expect("its row");
        let to = format!("to=\"{}\"", relays[index].address());
        let count = metric(metrics, name, &[&to]);
        assert!(count >= QUESTION_COUNT as f64, "{name} of '{zone}' is {count}");
    }
}

/// Over UDP, TCP and TLS, by a relay that records the transport, and by a resolver.
#[test]
fn every_transport_works() {
    let Some(programs) = Upstreams::find("upstreams::every_transport_works") else { return };
    let _quiet = quiet();
    let knot = healthy(&programs);
    let relay = Relay::start(knot.address());
    let unbound = Unbound::start(&programs.unbound, SERVER_NAME, "example.", knot.address());
    let plain = relay.address();
    let (dns, dot) = (unbound.address(), unbound.tls_address());
    let known = tls(SERVER_NAME, &unbound.certificate());
    let other = tls("stranger.example", &unbound.certificate());
    let forwards = format!(
        "forward udp.example {plain}\nforward tcp.example {plain}\n
         forward forced.example {plain} {{\nforce_tcp\n}}\n
         forward preferred.example {plain} {{\nprefer_udp\n}}\n
         forward tls.example tls://{dot} {{\n{known}\n}}\n
         forward stranger.example tls://{dot} {{\n{other}\n}}\n
         forward . {dns}\n",
    );
    // In turn, since the relay counts.
    for way in WAYS {
        let metrics = loopback(port::free());
        let server = start(&forwards, Some(metrics), way);
        for (zone, transport, seen, is_over_tcp) in [
            ("udp", Transport::Udp, Seen::Address, Some(false)),
            ("tcp", Transport::Tcp, Seen::Address, Some(true)),
            ("forced", Transport::Udp, Seen::Address, Some(true)),
            ("preferred", Transport::Tcp, Seen::Address, Some(false)),
            ("tls", Transport::Udp, Seen::Address, None),
            ("tls", Transport::Tcp, Seen::Address, None),
            ("stranger", Transport::Udp, Seen::ServFail, None),
            ("resolver", Transport::Udp, Seen::Address, None),
            ("resolver", Transport::Tcp, Seen::Address, None),
        ] {
            relay.forget();
            for question in below(zone) {
                let answer = server.ask(&question, transport).expect("an answer");
                assert_eq!(Seen::of(&answer), seen, "{question} {transport:?}: {answer:?}");
            }
            let ways: Vec<bool> = relay.queries().iter().map(|asked| asked.is_over_tcp).collect();
            let expected = is_over_tcp.map_or(vec![], |is_over_tcp| vec![is_over_tcp; 20]);
            assert_eq!(ways, expected, "{zone}, queried over {transport:?}");
        }
        expect_line(&server, "invalid peer certificate");
        // 40 queries in turn: each shard keeps its connection.
        let kept = metric(metrics, "coredns_proxy_conn_cache_hits_total", &["proto=\"tcp-tls\""]);
        assert!(kept >= 30.0, "only {kept} queries over TLS found a connection");
        check_big(&server);
    }
}

/// A response that does not fit is truncated for a client over UDP, and complete over TCP.
fn check_big(server: &Server) {
    let big = Question::new("big.example.", Rtype::TXT);
    let reply = |transport| {
        let query = Query::plain(big.clone());
        ask_as(server.address(), &query, transport, PATIENCE).expect("an answer")
    };
    let cut = reply(Transport::Udp);
    assert!(cut.answer.tc && cut.len <= 512, "{cut:?}");
    let whole = reply(Transport::UdpThenTcp);
    assert!(!whole.answer.tc && whole.len > 1232, "{whole:?}");
    assert_eq!(whole.answer.data_of(Rtype::TXT).len(), BIG_COUNT);
}

/// A second upstream answers in place of a silent first one, long before that times out.
#[test]
fn a_second_upstream_is_used_in_time() {
    let Some(programs) = Upstreams::find("upstreams::a_second_upstream_is_used_in_time") else {
        return;
    };
    let _quiet = quiet();
    let knot = healthy(&programs);
    let mut killed = healthy(&programs);
    killed.kill();
    let stopped = healthy(&programs);
    stopped.suspend();
    let second = knot.address();
    each_way(|way| {
        let forwards = format!(
            "forward stopped.example {stopped} {second} {{\npolicy sequential\n}}\n
             forward killed.example {killed} {second} {{\npolicy sequential\n}}\n
             forward unhedged.example {stopped} {second} {{\npolicy sequential\nhedge off\n}}\n",
            stopped = stopped.address(),
            killed = killed.address(),
        );
        let server = start(&forwards, None, way);
        let in_time = Duration::ZERO..Duration::from_millis(1_500);
        for (zone, first_within) in [
            ("stopped", in_time.clone()),
            ("killed", in_time),
            ("unhedged", Duration::from_millis(1_900)..Duration::from_secs(4)),
        ] {
            let mut delays = Vec::new();
            for question in below(zone) {
                let (answer, delay) = timed(&server, &question);
                assert_eq!(Seen::of(&answer), Seen::Address, "{question}: {answer:?}");
                delays.push(delay);
            }
            assert!(first_within.contains(&delays[0]), "{zone}: {:?}", delays[0]);
            // By now each shard that had queries knows that it is down.
            let later = *delays.iter().skip(QUESTION_COUNT / 2).max().expect("many");
            say(&format!(
                "upstreams, {}: the first upstream is {zone}: the first answer after {:.1} ms, \
                 the last ten after {:.1} ms at most",
                way[1],
                ms(delays[0]),
                ms(later)
            ));
        }
    });
}

/// A recovered upstream is used again.
#[test]
fn recovered_upstreams_are_used_again() {
    let Some(programs) = Upstreams::find("upstreams::recovered_upstreams_are_used_again") else {
        return;
    };
    let _quiet = quiet();
    each_way(|way| {
        let mut knot = healthy(&programs);
        let unbound = Unbound::start(&programs.unbound, SERVER_NAME, "example.", knot.address());
        let forwards = format!(
            "forward udp.example {plain} {{\nread_timeout 300ms\n}}\n
             forward tcp.example {plain} {{\nread_timeout 300ms\nforce_tcp\n}}\n
             forward tls.example tls://{} {{\nread_timeout 300ms\n{}\n}}\n",
            unbound.tls_address(),
            tls(SERVER_NAME, &unbound.certificate()),
            plain = knot.address(),
        );
        let server = start(&forwards, None, way);
        let zones = ["udp", "tcp", "tls"];
        let expect = |zones: &[&str], seen: Seen, when: &str| {
            for zone in zones {
                let began = Instant::now();
                let question = Question::new(format!("a.{zone}.example."), Rtype::A);
                poll(PATIENCE, &format!("{seen:?} over {zone} {when}"), || {
                    (Seen::of(&timed(&server, &question).0) == seen).then_some(())
                });
                let after = ms(began.elapsed());
                say(&format!(
                    "upstreams, {}: {zone}, {when}: {seen:?} after {after:.1} ms",
                    way[1]
                ));
            }
        };
        expect(&zones, Seen::Address, "at first");
        knot.suspend();
        unbound.suspend();
        expect(&zones, Seen::ServFail, "once stopped");
        knot.resume();
        unbound.resume();
        expect(&zones, Seen::Address, "once continued");
        knot.kill();
        expect(&zones[..2], Seen::ServFail, "once killed");
        knot.restart();
        expect(&zones, Seen::Address, "once restarted");
    });
}

fn quiet() -> MutexGuard<'static, ()> {
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both at a time, since most of the test is waiting.
fn each_way(check: impl Fn([&str; 2]) + Sync) {
    std::thread::scope(|scope| {
        for way in WAYS {
            let check = &check;
            scope.spawn(move || check(way));
        }
    });
}

/// TXT records of `big.example.`
const BIG_COUNT: usize = 40;

/// A Knot that has every name below `example.`
fn healthy(programs: &Upstreams) -> Knot {
    let mut records = "@ 300 SOA ns hostmaster 1 3600 600 86400 300
@ 300 NS ns
ns 300 A 127.0.0.1
* 300 A 192.0.2.1
"
    .to_owned();
    for index in 0..BIG_COUNT {
        records += &format!("big 300 TXT \"{index} {}\"\n", "x".repeat(50));
    }
    Knot::start(&programs.knotd, "example.", &records)
}

/// Starts ringdns with a cluster.
fn start(forwards: &str, metrics: Option<SocketAddr>, way: [&str; 2]) -> Server {
    let metrics = metrics.map(|address| format!("prometheus {address}")).unwrap_or_default();
    let corefile = Corefile::new(format!(
        ".:5353 {{
    bind 127.0.0.1
    errors
    {metrics}
    kubernetes cluster.local {{
        manifests -
    }}
    {forwards}
}}
"
    ));
    let cluster = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example/cluster");
    Server::start_with(Kind::Ringdns, &corefile.with_manifests(&cluster), None, &way)
}

fn tls(server_name: &str, certificate: &Path) -> String {
    format!("tls {}\ntls_servername {server_name}", certificate.display())
}

fn below(zone: &str) -> Vec<Question> {
    let name = |index| format!("q{index}.{zone}.example.");
    (0..QUESTION_COUNT).map(|index| Question::new(name(index), Rtype::A)).collect()
}

/// How long cluster answers take now.
fn cluster_answers(server: &Server) -> Delays {
    let question = Question::new("kubernetes.default.svc.cluster.local.", Rtype::A);
    let pulse = Pulse::start(server.address(), question, PULSE_PERIOD);
    std::thread::sleep(PULSE_TIME);
    pulse.end()
}

/// Log lines of `errors` are written shortly after the response has left.
fn expect_line(server: &Server, words: &str) {
    poll(Duration::from_secs(5), &format!("a line of the log with '{words}'"), || {
        server.log().contains(words).then_some(())
    });
}

fn timed(server: &Server, question: &Question) -> (Answer, Duration) {
    let began = Instant::now();
    let query = Query::plain(question.clone());
    let reply = ask_as(server.address(), &query, Transport::Udp, PATIENCE);
    (reply.expect("an answer").answer, began.elapsed())
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
