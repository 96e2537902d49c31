//! From a query to its response, without a socket or a clock.
//!
//! A query passes three stages: the gates of its block, its local sources, and the cache with
//! the upstreams behind it. The order is CoreDNS's, except that tables are asked before the cache,
//! so that no answer from the cluster is ever out of date. Most queries take the fast path, which
//! is in `glance`; `in_full` answers the rest.
//! Invariant: nothing here allocates, waits or panics, whatever the packet holds.

pub mod chase;
mod choice;
pub mod decision;
pub mod exit;
pub mod glance;
mod own;

use std::sync::Arc;
use std::time::Duration;

use wire::answer::Answer;
use wire::edit;
use wire::header::{CLASS_IN, Rcode, TYPE_AXFR, TYPE_IXFR};
use wire::name::Name;
use wire::pod_index::PodIndex;
use wire::query::{ClientPacket, Edns, Overwritten, Query, Reject};
use wire::reply::{self, Envelope, Stamped};
use wire::response::{self, Alias};
use wire::table::Table;

use crate::cache::{Cache, CacheKey, LookUp};
use crate::client::{Arrival, ListenerId};
use crate::forward::TYPE_HINFO;
use crate::limits::{PURSUIT_DEPTH_MAX, TABLES_MAX};
use crate::metrics::ShardMetrics;
use crate::metrics::answerer::Answerer;
use crate::plan::{Block, Plan, TableSlot};
use crate::plugin::exchange::{Exchange, NameTexts, PluginCounts, Trail};
use crate::plugin::gate::{Gate, Passage};
use crate::plugin::pattern::BlockPatterns;
use crate::plugin::pursuit::Pursuit;
use crate::plugin::rewrite::Rules;
use crate::plugin::view::program::TextBuffer;
use chase::View;
use choice::choose_block;
use decision::{CacheOutcome, Decision, Unwatched, Witness};
use exit::Made;
use glance::Glance;
use own::{OwnAnswer, ask_own};

/// The tables of one shard, by slot.
pub type Tables = [Option<Arc<Table>>; TABLES_MAX];

/// The pod indexes of one shard, by the slot of the cluster's table.
pub type PodIndexes = [Option<Arc<PodIndex>>; TABLES_MAX];

/// What to do about a query.
#[derive(Debug)]
pub enum Verdict<'s> {
    /// The response is written.
    Reply(Made<'s>),
    /// The response is written; query upstreams as well, to refresh the cache.
    ReplyAndRefresh(Made<'s>, Ask<'s>),
    /// Query upstreams first.
    Ask(Ask<'s>),
    /// Look other names up in this server first.
    Pursue(Pursue),
    /// Send no response: a plugin drops the query. It counts as one with an empty response.
    Drop(Made<'s>),
    /// Send no response: it is no query.
    Ignore,
}

/// A pursuit that a gate starts.
#[derive(Debug)]
pub struct Pursue {
    pub pursuit: Box<Pursuit>,
    pub query: Query,
    /// The client's block, by index.
    pub block: usize,
    /// How many of the block's gates have seen the query.
    pub gates_done: usize,
}

/// A question for upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'s> {
    pub query: Query,
    /// The client's: it decides where the targets of CNAMEs are looked up.
    pub listener: ListenerId,
    /// The client's block, by index.
    pub block: usize,
    /// The block whose upstreams are queried, by index: another one if CNAMEs lead there.
    pub asks: usize,
    /// CNAMEs of a table: upstreams are asked for their target instead of the question's name.
    pub alias: Option<Answer<'s>>,
    /// After this time the client gets an expired response instead (`serve_stale verify`).
    pub stale_after: Option<Duration>,
}

impl Ask<'_> {
    /// The target of the CNAMEs: upstreams are asked for it instead of the question's name.
    #[must_use]
    pub fn target(&self, name: &Name) -> Option<Name> {
        self.alias?.target_for(name)
    }
}

/// Everything that a shard answers from, except the caches.
pub struct Sources {
    pub plan: Arc<Plan>,
    pub tables: Tables,
    pub pods: PodIndexes,
    /// Where the rotation of addresses begins. One more for each response.
    pub rotation: usize,
}

/// What a shard writes while it answers in full.
pub struct Scratch<'r> {
    /// By `CacheSlot`.
    pub caches: &'r mut [Cache],
    /// By block.
    pub patterns: &'r [BlockPatterns],
    pub texts: &'r mut NameTexts,
    /// Of this query.
    pub trail: &'r mut Trail,
    pub metrics: &'r ShardMetrics,
    /// For the texts of views.
    pub view_texts: &'r mut TextBuffer,
}

