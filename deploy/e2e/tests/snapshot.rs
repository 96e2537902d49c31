//! `kubernetes { snapshot FILE }`: a server that starts while the API server is down serves the
//! last known state, says so, and has the API server's own state once it returns.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::ask::Transport;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::deadline::poll;
use e2e::objects::service;
use e2e::question::Question;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;
use e2e::{http, port};

const LIMIT: Duration = Duration::from_secs(20);

/// A start that waits for it would be noticed.
const STARTUP_TIMEOUT: &str = "20s";

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// A Corefile with a snapshot, and its endpoints.
struct Setup {
    corefile: Corefile,
    ready: SocketAddr,
    metrics: SocketAddr,
    file: PathBuf,
    tools: Tools,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn new(cluster: &Cluster, name: &str, startup_timeout: &str, tools: &Tools) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(name);
        let [ready, metrics] =
            [port::free(), port::free()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let text = format!(
            ".:5353 {{
    bind 127.0.0.1
    errors
    ready {ready}
    prometheus {metrics}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests -
        pods verified
        snapshot {}
        startup_timeout {startup_timeout}
    }}
}}
",
            file.display()
        );
        let corefile = Corefile::new(text).with_kubeconfig(&cluster.kubeconfig());
        Self { corefile, ready, metrics, file, tools: tools.clone(), _folder: folder }
    }

    fn launch(&self) -> Server {
        Server::launch(Kind::Ringdns, &self.corefile, Some(&self.tools))
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        let (_, text) = http::get(self.metrics, "/metrics").ok()?;
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).next()
    }

    fn until_gauge(&self, name: &str, value: f64) {
        poll(LIMIT, &format!("{name} to be {value}"), || {
            (self.gauge(name) == Some(value)).then_some(())
        });
    }
}

/// The response code, and the addresses.
fn ask(server: &Server, name: &str) -> Option<(String, Vec<String>)> {
    let question = Question::new(format!("{name}.default.svc.cluster.local."), Rtype::A);
    let answer = server.ask(&question, Transport::Udp).ok()?;
    let addresses = answer.data_of(Rtype::A).into_iter().map(str::to_owned).collect();
    Some((answer.rcode, addresses))
}

#[track_caller]
fn until(server: &Server, name: &str, rcode: &str, addresses: &[&str]) {
    let expected = (rcode.to_owned(), addresses.iter().map(|one| (*one).to_owned()).collect());
    let what = format!("{name} to be {expected:?}; the log:\n{}", server.log());
    poll(LIMIT, &what, || (ask(server, name) == Some(expected.clone())).then_some(()));
}

fn until_file_has(file: &Path, word: &str) {
    poll(LIMIT, &format!("{word} in {}", file.display()), || {
        fs::read_to_string(file).is_ok_and(|text| text.contains(word)).then_some(())
    });
}

fn count(text: &str, words: &str) -> usize {
    text.matches(words).count()
}

#[test]
fn a_restart_during_an_outage_serves_the_last_known_state() {
    let test = "snapshot::a_restart_during_an_outage_serves_the_last_known_state";
    let Some(tools) = Tools::find(test) else { return };
    let _alone = ALONE.lock();
    let mut cluster = Cluster::start(&tools);
    cluster.objects().create(&service("before", "10.96.1.1"));
    let setup = Setup::new(&cluster, "state.jsonl", STARTUP_TIMEOUT, &tools);
    let server = setup.launch();
    until(&server, "before", "NOERROR", &["10.96.1.1"]);
    until_file_has(&setup.file, "\"before\"");
    setup.until_gauge("ringdns_apiserver_connected", 1.0);
    setup.until_gauge("ringdns_snapshot_served", 0.0);
    // A clean end writes what has changed since.
    cluster.objects().create(&service("late", "10.96.1.2"));
    until(&server, "late", "NOERROR", &["10.96.1.2"]);
    server.end();
    until_file_has(&setup.file, "\"late\"");
    let folder = setup.file.parent().expect("a folder");
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 1, "nothing is left over");

    cluster.kill_api_server();
    // A server that starts now cannot see these.
    let other = cluster.second_api_server();
    other.objects().delete("Service", Some("default"), "before");
    other.objects().create(&service("meanwhile", "10.96.1.3"));
    drop(other);
    let written = fs::read(&setup.file).expect("a snapshot");
    let server = setup.launch();
    until(&server, "before", "NOERROR", &["10.96.1.1"]);
    until(&server, "late", "NOERROR", &["10.96.1.2"]);
    until(&server, "meanwhile", "NXDOMAIN", &[]);
    let note = format!("cluster.local. is served from the snapshot {}", setup.file.display());
    poll(LIMIT, "the snapshot in /ready", || {
        let (code, text) = http::get(setup.ready, "/ready").expect("/ready");
        assert!(code == 200 && text.starts_with("OK"), "{code}: {text}");
        text.contains(&note).then_some(())
    });
    setup.until_gauge("ringdns_snapshot_served", 1.0);
    setup.until_gauge("ringdns_apiserver_connected", 0.0);
    setup.until_gauge("ringdns_table_current", 0.0);
    assert!(setup.gauge("ringdns_sync_age_seconds") > Some(0.0));
    // A second restart has the same state: a stale state is not written as a fresh one.
    server.end();
    assert_eq!(fs::read(&setup.file).expect("a snapshot"), written);
    let server = setup.launch();
    until(&server, "late", "NOERROR", &["10.96.1.2"]);

    cluster.start_api_server();
    until(&server, "before", "NXDOMAIN", &[]);
    until(&server, "meanwhile", "NOERROR", &["10.96.1.3"]);
    until(&server, "late", "NOERROR", &["10.96.1.2"]);
    setup.until_gauge("ringdns_snapshot_served", 0.0);
    setup.until_gauge("ringdns_apiserver_connected", 1.0);
    setup.until_gauge("ringdns_table_current", 1.0);
    let (_, text) = http::get(setup.ready, "/ready").expect("/ready");
    assert!(!text.contains("snapshot"), "{text}");
    let log = server.log();
    assert_eq!(count(&log, "serving the snapshot"), 1, "{log}");
    assert_eq!(count(&log, "has replaced the snapshot"), 1, "{log}");
    until_file_has(&setup.file, "\"meanwhile\"");
}

