//! Runs a scenario against a server on loopback.
//!
//! A step that waits repeats its query; none sleeps. The first query to a server that has just been
//! started always waits. A failure names the file and the line, and shows both responses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::client::{Reply, poll};
use super::port;
use super::upstream::ScriptedUpstream;
use super::{Action, Ask, Scenario, Step};

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a change may take to become visible.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// The program under test.
pub trait Subject {
    /// A running server; it stops when it is dropped, and prints its log if the test has failed.
    type Server;

    /// Whether CoreDNS's responses are expected where they differ.
    const IS_COREDNS: bool;

    /// The option of `kubernetes` for the cluster that these manifests define.
    fn cluster_option(&mut self, manifests: &Path) -> String;

    /// Starts the server in this folder, which contains the Corefile.
    fn start(&self, folder: &Path) -> Self::Server;

    fn has_exited(server: &mut Self::Server) -> bool;

    /// What it has logged.
    fn log(server: &Self::Server) -> String;
}

/// Panics at the end of the steps of a Corefile if one of them has failed. Does nothing if CoreDNS
/// lacks the plugin and is the subject.
pub fn run<S: Subject>(scenario: &Scenario, subject: &mut S) {
    let Scenario { path, cluster, is_for_coredns, steps } = scenario;
    if S::IS_COREDNS && !is_for_coredns {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let upstream = ScriptedUpstream::start();
    let cluster_option = cluster.as_ref().map(|manifests| {
        let path = folder.path().join("cluster.yaml");
        fs::write(&path, manifests).expect("a file");
        subject.cluster_option(&path)
    });
    let mut server: Option<S::Server> = None;
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut is_starting = false;
    // Bytes of the log up to the lines of the last `log` section.
    let mut logged_len = 0;
    let mut failures: Vec<String> = Vec::new();
    for Step { line, action } in steps {
        match action {
            Action::Start(corefile) => {
                assert!(failures.is_empty(), "\n{}", failures.join("\n"));
                drop(server.take());
                address.set_port(port::free());
                let corefile = corefile
                    .replace("{port}", &address.port().to_string())
                    .replace("{upstream}", &upstream.address.to_string())
                    .replace("{cluster}", cluster_option.as_deref().unwrap_or("{cluster}"));
                fs::write(folder.path().join("Corefile"), corefile).expect("a file");
                server = Some(subject.start(folder.path()));
                is_starting = true;
                logged_len = 0;
            }
            Action::Write { file, text } => replace(folder.path(), file, text),
            Action::Remove(file) => {
                fs::remove_file(folder.path().join(file)).expect("a file to remove");
            }
            Action::Script(question, response) => upstream.set(question, response),
            Action::Log(lines) => {
                let running = server.as_ref().expect("a corefile comes before the first line");
                let log = || S::log(running).split_off(logged_len);
                match poll(CHANGE_LIMIT, || lines.find(&log())) {
                    Ok(len) => logged_len += len,
                    Err(failure) => failures.push(format!("{}:{line}: {failure}", path.display())),
                }
            }
            Action::Ask(ask) => {
                let limit = match (is_starting, ask.waits) {
                    (true, _) => START_LIMIT,
                    (false, true) => CHANGE_LIMIT,
                    (false, false) => Duration::ZERO,
                };
                is_starting = false;
                let running = server.as_mut().expect("a corefile comes before the first query");
                let checked = poll(limit, || {
                    let checked = check(ask, S::IS_COREDNS, address);
                    assert!(
                        !S::has_exited(running),
                        "{}:{line}: the server exited",
                        path.display()
                    );
                    checked
                });
                if let Err(failure) = checked {
                    failures.push(format!("{}:{line}: {failure}", path.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Writes a file by renaming it into place, so that no server reads half of it.
fn replace(folder: &Path, file: &str, text: &str) {
    let new = folder.join("new");
    fs::write(&new, text).expect("a file");
    fs::rename(&new, folder.join(file)).expect("a file in the same folder");
}

/// Sends the query once. The error shows the expected response and the actual one.
fn check(ask: &Ask, is_coredns: bool, server: SocketAddr) -> Result<(), String> {
    let expected = match &ask.of_coredns {
        Some(of_coredns) if is_coredns => of_coredns,
        Some(_) | None => &ask.expected,
    };
    let got = match ask.query.send(server, expected.is_nothing) {
        Ok(Reply::Nothing) => return Ok(()),
        Ok(Reply::Response(response, len)) if expected.is(&response, len) => return Ok(()),
        Ok(Reply::Response(response, len)) => format!("{response}\n    ({len} bytes)"),
        Err(failure) => failure,
    };
    Err(format!("{} {}\nexpected: {expected}\ngot: {got}", ask.query.name, ask.query.rtype))
}
