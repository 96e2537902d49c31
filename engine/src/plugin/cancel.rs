//! `cancel`: a time limit for each query. Only upstreams take time, so it limits how long
//! `forward` tries.

use std::future::ready;
use std::time::Duration;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::Refusal;
use crate::corefile::statement::Statement;
use crate::corefile::value::duration;
use crate::corefile::word::quoted;

/// `cancel [TIMEOUT]`; the last line of a block counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// More than zero [5001 ms].
    pub timeout: Duration,
}

impl Plugin for Cancel {
    fn name(&self) -> &'static str {
        "cancel"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    /// `forward` looks for it when it is loaded.
    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "cancel [TIMEOUT]";

const TIMEOUT_DEFAULT: Duration = Duration::from_millis(5001);

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let timeout = match statement.args.as_slice() {
        [] => TIMEOUT_DEFAULT,
        [word] => match duration::read(&word.text) {
            Ok(Duration::ZERO) => {
                let message = format!("invalid negative duration: \"{}\"", quoted(&word.text));
                let refusal = Refusal::new(message, "not more than zero");
                return context.refuse(word.span, refusal.help("a duration such as `2s`"));
            }
            Ok(timeout) => timeout,
            Err(refusal) => {
                let text = quoted(&word.text);
                let message = match refusal.message.starts_with("negative") {
                    true => format!("invalid negative duration: \"{text}\""),
                    false => format!("invalid duration: \"{text}\""),
                };
                return context.refuse(word.span, Refusal { message, ..refusal });
            }
        },
        [_, _, ..] => return statement.wrong_count(1, USAGE, context),
    };
    block.line_or(Cancel { timeout }).timeout = timeout;
}
