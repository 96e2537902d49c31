//! A query before its name is read: who sent it, how it arrived, where its bytes are.
//!
//! Invariant: this file is the bottom of the engine's layers and imports none of the others.

use std::net::SocketAddr;
use std::time::Instant;

use wire::query::{Edns, Query};
use wire::reply::{Envelope, MESSAGE_LEN_MAX, UDP_LEN_MAX};

/// Bytes of the length before a message over TCP (RFC 1035, section 4.2.2).
pub(crate) const LENGTH_LEN: usize = 2;

/// How a query arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// The client's address family, 1 or 2 in CoreDNS's label `family`. An IPv4-mapped IPv6 address is
/// IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A listening socket of the shard, by index. An address keeps its id across reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub usize);

/// What is known about a query before its bytes are read.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub listener: ListenerId,
    pub transport: Transport,
    pub family: Family,
    /// Bytes of the query.
    pub len: usize,
    /// When its batch began.
    pub now: Instant,
    /// `None`: a client's.
    pub inside: Option<Inside>,
}

impl Arrival {
    /// The limits of a response to this query. `rotation`: see `Envelope`. `is_changed`: the
    /// response is written for another question, and becomes longer or shorter before it is sent.
    #[inline]
    #[must_use]
    pub fn envelope(&self, query: &Query, rotation: usize, is_changed: bool) -> Envelope {
        let len_max = match self.transport {
            Transport::Udp if is_changed => self.len_max(query.edns).max(UDP_LEN_MAX.into()),
            Transport::Udp | Transport::Tcp => self.len_max(query.edns),
        };
        Envelope { len_max, rotation }
    }

    /// The longest response if the query has this OPT.
    #[inline]
    #[must_use]
    pub fn len_max(&self, edns: Option<Edns>) -> usize {
        match self.transport {
            Transport::Udp if self.inside.is_none() => Envelope::udp_len_max(edns, UDP_LEN_MAX),
            Transport::Udp | Transport::Tcp => MESSAGE_LEN_MAX,
        }
    }
}

/// An inside query, which the server asks itself because a client's answer needs it. Its transport
/// is the client's, and its response is not limited by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// 1 if a client's query needs it; one more than that of the inside query that needs it.
    pub depth: u8,
    pub start: InsideStart,
}

/// Where an inside query starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsideStart {
    /// As a client's does.
    Server,
    /// In this block, by index, at the gate of this index.
    Gate { block: usize, gate: usize },
}

/// A query in its receive buffer. The response is written over it.
pub trait Packet {
    /// The query, with room for the response: `UDP_LEN_MAX` bytes in all for UDP,
    /// `MESSAGE_LEN_MAX` for TCP.
    fn message(&mut self) -> &mut [u8];

    /// The client's address. Reading it costs more than most responses, so only callers that pass
    /// it to a plugin do.
    fn peer(&self) -> SocketAddr;
}
