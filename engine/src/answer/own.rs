//! The second stage: the block's own sources.
//!
//! Invariant: they are asked in order, and the first that does not pass the name on decides.

use std::slice;

use wire::answer::Answer;
use wire::hash::NameHash;
use wire::header::{Rcode, TYPE_A, TYPE_AAAA, TYPE_PTR};
use wire::name::Name;
use wire::query::Overwritten;
use wire::reply::{self, End, Envelope};
use wire::table::{DenialKind, Found, Stored, Table, Wanted};

use super::chase::{Lead, Reach, View};
use super::decision::{Decision, Witness};
use super::exit::Made;
use super::glance::Glance;
use super::{NumberedBlock, Pursue, Sources, Verdict, ask_gates, end_of_chain, reject_in};
use crate::metrics::answerer::Answerer;
use crate::plan::{Own, OwnTable};
use crate::plugin::exchange::Exchange;
use crate::plugin::gate::CnameTarget;
use crate::plugin::no_aaaa::TYPE_NONE;
use crate::plugin::pattern::BlockPatterns;
use crate::plugin::pursuit::Pursuit;
use crate::plugin::targets::TargetPursuit;

/// The result of asking a block's own sources.
pub(super) enum OwnAnswer<'s> {
    /// The response is written, or there is none.
    Verdict(Verdict<'s>),
    /// No source has the name: upstreams may.
    PassedOn,
    /// CNAMEs of a table. The upstreams of this block, by index, may have their target.
    Alias(Answer<'s>, usize),
}

/// Asks the sources of a block, given with its index in the plan. `glance`: what the fast path
/// found out.
pub(super) fn ask_own<'s>(
    witness: &mut impl Witness,
    sources: &'s Sources,
    place: NumberedBlock<'s>,
    exchange: &mut Exchange<'_>,
    glance: Glance<'s>,
    envelope: Envelope,
    message: &mut [u8],
) -> OwnAnswer<'s> {
    let ((_, block), mut hash) = (place, None);
    for (index, own) in block.own.iter().enumerate() {
        let own = match own {
            Own::Table(own) => own,
            Own::Gate(gate) => {
                let gate = slice::from_ref(gate);
                match ask_gates(witness, place, gate, block.gates.len(), exchange, message) {
                    Some(verdict) => return OwnAnswer::Verdict(verdict),
                    None => continue,
                }
            }
        };
        let (query, name) = (&exchange.query, &*exchange.name);
        let Some(table) = sources.table(own.table) else {
            witness.see(|| Decision::of_table(own, None, false));
            return made(end_of_chain(block, query, message));
        };
        let stored = match glance {
            Glance::LookedUp { passed, .. } if index < passed => continue,
            Glance::LookedUp { passed, stored } if index == passed => stored,
            Glance::LookedUp { .. } | Glance::Unread | Glance::Presumed => {
                stored(table, &mut hash, name)
            }
        };
        let denial = block.denies_aaaa(query, name);
        let qtype = if denial.is_some() { TYPE_NONE } else { query.qtype };
        let wanted = Wanted { qtype, ..query.wanted(envelope.rotation) };
        let found = table.look_up_from(stored, name, wanted);
        let is_refused = matches!(found, Found::Outside) && own.refused.find(name).is_some();
        let passes_on = !is_refused && passes_on(own, &found, name, query.qtype);
        witness.see(|| Decision::of_table(own, Some(&found), passes_on));
        if is_refused {
            return made(reject_in(block, query, Rcode::Refused, message));
        }
        if passes_on {
            continue;
        }
        let Found::Alias(cnames) = found else {
            let stamped = reply::stamp(query, table, &found, envelope, message);
            // As in CoreDNS, an error for a name that no plugin has is counted as the server's.
            let is_unlisted = matches!(found, Found::Unlisted);
            let by = if is_unlisted { Answerer::SERVER } else { own.answerer };
            return made(Made::new(block, stamped, query, by));
        };
        let vantage = sources.plan.vantage(exchange.arrival.listener, place.0);
        let view = View { sources, vantage, wanted, peer: exchange.trail.peer };
        let reach = if table.is_of_zones() { Reach::EveryType } else { Reach::Addresses };
        let (query, name) = (exchange.query, exchange.name.clone());
        let meets = |target: &Name| meets_gates(view, target, place.0, exchange);
        let after = block_to_ask(view, &name, cnames, reach, meets);
        witness.see(|| Decision::Cnames {
            target: cnames.target_for(&name).map(|target| target.bytes().into()),
            goes_upstream: matches!(after, AfterCnames::Upstreams(_)),
        });
        return match after {
            AfterCnames::Upstreams(asks) => OwnAnswer::Alias(cnames, asks),
            AfterCnames::Inside(target) => {
                let cnames = End { cnames: Some(cnames), then: None, found: None };
                let verdict = look_inside(place, own.answerer, &target, &cnames, exchange, message);
                OwnAnswer::Verdict(verdict)
            }
            AfterCnames::End(end) => {
                let stamped = reply::stamp_end(&query, &end, envelope, message);
                made(Made::new(block, stamped, &query, own.answerer))
            }
        };
    }
    OwnAnswer::PassedOn
}

