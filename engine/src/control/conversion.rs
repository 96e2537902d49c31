//! The command `ringdns convert FILE`: writes the Corefile to standard output and notes about the
//! changes to standard error.
//!
//! Invariant: if the conversion fails, nothing is written to standard output.

use std::path::Path;
use std::process::ExitCode;

use engine::config;
use engine::convert::{self, Note};
use engine::corefile::{self, Surroundings};

use super::output::{self, complain};
use super::start;

/// Exit code: ringdns does not accept the converted Corefile.
const NOT_ACCEPTED: u8 = 3;

/// The exit codes are in `ringdns convert --help`.
pub(crate) fn run(file: &Path, default_port: u16) -> ExitCode {
    let is_standard_input = file == Path::new("-");
    let file = if is_standard_input { Path::new("standard input") } else { file };
    let text =
        if is_standard_input { corefile::read_standard_input() } else { corefile::read_file(file) };
    let converted = text
        .map_err(|error| Note { line: None, text: error.to_string() })
        .and_then(|text| convert::convert(&text));
    let converted = match converted {
        Ok(converted) => converted,
        Err(failure) => {
            show(file, &failure);
            return ExitCode::FAILURE;
        }
    };
    for note in &converted.notes {
        show(file, note);
    }
    if let Err(error) = output::write(&converted.corefile) {
        show(file, &Note { line: None, text: format!("write the Corefile: {error}") });
        return ExitCode::FAILURE;
    }
    // The name keeps the directory, so that imports are found.
    let name = format!("{} as converted", file.display());
    let mut is_accepted = true;
    if converted.excerpts.is_empty() {
        is_accepted &= accept(&name, &converted.corefile, default_port);
    }
    for excerpt in &converted.excerpts {
        let name = format!("{name}, {}", excerpt.name);
        is_accepted &= accept(&name, &excerpt.corefile, default_port);
    }
    if is_accepted { ExitCode::SUCCESS } else { ExitCode::from(NOT_ACCEPTED) }
}

/// Whether ringdns accepts a Corefile. Prints its warnings or errors.
fn accept(name: &str, corefile: &str, default_port: u16) -> bool {
    match config::parse(name, corefile, &Surroundings::of_process(default_port)) {
        Ok(config) => {
            complain(&start::shown(&config.warnings));
            true
        }
        Err(report) => {
            complain("Fix this by hand before ringdns can load it:\n");
            complain(&start::shown(&report));
            false
        }
    }
}

fn show(file: &Path, note: &Note) {
    let file = file.display();
    match note.line {
        Some(line) => complain(&format!("{file}:{line}: {}\n", note.text)),
        None => complain(&format!("{file}: {}\n", note.text)),
    }
}
