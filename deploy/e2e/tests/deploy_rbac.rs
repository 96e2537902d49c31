//! ringdns with the token of its ServiceAccount, at an API server that enforces RBAC: the
//! ClusterRole of `deploy/kubernetes/base` is enough, and the log names each rule that is missing.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::admission::Outcome;
use e2e::ask::Transport;
use e2e::corefile::Corefile;
use e2e::credentials::kubeconfig;
use e2e::deadline::try_poll;
use e2e::judge::{Judge, Rendering};
use e2e::objects::{service, text};
use e2e::question::Question;
use e2e::rendering::{kustomized, output};
use e2e::server::{Kind, Server};
use e2e::{http, port};
use serde_json::{Value, json};

/// How long ringdns may take to read the cluster, or to log what is missing.
const LIMIT: Duration = Duration::from_secs(20);

/// Until the API server's authorizer has seen a change, and ringdns has asked again: it waits up to
/// ten seconds between refusals.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

const COREFILE: &str = ".:5353 {
    bind 127.0.0.1
    errors
    hosts {
        192.0.2.9 other.example
        fallthrough
    }
    kubernetes cluster.local {
        manifests -
        pods verified
        startup_timeout 1s
    }
}
";

/// Questions of which each needs other kinds of objects, with an address of its answer.
const CLUSTER_IP: (&str, &str) = ("web.default.svc.cluster.local.", "10.96.1.4");
const HEADLESS: (&str, &str) = ("db.default.svc.cluster.local.", "10.244.1.2");
const POD: (&str, &str) = ("10-244-1-2.default.pod.cluster.local.", "10.244.1.2");

/// A question that needs no objects.
const OTHER: (&str, &str) = ("other.example.", "192.0.2.9");

/// A cluster with a ClusterIP Service, a headless one and a Pod, and the objects of the base.
struct Rbac {
    judge: Judge,
    base: Vec<Value>,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Rbac {
    fn start(test: &str) -> Option<Self> {
        let judge = Judge::start(test)?;
        let objects = judge.cluster.objects();
        objects.create(&service("web", "10.96.1.4"));
        objects.create(&service("db", "None"));
        objects.create(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "db-1", "namespace": "default",
                "labels": { "kubernetes.io/service-name": "db" },
            },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.244.1.2"], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
        }));
        objects.create(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "db-0", "namespace": "default" },
            "spec": { "containers": [{ "name": "db", "image": "db" }] },
            "status": {
                "phase": "Running", "podIP": "10.244.1.2", "podIPs": [{ "ip": "10.244.1.2" }],
            },
        }));
        let base = kustomized(&judge.clients, "base");
        let all = Rendering { what: "base".to_owned(), objects: base.clone() };
        judge.accepts(&all, Outcome::Stored);
        let mut kubectl = Command::new(&judge.clients.kubectl);
        kubectl.args(["create", "token", "coredns", "--namespace", "kube-system"]);
        let token = output(kubectl.env("KUBECONFIG", judge.cluster.kubeconfig()));
        let token = format!("{{token: {}}}", token.expect("a token").trim());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        let authority = judge.cluster.credentials().authority();
        fs::write(&path, kubeconfig(judge.cluster.port(), &authority, &token)).expect("a file");
        Some(Self { judge, base, kubeconfig: path, _folder: folder })
    }

    /// With the Corefile of the base, on ports and an address of a test.
    fn launch_base(&self, ports: &AdminPorts) -> Server {
        let config = self.base.iter().find(|object| text(object, "/kind") == "ConfigMap");
        let corefile = text(config.expect("a ConfigMap"), "/data/Corefile");
        let corefile = corefile
            .replace(".:53 {", ".:5353 {\n    bind 127.0.0.1")
            .replace("health {", &format!("health 127.0.0.1:{} {{", ports.health))
            .replace("lameduck 5s", "lameduck 0s")
            .replace("    ready", &format!("    ready 127.0.0.1:{}", ports.ready))
            .replace(":9153", &format!("127.0.0.1:{}", ports.metrics))
            .replace("ttl 30", "manifests -");
        let corefile = Corefile::new(corefile).with_kubeconfig(&self.kubeconfig);
        Server::launch(Kind::Ringdns, &corefile, Some(&self.judge.tools))
    }

    fn launch(&self) -> Server {
        let corefile = Corefile::new(COREFILE).with_kubeconfig(&self.kubeconfig);
        Server::launch(Kind::Ringdns, &corefile, Some(&self.judge.tools))
    }

    /// Stores the ClusterRole without what `keeps` refuses: resources and verbs.
    fn allow(&self, keeps: impl Fn(&str, &str) -> bool) {
        let role = self.base.iter().find(|object| text(object, "/kind") == "ClusterRole");
        let mut role = role.expect("a ClusterRole").clone();
        let mut rules = Vec::new();
        for rule in role["rules"].as_array().expect("rules") {
            for resource in words(&rule["resources"]) {
                let verbs: Vec<String> = words(&rule["verbs"])
                    .into_iter()
                    .filter(|verb| keeps(&resource, verb))
                    .collect();
                if !verbs.is_empty() {
                    let groups = &rule["apiGroups"];
                    rules.push(json!({
                        "apiGroups": groups, "resources": [resource], "verbs": verbs
                    }));
                }
            }
        }
        role["rules"] = Value::Array(rules);
        let changed = Rendering { what: "the ClusterRole".to_owned(), objects: vec![role] };
        self.judge.accepts(&changed, Outcome::Stored);
    }
}

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// Where the Corefile of the base has 8080, 8181 and 9153.
struct AdminPorts {
    health: u16,
    ready: u16,
    metrics: u16,
}

