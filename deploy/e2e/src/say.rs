//! Lines that a person must see even if the test passed: libtest captures `eprintln!`, but not
//! these.

use std::io::Write;

/// Writes one line to the process's standard error, bypassing libtest's capture.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
