//! Who judges what `deploy/` renders: a real API server, and kubeconform with its schemas.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admission::Outcome;
use crate::cluster::{Authorization, Cluster};
use crate::deadline::poll;
use crate::rendering::{documents, output};
use crate::schemas;
use crate::tools::{Clients, Tools};

/// How long the API server may take to serve ServiceMonitors.
const DEFINITION_LIMIT: Duration = Duration::from_secs(30);

/// An API server with RBAC that knows ServiceMonitors, and the schemas of its kinds.
pub struct Judge {
    pub cluster: Cluster,
    pub clients: Clients,
    pub tools: Tools,
    folder: tempfile::TempDir,
}

/// Objects with the name of what rendered them.
pub struct Rendering {
    pub what: String,
    pub objects: Vec<Value>,
}

impl Judge {
    /// `None`, with a loud line, if programs are missing.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        let (tools, clients) = (Tools::find(test)?, Clients::find(test)?);
        let cluster = Cluster::start_with(Authorization::Rbac, &tools);
        let definition = fs::read_to_string(&clients.service_monitors).expect("a definition");
        for object in documents(&definition) {
            let applied = cluster.objects().apply_strictly(&object, Outcome::Stored);
            applied.expect("the definition of ServiceMonitors");
        }
        poll(DEFINITION_LIMIT, "ServiceMonitors to be served", || {
            cluster.objects().openapi().contains("v1.ServiceMonitor\"").then_some(())
        });
        let folder = tempfile::tempdir().expect("a folder");
        cluster.objects().write_schemas(folder.path());
        Some(Self { cluster, clients, tools, folder })
    }

    /// The API server accepts each object, one at a time, so that a failure names it.
    pub fn accepts(&self, rendering: &Rendering, outcome: Outcome) {
        assert!(!rendering.objects.is_empty(), "{} renders nothing", rendering.what);
        for object in &rendering.objects {
            if let Err(error) = self.cluster.objects().apply_strictly(object, outcome) {
                panic!("{}: {error}", rendering.what);
            }
        }
    }

    pub fn remove(&self, rendering: &Rendering) {
        for object in &rendering.objects {
            self.cluster.objects().remove(object);
        }
    }

    /// kubeconform accepts all objects.
    ///
    /// # Errors
    /// What it says about those that it refuses.
    pub fn conform(&self, renderings: &[Rendering]) -> Result<(), String> {
        let rendered = tempfile::tempdir().expect("a folder");
        for (index, Rendering { objects, .. }) in renderings.iter().enumerate() {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
            let path = rendered.path().join(format!("{index}.json"));
            fs::write(path, list.to_string()).expect("a file");
        }
        let location = self.folder.path().join(schemas::FILE).display().to_string();
        let mut kubeconform = Command::new(&self.clients.kubeconform);
        let arguments = ["-strict", "-summary", "-output", "json", "-schema-location", &location];
        let summary = output(kubeconform.args(arguments).arg(rendered.path()))?;
        let summary: Value = serde_json::from_str(&summary).expect("a summary in JSON");
        let objects: usize = renderings.iter().map(|rendering| rendering.objects.len()).sum();
        let valid = summary["summary"]["valid"].as_u64();
        if valid == u64::try_from(objects).ok() {
            return Ok(());
        }
        Err(format!("{objects} objects, but {summary}"))
    }
}