fn words(list: &Value) -> Vec<String> {
    serde_json::from_value(list.clone()).expect("a list of words")
}

/// The response code, and whether the address is in the answer.
fn ask(server: &Server, (name, address): (&str, &str)) -> Option<(String, bool)> {
    let question = Question::new(name.to_owned(), Rtype::A);
    let answer = server.ask(&question, Transport::Udp).ok()?;
    let has_address = answer.answer.iter().any(|record| format!("{record:?}").contains(address));
    Some((answer.rcode, has_address))
}

fn until(server: &Server, limit: Duration, question: (&str, &str), rcode: &str) {
    let expected = (rcode.to_owned(), rcode == "NOERROR");
    let mut last = None;
    let came = try_poll(limit, || {
        last = ask(server, question);
        (last.as_ref() == Some(&expected)).then_some(())
    });
    assert!(came.is_some(), "{}: {rcode} expected, not {last:?}\n{}", question.0, server.log());
}

#[test]
fn the_service_account_may_read_what_is_needed_and_nothing_else() {
    let test = "deploy_rbac::the_service_account_may_read_what_is_needed_and_nothing_else";
    let _alone = ALONE.lock();
    let Some(rbac) = Rbac::start(test) else { return };
    let server = rbac.launch();
    for question in [CLUSTER_IP, HEADLESS, POD] {
        until(&server, LIMIT, question, "NOERROR");
    }
    let log = server.log();
    assert!(!log.contains("WARN") && !log.contains("forbidden"), "{log}");
    drop(server);

    for missing in ["namespaces", "services", "endpointslices", "pods"] {
        rbac.allow(|resource, verb| resource != missing || verb != "list");
        let server = rbac.launch();
        until_logged(&server, "list", missing);
        drop(server);
        // With `list` alone, lists are repeated.
        rbac.allow(|resource, verb| resource != missing || verb != "watch");
        let server = rbac.launch();
        until_logged(&server, "watch", missing);
        for question in [CLUSTER_IP, HEADLESS, POD] {
            until(&server, LIMIT, question, "NOERROR");
        }
    }
}

#[test]
fn the_base_passes_its_probes_and_answers() {
    let test = "deploy_rbac::the_base_passes_its_probes_and_answers";
    let _alone = ALONE.lock();
    let Some(rbac) = Rbac::start(test) else { return };
    let ports = AdminPorts { health: port::free(), ready: port::free(), metrics: port::free() };
    let server = rbac.launch_base(&ports);
    let is_ok = |port: u16, path: &str| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        try_poll(LIMIT, || {
            let (code, body) = http::get(address, path).ok()?;
            (code == 200 && body.contains("OK")).then_some(())
        })
        .is_some()
    };
    assert!(is_ok(ports.health, "/health"), "{}", server.log());
    assert!(is_ok(ports.ready, "/ready"), "{}", server.log());
    for question in [CLUSTER_IP, HEADLESS, POD] {
        until(&server, LIMIT, question, "NOERROR");
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.metrics));
    assert!(http::metric(address, "coredns_dns_requests_total", &[]) >= 3.0);
}

