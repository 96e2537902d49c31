//! Writes the entry of one name: composes names and record data with `domain`, and notes invalid
//! names.

use domain::base::name::{NameBuilder, ToName};
use domain::base::rdata::ComposeRecordData;
use domain::base::{Name, Rtype, Ttl};
use domain::dep::octseq::array::Array;
use domain::rdata::{A, Aaaa, Ptr};
use std::net::IpAddr;
use wire::compile::{EntryWriter, Section};

use super::{EntryChange, Refused};
use crate::cluster::{WireName, Zones};

pub(super) struct Pen<'p> {
    writer: &'p mut EntryWriter,
    rdata: &'p mut Vec<u8>,
    ttl: Ttl,
    change: &'p mut dyn FnMut(EntryChange<'_>),
    refused: Refused,
}

impl<'p> Pen<'p> {
    pub(super) fn new(
        writer: &'p mut EntryWriter,
        rdata: &'p mut Vec<u8>,
        ttl_secs: u32,
        change: &'p mut dyn FnMut(EntryChange<'_>),
    ) -> Self {
        Self { writer, rdata, ttl: Ttl::from_secs(ttl_secs), change, refused: Refused::default() }
    }

    /// Sets the TTL of the following records.
    pub(super) fn set_ttl(&mut self, ttl_secs: u32) {
        self.ttl = Ttl::from_secs(ttl_secs);
    }

    /// Begins the entry of this name, which exists from then on, without data.
    pub(super) fn begin(&mut self, owner: &WireName) {
        self.writer.begin(owner.as_slice());
    }

    /// Begins the answer for this type.
    pub(super) fn answer(&mut self, rtype: Rtype) {
        self.writer.answer(rtype.to_int());
    }

    pub(super) fn record<D: ComposeRecordData>(
        &mut self,
        section: Section,
        owner: &WireName,
        data: &D,
    ) {
        self.rdata.clear();
        data.compose_rdata(self.rdata).expect("a Vec takes all");
        let (rtype, ttl_secs) = (data.rtype().to_int(), self.ttl.as_secs());
        self.writer.record(section, owner.as_slice(), rtype, ttl_secs, self.rdata);
    }

    pub(super) fn address(&mut self, section: Section, owner: &WireName, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.record(section, owner, &A::new(address)),
            IpAddr::V6(address) => self.record(section, owner, &Aaaa::new(address)),
        }
    }

    /// Adds the answers for A and AAAA, for the families present. `addresses` must be sorted, so
    /// IPv4 comes first.
    pub(super) fn answer_addresses(&mut self, owner: &WireName, addresses: &[IpAddr]) {
        for same_family in addresses.chunk_by(|one, next| one.is_ipv4() == next.is_ipv4()) {
            self.answer(if same_family[0].is_ipv4() { Rtype::A } else { Rtype::AAAA });
            for address in same_family {
                self.address(Section::Answer, owner, *address);
            }
        }
    }

    /// Writes the entry of a reverse name, or removes it if it has no targets.
    pub(super) fn put_pointers(&mut self, owner: &WireName, targets: &[WireName]) {
        if targets.is_empty() {
            return self.remove(owner);
        }
        self.begin(owner);
        self.answer(Rtype::PTR);
        for target in targets {
            self.record(Section::Answer, owner, &Ptr::new(target));
        }
        self.put();
    }

    /// Lists endpoints whose names are not stored: see `EntryWriter::list_endpoints`.
    pub(super) fn list_endpoints(&mut self, weight: u16, ports: &[u16], addresses: &[IpAddr]) {
        self.writer.list_endpoints(weight, ports, addresses);
    }

    /// Writes the PTR record of the endpoint with this address: its name is the address's label
    /// below the name of the Service.
    pub(super) fn point(&mut self, owner: &WireName, address: IpAddr, service: &WireName) {
        let (reverse_name, service) = (owner.as_slice(), service.as_slice());
        (self.change)(EntryChange::Point { reverse_name, address, service });
    }

    /// Ends the entry.
    pub(super) fn put(&mut self) {
        (self.change)(EntryChange::Put(self.writer.finish()));
    }

    /// An entry without answers: the name exists (RFC 8020).
    pub(super) fn put_empty(&mut self, owner: &WireName) {
        self.begin(owner);
        self.put();
    }

    /// The name does not exist.
    pub(super) fn remove(&mut self, owner: &WireName) {
        self.begin(owner);
        (self.change)(EntryChange::Remove(self.writer.finish()));
    }

    /// Notes an invalid name.
    pub(super) fn refuse(&mut self, what: impl FnOnce() -> String) {
        self.refused.note(what);
    }

    /// The name of these labels under `origin`. Notes a name that is too long and returns `None`.
    pub(super) fn name(&mut self, labels: &[&[u8]], origin: &impl ToName) -> Option<WireName> {
        let name = compose(labels, origin);
        if name.is_none() {
            self.refuse(|| {
                let labels: Vec<_> =
                    labels.iter().map(|label| String::from_utf8_lossy(label)).collect();
                let origin: Name<Vec<u8>> = origin.to_name();
                format!("{}.{origin} is longer than 255 bytes", labels.join("."))
            });
        }
        name
    }

    /// The same in a zone; `None` also for a name of a longer one of the zones.
    pub(super) fn own_name(
        &mut self,
        labels: &[&[u8]],
        zone: &Name<Vec<u8>>,
        zones: &Zones,
    ) -> Option<WireName> {
        self.name(labels, zone).filter(|name| zones.is_own(name, zone))
    }

    pub(super) fn finish(self) -> Refused {
        self.refused
    }
}

/// The name of these labels, each of 1 to 63 bytes, under `origin`. `None` if it is longer than 255
/// bytes.
pub(super) fn compose(labels: &[&[u8]], origin: &impl ToName) -> Option<WireName> {
    let mut name = NameBuilder::<Array<255>>::new();
    for label in labels {
        name.append_label(label).ok()?;
    }
    name.append_origin(origin).ok()
}
