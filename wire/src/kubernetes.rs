//! Names that a cluster's table answers without storing them: pod names, and port names without
//! underscores.
//!
//! All other names of a cluster are stored, and `table` finds them. Invariant: a name gets here
//! only when it lies below a zone of the table and is not stored as it is spelled.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::apex::Apex;
use crate::header::{TYPE_A, TYPE_AAAA, TYPE_SRV};
use crate::name::{BLOCK_LEN, NAME_LEN_MAX, Name, block_count};
use crate::segment::Entry;
use crate::table::{Found, Table};

/// The `pods` option of the `kubernetes` plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodMode {
    /// There are no pod names.
    Disabled,
    /// `1-2-3-4.NS.pod` is answered from the label wherever the namespace exists.
    Insecure,
    /// The pod must exist with that address in that namespace: the table stores such names.
    Verified,
}

/// A name of the form `1-2-3-4.NS.pod.ZONE`; more labels may stand before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodName {
    pub address: IpAddr,
    /// Offset of the address's label in the question's name.
    pub name_offset: usize,
}

impl Table {
    /// Looks up a name that is not stored as it is spelled. `labels_left`: labels in front of the
    /// zone, at least one.
    pub(crate) fn look_up_by_rule(
        &self,
        pods: PodMode,
        name: &Name,
        qtype: u16,
        labels_left: usize,
        apex: Apex,
    ) -> Found<'_> {
        let below_zone = name.bytes().get(..apex.name_offset).unwrap_or_default();
        let is_pod_name = labels_left >= 3
            && below_zone.ends_with(b"\x03pod")
            && name.label(labels_left - 1) == b"pod";
        let entry = match (is_pod_name, pods) {
            (true, PodMode::Insecure) => return self.look_up_pod(name, qtype, labels_left, apex),
            // Labels left of the address make no difference: a.1-2-3-4.NS.pod is 1-2-3-4.NS.pod.
            (true, PodMode::Verified) => self.find(name.suffix_blocks(labels_left - 3)),
            (true, PodMode::Disabled) => None,
            (false, _) => self.find_bare_port(name, labels_left),
        };
        match entry {
            Some(entry) => entry.answer(qtype).map_or(Found::NoData(apex), Found::Answer),
            None => self.absent(apex),
        }
    }

    /// `pods insecure`: the namespace must exist; the address is read from the label left of it.
    fn look_up_pod(&self, name: &Name, qtype: u16, labels_left: usize, apex: Apex) -> Found<'_> {
        if self.find(name.suffix_blocks(labels_left - 2)).is_none() {
            return self.absent(apex);
        }
        let Some(address) = dashed_address(name.label(labels_left - 3)) else {
            return self.absent(apex);
        };
        match (address, qtype) {
            (IpAddr::V4(_), TYPE_A | TYPE_SRV) | (IpAddr::V6(_), TYPE_AAAA | TYPE_SRV) => {
                Found::Pod(PodName { address, name_offset: name.label_at(labels_left - 3) })
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Found::NoData(apex),
        }
    }

    /// `PORT.PROTO.SVC.NS.svc`: CoreDNS accepts port and protocol without their underscores too.
    /// The table stores the name that the Kubernetes DNS specification gives; this finds it under
    /// the other spellings.
    fn find_bare_port(&self, name: &Name, labels_left: usize) -> Option<Entry<'_>> {
        if labels_left != 5 {
            return None;
        }
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

/// The address that a pod's label spells: `1-2-3-4`, or the groups of an IPv6 address.
#[must_use]
pub fn dashed_address(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0u8; 63];
    let spelled = text.get_mut(..label.len())?;
    spelled.copy_from_slice(label);
    let dashes = label.iter().filter(|byte| **byte == b'-').count();
    let is_v4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    for byte in spelled.iter_mut().filter(|byte| **byte == b'-') {
        *byte = if is_v4 { b'.' } else { b':' };
    }
    let spelled = core::str::from_utf8(spelled).ok()?;
    if is_v4 {
        spelled.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        // A mapped address is the IPv4 address that it maps, as CoreDNS reads it.
        spelled.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
    }
}
