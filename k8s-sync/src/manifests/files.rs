//! Which files the given paths stand for, and how to tell that they have changed.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ManifestError;

/// The files of all paths as they are now. Equal fingerprints: nothing has been written in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Print>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
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
        let mut prints = Vec::new();
        for path in paths {
            let metadata = metadata(path)?;
            if !metadata.is_dir() {
                prints.push(Print::new(path.clone(), &metadata)?);
                continue;
            }
            let files = in_folder(path).map_err(|error| ManifestError::io(path, &error))?;
            if files.is_empty() {
                let cause = "the folder holds no *.yaml, *.yml or *.json file";
                return Err(ManifestError::new(path, None, cause));
            }
            for file in files {
                let metadata = self::metadata(&file)?;
                prints.push(Print::new(file, &metadata)?);
            }
        }
        Ok(Self(prints))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|print| print.file.as_path())
    }
}

impl Print {
    fn new(file: PathBuf, metadata: &Metadata) -> Result<Self, ManifestError> {
        let modified = metadata.modified().map_err(|error| ManifestError::io(&file, &error))?;
        Ok(Self { file, inode: metadata.ino(), len: metadata.len(), modified })
    }
}

fn metadata(path: &Path) -> Result<Metadata, ManifestError> {
    fs::metadata(path).map_err(|error| ManifestError::io(path, &error))
}

/// By name, so that the same folder always reads the same. Hidden entries are left out: a mounted ConfigMap keeps its
/// generations in some.
fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_manifest = matches!(extension, Some("yaml" | "yml" | "json"));
        if is_manifest && !is_hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The folders in which something happens when one of the files changes: those that the paths and the files are in, as they
/// are written and as symbolic links lead. Watching folders sees what watching files does not: renames over a file.
pub(super) fn folders(paths: &[PathBuf], fingerprint: &Fingerprint) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
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
