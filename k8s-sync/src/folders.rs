//! Reports changes in folders, by inotify.
//!
//! A ConfigMap that is mounted changes by a symbolic link in its folder, so folders are watched
//! instead of files. Invariant: a change is reported even if the caller stops waiting and comes
//! back later.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// A change is reported after this long without another, because writers write in pieces.
const QUIET_FOR: Duration = Duration::from_millis(50);
/// It is reported after this long even if writes go on.
const QUIET_AWAITED_MAX: Duration = Duration::from_secs(2);

/// Reports that something happened in the watched folders.
pub struct FolderWatcher {
    /// `None` if the kernel has no inotify instance left: only polling remains.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    happened: Receiver<()>,
    /// When the change happened that has not been reported yet.
    changed_at: Option<Instant>,
}

impl FolderWatcher {
    /// Watches nothing yet. `otherwise`: for the log, what happens without inotify.
    #[must_use]
    pub fn new(otherwise: &str) -> Self {
        // One slot is enough: the message says that something happened, not what.
        let (report, happened) = tokio::sync::mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !is_reading(event.kind)) {
                // A full channel has a message already.
                let _ = report.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(
                %error,
                "inotify is unavailable, so {otherwise}: raise fs.inotify.max_user_instances"
            );
        });
        Self { watcher: watcher.ok(), watched: BTreeSet::new(), happened, changed_at: None }
    }

    /// Watches exactly these folders. Missing folders are not watched. True if one of them was not
    /// watched before: what happened in it since the caller read its files is not reported.
    pub fn watch(&mut self, folders: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        for gone in self.watched.difference(&folders) {
            // The kernel has dropped the watch already if the folder was removed.
            let _ = watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            // Watch it again even if it is watched: it may be a new folder of the same name.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "not watched"),
            }
        }
        let is_new = !watched.is_subset(&self.watched);
        self.watched = watched;
        is_new
    }

    /// Waits until something has happened and writers are quiet; forever without inotify.
    pub async fn changed(&mut self) {
        let changed_at = match self.changed_at {
            Some(at) => at,
            None => {
                if self.happened.recv().await.is_none() {
                    pending::<()>().await;
                }
                *self.changed_at.insert(Instant::now())
            }
        };
        while changed_at.elapsed() < QUIET_AWAITED_MAX {
            match timeout(QUIET_FOR, self.happened.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.changed_at = None;
    }
}

/// Whether the event is opening or reading a file, which this process does itself.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => false,
    }
}
