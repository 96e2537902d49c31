//! Lines that no query reaches, and lines that keep queries from those after them.
//!
//! `forward` warns of its own lines in `plugin/forward`, because a `forward` before it may pass
//! names on.

use super::source::{self, ZoneLine, ZoneList};
use super::{LintBlock, warn};
use crate::corefile::Context;
use crate::corefile::report::Mistake;

/// `hosts`, `kubernetes` or `file` has every name of the block, and passes on none that it lacks.
pub(super) fn unlisted(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        let (sources, keys) = (source::sources(block), ZoneList::of_keys(block));
        for (index, line) in sources.iter().enumerate() {
            let Some(outcome) = outcome(line) else { continue };
            let Some(next) = sources[index + 1..].iter().find(|next| next.name() != line.name())
            else {
                continue;
            };
            if passes_on(line, &sources) || !line.zones.covers(&keys) {
                continue;
            }
            let message = format!("names that this '{}' does not have get {outcome}", line.name());
            warn(line.statement, line.keeps_from(next, message), context);
            break;
        }
    }
}

/// Whether it has `fallthrough`. In CoreDNS, that of one `file` line is for all of its block.
fn passes_on(line: &ZoneLine<'_>, sources: &[ZoneLine<'_>]) -> bool {
    let is_shared = |other: &&ZoneLine<'_>| line.name() == "file" && other.name() == "file";
    let mut shared = sources.iter().filter(is_shared);
    line.fallthrough().is_some() || shared.any(|other| other.fallthrough().is_some())
}

/// The response for a name that the source does not have and does not pass on.
fn outcome(line: &ZoneLine<'_>) -> Option<&'static str> {
    match line.name() {
        "hosts" => Some("SERVFAIL"),
        "kubernetes" | "file" | "secondary" => Some("NXDOMAIN"),
        _ => None,
    }
}

/// The block is never asked for a name in the zones of this line.
pub(super) fn outside(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        let keys = ZoneList::of_keys(block);
        for line in source::all(block) {
            let (Some(first), Some(last)) = (line.words.first(), line.words.last()) else {
                continue;
            };
            // `forward` and the names of a hosts file: see the plugins.
            if keys.zones.is_empty() || line.name() == "forward" || line.zones.meets(&keys) {
                continue;
            }
            let message = match line.name() {
                // It has the reverse names of its addresses, whatever its zones are.
                "hosts" => "only PTR queries reach this 'hosts'".to_owned(),
                name => format!("no query reaches this '{name}'"),
            };
            let label = match line.words.len() {
                1 => "not a zone of this server block",
                _ => "none is a zone of this server block",
            };
            let span = first.span.to(last.span, context.sources);
            let mistake = Mistake::warning(span, message).label(label).help(
                "other blocks answer for names outside this block's zones: move the line there, or \
                 correct the zone",
            );
            warn(line.statement, mistake, context);
        }
    }
}
