//! The only exit: here every response is finished, counted and logged before it is sent.
//!
//! It comes from the fast path, from `in_full`, from a flight that landed, or from a pursuit.
//! Invariant: every response passes `Exit::leave`, or `leave_at_a_glance`, exactly once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use wire::edit;
use wire::header::Rcode;
use wire::name::Name;
use wire::query::Edns;

use crate::client::Arrival;
use crate::metrics::answerer::Answerer;
use crate::metrics::{Observation, ShardMetrics};
use crate::plugin::exchange::{AskedQuestion, Trail};
use crate::plugin::finish::{Finish, Leaving, Workbench};
use crate::plugin::log::ring::{QueryRings, ShardRing};

/// A response that was written, and what its block still does with it.
#[derive(Clone, Copy, Debug)]
pub struct Made<'p> {
    /// Bytes of the response.
    pub len: usize,
    pub rcode: Rcode,
    /// 0 if no question could be read.
    pub qtype: u16,
    /// The query's OPT.
    pub edns: Option<Edns>,
    /// The plugin that wrote it.
    pub by: Answerer,
    /// The label set that it is counted in; `None` without `prometheus`, or if no block took the
    /// query.
    pub counted_as: Option<usize>,
    /// The block whose `errors` logs it, by index in the Corefile; `None` if it is not an error.
    pub logged_as: Option<usize>,
    /// The block's.
    pub finishes: &'p [Finish],
}

impl Made<'_> {
    /// What is counted, if the block changes nothing.
    #[inline(always)] // As `Exit::leave_at_a_glance`.
    fn observation(&self, arrival: &Arrival) -> Observation {
        Observation {
            block: self.counted_as,
            transport: arrival.transport,
            family: arrival.family,
            qtype: self.qtype,
            dnssec_ok: self.edns.is_some_and(|edns| edns.dnssec_ok),
            rcode: self.rcode,
            plugin: self.by,
            query_len: arrival.len,
            reply_len: self.len,
        }
    }
}

/// The query that a response is for.
#[derive(Clone, Copy)]
pub struct Answered<'q> {
    pub arrival: &'q Arrival,
    pub trail: &'q Trail,
    /// The question's, as it was asked of the sources.
    pub name: &'q Name,
}

/// When a response's duration is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// At the end of its batch: every response of a batch takes as long as the batch.
    WithBatch,
    /// It took this long.
    Took(Duration),
}

/// A response that failed, for the log of a block with `errors`.
#[derive(Clone)]
pub struct ErrorReport {
    /// Index of the block in the Corefile.
    pub logged_as: usize,
    pub rcode: Rcode,
    pub name: Name,
    pub qtype: u16,
    /// What went wrong with an upstream or in a gate; `None` at the end of the plugin chain.
    pub message: Option<String>,
}

/// Where shards report to, for the log.
#[derive(Clone)]
pub struct Reports {
    pub errors: Sender<ErrorReport>,
    /// Answered queries.
    pub queries: Arc<QueryRings>,
}

/// The exit of one shard.
#[derive(Clone)]
pub struct Exit {
    metrics: Arc<ShardMetrics>,
    reports: Reports,
    shard_index: usize,
    bench: Rc<RefCell<Workbench>>,
}

impl Exit {
    #[must_use]
    pub fn new(metrics: Arc<ShardMetrics>, reports: Reports, shard_index: usize) -> Self {
        Self { metrics, reports, shard_index, bench: Rc::default() }
    }

    /// Runs the block's finishes over the response in `message`, counts it and logs it. Returns how
    /// many bytes to send. `problem`: the upstream failure, if there was one.
    #[inline]
    pub fn leave(
        &self,
        made: &Made<'_>,
        answered: Answered<'_>,
        message: &mut [u8],
        timing: Timing,
        problem: Option<&dyn ToString>,
    ) -> usize {
        let Answered { arrival, trail, .. } = answered;
        let mut len = made.len;
        let mut rcode = made.rcode;
        if !made.finishes.is_empty() {
            len = self.finish(made, answered, message);
            if !trail.rewrites.is_empty() {
                let sent = edit::rcode(message.get(..len).unwrap_or_default());
                rcode = Rcode::of(sent).unwrap_or(rcode);
            }
        }
        // An inside query is part of its client's.
        if arrival.inside.is_none() {
            self.observe(made, answered, rcode, len, timing);
        }
        if let Some(logged_as) = made.logged_as {
            self.log(logged_as, made, answered, problem);
        }
        len
    }

