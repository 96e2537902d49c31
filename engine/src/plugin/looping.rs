//! `loop`: detects forwarded queries that come back. `crate::forward` sends the probe.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::Refusal;
use crate::corefile::statement::Statement;
use crate::corefile::word::{nearest, quoted};

/// At start-up the block sends itself a query that no client sends, and checks whether it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// `loop fatal` (a ringdns option; CoreDNS's behaviour): end the process. Otherwise the
    /// upstream that sends queries back is removed.
    pub fatal: bool,
}

impl Plugin for Loop {
    fn name(&self) -> &'static str {
        "loop"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.ends_at_loop = self.fatal;
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "loop [fatal]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let fatal = match statement.args.as_slice() {
        [] => false,
        [word] if word.text == "fatal" => true,
        [word] => {
            let message = format!("unknown argument '{}'", quoted(&word.text));
            let help = nearest(&word.text, ["fatal"]).map(|_| "did you mean `fatal`?".to_owned());
            let refusal = Refusal::new(message, "no such argument");
            return context.refuse(word.span, Refusal { help, ..refusal });
        }
        [_, _, ..] => return statement.wrong_count(1, USAGE, context),
    };
    block.push(Loop { fatal });
}
