//! Readiness: whether the server should receive queries, and if not, why; and which shards are
//! stuck.
//!
//! Parts of the server (one per `kubernetes` block, and the sockets) report, and `/ready` reads. A
//! part that was ready once stays ready unless `monitor continuously` is set. A cluster that was
//! read once stays ready in any case while its API server is lost: it still needs DNS.
//! Invariant: once shutting down, never ready again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long readiness follows the state of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// A part that was ready once stays ready.
    #[default]
    UntilReady,
    Continuously,
}

/// The result of `/ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyVerdict {
    Ready,
    /// The parts that keep the server from being ready.
    Waiting(Vec<Reason>),
    ShuttingDown,
}

/// Why a part is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub plugin: &'static str,
    /// Distinguishes the parts of one plugin, for example by zone.
    pub part: String,
    pub cause: String,
}

/// Shared by the parts that report and the endpoint.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<ReadinessState>);

#[derive(Debug, Default)]
struct ReadinessState {
    monitor: Monitor,
    is_shutting_down: bool,
    /// By plugin and part.
    parts: BTreeMap<(&'static str, String), ReadinessPart>,
    notes: Vec<String>,
    stuck_shards: Vec<String>,
}

#[derive(Debug)]
struct ReadinessPart {
    was_ready: bool,
    /// Why it is not ready now.
    cause: Option<String>,
}

impl Readiness {
    pub fn set_monitor(&self, monitor: Monitor) {
        self.state().monitor = monitor;
    }

    /// The part is not ready, or no longer.
    pub fn wait_for(&self, plugin: &'static str, part: &str, cause: &str) {
        let cause = Some(cause.to_owned());
        self.state()
            .parts
            .entry((plugin, part.to_owned()))
            .and_modify(|part| part.cause.clone_from(&cause))
            .or_insert(ReadinessPart { was_ready: false, cause });
    }

    /// The part is ready.
    pub fn ready(&self, plugin: &'static str, part: &str) {
        let ready = ReadinessPart { was_ready: true, cause: None };
        self.state().parts.insert((plugin, part.to_owned()), ready);
    }

    /// The part is no longer in the Corefile.
    pub fn forget(&self, plugin: &'static str, part: &str) {
        self.state().parts.remove(&(plugin, part.to_owned()));
    }

    /// Replaces the notes: problems that do not affect readiness, shown after the verdict.
    pub fn note(&self, notes: impl Iterator<Item = String>) {
        self.state().notes = notes.collect();
    }

    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.state().notes.clone()
    }

    /// Replaces the descriptions of the shards that do not answer, for `/health`.
    pub fn set_stuck(&self, shards: Vec<String>) {
        self.state().stuck_shards = shards;
    }

    #[must_use]
    pub fn stuck_shards(&self) -> Vec<String> {
        self.state().stuck_shards.clone()
    }

    /// The process is about to end and should get no new clients.
    pub fn shut_down(&self) {
        self.state().is_shutting_down = true;
    }

    #[must_use]
    pub fn verdict(&self) -> ReadyVerdict {
        let state = self.state();
        if state.is_shutting_down {
            return ReadyVerdict::ShuttingDown;
        }
        let reasons: Vec<_> = state
            .parts
            .iter()
            .filter(|(_, part)| match state.monitor {
                Monitor::UntilReady => !part.was_ready,
                Monitor::Continuously => true,
            })
            .filter_map(|((plugin, name), part)| {
                let cause = part.cause.clone()?;
                Some(Reason { plugin, part: name.clone(), cause })
            })
            .collect();
        if reasons.is_empty() { ReadyVerdict::Ready } else { ReadyVerdict::Waiting(reasons) }
    }

    /// The state is valid at every moment, so a panic elsewhere is no reason to panic here.
    fn state(&self) -> MutexGuard<'_, ReadinessState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(rows: &[(&'static str, &str, &str)]) -> ReadyVerdict {
        let reason = |row: &(&'static str, &str, &str)| Reason {
            plugin: row.0,
            part: row.1.to_owned(),
            cause: row.2.to_owned(),
        };
        ReadyVerdict::Waiting(rows.iter().map(reason).collect())
    }

    #[test]
    fn every_part_must_be_ready_once() {
        let readiness = Readiness::default();
        assert_eq!(readiness.verdict(), ReadyVerdict::Ready, "nothing is waited for");
        readiness.wait_for("kubernetes", "b.", "services");
        readiness.wait_for("kubernetes", "a.", "services");
        readiness.wait_for("kubernetes", "a.", "pods");
        let both = [("kubernetes", "a.", "pods"), ("kubernetes", "b.", "services")];
        assert_eq!(readiness.verdict(), waiting(&both));
        readiness.ready("kubernetes", "a.");
        assert_eq!(readiness.verdict(), waiting(&both[1..]));
        readiness.forget("kubernetes", "b.");
        assert_eq!(readiness.verdict(), ReadyVerdict::Ready);
    }

    #[test]
    fn a_part_that_was_ready_counts_only_if_monitored() {
        let readiness = Readiness::default();
        readiness.ready("kubernetes", "a.");
        readiness.wait_for("kubernetes", "a.", "its thread has ended");
        assert_eq!(readiness.verdict(), ReadyVerdict::Ready);
        readiness.set_monitor(Monitor::Continuously);
        assert_eq!(readiness.verdict(), waiting(&[("kubernetes", "a.", "its thread has ended")]));
        readiness.ready("kubernetes", "a.");
        assert_eq!(readiness.verdict(), ReadyVerdict::Ready);
    }

    #[test]
    fn shutting_down_is_final() {
        let readiness = Readiness::default();
        readiness.shut_down();
        readiness.ready("kubernetes", "a.");
        assert_eq!(readiness.verdict(), ReadyVerdict::ShuttingDown);
    }
}
