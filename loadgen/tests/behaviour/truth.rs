//! Reports about servers with known behaviour: delays, stalls, drops and invalid responses.
//!
//! Counts must be exact. Times are checked against the minimum that the server's delay allows,
//! within 2 %. The maximum depends on the machine, so `sender/simulation.rs` checks both, in
//! simulated time.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::launched::wait_until;
use crate::server::{Behaviour, Server, Twist};
use clap::Parser;
use loadgen::cli::Cli;
use loadgen::report::{Summary, Times};
use loadgen::run::run;
use loadgen::workload::{Options, Workload, query_file};

fn workload(names: impl Iterator<Item = String>) -> Workload {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries");
    std::fs::write(&path, names.map(|name| format!("{name} A\n")).collect::<String>()).unwrap();
    query_file::read(&path, Options::default()).unwrap()
}

fn measure(server: &Server, flags: &str) -> Summary {
    measure_with(server, &workload((0..97).map(|i| format!("name-{i}.example"))), flags)
}

fn measure_with(server: &Server, workload: &Workload, flags: &str) -> Summary {
    measure_at(server.address(), workload, flags)
}

fn measure_at(address: SocketAddr, workload: &Workload, flags: &str) -> Summary {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let port = address.port().to_string();
    let host = address.ip().to_string();
    let words =
        ["loadgen", "-s", &host, "-p", &port].into_iter().chain(flags.split_ascii_whitespace());
    let plan = Cli::parse_from(words).run.plan(workload.len()).unwrap();
    let outcome = run(&plan, workload, &AtomicBool::new(false), |_| {}).unwrap();
    Summary::new(&plan, workload, &outcome)
}

/// Times that must exist.
fn times(times: &Option<Times>) -> &Times {
    times.as_ref().expect("a response")
}

/// One test at a time: each would be load on the machine for the others.
static ALONE: Mutex<()> = Mutex::new(());

/// Never less than the server's delay.
fn at_least(name: &str, got_ns: u64, expected_ms: f64) {
    let got_ms = got_ns as f64 / 1e6;
    assert!(got_ms >= 0.98 * expected_ms, "{name}: {got_ms} ms for {expected_ms} ms");
}

#[test]
fn a_fixed_delay_is_reported() {
    let behaviour = Behaviour { delay: Duration::from_millis(150), ..Behaviour::default() };
    let summary =
        measure(&Server::udp("127.0.0.1:0", behaviour), "-Q 1000 --spacing constant -l 1");
    assert_eq!((summary.counts.sent, summary.counts.timed_out), (1_000, 0));
    at_least("p50", times(&summary.latency).p50_ns, 150.0);
    at_least("p99", times(&summary.latency).p99_ns, 150.0);
    at_least("min", times(&summary.latency).min_ns, 150.0);
}

const STALL: Behaviour = Behaviour {
    delay: Duration::from_millis(1),
    stall: Some((Duration::from_secs(1), Duration::from_millis(100))),
    drop_every: None,
    twist: Twist::None,
};

#[test]
fn an_open_loop_shows_a_stall_and_a_closed_one_hides_it() {
    // A tenth of the send times fall into a stall and wait for the rest of its 100 ms, so p99 is 90
    // ms and p99.9 is 99 ms.
    let server = Server::udp("127.0.0.1:0", STALL);
    let summary = measure(&server, "-Q 2000 --spacing constant -l 3");
    assert_eq!((summary.counts.sent, summary.counts.timed_out), (6_000, 0));
    at_least("p99", times(&summary.latency).p99_ns, 90.0);
    at_least("p99.9", times(&summary.latency).p99_9_ns, 99.0);
    // Ten queries wait in each stall, and thousands are sent between stalls.
    let closed = measure(&server, "-q 10 -l 3");
    assert!(
        times(&closed.latency).p99_ns < times(&summary.latency).p99_ns / 2,
        "{:?}",
        closed.latency
    );
    at_least("closed max", times(&closed.latency).max_ns, 99.0);
}

#[test]
fn a_rate_covers_the_whole_run() {
    // One query per second, answered at once, is a rate of 1.
    let server = Server::udp("127.0.0.1:0", Behaviour::default());
    let summary = measure(&server, "-Q 0.5 --spacing constant -l 1");
    assert_eq!((summary.counts.sent, summary.answered_qps), (1, Some(1.0)), "{summary:?}");
    assert!(summary.own.busy_max.unwrap() < 0.9, "{:?}", summary.own);
    // Nothing was lost, so no latency is the timeout.
    assert_eq!(summary.latency_with_lost, summary.latency);
    // The steps end before -l does.
    let summary = measure(&server, "-Q 100..200+100/0.2 --spacing constant -l 10");
    assert!(summary.answered_qps.unwrap() > 100.0, "{summary:?}");
    let summary = measure(&server, "-q 1 --count 1 -l 60");
    assert!(summary.answered_qps.unwrap() > 1.0, "{summary:?}");
}

