//! Makes answers from the model: the entries of one key, in the order of the Kubernetes DNS
//! specification (1.1.0).
//!
//! Not here: SOA records, port names without underscores, and the records of pods. A look-up makes
//! those from the question. Invariant: pure. The same objects give the same bytes, in whatever
//! order they arrived.

mod apex;
mod backends;
mod external;
mod k8s_external;
mod label;
mod pen;
mod reverse;
mod service;

use std::net::IpAddr;

use wire::apex::ApexLabel;
use wire::compile::EntryWriter;
use wire::endpoint::AddressLabel;
use wire::name::Name;
use wire::pod::PodMode;

use crate::cluster::{AnswerKey, Cluster, ExternalZones};
use crate::options::ExternalOptions;
use label::Label;
use pen::{Buffers, Pen};

/// A change to a name. The bytes are an entry of `EntryWriter`.
#[derive(Clone, Copy, Debug)]
pub enum EntryChange<'e> {
    Put(&'e [u8]),
    /// The PTR record of an endpoint: see `TableBuilder::insert_pointer`.
    Point {
        address: IpAddr,
        service: &'e Name,
    },
    /// The name of a pod: see `TableBuilder::insert_pod`.
    Pod {
        pod: &'e Name,
        address: IpAddr,
    },
    /// Used for keys whose names follow from the key alone. A deleted Service reports nothing.
    Remove(&'e [u8]),
}

/// Invalid names. They are left out, and nothing else is affected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub count: u64,
    /// A description of the first one, for the operator.
    pub first: Option<String>,
}

/// The external zones of one `k8s_external` line, ready to write entries for.
#[derive(Debug)]
pub struct External {
    pub zones: ExternalZones,
    pub apex: ApexLabel,
    pub ttl_secs: u32,
    pub is_headless: bool,
}

impl External {
    #[must_use]
    pub fn new(options: &ExternalOptions) -> Self {
        let ExternalOptions { zones, apex, ttl_secs, is_headless } = options;
        let zones = ExternalZones::new(zones);
        Self { zones, apex: *apex, ttl_secs: *ttl_secs, is_headless: *is_headless }
    }
}

/// Writes entries. Keeps the buffers for reuse.
#[derive(Default)]
pub struct RecordWriter {
    writer: EntryWriter,
    buffers: Buffers,
}

impl RecordWriter {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `change` with each entry of this key, for the current cluster.
    pub fn write(
        &mut self,
        cluster: &Cluster,
        key: &AnswerKey,
        change: &mut dyn FnMut(EntryChange<'_>),
    ) -> Refused {
        let ttl_secs = cluster.options().ttl_secs;
        let mut pen = Pen::new(&mut self.writer, &mut self.buffers, ttl_secs, change);
        match key {
            AnswerKey::Apex => apex::write(&mut pen, cluster),
            AnswerKey::Namespace(namespace) => write_namespace(&mut pen, cluster, namespace),
            AnswerKey::Service(service) => service::write(&mut pen, cluster, *service),
            AnswerKey::Address(address) => reverse::write(&mut pen, cluster, *address),
            AnswerKey::ExternalAddress(_) => {}
            AnswerKey::Pod(namespace, address) => write_pod(&mut pen, cluster, namespace, *address),
        }
        pen.finish()
    }
}

impl RecordWriter {
    /// The same for external zones.
    pub fn write_external(
        &mut self,
        cluster: &Cluster,
        external: &External,
        key: &AnswerKey,
        change: &mut dyn FnMut(EntryChange<'_>),
    ) -> Refused {
        let mut pen = Pen::new(&mut self.writer, &mut self.buffers, external.ttl_secs, change);
        k8s_external::write(&mut pen, cluster, external, key);
        pen.finish()
    }
}

impl Refused {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(what());
        }
    }

    /// Adds later ones.
    pub fn add(&mut self, later: Self) {
        self.count += later.count;
        self.first = self.first.take().or(later.first);
    }
}

/// `NS.svc` and `NS.pod` have no data of their own, but nothing below them exists without them.
fn write_namespace(pen: &mut Pen<'_>, cluster: &Cluster, namespace: &str) {
    let Some(label) = Label::read(namespace) else {
        return pen.refuse(|| format!("Namespace {namespace}: its name is not a DNS label"));
    };
    let parents: &[&[u8]] = match cluster.options().pods {
        PodMode::Disabled => &[b"svc"],
        PodMode::Insecure | PodMode::Verified => &[b"svc", b"pod"],
    };
    for zone in cluster.zones().forward() {
        for parent in parents {
            let labels = [label.as_slice(), parent];
            let Some(owner) = pen.own_name(&labels, zone, cluster.zones()) else { continue };
            if cluster.has_namespace(namespace) {
                pen.put_empty(&owner);
            } else {
                pen.remove(&owner);
            }
        }
    }
}

/// `1-2-3-4.NS.pod`.
fn write_pod(pen: &mut Pen<'_>, cluster: &Cluster, namespace: &str, address: IpAddr) {
    // An invalid namespace has been noted already.
    let Some(parent) = Label::read(namespace) else { return };
    let label = AddressLabel::of_pod(address);
    for zone in cluster.zones().forward() {
        let labels = [label.as_slice(), parent.as_slice(), b"pod"];
        let Some(owner) = pen.own_name(&labels, zone, cluster.zones()) else { continue };
        if cluster.has_pod(namespace, address) {
            pen.put_pod(&owner, address);
        } else {
            pen.remove(&owner);
        }
    }
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    sort(&mut items);
    items
}

/// Sorts, and keeps one of equal items. Most lists are short and in order already.
fn sort<T: Ord>(items: &mut Vec<T>) {
    if !items.is_sorted_by(|one, next| one < next) {
        items.sort_unstable();
        items.dedup();
    }
}
