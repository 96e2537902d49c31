//! Writes a snapshot file, on a thread that may wait for a disk.
//!
//! Invariant: the file is always whole: a new one is written beside it, reaches the disk, and then
//! takes its name.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

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
    name.push(format!(".{:016x}", RandomState::new().hash_one(0_u8)));
    name.into()
}

/// Writes all pieces.
pub(super) fn write(file: &Path, temporary: &Path, pieces: &Receiver<Piece>) -> WriteOutcome {
    let outcome = match try_write(file, temporary, pieces) {
        Ok(outcome) => outcome,
        Err((what, error)) => WriteOutcome::Failed(format!("{what}: {error}")),
    };
    if outcome != WriteOutcome::Written {
        // It may not exist.
        let _ = fs::remove_file(temporary);
    }
    outcome
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

fn folder(file: &Path) -> io::Result<&Path> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}
