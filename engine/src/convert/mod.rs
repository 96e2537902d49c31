//! `ringdns convert`: a Corefile that ringdns reads, out of what CoreDNS or kube-dns were configured with.
//!
//! A text in, a text and notes out: no file is read here. Invariant: what nobody has to change stays as it is, comments
//! and blanks included.

mod edits;
mod kube_dns;
mod proxy;
mod retired;

use crate::corefile::outline::{self, Statement, Unbalanced};
use edits::Edits;

/// A Corefile, and what was done to come to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    pub corefile: String,
    /// In the order of the lines.
    pub notes: Vec<Note>,
}

/// One thing that was changed, left out or left to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of the text that was given, from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    pub text: String,
}

/// Why nothing was converted.
pub type Failure = Note;

/// Converts a Corefile, or a ConfigMap in YAML or JSON that holds one or is kube-dns's.
///
/// # Errors
/// What cannot be made sense of, and where.
pub fn convert(text: &str) -> Result<Converted, Failure> {
    if is_config_map(text) { kube_dns::convert(text) } else { corefile(text) }
}

/// Whether the text begins as YAML or JSON does: no key of a server block is a brace, three dashes or ends with a colon.
fn is_config_map(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let word = first.split_whitespace().next().unwrap_or_default();
    word.starts_with('{') || word == "---" || word.ends_with(':')
}

fn corefile(text: &str) -> Result<Converted, Failure> {
    let sections = outline::read(text).map_err(|Unbalanced { line }| Failure {
        line: Some(line),
        text: "this brace has no other: nothing is converted".to_owned(),
    })?;
    let mut draft = Draft { text, edits: Edits::default(), notes: Vec::new() };
    for section in &sections {
        retired::convert(section, &mut draft);
    }
    let corefile = draft.edits.applied(text, 0..text.len());
    let mut notes = draft.notes;
    notes.sort_by_key(|note| note.line);
    Ok(Converted { corefile, notes })
}

/// A Corefile on its way.
struct Draft<'t> {
    text: &'t str,
    edits: Edits,
    notes: Vec<Note>,
}

impl Draft<'_> {
    fn note(&mut self, statement: &Statement, text: &str) {
        let line = Some(line_of(self.text, statement.name.range.start));
        self.notes.push(Note { line, text: text.to_owned() });
    }
}

/// From 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().matches('\n').count()
}
