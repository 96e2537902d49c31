//! Validates an upstream's packet, and copies what belongs to the question into a `Response`.
//!
//! Invariant: every packet has an outcome, after an amount of work that its length bounds (see
//! `super::read`).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rapidhash::v3::rapidhash_v3;

use super::layout::{Layout, TYPE_DNAME};
use super::name::{Compression, MessageName, Writer};
use super::{Asked, Kind, Response, Run, TTL_SECS_MAX, UpstreamPacket};
use crate::header::{
    HEADER_LEN, OPCODE, QR, Rcode, TC, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_CNAME, TYPE_NS, TYPE_OPT,
    TYPE_SOA, u16_at,
};
use crate::name::NAME_LEN_MAX;
use crate::record::{MessageSection, RecordHead, Records};
use crate::reply::MESSAGE_LEN_MAX;

/// Most CNAMEs of a chain, as in Unbound.
const CNAME_COUNT_MAX: usize = 11;

const TYPE_SIG: u16 = 24;
pub(super) const TYPE_RRSIG: u16 = 46;
const TYPE_NSEC: u16 = 47;
const TYPE_NSEC3: u16 = 50;
const TYPE_TSIG: u16 = 250;

/// Which records of a packet are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Those that belong to the question.
    OfQuestion,
    All,
}

pub(super) fn read(packet: &[u8], asked: &Asked<'_>, kept: Kept) -> UpstreamPacket {
    let Some(header) = packet.first_chunk::<HEADER_LEN>() else { return UpstreamPacket::Foreign };
    let flags = u16_at(header, 2);
    if u16_at(header, 0) != asked.id || flags & QR == 0 || flags & OPCODE != 0 {
        return UpstreamPacket::Foreign;
    }
    let counts = [u16_at(header, 6), u16_at(header, 8), u16_at(header, 10)];
    match u16_at(header, 4) {
        0 if is_bare_error(flags, counts) && !asked.case_must_match => {
            let has_opt = counts[2] > 0;
            let bare = Response::without_records(flags, flags & 0xF);
            UpstreamPacket::Answer(Response { has_opt, ..bare })
        }
        1 if is_question(packet, asked) => {
            let Some(response) = read_behind_question(packet, asked, kept, flags, counts) else {
                return UpstreamPacket::Malformed;
            };
            if flags & TC == 0 {
                UpstreamPacket::Answer(response)
            } else {
                UpstreamPacket::Truncated(response)
            }
        }
        _ => UpstreamPacket::Foreign,
    }
}

/// Whether it is an error without records, other than an OPT.
fn is_bare_error(flags: u16, [answers, authorities, additionals]: [u16; 3]) -> bool {
    const ERRORS: [Rcode; 4] = [Rcode::FormErr, Rcode::ServFail, Rcode::NotImp, Rcode::Refused];
    let is_error = ERRORS.iter().any(|rcode| *rcode as u16 == flags & 0xF);
    is_error && answers == 0 && authorities == 0 && additionals <= 1
}

fn is_question(packet: &[u8], asked: &Asked<'_>) -> bool {
    let end = HEADER_LEN + asked.name.len();
    let Some(name) = packet.get(HEADER_LEN..end) else { return false };
    let is_same_name = if asked.case_must_match {
        name == asked.name
    } else {
        name.eq_ignore_ascii_case(asked.name)
    };
    is_same_name
        && packet.len() >= end + 4
        && u16_at(packet, end) == asked.qtype
        && u16_at(packet, end + 2) == asked.qclass
}

fn read_behind_question(
    packet: &[u8],
    asked: &Asked<'_>,
    kept: Kept,
    flags: u16,
    counts: [u16; 3],
) -> Option<Response> {
    let (question, question_end) = MessageName::read(packet, HEADER_LEN)?;
    let mut records = records(packet, question_end + 4, counts, flags & TC != 0)?;
    let rcode = rcode_upper(&records)? << 4 | flags & 0xF;
    let mut reader = Reader::new(packet, asked, kept, question);
    reader.response.has_opt = records.iter().any(|record| record.head.rtype == TYPE_OPT);
    reader.follow_cnames(&records)?;
    reader.put_chain_first(&mut records);
    for record in &records {
        reader.keep(record)?;
    }
    Some(reader.finish(flags, rcode))
}

/// A record of the packet, and its section.
struct Record {
    section: MessageSection,
    head: RecordHead,
}

