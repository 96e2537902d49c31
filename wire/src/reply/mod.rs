//! Stamps responses over their queries: the id and the question stay; flags, counts, records and
//! OPT are written.
//!
//! A whole answer is one copy and a few patches. An answer that does not fit is cut between
//! records, with TC or without (`cut`). Every `message` begins with the query and has room for
//! what the envelope allows. Invariant: of a stored body, only the heads of its records are read.

pub mod listing;
mod rotation;
mod writer;

use crate::answer::Answer;
use crate::apex::{Apex, ApexRecords};
use crate::header::{AA, Rcode};
use crate::name::Name;
use crate::query::{Edns, Query, Reject, UDP_LEN_MIN};
use crate::record::MessageSection;
use crate::table::{DenialKind, Found, Table};
pub(crate) use writer::{Reply, Subject, Written};

/// The UDP size that responses announce and do not exceed, unless `bufsize` sets another (RFC 9715,
/// section 3.1).
pub const UDP_LEN_MAX: u16 = 1232;
/// The longest message over TCP (RFC 1035, section 4.2.2), and so the size of a buffer for any
/// response.
pub const MESSAGE_LEN_MAX: usize = 65535;

/// What a response must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Most bytes of the message: see `Envelope::udp_len_max` and `MESSAGE_LEN_MAX`.
    pub len_max: usize,
    /// How many places to rotate the addresses of the answer; 0 keeps the table's order. The
    /// look-up has had the same: see `Wanted`.
    pub rotation: usize,
}

impl Envelope {
    /// The longest message for a UDP client: the size in its OPT, clamped to 512 and `server_max`;
    /// 512 without an OPT.
    #[must_use]
    pub fn udp_len_max(edns: Option<Edns>, server_max: u16) -> usize {
        usize::from(edns.map_or(UDP_LEN_MIN, |edns| edns.udp_len.clamp(UDP_LEN_MIN, server_max)))
    }
}

/// A response that has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Length of the message.
    pub len: usize,
    pub rcode: Rcode,
}

/// Writes a whole stored answer to a question that spells the name as it is stored; `None`, and
/// nothing written, if it does not fit, or if it is a part of one. `rotation` and `len_max` as in
/// `Envelope`; the one is called only if there are addresses to rotate, the other only if 512 bytes
/// are not enough.
#[inline(always)] // The packet path is one caller; arguments then stay in registers.
pub fn stamp_whole(
    query: &Query,
    answer: &Answer<'_>,
    rotation: impl FnOnce() -> usize,
    len_max: impl FnOnce() -> usize,
    message: &mut [u8],
) -> Option<Stamped> {
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let len = reply.len + reply.reserved + answer.body.len();
    if len > usize::from(UDP_LEN_MIN) && len > len_max() {
        return None;
    }
    let written = reply.whole(answer, rotation)?;
    Some(reply.finish(query.kept_flags | AA, Rcode::NoError, written, query.edns))
}

/// Writes a NODATA response: the name exists, the type does not (RFC 2308, section 2.2). It fits
/// the smallest limit.
#[inline(always)] // As `stamp_whole`.
pub fn stamp_no_data(query: &Query, table: &Table, apex: Apex, message: &mut [u8]) -> Stamped {
    debug_assert_eq!(table.apex, ApexRecords::Kubernetes, "another table has another SOA, or none");
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let written = reply.negative(apex, table, Subject::question(query));
    reply.finish(query.kept_flags | AA, Rcode::NoError, written, query.edns)
}

/// Writes the response to `query`. For callers that have no other source, three outcomes are errors
/// without data: REFUSED for `Found::Outside`, SERVFAIL for `Unlisted` and `Unloaded`.
pub fn stamp(
    query: &Query,
    table: &Table,
    found: &Found<'_>,
    envelope: Envelope,
    message: &mut [u8],
) -> Stamped {
    if let Found::Answer(answer) = found
        && answer.name_len == query.name_len
        && let Some(stamped) =
            stamp_whole(query, answer, || envelope.rotation, || envelope.len_max, message)
    {
        return stamped;
    }
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let room = reply.room(envelope.len_max);
    let subject = Subject::question(query);
    let written = reply.found(table, found, query.qtype, subject, envelope.rotation, room);
    let is_authority = match found {
        Found::Outside | Found::Unlisted | Found::Unloaded | Found::Referral(_) => false,
        Found::Answer(_)
        | Found::Alias(_)
        | Found::Expanded(..)
        | Found::Pod(_)
        | Found::Endpoint(_)
        | Found::Pointer(_)
        | Found::Soa(_)
        | Found::NoData(_)
        | Found::NxDomain(_)
        | Found::Unsynced(_)
        | Found::Denied(_) => true,
    };
    let flags = if is_authority { AA } else { 0 };
    reply.finish(query.kept_flags | flags, rcode(found), written, query.edns)
}

