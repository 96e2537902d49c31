//! `ringdns explain` from its users' view.
//!
//! `explain/*.txt` are explanations of names of the example cluster; `BLESS=1` writes all of them
//! anew. No upstream is asked, and no socket opens.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use child::TestChild;
use tempfile::TempDir;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// File name, arguments.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("service", &["storefront.shop.svc.cluster.local"]),
    ("headless", &["web.shop.svc.cluster.local", "AAAA"]),
    ("endpoint-not-ready", &["web-2.web.shop.svc.cluster.local"]),
    ("no-such-port", &["_http2._tcp.catalog.shop.svc.cluster.local", "SRV"]),
    ("port", &["_grpc._tcp.catalog.shop.svc.cluster.local", "SRV"]),
    ("no-such-service", &["wbe.shop.svc.cluster.local"]),
    ("no-such-namespace", &["web.shpo.svc.cluster.local"]),
    ("external-name", &["images.shop.svc.cluster.local"]),
    ("no-address-of-the-family", &["catalog.shop.svc.cluster.local", "AAAA"]),
    ("pod-address", &["10-244-1-20.shop.pod.cluster.local"]),
    ("reverse", &["16.42.96.10.in-addr.arpa", "PTR"]),
    ("outside", &["www.example.org"]),
    ("search-path", &["postgres.data", "--from", "10.244.1.20"]),
];

/// The folder of the workspace: from there the example has the same relative path everywhere.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .arg("explain")
        .args(arguments)
        .arg("--no-upstreams")
        .current_dir(folder)
        .output()
        .expect("a process")
}

fn shown(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn names_of_the_example_cluster() {
    for (name, arguments) in EXAMPLES {
        let found = shown(&root(), arguments);
        let path = Path::new("tests/explain").join(name).with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &found).expect("a written file");
        }
        assert_eq!(found, fs::read_to_string(&path).unwrap_or_default(), "{name}");
    }
}

/// The example of the README is real.
#[test]
fn readme() {
    let (_, arguments) = EXAMPLES[2];
    let shown = shown(&root(), arguments);
    let shown = format!("$ ringdns explain {}\n{shown}", arguments.join(" "));
    let page = fs::read_to_string("../README.md").expect("the page");
    assert!(page.contains(&shown), "README.md lacks:\n{shown}");
}

/// A Corefile in which several plugins decide.
const CHAIN: &str = "\
example.org:5301 {
    acl {
        block net 192.0.2.0/24
    }
    rewrite name old.example.org new.example.org
    hosts {
        10.0.0.1 new.example.org
        fallthrough
    }
    cache 30
    forward . 192.0.2.53 192.0.2.54
}
.:5301 {
    view office {
        expr client_ip() == '192.0.2.1'
    }
    whoami
}
";

/// The first decision.
const BLOCK: &str =
    "block: example.org. at [::]:5301 (Corefile:1): the longest zone that the name is in";

#[test]
fn each_plugin_decides_in_order() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("Corefile"), CHAIN).expect("a written file");
    for (arguments, expected) in [
        (
            ["old.example.org", "A"],
            &[
                BLOCK,
                "rewrite: asks for new.example.org. A instead",
                "acl: passes the query on",
                "hosts: has records",
            ][..],
        ),
        (
            ["www.example.org", "A"],
            &[
                BLOCK,
                "rewrite: passes the query on",
                "acl: passes the query on",
                "hosts: does not have the name, and passes the query on: `fallthrough`",
                "cache: does not have the response",
                "forward: asks for www.example.org.: 192.0.2.53:53, 192.0.2.54:53",
            ],
        ),
        (
            ["example.com", "A"],
            &[
                "view: office does not take the query",
                "block: no block at [::]:5301 takes the name: REFUSED",
            ],
        ),
    ] {
        let text = shown(folder.path(), &[&arguments[..], &["--json"]].concat());
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let steps = report["explained"]["steps"].as_array().expect("steps").iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let steps: Vec<_> = steps
            .map(|one| format!("{}: {}", text(&one["step"]), text(&one["decision"])))
            .collect();
        assert_eq!(steps, expected, "{arguments:?}");
    }
}

const CLUSTER: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: default
  resourceVersion: "4711"
  creationTimestamp: "2020-01-01T00:00:00Z"
spec:
  clusterIP: None
  ports: [{name: http, port: 80}, {name: metrics, port: 9090}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: default
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
endpoints:
  - {addresses: [10.0.0.1], conditions: {ready: false}}
  - {addresses: [10.0.0.2], conditions: {ready: false}}
  - {addresses: [10.0.0.3], conditions: {ready: false}}
ports: [{name: http, port: 80}, {name: metrics, port: 9090}]
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: default}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old, namespace: default, resourceVersion: "4712"}
subsets:
  - {addresses: [{ip: 10.0.1.1}], ports: [{port: 80}]}
  - {notReadyAddresses: [{ip: 10.0.1.2}], ports: [{port: 81}]}
"#;

