//! `loadbalance`: the order of addresses in an answer.

use super::report::Mistake;
use super::statement::{Setting, SettingOutcome, Statement};
use super::word::{nearest, quoted};
use super::{Context, ServerBlock};

pub(super) const USAGE: &str = "loadbalance [round_robin]";

pub(super) const SETTINGS: &[Setting<()>] = &[
    Setting {
        name: "prefer",
        usage: "prefer CIDR…",
        outcome: SettingOutcome::NotBuilt("delete the line: addresses are rotated evenly"),
    },
    Setting {
        name: "reload",
        usage: "reload DURATION",
        outcome: SettingOutcome::NotBuilt("delete the line: there is no file of weights"),
    },
];

pub(super) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    block.loadbalance = true;
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