impl Sources {
    /// Nothing yet. `rotation`: where it begins.
    #[must_use]
    pub fn new(rotation: usize) -> Self {
        Self {
            plan: Arc::default(),
            tables: [const { None }; TABLES_MAX],
            pods: [const { None }; TABLES_MAX],
            rotation,
        }
    }

    /// The table in a slot, if it has one yet.
    #[inline]
    pub(crate) fn table(&self, slot: TableSlot) -> Option<&Table> {
        self.tables.get(slot.0)?.as_deref()
    }

    /// The pod index of the block's cluster.
    fn pods_of(&self, block: &Block) -> Option<&PodIndex> {
        self.pods.get(block.cluster?.0)?.as_deref()
    }

    /// The rotation of addresses for a response of this block.
    #[inline]
    fn rotation_of(&self, block: &Block) -> usize {
        if block.rotates { self.rotation } else { 0 }
    }
}

/// Answers every other query. Arguments as for `at_a_glance`. `glance`: its error, or `look`'s.
pub fn in_full<'s>(
    sources: &'s Sources,
    scratch: &mut Scratch<'_>,
    arrival: &Arrival,
    glance: Glance<'s>,
    name: &mut Name,
    message: &mut [u8],
) -> Verdict<'s> {
    seen_by(&mut Unwatched, sources, scratch, (arrival, glance), name, message)
}

/// The same, where a witness sees each decision.
#[inline(always)] // Into `in_full`, whose witness costs nothing.
pub fn seen_by<'s>(
    witness: &mut impl Witness,
    sources: &'s Sources,
    scratch: &mut Scratch<'_>,
    (arrival, mut glance): (&Arrival, Glance<'s>),
    name: &mut Name,
    message: &mut [u8],
) -> Verdict<'s> {
    let packet = message.get(..arrival.len).unwrap_or_default();
    let query = match glance.read(packet, name) {
        ClientPacket::Query(query) => query,
        ClientPacket::Ignore => return Verdict::Ignore,
        ClientPacket::Reject(reject) => return Verdict::Reply(refuse(&reject, 0, message)),
    };
    let plan = &*sources.plan;
    let (index, first_gate) =
        choose_block(witness, plan, scratch, arrival, (&query, &*name), message);
    let known = index.and_then(|index| Some((index, plan.blocks.get(index)?)));
    witness.see(|| Decision::Block {
        index,
        has_plugins: known.is_some_and(|(_, block)| block.has_plugins),
    });
    let Some((index, block)) = known.filter(|(_, block)| block.has_plugins) else {
        return Verdict::Reply(refuse_unclaimed(plan, arrival, &query, message));
    };
    let Scratch { caches, patterns, trail, texts, metrics, .. } = scratch;
    let counters = PluginCounts { metrics, indexes: &block.counters };
    let pods = sources.pods_of(block);
    let of_blocks = *patterns;
    let of_block = of_blocks.get(index);
    let mut patterns = of_block.map(BlockPatterns::borrow);
    let patterns = patterns.as_deref_mut().map_or(&mut [][..], |patterns| &mut patterns[..]);
    let mut exchange =
        Exchange { arrival, query, name, trail, patterns, of_blocks, texts, counters, pods };
    let place = (index, block);
    let gates = block.gates.get(first_gate..).unwrap_or_default();
    let answered = ask_gates(witness, place, gates, first_gate, &mut exchange, message);
    if !exchange.trail.rewrites.is_empty() {
        exchange.trail.patterns = of_block.cloned();
    }
    match answered {
        Some(Verdict::Pursue(pursue)) => {
            return Verdict::Pursue(pursue_behind(pursue, block, &exchange));
        }
        // Here no gate answers with a CNAME.
        Some(verdict) => return verdict,
        None => {}
    }
    let Query { qtype, qclass, .. } = exchange.query;
    // Tables have one class. Zone transfers need the plugin `transfer`, which this server lacks.
    if qclass != CLASS_IN || matches!(qtype, TYPE_AXFR | TYPE_IXFR) {
        // Where a gate has changed the question, the block's finishes change it back.
        let is_of_block = qclass == CLASS_IN || exchange.is_changed();
        let own_gates = block.own_gates();
        let gates_before = block.gates.len();
        let answered = ask_gates(witness, place, own_gates, gates_before, &mut exchange, message);
        if answered.is_none() {
            witness.see(|| Decision::UnservedType { qtype, qclass });
        }
        return answered.unwrap_or_else(|| {
            if is_of_block {
                return Verdict::Reply(reject_in(block, &exchange.query, Rcode::Refused, message));
            }
            Verdict::Reply(refuse_unclaimed(plan, arrival, &exchange.query, message))
        });
    }
    if exchange.is_changed() {
        glance = Glance::Unread;
    }
    let followed = block.rewrite().filter(|rules| rules.follows_cnames(exchange.trail));
    let followed = followed.map(|rules| (rules, Overwritten::of(message, &exchange.query)));
    let verdict = ask_sources(witness, sources, caches, place, &mut exchange, glance, message);
    match followed {
        Some((rules, overwritten)) => {
            pursue_cnames(verdict, rules, place, &exchange, &overwritten, message)
        }
        None => verdict,
    }
}

