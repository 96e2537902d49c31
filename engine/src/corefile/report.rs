//! The mistakes in a Corefile, each with its place: first in CoreDNS's words, so that greps for
//! them still match, then with the source line underlined.
//!
//! No file is read here and nothing is printed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use ariadne::{Color, Fmt as _};

use super::Place;
use super::source::{Source, Span};
use crate::limits::{COREFILE_EXCERPT_COLUMNS_MAX, COREFILE_MISTAKES_MAX};

/// All mistakes and warnings of one reading, mistakes first. `Display` shows them without colours.
#[derive(Debug)]
pub struct Report(pub(crate) Box<Contents>);

#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) digest: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) mistakes: Mistakes,
    /// Files that its lines name, imports left out.
    pub(crate) named_files: Vec<NamedFile>,
}

/// A file or folder that a line of a Corefile names.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) path: PathBuf,
    pub(crate) span: Span,
    pub(crate) plugin: &'static str,
}

/// One mistake or warning, for a log line or a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    pub severity: Severity,
    /// The name given on the command line or to `import`; empty if no file is to blame.
    pub file: &'a str,
    /// From 1; 0 if no file is to blame.
    pub line: usize,
    /// From 1, in characters; 0 if no file is to blame.
    pub column: usize,
    /// The directive that the word belongs to, if it is known.
    pub plugin: Option<&'static str>,
    /// One line, in CoreDNS's wording where it has one: `FILE:LINE - Error during parsing: …`.
    pub message: String,
    /// The same without plugin and place.
    pub problem: &'a str,
    /// What to do.
    pub help: Option<&'a str>,
}

/// Whether the server can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

