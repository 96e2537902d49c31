//! What is asked of one server when, what becomes of its upstream meanwhile, and what came of it: a
//! scenario in lines, one a step.
//!
//! ```text
//! 0.0 a3 A            NOERROR 3 asked 1
//! 1.5 a3 A +do        NOERROR 3 asked 2
//! 2.0 upstream silent
//! 2.5 chain A         NOERROR 3,5 asked 1  ~own_ttl
//! ```
//! In front the time in seconds; then a name below the scenario's zone, a type, and what the query
//! has beside: `+tcp`, `+edns` (1232 bytes), `+do` (with EDNS), `+cd`, `+ad`. What follows is what is
//! expected: the response code, the TTLs in the answer section (in the authority section where there
//! is no answer), each once, those of TC, AD and CD that are set, and how often the upstream was asked for the
//! name in this scenario. `waited`: it took no less than [`WAITED`]. `~`: the reason for which the
//! two servers differ there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;

use crate::answer::Record;
use crate::ask::{Transport, ask_as};
use crate::query::{Edns, Query, Reply};
use crate::question::Question;
use crate::relay::{Manner, Relay};

/// How late a step may begin before the scenario says nothing any more: TTLs count in seconds, and
/// steps are best half a second away from where something changes.
const LATE_MAX: Duration = Duration::from_millis(300);

/// When a question's consequences are looked at: a server may ask upstream behind its answer.
const SETTLED: Duration = Duration::from_millis(150);

/// What is less than this is no waiting.
pub const WAITED: Duration = Duration::from_millis(190);

/// A client's patience.
const PATIENCE: Duration = Duration::from_secs(7);

/// One line.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: &'static str,
    at: Duration,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Ask { query: Query, transport: Transport, expected: String, reason: Option<&'static str> },
    Behave(Manner),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub reply: Reply,
    /// How often the upstream has been asked for the name so far.
    pub asked: usize,
    pub delay: Duration,
}

impl Step {
    /// Lines of a scenario below `zone`, which ends in a dot. Panics where one makes no sense.
    pub fn parse(text: &'static str, zone: &str) -> Vec<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut steps: Vec<Self> = lines.map(|line| Self::parse_line(line, zone)).collect();
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn parse_line(line: &'static str, zone: &str) -> Self {
        let mut words = line.split_whitespace().peekable();
        let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
        let at = Duration::from_secs_f64(next().parse().expect("a time"));
        let (name, rtype) = (next(), next());
        if name == "upstream" {
            return Self { line, at, what: What::Behave(manner(rtype)) };
        }
        let rtype: Rtype = rtype.parse().expect("a type");
        let mut query = Query::plain(Question::new(format!("{name}.{zone}"), rtype));
        let mut transport = Transport::Udp;
        while let Some(flag) = words.next_if(|word| word.starts_with('+')) {
            match flag {
                "+tcp" => transport = Transport::Tcp,
                "+edns" => query.edns = Some(Edns { udp_len: 1232, dnssec_ok: false }),
                "+do" => query.edns = Some(Edns { udp_len: 1232, dnssec_ok: true }),
                "+cd" => query.checking_disabled = true,
                "+ad" => query.authentic_data = true,
                _ => panic!("what is {flag}? {line}"),
            }
        }
        let (reason, expected): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('~'));
        let reason = reason.first().map(|word| &word[1..]);
        let what = What::Ask { query, transport, expected: expected.join(" "), reason };
        Self { line, at, what }
    }

    /// The name that is asked for, in lower case; empty where none is.
    fn name(&self) -> String {
        match &self.what {
            What::Ask { query, .. } => query.question.key(),
            What::Behave(_) => String::new(),
        }
    }

    /// What the line expects; empty where nothing is asked.
    pub fn expected(&self) -> &str {
        match &self.what {
            What::Ask { expected, .. } => expected,
            What::Behave(_) => "",
        }
    }

    /// Why the servers differ, in the line's word.
    pub fn reason(&self) -> Option<&str> {
        match &self.what {
            What::Ask { reason, .. } => *reason,
            What::Behave(_) => None,
        }
    }
}

fn manner(word: &str) -> Manner {
    match word {
        "honest" => Manner::Honest,
        "silent" => Manner::Silent,
        "late" => Manner::Late(Duration::from_millis(500)),
        "empty" => Manner::Rcode(0),
        "servfail" => Manner::Rcode(2),
        "nxdomain" => Manner::Rcode(3),
        "notimp" => Manner::Rcode(4),
        "refused" => Manner::Rcode(5),
        _ => panic!("what is {word}?"),
    }
}

/// Goes through the steps from `began` on. `None` where the machine was too busy for it to say
/// anything; by step: what came of it, where it asked.
pub fn run(
    steps: &[Step],
    zone: &str,
    server: SocketAddr,
    upstream: &Relay,
    began: Instant,
) -> Option<Vec<Option<Seen>>> {
    // Names know nothing of each other, so each has its own thread and its own pace.
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        by_name.entry(step.name()).or_default().push(index);
    }
    let mut all = vec![None; steps.len()];
    let mut was_late = false;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for indices in by_name.into_values() {
            let go = move |index: usize| (index, go(&steps[index], zone, server, upstream, began));
            threads.push(scope.spawn(move || indices.into_iter().map(go).collect::<Vec<_>>()));
        }
        for (index, gone) in threads.into_iter().flat_map(|thread| thread.join().expect("steps")) {
            match gone {
                Gone::Asked(seen) => all[index] = Some(seen),
                Gone::Behaved => {}
                Gone::TooLate => was_late = true,
            }
        }
    });
    (!was_late).then_some(all)
}

/// What became of a step.
enum Gone {
    Asked(Seen),
    Behaved,
    TooLate,
}

fn go(step: &Step, zone: &str, server: SocketAddr, upstream: &Relay, began: Instant) -> Gone {
    std::thread::sleep((began + step.at).saturating_duration_since(Instant::now()));
    if began.elapsed() > step.at + LATE_MAX {
        return Gone::TooLate;
    }
    match &step.what {
        What::Ask { query, transport, .. } => {
            let asked = Instant::now();
            let reply = ask_as(server, query, *transport, PATIENCE)
                .unwrap_or_else(|error| panic!("{}: {error}", step.line));
            let delay = asked.elapsed();
            std::thread::sleep(SETTLED);
            let asked = upstream.count(&query.question.key());
            Gone::Asked(Seen { reply, asked, delay })
        }
        What::Behave(manner) => {
            upstream.behave(zone, *manner);
            Gone::Behaved
        }
    }
}

impl Seen {
    /// In the words of a line.
    pub fn summary(&self) -> String {
        let Reply { answer, authentic_data, checking_disabled, .. } = &self.reply;
        let section = if answer.answer.is_empty() { &answer.authority } else { &answer.answer };
        let mut words = vec![answer.rcode.clone(), ttls(section)];
        for (is_set, word) in
            [(answer.tc, "TC"), (*authentic_data, "AD"), (*checking_disabled, "CD")]
        {
            words.extend(is_set.then(|| word.to_owned()));
        }
        words.push(format!("asked {}", self.asked));
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }

    /// Whether it is what a line expects.
    pub fn is(&self, expected: &str) -> bool {
        match expected.strip_suffix(" waited") {
            Some(expected) => self.delay >= WAITED && self.summary() == expected,
            None => self.summary() == expected,
        }
    }
}

/// Those that differ, from the least on.
fn ttls(records: &[Record]) -> String {
    let ttls: BTreeSet<u32> = records.iter().map(|Record(_, _, ttl, _)| *ttl).collect();
    ttls.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
