//! A text and its conversion.

use engine::config::{self, Config};
use engine::convert::{Converted, Note, convert};
use engine::corefile::{Report, Surroundings};

pub(crate) fn parse(text: &str) -> Result<Config, Report> {
    let surroundings = Surroundings::empty();
    config::parse("Corefile", text, &surroundings)
}

/// `LINE: text`, or the text alone.
pub(crate) fn shown(notes: &[Note]) -> Vec<String> {
    let shown = |note: &Note| match note.line {
        Some(line) => format!("{line}: {}", note.text),
        None => note.text.clone(),
    };
    notes.iter().map(shown).collect()
}

pub(crate) fn converted(text: &str) -> Converted {
    convert(text).unwrap_or_else(|failure| panic!("{text}\n{failure:?}"))
}

/// A Corefile, its conversion, and how each of the notes begins. The result has no mistakes, and
/// converting it again changes nothing.
pub(crate) fn check(text: &str, expected: &str, notes: &[&str]) {
    let Converted { corefile, notes: found, .. } = converted(text);
    assert_eq!(corefile, expected, "{text}");
    let found = shown(&found);
    let matches =
        found.iter().zip(notes).filter(|(found, start)| found.starts_with(*start)).count();
    assert!(matches == notes.len() && matches == found.len(), "{text}\n{found:#?}");
    if let Err(report) = parse(&corefile) {
        panic!("{corefile}\n{report}");
    }
    let unchanged = Converted { corefile, ..Converted::default() };
    assert_eq!(converted(&unchanged.corefile), unchanged);
}
