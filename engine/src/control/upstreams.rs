//! The upstreams of the current plan: whether the files that name them have changed, and whether
//! they send queries back.
//!
//! Invariant: the control loop never waits for these files, except `FILE_TIMEOUT` at a reload.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use engine::forward::{AddressOrigin, Upstream, Way};
use engine::limits::FILE_TIMEOUT;
use engine::metrics::served::UpstreamFacts;
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
    check: Option<FileCheck>,
    /// The loops that were logged.
    logged_loops: BTreeSet<String>,
}

/// A check of all files, in another thread.
struct FileCheck {
    found: JoinHandle<Vec<Option<SystemTime>>>,
    began: Instant,
    /// The index of the file that is looked at.
    position: Arc<AtomicUsize>,
    /// The log has said that it takes too long.
    is_logged: bool,
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
        let checked = timeout(FILE_TIMEOUT, next.begin_check().found).await;
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
        if let Some(check) = self.check.take_if(|check| check.found.is_finished())
            && let Ok(found) = check.found.await
        {
            self.found = found;
        }
        if self.check.is_none() && !self.files.is_empty() {
            self.check = Some(self.begin_check());
        }
        self.found != self.changed
    }

    fn begin_check(&self) -> FileCheck {
        let (files, position) = (Arc::clone(&self.files), Arc::<AtomicUsize>::default());
        let now_at = Arc::clone(&position);
        let look = move |(index, file): (usize, &PathBuf)| {
            now_at.store(index, Relaxed);
            changed_at(file)
        };
        let found = spawn_blocking(move || files.iter().enumerate().map(look).collect());
        FileCheck { found, began: Instant::now(), position, is_logged: false }
    }

    /// Which file hangs, if the check takes too long.
    pub(crate) fn late(&self, now: Instant) -> Option<String> {
        let check = self.check.as_ref().filter(|check| !check.found.is_finished())?;
        if now <= check.began + FILE_TIMEOUT {
            return None;
        }
        let file = self.files.get(check.position.load(Relaxed))?.display();
        Some(format!(
            "{file} was not looked at within {FILE_TIMEOUT:?}: what upstreams and `tls` read last \
             is still used; is it on a file system that hangs?"
        ))
    }

    /// The same, once per file that hangs.
    pub(crate) fn newly_late(&mut self) -> Option<String> {
        let late = self.late(Instant::now())?;
        let check = self.check.as_mut().filter(|check| !check.is_logged)?;
        check.is_logged = true;
        Some(late)
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

/// The plan's upstreams as the status page shows them, each address once.
pub(crate) fn facts(plan: &Plan) -> Vec<UpstreamFacts> {
    let mut facts: Vec<UpstreamFacts> = Vec::new();
    for upstream in plan.forwards.iter().flat_map(|settings| &settings.upstreams) {
        if facts.iter().any(|known| known.address == upstream.address) {
            continue;
        }
        let origin = match &upstream.origin {
            AddressOrigin::Corefile => None,
            AddressOrigin::ResolvConf(file) => Some(file.display().to_string()),
            AddressOrigin::Host(host) => Some(host.clone()),
        };
        let is_tls = matches!(upstream.way, Way::Tls { .. });
        facts.push(UpstreamFacts { address: upstream.address, is_tls, origin });
    }
    facts
}

fn changed_at(file: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_file_that_hangs_is_named_once() {
        let began = Instant::now().checked_sub(FILE_TIMEOUT + Duration::from_secs(1));
        let check = FileCheck {
            found: tokio::spawn(std::future::pending()),
            began: began.expect("the machine runs since more than six seconds"),
            position: Arc::new(AtomicUsize::new(1)),
            is_logged: false,
        };
        let files = Arc::new([PathBuf::from("resolv.conf"), PathBuf::from("/nfs/cert.pem")]);
        let mut files = UpstreamFiles { files, check: Some(check), ..UpstreamFiles::default() };
        assert!(!files.is_out_of_date().await);
        let late = files.newly_late().expect("it takes too long");
        assert!(late.starts_with("/nfs/cert.pem was not looked at within 5s: "), "{late}");
        assert_eq!(files.newly_late(), None);
        assert_eq!(files.late(Instant::now()), Some(late));
    }

    #[tokio::test]
    async fn a_file_that_has_changed_is_found() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let mut files =
            UpstreamFiles { files: Arc::new([path.clone()]), ..UpstreamFiles::default() };
        files.changed = vec![None];
        files.found = vec![None];
        std::fs::write(path, "").expect("a written file");
        let began = Instant::now();
        while !files.is_out_of_date().await {
            assert!(began.elapsed() < FILE_TIMEOUT, "the change is not found");
            tokio::task::yield_now().await;
        }
        assert_eq!(files.late(Instant::now()), None);
    }
}
