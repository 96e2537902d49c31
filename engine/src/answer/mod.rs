//! A packet to its answer: pure, no socket, no clock.
//!
//! The order is CoreDNS's: is it a query, whose zone is it, which plugin of that block knows; save that the table is asked
//! before the cache, so that nothing of the cluster is ever out of date. Invariant: nothing here allocates, waits or panics,
//! whatever the packet holds.

pub mod chase;
pub mod exit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::hash::NameHash;
use wire::header::{Rcode, TYPE_AXFR, TYPE_DS, TYPE_IXFR, TYPE_SOA};
use wire::name::Name;
use wire::query::{self, Edns, Query, Reading, Reject};
use wire::reply::{self, End, Envelope, Stamped};
use wire::response::{self, Alias};
use wire::table::{Answer, Found, Stored, Table};

use crate::cache::{Cache, CacheKey, LookUp};
use crate::client::{Family, ListenerId, Transport};
use crate::forward::TYPE_HINFO;
use crate::limits::TABLES_MAX;
use crate::plan::{Block, Plan};
use chase::{Lead, View};

/// The tables of one shard, by slot.
pub type Tables = [Option<Arc<Table>>; TABLES_MAX];

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'s> {
    /// Send this much of the output buffer.
    Reply(Answered),
    /// The same; and ask upstreams, for the cache alone.
    ReplyAndRefresh(Answered, Ask<'s>),
    /// Upstreams must be asked first.
    Ask(Ask<'s>),
    /// Say nothing.
    Drop,
}

/// A question for upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'s> {
    pub query: Query,
    /// In whose view answers are completed.
    pub listener: ListenerId,
    /// Which block's client it is.
    pub block: &'s Block,
    /// Which block's upstreams know: another one's if CNAMEs lead there.
    pub asks: &'s Block,
    /// CNAMEs of the table: their target is asked for instead of the question's name.
    pub alias: Option<Answer<'s>>,
    /// When the client is given an expired answer instead (`serve_stale verify`).
    pub stale_after: Option<Duration>,
}

impl Ask<'_> {
    /// The name that upstreams are asked for, if it is not the question's: where the CNAMEs lead.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        Name::from_wire(self.alias?.target())
    }
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
    Cache,
    Forward,
}

/// A packet, which begins the message that its answer is written over, and how it came.
#[derive(Clone, Copy)]
pub struct Question {
    pub listener: ListenerId,
    pub transport: Transport,
    pub is_from_v6: bool,
    /// Bytes of the packet.
    pub len: usize,
    /// When its batch began.
    pub now: Instant,
}

impl Question {
    /// The client's address family.
    #[inline]
    #[must_use]
    pub fn family(&self) -> Family {
        if self.is_from_v6 { Family::V6 } else { Family::V4 }
    }
}

/// What a packet is answered from, caches left out.
#[derive(Clone, Copy)]
pub struct Sources<'s> {
    pub plan: &'s Plan,
    pub tables: &'s Tables,
    /// Grows with every answer: where the next rotation of addresses begins.
    pub rotation: usize,
}

/// A question for a table, looked at once: what stays to be done is to read the table.
#[derive(Clone, Copy)]
pub struct Looked {
    query: Query,
    /// Index in the plan.
    block: usize,
    hash: NameHash,
}

/// What is known of a packet that is not answered yet.
#[derive(Clone, Copy)]
pub enum Glance<'s> {
    /// Nothing.
    Unread,
    /// Its name is the one that `query::presume` has read.
    Presumed,
    /// So it is, and this is what the table holds under it.
    Asked(Option<Stored<'s>>),
}

impl<'s> Sources<'s> {
    /// The table of a block's `kubernetes`, once there is one.
    #[inline]
    pub(crate) fn table_of(&self, block: &Block) -> Option<&'s Table> {
        self.tables.get(block.own.first()?.table.0)?.as_deref()
    }

    /// How far a block rotates the addresses of this answer.
    #[inline]
    fn rotation_of(&self, block: &Block) -> usize {
        if block.rotates { self.rotation } else { 0 }
    }
}

