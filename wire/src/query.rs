//! Validates a client's packet: it is a query, gets an error response, or is ignored.
//!
//! The rules stand in the order in which they apply, each with its source. Malformed input is an
//! outcome here, not an error. Invariant: the offsets of a `Query` need no further check.

use crate::edit::{OPTION_NSID, set_counts};
use crate::header::{CD, CLASS_IN, HEADER_LEN, OPCODE, OPT_LEN, QR, RD, Rcode, TYPE_OPT, u16_at};
use crate::name::Name;
use crate::record::{RecordHead, Records};
use crate::table::Wanted;

/// The smallest UDP limit, which applies to clients without EDNS (RFC 1035, section 2.3.4; RFC
/// 6891, section 6.2.3).
pub const UDP_LEN_MIN: u16 = 512;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPacket {
    /// A query to answer; its name is in the caller's `Name`.
    Query(Query),
    /// Respond with this error and no data.
    Reject(Reject),
    /// Do not respond: the packet has no header, or is itself a response. Two servers that respond
    /// to responses never stop.
    Ignore,
}

/// A client's query. It has one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// RD and CD, the bits that a response repeats (RFC 1035, section 4.1.1; RFC 4035, section
    /// 3.2.2).
    pub kept_flags: u16,
    pub qtype: u16,
    pub qclass: u16,
    /// Bytes of the question's name, which is at offset 12.
    pub name_len: usize,
    pub edns: Option<Edns>,
}

/// The OPT of a query (RFC 6891, section 6.1). Its options are validated and never echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// As sent. Values below 512 mean 512.
    pub udp_len: u16,
    pub dnssec_ok: bool,
    /// The client asks for the server's identifier (RFC 5001).
    pub asks_nsid: bool,
}

/// An error response: the header, the question if it was whole, and an OPT if the query had a valid
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub rcode: Rcode,
    /// RD, CD and the opcode.
    pub kept_flags: u16,
    /// Bytes of the question to repeat; 0 if it was not whole.
    pub question_len: usize,
    /// `None`: the response has no OPT.
    pub edns: Option<Edns>,
}

impl Edns {
    /// The OPT without options, as a query has it.
    #[must_use]
    pub fn opt(self) -> [u8; OPT_LEN] {
        let [size0, size1] = self.udp_len.to_be_bytes();
        let dnssec_ok = u8::from(self.dnssec_ok) << 7;
        [0, 0, TYPE_OPT as u8, size0, size1, 0, 0, dnssec_ok, 0, 0, 0]
    }
}

impl Query {
    /// Bytes of the question: name, type and class.
    #[must_use]
    pub fn question_len(&self) -> usize {
        self.name_len + 4
    }

    /// What it wants to know about its name. `rotation`: that of the response.
    #[must_use]
    pub fn wanted(&self, rotation: usize) -> Wanted {
        Wanted { qtype: self.qtype, dnssec_ok: self.dnssec_ok(), rotation }
    }

    /// DO (RFC 3225).
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// CD (RFC 4035, section 3.2.2).
    #[must_use]
    pub fn checking_disabled(&self) -> bool {
        self.kept_flags & CD != 0
    }

    /// An error response to this query. It has an OPT if the query has one (RFC 6891, section 7).
    #[must_use]
    pub fn reject(&self, rcode: Rcode) -> Reject {
        Reject {
            rcode,
            kept_flags: self.kept_flags,
            question_len: self.question_len(),
            edns: self.edns,
        }
    }
}

/// The records after the question of a query that has been read. `message` may be longer.
#[must_use]
pub fn records(message: &[u8], question_len: usize) -> &[u8] {
    let start = HEADER_LEN + question_len;
    let counts = [6, 8, 10].map(|at| u16_at(message, at));
    let mut records = Records::new(message, start, counts);
    records.by_ref().for_each(drop);
    let end = Some(records.at()).filter(|_| records.count_left() == 0);
    end.and_then(|end| message.get(start..end)).unwrap_or_default()
}

/// Moves the records of a query that has been read to where another question will end, one of
/// `question_len` bytes. Without room for them, only the OPT stays, without its options.
pub fn move_records(message: &mut [u8], query: &Query, question_len: usize) {
    let (from, to) = (HEADER_LEN + query.question_len(), HEADER_LEN + question_len);
    let len = records(message, query.question_len()).len();
    if to + len <= message.len() {
        message.copy_within(from..from + len, to);
    } else {
        write_opt(message, question_len, query.edns);
    }
}