#[test]
fn sends_delayed_by_a_full_window_count_as_late() {
    // In a stall of 100 ms at 1000/s, the first 50 leave and the rest wait for its end: those due
    // at 50 to 90 ms are more than 10 ms late.
    let flags = "-Q 1000 --spacing constant -q 50 -l 3 --late-after 10";
    let summary = measure(&Server::udp("127.0.0.1:0", STALL), flags);
    assert_eq!((summary.counts.sent, summary.counts.unsent), (3_000, 0));
    let late = summary.counts.sent_late as f64;
    assert!(late >= 0.98 * 120.0, "{late} late sends for 120");
}

#[test]
fn every_dropped_response_counts_as_lost() {
    let server =
        Server::udp("127.0.0.1:0", Behaviour { drop_every: Some(100), ..Behaviour::default() });
    let summary = measure(&server, "-Q 5000 --spacing constant -l 1 -t 0.5");
    assert_eq!((summary.counts.sent, server.dropped()), (5_000, 50));
    assert_eq!((summary.counts.timed_out, summary.counts.answered_total()), (50, 4_950));
    assert_eq!(summary.loss, Some(0.01));
    assert!(
        times(&summary.latency_with_lost).p99_9_ns >= 499_000_000,
        "{:?}",
        summary.latency_with_lost
    );
}

#[test]
fn invalid_responses_are_counted_by_kind() {
    type Count = fn(&Summary) -> (u64, u64);
    let rows: &[(Twist, Count, (u64, u64))] = &[
        (Twist::WrongId, |s| (s.counts.wrong_id, s.counts.timed_out), (20, 20)),
        (Twist::WrongQuestion, |s| (s.counts.wrong_question, s.counts.timed_out), (20, 20)),
        (Twist::Garbage, |s| (s.counts.garbage, s.counts.timed_out), (20, 20)),
        (Twist::Empty, |s| (s.counts.garbage, s.counts.timed_out), (20, 20)),
        (Twist::Query, |s| (s.counts.garbage, s.counts.timed_out), (20, 20)),
        (Twist::RepeatLast, |s| (s.counts.duplicates, s.counts.answered[0]), (19, 20)),
        (Twist::Truncated, |s| (s.counts.truncated, s.counts.answered[0]), (20, 20)),
        (Twist::OtherCase, |s| (s.counts.other_case, s.counts.answered[0]), (20, 20)),
        // The duplicates are in another case, too, and are no part of the answers.
        (Twist::RepeatLastOtherCase, |s| (s.counts.duplicates, s.counts.other_case), (19, 20)),
        (Twist::Servfail, |s| (s.counts.answered[2], s.counts.answered_total()), (20, 20)),
        (
            Twist::FormerrWithoutQuestion,
            |s| (s.counts.question_left_out, s.counts.answered[1]),
            (20, 20),
        ),
    ];
    for (twist, count, expected) in rows {
        let server =
            Server::udp("127.0.0.1:0", Behaviour { twist: *twist, ..Behaviour::default() });
        let summary = measure(&server, "-q 1 --count 20 -t 0.1");
        assert_eq!(count(&summary), *expected, "{twist:?}: {:?}", summary.counts);
        assert_eq!(summary.counts.sent, 20);
    }
}

#[test]
fn every_socket_is_read_until_nothing_is_left() {
    // With a repeated response before each, a socket holds more than it expects.
    for twist in [Twist::None, Twist::RepeatLast] {
        for flags in ["-q 8", "-q 64", "-q 640"] {
            let server = Server::udp("127.0.0.1:0", Behaviour { twist, ..Behaviour::default() });
            let summary = measure(&server, &format!("-c 8 {flags} --count 20000 -t 5"));
            let got = (summary.counts.answered_total(), summary.counts.timed_out);
            assert_eq!(got, (20_000, 0), "{twist:?} {flags}: {:?}", summary.counts);
        }
    }
}

