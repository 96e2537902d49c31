//! How long changes of endpoints take, from the pod or Service that changed to the shards.
//!
//! Invariant: what is found by a list is not counted, and a change is counted once every shard has
//! it.

use std::time::{Duration, SystemTime};

use super::{EVENT_BATCH_MAX, Publisher};
use crate::cluster::EndpointChange;

/// The kind of Service whose endpoints have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgrammedKind {
    ClusterIp,
    Headless,
}

/// Gets the time from the change of a pod or Service until the shards have the answers.
pub type ReportProgrammed = Box<dyn FnMut(ProgrammedKind, Duration) + Send>;

/// The changes that a shard may not have yet.
pub(super) struct Programming {
    changes: Vec<EndpointChange>,
    report: ReportProgrammed,
}

impl Programming {
    pub(super) fn new(report: ReportProgrammed) -> Self {
        Self { changes: Vec::new(), report }
    }

    /// Takes the changes of a batch, and reports all if the shards have everything.
    pub(super) fn step(&mut self, publisher: &mut Publisher, is_delivered: bool) {
        publisher.cluster.take_triggers(&mut self.changes);
        // Before the first sync, they wait for other objects.
        if !publisher.is_synced() || self.changes.len() > EVENT_BATCH_MAX {
            self.changes.clear();
        }
        if !is_delivered || self.changes.is_empty() {
            return;
        }
        let now = SystemTime::now();
        for EndpointChange { is_headless, at } in self.changes.drain(..) {
            let kind = match is_headless {
                true => ProgrammedKind::Headless,
                false => ProgrammedKind::ClusterIp,
            };
            // A clock that is ahead of ours cannot make it negative.
            (self.report)(kind, now.duration_since(at).unwrap_or_default());
        }
    }
}
