//! Names that a cluster's tables answer without storing them: pod names, names of endpoints that
//! spell their address, their reverse names, and port names without underscores.
//!
//! All other names of a cluster are stored, and the parent module finds them. Invariant: a name
//! gets here only when it lies below a zone of the table and is not stored as it is spelled.

use crate::apex::Apex;
use crate::endpoint::{AddressName, EndpointList};
use crate::hash::NameHash;
use crate::header::TYPE_PTR;
use crate::name::{BLOCK_LEN, NAME_LEN_MAX, Name, block_count};
use crate::pod::{PodMode, dashed_address};
use crate::reverse::{self, Pointer};
use crate::segment::{Entry, name_in_segment, pointer_in_segment};

use super::{Found, Table, Wanted};

impl Table {
    /// Looks up a name that is not stored as it is spelled. `labels_left`: labels in front of the
    /// zone, at least one.
    pub(super) fn look_up_by_rule(
        &self,
        pods: PodMode,
        name: &Name,
        wanted: Wanted,
        labels_left: usize,
        apex: Apex,
    ) -> Found<'_> {
        let Wanted { qtype, .. } = wanted;
        let below_zone = name.bytes().get(..apex.name_offset).unwrap_or_default();
        let is_pod_name = labels_left >= 3
            && below_zone.ends_with(b"\x03pod")
            && name.label(labels_left - 1) == b"pod";
        if is_pod_name {
            return self.look_up_pod(pods, name, qtype, labels_left, apex);
        }
        let entry = match labels_left {
            4 => return self.look_up_endpoint(name, qtype, apex),
            5 => self.find_bare_port(name),
            _ => None,
        };
        match entry {
            Some(entry) => self.found_in(entry, wanted, apex),
            None => self.absent(apex),
        }
    }

    /// The same in an external zone: `PORT.PROTO.SVC.NS`, and wildcards.
    pub(super) fn look_up_external(
        &self,
        name: &Name,
        wanted: Wanted,
        labels_left: usize,
        apex: Apex,
    ) -> Found<'_> {
        let bare_port = (labels_left == 4).then(|| self.find_bare_port(name)).flatten();
        match bare_port.or_else(|| self.find_wildcard(name)) {
            Some(entry) => self.found_in(entry, wanted, apex),
            None => self.absent(apex),
        }
    }

    /// `1-2-3-4.NS.pod`: the address is read from its label. Labels left of it make no difference:
    /// a.1-2-3-4.NS.pod is 1-2-3-4.NS.pod.
    fn look_up_pod(
        &self,
        pods: PodMode,
        name: &Name,
        qtype: u16,
        labels_left: usize,
        apex: Apex,
    ) -> Found<'_> {
        let Some(address) = dashed_address(name.label(labels_left - 3)) else {
            return self.absent(apex);
        };
        let [pod, namespace] = [3, 2].map(|labels| name.suffix_blocks(labels_left - labels));
        let exists = match pods {
            PodMode::Disabled => false,
            PodMode::Insecure => self.find(namespace).is_some(),
            PodMode::Verified => {
                let [pod, namespace] = [pod, namespace].map(|name| self.seed.hash(name));
                let segment = self.segment(pod);
                segment.and_then(|segment| pointer_in_segment(segment, pod, address))
                    == Some(namespace)
            }
        };
        if !exists {
            return self.absent(apex);
        }
        let name_offset = name.label_at(labels_left - 3);
        // As CoreDNS: port 0.
        let name = AddressName { address, name_offset, weight: 100, ports: &[[0, 0]] };
        if name.has_type(qtype) { Found::Pod(name) } else { Found::NoData(apex) }
    }

    /// `1-2-3-4.SVC.NS.svc`: the entry of the Service lists the endpoint.
    fn look_up_endpoint(&self, name: &Name, qtype: u16, apex: Apex) -> Found<'_> {
        let service = (name.label(3) == b"svc").then(|| self.find(name.suffix_blocks(1))).flatten();
        let list = service.and_then(Entry::endpoint_list).and_then(EndpointList::read);
        match list.and_then(|list| list.find(name.label(0))) {
            Some(name) if name.has_type(qtype) => Found::Endpoint(name),
            Some(_) => Found::NoData(apex),
            None => self.absent(apex),
        }
    }

    /// A reverse name that is not stored. It exists only as the owner of PTR records.
    pub(super) fn look_up_reverse(&self, name: &Name, qtype: u16, apex: Apex) -> Found<'_> {
        match (qtype == TYPE_PTR).then(|| self.pointer(name)).flatten() {
            Some(pointer) => Found::Pointer(pointer),
            None => self.absent(apex),
        }
    }

    fn pointer(&self, name: &Name) -> Option<Pointer<'_>> {
        let NameHash(hash) = self.hash(name);
        let address = reverse::address(name)?;
        let service = pointer_in_segment(self.segment(hash)?, hash, address)?;
        let service = name_in_segment(self.segment(service)?, service);
        debug_assert!(service.is_some(), "a pointer's Service is stored");
        Some(Pointer { address, service: service? })
    }

    /// `PORT.PROTO` before the name of a Service: CoreDNS accepts port and protocol without their
    /// underscores too. The table stores the name that the Kubernetes DNS specification gives; this
    /// finds it under the other spellings.
    fn find_bare_port(&self, name: &Name) -> Option<Entry<'_>> {
        let (port, protocol) = (name.label(0), name.label(1));
        let bare_protocol = protocol.strip_prefix(b"_").unwrap_or(protocol);
        if !matches!(bare_protocol, b"tcp" | b"udp" | b"sctp") {
            return None;
        }
        let bare_port = port.strip_prefix(b"_").unwrap_or(port);
        if bare_port.is_empty()
            || (bare_port.len() != port.len() && bare_protocol.len() != protocol.len())
        {
            return None;
        }
        let mut canonical = [[0u8; BLOCK_LEN]; block_count(NAME_LEN_MAX + 2)];
        let bytes = canonical.as_flattened_mut();
        let mut len = 0;
        for part in [
            &[bare_port.len() as u8 + 1, b'_'],
            bare_port,
            &[bare_protocol.len() as u8 + 1, b'_'],
            bare_protocol,
            name.suffix(2),
        ] {
            bytes.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        self.find(canonical.get(..block_count(len))?)
    }
}
