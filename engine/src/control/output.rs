//! What commands print, and the last words of a server that ends: all that is written past the log.
//!
//! Invariant: an output that is closed or full is never a panic.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crossbeam_channel::bounded;
use engine::limits::STDERR_TIMEOUT;

/// Prints what a command is to print. Whoever reads it may stop at any time, as `head` does.
pub(crate) fn print(text: &str) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot write to standard output: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output, to the end.
///
/// # Errors
/// It is closed or full.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes to standard error. Where that fails there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same for a server, which does not wait for whoever reads: after `STDERR_TIMEOUT` it goes on.
pub(crate) fn complain_in_time(text: String) {
    let (done, is_done) = bounded::<()>(1);
    let writing = std::thread::Builder::new().name("stderr".into()).spawn(move || {
        complain(&text);
        drop(done);
    });
    if writing.is_ok() {
        let _ = is_done.recv_timeout(STDERR_TIMEOUT);
    }
}
