//! Which cores the threads of the control plane run on: any but the busiest shard's, if there is a
//! choice.
//!
//! Invariant: shards stay where they are.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use engine::metrics::ShardMetrics;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// How often the control plane may move.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Responses between two looks that make a shard busy: a hundredth of a core or so.
const BUSY_ANSWERS: u64 = 5000;

/// Keeps the control plane off the busiest core.
pub(crate) struct Placement {
    shards: Vec<PlacedShard>,
    /// The cores that the process may use.
    usable: Vec<usize>,
    avoided: Option<usize>,
    looked_at: Instant,
}

struct PlacedShard {
    core: usize,
    metrics: Arc<ShardMetrics>,
    /// At the last look.
    answers: u64,
}

/// What a shard has answered since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CoreLoad {
    core: usize,
    answers: u64,
}

impl Placement {
    /// `shards`: where each is pinned, and its counters. Call this on a thread that is not pinned.
    pub(crate) fn new(shards: impl Iterator<Item = (Option<CoreId>, Arc<ShardMetrics>)>) -> Self {
        let pinned = |(core, metrics): (Option<CoreId>, Arc<ShardMetrics>)| {
            Some(PlacedShard { core: core?.id, answers: metrics.answer_count(), metrics })
        };
        let usable = core_affinity::get_core_ids().unwrap_or_default();
        Self {
            shards: shards.filter_map(pinned).collect(),
            usable: usable.into_iter().map(|core| core.id).collect(),
            avoided: None,
            looked_at: Instant::now(),
        }
    }

    /// Moves the control plane's threads if another core is the busiest now.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now.duration_since(self.looked_at) < LOOK_EVERY {
            return;
        }
        self.looked_at = now;
        let load = |shard: &mut PlacedShard| {
            let answers = shard.metrics.answer_count();
            let before = std::mem::replace(&mut shard.answers, answers);
            // A thread that hung and was replaced may write the counter once more.
            CoreLoad { core: shard.core, answers: answers.saturating_sub(before) }
        };
        let loads: Vec<_> = self.shards.iter_mut().map(load).collect();
        let avoided = core_to_avoid(&self.usable, &loads);
        if avoided != std::mem::replace(&mut self.avoided, avoided) {
            self.move_threads();
        }
    }

    /// Threads that start later run where the one that starts them does.
    fn move_threads(&self) {
        let mut cores = CpuSet::new();
        let others = self.usable.iter().filter(|core| Some(**core) != self.avoided);
        others.for_each(|core| cores.set(*core));
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let thread = task.file_name().to_str().and_then(|number| number.parse().ok());
            // The kernel's own threads serve a shard's ring.
            if let Some(thread) = thread.and_then(Pid::from_raw)
                && !["shard-", "iou-"].iter().any(|prefix| name.starts_with(prefix))
            {
                // The thread may have ended, or a sandbox denies it: then it stays where it is.
                let _ = sched_setaffinity(Some(thread), &cores);
            }
        }
    }
}

/// The core of the busiest shard, if another core has at most half as much to do.
fn core_to_avoid(usable: &[usize], loads: &[CoreLoad]) -> Option<usize> {
    let answers = |core: usize| -> u64 {
        loads.iter().filter(|load| load.core == core).map(|load| load.answers).sum()
    };
    let busiest = loads.iter().map(|load| load.core).max_by_key(|core| answers(*core))?;
    let is_better = |core: &usize| 2 * answers(*core) <= answers(busiest);
    (answers(busiest) >= BUSY_ANSWERS && usable.iter().any(is_better)).then_some(busiest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_core_is_avoided_if_there_is_a_better_one() {
        let check = |usable: &[usize], loads: &[(usize, u64)], expected| {
            let load = |(core, answers): &(usize, u64)| CoreLoad { core: *core, answers: *answers };
            let loads: Vec<_> = loads.iter().map(load).collect();
            assert_eq!(core_to_avoid(usable, &loads), expected, "{usable:?} {loads:?}");
        };
        check(&[0, 1], &[(0, 90_000), (1, 10)], Some(0));
        check(&[0, 1], &[(0, 10), (1, 90_000)], Some(1));
        // A core without a shard.
        check(&[0, 1], &[(1, 90_000)], Some(1));
        check(&[0, 1, 2], &[(0, 90_000), (1, 80_000)], Some(0));
        // Two shards of one core.
        check(&[0, 1], &[(0, 50_000), (1, 60_000), (0, 80_000)], Some(0));
        // No choice.
        check(&[0], &[(0, 90_000)], None);
        check(&[0, 1], &[(0, 90_000), (1, 80_000)], None);
        // Nothing to do.
        check(&[0, 1], &[(0, 40), (1, 0)], None);
        check(&[0, 1], &[], None);
    }
}