impl Record {
    /// The type, or for a signature the type that it signs (RFC 4034, section 3.1).
    fn type_covered(&self, packet: &[u8]) -> u16 {
        let RecordHead { rtype, rdata, .. } = &self.head;
        if *rtype == TYPE_RRSIG { u16_at(packet, rdata.start) } else { *rtype }
    }
}

/// All records, in order. If the message is truncated, those that are whole.
fn records(packet: &[u8], at: usize, counts: [u16; 3], is_truncated: bool) -> Option<Vec<Record>> {
    let records = Records::new(packet, at, counts).map(|(section, head)| Record { section, head });
    let records: Vec<Record> = records.collect();
    let count: usize = counts.iter().map(|count| usize::from(*count)).sum();
    (records.len() == count || is_truncated).then_some(records)
}

/// The eight bits of the response code that are in the OPT. It is in the additional section, owned
/// by the root (RFC 6891, section 6.1.1). There should be one; of several, the first counts,
/// because nothing else of the response depends on them.
fn rcode_upper(records: &[Record]) -> Option<u16> {
    let opts = || records.iter().filter(|record| record.head.rtype == TYPE_OPT);
    let Some(first) = opts().next() else { return Some(0) };
    let are_valid =
        opts().all(|opt| opt.section == MessageSection::Additional && opt.head.is_of_root());
    are_valid.then_some((first.head.ttl_secs >> 24) as u16)
}

/// A name whose records are accepted as answers: the question's, then each CNAME's target.
struct ChainName {
    name: MessageName,
    /// Its offset in the copy, once it has been copied.
    place: Option<u16>,
}

/// The state of copying a packet.
struct Reader<'p> {
    packet: &'p [u8],
    asked: Asked<'p>,
    kept: Kept,
    /// Begins with the question's name.
    chain: Vec<ChainName>,
    /// Hashes of the names in the data of records that are kept. A collision only keeps an
    /// additional record too many.
    named: BTreeSet<u64>,
    writer: Writer,
    ttl_offsets: Vec<u16>,
    response: Response,
    has_answer: bool,
    has_name_servers: bool,
}

impl<'p> Reader<'p> {
    fn new(packet: &'p [u8], asked: &Asked<'p>, kept: Kept, question: MessageName) -> Self {
        Self {
            packet,
            asked: *asked,
            kept,
            chain: Vec::from([ChainName {
                name: question.clone(),
                place: Some(HEADER_LEN as u16),
            }]),
            named: BTreeSet::new(),
            writer: Writer::new(question, packet.len()),
            ttl_offsets: Vec::new(),
            response: Response::without_records(0, 0),
            has_answer: false,
            has_name_servers: false,
        }
    }

    /// Finds the chain, whatever the order of its CNAMEs. `None` if it is too long.
    fn follow_cnames(&mut self, records: &[Record]) -> Option<()> {
        // A question for the CNAMEs themselves does not follow them (RFC 1034, section 4.3.2).
        if matches!(self.asked.qtype, TYPE_CNAME | TYPE_ANY) {
            return Some(());
        }
        // The chain ends where CNAMEs form a loop.
        while let Some(target) = self.next_in_chain(records)? {
            if self.chain.len() > CNAME_COUNT_MAX {
                return None;
            }
            self.chain.push(ChainName { name: target, place: None });
        }
        Some(())
    }

    /// The target of the first CNAME of the chain's last name. The inner `None`: there is none, or
    /// only names that the chain has already. The outer `None`: a name is malformed.
    fn next_in_chain(&self, records: &[Record]) -> Option<Option<MessageName>> {
        for record in records.iter().filter(|record| self.is_cname(record)) {
            let (owner, _) = MessageName::read(self.packet, record.head.owner_at)?;
            if self.chain.last().is_none_or(|last| !last.name.is(&owner)) {
                continue;
            }
            let (target, _) = MessageName::read(self.packet, record.head.rdata.start)?;
            if !self.chain.iter().any(|known| known.name.is(&target)) {
                return Some(Some(target));
            }
        }
        Some(None)
    }

    fn is_cname(&self, record: &Record) -> bool {
        record.section == MessageSection::Answer
            && record.head.rtype == TYPE_CNAME
            && record.head.class == self.asked.qclass
    }

    /// Moves the chain in front of the other records (RFC 1034, section 4.3.1), because resolvers
    /// of C libraries read the answer once, from the top. All other records keep their order.
    fn put_chain_first(&mut self, records: &mut [Record]) {
        if self.chain.len() == 1 {
            return;
        }
        records.sort_by_cached_key(|record| {
            (record.section as usize, self.place_in_chain(record).unwrap_or(usize::MAX))
        });
        let is_in_chain = |record: &&Record| self.place_in_chain(record).is_some();
        let count = records.iter().take_while(is_in_chain).count();
        self.response.chain_record_count = count as u16;
    }

