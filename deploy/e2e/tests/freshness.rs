//! How soon answers follow the API server: from its response to the client that made a change, to
//! the first correct answer.

use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::answer::Answer;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::delays::{Delays, until};
use e2e::objects::Objects;
use e2e::question::Question;
use e2e::say::say;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use serde_json::{Value, json};

/// How late an answer may be, this many times in a row.
const LIMIT: Duration = Duration::from_millis(10);
const IN_A_ROW: usize = 100;

/// How long to try. The API server, etcd, the server and this test share the machine with other
/// work: a late answer restarts the row but does not fail the test.
const TRY_LIMIT: Duration = Duration::from_secs(60);

/// The namespace in which the test makes changes.
const NAMESPACE: &str = "fresh";

const COREFILE: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests -
        pods insecure
        ttl 30
    }
    loadbalance
}
";

/// One test, so that nothing else runs while it measures.
#[test]
fn changes_show_within_10_ms() {
    let Some(tools) = Tools::find("freshness") else { return };
    let cluster = Cluster::start(&tools);
    let objects = cluster.objects();
    objects.create(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    }));
    let corefile = Corefile::new(COREFILE).with_kubeconfig(&cluster.kubeconfig());
    let server = Server::start(Kind::subject(), &corefile, Some(&tools));
    until(&server, &question("", Rtype::A), Answer::is_nodata);

    services_are_created(objects, &server);
    services_are_deleted(objects, &server);
    endpoints_change(objects, &server);
    external_name_changes(objects, &server);
    namespace_is_deleted(objects, &server);
}

fn services_are_created(objects: &Objects, server: &Server) {
    measure("a Service created", server, |index| {
        let name = format!("new-{index}");
        objects.create(&service(&name, json!({ "ports": [{ "name": "http", "port": 80 }] })));
        until(server, &question(&name, Rtype::A), has_data)
    });
}

fn services_are_deleted(objects: &Objects, server: &Server) {
    measure("a Service deleted", server, |index| {
        let name = format!("old-{index}");
        objects.create(&service(&name, json!({ "ports": [{ "name": "http", "port": 80 }] })));
        until(server, &question(&name, Rtype::A), has_data);
        objects.delete("Service", Some(NAMESPACE), &name);
        until(server, &question(&name, Rtype::A), Answer::is_nxdomain)
    });
}

fn endpoints_change(objects: &Objects, server: &Server) {
    objects.create(&service("headless", json!({ "clusterIP": "None" })));
    objects.create(&json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "headless-1",
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": "headless" },
        },
        "addressType": "IPv4",
        "endpoints": [],
        "ports": [{ "name": "http", "port": 8080 }],
    }));
    measure("an endpoint ready or not", server, |index| {
        let is_ready = index.is_multiple_of(2);
        let address = format!("10.244.{}.{}", index / 256, index % 256);
        let endpoint = json!([{ "addresses": [address], "conditions": { "ready": is_ready } }]);
        objects.patch("EndpointSlice", NAMESPACE, "headless-1", json!({ "endpoints": endpoint }));
        until(server, &question("headless", Rtype::A), |answer| {
            if is_ready { answer.data_of(Rtype::A) == [&address] } else { answer.is_nxdomain() }
        })
    });
}

fn external_name_changes(objects: &Objects, server: &Server) {
    let target = |index: usize| format!("target-{index}.example.org");
    let spec = json!({ "type": "ExternalName", "externalName": "first.example.org" });
    objects.create(&service("external", spec));
    measure("an ExternalName moved", server, |index| {
        let spec = json!({ "spec": { "externalName": target(index) } });
        objects.patch("Service", NAMESPACE, "external", spec);
        let cname = format!("{}.", target(index));
        until(server, &question("external", Rtype::CNAME), |answer| {
            answer.data_of(Rtype::CNAME) == [&cname]
        })
    });
}

/// While it is Terminating its names exist; once it is gone they do not, whatever was left in it.
fn namespace_is_deleted(objects: &Objects, server: &Server) {
    objects.create(&service("stays", json!({ "ports": [{ "name": "http", "port": 80 }] })));
    until(server, &question("stays", Rtype::A), has_data);
    objects.delete("Namespace", None, NAMESPACE);
    let answer = server.answer(&question("stays", Rtype::A));
    assert!(has_data(&answer), "a Terminating namespace still has its names: {answer:?}");
    objects.finalize_namespace(NAMESPACE);
    let delay = until(server, &question("stays", Rtype::A), Answer::is_nxdomain);
    let answer = server.answer(&question("", Rtype::A));
    assert!(answer.is_nxdomain(), "a deleted namespace must not exist: {answer:?}");
    say(&format!("freshness, {:?}, namespace deleted: {delay:?}", server.kind()));
}

/// Makes changes until enough in a row were answered in time, and prints the delays. `change` makes
/// one change and returns the delay of its answer.
fn measure(what: &str, server: &Server, mut change: impl FnMut(usize) -> Duration) {
    let mut delays = Vec::new();
    let mut row = 0;
    let began = Instant::now();
    while row < IN_A_ROW && began.elapsed() < TRY_LIMIT {
        let delay = change(delays.len());
        row = if delay <= LIMIT { row + 1 } else { 0 };
        delays.push(delay);
    }
    let count = delays.len();
    let delays = Delays::new(delays);
    let line = format!("{what}, {count} times: {delays}, {} late", delays.count_above(LIMIT));
    say(&format!("freshness, {:?}, {line}", server.kind()));
    assert!(row == IN_A_ROW, "never {IN_A_ROW} in a row within {LIMIT:?}: {line}");
}

fn has_data(answer: &Answer) -> bool {
    !answer.answer.is_empty()
}

/// A name in the test's namespace, or the namespace's own.
fn question(name: &str, rtype: Rtype) -> Question {
    let dot = if name.is_empty() { "" } else { "." };
    Question::new(format!("{name}{dot}{NAMESPACE}.svc.cluster.local."), rtype)
}

fn service(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": spec,
    })
}
