//! An upstream's answer: doubted by `read`, once, and kept as a `Response` that can be sent to any client.
//!
//! A response's body is its records as they follow a question whose name stands at offset 12. Where each TTL and each
//! compression pointer lies is known, so a copy is patched without a look at the records. Invariant: a `Response` holds
//! nothing but records that belong to its question, each whole, without OPT.

mod layout;
mod name;
mod own_target;
mod reader;

use alloc::boxed::Box;

use crate::header::{AA, AD, HEADER_LEN, RA, Rcode, TC, u16_at};
use crate::name::NAME_LEN_MAX;
use crate::query::Query;
use crate::reply::{End, Envelope, Reply, Stamped, Subject, Written};
use crate::table::Answer;

/// The longest TTL: one with the top bit set is a long one, not 0 (RFC 8767, section 4, which changes RFC 2181, section 8).
pub const TTL_SECS_MAX: u32 = i32::MAX as u32;

/// How far CNAMEs in front of a response may push it back: ten of the longest, and as much again as the client's question may
/// be longer than the response's.
const ALIAS_LEN_MAX: usize = 11 * (2 + 10 + NAME_LEN_MAX);

/// What was asked of the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'q> {
    pub id: u16,
    /// Wire format, uncompressed, 1 to 255 bytes, in the case in which it was sent.
    pub name: &'q [u8],
    pub qtype: u16,
    pub qclass: u16,
    /// The name must come back in the very case in which it was sent, which was drawn at random
    /// (draft-vixie-dnsext-dns0x20).
    pub case_must_match: bool,
}

/// What an upstream's packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamPacket {
    /// The answer to the question.
    Answer(Response),
    /// The answer to the question, cut by the upstream (TC): the whole records that came.
    Truncated(Response),
    /// Not a response, or to another question: forged or late. The answer may still come.
    Foreign,
    /// The answer to the question, but not to be read.
    Malformed,
}

/// An upstream's answer in stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The header's four bits below OPT's eight (RFC 6891, section 6.1.3).
    pub rcode: u16,
    pub kind: Kind,
    /// AA
    pub authoritative: bool,
    /// AD
    pub authenticated: bool,
    /// RA
    pub recursion_available: bool,
    /// TC: the upstream left records out.
    pub truncated: bool,
    /// OPT was there: the upstream knows EDNS (RFC 6891, section 6.1.1).
    pub has_opt: bool,
    /// The lowest TTL of all records; `None` without records.
    pub ttl_secs_min: Option<u32>,
    /// The last field of the authority section's SOA: how long its absences may be remembered (RFC 2308, section 5).
    pub soa_minimum_secs: Option<u32>,
    /// When the first of the signatures ends: unix seconds modulo 2^32 (RFC 4034, section 3.1.5).
    pub signatures_end_unix_secs: Option<u32>,
    /// Length of the question's name, which the body was compressed against.
    name_len: usize,
    /// Answer, authority and additional records.
    counts: [u16; 3],
    /// How many of the answer's first records are its chain: CNAMEs, DNAMEs and their signatures.
    chain_record_count: u16,
    /// Of `Kind::OwnTarget`: the name that the last CNAME leads to.
    own_target: Option<own_target::SpelledName>,
    body: Box<[u8]>,
    /// Of the TTL of each record, from the body's begin.
    ttl_offsets: Box<[u16]>,
    /// Of each compression pointer, from the body's begin.
    pointer_offsets: Box<[u16]>,
    addresses: Run,
}

/// What an answer says of its question (RFC 2308, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of the type that was asked for.
    Success,
    /// The name, or the last one of its CNAME chain, has none of the type. Without an SOA it is only for this one client.
    NoData,
    /// The name, or the last one of its CNAME chain, does not exist.
    NxDomain,
    /// No answer but the name servers of a zone that the name belongs to.
    Delegation,
    /// Another response code.
    Failure,
    /// CNAMEs that lead to a name which this server itself speaks for, and no more: see `Response::cut_at_own_target`.
    OwnTarget,
}

/// A run of address records of one length: what `loadbalance` rotates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    /// Offset in the body.
    at: usize,
    count: usize,
    stride: usize,
}

impl Response {
    /// The answer where no upstream gave one: SERVFAIL, and no more.
    #[must_use]
    pub fn server_failure() -> Self {
        Self::without_records(0, Rcode::ServFail as u16)
    }