/// `rewrite` changes CNAMEs: if the response has one or is still to come, a pursuit looks at it.
fn pursue_cnames<'s>(
    verdict: Verdict<'s>,
    rules: &Arc<Rules>,
    (index, block): NumberedBlock<'s>,
    exchange: &Exchange<'_>,
    overwritten: &Overwritten,
    message: &mut [u8],
) -> Verdict<'s> {
    let depth = exchange.arrival.inside.map_or(0, |inside| inside.depth);
    match verdict {
        Verdict::Reply(_) | Verdict::ReplyAndRefresh(..) | Verdict::Ask(_)
            if depth >= PURSUIT_DEPTH_MAX =>
        {
            verdict
        }
        Verdict::Reply(made) | Verdict::ReplyAndRefresh(made, _)
            if !edit::has_cname(message.get(..made.len).unwrap_or_default()) =>
        {
            verdict
        }
        Verdict::Pursue(pursue) => Verdict::Pursue(pursue_behind(pursue, block, exchange)),
        Verdict::Drop(_) | Verdict::Ignore => verdict,
        Verdict::Reply(_) | Verdict::ReplyAndRefresh(..) | Verdict::Ask(_) => {
            // The pursuit asks again.
            overwritten.restore(message, &exchange.query);
            let pursuit = rules.cname_pursuit(exchange, None);
            let gates_done = block.gates.len();
            Verdict::Pursue(Pursue { pursuit, query: exchange.query, block: index, gates_done })
        }
    }
}

/// If `rewrite` changes CNAMEs, it looks at the response of another plugin's pursuit.
fn pursue_behind(pursue: Pursue, block: &Block, exchange: &Exchange<'_>) -> Pursue {
    match block.rewrite().filter(|rules| rules.follows_cnames(exchange.trail)) {
        Some(rules) => {
            let pursuit = rules.cname_pursuit(exchange, Some(pursue.pursuit));
            Pursue { pursuit, ..pursue }
        }
        None => pursue,
    }
}

/// A block and its index.
type NumberedBlock<'s> = (usize, &'s Block);

/// Asks gates in their order, until one does not pass the query on. `gates_before`: how many gates
/// of the block come before them.
fn ask_gates<'s>(
    witness: &mut impl Witness,
    (index, block): NumberedBlock<'s>,
    gates: impl IntoIterator<Item = &'s Gate>,
    gates_before: usize,
    exchange: &mut Exchange<'_>,
    message: &mut [u8],
) -> Option<Verdict<'s>> {
    for (gate, number) in gates.into_iter().zip(gates_before + 1..) {
        let passage = gate.pass(exchange, message);
        witness.see(|| Decision::of_gate(gate, &passage, exchange));
        match passage {
            Passage::Pass => {}
            Passage::Answer(stamped, by) => {
                return Some(Verdict::Reply(Made::new(block, stamped, &exchange.query, by)));
            }
            Passage::Drop => return Some(Verdict::Drop(dropped(block, &exchange.query))),
            Passage::Pursue(pursuit) => {
                let query = exchange.query;
                if exchange.is_too_deep() {
                    return Some(Verdict::Reply(end_of_chain(block, &query, message)));
                }
                let pursue = Pursue { pursuit, query, block: index, gates_done: number };
                return Some(Verdict::Pursue(pursue));
            }
            Passage::Fail => {
                return Some(Verdict::Reply(end_of_chain(block, &exchange.query, message)));
            }
        }
    }
    None
}