impl Report {
    /// Every file read. A Corefile with mistakes is watched too, so that a correction is loaded.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.0.files
    }

    /// Every folder that an `import` with a wildcard lists.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.0.folders
    }

    /// As `Config::digest`, over the words that were read; empty if none were.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Mistakes first, then warnings, each sorted by file and line.
    pub fn findings(&self) -> impl Iterator<Item = Finding<'_>> {
        self.0.mistakes.listed().map(|mistake| mistake.finding(&self.0.sources))
    }

    /// How many of this severity there are, those beyond the bound included.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.mistakes.count(severity)
    }

    /// Adds a mistake or warning that was found later.
    pub(crate) fn add(&mut self, mistake: Mistake) {
        self.0.mistakes.push(mistake);
        self.0.mistakes.sort();
    }

    /// The first word of a line.
    pub(crate) fn line_start(&self, place: &Place) -> Option<Span> {
        let index = self.0.sources.iter().position(|source| source.name == place.file)?;
        let (start, end) = self.0.sources[index].first_word(place.line)?;
        Some(Span { source: index, start, end })
    }

    /// Whether a mistake is on the line of this word.
    pub(crate) fn has_mistake_at(&self, span: Span) -> bool {
        let line = |span: Span| Some(self.0.sources.get(span.source)?.place(span.start).0);
        let mut spans = self.0.mistakes.errors.iter().filter_map(|mistake| mistake.span);
        spans.any(|other| other.source == span.source && line(other) == line(span))
    }

    /// One mistake that no word in a file is to blame for.
    pub(crate) fn of(mistake: Mistake, files: Vec<PathBuf>) -> Self {
        let mut mistakes = Mistakes::default();
        mistakes.push(mistake);
        Self(Box::new(Contents { files, mistakes, ..Contents::default() }))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.mistakes.listed().next().is_none()
    }

    /// For a terminal.
    #[must_use]
    pub fn coloured(&self) -> String {
        self.render(true)
    }

    fn render(&self, colour: bool) -> String {
        let mut excerpts = Excerpts::new(&self.0.sources);
        let mut text = String::new();
        for mistake in self.0.mistakes.listed() {
            mistake.render(&self.0.sources, &mut excerpts, colour, &mut text);
        }
        let Mistakes { unlisted_errors, unlisted_warnings, .. } = self.0.mistakes;
        if unlisted_errors + unlisted_warnings > 0 {
            let _ = writeln!(text, "and {} more", unlisted_errors + unlisted_warnings);
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// CoreDNS's phrase at the beginning of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phrase {
    Parsing,
    Syntax,
    /// None: CoreDNS's words depend on the plugin.
    Loading,
}

/// One mistake or warning.
#[derive(Debug)]
pub(crate) struct Mistake {
    severity: Severity,
    phrase: Phrase,
    /// The directive whose set-up reports this in CoreDNS.
    plugin: Option<&'static str>,
    /// The word to underline; `None` if no word is to blame.
    span: Option<Span>,
    message: String,
    /// The text under the underlined word.
    label: String,
    /// More places that explain this one.
    also: Vec<(Span, String)>,
    help: Option<String>,
    /// How many imports of the line have it; at least 1.
    count: usize,
}

impl Mistake {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            phrase: Phrase::Parsing,
            plugin: None,
            span: Some(span),
            message: message.into(),
            label: String::new(),
            also: Vec::new(),
            help: None,
            count: 1,
        }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// A problem with a file or host that a line names.
    pub(crate) fn of_loading(severity: Severity, span: Option<Span>, message: String) -> Self {
        Self { severity, span, phrase: Phrase::Loading, ..Self::without_place(message) }
    }

    /// A mistake that is not the fault of a word in a file.
    pub(crate) fn without_place(message: impl Into<String>) -> Self {
        Self { span: None, ..Self::error(Span { source: 0, start: 0, end: 0 }, message) }
    }

    pub(crate) fn syntax(self) -> Self {
        Self { phrase: Phrase::Syntax, ..self }
    }

    pub(crate) fn of_plugin(self, plugin: Option<&'static str>) -> Self {
        Self { plugin, ..self }
    }

    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The word to underline.
    pub(crate) fn span(&self) -> Option<Span> {
        self.span
    }

    pub(crate) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help: help.or(self.help), ..self }
    }

    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    /// Whether another import of the same line has the same mistake.
    fn is_same(&self, other: &Self) -> bool {
        self.span.is_some()
            && self.span == other.span
            && self.plugin == other.plugin
            && self.message == other.message
    }

    /// The text under the underlined word, with the count of imports.
    fn counted_label(&self) -> Cow<'_, str> {
        match (self.count, self.label.as_str()) {
            (1, label) => label.into(),
            (count, "") => format!("in {count} imports").into(),
            (count, label) => format!("{label}; in {count} imports").into(),
        }
    }

    fn source<'a>(&self, sources: &'a [Source]) -> Option<(&'a Source, Span)> {
        let span = self.span?;
        Some((sources.get(span.source)?, span))
    }

    /// The line that CoreDNS would print.
    fn headline(&self, sources: &[Source]) -> String {
        let Some((source, span)) = self.source(sources) else { return self.message.clone() };
        let plugin = self.plugin.map_or_else(String::new, |name| format!("plugin/{name}: "));
        let phrase = match (self.severity, self.phrase) {
            (Severity::Warning, _) | (Severity::Error, Phrase::Loading) => "",
            (Severity::Error, Phrase::Parsing) => "Error during parsing: ",
            (Severity::Error, Phrase::Syntax) => "Syntax error: ",
        };
        let (line, _) = source.place(span.start);
        format!("{plugin}{}:{line} - {phrase}{}", source.name, self.message)
    }

    fn finding<'a>(&'a self, sources: &'a [Source]) -> Finding<'a> {
        let place = self.source(sources);
        let (line, column) = place.map_or((0, 0), |(source, span)| source.place(span.start));
        Finding {
            severity: self.severity,
            file: place.map_or("", |(source, _)| &source.name),
            line,
            column,
            plugin: self.plugin,
            message: self.headline(sources),
            problem: &self.message,
            help: self.help.as_deref(),
        }
    }

    fn render(&self, sources: &[Source], excerpts: &mut Excerpts, colour: bool, text: &mut String) {
        let (prefix, paint) = match self.severity {
            Severity::Error => ("", Color::Red),
            Severity::Warning => ("[WARNING] ", Color::Yellow),
        };
        let headline = format!("{prefix}{}", self.headline(sources));
        let _ = match colour {
            true => writeln!(text, "{}", headline.fg(paint)),
            false => writeln!(text, "{headline}"),
        };
        match self.excerpt(sources, excerpts, colour, paint) {
            Some(excerpt) => text.push_str(&excerpt),
            None => self.render_plainly(sources, text),
        }
    }

    /// The source lines with the words underlined, as ariadne draws them; `None` where they would
    /// not help.
    fn excerpt(
        &self,
        sources: &[Source],
        excerpts: &mut Excerpts,
        colour: bool,
        paint: Color,
    ) -> Option<String> {
        let (_, span) = self.source(sources)?;
        let label = self.counted_label();
        let mut labels = vec![(span, &*label, paint)];
        labels.extend(self.also.iter().map(|(span, label)| (*span, label.as_str(), Color::Blue)));
        let is_long = |span: Span| {
            sources
                .get(span.source)
                .is_none_or(|s| s.line_len(span.start) > COREFILE_EXCERPT_COLUMNS_MAX)
        };
        if labels.iter().any(|(span, ..)| is_long(*span)) {
            return None;
        }
        // ariadne draws the labels of one file together only if they are sorted.
        labels.sort_by_key(|(span, ..)| (span.source, span.start));
        let lines_before = |span: Span| sources.get(span.source).map_or(0, |s| s.lines_before);
        let underlined = |span: Span| underlined(span, lines_before(span));
        let mut report = ariadne::Report::build(ariadne::ReportKind::Error, underlined(span))
            .with_config(ariadne::Config::new().with_color(colour));
        for (span, text, paint) in labels {
            report.add_label(drawn_label(underlined(span), text, colour.then_some(paint)));
        }
        if let Some(help) = &self.help {
            report.set_help(help);
        }
        let mut drawn = Vec::new();
        report.finish().write(excerpts, &mut drawn).ok()?;
        let drawn = String::from_utf8_lossy(&drawn);
        // Its first line repeats the headline.
        Some(drawn.lines().skip(1).map(|line| format!("{}\n", line.trim_end())).collect())
    }

    fn render_plainly(&self, sources: &[Source], text: &mut String) {
        if let Some((source, span)) = self.source(sources) {
            let (line, column) = source.place(span.start);
            let label = self.counted_label();
            let _ = writeln!(text, "  {}:{line}:{column}: {label}", source.name);
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "  Help: {help}");
        }
    }
}

