//! A message being written: what a table has on a name, record by record or in one piece.

use core::net::IpAddr;

use super::rotation::RotatedRecords;
use super::{End, OPT_LEN, Stamped, UDP_LEN_MAX};
use crate::apex::{Apex, ApexRecords, SOA_LEN, SOA_POINTERS_AT};
use crate::header::{
    CLASS_IN, HEADER_LEN, QR, Rcode, TC, TYPE_A, TYPE_AAAA, TYPE_OPT, TYPE_SRV, u16_at,
};
use crate::kubernetes::PodName;
use crate::query::{Edns, Query};
use crate::table::{Answer, Found, Table};

/// Bytes of an A record whose owner is a pointer.
const A_RECORD_LEN: usize = 16;
/// A pointer to the name at offset 12: the question's.
const NAME_POINTER: u16 = 0xC000 | HEADER_LEN as u16;
/// What has been written behind the question: records by section. `finish` adds the OPT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
    pub(crate) additionals: u16,
    pub(crate) truncated: bool,
}

impl Written {
    /// Adds what stands behind.
    pub(crate) fn join(&mut self, behind: Self) {
        self.answers += behind.answers;
        self.authorities += behind.authorities;
        self.additionals += behind.additionals;
        self.truncated |= behind.truncated;
    }
}

/// The name that records are written about, and where it stands spelt out: the question's, or one that CNAMEs lead to.
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

    /// A pointer to it, or so far into it.
    #[inline(always)]
    pub(super) fn pointer(self, offset: usize) -> u16 {
        0xC000 | (self.at + offset) as u16
    }
}

/// The last offset that a pointer reaches: it has 14 bits (RFC 1035, section 4.1.4).
const POINTER_MAX: usize = 0x3FFF;

/// A message being written. Writes past its end are dropped and never occur.
pub(crate) struct Reply<'m> {
    pub(crate) message: &'m mut [u8],
    pub(crate) len: usize,
    pub(crate) reserved: usize,
    has_question: bool,
}

impl<'m> Reply<'m> {
    /// The query's header, which `finish` writes over but for the id, and its question.
    #[inline(always)]
    pub(crate) fn begin(message: &'m mut [u8], question_len: usize, edns: Option<Edns>) -> Self {
        let reserved = if edns.is_some() { OPT_LEN } else { 0 };
        let len = HEADER_LEN + question_len;
        Self { message, len, reserved, has_question: question_len > 0 }
    }

