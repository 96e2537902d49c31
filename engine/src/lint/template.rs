//! `template` lines that answer more than their authors want.
//!
//! They are read as words: these lints need no more of the plugin.

use std::collections::BTreeSet;

use super::source::{self, ZoneLine};
use super::{LintBlock, options, warn, words};
use crate::corefile::Context;
use crate::corefile::report::Mistake;
use crate::corefile::statement::Statement;
use crate::plugin::DIRECTIVES;
use crate::plugin::go_regex::GoRegex;

/// A `template` with `match` and without `fallthrough` answers SERVFAIL for every other name of its
/// zones, so no source after it is asked.
pub(super) fn unmatched(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        let sources = source::sources(block);
        for (index, line) in sources.iter().enumerate() {
            if line.name() != "template" || line.fallthrough().is_some() || matches_most(line) {
                continue;
            }
            let Some(next) = sources[index + 1..]
                .iter()
                .find(|next| next.zones.meets(&line.zones) && may_share_type(line, next))
            else {
                continue;
            };
            let message = "names that this 'template' does not match get SERVFAIL";
            warn(line.statement, line.keeps_from(next, message), context);
        }
    }
}

/// Whether `next` could have answered a query that `line` takes.
fn may_share_type(line: &ZoneLine<'_>, next: &ZoneLine<'_>) -> bool {
    let [Some(one), Some(other)] = [line, next].map(|line| line.statement.args.get(1)) else {
        return true;
    };
    next.name() != "template"
        || one.text.eq_ignore_ascii_case(&other.text)
        || [one, other].iter().any(|word| word.text.eq_ignore_ascii_case("ANY"))
}

/// Whether the `match` lines match names of any kind in each zone. Without a `match`, everything
/// matches. A pattern that cannot be read is the plugin's mistake.
fn matches_most(line: &ZoneLine<'_>) -> bool {
    let patterns: Vec<&str> =
        options(line.statement, "match").flat_map(|option| words(&option.args)).collect();
    let Ok(patterns) =
        patterns.iter().map(|pattern| GoRegex::new(pattern)).collect::<Result<Vec<_>, _>>()
    else {
        return true;
    };
    let is_matched =
        |name: &str| patterns.iter().any(|pattern| pattern.regex().is_match(name.as_bytes()));
    patterns.is_empty()
        || line.zones.zones.iter().all(|zone| {
            let below = if zone.text == "." { "" } else { &zone.text };
            ["x", "1-2-3-4", "a.b", "www.example"]
                .iter()
                .any(|name| is_matched(&format!("{name}.{below}")))
        })
}

/// NXDOMAIN for AAAA says that the name has no IPv4 address either (RFC 8020), and clients that ask
/// for both believe it.
pub(super) fn no_aaaa(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        for line in block.lines("template") {
            let Some([class, kind]) = line.args.get(..2) else { continue };
            let is_of_class = ["IN", "ANY"].iter().any(|one| class.text.eq_ignore_ascii_case(one));
            if !is_of_class || !kind.text.eq_ignore_ascii_case("AAAA") {
                continue;
            }
            let Some(rcode) = denial(line) else { continue };
            // The names do not exist at all.
            let is_blocked = block.lines("template").any(|other| {
                let kinds = ["A", "ANY"];
                let is_other_type =
                    |kind: &str| kinds.iter().any(|one| kind.eq_ignore_ascii_case(one));
                other.args.get(1).is_some_and(|kind| is_other_type(&kind.text))
                    && denial(other).is_some()
                    && names(other) == names(line)
            });
            if is_blocked {
                continue;
            }
            let message = "this 'template' says that names with IPv4 addresses do not exist";
            let has_no_aaaa = DIRECTIVES.iter().any(|row| row.name == "no_aaaa" && row.is_built());
            let mistake = Mistake::warning(
                rcode.name.span.to(rcode.args.last().unwrap_or(&rcode.name).span, context.sources),
                message,
            )
            .label("NXDOMAIN is about the name, not about AAAA")
            .help(match has_no_aaaa {
                true => {
                    "write `no_aaaa` instead of this `template`: no IPv6 addresses, and every \
                             other type as it is"
                }
                false => "write `rcode NOERROR`: the name exists, without an IPv6 address",
            });
            warn(line, mistake, context);
        }
    }
}

/// The line `rcode NXDOMAIN`, if it counts.
fn denial(template: &Statement) -> Option<&Statement> {
    let rcode = options(template, "rcode").last()?;
    rcode
        .args
        .first()
        .is_some_and(|code| code.text.eq_ignore_ascii_case("NXDOMAIN"))
        .then_some(rcode)
}

/// The zones and patterns of a template.
fn names(template: &Statement) -> BTreeSet<&str> {
    let patterns = options(template, "match").flat_map(|line| words(&line.args));
    words(template.args.get(2..).unwrap_or_default()).chain(patterns).collect()
}
