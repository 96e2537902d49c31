//! Words that are read as something else than they look like.

use std::net::IpAddr;

use super::source::{self, ZoneList};
use super::{LintBlock, warn};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Mistake;
use crate::corefile::value::key;
use crate::corefile::word::quoted;
use crate::plugin::DIRECTIVES;

/// `*.example.org` as a zone: no client asks for a name with the label `*`.
pub(super) fn wildcard(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        for key in &block.parsed.keys {
            if let Some(mistake) = starred(key) {
                context.mistakes.push(mistake);
            }
        }
        for line in source::all(block) {
            for mistake in line.words.iter().filter_map(starred) {
                warn(line.statement, mistake, context);
            }
        }
    }
}

/// Options of a fixed number of words, which CoreDNS reads one by one: it leaves the brace behind
/// them. All others read to the end of their line.
const READ_WORD_BY_WORD: &[(&str, &[&str])] = &[
    ("dns64", &["prefix", "translate_all", "allow_ipv4"]),
    ("errors", &["stacktrace"]),
    ("file", &["reload"]),
    (
        "forward",
        &[
            "expire",
            "max_age",
            "max_idle_conns",
            "max_fails",
            "max_connect_attempts",
            "max_concurrent",
            "tls_servername",
            "policy",
            "source_address",
            "read_timeout",
        ],
    ),
    ("hosts", &["ttl", "no_reverse"]),
    ("k8s_external", &["apex", "headless", "ttl"]),
    ("kubernetes", &["ttl", "startup_timeout"]),
    ("template", &["rcode"]),
];

/// `hosts { fallthrough }`: CoreDNS takes the brace for a word of the option.
pub(super) fn closing_brace(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for statement in blocks.iter().flat_map(|block| &block.parsed.statements) {
        let directive = statement.name.text.as_str();
        let last = statement.body.as_ref().and_then(|body| body.lines.last());
        let Some((option, close)) = last.and_then(|line| Some((&line.name.text, line.closed_by?)))
        else {
            continue;
        };
        let known = READ_WORD_BY_WORD.iter().find(|(name, _)| *name == directive);
        let is_left = known.is_some_and(|(_, options)| options.contains(&option.as_str()));
        // Each line of `rewrite` is a rule, which has as many words as it needs.
        if is_left || directive == "rewrite" {
            continue;
        }
        let message = format!("CoreDNS reads this '}}' as a word of '{}'", quoted(option));
        let mistake = Mistake::warning(close, message).label("ends the block");
        warn(statement, mistake.help("write it on a line of its own"), context);
    }
}

fn starred(word: &Token) -> Option<Mistake> {
    let zone = word.text.strip_prefix("*.").filter(|zone| !zone.is_empty())?;
    let message = format!("'{}' has no names but those with the label '*'", quoted(&word.text));
    let mistake = Mistake::warning(word.span, message).label("not a wildcard");
    Some(mistake.help(format!("write `{}`: a zone has all names below it", quoted(zone))))
}

/// A directive outside of all blocks: its name and its arguments become the keys of a block.
pub(super) fn directive(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks.iter().filter(|block| !block.parsed.is_part) {
        let Some(key) = block.parsed.keys.first() else { continue };
        // `local` is a zone that people have.
        if key.text == "local" || !DIRECTIVES.iter().any(|row| row.name == key.text) {
            continue;
        }
        let message = format!("'{}' is read as the name of a zone", quoted(&key.text));
        let mistake = Mistake::warning(key.span, message)
            .label("a directive outside of all server blocks")
            .help("write it between the braces of a server block: `.:53 {`");
        context.mistakes.push(mistake);
    }
}

/// `hosts 10.0.0.1 name`: the first word after `hosts` names a file, the others are zones.
pub(super) fn entry(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        for line in block.lines("hosts") {
            let Some(file) = line.args.first() else { continue };
            if file.text.parse::<IpAddr>().is_ok() {
                let message = format!("'{}' is read as the name of a file", quoted(&file.text));
                let mistake = Mistake::warning(file.span, message)
                    .label("looks like an address")
                    .help("write entries between the braces of `hosts`, one per line");
                warn(line, mistake, context);
            }
        }
    }
}

/// `cache thirty`: what is not a number is a zone. One that is meant can have its final dot.
pub(super) fn cache_zone(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        let keys = ZoneList::of_keys(block);
        for line in source::all(block) {
            if line.name() != "cache" {
                continue;
            }
            for word in line.words.iter().filter(|word| !word.text.contains(['.', '/', ':'])) {
                let Some(zones) = key::certain_zones(&word.text) else { continue };
                // Zones outside the block get another warning.
                let is_key = zones.iter().all(|zone| keys.zones.contains(zone));
                if is_key || !keys.covers(&ZoneList::new(zones)) {
                    continue;
                }
                let text = quoted(&word.text);
                let message = format!("'{text}' is read as the name of a zone");
                let mistake = Mistake::warning(word.span, message)
                    .label("not a number of seconds")
                    .help(format!("write a TTL like `cache 30`, or `{text}.` if a zone is meant"));
                warn(line.statement, mistake, context);
            }
        }
    }
}
