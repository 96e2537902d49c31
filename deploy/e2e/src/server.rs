//! A DNS server under test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::answer::Answer;
use crate::ask::{AskError, Transport, ask};
use crate::corefile::Corefile;
use crate::deadline::try_poll;
use crate::port;
use crate::process::Process;
use crate::question::Question;
use crate::tools::{self, Tools};

/// How long a server may take to read the cluster.
const ANSWERS_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Attempts with another port, if the first was taken meanwhile.
const START_COUNT_MAX: u32 = 3;

/// The program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ringdns,
    CoreDns,
}

impl Kind {
    /// The server under test: ringdns, or CoreDNS with `E2E_SUBJECT=coredns`, which validates the
    /// tests themselves.
    pub fn subject() -> Self {
        match std::env::var("E2E_SUBJECT").as_deref() {
            Err(_) | Ok("ringdns") => Self::Ringdns,
            Ok("coredns") => Self::CoreDns,
            Ok(other) => panic!("E2E_SUBJECT={other}: 'ringdns' or 'coredns'"),
        }
    }

    /// Panics if ringdns is not built.
    fn program(self, tools: Option<&Tools>) -> PathBuf {
        match self {
            Self::Ringdns => tools::ringdns(),
            Self::CoreDns => tools.expect("CoreDNS is one of the tools").coredns.clone(),
        }
    }
}

/// A running server. It stops when this value is dropped; its log is printed if the test failed.
pub struct Server {
    process: Process,
    address: SocketAddr,
    kind: Kind,
    _dir: TempDir,
}

impl Server {
    /// Starts it and waits until it has read the cluster, or responds at all if its Corefile has
    /// none.
    pub fn start(kind: Kind, corefile: &Corefile, tools: Option<&Tools>) -> Self {
        Self::start_with(kind, corefile, tools, &[])
    }

    /// Like [`start`](Self::start), with more flags.
    pub fn start_with(
        kind: Kind,
        corefile: &Corefile,
        tools: Option<&Tools>,
        flags: &[&str],
    ) -> Self {
        let probe = corefile.probe();
        let has_cluster = corefile.cluster_zone().is_some();
        for _ in 0..START_COUNT_MAX {
            let mut server = Self::launch_with(kind, corefile, tools, flags);
            let answered = try_poll(ANSWERS_LIMIT, || {
                let ended = server.process.exit_status().is_some();
                let answer = server.ask(&probe, Transport::Udp);
                let is_there = |answer: Answer| !has_cluster || answer.rcode != "SERVFAIL";
                (ended || answer.is_ok_and(is_there)).then_some(())
            });
            let log = server.process.log_tail();
            assert!(answered.is_some(), "{kind:?} has no cluster after {ANSWERS_LIMIT:?}:\n{log}");
            if server.process.exit_status().is_none() {
                return server;
            }
            let port_was_taken = log.to_ascii_lowercase().contains("address already in use");
            assert!(port_was_taken, "{kind:?} ended:\n{log}");
        }
        panic!("no free port");
    }

    /// Starts it without waiting for anything.
    pub fn launch(kind: Kind, corefile: &Corefile, tools: Option<&Tools>) -> Self {
        Self::launch_with(kind, corefile, tools, &[])
    }

    /// Like [`launch`](Self::launch), with more environment variables.
    pub fn launch_in(
        environment: &[(&str, &str)],
        kind: Kind,
        corefile: &Corefile,
        tools: Option<&Tools>,
    ) -> Self {
        Self::spawn(environment, kind, corefile, tools, &[])
    }

    /// Like [`launch`](Self::launch), with more flags.
    pub fn launch_with(
        kind: Kind,
        corefile: &Corefile,
        tools: Option<&Tools>,
        flags: &[&str],
    ) -> Self {
        Self::spawn(&[], kind, corefile, tools, flags)
    }

    fn spawn(
        environment: &[(&str, &str)],
        kind: Kind,
        corefile: &Corefile,
        tools: Option<&Tools>,
        flags: &[&str],
    ) -> Self {
        let program = kind.program(tools);
        let dir = tempfile::Builder::new().prefix("ringdns-e2e-").tempdir().expect("a folder");
        let port = port::free();
        let path = dir.path().join("Corefile");
        let corefile = corefile.clone().listening_on(port);
        std::fs::write(&path, corefile.text()).expect("a Corefile");
        let arguments = arguments(&path, flags);
        let process = Process::start_in(environment, name(kind), &program, &arguments, dir.path());
        Self { process, address: (Ipv4Addr::LOCALHOST, port).into(), kind, _dir: dir }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn ask(&self, question: &Question, transport: Transport) -> Result<Answer, AskError> {
        ask(self.address, question, transport)
    }

    /// Panics if there is no response, and prints the end of the server's log.
    pub fn answer(&self, question: &Question) -> Answer {
        self.ask(question, Transport::UdpThenTcp).unwrap_or_else(|error| {
            panic!("{question} at {}: {error}\n{}", name(self.kind), self.process.log_tail())
        })
    }

    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// Most resident memory since [`reset_peak`](Self::reset_peak).
    pub fn peak_kib(&self) -> u64 {
        self.process.peak_kib()
    }

    pub fn reset_peak(&self) {
        self.process.reset_peak();
    }

    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    pub fn has_exited(&mut self) -> bool {
        self.exit_status().is_some()
    }

    /// Its exit status, if it has exited.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Ends it by SIGTERM. Panics if it does not end.
    pub fn end(mut self) {
        self.process.terminate();
        let ended = try_poll(END_LIMIT, || self.process.exit_status());
        assert!(ended.is_some(), "it has not ended after {END_LIMIT:?}:\n{}", self.process.log());
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ringdns => "ringdns",
        Kind::CoreDns => "coredns",
    }
}

/// The same flags for both, except those that only ringdns has; the tests thus also prove that the
/// flags are the same.
fn arguments(corefile: &Path, flags: &[&str]) -> Vec<String> {
    let corefile = corefile.display().to_string();
    ["-conf", &corefile].iter().chain(flags).map(|word| (*word).to_owned()).collect()
}