impl Looked {
    #[inline(always)]
    fn table<'s>(&self, sources: Sources<'s>) -> Option<(&'s Block, &'s Table)> {
        let block = sources.plan.blocks.get(self.block)?;
        Some((block, sources.table_of(block)?))
    }

    /// What the table will read first: see `Table::slot_line`.
    #[inline]
    #[must_use]
    pub fn slot_line<'s>(&self, sources: Sources<'s>) -> &'s [u8] {
        self.table(sources).map_or(&[], |(_, table)| table.slot_line(self.hash))
    }

    /// What it will read then: see `Table::entry_line`.
    #[inline]
    #[must_use]
    pub fn entry_line<'s>(&self, sources: Sources<'s>) -> &'s [u8] {
        self.table(sources).map_or(&[], |(_, table)| table.entry_line(self.hash))
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
    if matches!(query.qtype, TYPE_DS | TYPE_SOA | TYPE_AXFR | TYPE_IXFR) {
        return Err(Glance::Presumed);
    }
    let block = sources.plan.block_index_for(listener, name).ok_or(Glance::Presumed)?;
    let looked = Looked { query, block, hash: NameHash::default() };
    let (_, table) = looked.table(sources).ok_or(Glance::Presumed)?;
    Ok(Looked { hash: table.hash(name), ..looked })
}

/// Answers what most packets ask for: records of the table, or that there are none of this type, by a name spelt as it is
/// stored. Neither is looked at twice.
///
/// `message` holds `UDP_LEN_MAX` bytes for UDP and `MESSAGE_LEN_MAX` for TCP.
///
/// # Errors
/// What is known of another question, whose message is as it was.
#[inline(always)] // As `look`.
pub fn at_a_glance<'s>(
    sources: Sources<'s>,
    question: &Question,
    looked: &Looked,
    name: &Name,
    message: &mut [u8],
) -> Result<Answered, Glance<'s>> {
    let query = &looked.query;
    let (block, table) = looked.table(sources).ok_or(Glance::Presumed)?;
    let stored = table.stored(looked.hash, name);
    let asked = Glance::Asked(stored);
    let known = stored.ok_or(asked)?;
    let stamped = match known.answer(query.qtype) {
        Some(records) => {
            let rotation = sources.rotation_of(block);
            let len_max = || question.transport.envelope(query, rotation).len_max;
            reply::stamp_whole(query, &records, rotation, len_max, message).ok_or(asked)?
        }
        None => {
            let apex = known.no_data().ok_or(asked)?;
            reply::stamp_no_data(query, table, apex, message)
        }
    };
    Ok(by_table(block, stamped, query))
}

/// Answers everything else. Arguments as for `at_a_glance`, `glance` from there; `caches`: by `CacheSlot`.
pub fn in_full<'s>(
    sources: Sources<'s>,
    caches: &mut [Cache],
    question: &Question,
    mut glance: Glance<'s>,
    name: &mut Name,
    message: &mut [u8],
) -> Verdict<'s> {
    let Question { listener, transport, .. } = *question;
    let packet = message.get(..question.len).unwrap_or_default();
    let reading = match glance {
        Glance::Asked(Some(_)) => query::read_again(packet, name),
        Glance::Asked(None) | Glance::Presumed if name.is_whole() => {
            query::read_again(packet, name)
        }
        _ => {
            glance = Glance::Unread;
            query::read(packet, name)
        }
    };
    let query = match reading {
        Reading::Query(query) => query,
        Reading::Ignore => return Verdict::Drop,
        Reading::Reject(reject) => {
            return Verdict::Reply(unclaimed(reply::stamp_reject(&reject, message), 0, None));
        }
    };
    let plan = sources.plan;
    let block = if query.qtype == TYPE_DS {
        plan.block_above(listener, name)
    } else {
        plan.block_for(listener, name)
    };
    let Some(block) = block.filter(|block| block.has_plugins) else {
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
        return Verdict::Reply(Answered { counted_as: plan.dropped_as(listener), ..refused });
    };
    let envelope = transport.envelope(&query, sources.rotation_of(block));
    // A zone is given away by the `transfer` plugin alone, which is not here.
    if matches!(query.qtype, TYPE_AXFR | TYPE_IXFR) {
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
        return Verdict::Reply(Answered { counted_as: block.counted_as, ..refused });
    }
    let mut alias = None;
    if let Some(kubernetes) = block.own.first() {
        let Some(table) = sources.table_of(block) else {
            let reject = query.reject(Rcode::ServFail);
            return Verdict::Reply(end_of_chain(block, &reject, query.qtype, message));
        };
        let stored = match glance {
            Glance::Asked(stored) => stored,
            Glance::Unread | Glance::Presumed => table.stored(table.hash(name), name),
        };
        let found = table.look_up_from(stored, name, query.qtype);
        let is_for_others = match found {
            Found::Outside => true,
            Found::NxDomain(_) | Found::Unsynced(_) | Found::Unlisted => {
                kubernetes.fallthrough.find(name).is_some()
            }
            Found::Alias(cnames) => {
                match whom_to_ask(View { sources, listener, qtype: query.qtype }, cnames) {
                    Ok(asks) => alias = Some((cnames, asks)),
                    Err(end) => {
                        let stamped = reply::stamp_end(&query, &end, envelope, message);
                        return Verdict::Reply(by_table(block, stamped, &query));
                    }
                }
                true
            }
            Found::Answer(_) | Found::Pod(_) | Found::Soa(_) | Found::NoData(_) => false,
        };
        if !is_for_others {
            let stamped = reply::stamp(&query, table, &found, envelope, message);
            return Verdict::Reply(by_table(block, stamped, &query));
        }
    }
    let (alias, asks) = alias.map_or((None, block), |(cnames, asks)| (Some(cnames), asks));
    let ask = Ask { query, listener, block, asks, alias, stale_after: None };
    from_outside(sources, caches, ask, name, question.now, envelope, message)
}

