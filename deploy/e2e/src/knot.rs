//! Knot DNS, an authoritative server from the distribution, used as an upstream.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::base::iana::Rtype;
use tempfile::TempDir;

use crate::ask::over_udp;
use crate::deadline::poll;
use crate::port;
use crate::process::Process;
use crate::question::Question;

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running Knot with one zone. It stops when this value is dropped.
pub struct Knot {
    process: Process,
    program: PathBuf,
    address: SocketAddr,
    zone: String,
    dir: TempDir,
}

impl Knot {
    /// `zone`: with its final dot. `records`: lines of a zone file relative to it, including the
    /// SOA.
    pub fn start(program: &Path, zone: &str, records: &str) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, port::free()).into(), program, zone, records)
    }

    /// Like [`start`](Self::start), at the given free address.
    pub fn start_at(address: SocketAddr, program: &Path, zone: &str, records: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("ringdns-knot-").tempdir().expect("a folder");
        let path = dir.path().display();
        let configuration = format!(
            "server:
    listen: {}@{}
    rundir: {path}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {path}
log:
  - target: stdout
    any: warning
zone:
  - domain: {zone}
    storage: {path}
    file: zone
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
",
            address.ip(),
            address.port(),
        );
        std::fs::write(dir.path().join("knot.conf"), configuration).expect("a configuration");
        let records = format!("$ORIGIN {zone}\n{records}");
        std::fs::write(dir.path().join("zone"), records).expect("a zone file");
        let process = run(program, dir.path());
        let knot =
            Self { process, program: program.to_owned(), address, zone: zone.to_owned(), dir };
        knot.wait();
        knot
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the process by SIGSTOP: its sockets stay open, but it neither reads nor responds.
    pub fn suspend(&self) {
        self.process.suspend();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    /// Kills it, so that nothing listens at its address.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same zone.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = run(&self.program, self.dir.path());
        self.wait();
    }

    fn wait(&self) {
        let soa = Question::new(self.zone.clone(), Rtype::SOA);
        poll(START_LIMIT, &format!("Knot to serve its zone:\n{}", self.process.log_tail()), || {
            let answer = over_udp(self.address, &soa, Duration::from_millis(100)).ok()?;
            (answer.answer.len() == 1).then_some(())
        });
    }
}

fn run(program: &Path, dir: &Path) -> Process {
    let configuration = dir.join("knot.conf").display().to_string();
    Process::start("knotd", program, &["-c".to_owned(), configuration], dir)
}
