//! Two `hosts` of one block as one, if an import brought one of them.
//!
//! Invariant: no entry, zone or option is lost, except the second file and options that both set.

use super::SETTINGS;
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Mistake;
use crate::corefile::statement::{Body, Statement};
use crate::corefile::word::quoted;

/// `own` is the source of the server block, whose options an import overrides.
pub(crate) fn merged(
    first: &Statement,
    second: &Statement,
    own: usize,
    context: &mut Context<'_>,
) -> Statement {
    warn(first, second, context);
    let mut lines: Vec<Statement> = Vec::new();
    let is_option = |line: &Statement| SETTINGS.iter().any(|row| row.name == line.name.text);
    lines.extend(
        [first, second].into_iter().flat_map(body_lines).filter(|one| !is_option(one)).cloned(),
    );
    // The last one counts.
    let is_own = |hosts: &&Statement| hosts.name.span.source == own;
    let mut both = [first, second];
    both.sort_by_key(|hosts| !is_own(hosts));
    let options = both.into_iter().flat_map(body_lines).filter(|one| is_option(one));
    let (fallthrough, options): (Vec<_>, Vec<_>) =
        options.partition(|option| option.name.text == "fallthrough");
    lines.extend(options.into_iter().cloned());
    lines.extend(all_of(&fallthrough));
    let open = first.body.as_ref().or(second.body.as_ref()).map(|body| body.open);
    Statement {
        name: first.name.clone(),
        args: arguments(first, second),
        body: open.map(|open| Body { open, lines }),
        closed_by: None,
    }
}

fn body_lines(hosts: &Statement) -> impl Iterator<Item = &Statement> {
    hosts.body.iter().flat_map(|body| &body.lines)
}

/// The first file, and the zones of both. Without zones, one has all of the block's.
fn arguments(first: &Statement, second: &Statement) -> Vec<Token> {
    let file = first.args.first().or_else(|| second.args.first());
    let zones = [first, second].map(|hosts| hosts.args.get(1..).unwrap_or_default());
    let zones = if zones.iter().any(|zones| zones.is_empty()) { [&[][..], &[]] } else { zones };
    file.into_iter().chain(zones.into_iter().flatten()).cloned().collect()
}

/// One `fallthrough` for all zones that one of these names.
fn all_of(fallthrough: &[&Statement]) -> Option<Statement> {
    let everywhere = fallthrough.iter().find(|line| line.args.is_empty());
    let mut all = (*everywhere.or_else(|| fallthrough.first())?).clone();
    if everywhere.is_none() {
        all.args = fallthrough.iter().flat_map(|line| line.args.iter().cloned()).collect();
    }
    Some(all)
}

fn warn(first: &Statement, second: &Statement, context: &mut Context<'_>) {
    let place = context.place(first.name.span);
    let message =
        format!("'hosts' is merged with the one at {}:{}", quoted(&place.file), place.line);
    let mistake = Mistake::warning(second.name.span, message)
        .label("its entries and zones are added")
        .also(first.name.span, "to this one")
        .help("write all entries in one `hosts`: CoreDNS refuses a second one in a server block");
    context.mistakes.push(mistake.of_plugin(Some("hosts")));
    if let (Some(used), Some(file)) = (first.args.first(), second.args.first())
        && used.text != file.text
    {
        let message = format!("the hosts file '{}' is not read", quoted(&file.text));
        let mistake = Mistake::warning(file.span, message)
            .label("ignored")
            .also(used.span, "the first file is used")
            .help("a `hosts` has one file: write the entries between the braces");
        context.mistakes.push(mistake.of_plugin(Some("hosts")));
    }
}