#[test]
fn a_missing_rule_is_named_and_costs_only_what_depends_on_it() {
    let test = "deploy_rbac::a_missing_rule_is_named_and_costs_only_what_depends_on_it";
    let _alone = ALONE.lock();
    let Some(rbac) = Rbac::start(test) else { return };
    let check = |missing: &str, rcodes: [&str; 3]| {
        rbac.allow(|resource, _| resource != missing);
        let server = rbac.launch();
        until_logged(&server, "list", missing);
        until(&server, LIMIT, OTHER, "NOERROR");
        for (question, rcode) in [CLUSTER_IP, HEADLESS, POD].into_iter().zip(rcodes) {
            until(&server, LIMIT, question, rcode);
        }
        rbac.allow(|_, _| true);
        for question in [CLUSTER_IP, HEADLESS, POD] {
            until(&server, RECOVERY_LIMIT, question, "NOERROR");
        }
    };
    check("namespaces", ["SERVFAIL", "SERVFAIL", "SERVFAIL"]);
    check("services", ["SERVFAIL", "SERVFAIL", "NOERROR"]);
    check("endpointslices", ["NOERROR", "SERVFAIL", "NOERROR"]);
    check("pods", ["NOERROR", "NOERROR", "SERVFAIL"]);
}

#[test]
fn a_rule_revoked_in_the_middle_stops_no_answer() {
    let test = "deploy_rbac::a_rule_revoked_in_the_middle_stops_no_answer";
    let _alone = ALONE.lock();
    let Some(rbac) = Rbac::start(test) else { return };
    rbac.allow(|_, _| true);
    let server = rbac.launch();
    for question in [CLUSTER_IP, HEADLESS, POD] {
        until(&server, LIMIT, question, "NOERROR");
    }
    rbac.allow(|resource, _| resource != "endpointslices");
    // The watch goes on until the API server ends it, after 20 s.
    let refused = "cannot update objects";
    let came = try_poll(RECOVERY_LIMIT, || server.log().contains(refused).then_some(()));
    assert!(came.is_some(), "{}", server.log());
    for question in [CLUSTER_IP, HEADLESS, POD] {
        until(&server, LIMIT, question, "NOERROR");
    }
    // Other kinds are kept up to date meanwhile.
    rbac.judge.cluster.objects().create(&service("new", "10.96.1.8"));
    until(&server, LIMIT, ("new.default.svc.cluster.local.", "10.96.1.8"), "NOERROR");
    let changed = json!({ "endpoints": [
        { "addresses": ["10.244.1.3"], "conditions": { "ready": true } },
    ] });
    rbac.judge.cluster.objects().patch("EndpointSlice", "default", "db-1", changed);
    rbac.allow(|_, _| true);
    until(&server, RECOVERY_LIMIT, (HEADLESS.0, "10.244.1.3"), "NOERROR");
}

/// The log names what is missing, for whom, and the rule to add.
fn until_logged(server: &Server, verb: &str, missing: &str) {
    let group = if missing == "endpointslices" { "discovery.k8s.io" } else { "" };
    let words = [
        format!("kind=\"{missing}\""),
        format!(
            "User \\\"system:serviceaccount:kube-system:coredns\\\" cannot {verb} resource \
             \\\"{missing}\\\" in API group \\\"{group}\\\" at the cluster scope"
        ),
        format!(
            "add to the ClusterRole: {{apiGroups: [\\\"{group}\\\"], resources: \
             [\\\"{missing}\\\"], verbs: [\\\"list\\\", \\\"watch\\\"]}}"
        ),
    ];
    let is_there = |line: &str| words.iter().all(|word| line.contains(word));
    let came = try_poll(LIMIT, || server.log().lines().any(is_there).then_some(()));
    assert!(came.is_some(), "no line with {words:?} in\n{}", server.log());
}
