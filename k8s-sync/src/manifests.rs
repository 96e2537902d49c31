//! Reads objects from files: what `kubectl get namespaces,services,endpointslices,pods -A -o yaml`
//! (or json) prints.
//!
//! All files are read together. If every file is well-formed, their objects replace the last state;
//! otherwise nothing changes and the log gives file, line and column. An invalid part of a
//! well-formed object costs only that part. inotify on the folders reports changes; a slow poll
//! catches those on file systems that report none.

mod documents;
mod files;
mod missing;
mod snapshot;
mod text;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use crate::fault::ObjectRef;
use crate::folders::FolderWatcher;
use crate::object::Event;
use crate::options::Options;
use crate::origin::ClusterObjects;
use crate::raw::Kind;
use crate::status::{KindStatus, SourceStatus};
use files::Fingerprint;
use missing::Notes;
use snapshot::{Reader, Snapshot};

/// Upper bound for noticing a change that inotify does not report (network file systems, too few
/// watches).
const POLL_EVERY: Duration = Duration::from_secs(5);

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, or the folder that should contain manifests.
    pub file: PathBuf,
    /// Line and column, counted from 1, if the text itself is at fault.
    pub position: Option<(u64, u64)>,
    pub cause: String,
}

impl std::fmt::Display for ManifestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.file.display();
        match self.position {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", self.cause),
            None => write!(f, "{file}: {}", self.cause),
        }
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    fn new(file: &Path, position: Option<(u64, u64)>, cause: &str) -> Self {
        Self { file: file.to_path_buf(), position, cause: cause.to_owned() }
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
    /// Result of the last attempt to read.
    tried: Result<Fingerprint, ManifestError>,
    is_good: bool,
    /// Notes of the last successful read. Each is logged once.
    noted: Notes,
    changes: FolderWatcher,
}

impl Manifests {
    /// Starts watching, then reads all files, so that no change goes unnoticed.
    ///
    /// # Errors
    /// The first file that cannot be read or is not well-formed. An object that breaks a rule of
    /// Kubernetes is no error: it is left out, logged and counted.
    pub fn load(
        paths: &[PathBuf],
        options: &Options,
        status: Arc<SourceStatus>,
    ) -> Result<Self, ManifestError> {
        if paths.is_empty() {
            let cause = "at least one file or folder is required";
            return Err(ManifestError::new(Path::new("manifests"), None, cause));
        }
        let reader = Arc::new(Reader { paths: paths.to_vec(), options: options.clone() });
        let mut changes = FolderWatcher::new("manifests are polled for changes");
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

    /// The objects themselves, read anew.
    ///
    /// # Errors
    /// As for `load`.
    pub fn objects(paths: &[PathBuf]) -> Result<ClusterObjects, ManifestError> {
        Reader::objects(&Fingerprint::take(paths)?)
    }

    /// Sends the loaded objects, then every change, until the receiver is dropped. Waits while the
    /// channel is full.
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
                _ = timeout(POLL_EVERY, self.changes.changed()) => next = self.read_again().await,
                () = events.closed() => return,
            }
        }
    }

    /// `None` if nothing has changed or the files are broken.
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
        // A panic in a parser counts as one more broken file.
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
                    tracing::info!("manifests are valid again");
                }
                self.is_good = true;
                self.note(&snapshot, began.elapsed());
                Some(snapshot)
            }
            Err(error) => {
                tracing::error!(%error, "cannot load the manifests; the last valid state stays in \
                                         use");
                self.is_good = false;
                self.status.wanted().for_each(|kind| kind.set_failure(error.to_string()));
                None
            }
        }
    }

    fn note(&mut self, snapshot: &Snapshot, took: Duration) {
        let (mut refused, mut odd_parts) = (0, 0);
        for object in &snapshot.objects {
            let reference =
                ObjectRef { kind: object.kind, key: &object.key, from: Some(&object.from) };
            let log = &self.status.kind(object.counted_as).faults;
            log.note(reference, object.refusal.as_ref(), &object.faults);
            refused += u64::from(object.refusal.is_some());
            odd_parts += object.faults.count;
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