/// A plain OPT is the only record of this query, or there is none.
fn write_opt(message: &mut [u8], question_len: usize, edns: Option<Edns>) {
    let opt = edns.map(Edns::opt);
    let opt = opt.as_ref().map_or(&[][..], |opt| opt);
    let start = HEADER_LEN + question_len;
    if let Some(room) = message.get_mut(start..start + opt.len()) {
        room.copy_from_slice(opt);
        set_counts(message, [0, 0, u16::from(edns.is_some())]);
    }
}

/// Room for the records of a query: those over UDP rarely have more.
const KEPT_LEN_MAX: usize = 512;

/// What a response overwrites of its query: the header and the records. The question stays.
#[derive(Debug)]
pub struct Overwritten {
    header: [u8; HEADER_LEN],
    records: [u8; KEPT_LEN_MAX],
    /// Of the records; `None` if they do not fit.
    len: Option<usize>,
}

impl Overwritten {
    /// `message` holds the query.
    #[must_use]
    pub fn of(message: &[u8], query: &Query) -> Self {
        let mut kept = Self { header: [0; HEADER_LEN], records: [0; KEPT_LEN_MAX], len: None };
        if let Some(header) = message.first_chunk() {
            kept.header = *header;
        }
        let records = records(message, query.question_len());
        if let Some(room) = kept.records.get_mut(..records.len()) {
            room.copy_from_slice(records);
            kept.len = Some(records.len());
        }
        kept
    }

    /// Writes the query again, its OPT without options if its records did not fit.
    pub fn restore(&self, message: &mut [u8], query: &Query) {
        if let Some(header) = message.first_chunk_mut() {
            *header = self.header;
        }
        let start = HEADER_LEN + query.question_len();
        let records = self.len.and_then(|len| self.records.get(..len));
        match records.and_then(|kept| Some((kept, message.get_mut(start..start + kept.len())?))) {
            Some((kept, room)) => room.copy_from_slice(kept),
            None => write_opt(message, query.question_len(), query.edns),
        }
    }
}

/// Reads a packet; its name goes into `name`.
pub fn read(packet: &[u8], name: &mut Name) -> ClientPacket {
    read_as(NameIs::Unknown, packet, name)
}

/// Reads a packet under the assumption that its name ends at the first zero byte; `None` if that
/// gives no query.
///
/// If a table stores the name, the assumption was right: see `Name::presume`. For any other use of
/// the query, check `name.is_whole()` first, and call `read` if it is false. A query that asks for
/// an NSID is none either: its response needs the full path.
#[inline(always)]
pub fn presume(packet: &[u8], name: &mut Name) -> Option<Query> {
    match read_as(NameIs::Presumed, packet, name) {
        ClientPacket::Query(query) => Some(query),
        ClientPacket::Reject(_) | ClientPacket::Ignore => None,
    }
}

/// Reads a packet again, whose name is already in `name`.
pub fn read_again(packet: &[u8], name: &mut Name) -> ClientPacket {
    read_as(NameIs::Read, packet, name)
}

/// How the packet's name is read.
enum NameIs {
    /// Label by label.
    Unknown,
    /// Up to the first zero byte.
    Presumed,
    /// It has been read already.
    Read,
}

#[inline(always)] // Each caller's copy then contains its own variant of `name_is` alone.
fn read_as(name_is: NameIs, packet: &[u8], name: &mut Name) -> ClientPacket {
    let Some((header, behind)) = packet.split_first_chunk::<HEADER_LEN>() else {
        return ClientPacket::Ignore;
    };
    let flags = u16_at(header, 2);
    if flags & QR != 0 {
        return ClientPacket::Ignore;
    }
    let reject = |rcode, question_len, edns| match name_is {
        // No query, whatever it is: the caller reads the packet in full.
        NameIs::Presumed => ClientPacket::Ignore,
        NameIs::Unknown | NameIs::Read => {
            let kept_flags = flags & (OPCODE | RD | CD);
            ClientPacket::Reject(Reject { rcode, kept_flags, question_len, edns })
        }
    };
    if flags & OPCODE != 0 {
        return reject(Rcode::NotImp, 0, None);
    }
    let [_, _, _, _, counts @ ..] = *header;
    if counts != ONE_QUESTION && !are_of_a_query(counts) {
        return reject(Rcode::FormErr, 0, None);
    }
    let name_len = match name_is {
        NameIs::Unknown => name.read(behind),
        NameIs::Presumed => name.presume(behind),
        NameIs::Read => Some(name.bytes().len()),
    };
    let Some(name_len) = name_len else { return reject(Rcode::FormErr, 0, None) };
    let question_len = name_len + 4;
    let Some((fixed, records)) = behind.get(name_len..).and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return reject(Rcode::FormErr, 0, None);
    };
    let qclass = match (&name_is, u16_at(fixed, 2)) {
        (NameIs::Presumed, CLASS_IN) => CLASS_IN,
        // A table stores names of class IN alone.
        (NameIs::Presumed, _) => return ClientPacket::Ignore,
        (NameIs::Unknown | NameIs::Read, qclass) => qclass,
    };
    let mut edns = None;
    if counts != ONE_QUESTION {
        match read_records(records, counts, matches!(name_is, NameIs::Presumed)) {
            Ok(found) => edns = found,
            Err(RecordsFault::Malformed) => return reject(Rcode::FormErr, question_len, None),
            Err(RecordsFault::BadVersion(edns)) => {
                return reject(Rcode::BadVers, question_len, Some(edns));
            }
        }
    }
    ClientPacket::Query(Query {
        kept_flags: flags & (RD | CD),
        qtype: u16_at(fixed, 0),
        qclass,
        name_len,
        edns,
    })
}

