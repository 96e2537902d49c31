//! The objects that `deploy/` renders: by kustomize, by helm, by `deploy.sh`. Nothing is applied.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::objects::text;
use crate::tools::Clients;

/// `deploy/` of this repository.
#[must_use]
pub fn deploy_folder() -> PathBuf {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR"));
    e2e.parent().expect("deploy/e2e is in deploy").to_owned()
}

/// The objects of a folder with a kustomization under `deploy/kubernetes`.
#[must_use]
pub fn kustomized(clients: &Clients, folder: &str) -> Vec<Value> {
    let folder = deploy_folder().join("kubernetes").join(folder).display().to_string();
    let yaml = output(Command::new(&clients.kubectl).args(["kustomize", &folder]));
    documents(&yaml.unwrap_or_else(|error| panic!("kustomize {folder}: {error}")))
}

/// The objects of the chart, as the release `coredns` in kube-system.
///
/// # Errors
/// helm's message, if it refuses the values.
pub fn charted(clients: &Clients, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let chart = deploy_folder().join("charts/ringdns").display().to_string();
    let mut helm = Command::new(&clients.helm);
    helm.args(["template", "coredns", &chart, "--namespace", "kube-system"]).args(arguments);
    output(&mut helm).map(|yaml| documents(&yaml))
}

/// Standard output of a command.
///
/// # Errors
/// Its exit code and standard error, if it failed.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let code = output.status.code().unwrap_or(-1);
    Err(format!("exit code {code}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The objects of a YAML stream.
#[must_use]
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)
        .unwrap_or_else(|error| panic!("not YAML: {error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The one object of this kind.
#[must_use]
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| text(object, "/kind") == kind);
    let (Some(object), None) = (found.next(), found.next()) else {
        panic!("not exactly one {kind}");
    };
    object
}
