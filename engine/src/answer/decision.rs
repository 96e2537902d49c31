//! What each stage decides about a query, for `ringdns explain`.
//!
//! `in_full` shows its decisions to a witness while it takes them, so an explanation cannot differ
//! from the answer. Invariant: an unwatched query makes no `Decision`, because the closure that
//! would make it is not called.

use wire::name::Name;
use wire::table::{DenialKind, Found};

use super::Verdict;
use crate::plan::{Block, ForwardSlot, OwnTable, TableSlot};
use crate::plugin::exchange::Exchange;
use crate::plugin::gate::{Gate, Passage};
use crate::question::OwnedQuestion;

/// Sees the decisions about a query.
pub trait Witness {
    fn see(&mut self, decision: impl FnOnce() -> Decision);
}

/// Nobody asks for the decisions.
pub struct Unwatched;

impl Witness for Unwatched {
    #[inline(always)]
    fn see(&mut self, _: impl FnOnce() -> Decision) {}
}

/// Keeps all decisions, in their order.
#[derive(Debug, Default)]
pub struct Recorder {
    pub decisions: Vec<Decision>,
}

impl Witness for Recorder {
    fn see(&mut self, decision: impl FnOnce() -> Decision) {
        self.decisions.push(decision());
    }
}

/// One decision about a query. Blocks are given by their index in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Whether a block's view takes the query.
    View { block: usize, takes: bool },
    /// The block that takes the query. Without one, or without plugins, it is REFUSED.
    Block { index: Option<usize>, has_plugins: bool },
    /// What a gate did. `question`: the one that the next step gets.
    Gate { plugin: &'static str, outcome: GateOutcome, question: OwnedQuestion },
    /// No table and no upstream is asked for this class or type.
    UnservedType { qtype: u16, qclass: u16 },
    /// What a table has for the question, and whether the next source is asked.
    Table { plugin: &'static str, slot: TableSlot, outcome: TableOutcome, passes_on: bool },
    /// Where the CNAMEs of a table lead.
    Cnames { target: Option<Box<[u8]>>, goes_upstream: bool },
    /// `no_aaaa` answers in place of the upstreams.
    NoAaaa,
    /// No `forward` takes the name.
    NoUpstreams,
    /// What the cache has; `None`: there is none for the name.
    Cache(Option<CacheOutcome>),
    /// The `forward` lines that take the name, in the order in which they are tried.
    Upstreams { block: usize, name: Box<[u8]>, forwards: Vec<ForwardSlot> },
}

/// What a gate did with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateOutcome {
    Passes,
    Answers,
    Drops,
    /// It looks other names up in this server first.
    Pursues,
    /// The response comes after a delay.
    AnswersLate,
    /// The response is SERVFAIL, for this reason.
    Fails(Option<String>),
}

/// What a table has for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOutcome {
    Records,
    Cnames,
    /// A pod's address, read from the name.
    PodName,
    NoData,
    NxDomain,
    Referral,
    /// The source has not been read completely.
    Unread,
    /// A list of hosts lacks the name.
    Unlisted,
    /// The name is in none of its zones, or a list of hosts lacks the PTR record.
    Outside,
}

/// What the cache has for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    Hit,
    /// It is served, and upstreams are queried as well.
    HitAndRefresh,
    Miss,
    /// It has expired, and is served if upstreams fail.
    Stale,
    /// The question is this server's own loop probe.
    OwnProbe,
}

impl Decision {
    pub(super) fn of_gate(gate: &Gate, passage: &Passage, exchange: &Exchange<'_>) -> Self {
        let query = &exchange.query;
        Self::Gate {
            plugin: gate.plugin(),
            outcome: match passage {
                Passage::Pass => GateOutcome::Passes,
                Passage::Answer(..) => GateOutcome::Answers,
                Passage::Drop => GateOutcome::Drops,
                Passage::Pursue(pursuit) if pursuit.only_waits() => GateOutcome::AnswersLate,
                Passage::Pursue(_) => GateOutcome::Pursues,
                Passage::Fail => {
                    GateOutcome::Fails(exchange.trail.problem.as_deref().map(str::to_owned))
                }
            },
            question: OwnedQuestion {
                qclass: query.qclass,
                ..OwnedQuestion::new(exchange.name.bytes(), query.qtype)
            },
        }
    }

    /// `found`: `None` if the table has not been made yet.
    pub(super) fn of_table(own: &OwnTable, found: Option<&Found<'_>>, passes_on: bool) -> Self {
        let outcome = found.map_or(TableOutcome::Unread, TableOutcome::of);
        Self::Table { plugin: own.answerer.name(), slot: own.table, outcome, passes_on }
    }

    /// `block`: at `index` in the plan.
    pub(super) fn upstreams(index: usize, block: &Block, name: &Name) -> Self {
        let forwards = block.forwards_for(name).collect();
        Self::Upstreams { block: index, name: name.bytes().into(), forwards }
    }
}

impl TableOutcome {
    fn of(found: &Found<'_>) -> Self {
        match found {
            Found::Answer(_)
            | Found::Expanded(..)
            | Found::Endpoint(_)
            | Found::Pointer(_)
            | Found::Soa(_) => Self::Records,
            Found::Alias(_) => Self::Cnames,
            Found::Pod(_) => Self::PodName,
            Found::NoData(_) => Self::NoData,
            Found::NxDomain(_) => Self::NxDomain,
            Found::Denied(denial) => match denial.kind {
                DenialKind::NoData | DenialKind::Empty => Self::NoData,
                DenialKind::NxDomain => Self::NxDomain,
            },
            Found::Referral(_) => Self::Referral,
            Found::Unsynced(_) | Found::Unloaded => Self::Unread,
            Found::Unlisted => Self::Unlisted,
            Found::Outside => Self::Outside,
        }
    }
}

impl CacheOutcome {
    /// From the verdict that the cache led to.
    pub(super) fn of(verdict: &Verdict<'_>) -> Self {
        match verdict {
            Verdict::Reply(made) if made.by.name() == "cache" => Self::Hit,
            Verdict::Reply(_) | Verdict::Drop(_) | Verdict::Ignore | Verdict::Pursue(_) => {
                Self::OwnProbe
            }
            Verdict::ReplyAndRefresh(..) => Self::HitAndRefresh,
            Verdict::Ask(ask) if ask.stale_after.is_some() => Self::Stale,
            Verdict::Ask(_) => Self::Miss,
        }
    }
}
