//! A response being written: whole answers in one piece, others record by record.
//!
//! Which response it is, `reply` and `response` decide. Invariant: nothing is written past the end
//! of the message.

use core::net::IpAddr;

use super::rotation::RotatedRecords;
use super::{End, MadeRecords, Stamped, UDP_LEN_MAX};
use crate::answer::Answer;
use crate::apex::{
    Apex, ApexLabel, ApexRecords, EXTERNAL_MAILBOX, EXTERNAL_PRIMARY, SOA_LEN, SOA_POINTERS_AT,
    SOA_TIMERS_LEN,
};
use crate::cut::Cut;
use crate::endpoint::{AddressLabel, AddressName};
use crate::header::{
    CLASS_IN, HEADER_LEN, OPT_LEN, QR, Rcode, TC, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_OPT,
    TYPE_PTR, TYPE_SOA, TYPE_SRV, u16_at,
};
use crate::name::NAME_LEN_MAX;
use crate::query::{Edns, Query};
use crate::record::{Counts, MessageSection, Records, owner_len};
use crate::reverse::Pointer;
use crate::table::{Denial, Found, Table};
use crate::turn::turn;

/// Bytes of an A record whose owner is a pointer.
const A_RECORD_LEN: usize = 16;
/// A pointer to the name at offset 12, which is the question's.
const NAME_POINTER: u16 = 0xC000 | HEADER_LEN as u16;
/// The records that have been written, without the OPT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) counts: Counts,
    /// A record is missing that the client needs: TC.
    pub(crate) truncated: bool,
}

impl Written {
    /// One record.
    pub(super) const fn one(section: MessageSection) -> Self {
        Self { counts: Counts::one(section), truncated: false }
    }

    /// Nothing: a record did not fit.
    const TRUNCATED: Self = Self { counts: Counts::of(MessageSection::Answer, 0), truncated: true };

    /// Adds records that have been written after these.
    pub(crate) fn join(&mut self, behind: Self) {
        self.counts += behind.counts;
        self.truncated |= behind.truncated;
    }
}

/// The name that owns the next records: the question's, or the target of CNAMEs. It is spelled out
/// at this offset.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Subject {
    #[inline(always)]
    pub(crate) fn question(query: &Query) -> Self {
        Self { at: HEADER_LEN, len: query.name_len }
    }

    /// A pointer to this offset in the name.
    #[inline(always)]
    pub(super) fn pointer(self, offset: usize) -> u16 {
        0xC000 | (self.at + offset) as u16
    }
}

/// The last offset that a pointer reaches, with its 14 bits (RFC 1035, section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;

/// A response being written over its query.
pub(crate) struct Reply<'m> {
    pub(crate) message: &'m mut [u8],
    pub(crate) len: usize,
    pub(crate) reserved: usize,
    /// AA
    pub(crate) is_authority: bool,
    has_question: bool,
}

impl<'m> Reply<'m> {
    /// Keeps the query's id and question. `finish` writes the rest of the header.
    #[inline(always)]
    pub(crate) fn begin(message: &'m mut [u8], question_len: usize, edns: Option<Edns>) -> Self {
        let reserved = if edns.is_some() { OPT_LEN } else { 0 };
        let len = HEADER_LEN + question_len;
        Self { message, len, reserved, is_authority: true, has_question: question_len > 0 }
    }

