//! Writes the entry of one name: composes names and record data, and notes invalid names.
//!
//! Data that is little more than a name is written here, since there are hundreds of thousands of
//! such records; `domain` composes the rest.

use std::net::IpAddr;

use domain::base::rdata::ComposeRecordData;
use domain::base::{Rtype, Ttl};
use domain::rdata::{A, Aaaa};
use wire::compile::{EntryWriter, Section};
use wire::name::Name;

use super::service::Offer;
use super::{EntryChange, Refused};
use crate::cluster::{KeyParts, Zones};

pub(super) struct Pen<'p> {
    writer: &'p mut EntryWriter,
    pub(super) buffers: &'p mut Buffers,
    ttl: Ttl,
    change: &'p mut dyn FnMut(EntryChange<'_>),
    refused: Refused,
}

/// Lists of the entry that is being written. Here so that their memory is used again.
#[derive(Default)]
pub(super) struct Buffers {
    rdata: Vec<u8>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) offers: Vec<Offer>,
    pub(super) port_numbers: Vec<u16>,
    /// The Service that `Pen::point` points to.
    pub(super) pointed_to: Option<NamedService>,
}

/// A Service and its name.
pub(super) struct NamedService {
    namespace: String,
    service: String,
    name: Name,
}

impl NamedService {
    pub(super) fn new(service: KeyParts<'_>, name: Name) -> Self {
        Self { namespace: service.namespace.to_owned(), service: service.name.to_owned(), name }
    }

    pub(super) fn is_of(&self, service: KeyParts<'_>) -> bool {
        (service.namespace, service.name) == (&*self.namespace, &*self.service)
    }
}

