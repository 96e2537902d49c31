//! The search of an `auto` line's folder for zone files.
//!
//! Invariant: a zone is lost only if its file is gone, not if a folder cannot be read.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::corefile::value::zone::Zone;
use engine::limits::{ZONE_FOLDER_DEPTH_MAX, ZONE_FOLDER_ENTRIES_MAX};
use engine::plugin::auto::{ZoneFolder, ZoneOfFile};
use engine::plugin::file::{FileZone, ZoneChange, ZoneReload};
use walkdir::{DirEntry, WalkDir};

/// A folder that is searched again and again.
pub(super) struct WatchedFolder {
    pub(super) settings: ZoneFolder,
    /// Why it cannot be searched at the moment, or not all of it.
    pub(super) problem: Option<String>,
    /// The problem is the folder itself.
    pub(super) is_lost: bool,
    /// What the last search logged.
    notes: HashSet<String>,
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
        let due = Some(Instant::now());
        Self { settings, problem: None, is_lost: false, notes: HashSet::new(), due }
    }

    /// What the last search could not do.
    pub(super) fn into_problems(self) -> impl Iterator<Item = String> {
        self.problem.into_iter().chain(self.notes)
    }

    /// The settings of a zone that was found in it.
    pub(super) fn zone(&self, zone: Zone, path: PathBuf) -> FileZone {
        let reload = ZoneReload { every: self.settings.reload, change: ZoneChange::Serial };
        FileZone { zone, path, reload }
    }

    /// Searches it, and logs what is new about it. `has_zones`: some were found before.
    pub(super) fn search(&mut self, has_zones: bool) -> FolderContent {
        let mut search = FolderSearch::default();
        search.run(&self.settings);
        let FolderSearch { found, problem, is_lost, notes } = search;
        let new: Vec<_> = notes.iter().filter(|note| !self.notes.contains(*note)).collect();
        for note in new.iter().take(NOTES_LOGGED_MAX) {
            tracing::warn!("plugin/auto: {note}");
        }
        if let Some(more @ 1..) = new.len().checked_sub(NOTES_LOGGED_MAX) {
            tracing::warn!("plugin/auto: {more} more files of this kind");
        }
        let path = self.settings.path.display();
        match &problem {
            Some(problem) if self.problem.as_ref() != Some(problem) => {
                let meanwhile =
                    if has_zones { "zones found before are still served" } else { "no zones" };
                tracing::warn!("plugin/auto: {problem}: {meanwhile}");
            }
            None if self.problem.is_some() => {
                tracing::info!("plugin/auto: folder {path} can be read again");
            }
            Some(_) | None => {}
        }
        (self.notes, self.problem, self.is_lost) = (notes.into_iter().collect(), problem, is_lost);
        found
    }
}

/// Of one search.
const NOTES_LOGGED_MAX: usize = 10;

/// A search in progress.
#[derive(Default)]
struct FolderSearch {
    found: FolderContent,
    problem: Option<String>,
    /// The problem is the folder itself.
    is_lost: bool,
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
                let reason = format!("it has more than {ZONE_FOLDER_ENTRIES_MAX} files");
                self.fail(root, &reason);
                break;
            }
            match entry {
                Ok(entry) if entry.depth() == 0 && !is_folder(&entry) => {
                    self.is_lost = true;
                    self.fail(root, "it is not a folder");
                }
                Ok(entry) if is_file(&entry) => self.add_file(folder, entry),
                Ok(_) => {}
                Err(error) => {
                    let reason =
                        error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    let part = error.path().filter(|_| error.depth() > 0);
                    self.is_lost |= part.is_none();
                    self.fail(part.unwrap_or(root), &reason);
                }
            }
        }
    }

    /// `part`: the folder, or one in it.
    fn fail(&mut self, part: &Path, reason: &str) {
        self.found.unread.push(part.to_owned());
        self.problem.get_or_insert_with(|| {
            format!("folder {} cannot be searched: {reason}", part.display())
        });
    }

    fn add_file(&mut self, folder: &ZoneFolder, entry: DirEntry) {
        match folder.zone_of(entry.file_name().as_encoded_bytes()) {
            ZoneOfFile::NotAZoneFile | ZoneOfFile::NotServed => {}
            ZoneOfFile::Refused(reason) => {
                self.notes.push(format!("{} is left out: {reason}", entry.path().display()));
            }
            ZoneOfFile::Zone(zone) => match self.found.files.get(&zone) {
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
/// links into them. A file system's lost+found is for root alone.
fn is_searched(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_encoded_bytes();
    entry.depth() == 0 || !(name.starts_with(b"..") || name == b"lost+found")
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
