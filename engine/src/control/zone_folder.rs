//! The search of an `auto` line's folder for zone files.
//!
//! Invariant: a zone is lost only if its file is gone, not if a folder cannot be read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::corefile::value::zone::Zone;
use engine::limits::{FILE_LOOK_EVERY_MIN, ZONE_FOLDER_DEPTH_MAX, ZONE_FOLDER_ENTRIES_MAX};
use engine::plugin::auto::{FileName, ZoneFolder};
use engine::plugin::file::{FileZone, ZoneChange, ZoneReload};
use walkdir::{DirEntry, WalkDir};

/// A folder that is searched again and again.
pub(super) struct WatchedFolder {
    pub(super) settings: ZoneFolder,
    /// Why it cannot be searched at the moment.
    pub(super) problem: Option<String>,
    /// What the log says of the last search.
    notes: Vec<String>,
    /// When it is searched next; `None`: never again.
    pub(super) due: Option<Instant>,
}

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct FolderContent {
    /// The file of each zone.
    pub(super) files: HashMap<Zone, PathBuf>,
    /// Zones whose file is in one of these may be there still.
    unread: Vec<PathBuf>,
}

impl FolderContent {
    /// Whether the file of a zone may be there still, though it was not found.
    pub(super) fn may_have(&self, path: &Path) -> bool {
        self.unread.iter().any(|folder| path.starts_with(folder))
    }
}

impl WatchedFolder {
    pub(super) fn new(settings: ZoneFolder) -> Self {
        Self { settings, problem: None, notes: Vec::new(), due: Some(Instant::now()) }
    }

    /// What the last search could not do.
    pub(super) fn into_problems(self) -> impl Iterator<Item = String> {
        self.problem.into_iter().chain(self.notes)
    }

    /// A zone of its own.
    pub(super) fn zone(&self, zone: Zone, path: PathBuf) -> FileZone {
        let reload = ZoneReload { every: self.settings.reload, change: ZoneChange::Serial };
        FileZone { zone, path, reload }
    }

    /// Searches it, and logs what is new about it.
    pub(super) fn search(&mut self) -> FolderContent {
        let mut search = FolderSearch::default();
        search.run(&self.settings);
        let FolderSearch { found, problem, notes } = search;
        for note in notes.iter().filter(|note| !self.notes.contains(note)) {
            tracing::warn!("plugin/auto: {note}");
        }
        let path = self.settings.path.display();
        match (&self.problem, &problem) {
            (before, Some(problem)) if before.as_ref() != Some(problem) => {
                tracing::warn!("plugin/auto: {problem}; zones found before are still served");
            }
            (Some(_), None) => tracing::info!("plugin/auto: folder {path} can be read again"),
            _ => {}
        }
        (self.notes, self.problem) = (notes, problem);
        let every = self.settings.reload;
        self.due = (!every.is_zero()).then(|| Instant::now() + every.max(FILE_LOOK_EVERY_MIN));
        found
    }
}

/// How long until the earliest of these.
pub(super) fn earliest(due: impl Iterator<Item = Option<Instant>>) -> Option<Duration> {
    Some(due.flatten().min()?.saturating_duration_since(Instant::now()))
}

/// A search in progress.
#[derive(Default)]
struct FolderSearch {
    found: FolderContent,
    problem: Option<String>,
    notes: Vec<String>,
}

impl FolderSearch {
    /// In CoreDNS's order, since the first file of a zone counts: by name, and what is in a folder
    /// where the folder's name comes.
    fn run(&mut self, folder: &ZoneFolder) {
        let root = &folder.path;
        let walk = WalkDir::new(root).max_depth(ZONE_FOLDER_DEPTH_MAX).sort_by_file_name();
        for (entry_count, entry) in walk.into_iter().filter_entry(is_searched).enumerate() {
            if entry_count == ZONE_FOLDER_ENTRIES_MAX {
                self.fail(root, format!("more than {ZONE_FOLDER_ENTRIES_MAX} files"));
                break;
            }
            match entry {
                Ok(entry) if entry.depth() == 0 && !is_folder(&entry) => {
                    self.fail(root, "it is not a folder".to_owned());
                }
                Ok(entry) if is_file(&entry) => self.see(folder, entry),
                Ok(_) => {}
                Err(error) => {
                    let reason =
                        error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    match error.path().filter(|_| error.depth() > 0) {
                        Some(path) => {
                            self.notes.push(format!("{} cannot be read: {reason}", path.display()));
                            self.found.unread.push(path.to_owned());
                        }
                        None => self.fail(root, reason),
                    }
                }
            }
        }
    }

    fn fail(&mut self, root: &Path, reason: String) {
        self.problem = Some(format!("folder {} cannot be searched: {reason}", root.display()));
        self.found.unread.push(root.to_owned());
    }

    fn see(&mut self, folder: &ZoneFolder, entry: DirEntry) {
        match folder.zone_of(entry.file_name().as_encoded_bytes()) {
            FileName::Other | FileName::Elsewhere => {}
            FileName::Refused(reason) => {
                self.notes.push(format!("{} is left out: {reason}", entry.path().display()));
            }
            FileName::Of(zone) => match self.found.files.get(&zone) {
                None => {
                    self.found.files.insert(zone, entry.into_path());
                }
                Some(first) => self.notes.push(format!(
                    "zone {} has two files: {} is used, and {} is not",
                    zone.text,
                    first.display(),
                    entry.path().display(),
                )),
            },
        }
    }
}

/// The folders that a ConfigMap's volume keeps its versions in begin with two dots. Its files are
/// links into them.
fn is_searched(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b"..")
}

/// The folder that is searched may be a link.
fn is_folder(entry: &DirEntry) -> bool {
    fs::metadata(entry.path()).is_ok_and(|to| to.is_dir())
}

/// Pipes are left out: they may hang. Links to folders are not followed, as in CoreDNS. A link to
/// nothing is a file that is missing.
fn is_file(entry: &DirEntry) -> bool {
    let found = entry.file_type();
    let leads_to_file = || fs::metadata(entry.path()).map_or(true, |to| to.is_file());
    found.is_file() || (found.is_symlink() && leads_to_file())
}
