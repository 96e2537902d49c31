//! Watches the shards' threads, in a task of its own: a reload may wait for files and clusters, and
//! a stuck shard does not wait for it.
//!
//! Invariant: `/health` names a shard from the look that finds it silent until it answers again.

use std::sync::Arc;
use std::time::Instant;

use engine::admin::Readiness;
use engine::fleet::{Fleet, Supervisor};
use engine::limits::{HEARTBEAT_EVERY, STUCK_LOOK_EVERY};
use engine::metrics::Metrics;
use tokio::time::timeout;

/// Watches these shards until the process ends. Must be called in a tokio runtime.
pub(crate) fn start(fleet: &Fleet, readiness: &Arc<Readiness>, metrics: &Arc<Metrics>) {
    let (readiness, metrics) = (Arc::clone(readiness), Arc::clone(metrics));
    tokio::spawn(supervise(fleet.supervisor(), readiness, metrics));
}

async fn supervise(supervisor: Supervisor, readiness: Arc<Readiness>, metrics: Arc<Metrics>) {
    let trouble = supervisor.trouble();
    loop {
        let reports = supervisor.look(Instant::now());
        metrics.facts().shard_restarts = reports.iter().map(|report| report.restarts).collect();
        let is_calm = reports.iter().all(|report| report.is_answering);
        let pause = if is_calm { HEARTBEAT_EVERY } else { STUCK_LOOK_EVERY };
        let problems = reports
            .into_iter()
            .enumerate()
            .filter_map(|(shard, report)| Some(format!("shard {shard}: {}", report.problem?)));
        readiness.set_stuck(problems.collect());
        let _ = timeout(pause, trouble.notified()).await;
    }
}
