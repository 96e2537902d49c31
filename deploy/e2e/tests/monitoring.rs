//! The dashboard and the alert rules of `deploy/monitoring` ask only for what a running ringdns
//! exports, promtool accepts the rules, and the dashboard's panels are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::ask::Transport;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::expected;
use e2e::http;
use e2e::port;
use e2e::question::Question;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools;
use e2e::upstream::Upstream;
use serde_json::Value;

/// How long the server may take to count what it was asked.
const COUNTED_LIMIT: Duration = Duration::from_secs(20);

/// Metrics that the server of these tests lacks: it reads manifests, which have no times of
/// changes, and it does not run in node mode.
const OF_OTHER_SERVERS: [&str; 2] = [
    "coredns_kubernetes_dns_programming_duration_seconds_bucket",
    "coredns_nodecache_setup_errors_total",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../monitoring")
}

fn dashboard() -> Value {
    let text = fs::read_to_string(folder().join("dashboard.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// Every panel but the rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every expression of the dashboard and of the rules.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let targets = panels(&dashboard).into_iter().flat_map(|panel| panel["targets"].as_array());
    let mut found: Vec<String> =
        targets.flatten().filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect();
    let rules = fs::read_to_string(folder().join("rules.yaml")).expect("the rules");
    let rules: Value = serde_saphyr::from_str(&rules).expect("YAML");
    for group in rules["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            found.push(rule["expr"].as_str().expect("an expression").to_owned());
        }
    }
    found
}

/// The words of an expression that begin like a metric of ours.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        ["coredns_", "ringdns_", "process_"].iter().any(|prefix| word.starts_with(prefix))
    })
}

/// A server that has done a little of everything, and what it exports.
fn scraped() -> String {
    let upstream = Upstream::start();
    let http = port::free();
    let corefile = Corefile::new(format!(
        ".:5353 {{
            bind 127.0.0.1
            errors
            prometheus 127.0.0.1:{http}
            health 127.0.0.1:{http}
            kubernetes cluster.local in-addr.arpa {{
                manifests {}
                fallthrough in-addr.arpa
            }}
            hosts {{
                10.0.0.1 router.lan
                fallthrough
            }}
            file {} zone.example
            forward . {}
            cache
            reload
            loop
        }}
        other.example:5353 {{
            bind 127.0.0.1
            prometheus 127.0.0.1:{http}
            kubernetes {{
                endpoint http://127.0.0.1:1
                snapshot nowhere/state.jsonl
                startup_timeout 10ms
            }}
        }}",
        expected::folder().join("cluster.yaml").display(),
        zone_file().display(),
        upstream.address(),
    ));
    let server = Server::start(Kind::Ringdns, &corefile, None);
    let names = ["kubernetes.default.svc.cluster.local.", "router.lan.", "a.zone.example."];
    // The last are forwarded, over TCP on a kept connection, and then found in the cache.
    let forwarded = ["a.example.org.", "b.example.org.", "c.example.org.", "a.example.org."];
    for name in names.into_iter().chain(forwarded) {
        for transport in [Transport::Tcp, Transport::Udp] {
            let question = Question::new(name, Rtype::A);
            server.ask(&question, transport).expect("an answer");
        }
    }
    let address = ([127, 0, 0, 1], http).into();
    poll(COUNTED_LIMIT, "a scrape with responses of upstreams and of the cache", || {
        let (_, text) = http::get(address, "/metrics").ok()?;
        let late = ["coredns_forward_responses_total{", "coredns_cache_hits_total{"]
            .into_iter()
            .chain(["ringdns_apiserver_connected{", "ringdns_table_synced{"])
            .chain(["ringdns_hosts_current{", "ringdns_zone_current{"]);
        late.into_iter().all(|series| text.contains(series)).then_some(text)
    })
}

fn zone_file() -> PathBuf {
    let path = std::env::temp_dir().join(format!("ringdns-monitoring-{}.zone", std::process::id()));
    let zone = "$ORIGIN zone.example.\n@ 60 IN SOA ns admin 1 60 60 60 60\n\
                @ 60 IN NS ns.zone.example.\nns 60 IN A 10.0.0.2\na 60 IN A 10.0.0.3\n";
    fs::write(&path, zone).expect("a zone file");
    path
}

#[test]
fn every_metric_that_is_asked_for_is_exported() {
    let scrape = scraped();
    let _ = fs::remove_file(zone_file());
    let families: BTreeSet<&str> =
        scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let is_exported = |metric: &str| {
        let suffixes = ["", "_bucket", "_sum", "_count"];
        suffixes.iter().any(|suffix| {
            metric.strip_suffix(suffix).is_some_and(|family| families.contains(family))
        })
    };
    let expressions = expressions();
    let asked: BTreeSet<&str> =
        expressions.iter().flat_map(|expression| metrics(expression)).collect();
    assert!(asked.len() > 40, "{asked:?}");
    let missing: Vec<_> = asked
        .iter()
        .filter(|metric| !OF_OTHER_SERVERS.contains(metric) && !is_exported(metric))
        .collect();
    assert!(missing.is_empty(), "asked for, but not exported: {missing:#?}\nof {families:#?}");
}

#[test]
fn every_panel_is_complete_and_has_its_own_place() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(!title.is_empty() && titles.insert(title), "{title} comes twice");
        let place = &panel["gridPos"];
        let at = |key: &str| place[key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{title} is wider than the dashboard");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} covers another panel");
            }
        }
    }
    for panel in panels(&dashboard) {
        let title = &panel["title"];
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} asks for nothing");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            for variable in ["$job", "$namespace", "$pod"] {
                assert!(expression.contains(variable), "{title} ignores {variable}: {expression}");
            }
        }
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    let Some(promtool) = tools::built("promtool") else {
        say("e2e: !!! monitoring::promtool WAS SKIPPED: promtool is not built. Run \
             deploy/e2e/build.sh (it needs Go), then run the tests again.");
        return;
    };
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(folder()).output();
        let output = output.expect("promtool");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    let read = |file: &str| fs::read_to_string(folder().join(file)).expect("a file");
    let (rules, tests) = (read("rules.yaml"), read("rules.test.yaml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        for case in ["fires", "is silent"] {
            assert!(
                tests.contains(&format!("- name: {alert} {case}\n")),
                "{alert} {case}: no test"
            );
        }
    }
}
