//! The fast path: a query whose name a table stores, in a block where no plugin could act on it.
//!
//! `look` reads the packet and finds the table; the caller may prefetch its memory; `at_a_glance`
//! reads it and answers. What they cannot answer, `in_full` answers, which begins with what they
//! found out. Invariant: a message that is not answered here is unchanged.

use wire::hash::NameHash;
use wire::header::{TYPE_ANY, TYPE_DS, TYPE_IXFR, TYPE_SOA};
use wire::name::Name;
use wire::query::{self, ClientPacket, Query};
use wire::reply;
use wire::table::{Stored, Table};

use super::exit::Made;
use super::{Sources, Tables};
use crate::client::{Arrival, ListenerId};
use crate::plan::Block;

/// A query that the fast path can answer: what remains is to read the table.
#[derive(Clone, Copy)]
pub struct Looked {
    query: Query,
    /// Index in the plan.
    block: usize,
    hash: NameHash,
}

/// What the fast path has found out about a query that it did not answer.
#[derive(Clone, Copy)]
pub enum Glance<'s> {
    /// Nothing.
    Unread,
    /// `query::presume` has read its name.
    Presumed,
    /// Its name was read too. The tables among the first `passed` local sources lack it and pass it
    /// on; the next source is a table, and `stored` is what it stores under the name.
    LookedUp { passed: usize, stored: Option<Stored<'s>> },
}

impl Looked {
    /// The first of the fast path's tables.
    #[inline(always)]
    fn first_table<'s>(&self, sources: &'s Sources) -> Option<(&'s Block, &'s Table)> {
        let block = sources.plan.blocks.get(self.block)?;
        Some((block, sources.table(block.glance.first())?))
    }

    /// The last of them, the largest: a list of hosts before it stays in the processor's cache.
    #[inline(always)]
    fn last_table<'s>(&self, sources: &'s Sources) -> Option<&'s Table> {
        sources.table(sources.plan.blocks.get(self.block)?.glance.last())
    }

    /// The memory that the table reads first: see `Table::slot_line`.
    #[inline]
    #[must_use]
    pub fn slot_line<'s>(&self, sources: &'s Sources) -> &'s [u8] {
        self.last_table(sources).map_or(&[], |table| table.slot_line(self.hash))
    }

    /// The memory that it reads next: see `Table::entry_line`.
    #[inline]
    #[must_use]
    pub fn entry_line<'s>(&self, sources: &'s Sources) -> &'s [u8] {
        self.last_table(sources).map_or(&[], |table| table.entry_line(self.hash))
    }
}

impl Glance<'_> {
    /// Reads the packet in full. If the name had not been read whole, what was found for it is
    /// forgotten.
    pub(super) fn read(&mut self, packet: &[u8], name: &mut Name) -> ClientPacket {
        match self {
            Self::LookedUp { stored: Some(_), .. } => query::read_again(packet, name),
            Self::LookedUp { stored: None, .. } | Self::Presumed if name.is_whole() => {
                query::read_again(packet, name)
            }
            Self::LookedUp { stored: None, .. } | Self::Presumed | Self::Unread => {
                *self = Self::Unread;
                query::read(packet, name)
            }
        }
    }
}

/// Finds the table that probably has the answer to a packet. `name` receives the question's name.
///
/// # Errors
/// There is no such table; what was found out.
#[inline(always)] // Into the packet path: its arguments and results stay in registers.
pub fn look(
    sources: &Sources,
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

/// The fast path: answers with records of a table, or with NODATA, if the table stores the name.
///
/// `message` holds the packet and has room as `Packet::message` says.
///
/// # Errors
/// The query needs `in_full`; what was found out. The message is unchanged.
#[inline(always)] // As `look`.
pub fn at_a_glance<'s>(
    sources: &'s Sources,
    arrival: &Arrival,
    looked: &Looked,
    name: &Name,
    message: &mut [u8],
) -> Result<Made<'s>, Glance<'s>> {
    let query = &looked.query;
    let (block, first) = looked.first_table(sources).ok_or(Glance::Presumed)?;
    let mut number = 0;
    let stored = match first.stored(looked.hash, name) {
        None if first.passes_unstored() => {
            stored_behind(&sources.tables, block, looked.hash, name, &mut number)
        }
        stored => stored,
    };
    let looked_up = |stored| Glance::LookedUp { passed: block.glance.index(number), stored };
    let stored = stored.ok_or_else(|| looked_up(None))?;
    let unanswered = || looked_up(Some(stored));
    let stamped = match stored.answer(query.qtype) {
        Some(records) => {
            let rotation = || sources.rotation_of(block);
            let len_max = || arrival.len_max(query.edns);
            reply::stamp_whole(query, &records, rotation, len_max, message)
                .ok_or_else(unanswered)?
        }
        None => {
            let apex = stored.no_data().ok_or_else(unanswered)?;
            let table = sources.table(block.glance.slot(number)).ok_or_else(unanswered)?;
            reply::stamp_no_data(query, table, apex, message)
        }
    };
    let by = block.glance.answerer(number);
    // A block whose finishes could matter has no tables on the fast path.
    Ok(Made { finishes: &[], ..Made::new(block, stamped, query, by) })
}

/// What a table after the first one stores under the name. The first one lacks it and passes it on:
/// k3s has a list of hosts before the cluster. `number`: set to the number of the table that was
/// read last, among those of the fast path.
#[inline(never)] // Inlined, it would cost the default Corefile ten instructions per query.
fn stored_behind<'s>(
    tables: &'s Tables,
    block: &Block,
    hash: NameHash,
    name: &Name,
    number: &mut usize,
) -> Option<Stored<'s>> {
    for slot in block.glance.behind_first() {
        let table = tables.get(slot.0)?.as_deref()?;
        *number += 1;
        let stored = table.stored(hash, name);
        if stored.is_some() || !table.passes_unstored() {
            return stored;
        }
    }
    None
}
