//! Upstreams' responses: `read` validates them, and a `Response` can be stamped for any client.
//!
//! A response's body is its records, as they follow a question whose name is at offset 12. The
//! offsets of all TTLs and compression pointers are kept with it, so that stamping copies and
//! patches it without parsing records. Invariant: a `Response` has only whole records that belong
//! to its question, and no OPT.

pub(crate) mod layout;
pub(crate) mod name;
mod own_target;
mod reader;

use alloc::boxed::Box;

use crate::answer::Answer;
use crate::cut::Cut;
use crate::header::{AA, AD, HEADER_LEN, RA, Rcode, TC, u16_at};
use crate::name::{NAME_LEN_MAX, Name};
use crate::query::Query;
use crate::record::Counts;
use crate::reply::{End, Envelope, Reply, Stamped, Subject, Written};
use crate::turn::turn;

/// The longest TTL: one with the top bit set is a long one, not 0 (RFC 8767, section 4, which
/// changes RFC 2181, section 8).
pub const TTL_SECS_MAX: u32 = i32::MAX as u32;

/// Most bytes by which a body moves when CNAMEs come in front of it: ten of the longest, and one
/// more for a question that is longer than the response's.
pub(crate) const ALIAS_LEN_MAX: usize = 11 * (2 + 10 + NAME_LEN_MAX);

/// The query that was sent to the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'q> {
    pub id: u16,
    /// Wire format, uncompressed, 1 to 255 bytes, in the case that was sent.
    pub name: &'q [u8],
    pub qtype: u16,
    pub qclass: u16,
    /// The response must repeat the name in the same case, which was random
    /// (draft-vixie-dnsext-dns0x20).
    pub case_must_match: bool,
}

/// What a packet from an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamPacket {
    /// The response to the query.
    Answer(Response),
    /// The response to the query, truncated by the upstream (TC): its whole records.
    Truncated(Response),
    /// No response, or one to another query: forged or late. The response may still come.
    Foreign,
    /// The response to the query, but it cannot be read.
    Malformed,
}

/// An upstream's response in stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The header's four bits, and above them the eight bits of the OPT (RFC 6891, section 6.1.3).
    pub rcode: u16,
    pub kind: Kind,
    /// AA
    pub authoritative: bool,
    /// AD
    pub authenticated: bool,
    /// RA
    pub recursion_available: bool,
    /// TC: the upstream left out records.
    pub truncated: bool,
    /// The response had an OPT, so the upstream supports EDNS (RFC 6891, section 6.1.1).
    pub has_opt: bool,
    /// The lowest TTL of all records; `None` without records.
    pub ttl_secs_min: Option<u32>,
    /// The minimum field of the authority section's SOA: how long to cache a negative response (RFC
    /// 2308, section 5).
    pub soa_minimum_secs: Option<u32>,
    /// When the first signature expires: unix seconds modulo 2^32 (RFC 4034, section 3.1.5).
    pub signatures_end_unix_secs: Option<u32>,
    /// Length of the question's name, which the body was compressed against.
    name_len: usize,
    /// The numbers of answer, authority and additional records.
    counts: [u16; 3],
    /// The number of records at the start of the answer that are its chain: CNAMEs, DNAMEs and
    /// their signatures.
    chain_record_count: u16,
    /// Of a `Kind::OwnTarget`: the target of the last CNAME.
    own_target: Option<own_target::SpelledName>,
    body: Box<[u8]>,
    /// Offsets in the body of the records' TTLs.
    ttl_offsets: Box<[u16]>,
    /// Offsets in the body of the compression pointers.
    pointer_offsets: Box<[u16]>,
    addresses: Run,
}

/// What a response says about its question (RFC 2308, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has records of the question's type.
    Success,
    /// The name, or the end of its CNAME chain, has no records of the type. Without an SOA it must
    /// not be cached.
    NoData,
    /// The name, or the end of its CNAME chain, does not exist.
    NxDomain,
    /// It has no answer, only the name servers of a zone that encloses the name.
    Delegation,
    /// It has another response code.
    Failure,
    /// It has only CNAMEs, which lead to one of this server's own names: see
    /// `Response::cut_at_own_target`.
    OwnTarget,
}