    /// Bytes left for records in a message of at most `len_max` bytes.
    #[inline]
    pub(crate) fn room(&self, len_max: usize) -> usize {
        len_max.saturating_sub(self.len + self.reserved)
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.message.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        } else {
            debug_assert!(false, "a response longer than its buffer");
        }
    }

    /// Writes the stored body as it is, with its addresses rotated. `None`, and nothing written, if
    /// it is a part of an answer. `rotation`: called if there are addresses to rotate.
    #[inline(always)]
    pub(super) fn whole(
        &mut self,
        answer: &Answer<'_>,
        rotation: impl FnOnce() -> usize,
    ) -> Option<Written> {
        let start = self.len;
        if let Ok(record) = <&[u8; A_RECORD_LEN]>::try_from(answer.body)
            && let Some(room) = self.message.get_mut(start..).and_then(<[u8]>::first_chunk_mut)
        {
            // One address, as for most Services: copying it as a number takes two instructions
            // instead of a call.
            *room = u128::from_ne_bytes(*record).to_ne_bytes();
            self.len += A_RECORD_LEN;
        } else if answer.is_cut() {
            return None;
        } else {
            self.put(answer.body);
        }
        if answer.rotate_count() > 1 {
            let run_at = start + answer.rotate_at();
            let (count, stride) = (answer.rotate_count(), answer.rotate_stride());
            if let Some(run) = self.message.get_mut(run_at..run_at + count * stride) {
                run.rotate_left(turn(rotation(), count) * stride);
            }
        }
        Some(Written { counts: answer.counts(), truncated: false })
    }

    /// Writes what a table has for a name.
    pub(super) fn found(
        &mut self,
        table: &Table,
        found: &Found<'_>,
        qtype: u16,
        subject: Subject,
        rotation: usize,
        room: usize,
    ) -> Written {
        let apex = match found {
            Found::Answer(answer) | Found::Referral(answer) => {
                return self.by_record(answer, subject, rotation, room);
            }
            Found::Alias(answer) => return self.alias(answer, subject, room).0,
            Found::Expanded(answer, proof) => {
                return self.by_record_with(answer, Some(proof), subject, rotation, room);
            }
            Found::Denied(denial) => return self.denial(denial, subject, room),
            Found::Unloaded => return Written::default(),
            Found::Pod(name) | Found::Endpoint(name) => {
                return self.address_name(name, qtype, subject, table.ttl_secs(), room);
            }
            Found::Pointer(pointer) => {
                return self.pointer(pointer, subject, table.ttl_secs(), room);
            }
            Found::Outside | Found::Unlisted => return Written::default(),
            Found::Soa(apex)
            | Found::NoData(apex)
            | Found::NxDomain(apex)
            | Found::Unsynced(apex) => *apex,
        };
        let soa_len = match &table.apex {
            ApexRecords::None | ApexRecords::Zones => return Written::default(),
            ApexRecords::Kubernetes => SOA_LEN,
            ApexRecords::K8sExternal(label) => 12 + label.soa_rdata_len(),
        };
        if soa_len > room {
            return Written::TRUNCATED;
        }
        let written = match &table.apex {
            ApexRecords::None | ApexRecords::Zones | ApexRecords::Kubernetes => {
                self.negative(apex, table, subject)
            }
            ApexRecords::K8sExternal(label) => {
                self.external_soa(apex, table, label, subject);
                Written::one(MessageSection::Authority)
            }
        };
        if matches!(found, Found::Soa(_)) {
            return Written::one(MessageSection::Answer);
        }
        written
    }

    /// Writes what tables have for a name that CNAMEs lead to.
    pub(crate) fn end(
        &mut self,
        end: &End<'_>,
        qtype: u16,
        mut subject: Subject,
        rotation: usize,
        mut room: usize,
    ) -> Written {
        let mut written = Written::default();
        for cnames in end.cnames.iter().chain(&end.then) {
            let before = self.len;
            let (records, target) = self.alias(cnames, subject, room);
            written.join(records);
            // The target is not in the message, so nothing can point at it.
            let Some(target) = target else { return written };
            room -= self.len - before;
            subject = target;
        }
        written.truncated |= subject.at + subject.len > POINTER_MAX;
        match &end.found {
            Some((table, found)) if !written.truncated => {
                written.join(self.found(table, found, qtype, subject, rotation, room));
            }
            Some(_) | None => {}
        }
        written
    }

    /// Writes record by record what fits. For answers that are too long, and for
    /// names that are spelled differently from the stored one or are not the question's: pointers
    /// then move by the difference.
    pub(crate) fn by_record(
        &mut self,
        answer: &Answer<'_>,
        subject: Subject,
        rotation: usize,
        room: usize,
    ) -> Written {
        self.by_record_with(answer, None, subject, rotation, room)
    }

    /// The same, with a proof at the end of the authority section. No pointer of the additional
    /// section leads past that place.
    fn by_record_with(
        &mut self,
        answer: &Answer<'_>,
        mut proof: Option<&Answer<'_>>,
        subject: Subject,
        rotation: usize,
        room: usize,
    ) -> Written {
        let body_at = self.len;
        let end_max = body_at + room;
        let counts = answer.counts();
        // What does not follow the question's name follows CNAMEs.
        let mut cut = Cut::new(body_at, self.is_authority, subject.at != HEADER_LEN);
        let rotated = RotatedRecords::new(answer, rotation);
        for (index, record) in (0..counts.total()).zip(rotated) {
            let section = counts.section_of(index);
            if section == MessageSection::Additional
                && let Some(proof) = proof.take()
            {
                self.prove(proof, subject, end_max, &mut cut);
            }
            let is_answer = section == MessageSection::Answer;
            let owner_len = owner_len(record).unwrap_or_default();
            let (owner, fixed) = record.split_at_checked(owner_len).unwrap_or_default();
            let moved = moved_owner(record, is_answer, answer.name_len, subject, body_at);
            let end = Some(self.len + record.len()).filter(|end| *end <= end_max);
            let end = end.filter(|_| moved.is_some());
            if cut.keeps(section, owner, u16_at(fixed, 0), end) {
                self.put(&moved.unwrap_or_default().to_be_bytes());
                self.put(record.get(2..).unwrap_or_default());
            }
        }
        if let Some(proof) = proof {
            self.prove(proof, subject, end_max, &mut cut);
        }
        self.len = cut.end;
        Written { counts: cut.counts, truncated: cut.is_truncated || answer.is_cut() }
    }

    /// Writes a proof, unless a record before it is missing.
    fn prove(&mut self, proof: &Answer<'_>, subject: Subject, end_max: usize, cut: &mut Cut<'_>) {
        if cut.is_over() {
            cut.is_truncated = true;
            return;
        }
        let written = self.by_record(proof, subject, 0, end_max - self.len);
        cut.keep_proof(written.counts, self.len, written.truncated);
    }

    /// Writes the CNAMEs or the DNAME of a `Found::Alias`; for a DNAME also the CNAME that it makes
    /// (RFC 6672, section 3.1). Returns the target as the subject of what follows, if all of it
    /// fits.
    pub(crate) fn alias(
        &mut self,
        answer: &Answer<'_>,
        subject: Subject,
        mut room: usize,
    ) -> (Written, Option<Subject>) {
        let body_at = self.len;
        let mut written = self.by_record(answer, subject, 0, room);
        if written.truncated {
            return (written, None);
        }
        let Some(dname) = answer.dname() else {
            let target = answer.last_of(TYPE_CNAME).map_or(0..0, |cname| cname.rdata);
            return (written, Some(Subject { at: body_at + target.start, len: target.len() }));
        };
        room -= self.len - body_at;
        let target = answer.body.get(dname.rdata).unwrap_or_default();
        let kept = subject.at..(subject.at + subject.len).saturating_sub(answer.name_len);
        let len = kept.len() + target.len();
        let end = self.len + 12 + len;
        let is_too_long = len > NAME_LEN_MAX;
        if is_too_long || 12 + len > room || end > self.message.len() {
            written.truncated = !is_too_long;
            return (written, None);
        }
        self.fixed(subject.pointer(0), TYPE_CNAME, dname.ttl_secs, len);
        let copy = Subject { at: self.len, len };
        self.message.copy_within(kept.clone(), self.len);
        self.message
            .get_mut(self.len..self.len + kept.len())
            .unwrap_or_default()
            .make_ascii_lowercase();
        self.len += kept.len();
        self.put(target);
        written.join(Written::one(MessageSection::Answer));
        (written, Some(copy))
    }

    /// Writes a zone's SOA into the authority section, and the proofs of absence after it.
    fn denial(&mut self, denial: &Denial<'_>, subject: Subject, mut room: usize) -> Written {
        let mut written = Written::default();
        let parts = [Some(&denial.soa), denial.proofs[0].as_ref(), denial.proofs[1].as_ref()];
        for part in parts.into_iter().flatten() {
            let before = self.len;
            written.join(self.by_record(part, subject, 0, room));
            if written.truncated {
                break;
            }
            room -= self.len - before;
        }
        written
    }

    /// Writes what fits of a plugin's records. Where one is owned by the subject, it
    /// points there, and so keeps the client's letter case.
    pub(super) fn made(&mut self, made: MadeRecords<'_>, subject: Subject, room: usize) -> Written {
        let end_max = self.len + room;
        let mut cut = Cut::new(self.len, self.is_authority, false);
        for (section, head) in Records::new(made.bytes, 0, made.counts) {
            let record = made.bytes.get(head.owner_at..head.end()).unwrap_or_default();
            let (spelled, rest) = record.split_at(head.owner_len());
            let name = self.message.get(subject.at..subject.at + subject.len);
            let pointer = subject.pointer(0).to_be_bytes();
            let owner = match name.filter(|name| name.eq_ignore_ascii_case(spelled)) {
                Some([_, _, ..]) => &pointer,
                Some(_) | None => spelled,
            };
            let end = Some(self.len + owner.len() + rest.len()).filter(|end| *end <= end_max);
            if cut.keeps(section, spelled, head.rtype, end) {
                self.put(owner);
                self.put(rest);
            }
        }
        self.len = cut.end;
        Written { counts: cut.counts, truncated: cut.is_truncated }
    }

    /// Writes the address that a name spells; for SRV, its ports at the name that begins with the
    /// address.
    fn address_name(
        &mut self,
        name: &AddressName<'_>,
        qtype: u16,
        subject: Subject,
        ttl_secs: u32,
        mut room: usize,
    ) -> Written {
        if qtype != TYPE_SRV {
            return match self.spelled_address(name, subject.pointer(0), ttl_secs, room) {
                Some(_) => Written::one(MessageSection::Answer),
                None => Written::TRUNCATED,
            };
        }
        let mut written = Written::default();
        let target = subject.at + name.name_offset..subject.at + subject.len;
        let len = 12 + 6 + target.len();
        for port in name.ports {
            if len > room || self.len + len > self.message.len() {
                written.join(Written::TRUNCATED);
                return written;
            }
            room -= len;
            self.fixed(subject.pointer(0), TYPE_SRV, ttl_secs, 6 + target.len());
            self.put(&[0, 0]);
            self.put(&name.weight.to_be_bytes());
            self.put(port);
            let copy = self.len..self.len + target.len();
            self.message.copy_within(target.clone(), self.len);
            self.message.get_mut(copy.clone()).unwrap_or_default().make_ascii_lowercase();
            self.len = copy.end;
            written.join(Written::one(MessageSection::Answer));
        }
        let owner = subject.pointer(name.name_offset);
        written.join(match self.spelled_address(name, owner, ttl_secs, room) {
            Some(()) => Written::one(MessageSection::Additional),
            None => Written::TRUNCATED,
        });
        written
    }

    /// Writes the PTR record of an endpoint.
    fn pointer(
        &mut self,
        pointer: &Pointer<'_>,
        subject: Subject,
        ttl_secs: u32,
        room: usize,
    ) -> Written {
        let label = AddressLabel::of_endpoint(pointer.address);
        let label = label.as_slice();
        let rdata_len = 1 + label.len() + pointer.service.len();
        if 12 + rdata_len > room {
            return Written::TRUNCATED;
        }
        self.fixed(subject.pointer(0), TYPE_PTR, ttl_secs, rdata_len);
        self.put(&[label.len() as u8]);
        self.put(label);
        self.put(pointer.service);
        Written::one(MessageSection::Answer)
    }

    /// Writes the record of the address; `None`, and nothing written, if it does not fit.
    fn spelled_address(
        &mut self,
        name: &AddressName<'_>,
        owner: u16,
        ttl_secs: u32,
        room: usize,
    ) -> Option<()> {
        let (v4, v6);
        let (rtype, octets): (u16, &[u8]) = match name.address {
            IpAddr::V4(address) => {
                v4 = address.octets();
                (TYPE_A, &v4)
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                (TYPE_AAAA, &v6)
            }
        };
        if 12 + octets.len() > room {
            return None;
        }
        self.fixed(owner, rtype, ttl_secs, octets.len());
        self.put(octets);
        Some(())
    }

    /// Writes the owner, type, class, TTL and length of a record of class IN.
    pub(super) fn fixed(&mut self, owner: u16, rtype: u16, ttl_secs: u32, rdata_len: usize) {
        self.fixed_in(CLASS_IN, owner, rtype, ttl_secs, rdata_len);
    }

    /// The same of any class.
    pub(super) fn fixed_in(
        &mut self,
        class: u16,
        owner: u16,
        rtype: u16,
        ttl_secs: u32,
        rdata_len: usize,
    ) {
        self.put(&owner.to_be_bytes());
        self.put(&rtype.to_be_bytes());
        self.put(&class.to_be_bytes());
        self.put(&ttl_secs.to_be_bytes());
        self.put(&(rdata_len as u16).to_be_bytes());
    }

    /// Writes the zone's SOA into the authority section (RFC 2308, section 3).
    #[inline(always)]
    pub(super) fn negative(&mut self, apex: Apex, table: &Table, subject: Subject) -> Written {
        self.soa(apex, table, subject);
        Written::one(MessageSection::Authority)
    }

    /// Writes the table's SOA, and points it at the zone in the name.
    #[inline(always)]
    fn soa(&mut self, apex: Apex, table: &Table, subject: Subject) {
        let start = self.len;
        self.put(&table.soa);
        let zone = subject.pointer(apex.name_offset).to_be_bytes();
        if let Some(record) =
            self.message.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<SOA_LEN>)
        {
            for at in SOA_POINTERS_AT {
                record[at..at + 2].copy_from_slice(&zone);
            }
        }
    }

    /// Writes the SOA of an external zone: its names contain a label that the Corefile chooses.
    fn external_soa(&mut self, apex: Apex, table: &Table, label: &ApexLabel, subject: Subject) {
        let zone = subject.pointer(apex.name_offset);
        self.fixed(zone, TYPE_SOA, table.ttl_secs(), label.soa_rdata_len());
        for name in [EXTERNAL_PRIMARY, EXTERNAL_MAILBOX] {
            self.put(name);
            self.put(label.wire());
            self.put(&zone.to_be_bytes());
        }
        // The serial and the timers are the same in every SOA of a cluster.
        self.put(&table.soa[SOA_LEN - SOA_TIMERS_LEN..]);
    }

    /// Appends the OPT and writes the header, except the id.
    #[inline(always)]
    pub(crate) fn finish(
        mut self,
        flags: u16,
        rcode: Rcode,
        written: Written,
        edns: Option<Edns>,
    ) -> Stamped {
        let mut records = written.counts;
        if let Some(edns) = edns {
            // The owner is the root; the class is our UDP size. Then come the upper bits of the
            // rcode, version 0, and the query's DO (RFC 6891, section 6.1.3).
            let [size0, size1] = UDP_LEN_MAX.to_be_bytes();
            let rcode_upper = (rcode as u16 >> 4) as u8;
            let dnssec_ok = u8::from(edns.dnssec_ok) << 7;
            let opt: [u8; OPT_LEN] =
                [0, 0, TYPE_OPT as u8, size0, size1, rcode_upper, 0, dnssec_ok, 0, 0, 0];
            self.put(&opt);
            records += Counts::one(MessageSection::Additional);
        }
        let truncated = if written.truncated { TC } else { 0 };
        let flags = QR | flags | truncated | (rcode as u16 & 0xF);
        let counts = u64::from(self.has_question) << 48 | records.in_header();
        if let Some(header) = self.message.first_chunk_mut::<HEADER_LEN>() {
            header[2..4].copy_from_slice(&flags.to_be_bytes());
            header[4..].copy_from_slice(&counts.to_be_bytes());
        }
        Stamped { len: self.len, rcode }
    }
}

/// The first two bytes of a stored record whose body goes to `body_at`; `None` if a pointer cannot
/// reach its place.
///
/// The body was compressed against a name of `stored_len` bytes at offset 12. The owner of an
/// answer is the subject. Any other pointer into the stored name means that end of it, which may be
/// the end of a longer subject.
#[inline(always)]
fn moved_owner(
    record: &[u8],
    is_answer: bool,
    stored_len: usize,
    subject: Subject,
    body_at: usize,
) -> Option<u16> {
    let owner = u16_at(record, 0);
    let place = match owner {
        NAME_POINTER if is_answer => subject.at,
        0xC000.. => {
            let place = usize::from(owner & 0x3FFF);
            match place.checked_sub(HEADER_LEN + stored_len + 4) {
                Some(in_body) => body_at + in_body,
                None => (subject.at + subject.len).checked_sub(HEADER_LEN + stored_len - place)?,
            }
        }
        // The owner is spelled out.
        _ => return Some(owner),
    };
    (place <= POINTER_MAX).then_some(0xC000 | place as u16)
}

const _: () = assert!(TYPE_OPT <= 0xFF);
