//! A node that boots while the API server is down for 10 s: ringdns, ringdns with a snapshot, and
//! CoreDNS, all started at once.
//!
//! ```text
//! cargo build --release -p engine && cargo run --release -p e2e --example outage_at_boot [ROUNDS]
//! ```
//! Prints one table: from the API server's return, or before it, to each server's first right
//! answer and to its `/ready`. Takes some 35 s per round; most of it is waiting for CoreDNS.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::ask::over_udp;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::objects::service;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::{http, port};

const ROUND_COUNT: usize = 5;
const OUTAGE: Duration = Duration::from_secs(10);
/// How long a server may take after the API server's return.
const LIMIT: Duration = Duration::from_secs(60);
const QUERY_LIMIT: Duration = Duration::from_millis(20);
const SUBJECTS: [(&str, Kind, bool); 3] = [
    ("ringdns", Kind::Ringdns, false),
    ("ringdns, snapshot", Kind::Ringdns, true),
    ("CoreDNS", Kind::CoreDns, false),
];

fn main() {
    let rounds = std::env::args().nth(1).map_or(ROUND_COUNT, |word| {
        word.parse().unwrap_or_else(|_| panic!("'{word}' is not a number of rounds"))
    });
    let Some(tools) = Tools::find("outage_at_boot") else { std::process::exit(3) };
    let mut cluster = Cluster::start(&tools);
    cluster.objects().create(&service("web", "10.96.1.4"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.jsonl");
    let mut all: Vec<Vec<[f64; 2]>> = vec![Vec::new(); SUBJECTS.len()];
    // Makes the snapshot.
    let first = Subject::launch(SUBJECTS[1], &cluster, &file, &tools);
    assert!(first.follow(Instant::now() + LIMIT)[0].is_some(), "{}", first.server.log());
    first.server.end();
    for round in 1..=rounds {
        cluster.kill_api_server();
        let began = Instant::now();
        let subjects = SUBJECTS.map(|subject| Subject::launch(subject, &cluster, &file, &tools));
        let (until, returned) = std::thread::scope(|scope| {
            let end = began + OUTAGE + LIMIT;
            let followers =
                subjects.each_ref().map(|subject| scope.spawn(move || subject.follow(end)));
            std::thread::sleep((began + OUTAGE).saturating_duration_since(Instant::now()));
            cluster.start_api_server();
            let returned = Instant::now();
            (followers.map(|one| one.join().expect("no panic")), returned)
        });
        for ((of_all, until), (name, ..)) in all.iter_mut().zip(until).zip(SUBJECTS) {
            let secs = until.map(|at| secs_after(at.expect("within the limit"), returned));
            println!("round {round}: {name}: answer {:.2} s, ready {:.2} s", secs[0], secs[1]);
            of_all.push(secs);
        }
    }
    println!(
        "\n{:20} {:>28} {:>28}",
        "seconds after return", "first right answer", "/ready is 200"
    );
    for ((name, ..), rounds) in SUBJECTS.into_iter().zip(all) {
        let cells = [0, 1].map(|column| {
            let mut all: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
            all.sort_by(f64::total_cmp);
            format!("{:.2} ({:.2} to {:.2})", all[all.len() / 2], all[0], all[all.len() - 1])
        });
        println!("{name:20} {:>28} {:>28}", cells[0], cells[1]);
    }
}

/// Negative if it was before.
fn secs_after(at: Instant, reference: Instant) -> f64 {
    match at.checked_duration_since(reference) {
        Some(after) => after.as_secs_f64(),
        None => -(reference - at).as_secs_f64(),
    }
}

struct Subject {
    server: Server,
    ready: SocketAddr,
}

impl Subject {
    fn launch(
        (_, kind, has_snapshot): (&str, Kind, bool),
        cluster: &Cluster,
        file: &std::path::Path,
        tools: &Tools,
    ) -> Self {
        let ready = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        let snapshot = match has_snapshot {
            true => format!("snapshot {}", file.display()),
            false => String::new(),
        };
        let corefile = Corefile::new(format!(
            ".:5353 {{
    bind 127.0.0.1
    errors
    ready {ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests -
        pods insecure
        {snapshot}
    }}
}}
"
        ));
        let corefile = corefile.with_kubeconfig(&cluster.kubeconfig());
        Self { server: Server::launch(kind, &corefile, Some(tools)), ready }
    }

    /// When it first answers rightly, and when it is first ready.
    fn follow(&self, end: Instant) -> [Option<Instant>; 2] {
        let question = Question::new("web.default.svc.cluster.local.".to_owned(), Rtype::A);
        let mut found = [None, None];
        while found.contains(&None) && Instant::now() < end {
            if found[0].is_none() {
                let answer = over_udp(self.server.address(), &question, QUERY_LIMIT);
                let is_right = answer.is_ok_and(|answer| answer.data_of(Rtype::A) == ["10.96.1.4"]);
                found[0] = is_right.then(Instant::now);
            }
            if found[1].is_none() {
                let is_ready = http::status(self.ready, "/ready").is_ok_and(|code| code == 200);
                found[1] = is_ready.then(Instant::now);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        found
    }
}
