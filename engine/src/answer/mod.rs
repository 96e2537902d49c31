//! A query to its response: pure, no socket, no clock.
//!
//! A query passes three stages: the gates of its block, the block's own tables, the cache and the upstreams
//! behind it. The order is CoreDNS's, but tables are asked before the cache, so that nothing of the cluster
//! is ever out of date. `at_a_glance` is the short way that most queries take; `in_full` is the rest.
//! Invariant: nothing here allocates, waits or panics, whatever the packet holds.

pub mod chase;
pub mod exit;
mod own;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wire::hash::NameHash;
use wire::header::{Rcode, TYPE_ANY, TYPE_AXFR, TYPE_DS, TYPE_IXFR, TYPE_SOA};
use wire::name::Name;
use wire::query::{self, ClientPacket, Edns, Query, Reject};
use wire::reply::{self, Envelope, Stamped};
use wire::response::{self, Alias};
use wire::table::{Answer, Stored, Table};

use crate::cache::{Cache, CacheKey, LookUp};
use crate::client::{Arrival, Exchange, ListenerId};
use crate::forward::TYPE_HINFO;
use crate::limits::TABLES_MAX;
use crate::metrics::answerer::Answerer;
use crate::plan::{Block, Plan, TableSlot};
use crate::plugin::gate::Passage;
use chase::View;
use exit::Made;
use own::{OwnAnswer, ask_tables};

/// The tables of one shard, by slot.
pub type Tables = [Option<Arc<Table>>; TABLES_MAX];

/// What becomes of a query.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'s> {
    /// The response is written.
    Reply(Made<'s>),
    /// The response is written, and upstreams are asked to refresh the cache.
    ReplyAndRefresh(Made<'s>, Ask<'s>),
    /// Upstreams must be asked first.
    Ask(Ask<'s>),
    /// No response.
    Drop,
}

/// A question for upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'s> {
    pub query: Query,
    /// In whose view responses are completed.
    pub listener: ListenerId,
    /// The client's block, by index.
    pub block: usize,
    /// The block whose upstreams are asked, by index: another one if CNAMEs lead there.
    pub asks: usize,
    /// CNAMEs of the table: their target is asked for instead of the question's name.
    pub alias: Option<Answer<'s>>,
    /// When the client is given an expired response instead (`serve_stale verify`).
    pub stale_after: Option<Duration>,
}

impl Ask<'_> {
    /// The name that upstreams are asked for, if it is not the question's: where the CNAMEs lead.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        Name::from_wire(self.alias?.target())
    }
}

/// What queries are answered from, caches left out.
#[derive(Clone, Copy)]
pub struct Sources<'s> {
    pub plan: &'s Plan,
    pub tables: &'s Tables,
    /// Grows with every response: where the next rotation of addresses begins.
    pub rotation: usize,
}

/// A query for a table, looked at once: what is left is to read the table.
#[derive(Clone, Copy)]
pub struct Looked {
    query: Query,
    /// Index in the plan.
    block: usize,
    hash: NameHash,
}

/// What is known of a query that is not answered yet.
#[derive(Clone, Copy)]
pub enum Glance<'s> {
    /// Nothing.
    Unread,
    /// Its name is the one that `query::presume` has read.
    Presumed,
    /// So it is; the block's first `passed` tables lack it and pass it on, and this is what the next one
    /// stores under it.
    Asked { passed: usize, stored: Option<Stored<'s>> },
}

impl<'s> Sources<'s> {
    /// The table in a slot, once there is one.
    #[inline]
    pub(crate) fn table(&self, slot: TableSlot) -> Option<&'s Table> {
        self.tables.get(slot.0)?.as_deref()
    }

    /// How far a block rotates the addresses of this response.
    #[inline]
    fn rotation_of(&self, block: &Block) -> usize {
        if block.rotates { self.rotation } else { 0 }
    }
}

