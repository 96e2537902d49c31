//! Where CNAMEs lead, a table's or an upstream's: what this server's own tables have there.
//!
//! Looked up for each client anew, so that nothing of it is kept. Invariant: two steps at most, one alias of a table's among
//! them; what leads on from there leads nowhere.

use wire::header::{TYPE_A, TYPE_AAAA};
use wire::name::Name;
use wire::reply::End;
use wire::response::Response;
use wire::table::{Answer, Found, Table};

use crate::answer::Sources;
use crate::client::ListenerId;

/// In whose view names are looked up, and for what.
#[derive(Clone, Copy)]
pub struct View<'s> {
    pub sources: Sources<'s>,
    pub listener: ListenerId,
    pub qtype: u16,
}

/// Where CNAMEs of a table lead.
pub enum Lead<'s> {
    /// No further than tables know.
    Here(End<'s>),
    /// To this name, which is for others: addresses are to be asked for there.
    Away(Name),
}

impl<'s> View<'s> {
    /// What the table has that speaks for a name; `None` where none does, and where the name falls through to those who may know
    /// it.
    #[must_use]
    pub fn own(self, name: &Name) -> Option<(&'s Table, Found<'s>)> {
        let block = self.sources.plan.block_for(self.listener, name)?;
        let kubernetes = block.own.first()?;
        let table = self.sources.table_of(block)?;
        match table.look_up(name, self.qtype) {
            Found::Outside => None,
            Found::NxDomain(_) | Found::Unsynced(_) | Found::Unlisted
                if kubernetes.fallthrough.find(name).is_some() && block.knows_others(name) =>
            {
                None
            }
            found => Some((table, found)),
        }
    }

    #[must_use]
    pub fn behind(self, cnames: Answer<'s>) -> Lead<'s> {
        let end = |found| Lead::Here(End { cnames: Some(cnames), found });
        let Some(target) = Name::from_wire(cnames.target()) else { return end(None) };
        match self.own(&target) {
            // Round in a circle, or too far.
            Some((_, Found::Alias(_))) => end(None),
            Some(found) => end(Some(found)),
            // As CoreDNS, for addresses alone.
            None if matches!(self.qtype, TYPE_A | TYPE_AAAA) => Lead::Away(target),
            None => end(None),
        }
    }

    /// Whether what is kept of the answer to a question for this name says what it may say here. Where it was kept, other names
    /// may have been ours: at another listener, before a reload, before a Service came or went.
    #[must_use]
    pub fn may_be_given(self, response: &Response, question: &[u8]) -> bool {
        response.ends_with_ours(question, |name| self.own(name).is_some())
    }

    /// What is behind an upstream's CNAMEs that lead to a name of ours; `None` if it is ours no more.
    #[must_use]
    pub fn end_of(self, response: &Response) -> Option<End<'s>> {
        match self.own(&response.leads_to()?)? {
            (_, Found::Alias(cnames)) => Some(match self.behind(cnames) {
                Lead::Here(end) => end,
                Lead::Away(_) => End { cnames: Some(cnames), found: None },
            }),
            found => Some(End { cnames: None, found: Some(found) }),
        }
    }
}
