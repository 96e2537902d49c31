//! `ringdns convert`: turns the configuration of CoreDNS or kube-dns into a Corefile for ringdns.
//!
//! It takes a text and returns a text with notes; no file is read here.
//!
//! Invariant: what needs no change stays as it is, comments and white space included.

mod config_map;
pub(crate) mod custom;
mod edits;
pub(crate) mod kube_dns;
pub(crate) mod node_cache;
mod proxy;
mod retired;

use crate::corefile::outline::{self, OutlineStatement, Unbalanced};
use edits::Edits;

/// A Corefile, with notes about the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// A Corefile. If the input is a ConfigMap with parts of a Corefile, a ConfigMap again.
    pub corefile: String,
    /// In the order of the lines.
    pub notes: Vec<Note>,
    /// The parts in that ConfigMap; empty if `corefile` is a Corefile.
    pub excerpts: Vec<Excerpt>,
}

/// One text of a ConfigMap as a whole Corefile, with the line numbers of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The key in the ConfigMap.
    pub name: String,
    pub corefile: String,
}

/// One thing that was changed, omitted or left for the user to do, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// In the input, from 1; `None` if the note is not about a line.
    pub line: Option<usize>,
    pub text: String,
}

/// Why nothing was converted.
pub type ConvertFailure = Note;

/// Converts a Corefile, or a ConfigMap in YAML or JSON: one with a Corefile or parts of it, or
/// kube-dns's.
///
/// # Errors
/// What is invalid or unknown, and on which line.
pub fn convert(text: &str) -> Result<Converted, ConvertFailure> {
    if is_object(text) { config_map::convert(text) } else { corefile(text) }
}

/// Whether the text is an object of the Kubernetes API in YAML or JSON, by how it begins: no key of
/// a server block is `---` or ends with a colon, and no block begins with a quote.
pub(crate) fn is_object(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let is_flow_map = text
        .trim_start()
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start().starts_with(['"', '}']) || begins_with_a_key(rest));
    is_flow_map || begins_with_a_key(text)
}

fn begins_with_a_key(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let word = first.split_whitespace().next().unwrap_or_default();
    word == "---" || (word.len() > 1 && word.ends_with(':'))
}

/// Removes the place that parsers of YAML and JSON repeat at the end of their messages.
pub(crate) fn without_place(mut message: String) -> String {
    if let Some(at) = message.rfind(" at line ") {
        message.truncate(at);
    }
    message
}

fn corefile(text: &str) -> Result<Converted, ConvertFailure> {
    let sections = outline::read(text).map_err(|Unbalanced { line }| ConvertFailure {
        line: Some(line),
        text: "unbalanced brace: nothing was converted".to_owned(),
    })?;
    let line_starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let mut conversion =
        Conversion { text, line_starts, edits: Edits::default(), notes: Vec::new() };
    for section in &sections {
        retired::convert(section, &mut conversion);
    }
    let corefile = conversion.edits.applied(text, 0..text.len());
    let mut notes = conversion.notes;
    notes.sort_by_key(|note| note.line);
    Ok(Converted { corefile, notes, excerpts: Vec::new() })
}

/// A Corefile while it is converted.
struct Conversion<'t> {
    text: &'t str,
    /// Offsets of all lines but the first.
    line_starts: Vec<usize>,
    edits: Edits,
    notes: Vec<Note>,
}

impl Conversion<'_> {
    fn note(&mut self, statement: &OutlineStatement, text: &str) {
        let line = Some(self.line_of(statement.name.range.start));
        self.notes.push(Note { line, text: text.to_owned() });
    }

    /// The line of a byte offset, from 1.
    fn line_of(&self, at: usize) -> usize {
        1 + self.line_starts.partition_point(|start| *start <= at)
    }
}
