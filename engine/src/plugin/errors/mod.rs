//! `errors`: log queries that end in an error.

pub mod consolidator;

use std::future::ready;
use std::time::Duration;

use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::value::duration;
use crate::corefile::word::{nearest, quoted};
use crate::plugin::draft::{BlockDraft, LoadContext, Loading};
use crate::plugin::go_regex::GoRegex;
use crate::plugin::{Plugin, ServerBlock};

/// Whether and how the block logs its errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// Log the origin of a panic.
    pub stacktrace: bool,
    /// The first one whose pattern matches counts an error.
    pub consolidate: Vec<Consolidate>,
}

/// `consolidate DURATION REGEXP [LEVEL] [show_first]`: errors that are counted instead of logged
/// one by one.
#[derive(Clone, Debug, PartialEq)]
pub struct Consolidate {
    /// The count is logged this long after the first error.
    pub every: Duration,
    /// Searched in the error's message, without the query's name and type.
    pub pattern: GoRegex,
    /// [error]
    pub level: Level,
    /// The first error is logged at once.
    pub show_first: bool,
}

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Plugin for Errors {
    fn name(&self) -> &'static str {
        "errors"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.is_logged = true;
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "errors [stdout] { … }";

pub(crate) const SETTINGS: &[Setting<Errors>] =
    &[adds("stacktrace", "stacktrace", stacktrace), adds("consolidate", CONSOLIDATE, consolidate)];

const CONSOLIDATE: &str = "consolidate DURATION REGEXP [LEVEL] [show_first]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
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
    block.push(errors);
}

fn stacktrace(line: &Statement, errors: &mut Errors, context: &mut Context<'_>) {
    if line.exactly::<0>("stacktrace", context).is_some() {
        errors.stacktrace = true;
    }
}

fn consolidate(line: &Statement, errors: &mut Errors, context: &mut Context<'_>) {
    let [every_word, pattern_word, options @ ..] = line.args.as_slice() else {
        return line.wrong_count(2, CONSOLIDATE, context);
    };
    if options.len() > 2 {
        return line.wrong_count(4, CONSOLIDATE, context);
    }
    let every = match duration::read(&every_word.text) {
        Ok(every) => every,
        Err(refusal) => return context.refuse(every_word.span, refusal),
    };
    let pattern = match GoRegex::new(&pattern_word.text) {
        Ok(pattern) => pattern,
        Err(fault) => return context.refuse(pattern_word.span, fault.refusal()),
    };
    let Some((level, show_first)) = level_and_show_first(options, context) else { return };
    errors.consolidate.push(Consolidate { every, pattern, level, show_first });
}

/// The level is optional; it stands before `show_first`.
fn level_and_show_first(options: &[Token], context: &mut Context<'_>) -> Option<(Level, bool)> {
    let (mut level, mut show_first) = (None, false);
    for option in options {
        let named = match option.text.as_str() {
            "show_first" => {
                show_first = true;
                continue;
            }
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warning" => Level::Warning,
            "error" => Level::Error,
            other => {
                let message = format!("unknown option in consolidate: {}", quoted(other));
                let known = ["debug", "info", "warning", "error", "show_first"];
                let help = nearest(other, known).map(|meant| format!("did you mean `{meant}`?"));
                let refusal = Refusal::new(message, "neither a level nor `show_first`");
                context.refuse(option.span, Refusal { help, ..refusal });
                return None;
            }
        };
        let message = match (level, show_first) {
            (None, false) => {
                level = Some(named);
                continue;
            }
            (Some(_), _) => "multiple log levels specified in consolidate",
            (None, true) => "log level must come before show_first in consolidate",
        };
        context.refuse(option.span, Refusal::new(message, "not here"));
        return None;
    }
    Some((level.unwrap_or(Level::Error), show_first))
}
