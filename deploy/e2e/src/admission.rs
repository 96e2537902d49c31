//! Whether a real API server accepts objects: each is applied with every field checked, and is
//! stored or only tried.

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
    ValidationDirective,
};
use serde_json::Value;

use crate::objects::{Objects, text};

/// The namespace of objects that name none, as `helm install -n kube-system` gives it.
const NAMESPACE: &str = "kube-system";

/// The kinds of `deploy/`: API group, version, plural; whether they are in a namespace.
const KINDS: [(&str, &str, &str, &str, bool); 12] = [
    ("ServiceAccount", "", "v1", "serviceaccounts", true),
    ("ConfigMap", "", "v1", "configmaps", true),
    ("Service", "", "v1", "services", true),
    ("ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles", false),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io", "v1", "clusterrolebindings", false),
    ("Deployment", "apps", "v1", "deployments", true),
    ("DaemonSet", "apps", "v1", "daemonsets", true),
    ("ReplicaSet", "apps", "v1", "replicasets", true),
    ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", true),
    ("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", true),
    ("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors", true),
    ("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", false),
];

/// What remains of an accepted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// The API server goes through everything but the storage.
    Tried,
}

impl Objects {
    /// Server-side apply with unknown and repeated fields refused, as `kubectl apply --server-side
    /// --validate=strict` does it.
    ///
    /// # Errors
    /// The API server's message.
    pub fn apply_strictly(&self, object: &Value, outcome: Outcome) -> Result<(), String> {
        let name = text(object, "/metadata/name");
        let parameters = PatchParams {
            dry_run: outcome == Outcome::Tried,
            force: true,
            field_manager: Some("e2e".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let api = self.of_any_kind(object)?;
        let typed: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        let applied = self.runtime.block_on(api.patch(name, &parameters, &Patch::Apply(&typed)));
        applied.map(|_| ()).map_err(|error| format!("{}/{name}: {error}", text(object, "/kind")))
    }

    /// Deletes what [`apply_strictly`](Self::apply_strictly) has stored.
    pub fn remove(&self, object: &Value) {
        let api = self.of_any_kind(object).expect("a known kind");
        let name = text(object, "/metadata/name");
        let removed = self.runtime.block_on(api.delete(name, &DeleteParams::background()));
        removed.unwrap_or_else(|error| panic!("deleting {name}: {error}"));
    }

    /// The object as the API server has it.
    pub fn stored(&self, object: &Value) -> Option<Value> {
        let api = self.of_any_kind(object).expect("a known kind");
        let found = self.runtime.block_on(api.get_opt(text(object, "/metadata/name")));
        found.expect("a response").map(|found| serde_json::to_value(found).expect("JSON"))
    }

    fn of_any_kind(&self, object: &Value) -> Result<Api<DynamicObject>, String> {
        let kind = text(object, "/kind");
        let row = KINDS.iter().find(|row| row.0 == kind);
        let (_, group, version, plural, is_namespaced) =
            row.ok_or_else(|| format!("no row for kind {kind}"))?;
        let stated = text(object, "/apiVersion");
        let expected =
            if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
        if stated != expected {
            return Err(format!("{kind} of {stated}, not {expected}"));
        }
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        if !is_namespaced {
            return Ok(Api::all_with(self.client.clone(), &resource));
        }
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let namespace = namespace.unwrap_or(NAMESPACE);
        Ok(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }
}
