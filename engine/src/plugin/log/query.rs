//! An answered query, as its log line describes it.
//!
//! Invariant: its size is fixed, and everything in it was read from the response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::header::{OPCODE, Rcode, TYPE_AXFR, TYPE_IXFR};
use wire::name::Name;
use wire::query::Edns;
use wire::summary::Summary;

use super::BlockLog;
use crate::client::{ListenerId, Transport};
use crate::plugin::exchange::AskedQuestion;
use crate::plugin::finish::Leaving;

/// An answered query.
#[derive(Clone)]
pub struct LoggedQuery {
    /// Of its block.
    pub log: Arc<BlockLog>,
    /// Index in `BlockLog::rules`.
    pub rule: usize,
    /// In lower case, as CoreDNS logs it.
    pub name: Name,
    pub listener: ListenerId,
    pub peer: Option<SocketAddr>,
    pub transport: Transport,
    /// Bytes of the query.
    pub query_len: usize,
    /// The query's.
    pub edns: Option<Edns>,
    /// The response; if there is none, the query without a size.
    pub response: Summary,
    pub kind: ResponseKind,
    /// When the query's batch began.
    pub began: Instant,
    /// When the response was ready.
    pub done: Instant,
}

impl LoggedQuery {
    /// `message`: the response. `name`: the client's.
    pub(super) fn new(
        log: &Arc<BlockLog>,
        rule: usize,
        leaving: Leaving<'_>,
        name: &Name,
        message: &[u8],
    ) -> Self {
        let response = Summary::of(message);
        Self {
            log: Arc::clone(log),
            rule,
            name: name.clone(),
            listener: leaving.arrival.listener,
            peer: leaving.trail.peer,
            transport: leaving.arrival.transport,
            query_len: leaving.arrival.len,
            edns: leaving.edns,
            kind: ResponseKind::of(&response),
            response,
            began: leaving.arrival.now,
            done: Instant::now(),
        }
    }

    /// A query that a plugin drops. `message` begins with its header and its question.
    pub(super) fn dropped(
        log: &Arc<BlockLog>,
        rule: usize,
        leaving: Leaving<'_>,
        name: &Name,
        message: &[u8],
    ) -> Self {
        let query = Self::new(log, rule, leaving, name, message);
        let asked = leaving.trail.asked.as_ref();
        let qtype = asked.map_or(query.response.qtype, AskedQuestion::qtype);
        let response = Summary { qtype, uncompressed_len: 0, ..query.response };
        Self { response, kind: ResponseKind::Missing, ..query }
    }

    #[must_use]
    pub fn opcode(&self) -> u16 {
        (self.response.flags & OPCODE) >> OPCODE.trailing_zeros()
    }

    /// The header's code; `None` without a response.
    #[must_use]
    pub fn rcode(&self) -> Option<u16> {
        Some(rcode(&self.response)).filter(|_| self.kind != ResponseKind::Missing)
    }

    #[must_use]
    pub fn duration(&self) -> Duration {
        self.done.duration_since(self.began)
    }

    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// How long a response the client accepts, as CoreDNS logs it.
    #[must_use]
    pub fn udp_len(&self) -> u16 {
        if self.transport == Transport::Tcp {
            return u16::MAX;
        }
        let announced = self.edns.map_or(0, |edns| edns.udp_len);
        let limited = announced.min(self.log.udp_len_max.unwrap_or(u16::MAX));
        limited.max(wire::query::UDP_LEN_MIN)
    }
}

fn rcode(response: &Summary) -> u16 {
    response.flags & 0xF
}

/// The kinds of responses, under CoreDNS's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    NoError,
    NxDomain,
    ServerError,
    NoData,
    Delegation,
    /// The response to a zone transfer.
    Meta,
    OtherError,
    /// There is no response.
    Missing,
}

/// The classes of these kinds: the words of `class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseClass {
    Success,
    Denial,
    Error,
}

impl ResponseKind {
    fn of(response: &Summary) -> Self {
        let has_answers = response.answer_count > 0;
        let has_soa = response.soa_count > 0;
        let code = rcode(response);
        let is = |rcode: Rcode| code == rcode as u16;
        if matches!(response.qtype, TYPE_AXFR | TYPE_IXFR) {
            Self::Meta
        } else if is(Rcode::NoError) {
            match (has_answers, has_soa, response.ns_count > 0) {
                (true, _, _) => Self::NoError,
                (false, true, _) => Self::NoData,
                (false, false, true) => Self::Delegation,
                (false, false, false) => Self::NoError,
            }
        } else if is(Rcode::NxDomain) {
            // With CNAMEs whose target does not exist, it is an error to CoreDNS.
            if has_answers { Self::OtherError } else { Self::NxDomain }
        } else if is(Rcode::ServFail) || is(Rcode::NotImp) {
            Self::ServerError
        } else {
            Self::OtherError
        }
    }

    #[must_use]
    pub const fn class(self) -> ResponseClass {
        match self {
            Self::NoError | Self::Delegation => ResponseClass::Success,
            Self::NxDomain | Self::NoData => ResponseClass::Denial,
            Self::ServerError | Self::Meta | Self::OtherError | Self::Missing => {
                ResponseClass::Error
            }
        }
    }

    /// CoreDNS's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::NxDomain => "NXDOMAIN",
            Self::ServerError => "SERVERERROR",
            Self::NoData => "NODATA",
            Self::Delegation => "DELEGATION",
            Self::Meta => "META",
            Self::OtherError | Self::Missing => "OTHERERROR",
        }
    }
}

impl ResponseClass {
    pub const ALL: [Self; 3] = [Self::Success, Self::Denial, Self::Error];

    /// Its word in a Corefile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denial => "denial",
            Self::Error => "error",
        }
    }
}
