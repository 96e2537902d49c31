//! A cluster too large for a real API server on this machine: a fake one serves it.
//!
//! ringdns alone: its start, its memory, one change at a time, and its answers under load while
//! many objects change.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::ask::over_udp;
use e2e::corefile::{Corefile, STOCK};
use e2e::deadline::poll;
use e2e::delays::{Delays, until_despite_losses};
use e2e::fake_api::FakeApi;
use e2e::fake_api::object::{FakeObject, namespace, service, slice};
use e2e::load::{Load, Report};
use e2e::question::Question;
use e2e::server::{Kind, Server};

use crate::scene::SETTLED;
use crate::stir::while_changing;
use crate::table::{Row, median_and_ends};
use crate::world::{namespace_of, service_name, service_question};

const ENDPOINTS_PER_SERVICE: usize = 5;

const START_LIMIT: Duration = Duration::from_secs(300);
const QUERY_LIMIT: Duration = Duration::from_millis(100);

/// How long answers are measured under load, once a round without changes and once with them.
const LOAD_SECS: u32 = 10;

/// Names that the load queries.
const QUERIED_COUNT: usize = 5_000;

/// What is measured.
pub(crate) struct FakeScale {
    pub(crate) service_count: usize,
    pub(crate) rounds: usize,
    /// Changes one at a time.
    pub(crate) change_count: usize,
    pub(crate) changes_per_sec: u32,
    /// Queries per second meanwhile.
    pub(crate) load_qps: f64,
}

pub(crate) fn measure(scale: &FakeScale) -> Vec<Row> {
    let began = Instant::now();
    let fake = FakeApi::start();
    fill(&fake, scale.service_count);
    println!("{} Services in a fake API server after {:.1?}", scale.service_count, began.elapsed());
    let (mut answered, mut cpu, mut settled, mut peak) = (vec![], vec![], vec![], vec![]);
    let mut last = None;
    for round in 0..=scale.rounds {
        drop(last.take());
        let (server, time) = start(&fake, scale.service_count);
        let cpu_time = server.cpu_time();
        std::thread::sleep(SETTLED);
        println!(
            "fake start {round}: {time:.2?}, {cpu_time:.2?} of CPU, {} KiB",
            server.resident_kib()
        );
        if round > 0 {
            answered.push(time);
            cpu.push(cpu_time);
            settled.push(server.resident_kib());
            peak.push(server.peak_kib());
        }
        last = Some(server);
    }
    let server = last.expect("a round");
    let one = one_at_a_time(&fake, &server, scale);
    let loads = loads(&fake, &server, scale);
    let none = String::new;
    let title = |what: &str| format!("{} Services, fake: {what}", scale.service_count);
    let load = format!("load of {:.0} k/s", scale.load_qps / 1e3);
    let idle_title = format!("{load}, no changes");
    let busy_title = format!("{load}, {:.0} changes/s", loads.changed_qps);
    let ratio_title = format!("{load}, p99.9 with changes : without");
    vec![
        Row::millis(title("start, first right answers"), [answered, vec![]]),
        Row::millis(title("CPU of the server until then"), [cpu, vec![]]),
        Row::mebibytes(title("resident, settled"), [settled, vec![]]),
        Row::mebibytes(title("resident, peak"), [peak, vec![]]),
        Row::new(title("endpoint moved → answered"), [one.to_string(), none()]),
        Row::new(title(&idle_title), [describe(&loads.idle), none()]),
        Row::new(title(&busy_title), [describe(&loads.busy), none()]),
        Row::new(title(&ratio_title), [loads.ratio(), none()]),
        Row::mebibytes(title("resident in the end"), [vec![server.resident_kib()], vec![]]),
    ]
}

/// Reports of the same load, in turn while nothing changes and while objects do.
struct Loads {
    idle: Vec<Report>,
    busy: Vec<Report>,
    /// Changes per second meanwhile, in the last round.
    changed_qps: f64,
}

impl Loads {
    /// How much longer the slowest thousandth takes while objects change.
    fn ratio(&self) -> String {
        let both = self.busy.iter().zip(&self.idle);
        let ratios = both.map(|(busy, idle)| busy.p99_9_ms / idle.p99_9_ms).collect();
        let [median, min, max] = median_and_ends(ratios);
        format!("{median:.2} ({min:.2}–{max:.2})")
    }
}

