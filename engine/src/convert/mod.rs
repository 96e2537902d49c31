//! `ringdns convert`: a Corefile that ringdns reads, out of what CoreDNS or kube-dns were configured with.
//!
//! A text in, a text and notes out: no file is read here. Invariant: what nobody has to change stays as it is, comments
//! and blanks included.

mod config_map;
mod custom;
mod edits;
mod kube_dns;
mod proxy;
mod retired;

use crate::corefile::outline::{self, Statement, Unbalanced};
use edits::Edits;

/// A Corefile, and what was done to come to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Out of a ConfigMap with parts of a Corefile that lies elsewhere, such a ConfigMap.
    pub corefile: String,
    /// In the order of the lines.
    pub notes: Vec<Note>,
    /// The Corefiles that are in such a ConfigMap; empty where `corefile` is one itself.
    pub excerpts: Vec<Excerpt>,
}

/// One text of a ConfigMap, made a whole Corefile where it is a part of one. Lines are counted as in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Its key.
    pub name: String,
    pub corefile: String,
}

/// One thing that was changed, left out or left to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of the text that was given, from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    pub text: String,
}

/// Why nothing was converted.
pub type ConvertFailure = Note;

/// Converts a Corefile, or a ConfigMap in YAML or JSON: one that holds a Corefile or parts of it, or kube-dns's.
///
/// # Errors
/// What cannot be made sense of, and where.
pub fn convert(text: &str) -> Result<Converted, ConvertFailure> {
    if is_object(text) { config_map::convert(text) } else { corefile(text) }
}

/// Whether the text begins as an object of the Kubernetes API does in YAML or JSON: no key of a server block is three dashes or
/// ends with a colon, and no block begins with a quote.
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
    word == "---" || word.ends_with(':')
}

fn corefile(text: &str) -> Result<Converted, ConvertFailure> {
    let sections = outline::read(text).map_err(|Unbalanced { line }| ConvertFailure {
        line: Some(line),
        text: "this brace has no other: nothing is converted".to_owned(),
    })?;
    let mut draft = Conversion { text, edits: Edits::default(), notes: Vec::new() };
    for section in &sections {
        retired::convert(section, &mut draft);
    }
    let corefile = draft.edits.applied(text, 0..text.len());
    let mut notes = draft.notes;
    notes.sort_by_key(|note| note.line);
    Ok(Converted { corefile, notes, excerpts: Vec::new() })
}

/// A Corefile on its way.
struct Conversion<'t> {
    text: &'t str,
    edits: Edits,
    notes: Vec<Note>,
}

impl Conversion<'_> {
    fn note(&mut self, statement: &Statement, text: &str) {
        let line = Some(line_of(self.text, statement.name.range.start));
        self.notes.push(Note { line, text: text.to_owned() });
    }
}

/// From 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().matches('\n').count()
}
