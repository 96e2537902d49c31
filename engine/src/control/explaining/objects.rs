//! The objects behind the records of a cluster's names, fetched from where the table has them from.
//!
//! Invariant: an object that cannot be fetched costs its line of the explanation, nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use engine::answer::decision::{Decision, TableOutcome};
use engine::plan::{Plan, TableSlot};
use engine::plugin::draft::TableSource;
use engine::plugin::kubernetes::{Kubernetes, Pods};
use engine::question::OwnedQuestion;
use k8s_sync::origin::{AskedName, ClusterObjects, Needs};
use wire::pod::PodMode;

use super::shown::Explanation;
use crate::control::endpoints::zone_text;
use crate::control::sync;

/// The objects of clusters, by the slots of their tables. Nothing is read twice.
#[derive(Default)]
pub(super) struct KnownObjects {
    clusters: BTreeMap<(TableSlot, Needs), Result<Arc<ClusterObjects>, String>>,
}

impl KnownObjects {
    /// The namespace of the pod with this address.
    pub(super) async fn namespace_at(&mut self, plan: &Plan, address: IpAddr) -> Option<String> {
        for slot in (0..plan.tables.len()).map(TableSlot) {
            let Some(kubernetes) = cluster(plan, slot) else { continue };
            if let Ok(objects) = self.read(slot, &kubernetes, Needs::Pod(address)).await
                && let Some(namespace) = objects.namespace_at(address)
            {
                return Some(namespace);
            }
        }
        None
    }

    /// Adds the objects of the table that decided.
    pub(super) async fn add_to(
        &mut self,
        explanation: &mut Explanation,
        plan: &Plan,
        question: &OwnedQuestion,
        decisions: &[Decision],
    ) {
        let mut name = &question.name;
        let mut qtype = question.qtype;
        let mut decided = None;
        for decision in decisions {
            match decision {
                Decision::Gate { question, .. } => (name, qtype) = (&question.name, question.qtype),
                Decision::Table { slot, outcome, .. } if *outcome != TableOutcome::Outside => {
                    decided = Some((*slot, *outcome));
                }
                Decision::Table { .. }
                | Decision::View { .. }
                | Decision::Block { .. }
                | Decision::UnservedType { .. }
                | Decision::Cnames { .. }
                | Decision::NoAaaa
                | Decision::NoUpstreams
                | Decision::Cache(_)
                | Decision::Upstreams { .. } => {}
            }
        }
        let Some((slot, outcome)) = decided else { return };
        let Some(kubernetes) = cluster(plan, slot) else { return };
        let name = zone_text(name);
        let is_below = |zone: &&str| {
            let is_around = |rest: &str| *zone == "." || rest.ends_with('.');
            name == **zone || name.strip_suffix(*zone).is_some_and(is_around)
        };
        let zones = kubernetes.zones.iter().map(|zone| zone.text.as_str());
        let Some(zone) = zones.filter(is_below).max_by_key(|zone| zone.len()) else {
            return;
        };
        let pods = match kubernetes.pods {
            Pods::Disabled => PodMode::Disabled,
            Pods::Insecure => PodMode::Insecure,
            Pods::Verified => PodMode::Verified,
        };
        let endpoint_pod_names = kubernetes.endpoint_pod_names;
        let asked = AskedName { name: &name, zone, qtype, pods, endpoint_pod_names };
        let objects = match self.read(slot, &kubernetes, asked.needs()).await {
            Ok(objects) => objects,
            Err(error) => {
                explanation.reason = Some(format!("the objects cannot be shown: {error}"));
                return;
            }
        };
        let origin = objects.origin(asked);
        explanation.reason = match (origin.reason, outcome) {
            (None, TableOutcome::NxDomain) if !origin.objects.is_empty() => Some(
                "its objects exist: do `namespaces`, `labels` or `ignore` leave them out?".into(),
            ),
            (reason, _) => reason,
        };
        explanation.set_objects(origin.objects);
    }

    async fn read(
        &mut self,
        slot: TableSlot,
        kubernetes: &Kubernetes,
        needs: Needs,
    ) -> Result<Arc<ClusterObjects>, String> {
        let key = (slot, needs);
        if let Some(known) = self.clusters.get(&key) {
            return known.clone();
        }
        let read = sync::objects(kubernetes, &key.1).await;
        let read = read.map(Arc::new).map_err(|error| format!("{error:#}"));
        self.clusters.insert(key, read.clone());
        read
    }
}

/// The `kubernetes` line that a table comes from.
fn cluster(plan: &Plan, slot: TableSlot) -> Option<Kubernetes> {
    match &*plan.tables.get(slot.0)?.as_ref()?.source {
        TableSource::Kubernetes(cluster) => Some(cluster.kubernetes.clone()),
        TableSource::KubernetesExternal(_)
        | TableSource::Hosts(_)
        | TableSource::Zones(_)
        | TableSource::ZoneFolder(_) => None,
    }
}
