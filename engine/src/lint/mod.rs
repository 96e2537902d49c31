//! Warnings about lines that CoreDNS accepts silently and hardly anyone means.
//!
//! Each lint is one small function and one row of `LINTS`. It sees blocks as written, after their
//! imports. To add one: its function and row here, a row in `engine/tests/lint.rs`, and a line in
//! docs/corefile.md.
//!
//! Invariant: a lint is certain. What may be meant gets no warning.

mod bind;
pub(crate) mod files;
mod http_port;
mod reach;
mod reverse;
mod source;
mod template;
mod upstream;
mod word;

use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::parser::ParsedBlock;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::limits::LINTED_LINES_MAX;
use crate::plugin::{DIRECTIVES, ServerBlock};

/// One row of the table.
pub struct Lint {
    pub name: &'static str,
    /// What it finds; the same sentence is in docs/corefile.md.
    pub doc: &'static str,
    find: fn(&[LintBlock<'_>], &mut Context<'_>),
}

/// In the order of docs/corefile.md.
pub const LINTS: &[Lint] = &[
    Lint {
        name: "unlisted",
        doc: "a source without `fallthrough` keeps names from the sources after it",
        find: reach::unlisted,
    },
    Lint {
        name: "outside",
        doc: "the zones of a line are outside its server block",
        find: reach::outside,
    },
    Lint {
        name: "unmatched",
        doc: "names that a `template` does not match get SERVFAIL instead of the next source",
        find: template::unmatched,
    },
    Lint {
        name: "no-aaaa",
        doc: "a `template` denies names to avoid IPv6 addresses",
        find: template::no_aaaa,
    },
    Lint {
        name: "reverse",
        doc: "`kubernetes` answers for addresses that are not the cluster's",
        find: reverse::whole_tree,
    },
    Lint {
        name: "own-address",
        doc: "an upstream is the server block itself",
        find: upstream::own_address,
    },
    Lint {
        name: "tls-port",
        doc: "an upstream at the port of DNS over TLS is asked without TLS",
        find: upstream::tls_port,
    },
    Lint {
        name: "wildcard",
        doc: "a `*` in a zone is a label, not a wildcard",
        find: word::wildcard,
    },
    Lint {
        name: "directive",
        doc: "a directive is outside of all server blocks, and is read as the name of a zone",
        find: word::directive,
    },
    Lint {
        name: "entry",
        doc: "an entry of `hosts` is outside its braces, and is read as the name of a file",
        find: word::entry,
    },
    Lint {
        name: "cache-word",
        doc: "a word after `cache` without a dot is read as the name of a zone",
        find: word::cache_zone,
    },
    Lint {
        name: "closing-brace",
        doc: "a closing brace on the line of an option is a word of it for CoreDNS",
        find: word::closing_brace,
    },
    Lint {
        name: "bind",
        doc: "a block without `bind` gets no queries at an address that another block binds",
        find: bind::shadows,
    },
    Lint {
        name: "shared-snapshot",
        doc: "two `kubernetes` lines write the same `snapshot` file",
        find: files::shared_snapshot,
    },
    Lint {
        name: "http-port",
        doc: "an HTTP endpoint has an address of a server block",
        find: http_port::shared,
    },
];

/// A server block, as written and as read.
pub(crate) struct LintBlock<'a> {
    pub(crate) parsed: &'a ParsedBlock,
    pub(crate) server: &'a ServerBlock,
    /// Of each key of `server`.
    pub(crate) key_spans: &'a [Span],
}

/// Runs every lint over the blocks of a Corefile.
pub(crate) fn check(mut blocks: Vec<LintBlock<'_>>, context: &mut Context<'_>) {
    // Lints compare lines with each other.
    blocks.retain(|block| block.parsed.statements.len() <= LINTED_LINES_MAX);
    for lint in LINTS {
        (lint.find)(&blocks, context);
    }
}

impl LintBlock<'_> {
    /// The lines of one directive.
    fn lines(&self, name: &str) -> impl Iterator<Item = &Statement> {
        self.parsed.statements.iter().filter(move |line| line.name.text == name)
    }
}

/// The lines in the braces of a directive that set this option.
fn options<'s>(statement: &'s Statement, name: &str) -> impl Iterator<Item = &'s Statement> {
    let lines = statement.body.iter().flat_map(|body| &body.lines);
    lines.filter(move |line| line.name.text == name)
}

fn words(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.iter().map(|token| token.text.as_str())
}

/// Reports a warning about a line of a block.
fn warn(statement: &Statement, mistake: Mistake, context: &mut Context<'_>) {
    let row = DIRECTIVES.iter().find(|row| row.name == statement.name.text);
    context.mistakes.push(mistake.of_plugin(row.map(|row| row.name)));
}
