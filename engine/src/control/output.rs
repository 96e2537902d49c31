//! Output outside the log: what commands print, and a server's errors at start-up and shutdown.
//!
//! Invariant: an output that is closed or full never causes a panic.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crossbeam_channel::bounded;
use engine::limits::STDERR_TIMEOUT;

/// Prints a command's output. A reader that stops early, like `head`, is not an error.
pub(crate) fn print(text: &str) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("write to standard output: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Writes all of `text` to standard output.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes to standard error. If that fails, there is no place to report it.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same for a server, which must not wait for a slow reader: gives up after `STDERR_TIMEOUT`.
/// Where no thread can be made, it waits: that may be what the text is about.
pub(crate) fn complain_in_time(text: &str) {
    let (done, is_done) = bounded::<()>(1);
    let owned = text.to_owned();
    let writing = std::thread::Builder::new().name("stderr".into()).spawn(move || {
        complain(&owned);
        drop(done);
    });
    match writing {
        Ok(_) => drop(is_done.recv_timeout(STDERR_TIMEOUT)),
        Err(_) => complain(text),
    }
}
