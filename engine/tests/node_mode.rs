//! Node mode in a network namespace of its own, which only root may create: addresses and rules
//! come and go with the process, and one process hands over to the next.

#[path = "rig/child.rs"]
mod child;
#[path = "rig/namespace.rs"]
mod namespace;
#[path = "rig/query.rs"]
mod query;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use child::TestChild;
use namespace::{enter, in_namespace};
use netlink_bindings::nftables::{self, Nfgenmsg};
use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_socket2::NetlinkSocket;
use query::{ID, is_response, query};
use rustix::process::Signal;

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10)), 53);

/// Writes the Corefile, then runs in a new namespace.
fn in_node(run: impl FnOnce(&Path) + Send) {
    in_namespace(|folder| {
        let ip = ADDRESS.ip();
        let corefile = format!(
            ".:53 {{\n    bind {ip}\n    health {ip}:8080\n    ready {ip}:8181\n    whoami\n}}\n"
        );
        fs::write(folder.join("Corefile"), corefile).unwrap();
        run(folder);
    });
}

/// A server that inherits this thread's namespace, once its sockets are open.
fn serve(folder: &Path, name: &str) -> TestChild {
    let log = folder.join(name);
    let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
        .args(["-localip", "169.254.20.10", "-interfacename", "node0", "--take-over", "-conf"])
        .arg(folder.join("Corefile"))
        .stdout(File::create(&log).unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let process = TestChild(child);
    until("it listens", || fs::read_to_string(&log).unwrap().contains("listening on"));
    process
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a query is answered within a second.
fn is_answered() -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut response = [0; 512];
    let sent = socket.send_to(&query("example.org", 1), ADDRESS);
    sent.is_ok() && socket.recv(&mut response).is_ok_and(|len| is_response(&response[..len], ID))
}

/// Whether this namespace has the address.
fn has_address() -> bool {
    UdpSocket::bind((ADDRESS.ip(), 0)).is_ok()
}

/// The packets that each rule of our tables has kept out of tracking.
fn untracked_counts() -> Vec<u64> {
    let mut socket = NetlinkSocket::new();
    let header = Nfgenmsg { nfgen_family: libc::AF_INET as u8, ..Nfgenmsg::new() };
    let request = nftables::Request::new().op_getrule_dump(&header);
    let mut rules = socket.request(&request).unwrap();
    let mut counts = Vec::new();
    while let Some(rule) = rules.recv() {
        let (_, rule) = rule.unwrap();
        assert!(rule.get_table().unwrap().to_bytes().starts_with(b"ringdns-node0-"), "{rule:?}");
        for expression in rule.get_expressions().unwrap() {
            let nftables::ExprListAttrs::Elem(expression) = expression.unwrap();
            if let Ok(nftables::ExprOps::Counter(counter)) = expression.get_data() {
                counts.push(counter.get_packets().unwrap());
            }
        }
    }
    counts
}

#[test]
fn addresses_and_rules_last_as_long_as_they_are_needed() {
    in_node(|folder| {
        assert!(!has_address());
        let mut killed = serve(folder, "killed");
        assert!(is_answered() && has_address());
        // UDP and TCP, and TCP of health: in; out as queries; out as responses.
        let counts = untracked_counts();
        assert_eq!(counts.len(), 9);
        assert!(counts.iter().filter(|count| **count > 0).count() >= 3, "{counts:?}");
        // The kernel removes the rules of a killed process. Its address stays for the next one.
        killed.signal(Signal::KILL);
        until("it is killed", || killed.try_wait().unwrap().is_some());
        until("its rules are gone", || untracked_counts().is_empty());
        assert!(has_address());

        let mut stopped = serve(folder, "stopped");
        assert!(is_answered());
        assert_eq!(untracked_counts().len(), 9);
        stopped.signal(Signal::TERM);
        until("it has ended", || stopped.try_wait().unwrap().is_some());
        assert!(!has_address() && untracked_counts().is_empty());
    });
}

/// A machine may have the address already, in a network of its own.
#[test]
fn an_address_that_was_there_stays() {
    in_node(|folder| {
        let ip = ADDRESS.ip();
        let mut socket = NetlinkSocket::new();
        let header = Ifaddrmsg {
            ifa_family: libc::AF_INET as u8,
            ifa_prefixlen: 24,
            ifa_index: 1,
            ..Ifaddrmsg::new()
        };
        let mut request = rt_addr::Request::new().set_create().op_newaddr_do(&header);
        request.encode().push_local(ip).push_address(ip);
        socket.request(&request).unwrap().recv_ack().unwrap();
        let mut stopped = serve(folder, "stopped");
        assert!(is_answered());
        stopped.signal(Signal::TERM);
        until("it has ended", || stopped.try_wait().unwrap().is_some());
        assert!(has_address());
        let network: SocketAddr = "169.254.20.99:53".parse().unwrap();
        let of_network = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        of_network.connect(network).expect("a route to the network");
    });
}

#[test]
fn one_process_hands_over_to_the_next_without_a_lost_query() {
    in_node(|folder| {
        let mut old = serve(folder, "old");
        let is_over = AtomicBool::new(false);
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        let (asked, lost) = std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                enter(&namespace);
                let (mut asked, mut lost) = (0_u32, 0_u32);
                let began = Instant::now();
                while !is_over.load(Ordering::Relaxed) && began.elapsed() < 3 * PATIENCE {
                    asked += 1;
                    lost += u32::from(!is_answered());
                }
                (asked, lost)
            });
            let mut new = serve(folder, "new");
            old.signal(Signal::TERM);
            until("the old one has ended", || old.try_wait().unwrap().is_some());
            assert!(has_address());
            assert_eq!(untracked_counts().len(), 9);
            std::thread::sleep(Duration::from_millis(300));
            is_over.store(true, Ordering::Relaxed);
            let counts = client.join().unwrap();
            new.signal(Signal::TERM);
            until("the new one has ended", || new.try_wait().unwrap().is_some());
            counts
        });
        assert!(!has_address());
        println!("node mode: {asked} queries during the hand-over, {lost} lost");
        assert!(asked > 100 && lost == 0, "{lost} of {asked}");
    });
}
