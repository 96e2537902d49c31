//! A packet to its answer: pure, no socket, no clock.
//!
//! The order is CoreDNS's: is it a query, whose zone is it, which plugin of that block knows. Invariant: nothing here
//! allocates, waits or panics, whatever the packet holds.

use std::sync::Arc;

use wire::header::{Rcode, TYPE_AXFR, TYPE_IXFR};
use wire::name::Name;
use wire::query::{self, Edns, Reading, Reject};
use wire::reply::{self, Envelope, MESSAGE_LEN_MAX, Stamped, UDP_LEN_MAX};
use wire::table::{Found, Table};

use crate::limits::TABLES_MAX;
use crate::plan::{Block, ListenerId, Plan};

/// The tables of one shard, by slot.
pub type Tables = [Option<Arc<Table>>; TABLES_MAX];

/// How the packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this much of the output buffer.
    Reply(Answered),
    /// Say nothing.
    Drop,
}

/// An answer, and what the counters and the error log want to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Bytes of the answer.
    pub len: usize,
    pub rcode: Rcode,
    /// Where it is counted, if its block counts; `None` also where no block took it.
    pub counted_as: Option<usize>,
    /// 0 where no question could be read.
    pub qtype: u16,
    pub dnssec_ok: bool,
    pub by: AnsweredBy,
    /// By which block's `errors` it is logged; `None` if it is no error.
    pub logged_as: Option<usize>,
}

/// Which part of the server answered: the `plugin` label of CoreDNS's response counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// Refused before any plugin saw it.
    NoPlugin,
    /// The end of the plugin chain, which nothing answers: SERVFAIL.
    EndOfChain,
    Kubernetes,
}

/// What a packet is answered from.
pub struct Sources<'s> {
    pub plan: &'s Plan,
    pub tables: &'s Tables,
    /// Grows with every answer: where the next rotation of addresses begins.
    pub rotation: usize,
}

/// Answers one packet into `out`, which holds `UDP_LEN_MAX` bytes for UDP and `MESSAGE_LEN_MAX` for TCP. `name` is scratch
/// space that keeps the question's name.
#[inline]
pub fn answer(
    sources: &Sources<'_>,
    listener: ListenerId,
    transport: Transport,
    packet: &[u8],
    name: &mut Name,
    out: &mut [u8],
) -> Verdict {
    let query = match query::read(packet, name) {
        Reading::Query(query) => query,
        Reading::Ignore => return Verdict::Drop,
        Reading::Reject(reject) => {
            let stamped = reply::stamp_reject(&reject, packet, out);
            return Verdict::Reply(unclaimed(stamped, 0, None));
        }
    };
    let Some(block) = sources.plan.block_for(listener, name) else {
        let counted_as = sources.plan.dropped_as(listener);
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, packet, out);
        return Verdict::Reply(Answered { counted_as, ..refused });
    };
    // A zone is given away by the `transfer` plugin alone, which is not here.
    let Some(kubernetes) =
        block.kubernetes.as_ref().filter(|_| !matches!(query.qtype, TYPE_AXFR | TYPE_IXFR))
    else {
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, packet, out);
        return Verdict::Reply(Answered { counted_as: block.counted_as, ..refused });
    };
    let Some(table) = sources.tables.get(kubernetes.table.0).and_then(Option::as_deref) else {
        let reject = query.reject(Rcode::ServFail);
        return Verdict::Reply(end_of_chain(block, &reject, query.qtype, packet, out));
    };
    let found = table.look_up(name, query.qtype);
    let falls_through = match found {
        Found::Outside => true,
        Found::NxDomain(_) | Found::Unsynced(_) => {
            kubernetes.fallthrough.as_ref().is_some_and(|zones| zones.find(name).is_some())
        }
        Found::Answer(_) | Found::Pod(_) | Found::Soa(_) | Found::NoData(_) => false,
    };
    if falls_through {
        let reject = query.reject(Rcode::ServFail);
        return Verdict::Reply(end_of_chain(block, &reject, query.qtype, packet, out));
    }
    let envelope = Envelope {
        len_max: match transport {
            Transport::Udp => Envelope::udp_len_max(query.edns, UDP_LEN_MAX),
            Transport::Tcp => MESSAGE_LEN_MAX,
        },
        rotation: if block.rotates { sources.rotation } else { 0 },
    };
    let stamped = reply::stamp(&query, packet, table, &found, envelope, out);
    Verdict::Reply(Answered {
        counted_as: block.counted_as,
        by: AnsweredBy::Kubernetes,
        ..unclaimed(stamped, query.qtype, query.edns)
    })
}

/// The answer to a datagram that was longer than its buffer: the rest is lost, so nothing of it can be trusted but the header.
pub fn answer_cut(packet: &[u8], name: &mut Name, out: &mut [u8]) -> Verdict {
    let Some(header) = packet.get(..wire::header::HEADER_LEN) else { return Verdict::Drop };
    match query::read(header, name) {
        Reading::Reject(reject) => {
            Verdict::Reply(unclaimed(reply::stamp_reject(&reject, packet, out), 0, None))
        }
        Reading::Query(_) | Reading::Ignore => Verdict::Drop,
    }
}

/// No plugin of the block answers: SERVFAIL, as at the end of CoreDNS's chain.
fn end_of_chain(
    block: &Block,
    reject: &Reject,
    qtype: u16,
    packet: &[u8],
    out: &mut [u8],
) -> Answered {
    Answered {
        counted_as: block.counted_as,
        by: AnsweredBy::EndOfChain,
        logged_as: block.logged_as,
        ..refuse(reject, qtype, packet, out)
    }
}

fn refuse(reject: &Reject, qtype: u16, packet: &[u8], out: &mut [u8]) -> Answered {
    unclaimed(reply::stamp_reject(reject, packet, out), qtype, reject.edns)
}

#[inline]
fn unclaimed(stamped: Stamped, qtype: u16, edns: Option<Edns>) -> Answered {
    Answered {
        len: stamped.len,
        rcode: stamped.rcode,
        counted_as: None,
        qtype,
        dnssec_ok: edns.is_some_and(|edns| edns.dnssec_ok),
        by: AnsweredBy::NoPlugin,
        logged_as: None,
    }
}
