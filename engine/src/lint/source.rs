//! The lines of a block that answer queries, as lints see them: which zones, and what they pass on.
//!
//! Invariant: a line whose zones are not certain is not listed.

use wire::name::Name;
use wire::zone::ZoneSet;

use super::{LintBlock, options};
use crate::corefile::lexer::Token;
use crate::corefile::report::Mistake;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::plugin::DIRECTIVES;

/// A line that has zones.
pub(super) struct ZoneLine<'a> {
    pub(super) statement: &'a Statement,
    /// At least one; those of the block if the line names none.
    pub(super) zones: ZoneList,
    /// Where the line names them; empty if it names none.
    pub(super) words: &'a [Token],
}

/// Which arguments of a directive are zones.
type ZoneWords = fn(&[Token]) -> &[Token];

/// Directives that answer queries by names of their zones.
const SOURCES: &[(&str, ZoneWords)] = &[
    ("template", |args| args.get(2..).unwrap_or_default()),
    ("hosts", |args| args.get(1..).unwrap_or_default()),
    ("k8s_external", |args| args),
    ("kubernetes", |args| args),
    ("file", |args| args.get(1..).unwrap_or_default()),
    ("auto", |args| args),
    ("secondary", |args| args),
    ("etcd", |args| args),
    ("forward", |args| args.get(..1).unwrap_or_default()),
    ("grpc", |args| args.get(..1).unwrap_or_default()),
];

/// Directives that do something else with names of their zones.
const OTHERS: &[(&str, ZoneWords)] = &[
    ("cache", |args| match args {
        [ttl, zones @ ..] if ttl.text.parse::<i64>().is_ok() => zones,
        zones => zones,
    }),
    ("autopath", |args| args.split_last().map_or(&[], |(_, zones)| zones)),
    ("acl", |args| args),
    ("no_aaaa", |args| args),
];

/// The sources of a block in the order in which they are asked.
pub(super) fn sources<'a>(block: &'a LintBlock<'_>) -> Vec<ZoneLine<'a>> {
    let mut lines = zone_lines(block, SOURCES);
    lines.sort_by_key(|line| DIRECTIVES.iter().position(|row| row.name == line.name()));
    lines
}

/// Every line that takes zones.
pub(super) fn all<'a>(block: &'a LintBlock<'_>) -> Vec<ZoneLine<'a>> {
    let mut lines = zone_lines(block, SOURCES);
    lines.extend(zone_lines(block, OTHERS));
    lines
}

fn zone_lines<'a>(
    block: &'a LintBlock<'_>,
    table: &'static [(&'static str, ZoneWords)],
) -> Vec<ZoneLine<'a>> {
    let keys = ZoneList::of_keys(block);
    let lines = block.parsed.statements.iter().filter_map(|statement| {
        let (_, words_of) = table.iter().find(|(name, _)| *name == statement.name.text)?;
        let words = words_of(&statement.args);
        let zones = match words {
            [] => keys.clone(),
            words => ZoneList::new(zones(words)?),
        };
        (!zones.zones.is_empty()).then_some(ZoneLine { statement, zones, words })
    });
    lines.collect()
}

/// `None` if a word may be something else than a zone.
fn zones(words: &[Token]) -> Option<Vec<Zone>> {
    let zones = words.iter().map(|word| key::certain_zones(&word.text));
    zones.collect::<Option<Vec<_>>>().map(|zones| zones.concat())
}

impl ZoneLine<'_> {
    pub(super) fn name(&self) -> &str {
        &self.statement.name.text
    }

    /// The warning that it keeps queries from another source, for want of `fallthrough`.
    pub(super) fn keeps_from(&self, next: &Self, message: impl Into<String>) -> Mistake {
        Mistake::warning(self.statement.name.span, message)
            .label("no `fallthrough`")
            .also(next.statement.name.span, "never asked for them")
            .help(format!(
                "write `fallthrough` between its braces: then `{}` is asked for them",
                next.name()
            ))
    }

    /// The zones of which it passes on what it does not have; `None` without `fallthrough`.
    pub(super) fn fallthrough(&self) -> Option<ZoneList> {
        // As everywhere, the last one counts.
        let line = options(self.statement, "fallthrough").last()?;
        match line.args.as_slice() {
            [] => Some(ZoneList::new(vec![Zone::root()])),
            words => {
                // A word that is not a zone is ignored.
                let zones = words.iter().filter_map(|word| key::certain_zones(&word.text));
                Some(ZoneList::new(zones.flatten().collect()))
            }
        }
    }
}

/// Zones, which may be thousands.
#[derive(Clone)]
pub(super) struct ZoneList {
    pub(super) zones: Vec<Zone>,
    set: ZoneSet,
}

impl ZoneList {
    pub(super) fn new(zones: Vec<Zone>) -> Self {
        Self { set: Zone::set(&zones), zones }
    }

    pub(super) fn of_keys(block: &LintBlock<'_>) -> Self {
        Self::new(block.server.keys.iter().map(|key| key.zone.clone()).collect())
    }

    /// Whether the zone is one of these, or in one.
    fn encloses(&self, zone: &Zone) -> bool {
        Name::from_wire(&zone.wire).is_some_and(|name| self.set.find(&name).is_some())
    }

    /// Whether each zone of `others` is in one of these.
    pub(super) fn covers(&self, others: &Self) -> bool {
        others.zones.iter().all(|zone| self.encloses(zone))
    }

    /// Whether a name can be in a zone of both.
    pub(super) fn meets(&self, others: &Self) -> bool {
        self.zones.iter().any(|zone| others.encloses(zone))
            || others.zones.iter().any(|zone| self.encloses(zone))
    }
}
