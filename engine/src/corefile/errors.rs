//! `errors`: log queries that end in an error.

use super::report::Refusal;
use super::statement::{Setting, SettingOutcome, Statement};
use super::word::quoted;
use super::{Context, ServerBlock};

/// The block logs its errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Log where a panic came from.
    pub stacktrace: bool,
}

pub(super) const USAGE: &str = "errors [stdout] { stacktrace }";

pub(super) const SETTINGS: &[Setting<Errors>] = &[
    Setting { name: "stacktrace", usage: "stacktrace", outcome: SettingOutcome::Adds(stacktrace) },
    Setting {
        name: "consolidate",
        usage: "consolidate DURATION REGEXP [LEVEL] [show_first]",
        outcome: SettingOutcome::NotBuilt("delete the line: each error gives a log line"),
    },
];

pub(super) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    match statement.args.as_slice() {
        [] => {}
        [word] if word.text == "stdout" => {}
        [word] => {
            let message = format!("invalid log file: {}", quoted(&word.text));
            context.refuse(
                word.span,
                Refusal::new(message, "not `stdout`").help("errors go to the standard output"),
            );
        }
        [_, _, ..] => statement.wrong_count(1, USAGE, context),
    }
    let mut errors = Errors::default();
    statement.read_settings(SETTINGS, &mut errors, context);
    block.errors = Some(errors);
}

fn stacktrace(line: &Statement, errors: &mut Errors, context: &mut Context<'_>) {
    if line.exactly::<0>("stacktrace", context).is_some() {
        errors.stacktrace = true;
    }
}
