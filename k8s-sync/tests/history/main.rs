//! Whatever the order of events, the table is that of the remaining objects.
//!
//! Each seed makes the history of a small cluster (`world`, `streams`). After every step a simple
//! model knows which objects exist. Tables made from them in one go, and a pod index, must give the
//! same answers as those that were updated step by step, and those must be what an independent
//! `oracle` expects. External zones are added at some step.
//!
//! `RINGDNS_SEEDS=20000 cargo test --release -p k8s-sync --test history -- --nocapture` checks two
//! million steps; `RINGDNS_SEED=17` repeats one seed.

#[path = "../objects/mod.rs"]
mod objects;
mod oracle;
mod questions;
mod random;
mod streams;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_sync::object::{Change, Event, ObjectKey};
use k8s_sync::options::Options;
use k8s_sync::publish::{ExternalNumber, Publisher};
use wire::hash::HashSeed;
use wire::table::Table;

use objects::{apply, ask};
use questions::{AllQuestions, BELOW_SERVICE, difference, pod_difference};
use random::Random;
use streams::{Known, Step, event, history};
use world::{NAMESPACES, SERVICES, random_external, random_options};

/// Questions for the oracle after each step, and after the last one.
const ORACLE_COUNT: usize = 6;
const ORACLE_COUNT_LAST: usize = 60;

/// A publisher that gets only the final objects.
fn from_scratch(options: &Arc<Options>, known: &[Known; 4]) -> Publisher {
    let mut publisher = Publisher::new(Arc::clone(options), HashSeed::new(7));
    for (kind, known) in known.iter().enumerate().rev() {
        let lines = known.objects.values().rev().cloned();
        if known.synced {
            publisher.apply(event(kind, &Step::Init));
            lines.for_each(|line| publisher.apply(event(kind, &Step::List(line))));
            publisher.apply(event(kind, &Step::InitDone));
        } else {
            lines.for_each(|line| publisher.apply(event(kind, &Step::Apply(line))));
        }
    }
    publisher
}

const EXTERNAL: ExternalNumber = ExternalNumber(1);

/// What was checked.
#[derive(Default)]
struct Checked {
    steps: AtomicUsize,
    /// Answers that were compared with those of the oracle.
    answers: AtomicUsize,
}

/// Checks a history after each step, or only after the last one.
fn check(seed: u64, questions: &AllQuestions, every_step: bool, checked: &Checked) {
    let mut random = Random(seed);
    let options = Arc::new(random_options(&mut random));
    let external = random_external(&mut random);
    let history = history(&mut random);
    let add_external_at = random.below(history.len());
    let mut kept_up = Publisher::new(Arc::clone(&options), HashSeed::new(7));
    let mut newest = kept_up.publish(0).expect("a first table");
    let (mut newest_external, mut newest_pods) = (None, None);
    let mut known: [Known; 4] = Default::default();
    for (index, (kind, step)) in history.iter().enumerate() {
        if index == add_external_at {
            kept_up.add_external(EXTERNAL, &external);
        }
        known[*kind].take(step);
        kept_up.apply(event(*kind, step));
        let is_last = index + 1 == history.len();
        // Several events may go into one table.
        if !(every_step || is_last || random.one_in(3)) {
            continue;
        }
        if let Some(table) = kept_up.publish(1) {
            let before = Arc::into_inner(std::mem::replace(&mut newest, table));
            kept_up.recycle(None, before.expect("nobody else holds it"));
        }
        newest_external = kept_up.take_external(EXTERNAL).or(newest_external);
        newest_pods = kept_up.take_pod_index().or(newest_pods);
        let count = if is_last { ORACLE_COUNT_LAST } else { ORACLE_COUNT };
        let surprise = surprise(&mut random, count, &options, &known, &newest, &checked.answers);
        if !(every_step || is_last) && surprise.is_none() {
            continue;
        }
        let mut scratch = from_scratch(&options, &known);
        scratch.add_external(EXTERNAL, &external);
        let expected = scratch.publish(1).expect("a first table");
        let expected_external = scratch.take_external(EXTERNAL).expect("a first table");
        let expected_pods = scratch.take_pod_index();
        let of_external = newest_external
            .as_ref()
            .and_then(|newest| difference(&questions.external, newest, &expected_external));
        let differs = difference(&questions.cluster, &newest, &expected)
            .or(of_external)
            .or_else(|| pod_difference(newest_pods.as_deref(), expected_pods.as_deref()));
        let (got, want) = (kept_up.status(), scratch.status());
        let is_same_size =
            (got.names, got.services, got.endpoints) == (want.names, want.services, want.endpoints);
        assert!(
            differs.is_none() && surprise.is_none() && is_same_size,
            "RINGDNS_SEED={seed} cargo test -p k8s-sync --test history\n\
             from scratch differs: {differs:?}, {got:?}, {want:?}\noracle: {surprise:?}\n\
             after {:#?}\nwith {options:#?} and {external:#?}",
            &history[..=index],
        );
    }
    checked.steps.fetch_add(history.len(), Ordering::Relaxed);
}