fn made(made: Made<'_>) -> OwnAnswer<'_> {
    OwnAnswer::Verdict(Verdict::Reply(made))
}

/// What a table stores under a name. `hash`: the name's, once computed; all tables share it.
fn stored<'s>(table: &'s Table, hash: &mut Option<NameHash>, name: &Name) -> Option<Stored<'s>> {
    table.stored(*hash.get_or_insert_with(|| table.hash(name)), name)
}

/// Whether the next source is asked: the table lacks the name, or its plugin passes this type on.
pub(super) fn passes_on(own: &OwnTable, found: &Found<'_>, name: &Name, qtype: u16) -> bool {
    match found {
        Found::Outside => true,
        Found::NxDomain(_) | Found::Unsynced(_) | Found::Unlisted => {
            own.fallthrough.find(name).is_some()
        }
        Found::NoData(_) => {
            let is_supported = matches!(qtype, TYPE_A | TYPE_AAAA | TYPE_PTR);
            own.passes_unsupported && !is_supported && own.fallthrough.find(name).is_some()
        }
        Found::Denied(denial) => match denial.kind {
            DenialKind::NoData => false,
            DenialKind::Empty | DenialKind::NxDomain => own.fallthrough.find(name).is_some(),
        },
        Found::Answer(_)
        | Found::Alias(_)
        | Found::Expanded(..)
        | Found::Referral(_)
        | Found::Unloaded
        | Found::Pod(_)
        | Found::Endpoint(_)
        | Found::Pointer(_)
        | Found::Soa(_) => false,
    }
}

/// Where a table's CNAMEs lead.
enum AfterCnames<'s> {
    /// The upstreams of this block, by index, may have their target.
    Upstreams(usize),
    /// This server is asked for this name as by a client.
    Inside(Name),
    /// The tables have the target, or no upstream may have it.
    End(End<'s>),
}

/// Finds who may have the target of a table's CNAMEs.
fn block_to_ask<'s>(
    view: View<'s>,
    name: &Name,
    cnames: Answer<'s>,
    reach: Reach,
    meets_gates: impl FnMut(&Name) -> bool,
) -> AfterCnames<'s> {
    match view.behind(name, cnames, reach, meets_gates) {
        Lead::Here(end) => AfterCnames::End(end),
        Lead::Inside(target) => AfterCnames::Inside(target),
        Lead::Away(target) => {
            let plan = &*view.sources.plan;
            let index = plan.block_index_from(view.vantage, &target);
            let knows = |index: &usize| plan.blocks[*index].has_upstreams_for(&target);
            let end = End { cnames: Some(cnames), then: None, found: None };
            index.filter(knows).map_or(AfterCnames::End(end), AfterCnames::Upstreams)
        }
    }
}

/// Whether a plugin before the tables may answer for the target of CNAMEs, or change the question.
/// `own`: the client's block, by index.
fn meets_gates(view: View<'_>, target: &Name, own: usize, exchange: &mut Exchange<'_>) -> bool {
    let plan = &*view.sources.plan;
    let Some(index) = plan.block_index_from(view.vantage, target) else { return false };
    let Some(block) = plan.blocks.get(index) else { return false };
    let mut gates = block.gates.iter().chain(block.own_gates()).peekable();
    if gates.peek().is_none() {
        return false;
    }
    let others;
    let patterns = if index == own {
        Some(&*exchange.patterns)
    } else {
        others = exchange.of_blocks.get(index).and_then(BlockPatterns::try_read);
        others.as_deref().map(|patterns| &patterns[..])
    };
    let text = &mut exchange.texts.other;
    text.set_name(target.bytes());
    let qtype = view.wanted.qtype;
    let target = CnameTarget { name: target, text: text.bytes(), qtype, patterns };
    gates.any(|gate| gate.takes(target))
}

/// Starts a pursuit that looks the target of CNAMEs up in this server.
fn look_inside<'s>(
    (index, block): NumberedBlock<'s>,
    by: Answerer,
    target: &Name,
    cnames: &End<'_>,
    exchange: &mut Exchange<'_>,
    message: &mut [u8],
) -> Verdict<'s> {
    let query = exchange.query;
    if exchange.is_too_deep() {
        return Verdict::Reply(end_of_chain(block, &query, message));
    }
    // The pursuit asks with the client's query.
    let overwritten = Overwritten::of(message, &query);
    let envelope = Envelope { len_max: message.len(), rotation: 0 };
    let stamped = reply::stamp_end(&query, cnames, envelope, message);
    let own = message.get(..stamped.len).unwrap_or_default();
    let pursuit = TargetPursuit::of_table(own, target, query.qtype, by);
    overwritten.restore(message, &query);
    let pursuit = Box::new(Pursuit::Targets(pursuit));
    Verdict::Pursue(Pursue { pursuit, query, block: index, gates_done: block.gates.len() })
}
