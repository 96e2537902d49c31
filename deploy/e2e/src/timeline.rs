//! A scenario in lines, one step per line: the queries sent to a server, the changes of its
//! upstream's behaviour, and the expected responses.
//!
//! ```text
//! 0.0 a3 A            NOERROR 3 asked 1
//! 1.5 a3 A +do        NOERROR 3 asked 2
//! 2.0 upstream silent
//! 2.5 chain A         NOERROR 3,5 asked 1  ~own_ttl
//! ```
//! `Step` documents the words of a line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;

use crate::answer::Record;
use crate::ask::{Transport, ask_as};
use crate::query::{Edns, Query, Reply};
use crate::question::Question;
use crate::relay::{Behaviour, Relay};

/// How late a step may begin before the scenario becomes meaningless: TTLs count in seconds, and
/// steps should be half a second away from any change.
const LATE_MAX: Duration = Duration::from_millis(300);

/// When a query's effects are checked: a server may query upstream after it has responded.
const SETTLED: Duration = Duration::from_millis(150);

/// A shorter delay does not count as waiting.
pub const WAITED: Duration = Duration::from_millis(190);

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(7);

/// One line: the time in seconds, then a name below the scenario's zone, a type, and what else the
/// query has: `+tcp`, `+edns` (1232 bytes), `+do` (with EDNS), `+cd`, `+ad`.
///
/// The expected response follows: its code, the distinct TTLs of the answer section (of the
/// authority section if that is empty), TC, AD and CD if set, and `asked N`: how often the upstream
/// was queried for the name so far. `waited`: it took at least [`WAITED`]. `~`: the reason for
/// which the two servers differ.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: &'static str,
    at: Duration,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Ask { query: Query, transport: Transport, expected: String, reason: Option<&'static str> },
    Behave(Behaviour),
}

/// The observed result of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub reply: Reply,
    /// How often the upstream has been queried for the name so far.
    pub asked: usize,
    pub delay: Duration,
}

impl Step {
    /// Parses the lines of a scenario below `zone`, which ends in a dot. Panics if one is invalid.
    pub fn parse(text: &'static str, zone: &str) -> Vec<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut steps: Vec<Self> = lines.map(|line| Self::parse_line(line, zone)).collect();
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn parse_line(line: &'static str, zone: &str) -> Self {
        let mut words = line.split_whitespace().peekable();
        let mut next = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
        let at = Duration::from_secs_f64(next().parse().expect("a time"));
        let (name, rtype) = (next(), next());
        if name == "upstream" {
            return Self { line, at, action: Action::Behave(behaviour(rtype)) };
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
                _ => panic!("unknown flag {flag}: {line}"),
            }
        }
        let (reason, expected): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('~'));
        let reason = reason.first().map(|word| &word[1..]);
        let action = Action::Ask { query, transport, expected: expected.join(" "), reason };
        Self { line, at, action }
    }

    /// The queried name in lower case; empty if there is none.
    fn name(&self) -> String {
        match &self.action {
            Action::Ask { query, .. } => query.question.key(),
            Action::Behave(_) => String::new(),
        }
    }

    /// What the line expects; empty without a query.
    pub fn expected(&self) -> &str {
        match &self.action {
            Action::Ask { expected, .. } => expected,
            Action::Behave(_) => "",
        }
    }

    /// The line's word for the reason why the servers differ.
    pub fn reason(&self) -> Option<&str> {
        match &self.action {
            Action::Ask { reason, .. } => *reason,
            Action::Behave(_) => None,
        }
    }
}

fn behaviour(word: &str) -> Behaviour {
    match word {
        "honest" => Behaviour::Honest,
        "silent" => Behaviour::Silent,
        "late" => Behaviour::Late(Duration::from_millis(500)),
        "empty" => Behaviour::Rcode(0),
        "servfail" => Behaviour::Rcode(2),
        "nxdomain" => Behaviour::Rcode(3),
        "notimp" => Behaviour::Rcode(4),
        "refused" => Behaviour::Rcode(5),
        _ => panic!("unknown behaviour {word}"),
    }
}

/// Runs the steps, counting from `began`. `None` if the machine was too busy for a meaningful
/// result; otherwise the observation of each step that sends a query.
pub fn run(
    steps: &[Step],
    zone: &str,
    server: SocketAddr,
    upstream: &Relay,
    began: Instant,
) -> Option<Vec<Option<Seen>>> {
    // Names are independent, so each has its own thread and its own pace.
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        by_name.entry(step.name()).or_default().push(index);
    }
    let mut all = vec![None; steps.len()];
    let mut was_late = false;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for indices in by_name.into_values() {
            let go =
                move |index: usize| (index, run_step(&steps[index], zone, server, upstream, began));
            threads.push(scope.spawn(move || indices.into_iter().map(go).collect::<Vec<_>>()));
        }
        for (index, result) in threads.into_iter().flat_map(|thread| thread.join().expect("steps"))
        {
            match result {
                StepResult::Asked(seen) => all[index] = Some(seen),
                StepResult::Changed => {}
                StepResult::TooLate => was_late = true,
            }
        }
    });
    (!was_late).then_some(all)
}

/// The result of a step.
enum StepResult {
    Asked(Seen),
    Changed,
    TooLate,
}

fn run_step(
    step: &Step,
    zone: &str,
    server: SocketAddr,
    upstream: &Relay,
    began: Instant,
) -> StepResult {
    std::thread::sleep((began + step.at).saturating_duration_since(Instant::now()));
    if began.elapsed() > step.at + LATE_MAX {
        return StepResult::TooLate;
    }
    match &step.action {
        Action::Ask { query, transport, .. } => {
            let asked = Instant::now();
            let reply = ask_as(server, query, *transport, PATIENCE)
                .unwrap_or_else(|error| panic!("{}: {error}", step.line));
            let delay = asked.elapsed();
            std::thread::sleep(SETTLED);
            let asked = upstream.count(&query.question.key());
            StepResult::Asked(Seen { reply, asked, delay })
        }
        Action::Behave(behaviour) => {
            upstream.behave(zone, *behaviour);
            StepResult::Changed
        }
    }
}

impl Seen {
    /// Formats it like a line of a scenario.
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

/// The distinct TTLs in ascending order.
fn ttls(records: &[Record]) -> String {
    let ttls: BTreeSet<u32> = records.iter().map(|Record(_, _, ttl, _)| *ttl).collect();
    ttls.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