#[test]
fn responses_after_the_timeout_count_as_late() {
    let server = Server::udp(
        "127.0.0.1:0",
        Behaviour { delay: Duration::from_millis(300), ..Behaviour::default() },
    );
    let summary = measure(&server, "-Q 100 --spacing constant -l 0.8 -t 0.1");
    assert_eq!(
        (summary.counts.sent, summary.counts.timed_out, summary.counts.answered_total()),
        (80, 80, 0)
    );
    assert!(summary.counts.late_answers >= 20, "{:?}", summary.counts);
    assert!(
        summary.warnings.iter().any(|warning| warning.contains("NO RESPONSE")),
        "{:?}",
        summary.warnings
    );
}

#[test]
fn a_missing_server_is_reported() {
    let gone = Server::nobody();
    let summary = measure(&gone, "-q 2 --count 4 -t 0.1");
    assert_eq!(summary.counts.answered_total(), 0);
    assert!(
        summary.warnings.iter().any(|warning| warning.contains("port is closed")),
        "{:?}",
        summary.warnings
    );
    let summary = measure(&gone, "-m tcp -q 2 --count 4 -l 0.3 -t 0.1");
    assert_eq!((summary.counts.sent, summary.counts.answered_total()), (0, 0));
    assert!(summary.counts.refused > 0, "{:?}", summary.counts);
    // Never sent are the queries that there were, and those that were due until the run gave up.
    let summary = measure(&gone, "-m tcp -Q 1000 --spacing constant -n 1 -t 0.2");
    assert_eq!((summary.counts.sent, summary.counts.unsent), (0, 97), "{:?}", summary.counts);
    let summary = measure(&gone, "-m tcp -Q 1000 --spacing constant -l 600 -t 0.2");
    assert!((200..600_000).contains(&summary.counts.unsent), "{:?}", summary.counts);
}

#[test]
fn every_query_that_was_due_is_in_the_accounts() {
    // Queries of many lengths leave in many calls, each of which reports that the last was refused.
    let gone = Server::nobody();
    let workload = workload((1..=60).map(|len| "x".repeat(len)));
    for cut in ["", "--no-gso"] {
        let flags = format!("{cut} -Q 1M --count 5000 -t 0.2");
        let counts = measure_with(&gone, &workload, &flags).counts;
        assert!(counts.refused > 0, "{cut}: {counts:?}");
        assert_eq!((counts.sent, counts.unsent), (5_000, 0), "{cut}: {counts:?}");
    }
}

#[test]
fn many_sockets_and_threads_work_over_both_families() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::udp(local, Behaviour::default());
        let closed = measure(&server, "-c 8 -T 2 -q 16 --count 5001 -t 2");
        assert_eq!(
            (closed.counts.sent, closed.counts.answered_total()),
            (5_001, 5_001),
            "{:?}",
            closed.counts
        );
        // As many clients as requested: responses are matched within their own socket.
        assert_eq!(server.clients(), 8);
        let open = measure(&server, "-c 8 -T 2 -Q 5000 --spacing constant -l 1 -t 2");
        assert_eq!(
            (open.counts.sent, open.counts.answered_total()),
            (5_000, 5_000),
            "{:?}",
            open.counts
        );
        // Names of two lengths: a batch is cut into several runs, or into single messages.
        for cut in ["", "--no-gso"] {
            let closed = measure(&server, &format!("{cut} -q 200 --count 5000 -t 2"));
            let counts = closed.counts;
            assert_eq!((counts.sent, counts.answered_total()), (5_000, 5_000), "{counts:?}");
            assert_eq!(counts.send_errors, 0);
        }
    }
}

#[test]
fn sockets_take_turns_if_there_are_more_than_queries_in_flight() {
    let udp = Server::udp("127.0.0.1:0", Behaviour::default());
    let tcp = Server::tcp("127.0.0.1:0");
    for (server, mode) in [(&udp, "udp"), (&tcp, "tcp")] {
        let summary = measure(server, &format!("-m {mode} -c 8 -q 1 --count 100 -t 2"));
        assert_eq!(summary.counts.answered_total(), 100, "{mode}: {:?}", summary.counts);
        assert_eq!(server.clients(), 8, "{mode}");
    }
}

