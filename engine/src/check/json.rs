//! The findings of `ringdns check --json`.
//!
//! Invariant: the names and the meaning of the fields never change; new ones may come after them.

use serde::Serialize;

use crate::corefile::{Finding, Severity};

/// One mistake or warning.
#[derive(Serialize)]
struct FindingShape<'a> {
    /// `null` if no file is to blame, as `line` and `column`.
    file: Option<&'a str>,
    /// From 1.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
    severity: &'static str,
    plugin: Option<&'static str>,
    message: &'a str,
    help: Option<&'a str>,
}

impl<'a> FindingShape<'a> {
    fn new(finding: &Finding<'a>) -> Self {
        let has_place = finding.line > 0;
        Self {
            file: has_place.then_some(finding.file),
            line: has_place.then_some(finding.line),
            column: has_place.then_some(finding.column),
            severity: match finding.severity {
                Severity::Error => "mistake",
                Severity::Warning => "warning",
            },
            plugin: finding.plugin,
            message: finding.problem,
            help: finding.help,
        }
    }
}

/// An array with one finding per line.
pub(super) fn array<'a>(findings: impl Iterator<Item = Finding<'a>>) -> String {
    let lines: Vec<String> = findings
        .filter_map(|finding| serde_json::to_string(&FindingShape::new(&finding)).ok())
        .map(|line| format!("\n  {line}"))
        .collect();
    match lines.is_empty() {
        true => "[]\n".to_owned(),
        false => format!("[{}\n]\n", lines.join(",")),
    }
}
