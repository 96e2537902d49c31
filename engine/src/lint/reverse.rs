//! Reverse zones that are wider than the cluster.

use super::source::{self, ZoneList};
use super::{LintBlock, warn};
use crate::corefile::Context;
use crate::corefile::report::Mistake;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;

/// `kubernetes` has all of `in-addr.arpa` or `ip6.arpa`, and passes no address on.
pub(super) fn whole_tree(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        let (sources, keys) = (source::sources(block), ZoneList::of_keys(block));
        for (index, line) in sources.iter().enumerate() {
            if line.name() != "kubernetes" {
                continue;
            }
            let passed = line.fallthrough();
            if passed.is_none() && line.zones.covers(&keys) {
                continue; // the lint `unlisted`
            }
            let is_kept = |zone: Zone| {
                let zone = ZoneList::new(vec![zone]);
                let has_next = sources[index + 1..]
                    .iter()
                    .any(|next| next.name() == "forward" && next.zones.meets(&zone));
                let is_passed = passed.as_ref().is_some_and(|passed| passed.meets(&zone));
                has_next && keys.meets(&zone) && !is_passed
            };
            let trees = line.words.iter().filter(|word| {
                let zones = key::certain_zones(&word.text).unwrap_or_default();
                zones.into_iter().any(|zone| is_whole_tree(&zone) && is_kept(zone))
            });
            let trees: Vec<_> = trees.collect();
            let Some(first) = trees.first() else { continue };
            let message = "addresses outside the cluster get NXDOMAIN instead of their names";
            let names: Vec<_> = trees.iter().map(|tree| tree.text.as_str()).collect();
            let mistake = Mistake::warning(first.span, message)
                .label("every address is in this zone")
                .help(format!(
                    "write `fallthrough {}` between the braces of `kubernetes`: then `forward` is \
                     asked for other addresses",
                    names.join(" ")
                ));
            warn(line.statement, mistake, context);
        }
    }
}

fn is_whole_tree(zone: &Zone) -> bool {
    ["in-addr.arpa.", "ip6.arpa."].contains(&zone.text.as_str())
}
