//! `loadbalance`: the order of addresses in an answer. The rotation itself is in `crate::answer`.

use std::future::ready;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::report::Mistake;
use crate::corefile::statement::{Setting, Statement, not_built};
use crate::corefile::word::{nearest, quoted};

/// `loadbalance`: rotates the addresses in answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalance;

impl Plugin for LoadBalance {
    fn name(&self) -> &'static str {
        "loadbalance"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.rotates = true;
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "loadbalance [round_robin]";

pub(crate) const SETTINGS: &[Setting<()>] = &[
    not_built("prefer", "prefer CIDR…", "delete the line: addresses are rotated evenly"),
    not_built("reload", "reload DURATION", "delete the line: there is no file of weights"),
];

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    block.line_or(LoadBalance);
    match statement.args.as_slice() {
        [] => {}
        [policy, surplus @ ..] => match policy.text.as_str() {
            "round_robin" if surplus.is_empty() => {}
            "round_robin" => statement.wrong_count(1, USAGE, context),
            "weighted" => {
                let message = "'weighted' is known but not built yet";
                let mistake = Mistake::error(policy.span, message)
                    .label("not in this version of ringdns")
                    .help("write `loadbalance` alone: addresses are rotated evenly");
                context.report(mistake);
            }
            other => {
                let message = format!("unknown policy: {}", quoted(other));
                let mistake = Mistake::error(policy.span, message).label("no policy has this name");
                let help = match nearest(other, ["round_robin", "weighted"]) {
                    Some("round_robin") => "did you mean `round_robin`?",
                    Some(_) => "did you mean `weighted`? It is known but not built yet",
                    None => "the policy is round_robin",
                };
                context.report(mistake.help(help));
            }
        },
    }
    statement.read_settings(SETTINGS, &mut (), context);
}
