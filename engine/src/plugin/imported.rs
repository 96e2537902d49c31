//! Directives that a server block and a file that it imports both have. CoreDNS refuses a second
//! one, so a custom ConfigMap can replace nothing of the Corefile that a cluster ships.
//!
//! Here the imported one replaces the block's own, and two `hosts` are merged. Two in one file are
//! left alone: they are CoreDNS's mistake.
//!
//! Invariant: whatever is replaced or merged has a warning that names both places.

use super::DIRECTIVES;
use super::hosts::merge;
use crate::corefile::Context;
use crate::corefile::parser::ParsedBlock;
use crate::corefile::report::Mistake;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::corefile::word::quoted;
use crate::limits::COREFILE_DUPLICATES_MAX;

/// The blocks with the lines that are used.
pub(crate) fn resolve(blocks: Vec<ParsedBlock>, context: &mut Context<'_>) -> Vec<ParsedBlock> {
    blocks.into_iter().map(|block| resolve_block(block, context)).collect()
}

fn resolve_block(mut block: ParsedBlock, context: &mut Context<'_>) -> ParsedBlock {
    let Some(own) = block.keys.first().map(|key| key.span.source) else { return block };
    if block.statements.iter().all(|line| line.name.span.source == own) {
        return block;
    }
    // Of each directive that may not occur twice, the lines that are used so far, by index.
    let mut used: Vec<Statement> = Vec::with_capacity(block.statements.len());
    let mut singles: Vec<usize> = Vec::new();
    for line in block.statements {
        if !is_single(&line) || singles.len() == COREFILE_DUPLICATES_MAX {
            used.push(line);
            continue;
        }
        let same = singles.iter().copied().find(|at| {
            used[*at].name.span.source != line.name.span.source && is_same(&used[*at], &line)
        });
        let Some(at) = same else {
            singles.push(used.len());
            used.push(line);
            continue;
        };
        if line.name.text == "hosts" {
            used[at] = merge::merged(&used[at], &line, own, context);
        } else if line.name.span.source == own {
            warn(&used[at], &line, context);
        } else {
            warn(&line, &used[at], context);
            used[at] = line;
        }
    }
    block.statements = used;
    block
}

/// Whether a block may have only one: of its name, or for its zones.
fn is_single(line: &Statement) -> bool {
    let name = &line.name.text;
    name == "forward" || DIRECTIVES.iter().any(|row| row.name == name && row.is_once())
}

fn is_same(one: &Statement, other: &Statement) -> bool {
    one.name.text == other.name.text && (one.name.text != "forward" || from(one) == from(other))
}

/// The zones of a `forward`, sorted.
fn from(forward: &Statement) -> Option<Vec<Zone>> {
    let mut zones = key::certain_zones(&forward.args.first()?.text)?;
    zones.sort_by(|one, other| one.wire.cmp(&other.wire));
    Some(zones)
}

fn warn(used: &Statement, replaced: &Statement, context: &mut Context<'_>) {
    let name = &used.name.text;
    let place = context.place(replaced.name.span);
    let message =
        format!("this '{name}' replaces the one at {}:{}", quoted(&place.file), place.line);
    let mistake = Mistake::warning(used.name.span, message)
        .label("used, because it is imported")
        .also(replaced.name.span, "not used")
        .help(match name.as_str() {
            "forward" => "delete one of the two: CoreDNS uses the first one and ignores the other",
            _ => "delete one of the two: CoreDNS refuses a second one in a server block",
        });
    let row = DIRECTIVES.iter().find(|row| row.name == name);
    context.mistakes.push(mistake.of_plugin(row.map(|row| row.name)));
}
