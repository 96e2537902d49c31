//! A base Corefile as NodeLocal DNSCache's DaemonSet mounts it: rendered at the start, and again
//! when it or kube-dns's ConfigMap changes. Each test has a network namespace and an /etc of its
//! own, so only root can run them.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/namespace.rs"]
mod namespace;
#[path = "rig/query.rs"]
mod query;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use child::TestChild;
use namespace::in_namespace;
use query::{ID, is_response, query};

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// In resolv.conf.
const NODES_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The Service `kube-dns-upstream`; answers over TCP only.
const CLUSTER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// In kube-dns's ConfigMap; they answer over UDP only.
const STUB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
const CUSTOM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// The shape of NodeLocal DNSCache's ConfigMap; its cluster's domain is written out already.
const BASE: &str = "\
cluster.local:53 {
    errors
    cache 30
    reload 2s
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    prometheus 169.254.20.10:9253
    health 169.254.20.10:8080
    ready 169.254.20.10:8181
}
.:53 {
    errors
    cache 30
    reload 2s
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__ {
        force_tcp
    }
    prometheus 169.254.20.10:9253
}
";

/// Replaces all keys of a mounted ConfigMap, as kubelet does: by one link.
fn mount(folder: &Path, keys: &[(&str, &str)]) {
    static VERSIONS: AtomicU32 = AtomicU32::new(0);
    let version = format!("..{}", VERSIONS.fetch_add(1, Ordering::Relaxed));
    fs::create_dir_all(folder.join(&version)).unwrap();
    for (key, text) in keys {
        fs::write(folder.join(&version).join(key), text).unwrap();
        let _ = symlink(format!("..data/{key}"), folder.join(key));
    }
    symlink(&version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// Answers every question with the server's own address.
fn answer(query: &[u8], server: Ipv4Addr) -> Vec<u8> {
    let name_len = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut response = query[..12 + name_len + 4].to_vec();
    response[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    response.extend(server.octets());
    response
}

fn serve_udp(server: Ipv4Addr) {
    let socket = UdpSocket::bind((server, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&answer(&query[..len], server), client);
        }
    });
}

fn serve_tcp(server: Ipv4Addr) {
    let listener = TcpListener::bind((server, 53)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_stream(stream, server));
        }
    });
}

