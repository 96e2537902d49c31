//! An upstream's answer: doubted by `read`, once, and kept as a `Response` that can be sent to any client.
//!
//! A response's body is its records as they follow a question whose name stands at offset 12. Where each TTL and each
//! compression pointer lies is known, so a copy is patched without a look at the records. Invariant: a `Response` holds
//! nothing but records that belong to its question, each whole, without OPT.

mod name;
mod reader;

use alloc::boxed::Box;

use crate::name::NAME_LEN_MAX;

/// Bytes that CNAMEs in front of a response may have: eight of the longest.
const ALIAS_LEN_MAX: usize = 8 * (2 + 10 + NAME_LEN_MAX);

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
pub enum Reading {
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
/// More than 11 CNAMEs are malformed. TTLs with the top bit set are 0 (RFC 2181, section 8).
///
/// Work for n bytes of packet: two passes over the records, at most 11 more over the CNAMEs, and in each at most three
/// names of 255 bytes a record.
#[must_use]
pub fn read(packet: &[u8], asked: &Asked<'_>) -> Reading {
    reader::read(packet, asked)
}
