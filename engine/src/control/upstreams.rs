//! The upstreams of the current plan: whether the files that name them have changed, and whether
//! they send queries back.
//!
//! Invariant: the control loop never waits for these files, except `FILE_TIMEOUT` at a reload.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use engine::forward::Upstream;
use engine::limits::FILE_TIMEOUT;
use engine::plan::Plan;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// The files that a plan's upstreams and `tls://` listeners depend on: resolv.conf files and
/// certificates.
#[derive(Default)]
pub(crate) struct UpstreamFiles {
    files: Arc<[PathBuf]>,
    /// When each file was last changed, as of the time when the upstreams were read.
    changed: Vec<Option<SystemTime>>,
    /// The same, as of the last check.
    found: Vec<Option<SystemTime>>,
    /// A check that has not ended. There is never a second one, and nothing waits for it.
    check: Option<JoinHandle<Vec<Option<SystemTime>>>>,
    /// The loops that were logged.
    logged_loops: BTreeSet<String>,
}

impl UpstreamFiles {
    /// The files of the next plan, which have just been read.
    pub(crate) async fn next(&self, plan: &Plan) -> Self {
        let files = plan.forwards.iter().flat_map(|settings| settings.files.iter().cloned());
        let tls = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let files: BTreeSet<_> = files.chain(tls.flat_map(|tls| tls.files.clone())).collect();
        let mut next = Self {
            files: files.into_iter().collect(),
            logged_loops: self.logged_loops.clone(),
            ..Self::default()
        };
        let checked = timeout(FILE_TIMEOUT, next.begin_check()).await;
        next.changed = checked.ok().and_then(Result::ok).unwrap_or_default();
        next.found.clone_from(&next.changed);
        // A file that has changed since the last check may have been read half way: it counts as
        // changed after this, and is read once more.
        for (file, changed) in next.files.iter().zip(&mut next.changed) {
            let known = self.files.iter().position(|known| known == file);
            if let Some(found) = known.and_then(|at| self.found.get(at)) {
                *changed = *found;
            }
        }
        next
    }

    /// Whether a file has changed. Files are checked in another thread, because one on a network
    /// file system may hang.
    pub(crate) async fn is_out_of_date(&mut self) -> bool {
        if let Some(check) = self.check.take_if(|check| check.is_finished())
            && let Ok(found) = check.await
        {
            self.found = found;
        }
        if self.check.is_none() && !self.files.is_empty() {
            self.check = Some(self.begin_check());
        }
        self.found != self.changed
    }

    fn begin_check(&self) -> JoinHandle<Vec<Option<SystemTime>>> {
        let files = Arc::clone(&self.files);
        spawn_blocking(move || files.iter().map(changed_at).collect())
    }

    /// Accepts the files as they are, because they could not be used: they are not tried again
    /// until they change.
    pub(crate) fn accept_files(&mut self) {
        self.changed.clone_from(&self.found);
    }

    /// Those of these messages that were not logged yet.
    pub(crate) fn unlogged_loops(&mut self, messages: BTreeSet<String>) -> Vec<String> {
        let new = messages.difference(&self.logged_loops).cloned().collect();
        self.logged_loops = messages;
        new
    }
}

/// The upstreams of a plan that send queries back to this server.
pub(crate) fn loops(plan: &Plan) -> impl Iterator<Item = &Upstream> {
    let upstreams = plan.forwards.iter().flat_map(|settings| &settings.upstreams);
    upstreams.filter(|upstream| upstream.is_looping())
}

fn changed_at(file: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