    /// Bytes that records may take where the message may have `len_max`.
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
            debug_assert!(false, "answer longer than its buffer");
        }
    }

    /// The stored body as it is, its addresses rotated.
    #[inline(always)]
    pub(super) fn whole(&mut self, answer: &Answer<'_>, rotation: usize) -> Written {
        let start = self.len;
        if let Ok(record) = <&[u8; A_RECORD_LEN]>::try_from(answer.body)
            && let Some(room) = self.message.get_mut(start..).and_then(<[u8]>::first_chunk_mut)
        {
            // One address, the answer of most Services: as a number it is copied by two instructions, not by a call.
            *room = u128::from_ne_bytes(*record).to_ne_bytes();
            self.len += A_RECORD_LEN;
        } else {
            self.put(answer.body);
        }
        if rotation != 0 && answer.rotate_count() > 1 {
            let run_at = start + answer.rotate_at();
            let (count, stride) = (answer.rotate_count(), answer.rotate_stride());
            if let Some(run) = self.message.get_mut(run_at..run_at + count * stride) {
                run.rotate_left(rotation % count * stride);
            }
        }
        Written {
            answers: answer.answer_count(),
            additionals: answer.additional_count(),
            ..Written::default()
        }
    }

    /// What a table has on a name.
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
            Found::Answer(answer) | Found::Alias(answer) => {
                return self.by_record(answer, subject, rotation, room);
            }
            Found::Pod(pod) => return self.pod(pod, qtype, subject, table.ttl_secs(), room),
            Found::Outside | Found::Unlisted => return Written::default(),
            Found::Soa(apex)
            | Found::NoData(apex)
            | Found::NxDomain(apex)
            | Found::Unsynced(apex) => *apex,
        };
        match table.apex {
            ApexRecords::None => return Written::default(),
            ApexRecords::Kubernetes => {}
        }
        if SOA_LEN > room {
            return Written { truncated: true, ..Written::default() };
        }
        let written = self.negative(apex, table, subject);
        if matches!(found, Found::Soa(_)) {
            return Written { answers: 1, ..Written::default() };
        }
        written
    }

    /// What tables have on a name that others, or other tables, led to.
    pub(crate) fn end(
        &mut self,
        end: &End<'_>,
        qtype: u16,
        mut subject: Subject,
        rotation: usize,
        mut room: usize,
    ) -> Written {
        let mut written = Written::default();
        if let Some(cnames) = &end.cnames {
            let before = self.len;
            written = self.by_record(cnames, subject, 0, room);
            // What has no room is not there to be pointed at.
            if written.truncated {
                return written;
            }
            room -= self.len - before;
            let len = cnames.target().len();
            subject = Subject { at: self.len - len, len };
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

    /// Record by record, until one does not fit: for answers that are too long, and for names that were asked in another
    /// spelling than the stored one or stand elsewhere, where pointers move by the difference.
    pub(crate) fn by_record(
        &mut self,
        answer: &Answer<'_>,
        subject: Subject,
        rotation: usize,
        mut room: usize,
    ) -> Written {
        let mut written = Written::default();
        let body_at = self.len;
        let total = answer.answer_count() + answer.additional_count();
        let rotated = RotatedRecords::new(answer, rotation);
        for (index, record) in (0..total).zip(rotated) {
            let is_answer = index < answer.answer_count();
            let owner = moved_owner(record, is_answer, answer.name_len, subject, body_at);
            let Some(owner) = owner.filter(|_| record.len() <= room) else {
                written.truncated = true;
                break;
            };
            room -= record.len();
            self.put(&owner.to_be_bytes());
            self.put(record.get(2..).unwrap_or_default());
            if is_answer {
                written.answers += 1;
            } else {
                written.additionals += 1;
            }
        }
        written
    }

    /// A pod's own address; for SRV what CoreDNS makes of it: port 0 at the name that begins with the address.
    fn pod(
        &mut self,
        pod: &PodName,
        qtype: u16,
        subject: Subject,
        ttl_secs: u32,
        room: usize,
    ) -> Written {
        if qtype != TYPE_SRV {
            return match self.pod_address(pod, subject.pointer(0), ttl_secs, room) {
                Some(_) => Written { answers: 1, ..Written::default() },
                None => Written { truncated: true, ..Written::default() },
            };
        }
        let target = subject.at + pod.name_offset..subject.at + subject.len;
        let len = 12 + 6 + target.len();
        if len > room || self.len + len > self.message.len() {
            return Written { truncated: true, ..Written::default() };
        }
        self.fixed(subject.pointer(0), TYPE_SRV, ttl_secs, 6 + target.len());
        self.put(&[0, 0, 0, 100, 0, 0]);
        let copy = self.len..self.len + target.len();
        self.message.copy_within(target, self.len);
        self.message.get_mut(copy.clone()).unwrap_or_default().make_ascii_lowercase();
        self.len = copy.end;
        let address = self.pod_address(pod, subject.pointer(pod.name_offset), ttl_secs, room - len);
        Written {
            answers: 1,
            additionals: u16::from(address.is_some()),
            truncated: address.is_none(),
            ..Written::default()
        }
    }

    /// A pod's address record; `None`, and nothing written, if it does not fit.
    fn pod_address(&mut self, pod: &PodName, owner: u16, ttl_secs: u32, room: usize) -> Option<()> {
        let (v4, v6);
        let (rtype, octets): (u16, &[u8]) = match pod.address {
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

    /// Owner, type, class, TTL and length of a record.
    pub(super) fn fixed(&mut self, owner: u16, rtype: u16, ttl_secs: u32, rdata_len: usize) {
        self.put(&owner.to_be_bytes());
        self.put(&rtype.to_be_bytes());
        self.put(&CLASS_IN.to_be_bytes());
        self.put(&ttl_secs.to_be_bytes());
        self.put(&(rdata_len as u16).to_be_bytes());
    }

    /// The zone's SOA in the authority section (RFC 2308, section 3).
    #[inline(always)]
    pub(super) fn negative(&mut self, apex: Apex, table: &Table, subject: Subject) -> Written {
        self.soa(apex, table, subject);
        Written { authorities: 1, ..Written::default() }
    }

    /// The zone's SOA: the table's, pointed at the zone in the name.
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

    /// Appends the OPT and writes the header but for the id.
    #[inline(always)]
    pub(crate) fn finish(
        mut self,
        flags: u16,
        rcode: Rcode,
        written: Written,
        edns: Option<Edns>,
    ) -> Stamped {
        let mut additionals = written.additionals;
        if let Some(edns) = edns {
            // Owner root, class = the size we take, then the upper bits of the rcode, version 0, DO as asked (RFC 6891, 6.1.3).
            let [size0, size1] = UDP_LEN_MAX.to_be_bytes();
            let rcode_upper = (rcode as u16 >> 4) as u8;
            let dnssec_ok = u8::from(edns.dnssec_ok) << 7;
            let opt: [u8; OPT_LEN] =
                [0, 0, TYPE_OPT as u8, size0, size1, rcode_upper, 0, dnssec_ok, 0, 0, 0];
            self.put(&opt);
            additionals += 1;
        }
        let truncated = if written.truncated { TC } else { 0 };
        let flags = QR | flags | truncated | (rcode as u16 & 0xF);
        let counts = u64::from(self.has_question) << 48
            | u64::from(written.answers) << 32
            | u64::from(written.authorities) << 16
            | u64::from(additionals);
        if let Some(header) = self.message.first_chunk_mut::<HEADER_LEN>() {
            header[2..4].copy_from_slice(&flags.to_be_bytes());
            header[4..].copy_from_slice(&counts.to_be_bytes());
        }
        Stamped { len: self.len, rcode }
    }
}

/// The first two bytes of a stored record about the subject, in a body that stands at `body_at`. `None` where a pointer does not
/// reach. An owner that points behind the question was compressed against a name of `stored_len`. So was one that points at the
/// question's name without owning an answer: it means the stored name, which may end a longer one that was asked.
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
        NAME_POINTER => subject.at + subject.len - stored_len,
        0xC000.. => usize::from(owner & 0x3FFF) - (HEADER_LEN + stored_len + 4) + body_at,
        // Spelt out.
        _ => return Some(owner),
    };
    (place <= POINTER_MAX).then_some(0xC000 | place as u16)
}

const _: () = assert!(TYPE_OPT <= 0xFF);
