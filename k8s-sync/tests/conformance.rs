//! Compares the table of a recorded cluster with the responses of CoreDNS 1.15.0.
//!
//! The recording is a folder of the end-to-end tests, which send the same queries to a whole server
//! over the network. Here only the table is tested, so that a wrong record is found where it is
//! made.

mod objects;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_sync::manifests::Manifests;
use k8s_sync::options::Options;
use k8s_sync::publish::Publisher;
use k8s_sync::status::SourceStatus;
use serde::Deserialize;
use wire::hash::HashSeed;
use wire::pod::PodMode;
use wire::table::Table;

use objects::{ask, options};

#[derive(Deserialize)]
struct Exchange {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    rcode: String,
    #[serde(default)]
    answer: Vec<Record>,
    #[serde(default)]
    authority: Vec<Record>,
    #[serde(default)]
    additional: Vec<Record>,
}

/// Owner, type, TTL, data.
type Record = (String, String, u32, String);

impl Exchange {
    /// Queries for which the recording is not binding. `deploy/e2e/src/quirk.rs` gives the reasons.
    fn is_quirk(&self) -> bool {
        let name = self.name.to_lowercase();
        let first = name.split('.').next().unwrap_or_default();
        let dots = name.matches('.').count();
        let rtype = self.rtype.as_str();
        matches!(first, "_tcp" | "_udp" | "_sctp")
            || (first.starts_with("ext") && !matches!(rtype, "A" | "CNAME"))
            || first.starts_with("extnx")
            || first.starts_with("extself")
            || (dots == 3 && rtype == "TXT")
            || (first == "dns-version" && rtype != "TXT")
            || matches!(name.as_str(), "ns.dns.cluster.local." | "dns.cluster.local.")
            || (name == "cluster.local." && rtype == "TXT")
            || ((name.contains("slices-") || name.contains("hldual-")) && rtype == "SRV")
    }

    /// Whether the forwarder responded: the name is missing from the table, or in none of its
    /// zones.
    fn is_forwarded(&self) -> bool {
        let is_ours = |name: &str| name.to_lowercase().ends_with("cluster.local.");
        let is_outside =
            |record: &Record| !is_ours(&record.0) && !record.0.to_lowercase().ends_with(".arpa.");
        self.authority.iter().any(is_outside)
            || (!self.answer.is_empty() && self.answer.iter().all(is_outside))
            || self.answer.iter().any(|record| record.1 == "PTR" && !is_ours(&record.3))
    }

    /// The expected result in the format of `ask`, without what the forwarder added after a CNAME.
    fn expected(&self, ttl_secs: u32) -> String {
        if self.answer.is_empty() {
            return if self.rcode == "NXDOMAIN" { "NXDOMAIN" } else { "NODATA" }.to_owned();
        }
        let text = |records: &[Record]| {
            let mut lines = Vec::new();
            for (owner, rtype, ttl, data) in records {
                let mut line = String::new();
                if !owner.eq_ignore_ascii_case(&self.name) {
                    line += &format!("{} ", owner.trim_end_matches('.'));
                }
                // `ask` omits a TTL of 5.
                let ttl = if *ttl == ttl_secs { 5 } else { *ttl };
                if ttl != 5 {
                    line += &format!("{ttl} ");
                }
                lines.push(line + &format!("{rtype} {}", data.trim_end_matches('.')));
            }
            lines.retain(|line| !line.contains("example.org") || line.starts_with("CNAME"));
            lines.sort();
            lines.join(", ")
        };
        let (answer, additional) = (text(&self.answer), text(&self.additional));
        format!("{answer} + {additional}").trim_end_matches(" + ").to_owned()
    }
}

fn folder() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/e2e/conformance").into()
}

async fn table_of(folder: &std::path::Path, options: &Options) -> Arc<Table> {
    let status = Arc::new(SourceStatus::new(options));
    let manifests = Manifests::load(&[folder.join("cluster.yaml")], options, status).unwrap();
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let source = manifests.run(sender);
    let mut publisher = Publisher::new(Arc::new(options.clone()), HashSeed::new(7));
    let consumer = async {
        while !publisher.is_synced() {
            publisher.apply(events.recv().await.expect("more events until all kinds are synced"));
        }
    };
    tokio::select! {
        () = source => panic!("the source ended"),
        () = consumer => {}
    }
    publisher.publish(1).expect("a first table")
}

async fn check(record: &str, options: Options) {
    let folder = folder();
    // Both sides use 5 for the default TTL, so only other TTLs show.
    let ttl_secs = options.ttl_secs;
    let table = table_of(&folder, &Options { ttl_secs: 5, ..options }).await;
    let lines = std::fs::read_to_string(folder.join(record)).unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in lines.lines() {
        let exchange: Exchange = serde_json::from_str(line).unwrap();
        if exchange.error.is_some() || exchange.is_quirk() || exchange.rtype == "SOA" {
            continue;
        }
        let question = format!("{} {}", exchange.name.trim_end_matches('.'), exchange.rtype);
        let got = ask(&table, &question);
        let expected: BTreeSet<String> = if exchange.is_forwarded() {
            ["NXDOMAIN", "OUTSIDE"].map(str::to_owned).into()
        } else {
            // Unless pods are verified, the name of a pod is answered from the question.
            let pod = exchange.answer.first().map(|record| format!("POD {}", record.3));
            let srv = exchange.additional.first().map(|record| format!("POD {}", record.3));
            [Some(exchange.expected(ttl_secs)), pod, srv].into_iter().flatten().collect()
        };
        compared += 1;
        if !expected.contains(&got) {
            wrong.push(format!("{question}\n   want {expected:?}\n   got  {got:?}"));
        }
    }
    assert!(compared > 900, "only {compared} questions of {record}");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn default_options() {
    let options = Options {
        pods: PodMode::Insecure,
        ttl_secs: 30,
        ..options(&["cluster.local", "in-addr.arpa", "ip6.arpa"])
    };
    check("expected.default.jsonl", options).await;
}

#[tokio::test]
async fn pods_verified_and_subnets() {
    let subnets = (128..256).map(|octet| format!("{octet}.10.in-addr.arpa"));
    let service_subnets =
        ["96.10.in-addr.arpa", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa"];
    let zones: Vec<String> = ["cluster.local"]
        .into_iter()
        .chain(service_subnets)
        .map(str::to_owned)
        .chain(subnets)
        .collect();
    let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
    let options = Options { pods: PodMode::Verified, endpoint_pod_names: true, ..options(&zones) };
    check("expected.verified.jsonl", options).await;
}
