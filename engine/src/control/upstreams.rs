//! Upstreams after a plan is in force: whether the files that they come from have changed, and whether
//! they send queries back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use engine::forward::Upstream;
use engine::limits::FILE_TIMEOUT;
use engine::plan::Plan;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// The files that the upstreams of a plan come from: resolv.conf files and certificates.
#[derive(Default)]
pub(crate) struct UpstreamFiles {
    files: Arc<[PathBuf]>,
    /// When each file last changed: as the upstreams know it, and as the last look found it.
    changed: Vec<Option<SystemTime>>,
    found: Vec<Option<SystemTime>>,
    /// A look that has not ended: there is never a second one beside it, and nothing waits for it.
    look: Option<JoinHandle<Vec<Option<SystemTime>>>>,
    /// Upstreams that the log has named because they loop.
    logged_loops: BTreeSet<String>,
}

impl UpstreamFiles {
    /// Those of the next plan, whose files have just been read.
    pub(crate) async fn next(&self, plan: &Plan) -> Self {
        let files = plan.forwards.iter().flat_map(|settings| settings.files.iter().cloned());
        let files: BTreeSet<_> = files.collect();
        let mut next = Self {
            files: files.into_iter().collect(),
            logged_loops: self.logged_loops.clone(),
            ..Self::default()
        };
        let look = timeout(FILE_TIMEOUT, next.begin_look()).await;
        next.changed = look.ok().and_then(Result::ok).unwrap_or_default();
        next.found.clone_from(&next.changed);
        next
    }

    /// Whether a file has changed since. Files are looked at beside the control loop, because one on a network
    /// file system may hang.
    pub(crate) async fn is_out_of_date(&mut self) -> bool {
        if let Some(look) = self.look.take_if(|look| look.is_finished())
            && let Ok(found) = look.await
        {
            self.found = found;
        }
        if self.look.is_none() && !self.files.is_empty() {
            self.look = Some(self.begin_look());
        }
        self.found != self.changed
    }

    fn begin_look(&self) -> JoinHandle<Vec<Option<SystemTime>>> {
        let files = Arc::clone(&self.files);
        spawn_blocking(move || files.iter().map(changed_at).collect())
    }

    /// Accepts the files as they are: what they hold could not be put to work.
    pub(crate) fn leave_files(&mut self) {
        self.changed.clone_from(&self.found);
    }

    /// What the log should say about these upstreams that loop, each once.
    pub(crate) fn unlogged_loops(&mut self, messages: BTreeSet<String>) -> Vec<String> {
        let news = messages.difference(&self.logged_loops).cloned().collect();
        self.logged_loops = messages;
        news
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
