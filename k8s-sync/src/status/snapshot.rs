//! What has become of a source's snapshot file: whether it was served, and whether it can be
//! written.
//!
//! Invariant: the lock is taken once per write and per scrape, never per event.

use std::sync::Mutex;
use std::time::SystemTime;

use super::lock;

/// What has become of a source's snapshot file.
#[derive(Debug, Default)]
pub struct SnapshotStatus {
    state: Mutex<SnapshotReport>,
}

/// The same for /ready and /metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// When the state in the last file that was written was still confirmed.
    pub written: Option<SystemTime>,
    /// The same of the file that is or was served since the start.
    pub served: Option<SystemTime>,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Why the last one failed. `None` if it did not.
    pub error: Option<String>,
}

impl SnapshotStatus {
    #[must_use]
    pub fn report(&self) -> SnapshotReport {
        lock(&self.state).clone()
    }

    pub(crate) fn served(&self, as_of: SystemTime) {
        lock(&self.state).served = Some(as_of);
    }

    /// Returns the error that has ended, if there was one.
    pub(crate) fn written(&self, as_of: SystemTime) -> Option<String> {
        let mut state = lock(&self.state);
        state.written = Some(as_of);
        state.error.take()
    }

    /// Returns whether the log does not have this error yet.
    pub(crate) fn not_written(&self, error: String) -> bool {
        let mut state = lock(&self.state);
        state.failures += 1;
        let is_news = state.error.as_ref() != Some(&error);
        state.error = Some(error);
        is_news
    }
}
