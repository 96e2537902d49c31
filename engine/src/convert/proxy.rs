//! Converts `proxy`, which `forward` replaced in CoreDNS 1.5: its options, and the order of
//! several.
//!
//! Invariant: an option that has no equivalent is deleted or left, with a note, never changed
//! silently.

use std::ops::Range;

use super::Conversion;
use super::edits::lines_of;
use crate::corefile::outline::{OutlineBody, OutlineStatement, Section, Word};
use crate::corefile::value::zone::{self, Zone};

/// What happens to an option.
enum OptionChange {
    Kept,
    Becomes {
        text: &'static str,
        why: &'static str,
    },
    /// No longer needed, with the reason.
    Deleted(&'static str),
    /// To be changed by hand, with the reason.
    Left(&'static str),
}

struct OptionRule {
    name: &'static str,
    change: fn(&[&str]) -> OptionChange,
}

const OPTIONS: &[OptionRule] = &[
    OptionRule { name: "policy", change: policy },
    OptionRule {
        name: "fail_timeout",
        change: |_| {
            OptionChange::Deleted("a failed upstream is now checked until it responds again")
        },
    },
    OptionRule { name: "max_fails", change: |_| OptionChange::Kept },
    OptionRule {
        name: "health_check",
        change: |_| {
            OptionChange::Deleted("upstreams are checked over DNS now, and only while they fail")
        },
    },
    OptionRule { name: "except", change: |_| OptionChange::Kept },
    OptionRule {
        name: "spray",
        change: |_| {
            OptionChange::Deleted("this is the default: if all upstreams are down, one is tried")
        },
    },
    OptionRule { name: "protocol", change: protocol },
];

fn policy(args: &[&str]) -> OptionChange {
    match args {
        ["random" | "round_robin" | "sequential"] => OptionChange::Kept,
        ["first"] => OptionChange::Becomes {
            text: "policy sequential",
            why: "the name of `first` in `forward`",
        },
        ["least_conn"] => {
            OptionChange::Deleted("`forward` has no such policy; the default is random")
        }
        _ => OptionChange::Left("`forward` has no such policy"),
    }
}

fn protocol(args: &[&str]) -> OptionChange {
    match args {
        ["dns"] => OptionChange::Deleted("this is the default"),
        ["dns", "force_tcp"] | ["force_tcp", ..] => {
            OptionChange::Becomes { text: "force_tcp", why: "an option of its own in `forward`" }
        }
        ["https_google", ..] => OptionChange::Deleted(
            "its service is gone, and queries to the upstreams are now unencrypted: for TLS, write \
             them like `tls://8.8.8.8%dns.google`",
        ),
        _ => OptionChange::Left("ringdns does not support gRPC"),
    }
}

/// Turns every `proxy` of a section into a `forward`.
pub(super) fn convert(section: &Section, conversion: &mut Conversion<'_>) {
    let proxies: Vec<&OutlineStatement> =
        section.statements.iter().filter(|statement| statement.name.text == "proxy").collect();
    for statement in &proxies {
        conversion.edits.replace(statement.name.range.clone(), "forward");
        conversion.note(statement, "`proxy` is called `forward` since CoreDNS 1.5");
        if let Some(body) = &statement.body {
            options(statement, body, conversion);
        }
    }
    reorder(&proxies, conversion);
}

fn options(proxy: &OutlineStatement, body: &OutlineBody, conversion: &mut Conversion<'_>) {
    let mut kept_count = 0;
    for option in &body.statements {
        let row = OPTIONS.iter().find(|row| row.name == option.name.text);
        let args: Vec<&str> = option.args.iter().map(|word| word.text.as_str()).collect();
        let change = row
            .map_or(OptionChange::Left("`forward` has no such option"), |row| (row.change)(&args));
        let shown = conversion.text.get(option.line_range()).unwrap_or_default();
        match change {
            OptionChange::Kept => kept_count += 1,
            OptionChange::Becomes { text, why } => {
                conversion.edits.replace(option.line_range(), text);
                conversion.note(option, &format!("`{shown}` is now `{text}`: {why}"));
                kept_count += 1;
            }
            OptionChange::Deleted(_) if option.has_long_quote() => kept_count += 1,
            OptionChange::Deleted(why) => {
                conversion.edits.delete(conversion.text, option);
                conversion.note(option, &format!("`{shown}` is deleted: {why}"));
            }
            OptionChange::Left(why) => {
                conversion.note(option, &format!("`{shown}` is left for you to change: {why}"));
                kept_count += 1;
            }
        }
    }
    let has_comment =
        conversion.text.get(body.range.clone()).is_some_and(|inner| inner.contains('#'));
    if kept_count == 0 && !has_comment {
        conversion.edits.forget(&body.range);
        conversion.edits.replace(proxy.line_range().end..body.range.end, "");
    }
}

/// Reorders several lines. CoreDNS used the `proxy` line with the longest zone that matched a name;
/// of the `forward` lines it uses the first.
fn reorder(proxies: &[&OutlineStatement], conversion: &mut Conversion<'_>) {
    let zones: Option<Vec<Zone>> =
        proxies.iter().map(|proxy| first_zone(proxy.args.first()?)).collect();
    let Some(zones) = zones else { return };
    let hides = |(index, zone): (usize, &Zone)| {
        zones.iter().skip(index + 1).any(|later| later != zone && zone.contains(later))
    };
    if !zones.iter().enumerate().any(hides) || proxies.iter().any(|proxy| proxy.has_long_quote()) {
        return;
    }
    // Each goes before the first whose zone contains its own zone.
    let mut order: Vec<usize> = Vec::new();
    for (index, zone) in zones.iter().enumerate() {
        let takes_its_names = |earlier: &usize| {
            zones.get(*earlier).is_some_and(|earlier| earlier != zone && earlier.contains(zone))
        };
        order.insert(order.iter().position(takes_its_names).unwrap_or(order.len()), index);
    }
    let chunks: Vec<Range<usize>> =
        proxies.iter().map(|proxy| with_comments(conversion.text, proxy.range())).collect();
    let texts: Vec<String> = chunks
        .iter()
        .map(|chunk| conversion.edits.applied(conversion.text, chunk.clone()))
        .collect();
    for ((chunk, index), proxy) in chunks.iter().zip(order).zip(proxies) {
        let Some(text) = texts.get(index) else { continue };
        conversion.edits.forget(chunk);
        conversion.edits.replace(chunk.clone(), text.as_str());
        if let Some(moved) = proxies.get(index)
            && !std::ptr::eq(*moved, *proxy)
        {
            let line = conversion.line_of(proxy.name.range.start);
            let why = "of several `forward` lines the first that matches a name is used";
            conversion.note(moved, &format!("moves to line {line}: {why}"));
        }
    }
}

/// `None` if the word is not a name, for example a variable.
fn first_zone(word: &Word) -> Option<Zone> {
    let is_meant = zone::oddity(&word.text).is_none();
    zone::expand(&word.text).ok().filter(|_| is_meant)?.into_iter().next()
}

/// A statement's lines and the comments right above it, without the last line break.
fn with_comments(text: &str, range: Range<usize>) -> Range<usize> {
    let lines = lines_of(text, range);
    let has_break = text.get(lines.clone()).is_some_and(|lines| lines.ends_with('\n'));
    let mut start = lines.start;
    while let Some(above) = text.get(..start).and_then(|before| before.strip_suffix('\n')) {
        let line_start = above.rfind('\n').map_or(0, |at| at + 1);
        if !above.get(line_start..).is_some_and(|line| line.trim_start().starts_with('#')) {
            break;
        }
        start = line_start;
    }
    start..lines.end - usize::from(has_break)
}