/// Why a word is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    /// The short text under the underlined word.
    pub(crate) label: &'static str,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>, label: &'static str) -> Self {
        Self { message: message.into(), label, help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// The same span in `Excerpts`. ariadne needs at least one character to underline.
fn underlined(span: Span, lines_before: usize) -> (usize, Range<usize>) {
    let end = span.end.max(span.start + 1);
    (span.source, lines_before + span.start..lines_before + end)
}

fn drawn_label(
    underlined: (usize, Range<usize>),
    text: &str,
    paint: Option<Color>,
) -> ariadne::Label<(usize, Range<usize>)> {
    let label = ariadne::Label::new(underlined);
    let label = if text.is_empty() { label } else { label.with_message(text) };
    match paint {
        Some(paint) => label.with_color(paint),
        None => label,
    }
}

/// The sources in the form that ariadne needs. In place of the lines before a text there are empty
/// ones: ariadne numbers the lines of its margin from the beginning of a source.
struct Excerpts {
    sources: Vec<(String, ariadne::Source<String>)>,
}

impl Excerpts {
    fn new(sources: &[Source]) -> Self {
        let excerpt = |s: &Source| {
            let lines = "\n".repeat(s.lines_before) + &s.shown;
            (s.name.clone(), ariadne::Source::from(lines))
        };
        Self { sources: sources.iter().map(excerpt).collect() }
    }
}

impl ariadne::Cache<usize> for &mut Excerpts {
    type Storage = String;

    fn fetch(&mut self, id: &usize) -> Result<&ariadne::Source<String>, impl fmt::Debug> {
        self.sources.get(*id).map(|(_, source)| source).ok_or("no such source")
    }

    fn display<'a>(&self, id: &'a usize) -> Option<impl fmt::Display + 'a> {
        self.sources.get(*id).map(|(name, _)| name.clone())
    }
}

/// Collects mistakes and warnings, up to a bound: each once, even if its line is imported several
/// times.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    pub(crate) errors: Vec<Mistake>,
    pub(crate) warnings: Vec<Mistake>,
    unlisted_errors: usize,
    unlisted_warnings: usize,
}

impl Mistakes {
    pub(crate) fn push(&mut self, mistake: Mistake) {
        let (list, unlisted) = match mistake.severity {
            Severity::Error => (&mut self.errors, &mut self.unlisted_errors),
            Severity::Warning => (&mut self.warnings, &mut self.unlisted_warnings),
        };
        if let Some(known) = list.iter_mut().find(|known| known.is_same(&mistake)) {
            known.count += 1;
        } else if list.len() < COREFILE_MISTAKES_MAX {
            list.push(mistake);
        } else {
            *unlisted += 1;
        }
    }

    /// For a message that is expensive to build: it is not built if the mistake is only counted.
    pub(crate) fn push_error(&mut self, mistake: impl FnOnce() -> Mistake) {
        if self.errors.len() < COREFILE_MISTAKES_MAX {
            self.push(mistake());
        } else {
            self.unlisted_errors += 1;
        }
    }

    /// Sorts by file and line, whichever pass found the mistakes.
    pub(crate) fn sort(&mut self) {
        let place = |m: &Mistake| m.span.map(|span| (span.source, span.start));
        self.errors.sort_by_key(place);
        self.warnings.sort_by_key(place);
    }

    fn count(&self, severity: Severity) -> usize {
        match severity {
            Severity::Error => self.errors.len() + self.unlisted_errors,
            Severity::Warning => self.warnings.len() + self.unlisted_warnings,
        }
    }

    fn listed(&self) -> impl Iterator<Item = &Mistake> {
        self.errors.iter().chain(&self.warnings)
    }
}
