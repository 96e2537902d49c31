//! Targets of CNAMEs: what this server's own tables have for them.
//!
//! The CNAMEs come from a table or from an upstream. Targets are looked up for each client, and the
//! result is never cached. Invariant: a chase takes at most three steps, at most two of them from
//! CNAMEs in tables; where a chain goes on from there, this server is asked as by a client.

use std::net::SocketAddr;

use wire::answer::Answer;
use wire::header::{TYPE_A, TYPE_AAAA, TYPE_CNAME};
use wire::name::Name;
use wire::reply::End;
use wire::response::Response;
use wire::table::{Found, Table, Wanted};

use super::Sources;
use super::own::passes_on;
use crate::plan::{OwnTable, Vantage};
use crate::plugin::no_aaaa::TYPE_NONE;

/// The view of a client: which blocks it sees, and what it asks for.
#[derive(Clone, Copy)]
pub struct View<'s> {
    pub sources: &'s Sources,
    pub vantage: Vantage,
    pub wanted: Wanted,
    /// The client's address; `None` if no gate reads it, or for the view of several clients.
    pub peer: Option<SocketAddr>,
}

/// How far the CNAMEs of a table are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Upstreams are asked for addresses only, as in CoreDNS's `kubernetes`.
    Addresses,
    /// For every type, as in CoreDNS's `file`.
    EveryType,
}

/// The target of a table's CNAMEs.
pub enum Lead<'s> {
    /// The tables end the chain.
    Here(End<'s>),
    /// This name is not in the tables. Upstreams must be asked for its addresses.
    Away(Name),
    /// This server is to be asked for this name as by a client: another plugin may answer for it or
    /// change the question, or more CNAMEs lead on from it.
    Inside(Name),
}

impl<'s> View<'s> {
    /// What the block's tables have for a name; `None` if they pass it on to upstreams.
    #[must_use]
    pub fn own(self, name: &Name) -> Option<(&'s Table, Found<'s>)> {
        self.find(name, |_| true)
    }

    /// The same, but only for tables that are an authority. An upstream's CNAMEs end at their
    /// names, but not at those of a list of hosts.
    fn authority(self, name: &Name) -> Option<(&'s Table, Found<'s>)> {
        self.find(name, |own| own.is_authority)
    }

    fn find(
        self,
        name: &Name,
        is_included: impl Fn(&OwnTable) -> bool,
    ) -> Option<(&'s Table, Found<'s>)> {
        let plan = &*self.sources.plan;
        let block = plan.blocks.get(plan.block_index_from(self.vantage, name)?)?;
        for own in block.tables().filter(|own| is_included(own)) {
            let table = self.sources.table(own.table)?;
            let stored = table.stored(table.hash(name), name);
            let found = table.look_up_from(stored, name, self.wanted);
            let passes_on = passes_on(own, &found, name, self.wanted.qtype);
            let is_final = match found {
                Found::Outside => false,
                // Without upstreams for the name, this table decides.
                Found::NxDomain(_) | Found::Unsynced(_) | Found::Denied(_) => {
                    !passes_on || !block.has_upstreams_for(name)
                }
                Found::Unlisted | Found::NoData(_) => !passes_on,
                Found::Answer(_)
                | Found::Alias(_)
                | Found::Expanded(..)
                | Found::Referral(_)
                | Found::Unloaded
                | Found::Pod(_)
                | Found::Endpoint(_)
                | Found::Pointer(_)
                | Found::Soa(_) => true,
            };
            if is_final {
                return Some((table, found));
            }
        }
        None
    }

    /// Whether `acl` lets the client ask for a name itself. If not, CNAMEs do not get it there.
    fn may_ask(self, name: &Name) -> bool {
        let plan = &*self.sources.plan;
        let index = plan.block_index_from(self.vantage, name);
        let gates = index.and_then(|index| Some(&plan.blocks.get(index)?.gates));
        let mut gates = gates.into_iter().flatten();
        gates.all(|gate| gate.allows_target(name, self.wanted.qtype, self.peer))
    }

    /// Follows the CNAMEs that a table has for a name to their target. `meets_gates`: whether a
    /// plugin before the tables may answer for a name, or change the question.
    #[must_use]
    pub fn behind(
        self,
        name: &Name,
        cnames: Answer<'s>,
        reach: Reach,
        mut meets_gates: impl FnMut(&Name) -> bool,
    ) -> Lead<'s> {
        let cnames = cnames.without_circle(name, |_| false);
        let end = |found| Lead::Here(End { cnames: Some(cnames), then: None, found });
        // A question for CNAMEs gets the one that a DNAME makes, and not those after it.
        let target = cnames.target_for(name).filter(|_| self.wanted.qtype != TYPE_CNAME);
        let target = target.filter(|target| self.may_ask(target));
        // A circle ends where it began.
        let has = |owner: &Name| cnames.has_cname_of(name, owner);
        let Some(target) = target.filter(|target| !has(target)) else { return end(None) };
        // `no_aaaa` has tables asked for this type, and no upstream.
        let is_followed = self.wanted.qtype != TYPE_NONE
            && (reach == Reach::EveryType || matches!(self.wanted.qtype, TYPE_A | TYPE_AAAA));
        if is_followed && meets_gates(&target) {
            return Lead::Inside(target);
        }
        match self.own(&target) {
            Some((_, Found::Alias(then))) => {
                let then = then.without_circle(&target, has);
                let next = then.target_for(&target).filter(|next| self.may_ask(next));
                let is_back = |next: &Name| has(next) || then.has_cname_of(&target, next);
                let is_circle = next.as_ref().is_some_and(is_back);
                let found = next.as_ref().and_then(|next| self.own(next));
                let goes_on = match (&next, &found) {
                    (None, _) => false,
                    (Some(_), None | Some((_, Found::Alias(_)))) => true,
                    (Some(next), Some(_)) => meets_gates(next),
                };
                if is_followed && goes_on && !is_circle {
                    return Lead::Inside(target);
                }
                // One more CNAME is a circle, or one too many.
                let found = found.filter(|(_, found)| !matches!(found, Found::Alias(_)));
                Lead::Here(End { cnames: Some(cnames), then: Some(then), found })
            }
            Some(found) => end(Some(found)),
            None if is_followed => Lead::Away(target),
            None => end(None),
        }
    }

    /// Whether one of this server's tables is the authority for a name.
    #[must_use]
    pub fn is_ours(self, name: &Name) -> bool {
        self.authority(name).is_some()
    }

    /// Whether a cached response to a question for this name is valid in this view. This server may
    /// have had other names when it was cached: at another listener, before a reload, or before a
    /// Service was created or deleted.
    #[must_use]
    pub fn may_be_sent(self, response: &Response, question: &[u8]) -> bool {
        response.ends_at_own_target(question, |name| self.is_ours(name))
    }

    /// The end of an upstream's CNAMEs that lead to one of this server's names; `None` if the name
    /// is no longer this server's.
    #[must_use]
    pub fn end_of(self, response: &Response) -> Option<End<'s>> {
        let target = response.own_target()?;
        if !self.may_ask(&target) {
            return Some(End { cnames: None, then: None, found: None });
        }
        match self.authority(&target)? {
            (_, Found::Alias(cnames)) => {
                Some(match self.behind(&target, cnames, Reach::Addresses, |_| false) {
                    Lead::Here(end) => end,
                    Lead::Away(_) | Lead::Inside(_) => {
                        End { cnames: Some(cnames), then: None, found: None }
                    }
                })
            }
            found => Some(End { cnames: None, then: None, found: Some(found) }),
        }
    }
}
