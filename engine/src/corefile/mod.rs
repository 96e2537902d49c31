//! The language of the Corefile: words, imports, server blocks, statements, values, reports. What a
//! directive means is its plugin's matter (`plugin/`).
//!
//! A text goes through `lexer` (words), `stream` (imports) and `parser` (blocks of statements). All
//! mistakes are collected into one `Report`. Invariant: no socket is opened and nothing is started.

pub(crate) mod glob;
pub(crate) mod lexer;
pub(crate) mod outline;
pub(crate) mod parser;
pub(crate) mod report;
pub(crate) mod source;
pub(crate) mod statement;
pub(crate) mod stream;
pub mod value;
pub(crate) mod word;

use std::io;
use std::path::{Path, PathBuf};

pub use report::{Finding, Report, Severity};
pub use value::listen_ip::ListenIp;

use report::{Mistake, Mistakes, Refusal};
use source::{Source, Span};
use value::listen_ip;

/// A place in a Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// As the file was named on the command line or by `import`.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a Corefile's meaning depends on besides its text.
pub struct Surroundings<'a> {
    /// The port of a zone that names none: 53, or the flag `-dns.port`.
    pub default_port: u16,
    /// An environment variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The addresses of a network interface; `None` if there is none of that name.
    pub interface: &'a dyn Fn(&str) -> Option<Vec<ListenIp>>,
}

impl Surroundings<'static> {
    /// Those of this process and its machine.
    #[must_use]
    pub fn of_process(default_port: u16) -> Self {
        Self {
            default_port,
            variable: &|name| {
                std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
            },
            interface: &listen_ip::interface_addresses,
        }
    }
}

/// The text of a Corefile or of what one is made from. Bytes that are not UTF-8 become replacement
/// characters.
///
/// # Errors
/// Why it cannot be read; a file that is too long is one.
pub fn read_file(path: &Path) -> io::Result<String> {
    stream::read(path)
}

/// The same of standard input.
///
/// # Errors
/// As for a file.
pub fn read_standard_input() -> io::Result<String> {
    stream::read_bounded(io::stdin().lock())
}

/// What the readers of directives need beside the words.
pub(crate) struct Context<'a> {
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) sources: &'a [Source],
    pub(crate) mistakes: Mistakes,
    /// The directive being read, for the first line of its mistakes.
    pub(crate) plugin: Option<&'static str>,
    /// Zones so far, after expansion.
    pub(crate) zone_count: usize,
}

impl Context<'_> {
    pub(crate) fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake.of_plugin(self.plugin));
    }

    /// A word that is not what it should be.
    pub(crate) fn refuse(&mut self, span: Span, refusal: Refusal) {
        let mistake = Mistake::error(span, refusal.message).label(refusal.label);
        self.report(mistake.maybe_help(refusal.help));
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        let source = self.sources.get(span.source);
        source.map_or_else(Place::default, |source| Place {
            file: source.name.clone(),
            line: source.place(span.start).0,
        })
    }

    /// What paths in a word's file are relative to.
    pub(crate) fn folder(&self, span: Span) -> PathBuf {
        self.sources.get(span.source).map(|source| source.folder.clone()).unwrap_or_default()
    }
}
