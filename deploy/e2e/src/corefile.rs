//! The Corefile of a server under test: a test's text, with the port and the source of the cluster
//! filled in.

use std::net::SocketAddr;
use std::path::Path;

use domain::base::iana::Rtype;

use crate::question::Question;

/// The Corefile of a Kubernetes distribution, without the lines that do not concern the cluster.
pub const STOCK: &str = ".:5353 {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests -
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    loadbalance
}
";

/// A Corefile whose first block is for `.` and serves port 5353; it may have more blocks. The
/// cluster's zones, if any, are on a `kubernetes` line.
#[derive(Clone, Debug)]
pub struct Corefile {
    text: String,
}

impl Corefile {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Reads one of `conformance/Corefile.*`.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path);
        Self::new(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zones of the `kubernetes` line as written; empty if there is no such line.
    pub fn zones(&self) -> Vec<String> {
        let line = self.text.lines().find_map(|line| line.trim().strip_prefix("kubernetes "));
        let words = line.unwrap_or_default().split_whitespace();
        words.take_while(|word| *word != "{").map(str::to_owned).collect()
    }

    /// The first zone that is not a reverse zone, with its final dot.
    pub fn cluster_zone(&self) -> Option<String> {
        let mut zones = self.zones().into_iter();
        let zone = zones.find(|zone| !zone.contains('/') && !zone.ends_with("arpa"))?;
        Some(format!("{zone}."))
    }

    /// A question that a ready server can answer: if there is a cluster, only after reading it.
    pub fn probe(&self) -> Question {
        let name = self.cluster_zone().map(|zone| format!("kubernetes.default.svc.{zone}"));
        Question::new(name.unwrap_or_else(|| ".".to_owned()), Rtype::A)
    }

    /// Replaces 5353 by `port`, as the listening port and as the port that it forwards to itself.
    pub fn listening_on(self, port: u16) -> Self {
        Self::new(self.text.replace(":5353", &format!(":{port}")))
    }

    /// Reads the cluster from an API server.
    pub fn with_kubeconfig(self, path: &Path) -> Self {
        self.replace_line("manifests", &format!("        kubeconfig {}", path.display()))
    }

    /// Reads the cluster from a server at `port` of 127.0.0.1, with the three files of `tls`.
    pub fn with_endpoint(
        self,
        port: u16,
        certificate: &Path,
        key: &Path,
        authority: &Path,
    ) -> Self {
        let tls = [certificate, key, authority].map(|path| path.display().to_string()).join(" ");
        let lines = format!("        endpoint https://127.0.0.1:{port}\n        tls {tls}");
        self.replace_line("manifests", &lines)
    }

    /// Reads the cluster from files.
    pub fn with_manifests(self, path: &Path) -> Self {
        self.replace_line("manifests", &format!("        manifests {}", path.display()))
    }

    pub fn without_forward(self) -> Self {
        let lines = self.text.lines().filter(|line| !line.trim().starts_with("forward "));
        Self::new(lines.map(|line| format!("{line}\n")).collect::<String>())
    }

    pub fn forwarding_to(self, upstream: SocketAddr) -> Self {
        self.replace_line("forward", &format!("    forward . {upstream}"))
    }

    /// Adds a line to the block, such as `ready 127.0.0.1:1234`.
    pub fn with_line(self, line: &str) -> Self {
        let (head, body) = self.text.split_once('\n').expect("a block");
        Self::new(format!("{head}\n    {line}\n{body}"))
    }

    fn replace_line(self, word: &str, with: &str) -> Self {
        assert!(
            self.text.lines().any(|line| line.split_whitespace().next() == Some(word)),
            "no line '{word}' in {}",
            self.text
        );
        let lines = self
            .text
            .lines()
            .map(|line| if line.split_whitespace().next() == Some(word) { with } else { line });
        Self::new(lines.map(|line| format!("{line}\n")).collect::<String>())
    }
}
