//! `proxy`, which CoreDNS 1.5 gave up for `forward`: what becomes of it, of its options and of their order.

use std::ops::Range;

use super::edits::lines_of;
use super::{Conversion, line_of};
use crate::corefile::outline::{Body, Section, Statement, Word};
use crate::corefile::value::zone::{self, Zone};

/// What becomes of an option.
enum OptionChange {
    Kept,
    Becomes {
        text: &'static str,
        why: &'static str,
    },
    /// Why it is not missed.
    Deleted(&'static str),
    /// Has to be rewritten by hand; what it is about.
    Left(&'static str),
}

struct OptionRule {
    name: &'static str,
    fate: fn(&[&str]) -> OptionChange,
}

const OPTIONS: &[OptionRule] = &[
    OptionRule { name: "policy", fate: policy },
    OptionRule {
        name: "fail_timeout",
        fate: |_| OptionChange::Deleted("an upstream that failed is asked until it answers again"),
    },
    OptionRule { name: "max_fails", fate: |_| OptionChange::Kept },
    OptionRule {
        name: "health_check",
        fate: |_| {
            OptionChange::Deleted("upstreams are checked over DNS now, and only while they fail")
        },
    },
    OptionRule { name: "except", fate: |_| OptionChange::Kept },
    OptionRule {
        name: "spray",
        fate: |_| OptionChange::Deleted("it is so by itself: with all upstreams down one is tried"),
    },
    OptionRule { name: "protocol", fate: protocol },
];

fn policy(args: &[&str]) -> OptionChange {
    match args {
        ["random" | "round_robin" | "sequential"] => OptionChange::Kept,
        ["first"] => OptionChange::Becomes {
            text: "policy sequential",
            why: "`first` is called so in `forward`",
        },
        ["least_conn"] => {
            OptionChange::Deleted("`forward` has no such policy; it takes one at random")
        }
        _ => OptionChange::Left("`forward` has no such policy"),
    }
}

fn protocol(args: &[&str]) -> OptionChange {
    match args {
        ["dns"] => OptionChange::Deleted("it is so by itself"),
        ["dns", "force_tcp"] | ["force_tcp", ..] => {
            OptionChange::Becomes { text: "force_tcp", why: "an option of its own in `forward`" }
        }
        ["https_google", ..] => OptionChange::Deleted(
            "its service is gone, and the upstreams are asked in the clear now: for encryption \
             write them as `tls://8.8.8.8%dns.google`",
        ),
        _ => OptionChange::Left("ringdns does not ask over gRPC"),
    }
}

/// Turns every `proxy` of a section into a `forward`.
pub(super) fn convert(section: &Section, draft: &mut Conversion<'_>) {
    let proxies: Vec<&Statement> =
        section.statements.iter().filter(|statement| statement.name.text == "proxy").collect();
    for statement in &proxies {
        draft.edits.replace(statement.name.range.clone(), "forward");
        draft.note(statement, "`proxy` is called `forward` since CoreDNS 1.5");
        if let Some(body) = &statement.body {
            options(statement, body, draft);
        }
    }
    reorder(&proxies, draft);
}

fn options(proxy: &Statement, body: &Body, draft: &mut Conversion<'_>) {
    let mut kept_count = 0;
    for option in &body.statements {
        let row = OPTIONS.iter().find(|row| row.name == option.name.text);
        let args: Vec<&str> = option.args.iter().map(|word| word.text.as_str()).collect();
        let fate =
            row.map_or(OptionChange::Left("`forward` has no such option"), |row| (row.fate)(&args));
        let shown = draft.text.get(option.line_range()).unwrap_or_default();
        match fate {
            OptionChange::Kept => kept_count += 1,
            OptionChange::Becomes { text, why } => {
                draft.edits.replace(option.line_range(), text);
                draft.note(option, &format!("`{shown}` is now `{text}`: {why}"));
                kept_count += 1;
            }
            OptionChange::Deleted(_) if option.has_long_quote() => kept_count += 1,
            OptionChange::Deleted(why) => {
                draft.edits.delete(draft.text, option);
                draft.note(option, &format!("`{shown}` is deleted: {why}"));
            }
            OptionChange::Left(why) => {
                draft.note(option, &format!("`{shown}` is left to you: {why}"));
                kept_count += 1;
            }
        }
    }
    let has_comment = draft.text.get(body.range.clone()).is_some_and(|inner| inner.contains('#'));
    if kept_count == 0 && !has_comment {
        draft.edits.forget(&body.range);
        draft.edits.replace(proxy.line_range().end..body.range.end, "");
    }
}

/// Of several `proxy`s the one with the longest zone was asked; of several `forward`s the first that takes the name is.
fn reorder(proxies: &[&Statement], draft: &mut Conversion<'_>) {
    let zones: Option<Vec<Zone>> =
        proxies.iter().map(|proxy| first_zone(proxy.args.first()?)).collect();
    let Some(zones) = zones else { return };
    let hides = |(index, zone): (usize, &Zone)| {
        zones.iter().skip(index + 1).any(|later| later != zone && zone.contains(later))
    };
    if !zones.iter().enumerate().any(hides) || proxies.iter().any(|proxy| proxy.has_long_quote()) {
        return;
    }
    // Each goes before the first that would take its names.
    let mut order: Vec<usize> = Vec::new();
    for (index, zone) in zones.iter().enumerate() {
        let takes_its_names = |earlier: &usize| {
            zones.get(*earlier).is_some_and(|earlier| earlier != zone && earlier.contains(zone))
        };
        order.insert(order.iter().position(takes_its_names).unwrap_or(order.len()), index);
    }
    let chunks: Vec<Range<usize>> =
        proxies.iter().map(|proxy| with_comments(draft.text, proxy.range())).collect();
    let texts: Vec<String> =
        chunks.iter().map(|chunk| draft.edits.applied(draft.text, chunk.clone())).collect();
    for ((chunk, index), proxy) in chunks.iter().zip(order).zip(proxies) {
        let Some(text) = texts.get(index) else { continue };
        draft.edits.forget(chunk);
        draft.edits.replace(chunk.clone(), text.as_str());
        if let Some(moved) = proxies.get(index)
            && !std::ptr::eq(*moved, *proxy)
        {
            let line = line_of(draft.text, proxy.name.range.start);
            let why = "of several `forward`s the first that takes a name is asked";
            draft.note(moved, &format!("goes to line {line}: {why}"));
        }
    }
}

/// `None` for what is no name, such as a variable.
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