fn serve_stream(mut stream: TcpStream, server: Ipv4Addr) {
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let response = answer(&query, server);
        let framed = [&(response.len() as u16).to_be_bytes(), response.as_slice()].concat();
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

/// The server that answers a name, if any does within a second.
fn server_of(name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.send_to(&query(name, 1), (LOCAL, 53)).ok()?;
    let mut response = [0; 512];
    let len = socket.recv(&mut response).ok()?;
    let response = response.get(..len).filter(|response| is_response(response, ID))?;
    let address: [u8; 4] = response.get(len.checked_sub(4)?..)?.try_into().ok()?;
    (response[7] == 1).then(|| address.into())
}

/// Waits until a server answers names of a zone; each name is new to the cache.
fn until_served_by(zone: &str, server: Ipv4Addr) {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    until(&format!("{zone} by {server}"), || {
        let name = format!("n{}.{zone}", NAMES.fetch_add(1, Ordering::Relaxed));
        server_of(&name) == Some(server)
    });
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The body of a page at the node's address.
fn page(port: u16, path: &str) -> String {
    let address = SocketAddr::from((LOCAL, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
        return String::new();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    let _ = stream.read_to_string(&mut page);
    page
}

/// The failures of node mode's Corefile so far.
fn configmap_errors() -> u64 {
    let metrics = page(9353, "/metrics");
    let name = "coredns_nodecache_setup_errors_total{errortype=\"configmap\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// Starts as the container of NodeLocal DNSCache's DaemonSet does, with `folder` as its /etc.
fn start(folder: &Path, flags: &[&str]) -> TestChild {
    let log = folder.join("log");
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-e", "-c", "mount --bind \"$0\" /etc\nexec \"$@\""])
        .arg(folder)
        .arg(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-localip", "169.254.20.10", "-conf", "/etc/Corefile"])
        .args(["-upstreamsvc", "kube-dns-upstream", "-pidfile", "/etc/node-cache.pid"])
        .args(["-metrics-listen-address", "169.254.20.10:9353"])
        .args(flags)
        .env("KUBE_DNS_UPSTREAM_SERVICE_HOST", CLUSTER.to_string())
        .stdout(File::create(&log).unwrap())
        .stderr(File::create(folder.join("errors")).unwrap())
        .spawn()
        .unwrap();
    TestChild(child)
}

/// A thread of its own writes the log.
fn until_logged(folder: &Path, text: &str) {
    until(text, || fs::read_to_string(folder.join("log")).unwrap().contains(text));
}

#[test]
fn the_daemon_set_of_node_local_dns_cache_serves_with_another_image() {
    in_namespace(|folder| {
        let base = folder.join("coredns");
        let kube_dns = folder.join("kube-dns");
        fs::write(folder.join("resolv.conf"), format!("nameserver {NODES_RESOLVER}\n")).unwrap();
        mount(&base, &[("Corefile.base", BASE)]);
        mount(&kube_dns, &[]);
        [NODES_RESOLVER, STUB, CUSTOM].into_iter().for_each(serve_udp);
        serve_tcp(NODES_RESOLVER);
        serve_tcp(CLUSTER);
        let _server = start(folder, &[]);
        until_served_by("web.default.svc.cluster.local", CLUSTER);
        until_served_by("example.org", NODES_RESOLVER);
        until_served_by("acme.example", NODES_RESOLVER);
        assert_eq!(configmap_errors(), 0);

        let stubs = format!("{{\"acme.example\": [\"{STUB}\"]}}");
        let upstreams = format!("[\"{CUSTOM}\"]");
        mount(&kube_dns, &[("stubDomains", &stubs), ("upstreamNameservers", &upstreams)]);
        until_served_by("acme.example", STUB);
        until_served_by("example.org", CUSTOM);
        until_served_by("web.default.svc.cluster.local", CLUSTER);
        until_logged(folder, "with 1 stub domain(s) and the upstreams 127.0.0.5");

        // What is invalid changes nothing.
        mount(&kube_dns, &[("stubDomains", "{\"acme.example\": "), ("upstreamNameservers", "[]")]);
        let note =
            "node mode: the last ConfigMap of kube-dns is still used: /etc/kube-dns: stubDomains";
        until("/ready says so", || page(8181, "/ready").contains(note));
        assert!(configmap_errors() > 0);
        until_logged(folder, "cannot use the ConfigMap of kube-dns");
        until_served_by("acme.example", STUB);
        until_served_by("example.org", CUSTOM);

        // It is found again once it is valid, here as it was in the beginning.
        mount(&kube_dns, &[]);
        until_served_by("acme.example", NODES_RESOLVER);
        assert!(!page(8181, "/ready").contains("kube-dns"));

        let errors = configmap_errors();
        mount(
            &base,
            &[("Corefile.base", &BASE.replace("cluster.local", "__PILLAR__DNS__DOMAIN__"))],
        );
        until("/ready says so", || {
            page(8181, "/ready").contains("the last Corefile is still served")
        });
        until_logged(folder, "nothing says what the cluster's domain is");
        assert!(configmap_errors() > errors);
        until_served_by("web.default.svc.cluster.local", CLUSTER);

        mount(
            &base,
            &[("Corefile.base", &BASE.replace("__PILLAR__UPSTREAM__SERVERS__", "127.0.0.3"))],
        );
        until_served_by("example.org", CLUSTER);
    });
}

#[test]
fn a_bad_config_map_does_not_keep_a_node_without_dns() {
    in_namespace(|folder| {
        fs::write(folder.join("resolv.conf"), format!("nameserver {NODES_RESOLVER}\n")).unwrap();
        // Nothing reloads it but the flag.
        let base = BASE.replace("    reload 2s\n", "");
        fs::write(folder.join("node-cache"), base).unwrap();
        let kube_dns = folder.join("mounted");
        mount(&kube_dns, &[("stubDomains", "[]")]);
        serve_udp(STUB);
        serve_tcp(NODES_RESOLVER);
        let flags = ["-basecorefile", "/etc/node-cache", "-kubednscm", "/etc/mounted"];
        let _server = start(folder, &[&flags[..], &["-reloadwithsignal"]].concat());
        until_served_by("example.org", NODES_RESOLVER);
        until_logged(folder, "cannot use the ConfigMap of kube-dns");
        mount(&kube_dns, &[("stubDomains", &format!("{{\"acme.example\": [\"{STUB}\"]}}"))]);
        until_served_by("acme.example", STUB);
    });
}

#[test]
fn what_is_missing_is_said_at_the_start() {
    in_namespace(|folder| {
        let failure = |flags: &[&str]| {
            let mut server = start(folder, flags);
            until("it ends", || server.try_wait().unwrap().is_some());
            fs::read_to_string(folder.join("errors")).unwrap()
        };
        let found = failure(&["-basecorefile", "/etc/none"]);
        assert!(found.contains("open /etc/none: No such file"), "{found}");
        assert!(found.contains("`-basecorefile FILE` names the base Corefile"), "{found}");

        fs::write(folder.join("base"), BASE).unwrap();
        let found = failure(&["-basecorefile", "/etc/base", "-upstreamsvc", "coredns"]);
        assert!(found.contains("__PILLAR__CLUSTER__DNS__ has no value"), "{found}");
        assert!(found.contains("the environment variable COREDNS_SERVICE_HOST"), "{found}");
    });
}
