//! The apex of a table's zones (RFC 9499, section 7): the name that owns a zone's SOA, and that
//! SOA.
//!
//! Invariant: a cluster's table has one SOA for all its zones, whose names all end in the zone. The
//! question's name ends in it too, so stamping only points the SOA there.

use crate::header::{CLASS_IN, TYPE_SOA};

/// What a table holds at the apex of its zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApexRecords {
    /// The SOA that CoreDNS's `kubernetes` makes up. Negative answers carry it.
    Kubernetes,
    /// The SOA that CoreDNS's `k8s_external` makes up. Negative answers carry it.
    K8sExternal(ApexLabel),
    /// Those of its zone files, which its entries hold.
    Zones,
    /// Nothing: the table is a list of names, as CoreDNS's `hosts` is. See `hosts` for how it
    /// answers.
    None,
}

/// Most bytes of a label (RFC 1035, section 2.3.4).
const LABEL_LEN_MAX: usize = 63;

/// The label between an external zone and the names that its SOA and NS records mention: `dns` in
/// `ns1.dns.ZONE`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApexLabel {
    /// The label in wire format, then zeros.
    bytes: [u8; 1 + LABEL_LEN_MAX],
}

impl core::fmt::Debug for ApexLabel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ApexLabel({})", self.text().escape_ascii())
    }
}

impl ApexLabel {
    /// `None` if it is empty or too long. Letters become lower case.
    #[must_use]
    pub fn new(label: &[u8]) -> Option<Self> {
        let mut bytes = [0; 1 + LABEL_LEN_MAX];
        bytes.get_mut(1..=label.len())?.copy_from_slice(label);
        bytes[0] = label.len() as u8;
        bytes[1..].make_ascii_lowercase();
        (!label.is_empty()).then_some(Self { bytes })
    }

    /// The label alone.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.wire().get(1..).unwrap_or_default()
    }

    /// The label with its length in front.
    pub(crate) fn wire(&self) -> &[u8] {
        self.bytes.get(..=usize::from(self.bytes[0])).unwrap_or_default()
    }

    /// Bytes of the SOA's data: two names that end in a pointer to the zone, and the timers.
    pub(crate) fn soa_rdata_len(&self) -> usize {
        EXTERNAL_PRIMARY.len() + SOA_MAILBOX.len() + 2 * (self.wire().len() + 2) + SOA_TIMERS_LEN
    }
}

/// The first labels of the name server and the mailbox in the SOA of an external zone.
pub(crate) const EXTERNAL_PRIMARY: &[u8] = b"\x03ns1";
pub(crate) const EXTERNAL_MAILBOX: &[u8] = SOA_MAILBOX;

/// The apex of the zone that a question's name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apex {
    /// Offset of the apex in the question's name.
    pub name_offset: usize,
}

/// Offsets in a SOA record of its pointers to the zone: its owner, and the ends of the two names in
/// its data.
pub(crate) const SOA_POINTERS_AT: [usize; 3] =
    [0, 12 + SOA_PRIMARY.len(), 12 + SOA_PRIMARY.len() + 2 + SOA_MAILBOX.len()];
const SOA_PRIMARY: &[u8] = b"\x02ns\x03dns";
const SOA_MAILBOX: &[u8] = b"\x0ahostmaster";
/// Bytes of the serial and the timers at the end of a SOA record.
pub(crate) const SOA_TIMERS_LEN: usize = 20;
const SOA_RDATA_LEN: usize = SOA_PRIMARY.len() + 2 + SOA_MAILBOX.len() + 2 + SOA_TIMERS_LEN;
/// Bytes of a SOA record whose names all end in a pointer to the zone.
pub(crate) const SOA_LEN: usize = 12 + SOA_RDATA_LEN;
/// SOA timers in seconds, as CoreDNS's `kubernetes` gives them; the minimum is the table's TTL.
const SOA_REFRESH_SECS: u32 = 7200;
const SOA_RETRY_SECS: u32 = 1800;
const SOA_EXPIRE_SECS: u32 = 86400;
/// CoreDNS caps the SOA record's own TTL, though not its minimum.
const SOA_TTL_SECS_MAX: u32 = 300;

/// The SOA of a table's zones, with zeros where the pointers to the zone go.
pub(crate) fn soa_record(serial: u32, ttl_secs: u32) -> [u8; SOA_LEN] {
    const POINTER: &[u8] = &[0, 0];
    let timers = [serial, SOA_REFRESH_SECS, SOA_RETRY_SECS, SOA_EXPIRE_SECS, ttl_secs];
    let timers = timers.map(u32::to_be_bytes);
    let mut record = [0; SOA_LEN];
    let mut at = 0;
    for part in [
        POINTER,
        &TYPE_SOA.to_be_bytes(),
        &CLASS_IN.to_be_bytes(),
        &ttl_secs.min(SOA_TTL_SECS_MAX).to_be_bytes(),
        &(SOA_RDATA_LEN as u16).to_be_bytes(),
        SOA_PRIMARY,
        POINTER,
        SOA_MAILBOX,
        POINTER,
        timers.as_flattened(),
    ] {
        record[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    record
}
