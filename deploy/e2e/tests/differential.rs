//! CoreDNS 1.15.0 and ringdns on one API server get the same few thousand questions, generated from
//! a seed. Every difference must have a name in `e2e::rule`.
//!
//! `E2E_SEED=NUMBER` repeats a run; each run prints its seed.

use std::collections::{BTreeMap, BTreeSet};

use e2e::answer::{Answer, Record};
use e2e::ask::Transport;
use e2e::cluster::Cluster;
use e2e::comparison::differences;
use e2e::corefile::{Corefile, STOCK};
use e2e::difference::Oracle;
use e2e::question::Question;
use e2e::rule::Rule;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::{questions, reverse, sample_cluster};
use fastrand::Rng;

/// How many differences of each kind a failing test shows.
const SHOWN: usize = 2;

/// Questions for each Corefile.
const QUESTION_COUNT: usize = 4_000;

const VERIFIED: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local 10.96.0.0/16 fd00:10:96::/112 10.200.0.0/15 fd00:244::/32 {
        manifests -
        pods verified
        endpoint_pod_names
        ttl 5
    }
}
";

const NARROWED: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes k8s.example cluster.local 10.96.0.0/16 10.200.0.0/16 {
        manifests -
        labels dns=public
        namespaces shop team-a leaving
        ignore empty_service
        ttl 0
    }
}
";

const WITHOUT_ENDPOINTS: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa {
        manifests -
        namespace_labels env=prod
        noendpoints
        fallthrough in-addr.arpa
        ttl 3600
    }
}
";

const COREFILES: [(&str, &str); 4] = [
    ("stock", STOCK),
    ("verified", VERIFIED),
    ("narrowed", NARROWED),
    ("without endpoints", WITHOUT_ENDPOINTS),
];

#[test]
fn agrees_with_coredns() {
    let Some(tools) = Tools::find("differential") else { return };
    let seed = match std::env::var("E2E_SEED") {
        Ok(seed) => seed.parse().expect("E2E_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    say(&format!("differential: E2E_SEED={seed}"));
    let mut rng = Rng::with_seed(seed);
    let objects = sample_cluster::make(&mut rng);
    let cluster = Cluster::start(&tools);
    cluster.objects().apply(&objects);
    let mut unexplained = Unexplained::new();
    for (name, text) in COREFILES {
        let corefile = Corefile::new(text).with_kubeconfig(&cluster.kubeconfig());
        let questions = questions::make(&objects, &corefile.zones(), &mut rng, QUESTION_COUNT);
        assert!(questions.len() >= 2_000, "only {} questions", questions.len());
        let coredns = Server::start(Kind::CoreDns, &corefile, Some(&tools));
        let subject = Server::start(Kind::subject(), &corefile, Some(&tools));
        let zones = corefile.zones().iter().flat_map(|word| reverse::zones(word)).collect();
        compare(name, &questions, zones, [&coredns, &subject], &mut unexplained);
    }
    let count: usize = unexplained.values().map(Vec::len).sum();
    let kinds: String = unexplained
        .iter()
        .map(|(kind, all)| {
            let shown = all.len().min(SHOWN);
            format!("\n{} × {kind}, the first {shown}:\n{}\n", all.len(), all[..shown].join("\n"))
        })
        .collect();
    assert!(count == 0, "E2E_SEED={seed}: {count} responses differ without a rule:\n{kinds}");
}

/// Differences grouped by kind: one mistake often shows in many responses.
type Unexplained = BTreeMap<String, Vec<String>>;

/// Queries both servers, prints how often they agree, and adds the differences without a rule.
fn compare(
    name: &str,
    questions: &[Question],
    zones: Vec<String>,
    [coredns, subject]: [&Server; 2],
    unexplained: &mut Unexplained,
) {
    let asked: Vec<(&Question, Answer, Answer)> = questions
        .iter()
        .map(|question| (question, coredns.answer(question), subject.answer(question)))
        .collect();
    let positive = asked.iter().flat_map(|(_, theirs, _)| &theirs.answer);
    let existing: BTreeSet<String> = positive.map(Record::owner).map(str::to_owned).collect();
    let oracle = Oracle { ask: &|question| coredns.answer(question), existing, zones };
    let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
    let mut rcodes: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut equal, mut without_rule) = (0, 0);
    for (question, theirs, ours) in &asked {
        *rcodes.entry(&theirs.rcode).or_default() += 1;
        let over_tcp = subject.ask(question, Transport::Tcp);
        let found = differences(theirs, ours);
        let (kind, what) = if !over_tcp.as_ref().is_ok_and(|answer| is_same(answer, ours)) {
            let what = format!("    UDP {ours:?}\n    TCP {over_tcp:?}");
            ("over TCP another answer than over UDP".to_owned(), what)
        } else if found.is_empty() && theirs.ra == ours.ra {
            equal += 1;
            continue;
        } else if let Some(rule) = oracle.explain(question, theirs, ours) {
            *rules.entry(rule).or_default() += 1;
            continue;
        } else {
            let fields: Vec<&str> =
                found.iter().filter_map(|field| field.split(':').next()).collect();
            let kind =
                format!("{} → {}, {}", theirs.rcode, ours.rcode, fields.join(" and ") + " differ");
            (kind, format!("    {}", found.join("\n    ")))
        };
        without_rule += 1;
        let title = format!("{question} under '{name}' (want is CoreDNS's)");
        unexplained.entry(kind).or_default().push(format!("{title}\n{what}"));
    }
    say(&format!(
        "differential, '{name}', {:?}: {equal} of {} answers equal CoreDNS's {rcodes:?}; \
         differences by rule {rules:?}; without a rule {without_rule}",
        subject.kind(),
        asked.len(),
    ));
}

/// UDP and TCP give the same response; only the serial may have changed in between.
fn is_same(over_tcp: &Answer, over_udp: &Answer) -> bool {
    let over_tcp = Answer { udp_tc: over_udp.udp_tc, ..over_tcp.clone() };
    differences(over_udp, &over_tcp).is_empty()
}