impl Looked {
    /// The first of the fast path's tables.
    #[inline(always)]
    fn first_table<'s>(&self, sources: Sources<'s>) -> Option<(&'s Block, &'s Table)> {
        let block = sources.plan.blocks.get(self.block)?;
        Some((block, sources.table(block.glance.first())?))
    }

    /// The last of them, which is the largest: a list of hosts before it stays in the processor's cache.
    #[inline(always)]
    fn last_table<'s>(&self, sources: Sources<'s>) -> Option<&'s Table> {
        sources.table(sources.plan.blocks.get(self.block)?.glance.last())
    }

    /// What the table will read first: see `Table::slot_line`.
    #[inline]
    #[must_use]
    pub fn slot_line<'s>(&self, sources: Sources<'s>) -> &'s [u8] {
        self.last_table(sources).map_or(&[], |table| table.slot_line(self.hash))
    }

    /// What it will read then: see `Table::entry_line`.
    #[inline]
    #[must_use]
    pub fn entry_line<'s>(&self, sources: Sources<'s>) -> &'s [u8] {
        self.last_table(sources).map_or(&[], |table| table.entry_line(self.hash))
    }
}

/// Reads a packet that seems to be for a table. `name` is scratch space that keeps the question's name.
///
/// # Errors
/// What is known of one that is not.
#[inline(always)] // Into the one place that is the packet path: what is handed over then stays in registers.
pub fn look(
    sources: Sources<'_>,
    listener: ListenerId,
    packet: &[u8],
    name: &mut Name,
) -> Result<Looked, Glance<'static>> {
    let query = query::presume(packet, name).ok_or(Glance::Unread)?;
    if matches!(query.qtype, TYPE_DS | TYPE_SOA | TYPE_IXFR..=TYPE_ANY) {
        return Err(Glance::Presumed);
    }
    let block = sources.plan.block_index_for(listener, name).ok_or(Glance::Presumed)?;
    let looked = Looked { query, block, hash: NameHash::default() };
    let (_, table) = looked.first_table(sources).ok_or(Glance::Presumed)?;
    Ok(Looked { hash: table.hash(name), ..looked })
}

/// Answers what most queries ask for: records of a table, or that there are none of this type, by a name spelt
/// as it is stored. Nothing is looked at twice.
///
/// `message` holds the packet and has room as `Packet::message` says.
///
/// # Errors
/// What is known of another query, whose message is as it was.
#[inline(always)] // As `look`.
pub fn at_a_glance<'s>(
    sources: Sources<'s>,
    arrival: &Arrival,
    looked: &Looked,
    name: &Name,
    message: &mut [u8],
) -> Result<Made<'s>, Glance<'s>> {
    let query = &looked.query;
    let (block, first) = looked.first_table(sources).ok_or(Glance::Presumed)?;
    let mut passed = 0;
    let stored = match first.stored(looked.hash, name) {
        None if first.passes_unstored() => {
            stored_behind(sources.tables, block, looked.hash, name, &mut passed)
        }
        stored => stored,
    };
    let stored = stored.ok_or(Glance::Asked { passed, stored: None })?;
    let asked = Glance::Asked { passed, stored: Some(stored) };
    let stamped = match stored.answer(query.qtype) {
        Some(records) => {
            let rotation = sources.rotation_of(block);
            let len_max = || arrival.transport.envelope(query, rotation).len_max;
            reply::stamp_whole(query, &records, rotation, len_max, message).ok_or(asked)?
        }
        None => {
            let apex = stored.no_data().ok_or(asked)?;
            let table = block.own.get(passed).and_then(|own| sources.table(own.table));
            reply::stamp_no_data(query, table.ok_or(asked)?, apex, message)
        }
    };
    let by = block.own.get(passed).map_or(Answerer::SERVER, |own| own.answerer);
    // Where a finish could matter, the block has no tables on the fast path.
    Ok(Made { finishes: &[], ..Made::new(block, stamped, query, by) })
}

