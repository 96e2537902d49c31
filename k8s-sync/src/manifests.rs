//! Events from files: what `kubectl get namespaces,services,endpointslices,pods -A -o yaml` (or json) prints.
//!
//! Files are read whole and together: either all of them are well-formed and replace what was served, or nothing changes and
//! the log says why, with file, line and column. What is odd in well-formed ones costs itself. Changes are seen through inotify on the folders, with a slow poll beside it
//! for file systems that report none.

mod documents;
mod files;
mod missing;
mod snapshot;
mod text;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::fault::ObjectRef;
use crate::object::Event;
use crate::options::Options;
use crate::raw::Kind;
use crate::status::{KindStatus, SourceStatus};
use files::Fingerprint;
use missing::Notes;
use snapshot::{Reader, Snapshot};

/// Files are read once nothing has happened to them for this long: writers write in pieces.
const QUIET_FOR: Duration = Duration::from_millis(50);
/// They are read all the same when a writer does not come to rest.
const QUIET_AWAITED_MAX: Duration = Duration::from_secs(2);
/// Changes that inotify does not report (network file systems, too few watches) are seen after this long.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, or the folder that should hold some.
    pub file: PathBuf,
    /// Line and column from 1, where the text is at fault.
    pub place: Option<(u64, u64)>,
    pub cause: String,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.display();
        match self.place {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", self.cause),
            None => write!(f, "{file}: {}", self.cause),
        }
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    fn new(file: &Path, place: Option<(u64, u64)>, cause: &str) -> Self {
        Self { file: file.to_path_buf(), place, cause: cause.to_owned() }
    }

    fn io(file: &Path, error: &std::io::Error) -> Self {
        Self::new(file, None, &error.to_string())
    }
}

/// Manifests that have been read once.
pub struct Manifests {
    reader: Arc<Reader>,
    status: Arc<SourceStatus>,
    loaded: Snapshot,
    /// Of the last attempt to read, good or bad.
    tried: Result<Fingerprint, ManifestError>,
    is_good: bool,
    /// Notes of the last good attempt, which are said once.
    noted: Notes,
    changes: FolderWatcher,
}

impl Manifests {
    /// Reads everything and watches it from before the first byte is read.
    ///
    /// # Errors
    /// The first file that cannot be read or is not well-formed. Objects that break a rule of Kubernetes are logged, counted and left out instead.
    pub fn load(
        paths: &[PathBuf],
        options: &Options,
        status: Arc<SourceStatus>,
    ) -> Result<Self, ManifestError> {
        if paths.is_empty() {
            let cause = "it takes at least one file or folder";
            return Err(ManifestError::new(Path::new("manifests"), None, cause));
        }
        let reader = Arc::new(Reader { paths: paths.to_vec(), options: options.clone() });
        let mut changes = FolderWatcher::new();
        changes.watch(files::folders(paths, &Fingerprint::default()));
        let began = Instant::now();
        let fingerprint = Fingerprint::take(paths)?;
        changes.watch(files::folders(paths, &fingerprint));
        let loaded = reader.read(&fingerprint)?;
        let (tried, noted) = (Ok(fingerprint), Notes::new());
        let mut manifests = Self {
            reader,
            status,
            loaded: Snapshot::default(),
            tried,
            is_good: true,
            noted,
            changes,
        };
        manifests.note(&loaded, began.elapsed());
        manifests.loaded = loaded;
        Ok(manifests)
    }

