//! From the API server's response for a change to the changed answer, idle and under load.

use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::delays::{Answered, Delays, until_despite_losses};
use e2e::load::{Load, Report};
use e2e::question::Question;
use e2e::server::{Kind, Server};
use serde_json::json;

use crate::scene::{KINDS, Scene};
use crate::stir::while_stirring;
use crate::table::Row;
use crate::world::{
    endpoints, is_right, namespace_of, ports, question, service, service_name, service_question,
};

/// Names that the load queries.
const QUERIED_COUNT: usize = 2_000;

/// The limits of a rate that a server keeps up with, as in `loadgen compare`.
const LOSS_MAX: f64 = 0.001;
const P99_MAX_MS: f64 = 10.0;

/// How long a rate is tried, the step to the next lower one, and how many are tried.
const RATE_SECS: u32 = 3;
const RATE_STEP: f64 = 0.85;
const RATE_COUNT: usize = 16;

/// How long a query may take under load before it is repeated.
const QUERY_LIMIT: Duration = Duration::from_millis(20);

/// Delays of the changed answers.
struct Changes {
    service_made: ChangeDelays,
    endpoint_moved: ChangeDelays,
}

/// Delays of one kind of change.
struct ChangeDelays {
    answered: Delays,
    /// Without the latency of the query itself.
    asked: Delays,
}

impl ChangeDelays {
    fn new(all: &[Answered]) -> Self {
        Self {
            answered: Delays::new(all.iter().map(|one| one.after).collect()),
            asked: Delays::new(all.iter().map(|one| one.asked_after).collect()),
        }
    }
}

pub(crate) fn measure_idle(scene: &Scene, count: usize) -> Vec<Row> {
    let changes = KINDS.map(|kind| {
        println!("changes: {kind:?} ...");
        let (server, _) = scene.launch(kind, &scene.corefile);
        changes(scene, &server, count)
    });
    rows("", &changes)
}

/// What one server did under load.
struct Loaded {
    /// The highest rate that it kept up with.
    highest_qps: f64,
    report: Report,
    changes: Changes,
    /// Other changes per second meanwhile.
    stirred_qps: f64,
}

/// `share`: of the highest rate that the server has just kept up with while objects changed.
/// `change_rate`: other changes per second meanwhile.
pub(crate) fn measure_loaded(
    scene: &Scene,
    count: usize,
    share: f64,
    change_rate: Option<u32>,
) -> Vec<Row> {
    let measured = KINDS.map(|kind| match change_rate {
        Some(rate) => {
            let ((highest_qps, report, changes), stirred_qps) =
                while_stirring(scene, rate, || loaded(scene, kind, count, share));
            Loaded { highest_qps, report, changes, stirred_qps }
        }
        None => {
            let (highest_qps, report, changes) = loaded(scene, kind, count, share);
            Loaded { highest_qps, report, changes, stirred_qps: 0.0 }
        }
    });
    let [ringdns, coredns] = measured;
    let loads = [&ringdns, &coredns].map(|one| describe(one.highest_qps, &one.report));
    let stirred = [&ringdns, &coredns].map(|one| format!("{:.0}/s", one.stirred_qps));
    let mut rows = rows(", under load", &[ringdns.changes, coredns.changes]);
    rows.push(Row::new("that load, of the highest", loads));
    if change_rate.is_some() {
        rows.push(Row::new("other changes meanwhile", stirred));
    }
    rows
}

/// `of_qps`: the rate that was offered, or the highest one.
fn describe(of_qps: f64, report: &Report) -> String {
    format!(
        "{:.1} k/s of {:.1}, p99 {:.2} ms, {:.2} % lost",
        report.answered_qps / 1e3,
        of_qps / 1e3,
        report.p99_ms,
        report.loss * 100.0
    )
}

