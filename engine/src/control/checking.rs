//! The command `ringdns check PATH`: writes what is wrong with a Corefile to standard output.
//!
//! Invariant: with `--json`, standard output is one JSON array, whatever is wrong.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use engine::check::{self, Checked};
use engine::cli::CheckOptions;
use engine::corefile::{self, Severity, Surroundings};

use super::output;

/// Exit code: there are warnings, and `--strict` is set.
const WARNINGS: u8 = 2;

/// The exit codes are in `ringdns check --help`.
pub(crate) fn run(options: &CheckOptions, default_port: u16) -> ExitCode {
    let surroundings = Surroundings::of_process(default_port);
    let checked = if options.path == Path::new("-") {
        match corefile::read_standard_input() {
            Ok(text) => check::text("stdin", None, &text, &surroundings),
            Err(error) => {
                output::complain(&format!("read standard input: {error}\n"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        check::path(&options.path, &surroundings)
    };
    let text = if options.json { checked.json() } else { shown(&checked, &options.path) };
    // A report that nobody could read must not pass as a success.
    if output::print(&text) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    match (checked.count(Severity::Error), checked.count(Severity::Warning)) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) if options.strict => ExitCode::from(WARNINGS),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// All reports, in colours if standard output is a terminal, and their sum on the last line.
fn shown(checked: &Checked, path: &Path) -> String {
    let is_terminal = std::io::stdout().is_terminal();
    let mut text = String::new();
    for one in &checked.texts {
        let report = one.report();
        text += &if is_terminal { report.coloured() } else { report.to_string() };
    }
    let counted = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mistakes = counted(checked.count(Severity::Error), "mistake");
    let warnings = counted(checked.count(Severity::Warning), "warning");
    let _ = writeln!(text, "{}: {mistakes}, {warnings}", path.display());
    text
}
