//! The faults of upstreams, and what a client must see of each.

use std::ops::Range;
use std::time::Duration;

use e2e::answer::Answer;
use e2e::delays::Delays;
use e2e::relay::Behaviour;

const AT_ONCE: Range<Duration> = Duration::ZERO..Duration::from_secs(1);

/// All tries at one upstream have timed out: one or two tries of two seconds.
const TIMED_OUT: Range<Duration> = Duration::from_millis(1_900)..Duration::from_secs(6);

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Address,
    /// TC without records.
    Cut,
    ServFail,
}

impl Seen {
    pub(crate) fn of(answer: &Answer) -> Self {
        let count = answer.records().count();
        match (answer.rcode.as_str(), answer.answer.len(), count, answer.tc) {
            ("NOERROR", 1, 1, false) => Self::Address,
            ("NOERROR", 0, 0, true) => Self::Cut,
            ("SERVFAIL", 0, 0, false) => Self::ServFail,
            _ => panic!("neither an address, nor truncated, nor SERVFAIL: {answer:?}"),
        }
    }
}

/// What is in the upstream's place.
#[derive(Clone, Copy)]
pub(crate) enum Upstream {
    /// Knot, behind a relay with this behaviour.
    Relayed(Behaviour),
    /// Knot, killed: the kernel reports the port as closed.
    Killed,
    /// Knot, stopped by SIGSTOP: its kernel accepts queries that it never reads.
    Stopped,
    /// Unbound over TLS, stopped by SIGSTOP: its kernel accepts connections.
    StoppedTls,
}

pub(crate) struct Fault {
    /// A name below `example.`
    pub(crate) zone: &'static str,
    pub(crate) what: &'static str,
    pub(crate) upstream: Upstream,
    /// Options of its `forward` line.
    pub(crate) options: &'static str,
    pub(crate) seen: Seen,
    /// When the response must come.
    pub(crate) within: Range<Duration>,
}

impl Fault {
    /// Panics unless every client saw what it must, in time; returns how long that took.
    pub(crate) fn check(&self, answers: &[Option<(Answer, Duration)>]) -> Delays {
        let Self { what, seen, within, .. } = self;
        let mut delays = Vec::new();
        for answer in answers {
            let (answer, delay) = answer.as_ref().expect("every client is answered");
            assert_eq!(Seen::of(answer), *seen, "an upstream {what}: {answer:?}");
            assert!(within.contains(delay), "an upstream {what}: answered after {delay:?}");
            delays.push(*delay);
        }
        Delays::new(delays)
    }
}

const fn fault(
    zone: &'static str,
    what: &'static str,
    upstream: Upstream,
    seen: Seen,
    within: Range<Duration>,
) -> Fault {
    Fault { zone, what, upstream, options: "", seen, within }
}

const LATE: Behaviour = Behaviour::Late(Duration::from_millis(300));
const LATE_WITHIN: Range<Duration> = Duration::from_millis(300)..Duration::from_secs(2);

pub(crate) const FAULTS: [Fault; 13] = [
    fault("well", "is healthy", Upstream::Relayed(Behaviour::Honest), Seen::Address, AT_ONCE),
    fault("late", "is late by 300 ms", Upstream::Relayed(LATE), Seen::Address, LATE_WITHIN),
    fault("killed", "was killed", Upstream::Killed, Seen::ServFail, AT_ONCE),
    fault("stopped", "was stopped", Upstream::Stopped, Seen::ServFail, TIMED_OUT),
    fault("tls", "was stopped, over TLS", Upstream::StoppedTls, Seen::ServFail, TIMED_OUT),
    fault("noise", "sends noise", Upstream::Relayed(Behaviour::Noise), Seen::ServFail, TIMED_OUT),
    fault(
        "ids",
        "sends wrong ids",
        Upstream::Relayed(Behaviour::WrongId),
        Seen::ServFail,
        TIMED_OUT,
    ),
    fault(
        "names",
        "sends wrong questions",
        Upstream::Relayed(Behaviour::WrongQuestion),
        Seen::ServFail,
        TIMED_OUT,
    ),
    fault(
        "clipped",
        "clips responses",
        Upstream::Relayed(Behaviour::Clipped),
        Seen::ServFail,
        AT_ONCE,
    ),
    fault(
        "spoofed",
        "has 16 forgeries sent before each response",
        Upstream::Relayed(Behaviour::Spoofed),
        Seen::Address,
        AT_ONCE,
    ),
    fault(
        "stuffed",
        "adds other names' addresses",
        Upstream::Relayed(Behaviour::Stuffed),
        Seen::Address,
        AT_ONCE,
    ),
    fault("cut", "truncates over UDP", Upstream::Relayed(Behaviour::Cut), Seen::Address, AT_ONCE),
    Fault {
        options: "truncated pass",
        ..fault(
            "pass",
            "truncates, `truncated pass`",
            Upstream::Relayed(Behaviour::Cut),
            Seen::Cut,
            AT_ONCE,
        )
    },
];
