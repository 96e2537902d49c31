//! Kubernetes objects: reads a dump; creates, changes and deletes objects at an API server.

use std::path::Path;
use std::sync::Arc;

use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Concurrent requests while many objects are created; an API server accepts 200 by default.
const REQUEST_COUNT_MAX: usize = 32;

/// A client of one API server, for code that is not async.
#[derive(Clone)]
pub struct Objects {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) client: Client,
}

impl Objects {
    /// A client configured by `kubeconfig`; it connects with the first request.
    pub fn connect(kubeconfig: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async {
            let kubeconfig =
                Kubeconfig::read_from(kubeconfig).expect("the kubeconfig just written");
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
            Client::try_from(config.expect("a complete kubeconfig")).expect("a client")
        });
        Self { runtime: Arc::new(runtime), client }
    }

    /// Whether all parts of the API server are ready, the objects that it creates itself exist, and
    /// both ranges of cluster addresses are configured.
    pub fn ready(&self) -> bool {
        let readyz = Request::new("/readyz").list(&ListParams::default()).expect("a request");
        self.runtime.block_on(self.client.request_text(readyz)).is_ok()
            && self.find("Namespace", None, "default").is_some()
            && self.find("Service", Some("default"), "kubernetes").is_some()
            && self.has_address_ranges()
    }

    fn has_address_ranges(&self) -> bool {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "tried", "namespace": "default" },
            "spec": { "ipFamilyPolicy": "RequireDualStack", "ports": [{ "port": 1 }] },
        });
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        let typed: DynamicObject = serde_json::from_value(service.clone()).expect("an object");
        self.runtime.block_on(self.collection_of(&service).create(&parameters, &typed)).is_ok()
    }

    /// The object, if it exists.
    pub fn find(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<DynamicObject> {
        let api = self.collection(kind, namespace);
        self.runtime.block_on(api.get_opt(name)).ok().flatten()
    }

    /// Creates one object with its status; returns once the API server has responded.
    pub fn create(&self, object: &Value) {
        if let Err(error) = self.try_create(object) {
            panic!("creating {}: {error}", title(object));
        }
    }

    fn try_create(&self, object: &Value) -> Result<(), kube::Error> {
        let api = self.collection_of(object);
        let typed: DynamicObject =
            serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        self.runtime.block_on(api.create(&PostParams::default(), &typed))?;
        let status = object.get("status").filter(|status| **status != json!({}));
        if let (Some(status), "Pod" | "Service") = (status, text(object, "/kind")) {
            let patch = Patch::Merge(json!({ "status": status }));
            let name = text(object, "/metadata/name");
            self.runtime.block_on(api.patch_status(name, &PatchParams::default(), &patch))?;
        }
        Ok(())
    }

    /// Creates many objects concurrently, in no fixed order; panics if one fails.
    pub fn create_all(&self, objects: impl IntoIterator<Item = Value>) {
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for object in objects {
                if running.len() == REQUEST_COUNT_MAX {
                    running.join_next().await.expect("a request").expect("an object made");
                }
                let api = self.collection_of(&object);
                running.spawn(async move {
                    let typed: DynamicObject =
                        serde_json::from_value(object).expect("an object with a kind and a name");
                    let created = api.create(&PostParams::default(), &typed).await;
                    created.unwrap_or_else(|error| panic!("{:?}: {error}", typed.metadata.name));
                });
            }
            while let Some(created) = running.join_next().await {
                created.expect("an object made");
            }
        });
    }

    /// Applies merge patches to the status of many objects concurrently: namespace, name, patch.
    pub fn patch_status_of_all(
        &self,
        kind: &str,
        patches: impl IntoIterator<Item = (String, String, Value)>,
    ) {
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for (namespace, name, patch) in patches {
                if running.len() == REQUEST_COUNT_MAX {
                    running.join_next().await.expect("a request").expect("an object changed");
                }
                let api = self.collection(kind, Some(&namespace));
                running.spawn(async move {
                    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
                    let patched = api.patch_status(&name, &parameters, &patch).await;
                    patched.unwrap_or_else(|error| panic!("{name}: {error}"));
                });
            }
            while let Some(patched) = running.join_next().await {
                patched.expect("an object changed");
            }
        });
    }

    /// Applies the merge patch `patch` to one object.
    pub fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) {
        let api = self.collection(kind, Some(namespace));
        let patch = Patch::Merge(patch);
        let parameters = PatchParams::default();
        let patched = api.patch(name, &parameters, &patch);
        if let Err(error) = self.runtime.block_on(patched) {
            panic!("changing {kind} {namespace}/{name}: {error}");
        }
    }

    pub fn delete(&self, kind: &str, namespace: Option<&str>, name: &str) {
        // Pods get no grace period: no kubelet would report their end.
        let parameters = DeleteParams::default().grace_period(0);
        let api = self.collection(kind, namespace);
        if let Err(error) = self.runtime.block_on(api.delete(name, &parameters)) {
            panic!("deleting {kind} {namespace:?}/{name}: {error}");
        }
    }

    /// Removes the last finalizer of a deleted namespace, as the namespace controller does; the
    /// namespace is then gone.
    pub fn finalize_namespace(&self, name: &str) {
        let mut namespace = self.find("Namespace", None, name).expect("a namespace to finalize");
        namespace.data["spec"]["finalizers"] = json!([]);
        let api = self.collection("Namespace", None);
        let parameters = PostParams::default();
        let finalized = api.replace_subresource("finalize", name, &parameters, &namespace);
        if let Err(error) = self.runtime.block_on(finalized) {
            panic!("finalizing namespace {name}: {error}");
        }
    }

    /// Creates all objects of a dump as they were in its cluster. Objects that the API server
    /// creates itself may exist already. Namespaces come first; objects that were terminating are
    /// deleted at the end.
    pub fn apply(&self, dump: &[Value]) {
        let (namespaces, others): (Vec<&Value>, Vec<&Value>) =
            dump.iter().partition(|object| text(object, "/kind") == "Namespace");
        for object in namespaces.into_iter().chain(others) {
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
            let name = text(object, "/metadata/name");
            if let Err(error) = self.try_create(&as_new(object)) {
                // The API server says "already exists" for some, "address taken" for others.
                let is_there = self.find(text(object, "/kind"), namespace, name).is_some();
                assert!(is_there, "creating {}: {error}", title(object));
            }
        }
        for object in dump.iter().filter(|object| is_terminating(object)) {
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
            self.delete(text(object, "/kind"), namespace, text(object, "/metadata/name"));
        }
    }

    fn collection_of(&self, object: &Value) -> Api<DynamicObject> {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        self.collection(text(object, "/kind"), namespace)
    }

    fn collection(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, plural) = match kind {
            "Namespace" => ("", "namespaces"),
            "Service" => ("", "services"),
            "Pod" => ("", "pods"),
            "EndpointSlice" => ("discovery.k8s.io", "endpointslices"),
            other => panic!("a DNS server reads no objects of kind {other}"),
        };
        let kind = GroupVersionKind::gvk(group, "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// A Service in the namespace `default` with one address and one port.
#[must_use]
pub fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{ "name": "http", "port": 80 }],
        },
    })
}

/// The objects of a YAML or JSON file: a `List`, or one object.
pub fn read_dump(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let list: Value =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match list.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![list],
    }
}

/// The text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The object without the fields that only an API server may set. A terminating object gets a
/// finalizer, so that it remains after it is deleted again (a namespace has its own).
fn as_new(object: &Value) -> Value {
    let mut object = object.clone();
    let terminating = is_terminating(&object);
    let is_namespace = text(&object, "/kind") == "Namespace";
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for field in ["resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "generation"]
    {
        metadata.remove(field);
    }
    metadata.remove("deletionGracePeriodSeconds");
    if terminating && !is_namespace {
        metadata.insert("finalizers".to_owned(), json!(["e2e.invalid/stays"]));
    }
    if is_namespace {
        object.as_object_mut().expect("an object").remove("status");
    }
    object
}

fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

fn title(object: &Value) -> String {
    let [kind, namespace, name] = ["/kind", "/metadata/namespace", "/metadata/name"];
    format!("{} {}/{}", text(object, kind), text(object, namespace), text(object, name))
}
