//! The rows of `DIRECTIVES`, and how they read the statements of a block. The rows themselves are
//! in `plugin/mod.rs`.

use super::{DIRECTIVES, ServerBlock, autopath, k8s_external, unknown};
use crate::corefile::lexer::Token;
use crate::corefile::parser::ParsedBlock;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::{Context, Place};

/// One row of the table.
pub struct Directive {
    pub name: &'static str,
    /// Its purpose in one line, which is also the first line of its manual page.
    pub doc: &'static str,
    status: Status,
}

/// Whether this server has a directive.
enum Status {
    Built(Built),
    /// CoreDNS has it, ringdns does not yet; what to do instead, if anything.
    NotBuilt(Option<&'static str>),
}

#[derive(Clone, Copy)]
pub(crate) struct Built {
    /// Its syntax.
    pub(crate) usage: &'static str,
    /// A second one in a block is a mistake; otherwise `read` handles it.
    pub(crate) once: bool,
    /// The names of its options that work.
    pub(crate) options: fn() -> Vec<&'static str>,
    pub(crate) read: ReadStatement,
}

pub(crate) type ReadStatement = fn(&Statement, &mut ServerBlock, &mut Context<'_>);

impl Directive {
    /// Whether a Corefile may contain it.
    #[must_use]
    pub fn is_built(&self) -> bool {
        matches!(self.status, Status::Built(_))
    }

    /// A block has at most one, as in CoreDNS.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self.status, Status::Built(built) if built.once)
    }

    /// Its syntax, if ringdns has it.
    #[must_use]
    pub fn usage(&self) -> Option<&'static str> {
        match self.status {
            Status::Built(built) => Some(built.usage),
            Status::NotBuilt(_) => None,
        }
    }

    /// The names of its options, except CoreDNS's options that ringdns lacks; empty if it is not
    /// built.
    #[must_use]
    pub fn options(&self) -> Vec<&'static str> {
        match self.status {
            Status::Built(built) => (built.options)(),
            Status::NotBuilt(_) => Vec::new(),
        }
    }
}

pub(crate) const fn built(name: &'static str, doc: &'static str, built: Built) -> Directive {
    Directive { name, doc, status: Status::Built(built) }
}

/// Not built, without a replacement.
pub(crate) const fn later(name: &'static str, doc: &'static str) -> Directive {
    Directive { name, doc, status: Status::NotBuilt(None) }
}

/// Not built; `instead` is what to do.
pub(crate) const fn instead(
    name: &'static str,
    doc: &'static str,
    instead: &'static str,
) -> Directive {
    Directive { name, doc, status: Status::NotBuilt(Some(instead)) }
}

/// The contents of a block, and the position of each of its keys. What a mistake affects is
/// omitted.
pub(crate) fn read(block: &ParsedBlock, context: &mut Context<'_>) -> (ServerBlock, Vec<Span>) {
    let mut spans = Vec::new();
    let place = block.keys.first().map_or_else(Place::default, |key| context.place(key.span));
    let mut server = ServerBlock::new(place);
    for token in &block.keys {
        let keys = key::read(token, context);
        spans.extend(keys.iter().map(|_| token.span));
        server.keys.extend(keys);
    }
    let mut seen: Vec<&Token> = Vec::new();
    for statement in &block.statements {
        let name = &statement.name;
        match DIRECTIVES.iter().find(|row| row.name == name.text) {
            None => {
                let sources = context.sources;
                context.mistakes.push_error(|| unknown::mistake(name, block, sources));
            }
            Some(Directive { status: Status::NotBuilt(instead), name, .. }) => {
                context.report(not_built(name, statement.name.span, *instead));
            }
            Some(Directive { status: Status::Built(built), name: plugin, .. }) => {
                context.plugin = Some(plugin);
                let first = seen.iter().find(|token| token.text == *plugin).copied();
                match first {
                    Some(first) if built.once => {
                        let message = "this plugin can only be used once per Server Block";
                        let mistake = Mistake::error(name.span, message)
                            .label("used again here")
                            .also(first.span, "first used here")
                            .help("delete one of the two, or make one of them");
                        context.report(mistake);
                    }
                    _ => (built.read)(statement, &mut server, context),
                }
                if first.is_none() {
                    seen.push(name);
                }
                context.plugin = None;
            }
        }
    }
    // A part lacks what stands in its block.
    if !block.is_part {
        autopath::check(&block.statements, context);
        k8s_external::check(&block.statements, context);
    }
    server.sort();
    (server, spans)
}

fn not_built(name: &str, span: Span, instead: Option<&str>) -> Mistake {
    let message = format!("Directive '{name}' is known but not built yet");
    let mistake = Mistake::error(span, message).label("not in this version of ringdns");
    mistake.help(instead.unwrap_or("delete it, or leave the zones that need it to CoreDNS"))
}
