//! A connection that has carried all its queries is replaced at once: the loop never sleeps while
//! no response can wake it.
//!
//! Sleeps are counted, not timed, so a busy machine changes nothing.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use domain::base::Rtype;

use super::*;
use crate::collect::collect;
use crate::schedule::NANOS_PER_SEC;
use crate::sender::{Clock, Pace, Share, run};
use crate::tally::recorders;
use crate::transport::Mode;
use crate::workload::{Options, Question, Workload};

/// Counts how often the loop sleeps although no response can wake it.
struct Watched<'c> {
    tcp: Tcp,
    sleeps_in_vain: &'c AtomicU64,
}

impl Carrier for Watched<'_> {
    fn send(&mut self, driver: &mut Driver<'_>, now_ns: u64) -> usize {
        self.tcp.send(driver, now_ns)
    }

    fn receive(&mut self, driver: &mut Driver<'_>) -> usize {
        self.tcp.receive(driver)
    }

    fn expire(&mut self, driver: &mut Driver<'_>, deadline_ns: u64) {
        self.tcp.expire(driver, deadline_ns);
    }

    fn own_drops(&self) -> u64 {
        0
    }

    fn wait(&mut self, timeout_ns: u64) {
        let mut connections = self.tcp.connections.iter();
        if connections.all(|connection| connection.flight.outstanding() == 0) {
            self.sleeps_in_vain.fetch_add(1, Ordering::Relaxed);
        }
        self.tcp.wait(timeout_ns);
    }
}

/// Answers queries of this length, each connection in a thread of its own.
fn serve(listener: &TcpListener, frame_len: usize) {
    while let Ok((mut stream, _)) = listener.accept() {
        std::thread::spawn(move || {
            let mut frame = vec![0; frame_len];
            while stream.read_exact(&mut frame).is_ok() {
                frame[4] |= 0x80;
                let _ = stream.write_all(&frame);
            }
        });
    }
}

#[test]
fn a_used_up_connection_is_replaced_without_a_sleep() {
    const SENDS: u64 = 600;
    let mut workload = Workload::default();
    let question = Question { name: "a.example".parse().unwrap(), rtype: Rtype::A };
    workload.push(&question, Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let frame_len = 2 + workload.message(0).bytes.len();
    std::thread::spawn(move || serve(&listener, frame_len));
    let stop = AtomicBool::new(false);
    let check = |connection_count: usize, reconnect_after: u64, connects: u64| {
        let tcp = Tcp::new(TcpOptions {
            server,
            local: None,
            connection_count,
            outstanding_max: 8,
            reconnect_after,
        });
        let share = Share {
            clock: Clock::Monotonic(Instant::now()),
            workload: &workload,
            pace: Pace::Closed,
            outstanding_max: 8,
            index: 0,
            count: 1,
            sends_max: SENDS,
            end_ns: 60 * NANOS_PER_SEC,
            timeout_ns: 20 * NANOS_PER_SEC,
            late_after_ns: NANOS_PER_SEC,
            mode: Mode::One(Transport::Tcp),
            seed: 1,
            spin: false,
            stop: &stop,
        };
        let (mut recorders, intervals) = recorders(1);
        let driver = Driver::new(share, recorders.remove(0));
        let sleeps_in_vain = AtomicU64::new(0);
        run(Watched { tcp: tcp.unwrap(), sleeps_in_vain: &sleeps_in_vain }, driver);
        let counts = collect(&intervals, 1, |_| {}).counts();
        let got = (counts.answered_total(), counts.connects, sleeps_in_vain.into_inner());
        assert_eq!(got, (SENDS, connects, 0), "{connection_count} × {reconnect_after}");
    };
    check(1, 1, SENDS);
    check(8, 1, SENDS);
    check(1, 5, SENDS / 5);
}