/// The second and the third stage of a block: its own sources, then the cache and the upstreams.
fn ask_sources<'s>(
    witness: &mut impl Witness,
    sources: &'s Sources,
    caches: &mut [Cache],
    place: NumberedBlock<'s>,
    exchange: &mut Exchange<'_>,
    glance: Glance<'s>,
    message: &mut [u8],
) -> Verdict<'s> {
    let (index, block) = place;
    let Exchange { arrival, query, .. } = *exchange;
    let rotation = sources.rotation_of(block);
    let envelope = arrival.envelope(&query, rotation, exchange.is_changed());
    let (alias, asks) = match ask_own(witness, sources, place, exchange, glance, envelope, message)
    {
        OwnAnswer::Verdict(verdict) => return verdict,
        OwnAnswer::PassedOn => {
            if let Some(denial) = block.denies_aaaa(&query, exchange.name) {
                witness.see(|| Decision::NoAaaa);
                let (stamped, by) = denial.respond(&query, exchange.name, envelope, message);
                return Verdict::Reply(Made::new(block, stamped, &query, by));
            }
            (None, index)
        }
        OwnAnswer::Alias(cnames, asks) => (Some(cnames), asks),
    };
    let ask =
        Ask { query, listener: arrival.listener, block: index, asks, alias, stale_after: None };
    let asked_block = &sources.plan.blocks[asks];
    let target = ask.target(exchange.name);
    let asked = target.as_ref().unwrap_or(exchange.name);
    if !asked_block.has_upstreams_for(asked) {
        witness.see(|| Decision::NoUpstreams);
        let gates_before = block.gates.len();
        let answered = ask_gates(witness, place, &block.last, gates_before, exchange, message);
        return answered.unwrap_or_else(|| Verdict::Reply(end_of_chain(block, &query, message)));
    }
    let verdict = ask_cache(sources, caches, ask, asked, exchange, envelope, message);
    witness.see(|| {
        let cache = asked_block.cache.and_then(|slot| caches.get(slot.0));
        let is_cached = cache.is_some_and(|cache| cache.covers(asked));
        Decision::Cache(is_cached.then(|| CacheOutcome::of(&verdict)))
    });
    if let Verdict::Ask(_) | Verdict::ReplyAndRefresh(..) = verdict {
        witness.see(|| Decision::upstreams(asks, asked_block, asked));
    }
    verdict
}

/// The third stage: answers from the cache, or has upstreams queried; there are some for the name.
/// `asked`: the question's, or the target of its CNAMEs.
fn ask_cache<'s>(
    sources: &'s Sources,
    caches: &mut [Cache],
    ask: Ask<'s>,
    asked: &Name,
    exchange: &Exchange<'_>,
    envelope: Envelope,
    message: &mut [u8],
) -> Verdict<'s> {
    let Ask { query, alias, .. } = ask;
    let (block, asks) = (&sources.plan.blocks[ask.block], &sources.plan.blocks[ask.asks]);
    if query.qtype == TYPE_HINFO && sources.plan.is_own_probe(asks, asked) {
        return Verdict::Reply(reject_in(block, &query, Rcode::Refused, message));
    }
    let cache = asks.cache.and_then(|slot| caches.get_mut(slot.0));
    let Some(cache) = cache.filter(|cache| cache.covers(asked)) else {
        return Verdict::Ask(ask);
    };
    match cache.look_up(&cache_key(&query, asked), exchange.arrival.now) {
        LookUp::Miss => Verdict::Ask(ask),
        LookUp::Verify { timeout } => Verdict::Ask(Ask { stale_after: timeout, ..ask }),
        LookUp::Hit { answer: cached, refresh } => {
            let vantage = sources.plan.vantage(ask.listener, ask.block);
            let (wanted, peer) = (query.wanted(envelope.rotation), exchange.trail.peer);
            let view = View { sources, vantage, wanted, peer };
            if !view.may_be_sent(cached.response, asked.bytes()) {
                return Verdict::Ask(ask);
            }
            let end = view.end_of(cached.response);
            let alias = alias.map(|answer| Alias { answer, is_authority: true });
            let stamped = response::stamp(
                &query,
                cached.response,
                cached.ttl,
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
    /// A response that the block's plugins wrote.
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

/// No response, counted for a block, and like CoreDNS for no plugin.
pub(crate) fn dropped<'s>(block: &'s Block, query: &Query) -> Made<'s> {
    let stamped = Stamped { len: 0, rcode: Rcode::NoError };
    Made::new(block, stamped, query, Answerer::SERVER)
}

/// SERVFAIL because no plugin of the block answers, as at the end of CoreDNS's chain, or because a
/// gate lets the query fail.
fn end_of_chain<'s>(block: &'s Block, query: &Query, message: &mut [u8]) -> Made<'s> {
    let rejected = reject_in(block, query, Rcode::ServFail, message);
    Made { logged_as: block.logged_as, ..rejected }
}

/// An error without data, counted for a block.
fn reject_in<'s>(block: &'s Block, query: &Query, rcode: Rcode, message: &mut [u8]) -> Made<'s> {
    let stamped = reply::stamp_reject(&query.reject(rcode), message);
    Made::new(block, stamped, query, Answerer::SERVER)
}

/// REFUSED, counted as a query that no block takes.
fn refuse_unclaimed(
    plan: &Plan,
    arrival: &Arrival,
    query: &Query,
    message: &mut [u8],
) -> Made<'static> {
    let refused = refuse(&query.reject(Rcode::Refused), query.qtype, message);
    Made { counted_as: plan.dropped_as(arrival.listener), ..refused }
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
