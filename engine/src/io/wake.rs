//! Waiting for a descriptor in the shard's runtime. Invariant: the runtime watches a duplicate,
//! never the original.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for reading. The original may be closed at any time.
///
/// # Errors
/// No descriptor is left for the duplicate.
pub fn watch(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: the AsyncFd owns the duplicate, so the descriptor stays open while it is registered.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}