fn loaded(scene: &Scene, kind: Kind, count: usize, share: f64) -> (f64, Report, Changes) {
    let (server, _) = scene.launch(kind, &scene.corefile);
    let step = (scene.service_count / QUERIED_COUNT).max(1);
    let questions: Vec<_> = (0..scene.service_count).step_by(step).map(service_question).collect();
    let highest = highest_beside_changes(scene, &server, &questions);
    println!("changes under load: {kind:?} keeps up with {highest:.0} per second; measuring ...");
    let load = Load::start(server.address(), &questions, highest * share);
    let changes = changes(scene, &server, count);
    (highest, load.end(), changes)
}

/// The highest rate within the limits of `loadgen compare` while the API server works too: they
/// share the machine. A closed loop gets more than that: an open loop at its rate loses queries.
fn highest_beside_changes(scene: &Scene, server: &Server, questions: &[Question]) -> f64 {
    let most = beside_changes(scene, server, || Load::at_most(server.address(), questions));
    let mut rate = most.answered_qps;
    for _ in 0..RATE_COUNT {
        let report = beside_changes(scene, server, || {
            Load::at_rate(server.address(), questions, rate, RATE_SECS)
        });
        println!("changes under load: {:?} at {}", server.kind(), describe(rate, &report));
        if report.loss <= LOSS_MAX && report.p99_ms <= P99_MAX_MS {
            return rate;
        }
        rate *= RATE_STEP;
    }
    println!("changes under load: no rate is within the limits; {rate:.0} per second counts");
    rate
}

/// Runs `load` while objects change and each change is waited for.
fn beside_changes(scene: &Scene, server: &Server, load: impl FnOnce() -> Report + Send) -> Report {
    std::thread::scope(|scope| {
        let load = scope.spawn(load);
        while !load.is_finished() {
            changes(scene, server, 1);
        }
        load.join().expect("a report")
    })
}

fn rows(suffix: &str, changes: &[Changes; 2]) -> Vec<Row> {
    let [ringdns, coredns] = changes;
    let kinds = [
        ("Service made", [&ringdns.service_made, &coredns.service_made]),
        ("endpoint moved", [&ringdns.endpoint_moved, &coredns.endpoint_moved]),
    ];
    let rows = kinds.into_iter().flat_map(|(change, delays)| {
        let answered = delays.map(|delays| &delays.answered);
        let asked = delays.map(|delays| &delays.asked);
        [
            Row::delays(format!("{change}{suffix} → answered"), answered),
            Row::delays(format!("{change}{suffix} → that query sent"), asked),
        ]
    });
    rows.collect()
}

fn changes(scene: &Scene, server: &Server, count: usize) -> Changes {
    let until = |question: &Question, is_right: &dyn Fn(&Answer) -> bool| {
        until_despite_losses(server, question, QUERY_LIMIT, is_right)
    };
    let objects = scene.cluster.objects();
    let made = (0..count).map(|index| {
        let name = format!("made-{index}");
        objects.create(&service("team-0", &name, json!({ "ports": ports(80) })));
        let question = question(&format!("{name}.team-0"));
        let delay = until(&question, &|answer| !answer.answer.is_empty());
        objects.delete("Service", Some("team-0"), &name);
        until(&question, &Answer::is_nxdomain);
        delay
    });
    let made: Vec<_> = made.collect();
    let moved = (0..count).map(|index| {
        // Every fifth Service is headless, as is the first of each namespace.
        let service = index * 5 % scene.service_count;
        let address = format!("10.250.{}.{}", index / 250, 1 + index % 250);
        let endpoint = json!({ "addresses": [address], "conditions": { "ready": true } });
        let patch = json!({ "endpoints": [endpoint] });
        let [namespace, name] = [namespace_of(service), service_name(service)];
        objects.patch("EndpointSlice", &namespace, &name, patch);
        let delay =
            until(&service_question(service), &|answer| answer.data_of(Rtype::A) == [&address]);
        let patch = json!({ "endpoints": endpoints(service) });
        objects.patch("EndpointSlice", &namespace, &name, patch);
        until(&service_question(service), &|answer| is_right(service, answer));
        delay
    });
    let moved: Vec<_> = moved.collect();
    Changes { service_made: ChangeDelays::new(&made), endpoint_moved: ChangeDelays::new(&moved) }
}