    /// The place of a record in the chain; `None` if it is not part of it. Each link has first the
    /// DNAME that its CNAME is synthesized from (RFC 6672, section 3.1), then the CNAME. Signatures
    /// follow what they sign.
    fn place_in_chain(&self, record: &Record) -> Option<usize> {
        if record.section != MessageSection::Answer || record.head.class != self.asked.qclass {
            return None;
        }
        let type_covered = record.type_covered(self.packet);
        if !matches!(type_covered, TYPE_CNAME | TYPE_DNAME) {
            return None;
        }
        let (owner, _) = MessageName::read(self.packet, record.head.owner_at)?;
        let mut links = self.chain.iter().zip(self.chain.iter().skip(1));
        let link = match record.head.rtype {
            TYPE_CNAME => {
                let (target, _) = MessageName::read(self.packet, record.head.rdata.start)?;
                links.position(|(from, to)| from.name.is(&owner) && to.name.is(&target))
            }
            _ if type_covered == TYPE_CNAME => links.position(|(from, _)| from.name.is(&owner)),
            _ => links.position(|(from, _)| from.name.is_in(&owner) && !from.name.is(&owner)),
        };
        let is_signature = usize::from(record.head.rtype == TYPE_RRSIG);
        let is_cname = usize::from(type_covered == TYPE_CNAME);
        link.map(|link| 4 * link + 2 * is_cname + is_signature)
    }

    /// Copies a record if it is to be kept.
    fn keep(&mut self, record: &Record) -> Option<()> {
        let is_about_message = record.section == MessageSection::Additional
            && matches!(record.head.rtype, TYPE_OPT | TYPE_SIG | TYPE_TSIG);
        if record.head.class != self.asked.qclass || is_about_message {
            return Some(());
        }
        let (owner, _) = MessageName::read(self.packet, record.head.owner_at)?;
        let chain_index = self.chain.iter().position(|known| known.name.is(&owner));
        let is_kept = match record.section {
            MessageSection::Answer => chain_index.is_some() || self.is_dname_above(record, &owner),
            MessageSection::Authority => self.is_authority(record, &owner),
            MessageSection::Additional => {
                chain_index.is_some() || self.named.contains(&hash(&owner))
            }
        };
        if !is_kept && self.kept == Kept::OfQuestion {
            return Some(());
        }
        let at = self.writer.body.len();
        self.put_owner(&owner, chain_index);
        let ttl_secs = record.head.ttl_secs.min(TTL_SECS_MAX);
        self.writer.put(&record.head.rtype.to_be_bytes());
        self.writer.put(&record.head.class.to_be_bytes());
        self.ttl_offsets.push(self.writer.body.len() as u16);
        self.writer.put(&ttl_secs.to_be_bytes());
        self.put_rdata(record)?;
        // Offsets fit 16 bits as long as a message can hold the body.
        if self.writer.message_len() > MESSAGE_LEN_MAX {
            return None;
        }
        self.note(record, ttl_secs, at);
        Some(())
    }

    fn is_dname_above(&self, record: &Record, owner: &MessageName) -> bool {
        record.type_covered(self.packet) == TYPE_DNAME
            && self.chain.iter().any(|known| known.name.is_in(owner))
    }

    fn is_authority(&self, record: &Record, owner: &MessageName) -> bool {
        matches!(record.type_covered(self.packet), TYPE_NSEC | TYPE_NSEC3)
            || self.chain.iter().any(|known| known.name.is_in(owner))
    }

    fn put_owner(&mut self, owner: &MessageName, chain_index: Option<usize>) {
        match chain_index.and_then(|index| self.chain.get(index)?.place) {
            Some(place) if !owner.is_root() => self.writer.put_pointer(place),
            Some(_) | None => {
                self.writer.put_name(owner, Compression::WithQuestion);
            }
        }
    }

