//! A real API server and kubeconform accept everything in `deploy/kubernetes` and what the chart
//! renders.

use std::fs;
use std::process::Command;
use std::sync::Mutex;

use e2e::admission::Outcome;
use e2e::cluster::{Access, Cluster};
use e2e::rendering::{kustomized, output};
use e2e::schemas;
use e2e::tools::{Clients, Tools};
use serde_json::Value;

/// The folders with a kustomization.
const KUSTOMIZATIONS: [&str; 6] = ["base", "ha", "node", "beside", "shared", "shared-node"];

/// One cluster at a time: two would only slow each other down.
static ALONE: Mutex<()> = Mutex::new(());

/// An API server with schemas of its kinds.
struct Judge {
    cluster: Cluster,
    clients: Clients,
    folder: tempfile::TempDir,
}

impl Judge {
    /// `None`, with a loud line, if programs are missing.
    fn start(test: &str) -> Option<Self> {
        let (tools, clients) = (Tools::find(test)?, Clients::find(test)?);
        let cluster = Cluster::start_with(Access::Rbac, &tools);
        let folder = tempfile::tempdir().expect("a folder");
        cluster.objects().write_schemas(folder.path());
        Some(Self { cluster, clients, folder })
    }

    /// Each object on its own, so that the message names it.
    fn accepts(&self, what: &str, objects: &[Value], outcome: Outcome) {
        assert!(!objects.is_empty(), "{what} renders nothing");
        for object in objects {
            if let Err(error) = self.cluster.objects().apply_strictly(object, outcome) {
                panic!("{what}: {error}");
            }
        }
    }

    /// kubeconform, with the API server's schemas.
    fn conforms(&self, renderings: &[(String, Vec<Value>)]) {
        let files = self.folder.path().join("rendered");
        fs::create_dir_all(&files).expect("a folder");
        for (index, (_, objects)) in renderings.iter().enumerate() {
            let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
            fs::write(files.join(format!("{index}.json")), list.to_string()).expect("a file");
        }
        let location = self.folder.path().join(schemas::FILE).display().to_string();
        let arguments = ["-strict", "-summary", "-schema-location", &location];
        let mut kubeconform = Command::new(&self.clients.kubeconform);
        if let Err(error) = output(kubeconform.args(arguments).arg(&files)) {
            panic!("kubeconform: {error}");
        }
    }
}

#[test]
fn every_kustomization_is_accepted() {
    let _alone = ALONE.lock();
    let Some(judge) = Judge::start("deploy_manifests::every_kustomization_is_accepted") else {
        return;
    };
    let renderings: Vec<(String, Vec<Value>)> = KUSTOMIZATIONS
        .iter()
        .map(|folder| ((*folder).to_owned(), kustomized(&judge.clients, folder)))
        .collect();
    for (folder, objects) in &renderings {
        judge.accepts(folder, objects, Outcome::Stored);
        for object in objects {
            judge.cluster.objects().remove(object);
        }
    }
    judge.conforms(&renderings);
}
