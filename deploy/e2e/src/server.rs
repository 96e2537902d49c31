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

/// How long a server may take until it has the cluster.
const ANSWERS_LIMIT: Duration = Duration::from_secs(60);

/// Tries with another port where somebody was faster.
const START_COUNT_MAX: u32 = 3;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ringdns,
    CoreDns,
}

impl Kind {
    /// The server that the tests are about: ringdns, or CoreDNS where `E2E_SUBJECT=coredns`, which
    /// proves the tests.
    pub fn subject() -> Self {
        match std::env::var("E2E_SUBJECT").as_deref() {
            Err(_) | Ok("ringdns") => Self::Ringdns,
            Ok("coredns") => Self::CoreDns,
            Ok(other) => panic!("E2E_SUBJECT={other}: 'ringdns' or 'coredns'"),
        }
    }

    /// Panics where ringdns is not built.
    fn program(self, tools: Option<&Tools>) -> PathBuf {
        match self {
            Self::Ringdns => tools::ringdns(),
            Self::CoreDns => tools.expect("CoreDNS is one of the tools").coredns.clone(),
        }
    }
}

/// A running server; it ends with this value, and its log is printed where the test failed.
pub struct Server {
    process: Process,
    address: SocketAddr,
    kind: Kind,
    _dir: TempDir,
}

impl Server {
    /// Starts it and waits until it has the cluster, or answers at all if its Corefile has none.
    pub fn start(kind: Kind, corefile: &Corefile, tools: Option<&Tools>) -> Self {
        Self::start_with(kind, corefile, tools, &[])
    }

    /// As [`start`](Self::start), with more flags.
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
        panic!("no port that nobody takes");
    }

    /// Starts it and does not wait for anything.
    pub fn launch(kind: Kind, corefile: &Corefile, tools: Option<&Tools>) -> Self {
        Self::launch_with(kind, corefile, tools, &[])
    }

    /// As [`launch`](Self::launch), with more variables in its environment.
    pub fn launch_in(
        environment: &[(&str, &str)],
        kind: Kind,
        corefile: &Corefile,
        tools: Option<&Tools>,
    ) -> Self {
        Self::spawn(environment, kind, corefile, tools, &[])
    }

    fn launch_with(kind: Kind, corefile: &Corefile, tools: Option<&Tools>, flags: &[&str]) -> Self {
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

    /// Panics where there is no answer, with the end of the server's log.
    pub fn answer(&self, question: &Question) -> Answer {
        self.ask(question, Transport::UdpThenTcp).unwrap_or_else(|error| {
            panic!("{question} at {}: {error}\n{}", name(self.kind), self.process.log_tail())
        })
    }

    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    pub fn on_core(&self) -> Duration {
        self.process.on_core()
    }

    pub fn has_ended(&mut self) -> bool {
        self.exit_status().is_some()
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
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

/// The same flags for both, but for those that only ringdns has: that they are is part of what is
/// tested.
fn arguments(corefile: &Path, flags: &[&str]) -> Vec<String> {
    let corefile = corefile.display().to_string();
    ["-conf", &corefile].iter().chain(flags).map(|word| (*word).to_owned()).collect()
}
