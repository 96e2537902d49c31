//! Unbound, a resolver of the distribution, used as an upstream. It queries one authoritative
//! server, and serves UDP, TCP and TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::base::iana::Rtype;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use crate::ask::over_udp;
use crate::deadline::poll;
use crate::port;
use crate::process::Process;
use crate::question::Question;

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running Unbound. It stops when this value is dropped.
pub struct Unbound {
    process: Process,
    address: SocketAddr,
    tls_address: SocketAddr,
    dir: TempDir,
}

impl Unbound {
    /// `server_name`: the name in its certificate. `zone`, with its final dot, is queried at
    /// `authority`.
    pub fn start(program: &Path, server_name: &str, zone: &str, authority: SocketAddr) -> Self {
        let dir = tempfile::Builder::new().prefix("ringdns-unbound-").tempdir().expect("a folder");
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([server_name.to_owned()]).expect("a certificate");
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("a file");
        };
        file("certificate.pem", &cert.pem());
        file("key.pem", &signing_key.serialize_pem());
        let [address, tls_address] =
            [port::free(), port::free()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let path = dir.path().display();
        let configuration = format!(
            "server:
    interface: 127.0.0.1@{port}
    interface: 127.0.0.1@{tls_port}
    tls-port: {tls_port}
    tls-service-key: {path}/key.pem
    tls-service-pem: {path}/certificate.pem
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    do-not-query-localhost: no
    module-config: iterator
    num-threads: 1
    username: \"\"
    chroot: \"\"
    directory: {path}
    pidfile: \"\"
    use-syslog: no
    logfile: \"\"
remote-control:
    control-enable: no
stub-zone:
    name: {zone}
    stub-addr: {}@{}
",
            authority.ip(),
            authority.port(),
            port = address.port(),
            tls_port = tls_address.port(),
        );
        file("unbound.conf", &configuration);
        let configuration = dir.path().join("unbound.conf").display().to_string();
        let arguments = ["-d".to_owned(), "-c".to_owned(), configuration];
        let process = Process::start("unbound", program, &arguments, dir.path());
        let unbound = Self { process, address, tls_address, dir };
        let soa = Question::new(zone, Rtype::SOA);
        poll(START_LIMIT, &format!("Unbound to resolve:\n{}", unbound.process.log_tail()), || {
            let answer = over_udp(address, &soa, Duration::from_millis(500)).ok()?;
            (answer.answer.len() == 1).then_some(())
        });
        unbound
    }

    /// The address for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn tls_address(&self) -> SocketAddr {
        self.tls_address
    }

    /// The CA file for its self-signed certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    pub fn suspend(&self) {
        self.process.suspend();
    }

    pub fn resume(&self) {
        self.process.resume();
    }
}
