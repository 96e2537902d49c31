//! The binary on machines with particular interfaces. Network namespaces provide them, which only
//! root may create.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// The deadline of everything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts in its own namespace after these commands. Returns `None` and prints a note if
    /// namespaces are not allowed.
    fn start(set_up: &str, corefile: &str) -> Option<Self> {
        let probe = Command::new("unshare").args(["--net", "ip", "link"]).output();
        if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
            eprintln!(
                "!!! SKIPPED: no network namespace can be made here ({probe:?}): run this test as \
                 root, with `unshare` and `ip`"
            );
            return None;
        }
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("Corefile");
        fs::write(&path, corefile).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--net", "sh", "-e", "-c"])
            .arg(format!("ip link set lo up\n{set_up}\nexec \"$0\" --shards 1 -conf \"$1\""))
            .arg(env!("CARGO_BIN_EXE_ringdns"))
            .arg(path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { folder, child })
    }

    /// Runs in the server's namespace.
    fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.child.id()));
        let said = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let namespace =
            namespace.unwrap_or_else(|error| panic!("it has ended: {error}\n{}", said()));
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                run()
            });
            inside.join().unwrap()
        })
    }

    /// Waits until both transports respond at an address; `eth0` is the scope of an address that
    /// needs one.
    fn answers_at(&self, ip: &str) {
        let began = Instant::now();
        while !self.inside(|| is_refused_at(ip)) {
            let said = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "no answer at {ip}\n{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a query over UDP and one over TCP get REFUSED, which a block without plugins sends.
fn is_refused_at(ip: &str) -> bool {
    const QUERY: &[u8] = b"\0\x11\0\x07\x01\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01";
    let server = match ip.parse::<IpAddr>().unwrap() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let interfaces = if_addrs::get_if_addrs().unwrap();
            let index = interfaces.iter().find(|one| one.ip() == ip).and_then(|one| one.index);
            SocketAddr::V6(SocketAddrV6::new(ip, 53, 0, index.unwrap_or(0)))
        }
        ip => SocketAddr::new(ip, 53),
    };
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let patience = Some(Duration::from_millis(500));
    let mut answer = [0; 512];
    let udp = || -> std::io::Result<u8> {
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_read_timeout(patience)?;
        socket.send(&QUERY[2..])?;
        socket.recv(&mut answer)?;
        Ok(answer[3] & 15)
    };
    let udp = { udp }();
    let tcp = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_millis(500))?;
        stream.set_read_timeout(patience)?;
        stream.write_all(QUERY)?;
        stream.read_exact(&mut answer[..6])?;
        Ok(answer[5] & 15)
    };
    const REFUSED: u8 = 5;
    matches!((udp, { tcp }()), (Ok(REFUSED), Ok(REFUSED)))
}

/// With its scope: a link-local address is invalid without an interface.
#[test]
fn an_interface_means_all_of_its_addresses_link_local_included() {
    let set_up = "\
        ip link add eth0 type veth peer name eth1\n\
        ip link set eth0 up\n\
        ip link set eth1 up\n\
        ip address add 192.0.2.9/24 dev eth0\n\
        ip address add 169.254.20.10/32 dev eth0\n\
        ip address add fe80::9/64 dev eth0 nodad";
    let Some(server) = Server::start(set_up, ".:53 {\n    bind eth0\n}\n") else { return };
    server.answers_at("192.0.2.9");
    server.answers_at("169.254.20.10");
    server.answers_at("fe80::9");
    assert!(!server.inside(|| is_refused_at("127.0.0.1")), "not an address of eth0");
}

#[test]
fn a_machine_without_ipv6_addresses_is_served_on_ipv4() {
    let set_up = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6\n\
        echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6";
    for bind in ["", "bind 0.0.0.0", "bind ::", "bind 0.0.0.0 127.0.0.1"] {
        let corefile = format!(".:53 {{\n    {bind}\n    health 0.0.0.0:8080\n}}\n");
        let Some(server) = Server::start(set_up, &corefile) else { return };
        server.answers_at("127.0.0.1");
        assert!(server.inside(|| TcpStream::connect("127.0.0.1:8080").is_ok()), "{bind}");
    }
}