fn loads(fake: &FakeApi, server: &Server, scale: &FakeScale) -> Loads {
    let questions: Vec<Question> = (0..scale.service_count)
        .step_by((scale.service_count / QUERIED_COUNT).max(1))
        .map(service_question)
        .collect();
    let load = || Load::at_rate(server.address(), &questions, scale.load_qps, LOAD_SECS);
    let change = |number| change(fake, scale.service_count, number);
    let mut loads = Loads { idle: Vec::new(), busy: Vec::new(), changed_qps: 0.0 };
    for round in 1..=scale.rounds {
        let idle = load();
        let (busy, changed_qps) = while_changing(1, scale.changes_per_sec, change, load);
        println!(
            "load {round}: p99.9 {:.3} ms, while objects change {:.3} ms",
            idle.p99_9_ms, busy.p99_9_ms
        );
        loads.idle.push(idle);
        loads.busy.push(busy);
        loads.changed_qps = changed_qps;
    }
    loads
}

/// Medians of the rounds, and the highest loss.
fn describe(reports: &[Report]) -> String {
    let of = |what: fn(&Report) -> f64| median_and_ends(reports.iter().map(what).collect());
    let [p50, ..] = of(|report| report.p50_ms);
    let [p99, ..] = of(|report| report.p99_ms);
    let [p99_9, min, max] = of(|report| report.p99_9_ms);
    let [.., loss] = of(|report| report.loss);
    format!(
        "p50 {p50:.3} p99 {p99:.3} p99.9 {p99_9:.3} ({min:.3}–{max:.3}) ms, {:.2} % lost",
        loss * 100.0
    )
}

fn start(fake: &FakeApi, service_count: usize) -> (Server, Duration) {
    let corefile = Corefile::new(STOCK).with_kubeconfig(&fake.kubeconfig());
    let began = Instant::now();
    let server = Server::launch(Kind::Ringdns, &corefile, None);
    for index in [service_count - 1, (service_count - 1) / 5 * 5] {
        let expected = addresses(index);
        poll(START_LIMIT, "the last Service", || {
            let answer = over_udp(server.address(), &service_question(index), QUERY_LIMIT).ok()?;
            (answer.data_of(Rtype::A).len() == expected.len()).then_some(())
        });
    }
    (server, began.elapsed())
}

fn one_at_a_time(fake: &FakeApi, server: &Server, scale: &FakeScale) -> Delays {
    let delays = (0..scale.change_count).map(|number| {
        let index = headless(number, scale.service_count);
        let address = Ipv4Addr::from_bits(0x0AFA_0000 + number as u32);
        fake.put(slice_of(index, &[address]));
        let text = address.to_string();
        let delay = until_despite_losses(server, &service_question(index), QUERY_LIMIT, |answer| {
            answer.data_of(Rtype::A) == [&text]
        });
        fake.put(slice_of(index, &endpoints(index)));
        until_despite_losses(server, &service_question(index), QUERY_LIMIT, |answer| {
            answer.data_of(Rtype::A).len() == ENDPOINTS_PER_SERVICE
        });
        delay.after
    });
    Delays::new(delays.collect())
}

/// Gives a slice another first endpoint.
fn change(fake: &FakeApi, service_count: usize, number: u32) {
    let index = headless(number as usize, service_count);
    let mut addresses = endpoints(index);
    addresses[0] = Ipv4Addr::from_bits(0x0AFB_0000 + (number & 0xFFFF));
    fake.put(slice_of(index, &addresses));
}

fn fill(fake: &FakeApi, service_count: usize) {
    let namespaces: std::collections::BTreeSet<String> =
        (0..service_count).map(namespace_of).collect();
    fake.put_all(namespaces.iter().map(|name| namespace(name).into()));
    fake.put_all((0..service_count).map(|index| {
        let address = (!index.is_multiple_of(5)).then(|| addresses(index)[0]);
        service(&namespace_of(index), &service_name(index), address).into()
    }));
    fake.put_all((0..service_count).map(|index| slice_of(index, &endpoints(index))));
    fake.compact();
}

fn slice_of(index: usize, addresses: &[Ipv4Addr]) -> FakeObject {
    let name = service_name(index);
    let mut slice = slice(&namespace_of(index), &format!("{name}-x7k2p"), &name, addresses);
    if index.is_multiple_of(5) {
        // Pods of a StatefulSet.
        for (number, endpoint) in slice.endpoints.iter_mut().enumerate() {
            endpoint.hostname = Some(format!("{name}-{number}"));
        }
    }
    slice.into()
}

/// The addresses of the Service's own name.
fn addresses(index: usize) -> Vec<Ipv4Addr> {
    if index.is_multiple_of(5) {
        return endpoints(index);
    }
    vec![Ipv4Addr::from_bits(0x0A60_0000 + index as u32)]
}

fn endpoints(index: usize) -> Vec<Ipv4Addr> {
    let first = 0x0A80_0000 + (index * ENDPOINTS_PER_SERVICE) as u32;
    (0..ENDPOINTS_PER_SERVICE as u32).map(|number| Ipv4Addr::from_bits(first + number)).collect()
}

/// A headless Service; another one for each number, spread over all.
fn headless(number: usize, service_count: usize) -> usize {
    number * 7_919 % (service_count / 5) * 5
}
