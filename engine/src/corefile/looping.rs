//! `loop`: whether forwarded questions come back.

use super::report::{Mistake, Refusal};
use super::statement::Statement;
use super::word::{nearest, quoted};
use super::{Context, ServerBlock};

/// At start the block asks itself a question that nobody else asks, and looks whether it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// `loop fatal` (ours, and what CoreDNS does): end the process; else the upstream that brings
    /// questions back is taken out.
    pub fatal: bool,
}

pub(super) const USAGE: &str = "loop [fatal]";

pub(super) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    if let Some(body) = &statement.body {
        let mistake = Mistake::error(body.open, "'loop' takes no block").label("opened here");
        context.report(mistake.help(format!("usage: `{USAGE}`")));
    }
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
    block.loop_probe = Some(Loop { fatal });
}