impl<'p> Pen<'p> {
    pub(super) fn new(
        writer: &'p mut EntryWriter,
        buffers: &'p mut Buffers,
        ttl_secs: u32,
        change: &'p mut dyn FnMut(EntryChange<'_>),
    ) -> Self {
        let (ttl, refused) = (Ttl::from_secs(ttl_secs), Refused::default());
        Self { writer, buffers, ttl, change, refused }
    }

    /// Sets the TTL of the following records.
    pub(super) fn set_ttl(&mut self, ttl_secs: u32) {
        self.ttl = Ttl::from_secs(ttl_secs);
    }

    /// Begins the entry of this name, which exists from then on, without data.
    pub(super) fn begin(&mut self, owner: &Name) {
        self.writer.begin(owner.bytes());
    }

    /// Begins the answer for this type.
    pub(super) fn answer(&mut self, rtype: Rtype) {
        self.writer.answer(rtype.to_int());
    }

    pub(super) fn record<D: ComposeRecordData>(
        &mut self,
        section: Section,
        owner: &Name,
        data: &D,
    ) {
        let rdata = &mut self.buffers.rdata;
        rdata.clear();
        data.compose_rdata(rdata).expect("a Vec takes all");
        let (rtype, ttl_secs) = (data.rtype().to_int(), self.ttl.as_secs());
        self.writer.record(section, owner.bytes(), rtype, ttl_secs, rdata);
    }

    /// A record whose data is a name (RFC 1035, section 3.3): CNAME, NS or PTR.
    pub(super) fn pointer(&mut self, owner: &Name, rtype: Rtype, target: &Name) {
        let (rtype, ttl_secs) = (rtype.to_int(), self.ttl.as_secs());
        self.writer.record(Section::Answer, owner.bytes(), rtype, ttl_secs, target.bytes());
    }

    /// An SRV record (RFC 2782) of priority 0.
    pub(super) fn srv(&mut self, owner: &Name, weight: u16, port_number: u16, target: &Name) {
        let ([w0, w1], [p0, p1]) = (weight.to_be_bytes(), port_number.to_be_bytes());
        let rdata = &mut self.buffers.rdata;
        rdata.clear();
        rdata.extend_from_slice(&[0, 0, w0, w1, p0, p1]);
        rdata.extend_from_slice(target.bytes());
        let (rtype, ttl_secs) = (Rtype::SRV.to_int(), self.ttl.as_secs());
        self.writer.record(Section::Answer, owner.bytes(), rtype, ttl_secs, rdata);
    }

    pub(super) fn address(&mut self, section: Section, owner: &Name, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.record(section, owner, &A::new(address)),
            IpAddr::V6(address) => self.record(section, owner, &Aaaa::new(address)),
        }
    }

    /// Adds the answers for A and AAAA, for the families present. `addresses` must be sorted, so
    /// IPv4 comes first.
    pub(super) fn answer_addresses(&mut self, owner: &Name, addresses: &[IpAddr]) {
        for same_family in addresses.chunk_by(|one, next| one.is_ipv4() == next.is_ipv4()) {
            self.answer(if same_family[0].is_ipv4() { Rtype::A } else { Rtype::AAAA });
            for address in same_family {
                self.address(Section::Answer, owner, *address);
            }
        }
    }

    /// Writes the entry of a reverse name, or removes it if it has no targets.
    pub(super) fn put_pointers(&mut self, owner: &Name, targets: &[Name]) {
        if targets.is_empty() {
            return self.remove(owner);
        }
        self.begin(owner);
        self.answer_pointers(owner, targets);
        self.put();
    }

    /// Adds the answer for PTR, if there are targets.
    pub(super) fn answer_pointers(&mut self, owner: &Name, targets: &[Name]) {
        if !targets.is_empty() {
            self.answer(Rtype::PTR);
        }
        for target in targets {
            self.pointer(owner, Rtype::PTR, target);
        }
    }

    /// Lists endpoints whose names are not stored: see `EntryWriter::list_endpoints`.
    pub(super) fn list_endpoints(&mut self, weight: u16, ports: &[u16], addresses: &[IpAddr]) {
        self.writer.list_endpoints(weight, ports, addresses);
    }

    /// Writes the PTR record of the endpoint with this address: its name is the address's label
    /// below the name of the Service in `Buffers::pointed_to`.
    pub(super) fn point(&mut self, address: IpAddr) {
        if let Some(NamedService { name: service, .. }) = &self.buffers.pointed_to {
            (self.change)(EntryChange::Point { address, service });
        }
    }

    /// Writes the name of a pod with this address, which its first label spells.
    pub(super) fn put_pod(&mut self, pod: &Name, address: IpAddr) {
        (self.change)(EntryChange::Pod { pod, address });
    }

    /// Ends the entry.
    pub(super) fn put(&mut self) {
        (self.change)(EntryChange::Put(self.writer.finish()));
    }

    /// An entry without answers: the name exists (RFC 8020).
    pub(super) fn put_empty(&mut self, owner: &Name) {
        self.begin(owner);
        self.put();
    }

    /// The name does not exist.
    pub(super) fn remove(&mut self, owner: &Name) {
        self.begin(owner);
        (self.change)(EntryChange::Remove(self.writer.finish()));
    }

    /// Notes an invalid name.
    pub(super) fn refuse(&mut self, what: impl FnOnce() -> String) {
        self.refused.note(what);
    }

    /// The name of these labels, each of 1 to 63 bytes, under `origin`. Notes a name that is too
    /// long and returns `None`.
    pub(super) fn name(&mut self, labels: &[&[u8]], origin: &Name) -> Option<Name> {
        let name = Name::compose(labels, origin);
        if name.is_none() {
            self.refuse(|| {
                let labels: Vec<_> =
                    labels.iter().map(|label| String::from_utf8_lossy(label)).collect();
                format!("{}.{origin} is longer than 255 bytes", labels.join("."))
            });
        }
        name
    }

    /// The same in a zone; `None` also for a name of a longer one of the zones.
    pub(super) fn own_name(
        &mut self,
        labels: &[&[u8]],
        zone: &Name,
        zones: &Zones,
    ) -> Option<Name> {
        self.name(labels, zone).filter(|name| zones.is_own(name, zone))
    }

    pub(super) fn finish(self) -> Refused {
        self.refused
    }
}
