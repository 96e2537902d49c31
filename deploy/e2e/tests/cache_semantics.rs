//! The cache of ringdns compared with that of CoreDNS 1.15.0.
//!
//! Scenarios of a few seconds, each in its own server block, all at the same time; each server has
//! its own relay in front of one Knot. A line states what ringdns must do. CoreDNS must do the same
//! in every field; if the line gives a reason (`~`, a word of `rule.rs`), it must differ there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use e2e::answer::Answer;
use e2e::cache_scenarios::{SCENARIOS, Scenario, zone_file};
use e2e::comparison::reply_differences;
use e2e::corefile::Corefile;
use e2e::http::metric;
use e2e::knot::Knot;
use e2e::port;
use e2e::relay::Relay;
use e2e::rule::OutsideRule;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::timeline::{self, Seen, Step};
use e2e::tools::{Tools, Upstreams};

/// Attempts, if the machine is too busy to keep the schedule.
const TRIES_MAX: usize = 3;

/// Cache metrics that both export.
const METRICS: [&str; 5] = [
    "coredns_cache_requests_total",
    "coredns_cache_hits_total",
    "coredns_cache_misses_total",
    "coredns_cache_prefetch_total",
    "coredns_cache_served_stale_total",
];

#[test]
fn the_cache_behaves_like_corednss() {
    let Some(programs) = Upstreams::find("cache_semantics") else { return };
    let tools = Tools::find("cache_semantics beside CoreDNS");
    let knot = Knot::start(&programs.knotd, "example.", &zone_file());
    let report = (0..TRIES_MAX).find_map(|_| {
        let mut subjects = vec![Subject::start(Kind::Ringdns, &knot, None)];
        subjects
            .extend(tools.as_ref().map(|_| Subject::start(Kind::CoreDns, &knot, tools.as_ref())));
        run_scenarios(&subjects)
    });
    let Report { as_expected, equal, by_reason, wrong } =
        report.expect("a machine that has time for a question every half second");
    say(&format!(
        "cache_semantics: {as_expected} answers of ringdns as expected; {equal} equal CoreDNS's in \
         every field, differences by reason {by_reason:?}; wrong {}",
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The results of all scenarios.
#[derive(Default)]
struct Report {
    as_expected: usize,
    equal: usize,
    by_reason: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

/// Runs ringdns, and CoreDNS if it is built. `None` if the machine was too busy.
fn run_scenarios(subjects: &[Subject]) -> Option<Report> {
    let began = Instant::now() + Duration::from_millis(100);
    let runs: Option<Vec<Vec<_>>> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for scenario in &SCENARIOS {
            let start =
                |subject| scope.spawn(move || Subject::run_scenarios(subject, scenario, began));
            threads.push(subjects.iter().map(start).collect::<Vec<_>>());
        }
        threads.into_iter().map(|threads| threads.into_iter().map(join).collect()).collect()
    });
    let mut report = Report::default();
    for (scenario, runs) in SCENARIOS.iter().zip(runs?) {
        let theirs = runs.get(1).map(Vec::as_slice);
        for (at, step) in scenario.steps().iter().enumerate() {
            if let Some(ours) = &runs[0][at] {
                let theirs = theirs.and_then(|theirs| theirs[at].as_ref());
                report.add(scenario, step, ours, theirs);
            }
        }
    }
    if let [ringdns, coredns] = subjects {
        report.add_metrics(ringdns, coredns);
    }
    Some(report)
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

impl Report {
    fn add(&mut self, scenario: &Scenario, step: &Step, ours: &Seen, theirs: Option<&Seen>) {
        let line = format!("{}: {}", scenario.zone, step.line);
        if ours.is(step.expected()) {
            self.as_expected += 1;
        } else {
            self.wrong.push(format!("{line}\n    ringdns: {} in {:?}", ours.summary(), ours.delay));
        }
        let Some(theirs) = theirs else { return };
        let found = fields(theirs, ours);
        let reason = step.reason().map(|word| {
            let known = OutsideRule::ALL.into_iter().find(|rule| rule.word() == word);
            known.unwrap_or_else(|| panic!("no rule has the word {word}"))
        });
        match reason {
            None if found.is_empty() => self.equal += 1,
            Some(rule) if explains(rule, theirs, ours) => {
                *self.by_reason.entry(rule.word()).or_default() += 1;
            }
            None => self.wrong.push(format!("{line}\n    want is CoreDNS's: {}", found.join("; "))),
            Some(rule) => self.wrong.push(format!(
                "{line}\n    {rule:?} does not say why; want is CoreDNS's: {}",
                found.join("; ")
            )),
        }
    }

    /// Both count the same, if they behaved the same.
    fn add_metrics(&mut self, ringdns: &Subject, coredns: &Subject) {
        let is_alike = |scenario: &&Scenario| !scenario.steps.contains('~');
        for Scenario { zone, .. } in SCENARIOS.iter().filter(is_alike) {
            for name in METRICS {
                let count = |subject: &Subject| {
                    let label = format!("zones=\"{zone}.example.\"");
                    metric(subject.metrics, name, &[&label])
                };
                let (theirs, ours) = (count(coredns), count(ringdns));
                if theirs != ours {
                    self.wrong.push(format!(
                        "{zone}: {name} is {theirs} for CoreDNS, {ours} for ringdns"
                    ));
                }
            }
        }
    }
}

/// Whether the rule explains all differences, and there is at least one.
fn explains(rule: OutsideRule, theirs: &Seen, ours: &Seen) -> bool {
    let found = fields(theirs, ours);
    let differs_in_no_more_than = |names: &[&str]| {
        let is_one = |field: &String| names.iter().any(|name| field.starts_with(*name));
        !found.is_empty() && found.iter().all(is_one)
    };
    let sections = ["answer:", "authority:", "additional:"];
    let is_same_but_for_ttls =
        without_ttls(&theirs.reply.answer) == without_ttls(&ours.reply.answer);
    match rule {
        OutsideRule::OwnTtl => {
            let ttls = |seen: &Seen| {
                seen.reply.answer.records().map(|record| record.2).collect::<BTreeSet<_>>()
            };
            let (theirs, ours) = (ttls(theirs), ttls(ours));
            differs_in_no_more_than(&sections)
                && is_same_but_for_ttls
                && theirs.len() == 1
                && theirs.first() == ours.first()
        }
        OutsideRule::UnkeptTtl => differs_in_no_more_than(&sections) && is_same_but_for_ttls,
        OutsideRule::LostAlias => {
            differs_in_no_more_than(&["answer:", "authority:", "asked:"])
                && is_same_but_for_ttls
                && ours.asked <= theirs.asked
        }
        // CoreDNS's is without records, or was requested just now.
        OutsideRule::CutAnswer => {
            differs_in_no_more_than(&["answer:", "asked:"])
                && (theirs.reply.answer.answer.is_empty() || is_same_but_for_ttls)
        }
        OutsideRule::CheckingDisabled => {
            differs_in_no_more_than(&["cd:"]) && ours.reply.checking_disabled
        }
        OutsideRule::FailurePause => {
            differs_in_no_more_than(&["asked:"]) && ours.asked < theirs.asked
        }
        // This rule is not about the cache.
        OutsideRule::TargetsCode | OutsideRule::ParentForDs => false,
    }
}

/// Each field that differs, with both values.
fn fields(theirs: &Seen, ours: &Seen) -> Vec<String> {
    let mut found = reply_differences(&theirs.reply, &ours.reply);
    if theirs.asked != ours.asked {
        found.push(format!("asked: want {} got {}", theirs.asked, ours.asked));
    }
    found
}

fn without_ttls(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    let Answer { answer: records, authority, additional, .. } = &mut answer;
    for section in [records, authority, additional] {
        section.iter_mut().for_each(|record| record.2 = 0);
        section.sort();
    }
    answer
}

/// A server with all scenarios, and its relay.
struct Subject {
    server: Server,
    relay: Relay,
    metrics: SocketAddr,
}

impl Subject {
    fn start(kind: Kind, knot: &Knot, tools: Option<&Tools>) -> Self {
        let relay = Relay::start(knot.address());
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let block = |Scenario { zone, cache, forward, .. }: &Scenario| {
            let to = relay.address();
            format!(
                "{zone}.example:5353 {{
bind 127.0.0.1
prometheus {metrics}
{cache}
forward . {to} {{
{forward}
}}
}}
"
            )
        };
        let corefile = Corefile::new(SCENARIOS.iter().map(block).collect::<String>());
        // Each shard separately counts the hits that make a name popular.
        let flags: &[&str] = match kind {
            Kind::Ringdns => &["--shards", "1"],
            Kind::CoreDns => &[],
        };
        Self { server: Server::start_with(kind, &corefile, tools, flags), relay, metrics }
    }

    fn run_scenarios(&self, scenario: &Scenario, began: Instant) -> Option<Vec<Option<Seen>>> {
        let (steps, zone) = (scenario.steps(), scenario.name());
        timeline::run(&steps, &zone, self.server.address(), &self.relay, began)
    }
}
