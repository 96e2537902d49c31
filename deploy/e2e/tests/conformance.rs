//! The recorded cluster and all recorded questions: responses must be those of CoreDNS 1.15.0.
//!
//! Once with the cluster in files, which needs no other program, and once with the same cluster in
//! a real API server; each without and with a server behind `forward`. The first once more under a
//! seccomp filter that denies io_uring.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::cluster::Cluster;
use e2e::comparison::differences;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::expected::{self, Expected};
use e2e::objects::read_dump;
use e2e::quirk::{Quirk, is_from_the_forwarder};
use e2e::reverse;
use e2e::say::say;
use e2e::seccomp::{Denial, without_io_uring};
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::upstream::Upstream;

/// How many differences a failing test shows.
const SHOWN: usize = 25;

/// How long a server may take to refuse to start.
const EXIT_LIMIT: Duration = Duration::from_secs(20);

const CONFIGURATIONS: [&str; 2] = ["default", "verified"];

#[test]
fn cluster_in_files() {
    if Kind::subject() == Kind::CoreDns {
        say("e2e: conformance::cluster_in_files WAS SKIPPED: CoreDNS cannot read manifests");
        return;
    }
    let upstream = Upstream::start();
    for name in CONFIGURATIONS {
        let corefile = read(name).with_manifests(&expected::folder().join("cluster.yaml"));
        let server = Server::start(Kind::Ringdns, &corefile.clone().without_forward(), None);
        check("files", name, &server, &corefile, Forwarder::Absent);
        let corefile = corefile.forwarding_to(upstream.address());
        let server = Server::start(Kind::Ringdns, &corefile, None);
        check("files and upstream", name, &server, &corefile, Forwarder::Present);
    }
}

#[test]
fn cluster_in_an_api_server() {
    let Some(tools) = Tools::find("conformance::cluster_in_an_api_server") else { return };
    let cluster = recorded_cluster(&tools);
    for name in CONFIGURATIONS {
        let corefile = read(name).with_kubeconfig(&cluster.kubeconfig());
        let server =
            Server::start(Kind::subject(), &corefile.clone().without_forward(), Some(&tools));
        check("API server", name, &server, &corefile, Forwarder::Absent);
    }
}

/// Runs CoreDNS too, which validates the upstream and the comparison.
#[test]
fn with_an_upstream() {
    let Some(tools) = Tools::find("conformance::with_an_upstream") else { return };
    let cluster = recorded_cluster(&tools);
    let upstream = Upstream::start();
    for name in CONFIGURATIONS {
        let corefile = read(name).with_kubeconfig(&cluster.kubeconfig());
        let corefile = corefile.forwarding_to(upstream.address());
        for kind in [Kind::CoreDns, Kind::Ringdns] {
            let server = Server::start(kind, &corefile, Some(&tools));
            check("API server and upstream", name, &server, &corefile, Forwarder::Present);
        }
    }
}

#[test]
fn cluster_in_files_where_io_uring_is_denied() {
    let upstream = Upstream::start();
    for (denial, cause) in [
        (Denial::Eperm, "Operation not permitted (os error 1)"),
        (Denial::Enosys, "Function not implemented (os error 38)"),
    ] {
        for name in CONFIGURATIONS {
            let corefile = read(name).with_manifests(&expected::folder().join("cluster.yaml"));
            let corefile = corefile.forwarding_to(upstream.address());
            let server = without_io_uring(denial, || Server::start(Kind::Ringdns, &corefile, None));
            check(&format!("files, {denial:?}"), name, &server, &corefile, Forwarder::Present);

            let log = server.log();
            let warnings: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
            assert_eq!(warnings.len(), 1, "one warning and no more:\n{log}");
            let expected = format!(
                "[WARNING] io_uring is unavailable ({cause}); serving with recvmmsg and sendmmsg \
                 instead. a sandbox denies it: in Kubernetes a seccomp profile of type Localhost"
            );
            assert!(warnings[0].starts_with(&expected), "{}", warnings[0]);
            assert!(log.contains("shard(s), mmsg"), "{log}");
        }
    }
}

/// An operator who insists on io_uring learns what to change.
#[test]
fn io_uring_that_is_required_and_denied_ends_the_start() {
    let corefile = read("default").with_manifests(&expected::folder().join("cluster.yaml"));
    let corefile = corefile.without_forward();
    let (status, log) = without_io_uring(Denial::Eperm, || {
        let flags = ["--io", "uring"];
        let mut server = Server::launch_with(Kind::Ringdns, &corefile, None, &flags);
        let status = poll(EXIT_LIMIT, "its end", || server.exit_status());
        (status, server.log())
    });
    assert!(!status.success());
    for part in [
        "--io uring: Operation not permitted (os error 1)",
        "io_uring_setup, io_uring_enter and io_uring_register",
        "or use `--io auto`",
    ] {
        assert!(log.contains(part), "{part} is missing:\n{log}");
    }
}

/// Whether there is a server behind `forward`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forwarder {
    Present,
    Absent,
}

fn recorded_cluster(tools: &Tools) -> Cluster {
    let cluster = Cluster::start(tools);
    cluster.objects().apply(&read_dump(&expected::folder().join("cluster.yaml")));
    cluster
}

fn read(name: &str) -> Corefile {
    Corefile::read(&expected::folder().join(format!("Corefile.{name}")))
}

/// Sends all questions of one recording and panics with the differences.
fn check(source: &str, name: &str, server: &Server, corefile: &Corefile, forwarder: Forwarder) {
    let zones: Vec<String> =
        corefile.zones().iter().flat_map(|word| reverse::zones(word)).collect();
    let mut skipped = 0;
    let mut quirks: BTreeMap<Quirk, usize> = BTreeMap::new();
    let mut right = 0;
    let mut wrong = Vec::new();
    for Expected { question, answer: want } in expected::read(&format!("expected.{name}.jsonl")) {
        if let Some(quirk) = Quirk::of(&question) {
            *quirks.entry(quirk).or_default() += 1;
        } else if forwarder == Forwarder::Absent && is_from_the_forwarder(&want, &zones) {
            skipped += 1;
        } else {
            let found = differences(&want, &server.answer(&question));
            if found.is_empty() {
                right += 1;
            } else {
                wrong.push(format!("{question}\n    {}", found.join("\n    ")));
            }
        }
    }
    say(&format!(
        "conformance, cluster in {source}, Corefile.{name}, {:?}: {right} of {} answers right; \
         skipped: {skipped} that only a forwarder knows, \
         {} where CoreDNS deviates from the RFCs {quirks:?}",
        server.kind(),
        right + wrong.len(),
        quirks.values().sum::<usize>(),
    ));
    assert!(right + wrong.len() > 900, "the recording has about 1,000 questions that count");
    assert!(
        wrong.is_empty(),
        "{} answers differ from those of CoreDNS 1.15.0, the first {}:\n{}",
        wrong.len(),
        wrong.len().min(SHOWN),
        wrong[..wrong.len().min(SHOWN)].join("\n")
    );
}