/// What is stored under the name in a table behind the first one, which lacks it and passes it on: k3s
/// has a list of hosts in front of the cluster. `passed` becomes the number of tables before the one that
/// was read last.
#[inline(never)] // In line, it would cost the stock Corefile ten instructions.
fn stored_behind<'s>(
    tables: &'s Tables,
    block: &Block,
    hash: NameHash,
    name: &Name,
    passed: &mut usize,
) -> Option<Stored<'s>> {
    for slot in block.glance.behind_first() {
        let table = tables.get(slot.0)?.as_deref()?;
        *passed += 1;
        let stored = table.stored(hash, name);
        if stored.is_some() || !table.passes_unstored() {
            return stored;
        }
    }
    None
}

/// Answers every other query. Arguments as for `at_a_glance`, `glance` from there; `caches`: by `CacheSlot`.
pub fn in_full<'s>(
    sources: Sources<'s>,
    caches: &mut [Cache],
    arrival: &Arrival,
    peer: SocketAddr,
    mut glance: Glance<'s>,
    name: &mut Name,
    message: &mut [u8],
) -> Verdict<'s> {
    let packet = message.get(..arrival.len).unwrap_or_default();
    let reading = match glance {
        Glance::Asked { stored: Some(_), .. } => query::read_again(packet, name),
        Glance::Asked { stored: None, .. } | Glance::Presumed if name.is_whole() => {
            query::read_again(packet, name)
        }
        Glance::Asked { stored: None, .. } | Glance::Presumed | Glance::Unread => {
            glance = Glance::Unread;
            query::read(packet, name)
        }
    };
    let query = match reading {
        ClientPacket::Query(query) => query,
        ClientPacket::Ignore => return Verdict::Drop,
        ClientPacket::Reject(reject) => return Verdict::Reply(refuse(&reject, 0, message)),
    };
    let plan = sources.plan;
    let index = if query.qtype == TYPE_DS {
        plan.block_index_above(arrival.listener, name)
    } else {
        plan.block_index_for(arrival.listener, name)
    };
    let known = index.and_then(|index| Some((index, plan.blocks.get(index)?)));
    let Some((index, block)) = known.filter(|(_, block)| block.has_plugins) else {
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
        let counted_as = plan.dropped_as(arrival.listener);
        return Verdict::Reply(Made { counted_as, ..refused });
    };
    // A zone is given away by the plugin `transfer` alone, which this server does not have.
    if matches!(query.qtype, TYPE_AXFR | TYPE_IXFR) {
        return Verdict::Reply(refuse_in(block, &query, message));
    }
    let exchange = Exchange { arrival, peer, query: &query, name };
    stages(sources, caches, index, block, &exchange, glance, message)
}

/// The stages of a block: its gates, its tables, then the cache and the upstreams.
fn stages<'s>(
    sources: Sources<'s>,
    caches: &mut [Cache],
    index: usize,
    block: &'s Block,
    exchange: &Exchange<'_>,
    glance: Glance<'s>,
    message: &mut [u8],
) -> Verdict<'s> {
    let Exchange { arrival, query, name, .. } = *exchange;
    for gate in &block.gates {
        match gate.pass(exchange, message) {
            Passage::Pass => {}
            Passage::Answer(stamped, by) => {
                return Verdict::Reply(Made::new(block, stamped, query, by));
            }
        }
    }
    let envelope = arrival.transport.envelope(query, sources.rotation_of(block));
    let (alias, asks) = match ask_tables(sources, block, exchange, glance, envelope, message) {
        OwnAnswer::Made(made) => return Verdict::Reply(made),
        OwnAnswer::PassedOn => (None, index),
        OwnAnswer::Alias(cnames, asks) => (Some(cnames), asks),
    };
    let listener = arrival.listener;
    let ask = Ask { query: *query, listener, block: index, asks, alias, stale_after: None };
    ask_cache(sources, caches, ask, name, arrival, envelope, message)
}