#[test]
fn a_start_while_the_api_server_hangs_serves_the_last_known_state() {
    let test = "snapshot::a_start_while_the_api_server_hangs_serves_the_last_known_state";
    let Some(tools) = Tools::find(test) else { return };
    let _alone = ALONE.lock();
    let cluster = Cluster::start(&tools);
    cluster.objects().create(&service("web", "10.96.1.7"));
    let setup = Setup::new(&cluster, "state.jsonl", "2s", &tools);
    let server = setup.launch();
    until(&server, "web", "NOERROR", &["10.96.1.7"]);
    server.end();
    until_file_has(&setup.file, "\"web\"");

    // Connections are accepted by the kernel, and nothing is ever sent.
    cluster.suspend_api_server();
    let server = setup.launch();
    until(&server, "web", "NOERROR", &["10.96.1.7"]);
    setup.until_gauge("ringdns_snapshot_served", 1.0);
    setup.until_gauge("ringdns_apiserver_connected", 0.0);
    assert_eq!(http::status(setup.ready, "/ready").expect("/ready"), 200);
    cluster.resume_api_server();
    cluster.objects().create(&service("after", "10.96.1.8"));
    until(&server, "after", "NOERROR", &["10.96.1.8"]);
    setup.until_gauge("ringdns_snapshot_served", 0.0);
}

#[test]
fn a_bad_file_is_refused_and_replaced() {
    let Some(tools) = Tools::find("snapshot::a_bad_file_is_refused_and_replaced") else { return };
    let _alone = ALONE.lock();
    let mut cluster = Cluster::start(&tools);
    cluster.objects().create(&service("web", "10.96.1.4"));
    cluster.kill_api_server();
    let setup = Setup::new(&cluster, "state.jsonl", "1s", &tools);
    fs::write(&setup.file, "{\"snapshot\":\"ringdns\",\"version\":9}\n").expect("a file");
    let server = setup.launch();
    until(&server, "web", "SERVFAIL", &[]);
    let refusal = format!("cannot serve the snapshot: {}:1: format 9", setup.file.display());
    poll(LIMIT, "the refusal in the log", || server.log().contains(&refusal).then_some(()));
    assert_eq!(http::status(setup.ready, "/ready").expect("/ready"), 503);
    cluster.start_api_server();
    until(&server, "web", "NOERROR", &["10.96.1.4"]);
    until_file_has(&setup.file, "\"web\"");
    assert_eq!(count(&server.log(), "cannot serve the snapshot"), 1, "{}", server.log());
}

#[test]
fn a_file_that_cannot_be_written_stops_nothing() {
    let test = "snapshot::a_file_that_cannot_be_written_stops_nothing";
    let Some(tools) = Tools::find(test) else { return };
    let _alone = ALONE.lock();
    let cluster = Cluster::start(&tools);
    cluster.objects().create(&service("web", "10.96.1.5"));
    let setup = Setup::new(&cluster, "missing/state.jsonl", STARTUP_TIMEOUT, &tools);
    let server = setup.launch();
    until(&server, "web", "NOERROR", &["10.96.1.5"]);
    poll(LIMIT, "a failure to be counted", || {
        (setup.gauge("ringdns_snapshot_write_failures_total") >= Some(1.0)).then_some(())
    });
    let (code, text) = http::get(setup.ready, "/ready").expect("/ready");
    assert!(code == 200 && text.contains("cannot write the snapshot"), "{code} {text}");
    cluster.objects().create(&service("next", "10.96.1.6"));
    until(&server, "next", "NOERROR", &["10.96.1.6"]);
    let log = server.log();
    assert_eq!(count(&log, "cannot write the snapshot"), 1, "{log}");
    server.end();
}