#[test]
fn objects_and_reasons() {
    let folder = TempDir::new().expect("a folder");
    let corefile = ".:5301 {\n kubernetes cluster.local {\n manifests cluster.yaml\n }\n}\n";
    fs::write(folder.path().join("Corefile"), corefile).expect("a written file");
    fs::write(folder.path().join("cluster.yaml"), CLUSTER).expect("a written file");
    for (name, expected) in [
        ("web.default.svc", "Service default/web exists; 3 endpoints, none ready"),
        ("web.default.svc", "Service default/web, resourceVersion 4711, "),
        ("web.default.svc", " days old"),
        ("_htp._tcp.web.default.svc", "the ports are http (tcp), metrics (tcp)"),
        ("web.other.svc", "Namespace other does not exist"),
        ("10-0-0-1.default.pod", "names of pods are disabled: `pods insecure`"),
        ("old.default.svc", "Endpoints default/old, resourceVersion 4712"),
        ("old.default.svc", "Service default/old: 2 endpoints, 1 ready"),
        ("10-0-1-2.old.default.svc", "the endpoint 10-0-1-2 of Service default/old is not ready"),
    ] {
        let text = shown(folder.path(), &[&format!("{name}.cluster.local")]);
        assert!(text.contains(expected), "{name}: {expected}: {text}");
    }
}

#[test]
fn a_running_server() {
    let folder = TempDir::new().expect("a folder");
    let (dns, http) = (port::free(), format!("127.0.0.1:{}", port::free()));
    let corefile = format!(
        ".:{dns} {{\n bind 127.0.0.1\n ready {http}\n hosts {{\n 10.0.0.1 a.example\n }}\n}}\n"
    );
    fs::write(folder.path().join("Corefile"), corefile).expect("a written file");
    let mut server = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-conf", "Corefile", "-quiet"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    let ask = |arguments: &[&str]| run(folder.path(), &[arguments, &["--server", &http]].concat());
    let began = Instant::now();
    let mut output = ask(&["a.example"]);
    while !output.status.success() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        output = ask(&["a.example"]);
    }
    let refused = [ask(&["a.example", "--port", "1"]), ask(&["a b"])];
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in ["hosts     has records", "a.example. 3600 IN A 10.0.0.1"] {
        assert!(text.contains(expected), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    for (refused, expected) in refused
        .iter()
        .zip(["no block of the Corefile listens on port 1", "'a b' cannot be asked of a server"])
    {
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && errors.contains(expected), "{errors}");
    }
}

/// An expired answer is refreshed, but not for an explanation that must ask no upstream.
#[test]
fn no_upstream_is_asked() {
    let folder = TempDir::new().expect("a folder");
    let [dns, upstream, http] = [(); 3].map(|()| port::free());
    let corefile = format!(
        ".:{dns} {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{http}\n ready 127.0.0.1:{http}\n \
         cache {{\n serve_stale 1h\n success 99 9 0\n }}\n forward . 127.0.0.1:{upstream}\n}}\n\
         .:{upstream} {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{http}\n \
         hosts {{\n 10.0.0.1 a.example\n ttl 1\n }}\n}}\n"
    );
    fs::write(folder.path().join("Corefile"), corefile).expect("a written file");
    let server = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-conf", "Corefile", "-quiet"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn();
    let _server = TestChild(server.expect("a process"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", dns)).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
    let began = Instant::now();
    while socket.send(&query::query("a.example", 1)).is_err() || socket.recv(&mut [0; 512]).is_err()
    {
        assert!(began.elapsed() < PATIENCE, "no response");
    }
    let count = |family: &str, port: u16| -> f64 {
        let scrape = get(http, "/metrics");
        let server = format!("server=\"dns://127.0.0.1:{port}\"");
        let lines = scrape.lines().filter(|line| line.starts_with(family));
        let lines = lines.filter(|line| line.contains(&server));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let upstream_count = || count("coredns_dns_requests_total", upstream);
    let asked = upstream_count();
    assert!(asked > 0.0);
    std::thread::sleep(Duration::from_millis(2200));
    let address = format!("127.0.0.1:{http}");
    let explained = shown(folder.path(), &["a.example", "--server", &address]);
    assert!(explained.contains("a.example. 0 IN A 10.0.0.1"), "{explained}");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(upstream_count(), asked);
    // The explanation is counted, with its duration.
    let [requests, durations] =
        ["coredns_dns_requests_total", "coredns_dns_request_duration_seconds_count"]
            .map(|family| count(family, dns));
    assert_eq!(requests, durations);
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    text
}

#[test]
fn what_cannot_be_explained() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("Corefile"), ".:53 {").expect("a written file");
    for (arguments, code, expected) in [
        (["a.example", "A", "--conf", "Corefile"], 1, "Corefile:1"),
        (["a..b", "A", "--conf", "Corefile"], 2, "empty label"),
        (["a.example", "A", "--server", "http://[::1]:8080"], 2, "expected HOST:PORT"),
        (["a.example", "NOTYPE", "--conf", "Corefile"], 2, "expected a type, such as AAAA"),
        (["a.example", "A", "--conf", "missing"], 1, "missing"),
    ] {
        let output = run(folder.path(), &arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}