    /// Sends what has been loaded, then what changes, until the receiver is dropped; awaits where the channel is full.
    pub async fn run(mut self, events: Sender<Event>) {
        let mut next = Some(std::mem::take(&mut self.loaded));
        loop {
            if let Some(snapshot) = next.take() {
                for event in snapshot.into_events(&self.reader.options) {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                () = self.changes.settled() => next = self.read_again().await,
                () = events.closed() => return,
            }
        }
    }

    /// `None`: nothing has changed, or not for the good.
    async fn read_again(&mut self) -> Option<Snapshot> {
        let began = Instant::now();
        let (reader, last) = (Arc::clone(&self.reader), self.tried.clone());
        let attempt = tokio::task::spawn_blocking(move || {
            let tried = Fingerprint::take(&reader.paths);
            if tried == last {
                return None;
            }
            let snapshot =
                tried.as_ref().map_err(Clone::clone).and_then(|print| reader.read(print));
            Some((tried, snapshot))
        });
        // A panic in a parser is one bad file more.
        let attempt = attempt.await.unwrap_or_else(|error| {
            let error = ManifestError::new(&self.reader.paths[0], None, &error.to_string());
            Some((Err(error.clone()), Err(error)))
        });
        let Some((tried, snapshot)) = attempt else {
            if self.is_good {
                self.status.wanted().for_each(KindStatus::contact);
            }
            return None;
        };
        let known = Fingerprint::default();
        self.changes.watch(files::folders(&self.reader.paths, tried.as_ref().unwrap_or(&known)));
        self.tried = tried;
        match snapshot {
            Ok(snapshot) => {
                if !self.is_good {
                    tracing::info!("manifests are good again");
                }
                self.is_good = true;
                self.note(&snapshot, began.elapsed());
                Some(snapshot)
            }
            Err(error) => {
                tracing::error!(%error, "manifests are broken; what was read before stays in use");
                self.is_good = false;
                self.status.wanted().for_each(|kind| kind.trouble(error.to_string()));
                None
            }
        }
    }

    fn note(&mut self, snapshot: &Snapshot, took: Duration) {
        let (mut refused, mut odd_parts) = (0, 0);
        for found in &snapshot.found {
            let whose = ObjectRef { kind: found.kind, key: &found.key, from: Some(&found.from) };
            let log = &self.status.kind(found.counted_as).faults;
            log.note(whose, found.refusal.as_ref(), &found.faults);
            refused += u64::from(found.refusal.is_some());
            odd_parts += found.faults.count;
        }
        for (about, note) in &snapshot.notes {
            if !self.noted.contains_key(about) {
                tracing::warn!("manifests: {note}");
            }
        }
        self.noted.clone_from(&snapshot.notes);
        self.status.wanted().for_each(KindStatus::loaded);
        tracing::info!(
            namespaces = snapshot.count(Kind::Namespace),
            services = snapshot.count(Kind::Service),
            endpointslices = snapshot.count(Kind::EndpointSlice),
            pods = snapshot.count(Kind::Pod),
            refused,
            odd_parts,
            ?took,
            "manifests read"
        );
    }
}

/// Tells when something has happened in the watched folders.
struct FolderWatcher {
    /// `None`: the kernel gives no more inotify instances; polling remains.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    happened: Receiver<()>,
}

impl FolderWatcher {
    fn new() -> Self {
        // One is enough: it says that something happened, not what.
        let (tell, happened) = tokio::sync::mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !is_reading(event.kind)) {
                // Full: it has been told already.
                let _ = tell.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, poll = ?POLL_EVERY,
                "no inotify: changes of manifests are found by polling; raise fs.inotify.max_user_instances");
        });
        Self { watcher: watcher.ok(), watched: BTreeSet::new(), happened }
    }

    /// Watches these folders and no others. Folders that are not there are left to polling.
    fn watch(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&folders) {
            // The kernel has dropped it already where the folder was removed.
            let _ = watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            // Again even if it is watched: the folder may be another one of the same name by now.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "not watched"),
            }
        }
        self.watched = watched;
    }

    /// Returns once something has happened and come to rest, or it is time to look all the same.
    async fn settled(&mut self) {
        // Without a watcher the channel is closed, and only time passes.
        let is_told = tokio::select! {
            Some(()) = self.happened.recv() => true,
            () = tokio::time::sleep(POLL_EVERY) => false,
        };
        let latest = Instant::now() + QUIET_AWAITED_MAX;
        while is_told && Instant::now() < latest {
            match tokio::time::timeout(QUIET_FOR, self.happened.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Opening and reading a file, as we do ourselves.
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
