//! `ringdns check`: the mistakes and warnings of a Corefile, of a folder with one, or of the
//! Corefiles in ConfigMaps.
//!
//! Files are read here and in `config`; nothing is printed, and no socket is opened.
//!
//! Invariant: a path that cannot be read has a report too, which says why.

mod config_map;
mod folder;
mod json;

use std::path::Path;

use crate::config::{self, Config};
use crate::convert;
use crate::convert::custom::TextPart;
use crate::corefile::report::Mistake;
use crate::corefile::{self, Finding, Report, Severity, Surroundings};

/// The texts that were checked, in order.
#[derive(Debug, Default)]
pub struct Checked {
    pub texts: Vec<CheckedText>,
}

/// A Corefile, or a part of one.
#[derive(Debug)]
pub struct CheckedText {
    /// `Err`: its mistakes.
    pub read: Result<Config, Report>,
    /// It has no server block of its own, so it cannot be loaded by itself.
    pub is_part: bool,
}

impl CheckedText {
    /// Mistakes and warnings.
    #[must_use]
    pub fn report(&self) -> &Report {
        match &self.read {
            Ok(config) => &config.warnings,
            Err(report) => report,
        }
    }
}

impl Checked {
    /// How many mistakes or warnings all texts have.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.texts.iter().map(|text| text.report().count(severity)).sum()
    }

    pub fn findings(&self) -> impl Iterator<Item = Finding<'_>> {
        self.texts.iter().flat_map(|text| text.report().findings())
    }

    /// All findings in the stable shape that docs/corefile.md describes.
    #[must_use]
    pub fn json(&self) -> String {
        json::array(self.findings())
    }

    fn push(&mut self, read: Result<Config, Report>) {
        self.texts.push(CheckedText { read, is_part: false });
    }

    /// A report of what cannot be read as what it should be.
    fn push_broken(&mut self, message: String, help: &str) {
        self.push(Err(Report::of(Mistake::without_place(message).help(help), Vec::new())));
    }
}

/// Checks a file or a folder.
#[must_use]
pub fn path(path: &Path, surroundings: &Surroundings<'_>) -> Checked {
    if path.is_dir() {
        return folder::check(path, surroundings);
    }
    match corefile::read_file(path) {
        Ok(text) => self::text(&path.display().to_string(), Some(path), &text, surroundings),
        Err(error) => {
            let mut checked = Checked::default();
            checked.push(Err(config::unreadable(path, &error)));
            checked
        }
    }
}

/// Checks a text: ConfigMaps, a Corefile, or a part of one. Relative imports start from the folder
/// of `path`, or from the working directory.
#[must_use]
pub fn text(
    name: &str,
    path: Option<&Path>,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Checked {
    if convert::is_object(text) {
        return config_map::check(name, text, surroundings);
    }
    let mut checked = Checked::default();
    match TextPart::of(name) {
        Some(TextPart::Block) => checked.texts.push(CheckedText {
            read: config::read_part(name, path, text, surroundings),
            is_part: true,
        }),
        Some(TextPart::Corefile) | None => {
            checked.push(config::read(name, path, text, surroundings));
        }
    }
    checked
}