    /// Copies the length and the data. `None` if the data does not have its type's layout.
    fn put_rdata(&mut self, record: &Record) -> Option<()> {
        let len_at = self.writer.body.len();
        self.writer.put(&[0, 0]);
        let end = record.head.rdata.end;
        let layout = Layout::of(record.head.rtype, self.packet.get(record.head.rdata.clone())?)?;
        let mut at = record.head.rdata.start + layout.head_len;
        self.writer.put(self.packet.get(record.head.rdata.start..at)?);
        for _ in 0..layout.name_count {
            let (name, name_end) = MessageName::read(self.packet, at)?;
            at = name_end;
            let place = self.writer.put_name(&name, layout.compression);
            self.named.insert(hash(&name));
            if record.head.rtype == TYPE_CNAME
                && let Some(known) = self.chain.iter_mut().find(|known| known.name.is(&name))
            {
                known.place = known.place.or(place);
            }
        }
        // This also fails if a name ended past the end of the data.
        let tail = self.packet.get(at..end)?;
        if layout.tail_len.is_some_and(|len| len != tail.len()) {
            return None;
        }
        self.writer.put(tail);
        let len = self.writer.body.len() - len_at - 2;
        self.writer.body.get_mut(len_at..len_at + 2)?.copy_from_slice(&(len as u16).to_be_bytes());
        Some(())
    }

    /// Updates the response's properties for a record that has been copied to `at`.
    fn note(&mut self, record: &Record, ttl_secs: u32, at: usize) {
        let response = &mut self.response;
        if let Some(count) = response.counts.get_mut(record.section as usize) {
            *count += 1;
        }
        let lowest = response.ttl_secs_min.map_or(ttl_secs, |lowest| lowest.min(ttl_secs));
        response.ttl_secs_min = Some(lowest);
        let rdata = self.packet.get(record.head.rdata.clone()).unwrap_or_default();
        match (record.section, record.head.rtype) {
            (MessageSection::Answer, rtype)
                if rtype == self.asked.qtype || self.asked.qtype == TYPE_ANY =>
            {
                self.has_answer = true;
                if matches!(rtype, TYPE_A | TYPE_AAAA) {
                    response.addresses.extend(at, self.writer.body.len() - at);
                }
            }
            (MessageSection::Authority, TYPE_SOA) => {
                response.soa_minimum_secs =
                    rdata.last_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            }
            (MessageSection::Authority, TYPE_NS) => self.has_name_servers = true,
            (_, TYPE_RRSIG) => {
                let end = rdata.get(8..).and_then(<[u8]>::first_chunk);
                let end = end.map_or(0, |bytes| u32::from_be_bytes(*bytes));
                let first = response.signatures_end_unix_secs;
                response.signatures_end_unix_secs = Some(first.map_or(end, |first| {
                    // Serial number arithmetic (RFC 1982).
                    if (end.wrapping_sub(first) as i32) < 0 { end } else { first }
                }));
            }
            _ => {}
        }
    }

    fn finish(self, flags: u16, rcode: u16) -> Response {
        let Self { response, writer, .. } = self;
        let kind = if rcode == Rcode::NxDomain as u16 {
            Kind::NxDomain
        } else if rcode != Rcode::NoError as u16 {
            Kind::Failure
        } else if self.has_answer {
            Kind::Success
        } else if self.has_name_servers
            && response.answer_count() == 0
            && response.soa_minimum_secs.is_none()
        {
            Kind::Delegation
        } else {
            Kind::NoData
        };
        Response {
            kind,
            has_opt: response.has_opt,
            name_len: writer.question_name_len(),
            body: writer.body.into_boxed_slice(),
            ttl_offsets: self.ttl_offsets.into_boxed_slice(),
            pointer_offsets: writer.pointer_offsets.into_boxed_slice(),
            ttl_secs_min: response.ttl_secs_min,
            soa_minimum_secs: response.soa_minimum_secs,
            signatures_end_unix_secs: response.signatures_end_unix_secs,
            counts: response.counts,
            chain_record_count: response.chain_record_count,
            addresses: response.addresses,
            ..Response::without_records(flags, rcode)
        }
    }
}

impl Run {
    /// Extends the run by the next address, or begins a new run if it does not continue this one.
    fn extend(&mut self, at: usize, len: usize) {
        if self.count > 0 && self.stride == len && at == self.at + self.count * len {
            self.count += 1;
        } else {
            *self = Self { at, count: 1, stride: len };
        }
    }
}

/// The hash of a name, whatever its case.
fn hash(name: &MessageName) -> u64 {
    let mut folded = [0; NAME_LEN_MAX];
    let folded = folded.get_mut(..name.bytes().len()).unwrap_or_default();
    folded.copy_from_slice(name.bytes());
    folded.make_ascii_lowercase();
    rapidhash_v3(folded)
}
