//! Which files the given paths stand for, and how to tell that they have changed.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ManifestError;

/// What a manifest's name ends with; `.gz` may follow.
const EXTENSIONS: [(&str, Format); 5] = [
    ("yaml", Format::Yaml),
    ("yml", Format::Yaml),
    ("json", Format::Json),
    ("jsonl", Format::Json),
    ("ndjson", Format::Json),
];
/// Folders in folders that are read.
const DEPTH_MAX: usize = 32;
/// Folders that are read, each of which inotify watches.
const FOLDERS_MAX: usize = 4096;

/// The files of all paths as they are now. Equal fingerprints: nothing has been written in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    files: Vec<FilePrint>,
    /// Those that the files are in, and those in between.
    folders: Vec<PathBuf>,
    /// What lies in the folders and is not read.
    skipped: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FilePrint {
    file: PathBuf,
    /// Of what a symbolic link points at, so that a swap shows.
    inode: u64,
    len: u64,
    modified: SystemTime,
}

impl Fingerprint {
    /// # Errors
    /// The first path or file that is not there, or a folder without manifests.
    pub(super) fn take(paths: &[PathBuf]) -> Result<Self, ManifestError> {
        let mut print = Self::default();
        // The same file or folder, by whatever name, is read once.
        let mut seen = HashSet::new();
        for path in paths {
            let metadata = metadata(path)?;
            if !metadata.is_dir() {
                print
                    .add_file(path.clone(), &metadata, &mut seen)
                    .map_err(|error| ManifestError::io(path, &error))?;
                continue;
            }
            let has_manifests = print
                .add_folder(path, &metadata, 0, &mut seen)
                .map_err(|error| ManifestError::io(path, &error))?;
            if !has_manifests {
                let cause = "the folder and those in it hold no file *.yaml, *.yml, *.json, *.jsonl or *.ndjson, nor one with .gz behind that";
                return Err(ManifestError::new(path, None, cause));
            }
        }
        Ok(print)
    }

    fn add_file(
        &mut self,
        file: PathBuf,
        metadata: &Metadata,
        seen: &mut HashSet<(u64, u64)>,
    ) -> io::Result<()> {
        if seen.insert((metadata.dev(), metadata.ino())) {
            self.files.push(FilePrint::new(file, metadata)?);
        }
        Ok(())
    }

    /// By name, so that the same folder always reads the same. Hidden entries are left out: a mounted ConfigMap keeps its
    /// generations in some. Whether there are manifests in the folder; one that was seen before had its say then.
    fn add_folder(
        &mut self,
        folder: &Path,
        metadata: &Metadata,
        depth: usize,
        seen: &mut HashSet<(u64, u64)>,
    ) -> io::Result<bool> {
        if !seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(true);
        }
        let mut has_manifests = false;
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            entries.push(entry?.path());
        }
        entries.sort();
        self.folders.push(folder.to_path_buf());
        for path in entries {
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            // A link that leads nowhere, for one.
            let Ok(metadata) = fs::metadata(&path) else {
                self.skipped.push(path);
                continue;
            };
            let may_enter = depth < DEPTH_MAX && self.folders.len() < FOLDERS_MAX;
            if metadata.is_dir() && may_enter {
                match self.add_folder(&path, &metadata, depth + 1, seen) {
                    Ok(found) => has_manifests |= found,
                    Err(_) => self.skipped.push(path),
                }
            } else if metadata.is_file() && format(&path).is_some() {
                has_manifests = true;
                self.add_file(path, &metadata, seen)?;
            } else {
                self.skipped.push(path);
            }
        }
        Ok(has_manifests)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|print| print.file.as_path())
    }

    pub(super) fn skipped(&self) -> &[PathBuf] {
        &self.skipped
    }
}

/// What a file's name says of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// `None`: it is no manifest's name.
pub(super) fn format(file: &Path) -> Option<Format> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let (_, extension) = name.rsplit_once('.')?;
    EXTENSIONS.iter().find(|(known, _)| *known == extension).map(|(_, format)| *format)
}

impl FilePrint {
    fn new(file: PathBuf, metadata: &Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?;
        Ok(Self { file, inode: metadata.ino(), len: metadata.len(), modified })
    }
}

fn metadata(path: &Path) -> Result<Metadata, ManifestError> {
    fs::metadata(path).map_err(|error| ManifestError::io(path, &error))
}

/// The folders in which something happens when one of the files changes: those that the paths and the files are in, as they
/// are written and as symbolic links lead. Watching folders sees what watching files does not: renames over a file.
pub(super) fn folders(paths: &[PathBuf], fingerprint: &Fingerprint) -> BTreeSet<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = fingerprint.folders.iter().cloned().collect();
    for path in paths.iter().map(PathBuf::as_path).chain(fingerprint.files()) {
        for path in [Some(path.to_path_buf()), fs::canonicalize(path).ok()].into_iter().flatten() {
            match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => folders.insert(".".into()),
                Some(parent) => folders.insert(parent.to_path_buf()),
                None => false,
            };
            if path.is_dir() {
                folders.insert(path);
            }
        }
    }
    folders
}
