//! Lines that a person must see although the test passed: libtest captures `eprintln!`, it does not
//! capture these.

use std::io::Write;

/// Writes one line to the process's standard error, past libtest's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
