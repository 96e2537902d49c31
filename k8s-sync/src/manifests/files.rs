//! Finds the files that the given paths stand for, and detects that they have changed.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ManifestError;

/// File name extensions of manifests. `.gz` may follow.
const EXTENSIONS: [(&str, Format); 5] = [
    ("yaml", Format::Yaml),
    ("yml", Format::Yaml),
    ("json", Format::Json),
    ("jsonl", Format::Json),
    ("ndjson", Format::Json),
];
/// Nesting depth of folders that are read.
const DEPTH_MAX: usize = 32;
/// Number of folders that are read. inotify watches each of them.
const FOLDERS_MAX: usize = 4096;

/// The state of all files. Equal fingerprints mean that nothing has been written in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    files: Vec<FilePrint>,
    /// The folders that contain the files, and the folders between.
    folders: Vec<PathBuf>,
    /// Files and folders that are not read.
    skipped: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FilePrint {
    file: PathBuf,
    /// Follows symbolic links, so that a swapped link shows.
    inode: u64,
    len: u64,
    modified: SystemTime,
}

impl Fingerprint {
    /// # Errors
    /// The first path or file that is missing, or a folder without manifests.
    pub(super) fn take(paths: &[PathBuf]) -> Result<Self, ManifestError> {
        let mut print = Self::default();
        // A file or folder that is reachable by several names is read once.
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
                let cause = "no *.yaml, *.yml, *.json, *.jsonl or *.ndjson file, with or without \
                             .gz, in this folder or below";
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

    /// Reads a folder in the order of names, so that the result is reproducible. Hidden entries are
    /// skipped: a mounted ConfigMap keeps its generations in some.
    ///
    /// Returns whether the folder contains manifests. A folder that was seen before counts as
    /// containing some.
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
            // For example, a dangling link.
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

/// The format that a file name announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// `None` if it is not the name of a manifest.
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

/// The folders to watch: those that contain the paths and the files, both as written and after
/// resolving symbolic links. Watching folders also notices renames over a file, which watching
/// files does not.
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