/// Consecutive address records of one length, which `loadbalance` rotates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    /// Offset in the body.
    at: usize,
    count: usize,
    stride: usize,
}

impl Response {
    /// The response if no upstream gives one: SERVFAIL without records.
    #[must_use]
    pub fn server_failure() -> Self {
        Self::without_records(0, Rcode::ServFail as u16)
    }

    /// The number of records in the answer section.
    #[must_use]
    pub fn answer_count(&self) -> u16 {
        self.counts[0]
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        size_of::<Self>()
            + self.body.len()
            + 2 * (self.ttl_offsets.len() + self.pointer_offsets.len())
    }
}

/// Reads a packet from an upstream.
///
/// The response must have the query's id and question, QR, opcode 0 and one question (RFC 5452,
/// section 9.1). An error without question and records is accepted too, because servers that cannot
/// parse a query, or refuse to, send such responses; but not if the case must match, because the
/// case of the name is what proves such a response.
///
/// Only records that belong to the question are kept (RFC 5452, section 6; RFC 2181, section
/// 5.4.1):
/// * answers whose owner is on the CNAME chain that begins with the question's name, and the DNAMEs
///   above it;
/// * authority records whose owner is a name of the chain or above one, and proofs of absence
///   (NSEC, NSEC3), which name no host and prove themselves;
/// * additional records whose owner an answer or authority record names.
///
/// CNAMEs come first, in the order of the chain, whatever their order in the packet. A response
/// with more than 11 CNAMEs is malformed. TTLs are at most `TTL_SECS_MAX`.
///
/// Work for n bytes of packet: three passes over the records, at most 11 more over the CNAMEs, and
/// in each pass at most three names of 255 bytes per record.
#[must_use]
pub fn read(packet: &[u8], asked: &Asked<'_>) -> UpstreamPacket {
    reader::read(packet, asked, reader::Kept::OfQuestion)
}

/// Reads a response that this server has made, as `read` does, but keeps all its records: plugins
/// decide which ones belong to a question, such as those of a name that was rewritten.
#[must_use]
pub fn read_own(packet: &[u8], asked: &Asked<'_>) -> UpstreamPacket {
    reader::read(packet, asked, reader::Kept::All)
}

/// The TTLs with which a response's records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlRule {
    /// Each record's own, clamped, minus the response's age, but not below 0.
    Aged { age_secs: u32, secs_min: u32, secs_max: u32 },
    /// The same for all records, for a response that has expired (RFC 8767, section 4).
    Fixed { secs: u32 },
}

impl TtlRule {
    /// The upstream's.
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

/// CNAMEs that lead from the client's question to the response's.
#[derive(Clone, Copy, Debug)]
pub struct Alias<'t> {
    /// Of a `Found::Alias`. It leads to the response's question.
    pub answer: Answer<'t>,
    /// The table is the authority for the question's name.
    pub is_authority: bool,
}

