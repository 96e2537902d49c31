//! Which block takes a query: the one with the longest zone, and among those with views the first
//! whose view takes it. Invariant: a look-up behind a gate stays in its client's block.

use wire::header::TYPE_DS;
use wire::name::Name;
use wire::query::Query;

use super::Scratch;
use super::decision::{Decision, Witness};
use crate::client::{Arrival, Inside, InsideStart};
use crate::plan::Plan;
use crate::plugin::pattern::BlockPatterns;
use crate::plugin::view::ViewFilter;
use crate::plugin::view::program::QueryFacts;

/// The block that takes a query, by index, and the first of its gates to ask.
pub(super) fn choose_block(
    witness: &mut impl Witness,
    plan: &Plan,
    scratch: &mut Scratch<'_>,
    arrival: &Arrival,
    (query, name): (&Query, &Name),
    message: &[u8],
) -> (Option<usize>, usize) {
    let has_views = plan.has_views(arrival.listener);
    match arrival.inside {
        Some(Inside { start: InsideStart::Gate { block, gate }, .. }) => (Some(block), gate),
        Some(Inside { start: InsideStart::Server, .. }) | None if has_views => {
            (viewed_block_index(witness, plan, scratch, arrival, (query, name), message), 0)
        }
        Some(Inside { start: InsideStart::Server, .. }) | None if query.qtype == TYPE_DS => {
            (plan.block_index_above(arrival.listener, name, &mut |_, _| false), 0)
        }
        Some(Inside { start: InsideStart::Server, .. }) | None => {
            (plan.block_index_for(arrival.listener, name), 0)
        }
    }
}

/// The block that takes a query at an address where blocks have views.
#[cold]
fn viewed_block_index(
    witness: &mut impl Witness,
    plan: &Plan,
    scratch: &mut Scratch<'_>,
    arrival: &Arrival,
    (query, name): (&Query, &Name),
    message: &[u8],
) -> Option<usize> {
    let listener = plan.listeners.get(arrival.listener.0)?;
    let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let (peer, server) = (scratch.trail.peer, listener.address);
    let facts = QueryFacts { arrival, query, name, id, peer, server };
    let mut takes = |index: usize, view: &ViewFilter| {
        let patterns = scratch.patterns.get(index).map(BlockPatterns::borrow);
        let patterns = patterns.as_deref().map_or(&[][..], |patterns| &patterns[..]);
        let takes = view.takes(&facts, patterns, scratch.view_texts);
        witness.see(|| Decision::View { block: index, takes });
        takes
    };
    if query.qtype == TYPE_DS {
        plan.block_index_above(arrival.listener, name, &mut takes)
    } else {
        plan.block_index_where(arrival.listener, name, &mut takes)
    }
}
