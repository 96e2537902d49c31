//! The language of the Corefile: words, imports, server blocks, statements, values, reports. The
//! meaning of a directive is its plugin's (`plugin/`).
//!
//! `lexer` splits a text into words, `stream` follows imports, `parser` builds blocks of
//! statements. All mistakes are collected into one `Report`.
//!
//! Invariant: no socket is opened and nothing is started.

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
use word::quoted;

/// A place in a Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The name given on the command line or to `import`.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What the meaning of a Corefile depends on besides its text.
pub struct Surroundings<'a> {
    /// The port of a zone without one: 53, or the flag `-dns.port`.
    pub default_port: u16,
    /// An environment variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The addresses of a network interface; `None` if no interface has that name.
    pub interface: &'a dyn Fn(&str) -> Option<Vec<ListenIp>>,
}

impl Surroundings<'static> {
    /// Port 53, no environment variable, no interface.
    #[must_use]
    pub fn empty() -> Self {
        Self { default_port: 53, variable: &|_| None, interface: &|_| None }
    }

    /// Those of this process and of its machine.
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

/// Reads a Corefile, or a text to convert to one. Bytes that are not UTF-8 become replacement
/// characters.
///
/// # Errors
/// Why it cannot be read; the file may also be too long.
pub fn read_file(path: &Path) -> io::Result<String> {
    stream::read(path)
}

/// Reads the same from standard input.
///
/// # Errors
/// As for a file.
pub fn read_standard_input() -> io::Result<String> {
    let text = stream::read_bounded(io::stdin().lock())?;
    if text.trim().is_empty() {
        let cause = "it is empty: did the command before the pipe fail?";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cause));
    }
    Ok(text)
}

/// What the code that reads directives needs besides the words.
pub(crate) struct Context<'a> {
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) sources: &'a [Source],
    pub(crate) mistakes: Mistakes,
    /// The directive being read: the first line of its mistakes names it.
    pub(crate) plugin: Option<&'static str>,
    /// The number of zones so far, after expansion.
    pub(crate) zone_count: usize,
}

impl Context<'_> {
    /// Reports a mistake. If the word has a variable without a value, that is the likely cause.
    pub(crate) fn report(&mut self, mistake: Mistake) {
        let unset = mistake.span().and_then(|span| self.sources.get(span.source)?.unset_in(span));
        let help = unset.map(|name| {
            format!(
                "{} is unset or empty in the environment: set it (in Kubernetes, `env` of the \
                 container), or write the value here",
                quoted(name)
            )
        });
        self.mistakes.push(mistake.maybe_help(help).of_plugin(self.plugin));
    }

    /// Reports a word that is invalid.
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

    /// The folder that relative paths in a word's file start from.
    pub(crate) fn folder(&self, span: Span) -> PathBuf {
        self.sources.get(span.source).map(|source| source.folder.clone()).unwrap_or_default()
    }
}