    /// Records in the answer section.
    #[must_use]
    pub fn answer_count(&self) -> u16 {
        self.counts[0]
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        size_of::<Self>()
            + self.body.len()
            + 2 * (self.ttl_offsets.len() + self.pointer_offsets.len())
    }
}

/// Reads an upstream's packet.
///
/// The response must have the id, the question, QR, opcode 0 and one question (RFC 5452, section 9.1). A response without a
/// question is taken for what it says if it is an error without records: servers that cannot read a query, or will not, send
/// such. Not so where the case must match: the case is what proves such a response.
///
/// Of the records those are kept that answer the question (RFC 5452, section 6; RFC 2181, section 5.4.1):
/// * answers whose owner is the question's name or on the CNAME chain that begins there, and the DNAMEs above it;
/// * of the authority section records whose owner is a name of the chain or above one, and proofs of absence (NSEC,
///   NSEC3), which name no host and prove themselves;
/// * additional records that an answer or authority record names.
///
/// CNAMEs are put before what they lead to, in the order of their chain, whatever order they came in.
///
/// More than 11 CNAMEs are malformed. TTLs are `TTL_SECS_MAX` at most.
///
/// Work for n bytes of packet: three passes over the records, at most 11 more over the CNAMEs, and in each at most three
/// names of 255 bytes a record.
#[must_use]
pub fn read(packet: &[u8], asked: &Asked<'_>) -> UpstreamPacket {
    reader::read(packet, asked)
}

/// What becomes of the TTLs of a response's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlRule {
    /// Each keeps its own within bounds, less the time that the response has been kept; 0 at the least.
    Aged { age_secs: u32, secs_min: u32, secs_max: u32 },
    /// All have this one: of an answer that has expired (RFC 8767, section 4).
    Fixed { secs: u32 },
}

impl TtlRule {
    /// As the upstream sent them.
    pub const AS_SENT: Self = Self::Aged { age_secs: 0, secs_min: 0, secs_max: u32::MAX };

    #[inline]
    fn apply(self, ttl_secs: u32) -> u32 {
        match self {
            Self::Aged { age_secs, secs_min, secs_max } => {
                ttl_secs.max(secs_min).min(secs_max).saturating_sub(age_secs)
            }
            Self::Fixed { secs } => secs,
        }
    }
}

/// CNAMEs of the table that lead from the client's question to the response's.
#[derive(Clone, Copy, Debug)]
pub struct Alias<'t> {
    /// Nothing but CNAMEs, at most ten. The last one's data is the last thing in the body, and the name that the response was
    /// asked for.
    pub answer: Answer<'t>,
}

/// Writes a response to the client whose query begins `message`, as in `reply`.
///
/// AD is given to those who asked for it by DO or AD (RFC 6840, section 5.8), and not with an alias, which nobody signed; AA with
/// an alias, since it speaks of the first name (RFC 1035, section 4.1.1). What does not fit is cut between records, from the
/// end of the last section, with TC. Response codes of more than four bits are about the way to the upstream (EDNS version, cookies,
/// signatures): SERVFAIL here.
///
/// `end`: what tables have on the name that a `Kind::OwnTarget` leads to. It stands behind, the response code is theirs then, and AD is
/// not given.
pub fn stamp(
    query: &Query,
    response: &Response,
    ttl: TtlRule,
    alias: Option<Alias<'_>>,
    end: Option<&End<'_>>,
    envelope: Envelope,
    message: &mut [u8],
) -> Stamped {
    let end = end.zip(response.own_target);
    let wants_ad = query.dnssec_ok() || u16_at(message, 2) & AD != 0;
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let mut room = reply.room(envelope.len_max);
    let mut written = Written::default();
    let mut name_at = HEADER_LEN;
    if let Some(Alias { answer }) = &alias {
        let before = reply.len;
        written = reply.by_record(answer, Subject::question(query), 0, room);
        room -= reply.len - before;
        name_at = reply.len.saturating_sub(response.name_len);
    }
    if !written.truncated {
        let (record_count, len) = response.records_within(room);
        let copy_at = reply.len;
        reply.put_rotated(response, envelope.rotation, len);
        let copy = reply.message.get_mut(copy_at..).unwrap_or_default();
        response.patch_ttls(record_count, ttl, copy);
        if alias.is_some() {
            response.move_pointers(len, name_at, copy_at, copy);
        }
        written.add(response, record_count);
        room -= len;
        if let Some((end, spelt)) = end
            && !written.truncated
        {
            let (rotation, subject) = (envelope.rotation, spelt.in_message(copy_at));
            written.join(reply.end(end, query.qtype, subject, rotation, room));
        }
    }
    let rcode = end.map_or_else(|| Rcode::for_client(response.rcode), |(end, _)| end.rcode());
    let mut flags = query.kept_flags;
    if response.authoritative || alias.is_some() {
        flags |= AA;
    }
    if response.recursion_available {
        flags |= RA;
    }
    if response.truncated {
        flags |= TC;
    }
    if response.authenticated && wants_ad && alias.is_none() {
        flags |= AD;
    }
    reply.finish(flags, rcode, written, query.edns)
}