/// The block whose upstreams know where CNAMEs of a table lead, in this server's own view.
///
/// # Errors
/// What there is to say where that is known here, or to nobody.
fn whom_to_ask<'s>(view: View<'s>, cnames: Answer<'s>) -> Result<&'s Block, End<'s>> {
    match view.behind(cnames) {
        Lead::Here(end) => Err(end),
        Lead::Away(target) => {
            let block = view.sources.plan.block_for(view.listener, &target);
            let block = block.filter(|block| block.knows_others(&target));
            block.ok_or(End { cnames: Some(cnames), found: None })
        }
    }
}

/// What upstreams know: from the cache, or by asking them. `name` is the question's.
fn from_outside<'s>(
    sources: Sources<'s>,
    caches: &mut [Cache],
    ask: Ask<'s>,
    name: &Name,
    now: Instant,
    envelope: Envelope,
    message: &mut [u8],
) -> Verdict<'s> {
    let Ask { query, block, asks, alias, .. } = ask;
    let target = ask.target();
    let asked = target.as_ref().unwrap_or(name);
    if !asks.knows_others(asked) {
        let reject = query.reject(Rcode::ServFail);
        return Verdict::Reply(end_of_chain(block, &reject, query.qtype, message));
    }
    if query.qtype == TYPE_HINFO && sources.plan.is_own_probe(asks, asked) {
        let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
        return Verdict::Reply(Answered { counted_as: block.counted_as, ..refused });
    }
    let cache = asks.cache.and_then(|slot| caches.get_mut(slot.0));
    let Some(cache) = cache.filter(|cache| cache.covers(asked)) else {
        return Verdict::Ask(ask);
    };
    match cache.look_up(&cache_key(&query, asked), now) {
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
            let answered = Answered {
                counted_as: block.counted_as,
                by: AnsweredBy::Cache,
                ..unclaimed(stamped, query.qtype, query.edns)
            };
            if refresh { Verdict::ReplyAndRefresh(answered, ask) } else { Verdict::Reply(answered) }
        }
    }
}

/// Under which key the answer for this client is kept.
fn cache_key<'n>(query: &Query, asked: &'n Name) -> CacheKey<'n> {
    CacheKey {
        name: asked.bytes(),
        qtype: query.qtype,
        qclass: query.qclass,
        dnssec_ok: query.dnssec_ok(),
        checking_disabled: query.checking_disabled(),
    }
}

/// No plugin of the block answers: SERVFAIL, as at the end of CoreDNS's chain.
fn end_of_chain(block: &Block, reject: &Reject, qtype: u16, message: &mut [u8]) -> Answered {
    Answered {
        counted_as: block.counted_as,
        by: AnsweredBy::EndOfChain,
        logged_as: block.logged_as,
        ..refuse(reject, qtype, message)
    }
}

fn refuse(reject: &Reject, qtype: u16, message: &mut [u8]) -> Answered {
    unclaimed(reply::stamp_reject(reject, message), qtype, reject.edns)
}

/// An answer that a block's `kubernetes` knew.
#[inline]
fn by_table(block: &Block, stamped: Stamped, query: &Query) -> Answered {
    Answered {
        counted_as: block.counted_as,
        by: AnsweredBy::Kubernetes,
        ..unclaimed(stamped, query.qtype, query.edns)
    }
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