/// The response code for what a table has. It does not depend on how much of that fits.
fn rcode(found: &Found<'_>) -> Rcode {
    match found {
        Found::Answer(_)
        | Found::Alias(_)
        | Found::Expanded(..)
        | Found::Referral(_)
        | Found::Pod(_)
        | Found::Endpoint(_)
        | Found::Pointer(_)
        | Found::Soa(_)
        | Found::NoData(_) => Rcode::NoError,
        Found::NxDomain(_) => Rcode::NxDomain,
        Found::Denied(denial) => match denial.kind {
            DenialKind::NoData | DenialKind::Empty => Rcode::NoError,
            DenialKind::NxDomain => Rcode::NxDomain,
        },
        Found::Unsynced(_) | Found::Unlisted | Found::Unloaded => Rcode::ServFail,
        Found::Outside => Rcode::Refused,
    }
}

/// What tables have for a name: CNAMEs, what is found at their target, or both.
#[derive(Clone, Copy, Debug)]
pub struct End<'t> {
    /// Of a `Found::Alias`.
    pub cnames: Option<Answer<'t>>,
    /// More of them, for the target of `cnames`.
    pub then: Option<Answer<'t>>,
    /// `None`: no source knows the target.
    pub found: Option<(&'t Table, Found<'t>)>,
}

impl End<'_> {
    /// What tables have for `name`, up to a CNAME that comes again: see `Answer::without_circle`.
    pub(crate) fn without_circle(&self, name: Name, has_before: impl Fn(&Name) -> bool) -> Self {
        let mut kept = Self { cnames: None, then: None, found: None };
        let mut name = Some(name);
        let places = [(&self.cnames, &mut kept.cnames), (&self.then, &mut kept.then)];
        for (cnames, place) in places {
            name = name.filter(|name| !has_before(name));
            if let (Some(cnames), Some(owner)) = (cnames, &name) {
                let cnames = cnames.without_circle(owner, &has_before);
                *place = Some(cnames);
                name = cnames.target_for(owner);
            }
        }
        kept.found = self.found.filter(|_| name.is_some_and(|name| !has_before(&name)));
        kept
    }

    /// The response code is that of the CNAMEs' target (RFC 6604, section 3), even if not all of
    /// them fit.
    pub(crate) fn rcode(&self) -> Rcode {
        self.found.as_ref().map_or(Rcode::NoError, |(_, found)| rcode(found))
    }
}

/// Writes the response to a question that CNAMEs answer. The response code, and the SOA of a
/// negative answer, are those of their target (RFC 6604).
pub fn stamp_end(query: &Query, end: &End<'_>, envelope: Envelope, message: &mut [u8]) -> Stamped {
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let room = reply.room(envelope.len_max);
    let subject = Subject::question(query);
    let written = reply.end(end, query.qtype, subject, envelope.rotation, room);
    let rcode = match &end.cnames {
        Some(dname) if dname.is_too_long_after(query.name_len) => Rcode::YxDomain,
        Some(_) | None => end.rcode(),
    };
    reply.finish(query.kept_flags | AA, rcode, written, query.edns)
}

/// Writes an answer of one record about the question's name, from a server that is not the
/// authority for it. `rdata` has no compressed name, and at most 200 bytes, so that every client
/// accepts the response.
pub fn stamp_record(
    query: &Query,
    rtype: u16,
    ttl_secs: u32,
    rdata: &[u8],
    message: &mut [u8],
) -> Stamped {
    debug_assert!(rdata.len() <= 200, "a response that fits every limit");
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    reply.fixed(Subject::question(query).pointer(0), rtype, ttl_secs, rdata.len());
    reply.put(rdata);
    let written = Written::one(MessageSection::Answer);
    reply.finish(query.kept_flags, Rcode::NoError, written, query.edns)
}

/// Records that a plugin made: whole, in wire format, without compressed names, in the order of the
/// sections.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeRecords<'r> {
    pub bytes: &'r [u8],
    /// Of the answer, authority and additional sections.
    pub counts: [u16; 3],
}

/// Writes a response of these records, from the authority for them.
pub fn stamp_made(
    query: &Query,
    rcode: Rcode,
    records: MadeRecords<'_>,
    envelope: Envelope,
    message: &mut [u8],
) -> Stamped {
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let room = reply.room(envelope.len_max);
    let written = reply.made(records, Subject::question(query), room);
    reply.finish(query.kept_flags | AA, rcode, written, query.edns)
}

/// Writes an error without data. It is no longer than the query.
pub fn stamp_reject(reject: &Reject, message: &mut [u8]) -> Stamped {
    // A query with a malformed OPT gets no OPT (RFC 6891, section 7).
    let reply = Reply::begin(message, reject.question_len, reject.edns);
    reply.finish(reject.kept_flags, reject.rcode, Written::default(), reject.edns)
}
