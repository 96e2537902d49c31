//! The scenarios of `plugins/`, one file per plugin: the real binary on loopback, with both ways of
//! moving datagrams. `deploy/e2e/tests/plugins.rs` runs the same files against CoreDNS.
//!
//! Not here: the packet path as a pure function. Tables come from control-plane threads, so such a
//! test would need a second loader of its own; `no_alloc.rs` and the benches cover that function.

mod scenario;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use scenario::Scenario;
use scenario::run::{Subject, run};

/// The value of `--io`.
struct Ringdns(&'static str);

struct Server {
    child: Child,
    log: PathBuf,
}

impl Subject for Ringdns {
    type Server = Server;

    const IS_COREDNS: bool = false;

    fn cluster_option(&mut self, manifests: &Path) -> String {
        format!("manifests {}", manifests.display())
    }

    fn start(&self, folder: &Path) -> Server {
        let log = folder.join("ringdns.log");
        let output = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .args(["-conf", "Corefile", "--io", self.0])
            .current_dir(folder)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Server { child, log }
    }

    fn has_exited(server: &mut Server) -> bool {
        server.child.try_wait().unwrap().is_some()
    }

    fn log(server: &Server) -> String {
        fs::read_to_string(&server.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of ringdns:\n{}", fs::read_to_string(&self.log).unwrap());
        }
    }
}

fn run_all(io: &'static str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins");
    for scenario in Scenario::all(&folder) {
        run(&scenario, &mut Ringdns(io));
    }
}

#[test]
fn plugins_respond_as_written_over_a_ring() {
    run_all("uring");
}

#[test]
fn plugins_respond_as_written_without_a_ring() {
    run_all("mmsg");
}