/// Writes a response over the client's query in `message`, as in `reply`.
///
/// AD is set for clients that asked for it by DO or AD (RFC 6840, section 5.8), but not with an
/// alias, which has no signature. AA is set with an alias of an authority, because AA is about the
/// first name (RFC 1035, section 4.1.1). What does not fit is cut as `cut` has it: the upstream was
/// asked for up to 1232 bytes, and added what it would have left out for this client. A response
/// code of more than four bits becomes SERVFAIL, because it is about the exchange with the upstream
/// (EDNS version, cookies, signatures).
///
/// `end`: what tables have for the target of a `Kind::OwnTarget`. It comes after the CNAMEs and
/// decides the response code.
pub fn stamp(
    query: &Query,
    response: &Response,
    ttl: TtlRule,
    alias: Option<Alias<'_>>,
    end: Option<&End<'_>>,
    envelope: Envelope,
    message: &mut [u8],
) -> Stamped {
    let end = end.zip(response.own_target()).map(|(end, target)| {
        let question = message.get(HEADER_LEN..).and_then(Name::from_wire);
        let before = alias.as_ref().zip(question);
        end.without_circle(target, |owner| {
            before.as_ref().is_some_and(|(alias, name)| alias.answer.has_cname_of(name, owner))
        })
    });
    let end = end.as_ref().zip(response.own_target);
    let wants_ad = query.dnssec_ok() || u16_at(message, 2) & AD != 0;
    let is_authority = response.authoritative || alias.is_some_and(|alias| alias.is_authority);
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    reply.is_authority = is_authority;
    let mut room = reply.room(envelope.len_max);
    let mut written = Written::default();
    let mut name_at = HEADER_LEN;
    if let Some(Alias { answer, .. }) = &alias {
        let before = reply.len;
        let target;
        (written, target) = reply.alias(answer, Subject::question(query), room);
        room -= reply.len - before;
        name_at = target.map_or(name_at, |target| target.at);
    }
    if !written.truncated {
        let cut = response.records_within(room, is_authority, alias.is_some());
        let (record_count, len) = (cut.counts.total(), cut.end);
        let copy_at = reply.len;
        reply.put_rotated(response, envelope.rotation, len);
        let copy = reply.message.get_mut(copy_at..).unwrap_or_default();
        response.patch_ttls(record_count, ttl, copy);
        if alias.is_some() {
            response.move_pointers(len, name_at, copy_at, copy);
        }
        written.join(Written { counts: cut.counts, truncated: cut.is_truncated });
        room -= len;
        if let Some((end, spelled)) = end
            && !written.truncated
        {
            let (rotation, subject) = (envelope.rotation, spelled.in_message(copy_at));
            written.join(reply.end(end, query.qtype, subject, rotation, room));
        }
    }
    let rcode = end.map_or_else(|| Rcode::for_client(response.rcode), |(end, _)| end.rcode());
    let mut flags = query.kept_flags;
    if is_authority {
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

    /// The records that are sent within `room` bytes. `has_cnames`: others come before them.
    fn records_within(&self, room: usize, is_authority: bool, has_cnames: bool) -> Cut<'_> {
        let mut cut = Cut::new(0, is_authority, has_cnames);
        let counts = Counts::of_sections(self.counts);
        if self.body.len() <= room {
            (cut.counts, cut.end) = (counts, self.body.len());
            return cut;
        }
        let mut start = 0;
        for (index, offset) in self.ttl_offsets.iter().enumerate() {
            let ttl_at = usize::from(*offset);
            let end = ttl_at + 6 + usize::from(u16_at(&self.body, ttl_at + 4));
            // Behind the owner come the type and the class.
            let type_at = ttl_at - 4;
            let owner = self.body.get(start..type_at).unwrap_or_default();
            let fitting = Some(end).filter(|end| *end <= room);
            cut.keeps(counts.section_of(index), owner, u16_at(&self.body, type_at), fitting);
            start = end;
        }
        cut
    }

    /// Sets the TTLs of the first `record_count` records, which are at the start of `copy`.
    fn patch_ttls(&self, record_count: usize, ttl: TtlRule, copy: &mut [u8]) {
        for offset in self.ttl_offsets.iter().take(record_count) {
            let field = copy.get_mut(usize::from(*offset)..).and_then(<[u8]>::first_chunk_mut);
            let Some(field) = field else { return };
            *field = ttl.apply(u32::from_be_bytes(*field)).to_be_bytes();
        }
    }

    /// Corrects the pointers in the first `len` bytes of the body for a message that has the body
    /// at `copy_at` and the response's question name at `name_at`.
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
    /// Writes the first `len` bytes of the body, as they are after its addresses have been rotated.
    /// Addresses have one length, so records stay whole.
    fn put_rotated(&mut self, response: &Response, rotation: usize, mut len: usize) {
        let Run { at, count, stride } = response.addresses;
        let turn = turn(rotation, count) * stride;
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
