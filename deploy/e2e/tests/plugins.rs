//! The scenarios of `engine/tests/plugins` against CoreDNS 1.15.0, so that what they expect of
//! ringdns is what CoreDNS does, or a difference that the file names with its reason.
//!
//! A file with a `cluster` gets an API server with these objects; others run without one.

#[path = "../../../engine/tests/scenario/mod.rs"]
mod scenario;

use std::path::Path;

use e2e::cluster::Cluster;
use e2e::objects::read_dump;
use e2e::process::Process;
use e2e::tools::Tools;
use scenario::Scenario;
use scenario::run::{Subject, run};

struct CoreDns {
    tools: Tools,
    cluster: Option<Cluster>,
}

impl Subject for CoreDns {
    type Server = Process;

    const IS_COREDNS: bool = true;

    fn cluster_option(&mut self, manifests: &Path) -> String {
        let cluster = self.cluster.insert(Cluster::start(&self.tools));
        cluster.objects().apply(&read_dump(manifests));
        format!("kubeconfig {}", cluster.kubeconfig().display())
    }

    fn start(&self, folder: &Path) -> Process {
        let arguments = ["-conf", "Corefile"].map(str::to_owned);
        Process::start("coredns", &self.tools.coredns, &arguments, folder)
    }

    fn has_exited(server: &mut Process) -> bool {
        server.exit_status().is_some()
    }

    fn log(server: &Process) -> String {
        server.log()
    }
}

#[test]
fn coredns_responds_as_written() {
    let Some(tools) = Tools::find("plugins") else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/tests/plugins");
    for scenario in Scenario::all(&folder) {
        run(&scenario, &mut CoreDns { tools: tools.clone(), cluster: None });
    }
}
