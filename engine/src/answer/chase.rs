//! Where CNAMEs lead, a table's or an upstream's: what this server's own tables have there.
//!
//! Looked up for each client anew, so that nothing of it is kept. Invariant: two steps at most, one alias of a table's among
//! them; what leads on from there leads nowhere.

use wire::header::{TYPE_A, TYPE_AAAA};
use wire::name::Name;
use wire::reply::End;
use wire::response::Response;
use wire::table::{Answer, Found, Table};

use super::Sources;
use super::own::passes_on;
use crate::client::ListenerId;
use crate::plan::OwnTable;

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
    /// What the block's tables have on a name; `None` if they pass it on to upstreams that may know it.
    #[must_use]
    pub fn own(self, name: &Name) -> Option<(&'s Table, Found<'s>)> {
        self.find(name, |_| true)
    }

    /// The same, but for tables that are an authority: an upstream's CNAMEs end at their names, and not at
    /// those of a list of hosts.
    fn authority(self, name: &Name) -> Option<(&'s Table, Found<'s>)> {
        self.find(name, |own| own.is_authority)
    }

    fn find(
        self,
        name: &Name,
        is_asked: impl Fn(&OwnTable) -> bool,
    ) -> Option<(&'s Table, Found<'s>)> {
        let block = self.sources.plan.block_for(self.listener, name)?;
        for own in block.own.iter().filter(|own| is_asked(own)) {
            let table = self.sources.table(own.table)?;
            let found = table.look_up(name, self.qtype);
            let is_last_word = match found {
                Found::Outside => false,
                // Where nobody else knows the name, this table's word is the last one.
                Found::NxDomain(_) | Found::Unsynced(_) => {
                    !passes_on(own, &found, name, self.qtype) || !block.has_upstreams_for(name)
                }
                Found::Unlisted | Found::NoData(_) => !passes_on(own, &found, name, self.qtype),
                Found::Answer(_) | Found::Alias(_) | Found::Pod(_) | Found::Soa(_) => true,
            };
            if is_last_word {
                return Some((table, found));
            }
        }
        None
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

    /// Whether a name is of a table that is the authority for it.
    #[must_use]
    pub fn is_ours(self, name: &Name) -> bool {
        self.authority(name).is_some()
    }

    /// Whether what is kept of the answer to a question for this name says what it may say here. Where it was kept, other names
    /// may have been ours: at another listener, before a reload, before a Service came or went.
    #[must_use]
    pub fn may_be_given(self, response: &Response, question: &[u8]) -> bool {
        response.ends_at_own_target(question, |name| self.authority(name).is_some())
    }

    /// What is behind an upstream's CNAMEs that lead to a name of ours; `None` if it is ours no more.
    #[must_use]
    pub fn end_of(self, response: &Response) -> Option<End<'s>> {
        match self.authority(&response.own_target()?)? {
            (_, Found::Alias(cnames)) => Some(match self.behind(cnames) {
                Lead::Here(end) => end,
                Lead::Away(_) => End { cnames: Some(cnames), found: None },
            }),
            found => Some(End { cnames: None, found: Some(found) }),
        }
    }
}
