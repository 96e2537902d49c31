//! Stamps an answer over its query: the id and the question stay, as the client spelt it; flags, counts, stored records and
//! OPT are written.
//!
//! Whole answers are one copy and a few patches. Answers that do not fit are cut between records, with TC
//! (RFC 2181, section 9). Invariant: nothing here looks inside a stored body but to step from record to record.
//!
//! Wherever a `message` is handed in, it begins with the query's packet and holds what the envelope allows.

mod rotation;
mod writer;

use crate::apex::{Apex, ApexRecords};
use crate::header::{AA, Rcode};
use crate::query::{Edns, Query, Reject, UDP_LEN_MIN};
use crate::table::{Answer, Found, Table};
pub(crate) use writer::{Reply, Subject, Written};

/// The UDP size that answers announce and keep to, unless `bufsize` says otherwise (RFC 9715, section 3.1).
pub const UDP_LEN_MAX: u16 = 1232;
/// The longest message over TCP (RFC 1035, section 4.2.2), and so the size of a buffer that holds any answer.
pub const MESSAGE_LEN_MAX: usize = 65535;

/// Bytes of an OPT without options.
pub(crate) const OPT_LEN: usize = 11;
/// How an answer may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The message's length in bytes must not exceed this: see `Envelope::udp` and `Envelope::TCP`.
    pub len_max: usize,
    /// How far to rotate the addresses of the answer; 0 leaves them in the table's order.
    pub rotation: usize,
}

impl Envelope {
    /// What a UDP client can take: what its OPT says, between 512 and `server_max`; 512 without one.
    #[must_use]
    pub fn udp_len_max(edns: Option<Edns>, server_max: u16) -> usize {
        usize::from(edns.map_or(UDP_LEN_MIN, |edns| edns.udp_len.clamp(UDP_LEN_MIN, server_max)))
    }
}

/// What an answer came to, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Length of the message.
    pub len: usize,
    pub rcode: Rcode,
}

/// Writes a stored answer, whole, to a question that spells the name as it is stored; `None`, and nothing written, if it
/// does not fit. `rotation` and `len_max` as in `Envelope`; the latter is asked only if the smallest limit is not enough.
#[inline(always)] // Into the one place that is the packet path: what is handed over then stays in registers.
pub fn stamp_whole(
    query: &Query,
    answer: &Answer<'_>,
    rotation: usize,
    len_max: impl FnOnce() -> usize,
    message: &mut [u8],
) -> Option<Stamped> {
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let len = reply.len + reply.reserved + answer.body.len();
    if len > usize::from(UDP_LEN_MIN) && len > len_max() {
        return None;
    }
    let written = reply.whole(answer, rotation);
    Some(reply.finish(query.kept_flags | AA, Rcode::NoError, written, query.edns))
}

/// Writes that the name exists and the type does not (RFC 2308, section 2.2); it fits the smallest limit.
#[inline(always)] // As `stamp_whole`.
pub fn stamp_no_data(query: &Query, table: &Table, apex: Apex, message: &mut [u8]) -> Stamped {
    debug_assert_ne!(table.apex, ApexRecords::None, "a table without an SOA has none to send");
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let written = reply.negative(apex, table, Subject::question(query));
    reply.finish(query.kept_flags | AA, Rcode::NoError, written, query.edns)
}

/// Writes the answer to `query`. Two outcomes are errors without data, for callers that have nobody else to ask: REFUSED
/// for `Found::Outside`, SERVFAIL for `Found::Unlisted`.
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
            stamp_whole(query, answer, envelope.rotation, || envelope.len_max, message)
    {
        return stamped;
    }
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let room = reply.room(envelope.len_max);
    let subject = Subject::question(query);
    let written = reply.found(table, found, query.qtype, subject, envelope.rotation, room);
    let is_error = matches!(found, Found::Outside | Found::Unlisted);
    let flags = if is_error { 0 } else { AA };
    reply.finish(query.kept_flags | flags, rcode(found), written, query.edns)
}

/// The response code that goes with what a table has; it does not depend on how much of that fits.
fn rcode(found: &Found<'_>) -> Rcode {
    match found {
        Found::Answer(_) | Found::Alias(_) | Found::Pod(_) | Found::Soa(_) | Found::NoData(_) => {
            Rcode::NoError
        }
        Found::NxDomain(_) => Rcode::NxDomain,
        Found::Unsynced(_) | Found::Unlisted => Rcode::ServFail,
        Found::Outside => Rcode::Refused,
    }
}

/// What tables have on a name that is written about: CNAMEs, then what is found where they lead, either or both.
#[derive(Clone, Copy, Debug)]
pub struct End<'t> {
    /// Nothing but CNAMEs, the last one's data is the last thing in the body.
    pub cnames: Option<Answer<'t>>,
    /// `None`: nobody knows.
    pub found: Option<(&'t Table, Found<'t>)>,
}

impl End<'_> {
    /// What is found where CNAMEs lead decides the response code (RFC 6604, section 3), also where not all of them fit.
    pub(crate) fn rcode(&self) -> Rcode {
        self.found.as_ref().map_or(Rcode::NoError, |(_, found)| rcode(found))
    }
}

/// Writes the end of a question's CNAMEs; the response code is what is found there (RFC 6604), and so is the SOA of a denial.
pub fn stamp_end(query: &Query, end: &End<'_>, envelope: Envelope, message: &mut [u8]) -> Stamped {
    let mut reply = Reply::begin(message, query.question_len(), query.edns);
    let room = reply.room(envelope.len_max);
    let subject = Subject::question(query);
    let written = reply.end(end, query.qtype, subject, envelope.rotation, room);
    reply.finish(query.kept_flags | AA, end.rcode(), written, query.edns)
}

/// Writes an answer of one record about the question's name, from a server that is not the authority for it. `rdata`
/// has no compressed name, and at most 200 bytes, so that every client accepts the response.
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
    let written = Written { answers: 1, ..Written::default() };
    reply.finish(query.kept_flags, Rcode::NoError, written, query.edns)
}

/// Writes an error without data. Shorter than or as long as the query, but for the OPT of one that carried an OPT.
pub fn stamp_reject(reject: &Reject, message: &mut [u8]) -> Stamped {
    // The shape of a malformed OPT is not answered with an OPT (RFC 6891, section 7).
    let reply = Reply::begin(message, reject.question_len, reject.edns);
    reply.finish(reject.kept_flags, reject.rcode, Written::default(), reject.edns)
}