impl Response {
    fn without_records(flags: u16, rcode: u16) -> Self {
        Self {
            rcode,
            kind: Kind::Failure,
            authoritative: flags & AA != 0,
            authenticated: flags & AD != 0,
            recursion_available: flags & RA != 0,
            truncated: flags & TC != 0,
            has_opt: false,
            ttl_secs_min: None,
            soa_minimum_secs: None,
            signatures_end_unix_secs: None,
            name_len: 1,
            counts: [0; 3],
            chain_record_count: 0,
            own_target: None,
            body: Box::default(),
            ttl_offsets: Box::default(),
            pointer_offsets: Box::default(),
            addresses: Run::default(),
        }
    }

    /// How many records fit into `room` bytes, and their length.
    fn records_within(&self, room: usize) -> (usize, usize) {
        if self.body.len() <= room {
            return (self.ttl_offsets.len(), self.body.len());
        }
        let ends = self.ttl_offsets.iter().map(|offset| {
            let at = usize::from(*offset);
            at + 6 + usize::from(u16_at(&self.body, at + 4))
        });
        ends.take_while(|end| *end <= room).fold((0, 0), |(count, _), end| (count + 1, end))
    }

    /// `copy` begins with the first `record_count` records.
    fn patch_ttls(&self, record_count: usize, ttl: TtlRule, copy: &mut [u8]) {
        for offset in self.ttl_offsets.iter().take(record_count) {
            let field = copy.get_mut(usize::from(*offset)..).and_then(<[u8]>::first_chunk_mut);
            let Some(field) = field else { return };
            *field = ttl.apply(u32::from_be_bytes(*field)).to_be_bytes();
        }
    }

    /// Makes the pointers in `len` bytes of body right for a message where the body stands at `copy_at` and the question's
    /// name at `name_at`.
    fn move_pointers(&self, len: usize, name_at: usize, copy_at: usize, copy: &mut [u8]) {
        let name_end = HEADER_LEN + self.name_len;
        for offset in self.pointer_offsets.iter().take_while(|offset| usize::from(**offset) < len) {
            let field = copy.get_mut(usize::from(*offset)..).and_then(<[u8]>::first_chunk_mut);
            let Some(field) = field else { return };
            let place = usize::from(u16::from_be_bytes(*field) & 0x3FFF);
            let moved = if place < name_end {
                place - HEADER_LEN + name_at
            } else {
                place - (name_end + 4) + copy_at
            };
            debug_assert!(moved <= 0x3FFF, "an alias of more than {ALIAS_LEN_MAX} bytes");
            *field = (0xC000 | moved as u16).to_be_bytes();
        }
    }
}

impl Reply<'_> {
    /// The first `len` bytes of the body after its addresses have been rotated. They have one length, so whole records stay
    /// whole.
    fn put_rotated(&mut self, response: &Response, rotation: usize, mut len: usize) {
        let Run { at, count, stride } = response.addresses;
        let turn = rotation % count.max(1) * stride;
        if turn == 0 {
            return self.put(response.body.get(..len).unwrap_or_default());
        }
        let (head, rest) = response.body.split_at_checked(at).unwrap_or_default();
        let (run, tail) = rest.split_at_checked(count * stride).unwrap_or_default();
        let (run_end, run_start) = run.split_at_checked(turn).unwrap_or_default();
        for part in [head, run_start, run_end, tail] {
            let part = part.get(..len).unwrap_or(part);
            self.put(part);
            len -= part.len();
        }
    }
}

impl Written {
    /// The first `record_count` records of a response.
    fn add(&mut self, response: &Response, record_count: usize) {
        let mut left = record_count as u16;
        let sections = [&mut self.answers, &mut self.authorities, &mut self.additionals];
        for (count, of_section) in sections.into_iter().zip(response.counts) {
            let fitting = left.min(of_section);
            *count += fitting;
            left -= fitting;
        }
        self.truncated = record_count < response.ttl_offsets.len();
    }
}
