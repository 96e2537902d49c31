//! Writes a snapshot file, on a thread that may wait for a disk.
//!
//! Invariant: the file is always whole: a new one is written beside it, reaches the disk, and then
//! takes its name. What a killed process left of one is removed by the next.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// A file that is being written is locked, but not yet at the moment when it is created. So a
/// younger file is not taken for one that a killed process left.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(60);
/// More entries of the folder are not looked at: it may be a large one that holds other things.
const ENTRIES_MAX: usize = 10_000;
/// Digits at the end of a temporary name.
const RANDOM_DIGITS: usize = 16;

/// Part of the file.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The file is complete. Without it, what has been written is discarded.
    End,
}

/// How the writing has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Written,
    /// The pieces ended before the file was complete.
    Discarded,
    Failed(String),
}

/// The name under which a file is written. It is random, so that pods with the same file do not
/// disturb each other: in each of them, the process has number 1.
pub(super) fn temporary(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{:0RANDOM_DIGITS$x}", RandomState::new().hash_one(0_u8)));
    name.into()
}

/// Writes all pieces, after removing what killed processes have left.
pub(super) fn write(file: &Path, temporary: &Path, pieces: &Receiver<Piece>) -> WriteOutcome {
    // A folder that cannot be listed may still be written to.
    let _ = remove_orphans(file);
    let outcome = match try_write(file, temporary, pieces) {
        Ok(outcome) => outcome,
        Err((what, error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            WriteOutcome::Failed(format!("{what}: {error}{}", user()))
        }
        Err((what, error)) => WriteOutcome::Failed(format!("{what}: {error}")),
    };
    if outcome != WriteOutcome::Written {
        // It may not exist.
        let _ = fs::remove_file(temporary);
    }
    outcome
}

/// Who is denied: the owner of this process, which a folder of the node rarely belongs to.
fn user() -> String {
    let id = fs::metadata("/proc/self").map(|process| process.uid());
    id.map_or_else(|_| String::new(), |id| format!(": this process is user {id}"))
}

/// The step that failed, and why.
type WriteError = (String, io::Error);

fn try_write(
    file: &Path,
    temporary: &Path,
    pieces: &Receiver<Piece>,
) -> Result<WriteOutcome, WriteError> {
    let failed = |what: &str| {
        let what = format!("{what} {}", temporary.display());
        move |error| (what, error)
    };
    let mut options = OpenOptions::new();
    // The names of all Services are nobody else's business, and no link is followed.
    options.write(true).create_new(true).mode(0o600);
    let mut into = options.open(temporary).map_err(failed("open"))?;
    // Where files cannot be locked, no other process can lock it and remove it either.
    let _ = into.try_lock();
    loop {
        match pieces.recv() {
            Ok(Piece::Bytes(bytes)) => into.write_all(&bytes).map_err(failed("write"))?,
            Ok(Piece::End) => break,
            Err(_) => return Ok(WriteOutcome::Discarded),
        }
    }
    into.sync_all().map_err(failed("sync"))?;
    fs::rename(temporary, file).map_err(failed("rename"))?;
    // Not every file system can do this, and the file is whole without it.
    let _ = folder(file).and_then(|folder| File::open(folder)?.sync_all());
    Ok(WriteOutcome::Written)
}

/// Removes the files of processes that were killed while they wrote. A process that still writes,
/// perhaps in another pod, has locked its file.
fn remove_orphans(file: &Path) -> io::Result<()> {
    let prefix = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for entry in fs::read_dir(folder(file)?)?.take(ENTRIES_MAX) {
        let entry = entry?;
        if is_temporary(&entry.file_name(), prefix) && is_orphan(&entry).unwrap_or(false) {
            // Another process may have removed it first.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether `temporary` makes such a name for a file called `prefix`.
fn is_temporary(name: &OsStr, prefix: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
    let digits = rest.and_then(|rest| rest.strip_prefix(b"."));
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.is_some_and(|digits| digits.len() == RANDOM_DIGITS && digits.iter().all(is_digit))
}

/// Whether no process writes this file any more.
fn is_orphan(entry: &DirEntry) -> io::Result<bool> {
    let metadata = entry.metadata()?;
    let is_old = metadata.modified()?.elapsed().is_ok_and(|age| age >= ORPHAN_AGE_MIN);
    // If it takes its final name in between, nothing has this one any more.
    Ok(metadata.is_file() && is_old && File::open(entry.path())?.try_lock().is_ok())
}

fn folder(file: &Path) -> io::Result<&Path> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}