    /// The same for a response of the fast path: nothing is left to do but to count it.
    #[inline(always)] // Into the packet path, where the response's fields are in registers.
    pub(crate) fn leave_at_a_glance(&self, made: &Made<'_>, arrival: &Arrival) -> usize {
        debug_assert!(made.finishes.is_empty() && made.logged_as.is_none(), "in full instead");
        debug_assert!(arrival.inside.is_none(), "an inside query has no fast path");
        self.metrics.observe(&made.observation(arrival));
        made.len
    }

    /// Counts and logs a query that a plugin drops: like CoreDNS, as one that got an empty
    /// response. `message` begins with its header and its question.
    pub fn drop_query(
        &self,
        made: &Made<'_>,
        answered: Answered<'_>,
        message: &[u8],
        timing: Timing,
    ) {
        if answered.arrival.inside.is_some() {
            return;
        }
        for finish in made.finishes {
            finish.see_drop(self.leaving(made, answered), message);
        }
        self.observe(made, answered, made.rcode, made.len, timing);
    }

    fn observe(
        &self,
        made: &Made<'_>,
        answered: Answered<'_>,
        rcode: Rcode,
        reply_len: usize,
        timing: Timing,
    ) {
        let Answered { arrival, trail, .. } = answered;
        let qtype = trail.asked.as_ref().map_or(made.qtype, AskedQuestion::qtype);
        let observation = Observation { qtype, rcode, reply_len, ..made.observation(arrival) };
        match timing {
            Timing::WithBatch => self.metrics.observe(&observation),
            Timing::Took(duration) => self.metrics.observe_one(&observation, duration),
        }
    }

    fn leaving<'l>(&'l self, made: &Made<'_>, answered: Answered<'l>) -> Leaving<'l> {
        let Answered { arrival, trail, name } = answered;
        let queries = ShardRing { rings: &self.reports.queries, shard_index: self.shard_index };
        let (edns, by, bench) = (made.edns, made.by, &*self.bench);
        Leaving { arrival, edns, by, trail, name, queries, bench }
    }

    /// Runs the block's finishes. Returns the length of the response.
    fn finish(&self, made: &Made<'_>, answered: Answered<'_>, message: &mut [u8]) -> usize {
        let Answered { arrival, trail, .. } = answered;
        let edns = made.edns;
        let leaving = self.leaving(made, answered);
        let mut len = made.len;
        let finishes = made.finishes.iter();
        for finish in finishes.filter(|finish| finish.runs_on(arrival.inside)) {
            len = finish.run(leaving, message, len);
        }
        if trail.asked.is_some() {
            // It was written for another question.
            let message = message.get_mut(..len).unwrap_or_default();
            len = edit::cut_to(message, arrival.len_max(edns));
        }
        len
    }

    #[cold]
    fn log(
        &self,
        logged_as: usize,
        made: &Made<'_>,
        answered: Answered<'_>,
        problem: Option<&dyn ToString>,
    ) {
        let Answered { trail, name, .. } = answered;
        let asked = trail.asked.as_ref();
        let report = ErrorReport {
            logged_as,
            rcode: made.rcode,
            name: asked.and_then(AskedQuestion::name).unwrap_or_else(|| name.clone()),
            qtype: asked.map_or(made.qtype, AskedQuestion::qtype),
            message: problem
                .map(ToString::to_string)
                .or_else(|| trail.problem.as_deref().map(str::to_owned)),
        };
        // A full queue loses the line, not the response.
        if self.reports.errors.try_send(report).is_err() {
            self.metrics.error_line_lost();
        }
    }
}