/// The header's four counts, as bytes, of a query with one question and no record.
const ONE_QUESTION: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];

/// The header's four counts: questions, then records by section.
fn numbers(counts: [u8; 8]) -> [u16; 4] {
    [0, 2, 4, 6].map(|at| u16_at(&counts, at))
}

/// Whether there is exactly one question (RFC 9619), and no more records than a valid query can
/// have: an IXFR's SOA in the authority section, OPT and TSIG in the additional section.
fn are_of_a_query(counts: [u8; 8]) -> bool {
    let [questions, answers, authorities, additionals] = numbers(counts);
    questions == 1 && answers <= 1 && authorities <= 1 && additionals <= 2
}

/// Why the records of a packet are not those of a valid query.
enum RecordsFault {
    Malformed,
    BadVersion(Edns),
}

/// Reads the records after the question. Bytes after the last record are ignored, as CoreDNS
/// ignores them. `refuses_nsid`: an OPT that asks for an NSID counts as malformed.
fn read_records(
    bytes: &[u8],
    counts: [u8; 8],
    refuses_nsid: bool,
) -> Result<Option<Edns>, RecordsFault> {
    let [_, answers, authorities, additionals] = numbers(counts);
    let mut edns = None;
    let mut version = 0;
    let mut at = 0;
    for index in 0..answers + authorities + additionals {
        let record = RecordHead::read(bytes, at).ok_or(RecordsFault::Malformed)?;
        at = record.end();
        if record.rtype != TYPE_OPT {
            continue;
        }
        // RFC 6891, section 6.1.1: one OPT, in the additional section, owned by the root.
        if edns.is_some() || index < answers + authorities || !record.is_of_root() {
            return Err(RecordsFault::Malformed);
        }
        let rdata = bytes.get(record.rdata).unwrap_or_default();
        let mut asks_nsid = false;
        if !rdata.is_empty() {
            asks_nsid = asks_nsid_in(rdata).ok_or(RecordsFault::Malformed)?;
            if asks_nsid && refuses_nsid {
                return Err(RecordsFault::Malformed);
            }
        }
        let [_, opt_version, flags, _] = record.ttl_secs.to_be_bytes();
        version = opt_version;
        edns = Some(Edns { udp_len: record.class, dnssec_ok: flags & 0x80 != 0, asks_nsid });
    }
    match edns {
        Some(edns) if version != 0 => Err(RecordsFault::BadVersion(edns)),
        Some(_) | None => Ok(edns),
    }
}

/// Whether one of the options of an OPT asks for an NSID; `None` unless the options fill its data
/// exactly (RFC 6891, section 6.1.2), and ECS has its fixed form (RFC 7871, section 6): CoreDNS
/// responds FORMERR to a malformed one.
fn asks_nsid_in(mut rdata: &[u8]) -> Option<bool> {
    const CLIENT_SUBNET: u16 = 8;
    let mut asks_nsid = false;
    while let Some((head, rest)) = rdata.split_first_chunk::<4>() {
        let (option, behind) = rest.split_at_checked(usize::from(u16_at(head, 2)))?;
        match u16_at(head, 0) {
            OPTION_NSID => asks_nsid = true,
            CLIENT_SUBNET if !client_subnet_is_whole(option) => return None,
            _ => {}
        }
        rdata = behind;
    }
    rdata.is_empty().then_some(asks_nsid)
}

fn client_subnet_is_whole(option: &[u8]) -> bool {
    let Some((fixed, address)) = option.split_first_chunk::<4>() else { return false };
    let [.., source_prefix_len, _scope] = fixed;
    let address_bits_max = match u16_at(fixed, 0) {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return false,
    };
    *source_prefix_len <= address_bits_max
        && address.len() == usize::from(source_prefix_len.div_ceil(8))
}