/// The first of some random questions that the table does not answer as the oracle expects.
fn surprise(
    random: &mut Random,
    count: usize,
    options: &Options,
    known: &[Known; 4],
    table: &Table,
    checked: &AtomicUsize,
) -> Option<String> {
    let zones = if options.zones.len() == 3 && options.zones[2].starts_with(b"\x03two") {
        &["one.zone", "two.zone"][..]
    } else {
        &["one.zone"]
    };
    (0..count).find_map(|_| {
        let (zone, rtype) = (random.pick(zones), random.pick(oracle::TYPES));
        let (service, namespace) = (random.pick(SERVICES), random.pick(NAMESPACES));
        let below = match random.below(12) {
            0 => format!("{namespace}.svc"),
            1 => format!("{namespace}.pod"),
            2 => format!("10-1-0-{}.{namespace}.pod", 1 + random.below(3)),
            3 => format!("{service}.{namespace}.svc"),
            _ => format!("{}.{service}.{namespace}.svc", random.pick(BELOW_SERVICE)),
        };
        let labels: Vec<&str> = below.split('.').collect();
        let expected = oracle::expected(options, known, &labels, zone, rtype)?;
        checked.fetch_add(1, Ordering::Relaxed);
        // The letter case makes no difference (RFC 4343).
        let spelled = if random.one_in(4) { below.to_ascii_uppercase() } else { below.clone() };
        let question = format!("{spelled}.{zone} {rtype}");
        let found = ask(table, &question);
        (!found.eq_ignore_ascii_case(&expected))
            .then(|| format!("{question}: expected {expected}, found {found}"))
    })
}

/// The seeds of a test that checks one in `share` of them.
fn seeds(share: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    match number("RINGDNS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGDNS_SEEDS").unwrap_or(800) / share,
    }
}

/// Checks all seeds on all cores. A failing seed ends only its own thread's share.
fn check_all(what: &str, seeds: std::ops::Range<u64>, every_step: bool) {
    let questions = AllQuestions::new();
    let thread_count = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let checked = Checked::default();
    let seed_count = seeds.end - seeds.start;
    std::thread::scope(|scope| {
        for first in 0..thread_count {
            let (questions, checked, seeds) = (&questions, &checked, seeds.clone());
            scope.spawn(move || {
                for seed in seeds.skip(first as usize).step_by(thread_count as usize) {
                    check(seed, questions, every_step, checked);
                }
            });
        }
    });
    println!(
        "{what}: {} steps of {seed_count} seeds; {} answers as the oracle expects",
        checked.steps.into_inner(),
        checked.answers.into_inner()
    );
}

#[test]
fn every_prefix_of_a_history() {
    let is_chosen =
        ["RINGDNS_SEED", "RINGDNS_SEEDS"].iter().any(|name| std::env::var(name).is_ok());
    check_all("every step", seeds(if is_chosen { 1 } else { 40 }), true);
}

#[test]
fn many_histories() {
    check_all("the last step", seeds(1), false);
}

/// Only what changed is written and published.
#[test]
fn unchanged_answers_are_not_published() {
    let mut publisher = objects::publisher(
        objects::usual(),
        &["ns n", "svc n/web 10.96.0.1 http:80/tcp", "eps n/e web 10.1.0.1 10.1.0.2 http:80/tcp"],
    );
    assert!(publisher.publish(1).is_some());
    assert!(publisher.publish(2).is_none(), "nothing happened");
    publisher.apply(apply("svc n/web 10.96.0.1 http:80/tcp"));
    assert!(publisher.publish(3).is_none(), "the same again");
    publisher.apply(apply("svc n/web 10.96.0.1 http:81/tcp"));
    publisher.apply(apply("svc n/web 10.96.0.1 http:80/tcp"));
    assert!(publisher.publish(4).is_none(), "there and back");
    // A new list of the same objects.
    for line in ["ns n", "svc n/web 10.96.0.1 http:80/tcp"] {
        let kind = usize::from(line.starts_with("svc"));
        for step in [Step::Init, Step::List(line.into()), Step::InitDone] {
            publisher.apply(event(kind, &step));
        }
    }
    assert!(publisher.publish(5).is_none(), "listed again");
    publisher.apply(apply("eps n/e web 10.1.0.1 http:80/tcp"));
    let table = publisher.publish(6).expect("an endpoint less");
    assert_eq!(ask(&table, "10-1-0-2.web.n.svc.cluster.local A"), "NXDOMAIN");
    assert_eq!(publisher.status().changed_unix_secs, 6);
    publisher.apply(Event::Service(Change::Delete(ObjectKey {
        namespace: "n".into(),
        name: "gone".into(),
    })));
    assert!(publisher.publish(7).is_none(), "what was not there");
}