/// What upstreams know: from the cache, or by asking them. `name` is the question's.
fn ask_cache<'s>(
    sources: Sources<'s>,
    caches: &mut [Cache],
    ask: Ask<'s>,
    name: &Name,
    arrival: &Arrival,
    envelope: Envelope,
    message: &mut [u8],
) -> Verdict<'s> {
    let Ask { query, alias, .. } = ask;
    let (block, asks) = (&sources.plan.blocks[ask.block], &sources.plan.blocks[ask.asks]);
    let target = ask.target();
    let asked = target.as_ref().unwrap_or(name);
    if !asks.has_upstreams_for(asked) {
        let reject = query.reject(Rcode::ServFail);
        return Verdict::Reply(end_of_chain(block, &reject, query.qtype, message));
    }
    if query.qtype == TYPE_HINFO && sources.plan.is_own_probe(asks, asked) {
        return Verdict::Reply(refuse_in(block, &query, message));
    }
    let cache = asks.cache.and_then(|slot| caches.get_mut(slot.0));
    let Some(cache) = cache.filter(|cache| cache.covers(asked)) else {
        return Verdict::Ask(ask);
    };
    match cache.look_up(&cache_key(&query, asked), arrival.now) {
        LookUp::Miss => Verdict::Ask(ask),
        LookUp::Verify { timeout } => Verdict::Ask(Ask { stale_after: timeout, ..ask }),
        LookUp::Hit { answer: kept, refresh } => {
            let view = View { sources, listener: ask.listener, qtype: query.qtype };
            if !view.may_be_given(kept.response, asked.bytes()) {
                return Verdict::Ask(ask);
            }
            let end = view.end_of(kept.response);
            let alias = alias.map(|answer| Alias { answer });
            let stamped = response::stamp(
                &query,
                kept.response,
                kept.ttl,
                alias,
                end.as_ref(),
                envelope,
                message,
            );
            let made = Made::new(block, stamped, &query, const { Answerer::plugin("cache") });
            if refresh { Verdict::ReplyAndRefresh(made, ask) } else { Verdict::Reply(made) }
        }
    }
}

/// The key under which the response for this client is cached.
fn cache_key<'n>(query: &Query, asked: &'n Name) -> CacheKey<'n> {
    CacheKey {
        name: asked.bytes(),
        qtype: query.qtype,
        qclass: query.qclass,
        dnssec_ok: query.dnssec_ok(),
        checking_disabled: query.checking_disabled(),
    }
}

impl<'s> Made<'s> {
    /// A response of a block.
    #[inline]
    pub(crate) fn new(block: &'s Block, stamped: Stamped, query: &Query, by: Answerer) -> Self {
        Self {
            by,
            counted_as: block.counted_as,
            finishes: &block.finishes,
            ..unclaimed(stamped, query.qtype, query.edns)
        }
    }
}

/// No plugin of the block answers: SERVFAIL, as at the end of CoreDNS's chain.
fn end_of_chain<'s>(block: &'s Block, reject: &Reject, qtype: u16, message: &mut [u8]) -> Made<'s> {
    Made {
        counted_as: block.counted_as,
        logged_as: block.logged_as,
        finishes: &block.finishes,
        ..refuse(reject, qtype, message)
    }
}

/// REFUSED by a block.
fn refuse_in<'s>(block: &'s Block, query: &Query, message: &mut [u8]) -> Made<'s> {
    let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
    Made { counted_as: block.counted_as, finishes: &block.finishes, ..refused }
}

fn refuse(reject: &Reject, qtype: u16, message: &mut [u8]) -> Made<'static> {
    unclaimed(reply::stamp_reject(reject, message), qtype, reject.edns)
}

#[inline]
fn unclaimed(stamped: Stamped, qtype: u16, edns: Option<Edns>) -> Made<'static> {
    Made {
        len: stamped.len,
        rcode: stamped.rcode,
        qtype,
        edns,
        by: Answerer::SERVER,
        counted_as: None,
        logged_as: None,
        finishes: &[],
    }
}