#[test]
fn both_transports_in_one_run_are_counted_apart() {
    // Over UDP each response takes 40 ms and one in ten is lost; TCP has neither. The figures of
    // one must not show in the other.
    let behaviour = Behaviour {
        delay: Duration::from_millis(40),
        drop_every: Some(10),
        ..Behaviour::default()
    };
    let (udp, _tcp) = Server::both(behaviour);
    for flags in ["-Q 2000 -l 2", "-q 200 --count 4000"] {
        let dropped_before = udp.dropped();
        let summary = measure(&udp, &format!("{flags} --tcp-share 0.25 -c 4 -T 2 -t 0.5"));
        let [over_udp, over_tcp] = summary.by_transport.as_slice() else { panic!("{summary:?}") };
        let sent = summary.counts.sent;
        assert_eq!(over_udp.counts.sent + over_tcp.counts.sent, sent, "{flags}");
        let share = over_tcp.counts.sent as f64 / sent as f64;
        assert!((share - 0.25).abs() < 0.03, "{flags}: {share} of {sent} over TCP");
        assert_eq!(over_udp.counts.timed_out, udp.dropped() - dropped_before, "{flags}");
        assert_eq!(over_tcp.counts.answered_total(), over_tcp.counts.sent, "{flags}");
        at_least("UDP min", times(&over_udp.latency).min_ns, 40.0);
        assert!(times(&over_tcp.latency).p50_ns < times(&over_udp.latency).p50_ns, "{flags}");
        assert_eq!(
            times(&summary.latency).count,
            times(&over_udp.latency).count + times(&over_tcp.latency).count
        );
    }
}

#[test]
fn a_transport_without_a_server_ends_a_mixed_run() {
    let summary = measure(
        &Server::udp("127.0.0.1:0", Behaviour::default()),
        "--tcp-share 0.5 -q 100 --count 5000 -t 0.3",
    );
    assert_eq!(summary.counts.connects, 0);
    let says = |part: &str| summary.warnings.iter().any(|warning| warning.contains(part));
    assert!(says("no TCP connection could be made"), "{:?}", summary.warnings);
    assert!(says("no TCP connection was open for 0.3 s"), "{:?}", summary.warnings);
}

#[test]
fn warnings_say_why_queries_were_never_sent() {
    let silent = Behaviour { drop_every: Some(1), ..Behaviour::default() };
    let rows = [
        // Without TCP, for less than the timeout.
        (
            Behaviour::default(),
            "--tcp-share 0.5 -Q 1000 -l 0.3 -t 5",
            "TCP connections were missing",
        ),
        (silent, "-Q 1000 -q 5 -l 0.3 -t 1", "the limit on queries in flight (-q) was reached"),
    ];
    for (behaviour, flags, why) in rows {
        let summary = measure(&Server::udp("127.0.0.1:0", behaviour), flags);
        assert!(summary.counts.unsent > 0, "{flags}: {:?}", summary.counts);
        let reasons: Vec<&str> = summary
            .warnings
            .iter()
            .filter_map(|one| Some(one.split_once("never sent: ")?.1))
            .collect();
        assert_eq!(reasons, [why], "{:?}", summary.warnings);
        assert!(!summary.warnings.iter().any(|one| one.contains("ended early")), "{flags}");
    }
}

#[test]
fn a_tcp_server_that_goes_away_ends_a_run_without_an_end() {
    let workload = workload(["a.example".to_owned()].into_iter());
    for flags in ["-q 1", "-Q 1000"] {
        let server = Server::tcp("127.0.0.1:0");
        let address = server.address();
        let killer = std::thread::spawn(move || {
            wait_until(|| server.clients() > 0);
            drop(server);
        });
        let flags = format!("-m tcp {flags} --count 1000000000 -t 0.3");
        let summary = measure_at(address, &workload, &flags);
        killer.join().unwrap();
        assert!(summary.counts.connects > 0, "{:?}", summary.counts);
        assert!(summary.counts.sent < 1_000_000_000, "{:?}", summary.counts);
        let says = |part: &str| summary.warnings.iter().any(|warning| warning.contains(part));
        assert!(says("the run ended early"), "{:?}", summary.warnings);
    }
}

#[test]
fn tcp_is_pipelined_and_reconnects() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::tcp(local);
        let summary = measure(&server, "-m tcp -c 4 -T 2 -q 64 --count 10000 -t 2");
        assert_eq!(
            (summary.counts.sent, summary.counts.answered_total()),
            (10_000, 10_000),
            "{:?}",
            summary.counts
        );
        assert_eq!(summary.counts.connects, 4);
        let summary = measure(&server, "-m tcp -c 1 -q 10 --count 1000 --reconnect 100 -t 2");
        assert_eq!((summary.counts.answered_total(), summary.counts.connections_lost), (1_000, 0));
        assert!((10..=11).contains(&summary.counts.connects), "{}", summary.counts.connects);
        let open = measure(&server, "-m tcp -c 4 -Q 2000 --spacing constant -l 1 -t 2");
        assert_eq!(
            (open.counts.sent, open.counts.answered_total()),
            (2_000, 2_000),
            "{:?}",
            open.counts
        );
    }
}
